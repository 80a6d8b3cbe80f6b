//! What a plugin in Rust begins with: the crate `pressroom-plugin` goes with it, for no registry has it.

use super::{File, named};

const FILES: &[File] = &[
    ("README.md", include_str!("../../../../../plugins/templates/rust/README.md")),
    ("Cargo.toml", include_str!("../../../../../plugins/templates/rust/Cargo.toml")),
    ("src/lib.rs", include_str!("../../../../../plugins/templates/rust/src/lib.rs")),
];

/// The sources of `pressroom-plugin`, but for its tests.
const SDK: &[File] = &[
    ("wit/publisher.wit", include_str!("../../../../../wit/0.1/publisher.wit")),
    ("src/batch.rs", include_str!("../../../../../plugins/sdk/src/batch.rs")),
    ("src/config.rs", include_str!("../../../../../plugins/sdk/src/config.rs")),
    ("src/export.rs", include_str!("../../../../../plugins/sdk/src/export.rs")),
    ("src/http.rs", include_str!("../../../../../plugins/sdk/src/http.rs")),
    ("src/lib.rs", include_str!("../../../../../plugins/sdk/src/lib.rs")),
    ("src/log.rs", include_str!("../../../../../plugins/sdk/src/log.rs")),
    ("src/outcome.rs", include_str!("../../../../../plugins/sdk/src/outcome.rs")),
    ("src/rows.rs", include_str!("../../../../../plugins/sdk/src/rows.rs")),
    ("src/rows/columns.rs", include_str!("../../../../../plugins/sdk/src/rows/columns.rs")),
    ("src/rows/tests.rs", include_str!("../../../../../plugins/sdk/src/rows/tests.rs")),
];
const SDK_MANIFEST: &str = include_str!("../../../../../plugins/sdk/Cargo.toml");
const WORKSPACE: &str = include_str!("../../../../../plugins/Cargo.toml");

/// The folder of the crate within the plugin's.
const SDK_DIR: &str = "pressroom-plugin";
/// Where the template and the crate find each other and the contract in their own repository, and where in a new folder.
const MOVED: &[(&str, &str)] =
    &[("path = \"../../sdk\"", "path = \"pressroom-plugin\""), ("path: \"../../wit/0.1\"", "path: \"wit\"")];

pub(super) fn files() -> Vec<(String, String)> {
    let sdk = named(SDK.iter()).into_iter().chain([("Cargo.toml".to_owned(), manifest())]);
    let sdk = sdk.map(|(path, text)| (format!("{SDK_DIR}/{path}"), text));
    let moved = |text: String| MOVED.iter().fold(text, |text, (from, to)| text.replace(from, to));
    named(FILES.iter()).into_iter().chain(sdk).map(|(path, text)| (path, moved(text))).collect()
}

/// The crate's manifest, with what it has from its workspace written out.
fn manifest() -> String {
    let mut manifest = String::new();
    for line in SDK_MANIFEST.lines() {
        // Its authors' lints are none of a plugin's author's.
        if line == "[lints]" || line == "workspace = true" {
            continue;
        }
        match line.split_once(".workspace = true") {
            Some((key, _)) => {
                let of_workspace = WORKSPACE.lines().find(|line| line.split(' ').next() == Some(key));
                manifest.push_str(of_workspace.unwrap_or_default());
            }
            None => manifest.push_str(line),
        }
        manifest.push('\n');
    }
    manifest
}
