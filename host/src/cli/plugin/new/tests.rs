use super::{Args, check_name, files, new};
use crate::cli::plugin::language::Language;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn a_name_must_do_in_every_language() {
    for name in ["alerts", "slack-alerts", "s3-to-http2"] {
        assert!(check_name(name).is_ok(), "{name}");
    }
    for name in ["", "Alerts", "-a", "a--b", "a_b", "a-2", "../a", "a b", &"a".repeat(65)] {
        let failure = check_name(name).unwrap_err();
        assert!(failure.code == 2 && failure.message.contains("slack-alerts"), "{name}: {failure:?}");
    }
}

#[test]
fn a_new_folder_tells_its_language_and_configures_a_host_that_is_right() {
    let parent = tempfile::tempdir().unwrap();
    for language in &[Language::Rust, Language::Python, Language::Js, Language::C, Language::Go] {
        let dir = parent.path().join(language.to_string());
        let args = || Args { lang: *language, name: "slack-alerts".into(), path: Some(dir.clone()) };
        new(&args()).unwrap();
        assert_eq!(Language::of(&dir).map_err(|failure| failure.message), Ok(*language));
        for file in ["README.md", "pressroom.toml"] {
            let text = std::fs::read_to_string(dir.join(file)).unwrap();
            assert!(text.contains("slack-alerts") && !text.contains("forwarder"), "{language}: {file}");
        }
        let again = new(&args()).unwrap_err();
        assert!(again.code == 2 && again.message.contains("is there and not empty"), "{again:?}");
    }
}

#[test]
fn the_crate_that_goes_with_a_plugin_in_rust_is_whole() {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/sdk");
    let (mut there, mut open) = (BTreeSet::new(), vec![sdk.join("src")]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                there.insert(format!("pressroom-plugin/{}", path.strip_prefix(&sdk).unwrap().display()));
            }
        }
    }
    let files = files(Language::Rust, "alerts");
    let goes: BTreeSet<_> = files
        .iter()
        .map(|(path, _)| path.clone())
        .filter(|path| path.starts_with("pressroom-plugin/src"))
        .collect();
    assert_eq!(goes, there);
    let text = |wanted: &str| &files.iter().find(|(path, _)| path == wanted).unwrap().1;
    for manifest in ["Cargo.toml", "pressroom-plugin/Cargo.toml"] {
        let parsed: toml::Table = toml::from_str(text(manifest)).unwrap();
        assert!(parsed["package"]["edition"].is_str(), "{manifest}: {parsed:?}");
        assert!(
            !text(manifest).contains("workspace = true") && !text(manifest).contains("../"),
            "{manifest}"
        );
    }
    assert!(text("pressroom-plugin/src/lib.rs").contains("path: \"wit\""));
}
