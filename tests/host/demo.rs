//! `pressroom demo`, as the README says it.

use crate::support::{Folder, MUCH_PATIENCE, Process};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_well_and_cleans_up() {
    let folder = Folder::new("");
    std::fs::remove_file(folder.path("pressroom.toml")).unwrap();
    std::fs::remove_dir(folder.path("plugins")).unwrap();
    let mut process = Process::pressroom(&folder, &["demo"]);
    let ended = process.ended_within(MUCH_PATIENCE).await;
    let output = process.output();
    assert!(ended.success(), "{ended}: {output}");
    for word in ["rollup", "retries", "failed"] {
        assert!(output.to_lowercase().contains(word), "{word} is not in {output}");
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.path("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "it left {left:?}");
}
