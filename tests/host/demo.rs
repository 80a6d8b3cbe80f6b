//! `pressroom demo`, as the README says it.

use crate::support::{Folder, MUCH_PATIENCE, Process};
use std::path::PathBuf;
use std::process::Command;

/// What lies in the folder `name`.
fn left(folder: &Folder, name: &str) -> Vec<PathBuf> {
    std::fs::read_dir(folder.path(name)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_well_and_cleans_up() {
    let folder = Folder::new("");
    for name in ["here", "tmp"] {
        std::fs::create_dir(folder.path(name)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
    command
        .arg("demo")
        .current_dir(folder.path("here"))
        .env("TMPDIR", folder.path("tmp"))
        .env_remove("RUST_LOG");
    let mut process = Process::start(&mut command);
    let ended = process.ended_within(MUCH_PATIENCE).await;
    let output = process.output();
    assert!(ended.success(), "{ended}: {output}");
    let own =
        format!("everything that the demo writes is in {}/pressroom-demo-", folder.path("tmp").display());
    for words in [
        &own,
        "rollup.wasm (",
        "rollup is live ",
        "  rollup says info: event=\"fetch\" count=",
        "  rollup says info: operation=\"GET\" count=",
        "gave up after 4 attempts: 503 Service Unavailable",
        "every publisher has delivered what there was",
        "] everything that was recorded arrived everywhere, once, and all books balance\n",
    ] {
        assert!(output.contains(words), "{words:?} is not in {output}");
    }
    // What was recorded, and what everybody says: every row of the table.
    let is_heading = |line: &str| line.split_whitespace().eq(["WHAT", "RECORDED", "REPORTED", "/METRICS"]);
    let rows = output.lines().skip_while(|line| !is_heading(line)).skip(1);
    let rows: Vec<_> = rows.take_while(|line| !line.is_empty()).collect();
    assert!(rows.len() >= 10 && rows.iter().all(|row| row.ends_with("  equal")), "{rows:#?} in {output}");
    assert_eq!((left(&folder, "here"), left(&folder, "tmp")), (vec![], vec![]), "it left something");
}
