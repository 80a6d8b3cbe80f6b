//! The table of what the host holds for a plugin, `HELD.md`, against what the host offers.

use super::super::bindings::linker;
use super::super::engine::{Tier, engine};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use wit_parser::{Resolve, WorldItem};

/// An interface and one of its functions: `wasi:io/streams`, `output-stream.write`.
type Function = (String, String);

/// The directories with the contracts that the linker may offer: those of the crates that it is made with, and our own.
fn contracts() -> Vec<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--manifest-path"])
        .arg(manifest.join("Cargo.toml"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let folder = |name: &str, within: &str| {
        let package = metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == name);
        let file = package.unwrap()["manifest_path"].as_str().unwrap();
        Path::new(file).parent().unwrap().join(within)
    };
    vec![
        folder("wasmtime-wasi", "src/p2/wit"),
        folder("wasmtime-wasi-http", "wit"),
        manifest.join("../wit/0.1"),
    ]
}

/// All packages in a directory. Those that others depend on come first, in whatever order they are found.
fn read(contract: &Path) -> Resolve {
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    // Where there are others it is they that are offered: the contract beside them chooses among them.
    let deps = contract.join("deps");
    let dir = if deps.is_dir() { deps } else { contract.to_owned() };
    let files = std::fs::read_dir(dir).unwrap();
    let mut left: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    left.retain(|file| file.extension().is_some_and(|end| end == "wit"));
    assert!(!left.is_empty(), "{}", contract.display());
    while !left.is_empty() {
        let before = left.len();
        left.retain(|file| {
            let mut with = resolve.clone();
            let is_read = with.push_str(file, &std::fs::read_to_string(file).unwrap()).is_ok();
            if is_read {
                resolve = with;
            }
            !is_read
        });
        assert!(left.len() < before, "these cannot be read: {left:?}");
    }
    resolve
}

/// What the linker offers of all functions in these contracts, those that are not stable included.
fn offered() -> BTreeSet<Function> {
    let mut offered = BTreeSet::new();
    for contract in contracts() {
        let resolve = read(&contract);
        for (id, interface) in resolve.interfaces.iter() {
            let Some(full) = resolve.id_of(id) else { continue };
            let name = full.split('@').next().unwrap().to_owned();
            for function in interface.functions.values() {
                if offers(&full, &function.name) {
                    let (kind, rest) = function
                        .name
                        .strip_prefix('[')
                        .and_then(|name| name.split_once(']'))
                        .unwrap_or(("", &function.name));
                    let constructor = if kind == "constructor" { ".constructor" } else { "" };
                    offered.insert((name.clone(), format!("{rest}{constructor}")));
                }
            }
        }
        // A function of a world's own has no interface, and would be found in none.
        let own = resolve.worlds.iter().flat_map(|(_, world)| world.imports.values());
        assert!(own.into_iter().all(|item| !matches!(item, WorldItem::Function(_))));
    }
    offered
}

/// Whether the linker has this: then it cannot be defined once more.
fn offers(interface: &str, function: &str) -> bool {
    let mut linker = linker(&engine(Tier::Optimised).unwrap()).unwrap();
    linker.allow_shadowing(false);
    linker.instance(interface).unwrap().func_wrap(function, |_, (): ()| Ok(())).is_err()
}

/// The rows of the table: interfaces and functions.
fn table() -> Vec<(Vec<String>, Vec<String>)> {
    let mut rows: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for line in include_str!("../HELD.md").lines().filter(|line| line.starts_with("| ")).skip(2) {
        let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let cells: Vec<&str> = line.split(" | ").collect();
        let interfaces = match names(cells[0]) {
            same if same.is_empty() => rows.last().unwrap().0.clone(),
            new => new,
        };
        rows.push((interfaces, names(cells[1])));
    }
    rows
}

#[test]
fn the_table_names_each_function_that_the_host_offers_once_and_no_other() {
    let (offered, table) = (offered(), table());
    assert!(offered.len() > 150, "{}", offered.len());
    for (interface, function) in &offered {
        let has = |row: &&(Vec<String>, Vec<String>)| row.0.contains(interface) && row.1.contains(function);
        assert_eq!(table.iter().filter(has).count(), 1, "{interface} {function}: rows of HELD.md");
    }
    for (interfaces, functions) in &table {
        for function in functions {
            let is_there = |interface: &String| offered.contains(&(interface.clone(), function.clone()));
            assert!(interfaces.iter().any(is_there), "{interfaces:?} {function} is in HELD.md alone");
        }
    }
}
