//! What a plugin in C begins with: the contract as C has it, and a small client for HTTP.

use super::{File, named};

const FILES: &[File] = &[
    ("README.md", include_str!("../../../../../plugins/templates/c/README.md")),
    ("plugin.c", include_str!("../../../../../plugins/templates/c/plugin.c")),
    ("pressroom/pressroom.c", include_str!("../../../../../plugins/sdk-c/pressroom.c")),
    ("pressroom/pressroom.h", include_str!("../../../../../plugins/sdk-c/pressroom.h")),
    ("pressroom/pressroom_http.c", include_str!("../../../../../plugins/sdk-c/pressroom_http.c")),
    ("pressroom/pressroom_http.h", include_str!("../../../../../plugins/sdk-c/pressroom_http.h")),
];

pub(super) fn files() -> Vec<(String, String)> {
    named(FILES.iter())
}
