//! What a plugin in C begins with.

pub(super) fn files() -> Vec<(String, String)> {
    Vec::new()
}
