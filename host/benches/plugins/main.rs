//! What a plugin costs that does the whole job, in every language, beside native code that does it; how soon a plugin
//! that is dropped in publishes; what a thousand instances hold; and how soon one that hangs is replaced.
//!
//! The plugins are the templates of `pressroom plugin new`, built by `pressroom plugin build`: a language whose tools
//! are not on the machine has no rows, and that is said. `cargo bench -p pressroom --bench plugins -- rust go` measures
//! those two.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod author;
mod forward;
#[path = "../../src/wasm/tests/guests.rs"]
mod guests;
mod many;
mod reach;
mod sink;
mod successor;
#[path = "../support/mod.rs"]
mod support;

use author::LANGUAGES;
use pressroom::wasm::{HostSettings, PluginHost};
use sink::Sink;
use std::fmt::Write as _;
use support::Table;

/// At most so many times what native code takes, by language.
fn most(language: &str) -> Option<f64> {
    match language {
        "rust" | "python" => Some(1.1),
        "go" | "js" => Some(1.25),
        _ => None,
    }
}

/// At most so many milliseconds from the drop to the first record, cold and cached.
fn soonest(language: &str) -> Option<(f64, f64)> {
    match language {
        "rust" => Some((100.0, 10.0)),
        "go" => Some((600.0, 10.0)),
        "python" | "js" => Some((1_800.0, 10.0)),
        _ => None,
    }
}

fn verdict(found: f64, most: f64, unit: &str) -> String {
    format!("≤ {most:.0} {unit}: {}", if found <= most { "reached" } else { "missed" })
}

async fn run(wanted: Vec<String>) {
    let mut settings = HostSettings::default();
    settings.compiler = Some(author::BINARY.into());
    let host = PluginHost::new(settings).unwrap();
    let mut more = String::new();
    let mib = many::measure(&host, &guests::plugin("hostile")).await;
    let _ = writeln!(
        more,
        "| memory of 1,000 instances, each after 1,024 events | {mib:.0} MiB | {} |",
        verdict(mib, 200.0, "MiB")
    );
    let took = successor::measure(&host, &guests::plugin("hostile")).await;
    let deadline = successor::DEADLINE.as_secs_f64() * 1_000.0;
    let _ = writeln!(
        more,
        "| a call that spins, deadline {deadline:.0} ms, until a fresh instance has published | {took:.0} ms | {} |",
        verdict(took, deadline * 1.1, "ms")
    );

    let sink = Sink::start();
    let mut table = Table::default();
    for (language, name) in LANGUAGES {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == language) {
            continue;
        }
        let file = match author::forwarder(language) {
            Ok(file) => file,
            Err(why) => {
                eprintln!("!!! no row for {name}: {why}");
                continue;
            }
        };
        forward::measure(&host, &file, name, most(language), &sink, &mut table).await;
        let reach = reach::measure(&file, language, &sink).await;
        for (state, found, most) in [
            ("cold", reach.cold, soonest(language).map(|(cold, _)| cold)),
            ("compiled before", reach.cached, soonest(language).map(|(_, cached)| cached)),
        ] {
            let goal = most.map_or("–".to_owned(), |most| verdict(found, most, "ms"));
            let line = format!(
                "| dropped in, {name}, {state}, until its first record has arrived | {found:.0} ms | {goal} |"
            );
            eprintln!("{line}");
            let _ = writeln!(more, "{line}");
        }
    }
    table.print();
    println!("\n| what | measured | goal |\n| --- | --- | --- |\n{more}");
}

fn main() {
    let wanted = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // In a task, where publishers live in a host.
    runtime.block_on(async move { tokio::spawn(run(wanted)).await }).unwrap();
}
