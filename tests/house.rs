//! The house rules of host/README.md in plain words: who may know whom, how long a file may be, what every
//! module says first, that links lead somewhere, and that no crate is there twice without a reason.
//!
//! Invariant: every rule is read from the sources as they are, so that a rule that is broken is named with file and line.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "house/crates.rs"]
mod crates;
#[path = "house/imports.rs"]
mod imports;
#[path = "house/pages.rs"]
mod pages;
#[path = "house/source.rs"]
mod source;

use source::{Source, root, sources};

#[test]
fn no_file_is_longer_than_500_lines() {
    for folder in ["host", "plugins", "tests", "examples"] {
        for source in sources(&root().join(folder)) {
            let lines = source.text.lines().count();
            assert!(lines <= 500, "{}: {lines} lines; over 500 it wants to be two", source.name);
        }
    }
}

#[test]
fn every_module_says_first_what_it_is_for() {
    let is_test = |source: &Source| source.name.ends_with("/tests.rs") || source.name.contains("/tests/");
    for folder in ["host/src", "host/benches", "plugins", "tests"] {
        for source in sources(&root().join(folder)).into_iter().filter(|source| !is_test(source)) {
            let first = source.text.lines().next().unwrap_or_default();
            assert!(first.starts_with("//! "), "{}: begins with {first:?}, not with its role", source.name);
        }
    }
}
