//! The files that the configuration refers to are a part of it: a changed one is applied, wherever the links to it are swapped.

use crate::support::{Folder, PATIENCE, events, root, until};
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

/// A publisher that writes to the file that a secret names.
const ROWS: &str = "[publishers.rows]\ntype = \"file\"\npath = \"${file:mounted/where}\"\n";

/// Mounts a secret as Kubernetes does: `mounted/where` leads to `..data/where`, and `..data` to a directory of its own for
/// each version. The link `..data` is swapped in one step.
fn mount(folder: &Folder, version: &str) {
    let mounted = folder.path("mounted");
    std::fs::create_dir_all(mounted.join(version)).unwrap();
    std::fs::write(mounted.join(version).join("where"), format!("{version}.jsonl\n")).unwrap();
    symlink(version, mounted.join("..new")).unwrap();
    std::fs::rename(mounted.join("..new"), mounted.join("..data")).unwrap();
    if !mounted.join("where").exists() {
        symlink("..data/where", mounted.join("where")).unwrap();
    }
}

/// Whether the publisher has opened `file`, and has written nothing to it. Its path came from a secret: no report tells it.
fn has_opened(folder: &Folder, file: &str) -> impl Fn(&Value) -> bool {
    let file = folder.path(file);
    move |status| status["state"] == "running" && status["detail"]["size"] == 0 && file.exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_renewed_by_a_swapped_link_and_nothing_is_lost() {
    let folder = Folder::new("");
    mount(&folder, "..one");
    folder.configure(ROWS);
    let running = folder.start().await;
    let api = &running.api;
    api.until("rows", "writes to the first file", has_opened(&folder, "..one.jsonl")).await;
    api.post(&events(0..100)).await;
    api.until_delivered("rows", 100).await;
    mount(&folder, "..two");
    api.until("rows", "writes to the second file", has_opened(&folder, "..two.jsonl")).await;
    api.post(&events(100..200)).await;
    api.until_delivered("rows", 200).await;

    // One that is away is told, and what runs goes on; it is taken when it is back.
    std::fs::remove_file(folder.path("mounted/..data")).unwrap();
    let refused = || async { running.host.refused().filter(|reason| reason.contains("mounted/where")) };
    until("the missing secret is told", refused).await;
    api.post(&events(200..300)).await;
    api.until_delivered("rows", 300).await;
    mount(&folder, "..three");
    api.until("rows", "writes to the third file", has_opened(&folder, "..three.jsonl")).await;
    api.post(&events(300..400)).await;
    api.until_delivered("rows", 400).await;
    assert!(running.host.shutdown(PATIENCE).await.balanced());
    folder.assert_holds("..one.jsonl", 0..100);
    folder.assert_holds("..two.jsonl", 100..300);
    folder.assert_holds("..three.jsonl", 300..400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_authority_is_a_change_of_the_sections_that_name_it_and_of_no_other() {
    let section = |label: &str, kind: &str, more: &str| {
        format!("[publishers.{label}]\ntype = \"{kind}\"\nca_file = \"ca.pem\"\n{more}")
    };
    let url = "url = \"https://127.0.0.1:1/push\"\n";
    let folder = Folder::new(&format!(
        "{}{}{}[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n",
        section("search", "elasticsearch", "hosts = [\"https://127.0.0.1:1\"]\n"),
        section("lines", "loki", url),
        section("cloud", "grafana-cloud", url),
    ));
    let authority = |name: &str, to: &Path| {
        std::fs::copy(root().join("tests/fixtures/authorities").join(name), to).unwrap();
    };
    authority("old.pem", &folder.path("ca.pem"));
    let host = pressroom::host::Host::builder().config_file(folder.path("pressroom.toml")).watch(false);
    let host = host.start().await.unwrap();
    let all = ["cloud", "lines", "search"].map(std::sync::Arc::from).to_vec();

    // Written again, and the same.
    authority("old.pem", &folder.path("ca.pem"));
    assert_eq!(host.reload().await.unwrap().replaced, []);
    // Replaced.
    authority("new.pem", &folder.path("ca.pem"));
    let applied = host.reload().await.unwrap();
    assert_eq!((applied.replaced, applied.unchanged), (all.clone(), vec!["archive".into()]));
    // One that cannot be used leaves what runs.
    std::fs::write(folder.path("ca.pem"), "no certificate").unwrap();
    let applied = host.reload().await.unwrap();
    let failed: Vec<_> = applied.failed.iter().map(|failed| failed.label.clone()).collect();
    assert_eq!((failed, applied.replaced), (all.clone(), Vec::new()));
    authority("old.pem", &folder.path("ca.pem"));
    assert_eq!(host.reload().await.unwrap().replaced, all);
    host.shutdown(Duration::from_millis(10)).await;
}
