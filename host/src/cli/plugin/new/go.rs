//! What a plugin in Go begins with: the module `pressroom` goes with it, for nobody can download it.

use super::{File, named};

const FILES: &[File] = &[
    ("README.md", include_str!("../../../../../plugins/templates/go/README.md")),
    ("go.mod", include_str!("../../../../../plugins/templates/go/go.mod")),
    ("plugin.go", include_str!("../../../../../plugins/templates/go/plugin.go")),
];

macro_rules! module {
    ($($path:literal,)*) => {
        &[$((concat!("pressroom/", $path), include_str!(concat!("../../../../../plugins/sdk-go/", $path)))),*]
    };
}

/// The module, but for what its maintainers alone need.
const MODULE: &[File] = module![
    "go.mod",
    "http/http.go",
    "internal/exports/export_pressroom_publisher_lifecycle/glue.go",
    "internal/exports/export_pressroom_publisher_publisher/glue.go",
    "internal/exports/wit_exports/wit_exports.go",
    "internal/imports/pressroom_publisher_batches/empty.s",
    "internal/imports/pressroom_publisher_batches/wit_bindings.go",
    "internal/imports/pressroom_publisher_config/empty.s",
    "internal/imports/pressroom_publisher_config/wit_bindings.go",
    "internal/imports/pressroom_publisher_lifecycle/empty.s",
    "internal/imports/pressroom_publisher_lifecycle/wit_bindings.go",
    "internal/imports/pressroom_publisher_log/empty.s",
    "internal/imports/pressroom_publisher_log/wit_bindings.go",
    "internal/imports/pressroom_publisher_publisher/empty.s",
    "internal/imports/pressroom_publisher_publisher/wit_bindings.go",
    "internal/imports/pressroom_publisher_records/empty.s",
    "internal/imports/pressroom_publisher_records/wit_bindings.go",
    "internal/imports/wasi_clocks_monotonic_clock/empty.s",
    "internal/imports/wasi_clocks_monotonic_clock/wit_bindings.go",
    "internal/imports/wasi_http_outgoing_handler/empty.s",
    "internal/imports/wasi_http_outgoing_handler/wit_bindings.go",
    "internal/imports/wasi_http_types/empty.s",
    "internal/imports/wasi_http_types/wit_bindings.go",
    "internal/imports/wasi_io_error/empty.s",
    "internal/imports/wasi_io_error/wit_bindings.go",
    "internal/imports/wasi_io_poll/empty.s",
    "internal/imports/wasi_io_poll/wit_bindings.go",
    "internal/imports/wasi_io_streams/empty.s",
    "internal/imports/wasi_io_streams/wit_bindings.go",
    "internal/wit/runtime/empty.s",
    "internal/wit/runtime/runtime.go",
    "internal/wit/types/LICENSE",
    "internal/wit/types/option.go",
    "internal/wit/types/result.go",
    "internal/wit/types/tuple.go",
    "internal/wit/types/unit.go",
    "pressroom.go",
];

pub(super) fn files() -> Vec<(String, String)> {
    named(FILES.iter().chain(MODULE))
}

#[cfg(test)]
mod tests {
    use super::MODULE;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn the_module_that_goes_with_a_plugin_is_whole() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/sdk-go");
        let (mut there, mut open) = (BTreeSet::new(), vec![sdk.clone()]);
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&sdk).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    open.push(path);
                } else if !["README.md", "generate"].contains(&&*name) {
                    there.insert(format!("pressroom/{name}"));
                }
            }
        }
        let goes: BTreeSet<_> = MODULE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(goes, there);
    }
}
