//! Real search servers: what the publisher `elasticsearch` does with each answer that they can be made to give.
//!
//! A test runs on every server that has what it needs. What none of them can be made to do (API keys, Cloud ids,
//! lifecycles, torn connections, lies) is tested against a scripted server, beside the publisher's code.

mod indices;
mod outages;
mod records;
mod templates;

use crate::support::servers::Search;
use crate::support::{Folder, Running, event};
use serde_json::{Value, json};
use std::ops::Range;

/// A publisher `search` on this server, with more keys of its own; so impatient that a test need not wait.
fn search(server: &Search, more: &str) -> String {
    let hosts = format!("hosts = [\"{}\"]\n", server.url());
    let mut own = String::new();
    if let Some(ca) = server.ca() {
        own.push_str(&format!("ca_file = \"{}\"\n", ca.display()));
    }
    if !more.contains("data_stream") {
        own.push_str(&format!("index_prefix = \"{}\"\n", server.prefix()));
    }
    if let Some((user, password)) = server.credentials().filter(|_| !more.contains("username")) {
        own.push_str(&format!("username = \"{user}\"\npassword = \"{password}\"\n"));
    }
    let hosts = if more.contains("hosts") { String::new() } else { hosts };
    format!(
        "[publishers.search]\ntype = \"elasticsearch\"\n{hosts}{own}{more}\nflush_interval = \"200ms\"\n\
         batch.max_age = \"20ms\"\nretry = {{ initial = \"10ms\", max = \"200ms\", hold = \"200ms\" }}\n"
    )
}

/// A host with such a publisher.
async fn host(server: &Search, more: &str) -> (Folder, Running) {
    let folder = Folder::new(&search(server, more));
    let running = folder.start().await;
    (folder, running)
}

/// A network operation with a number, as it is posted.
fn operation(number: u64) -> Value {
    let mut operation = json!({
        "type": "network", "operation": "PUT", "host": "s3.local", "port": 443,
        "bytes_sent": 1_048_576, "bytes_received": 512,
    });
    for member in ["id", "task_id", "start_time", "end_time"] {
        operation[member] = event(number)[member].clone();
    }
    operation
}

/// An event of another day.
fn event_of(day: &str, number: u64) -> Value {
    let mut event = event(number);
    event["start_time"] = format!("{day}T11:14:44.123456789Z").into();
    event["end_time"] = format!("{day}T11:14:45.623456789Z").into();
    event
}

/// The ids of these numbers.
fn ids(numbers: Range<u64>) -> Vec<String> {
    numbers.map(|number| crate::support::id(number).to_string()).collect()
}

/// What is set aside: the records, each with its reason.
fn dead_letters(folder: &Folder) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path("dead-letters.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The documents of these indices, and no others, each once.
async fn assert_holds(server: &Search, indices: &str, numbers: Range<u64>) {
    let there = server.ids(indices).await;
    assert!(there.values().all(|times| *times == 1), "a record is there twice, on {:?}", server.kind());
    let there: Vec<String> = there.into_keys().collect();
    assert_eq!(there, ids(numbers), "on {:?}", server.kind());
}

/// A count of the publisher's own.
fn count(status: &Value, of: &str) -> u64 {
    status["detail"][of].as_u64().unwrap()
}
