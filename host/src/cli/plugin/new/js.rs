//! What a plugin in JavaScript begins with.

use super::File;

pub(super) const FILES: &[File] = &[
    ("README.md", include_str!("../../../../../plugins/templates/js/README.md")),
    ("package.json", include_str!("../../../../../plugins/templates/js/package.json")),
    ("plugin.js", include_str!("../../../../../plugins/templates/js/plugin.js")),
    ("web.js", include_str!("../../../../../plugins/templates/js/web.js")),
];
