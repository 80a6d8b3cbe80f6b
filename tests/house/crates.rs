//! No crate is there twice without a reason.

use crate::source::root;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crates of which the host needs two versions, and who wants them. None of them is a choice of ours.
const TWICE: &[(&str, &str)] = &[
    ("cpufeatures", "sha2 0.10 of cranelift; chacha20 of opentelemetry's rand, in benchmarks only"),
    ("getrandom", "proptest; opentelemetry's rand: both for tests and benchmarks only"),
    ("hashbrown", "gimli of cranelift is behind indexmap and wasmparser"),
    ("io-lifetimes", "fs-set-times of cap-primitives, of wasmtime-wasi, is behind cap-primitives itself"),
    ("itertools", "wasmtime's cranelift; prost-derive; criterion, in benchmarks only"),
    ("rand", "proptest; opentelemetry: both for tests and benchmarks only"),
    ("rand_core", "as rand"),
    ("syn", "proc macros: tracing, prost and wasmtime's are behind serde, async-trait and clap"),
];

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--duplicates", "--depth", "0", "--prefix", "none", "--all-features", "--locked"])
        .args(["--package", "pressroom"])
        .current_dir(root())
        .output()
        .unwrap();
    let text = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    // The same version twice is one crate with two sets of features: for the host and for a proc macro.
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(!versions.is_empty(), "the rule looks at nothing: {text}");
    for (name, versions) in &versions {
        let reason = TWICE.iter().find(|(known, _)| known == name);
        assert!(reason.is_some(), "{name} is there as {versions:?}: update one, or say here who wants it");
    }
    // Elsewhere the tree is another one.
    for (name, reason) in TWICE.iter().filter(|_| cfg!(all(target_os = "linux", target_arch = "x86_64"))) {
        assert!(versions.contains_key(name), "{name} is there once by now, strike out: {reason}");
    }
}
