//! SIGTERM under load: what was acknowledged is in the file, and the last words are the account.
//!
//! SIGKILL is not tested: the journal is memory, and what it held is lost with the process, by design. A journal on
//! disk will be held to more.

use crate::support::{Folder, Process, events, id, until};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_file_after_sigterm_under_load() {
    let folder = Folder::new("");
    let config = "[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n";
    let (mut process, api) = Process::host(&folder, config).await;
    let sent = Arc::new(AtomicU64::new(0));
    let senders: Vec<_> = (0..4_u64)
        .map(|sender| {
            let (api, sent) = (api.clone(), sent.clone());
            tokio::spawn(async move {
                // Until the host no longer answers. What it did not acknowledge may be there or not.
                let mut acknowledged = Vec::new();
                let mut next = sender << 32;
                loop {
                    let batch = next..next + 100;
                    match api.send(&events(batch.clone())).await {
                        Ok(answer) if answer.status().is_success() => acknowledged.extend(batch),
                        _ => return acknowledged,
                    }
                    next += 100;
                    sent.fetch_add(100, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("they send", || async { (sent.load(Ordering::Relaxed) >= 5_000).then_some(()) }).await;
    process.terminate();
    let ended = process.ended().await;
    let output = process.output();
    assert!(ended.success(), "{ended}: {output}");
    let ids = folder.ids("archive.jsonl");
    assert!(ids.values().all(|times| *times == 1), "a record stands there twice");
    let mut acknowledged = BTreeSet::new();
    for sender in senders {
        acknowledged.extend(sender.await.unwrap());
    }
    assert!(acknowledged.len() >= 5_000);
    let lost = acknowledged.iter().filter(|number| !ids.contains_key(&id(**number).to_string())).count();
    assert_eq!(lost, 0, "of {}: {output}", acknowledged.len());
    // The account: the publisher, and how many it delivered.
    let digits = output.replace(',', "");
    let account =
        digits.lines().find(|line| line.contains("archive") && line.contains(&ids.len().to_string()));
    assert!(account.is_some_and(|line| line.contains("balance")), "no account of {} in {output}", ids.len());
}
