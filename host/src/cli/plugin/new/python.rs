//! What a plugin in Python begins with.

use super::File;

pub(super) const FILES: &[File] = &[
    ("README.md", include_str!("../../../../../plugins/templates/python/README.md")),
    ("app.py", include_str!("../../../../../plugins/templates/python/app.py")),
    ("web.py", include_str!("../../../../../plugins/templates/python/web.py")),
];
