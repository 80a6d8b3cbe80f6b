//! What a plugin in Go begins with.

pub(super) fn files() -> Vec<(String, String)> {
    Vec::new()
}
