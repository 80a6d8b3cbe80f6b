//! The host's own parts as tables: publishers and plugins.

use super::members::members;
use crate::cli::words::{self, Column, bytes, count, cut};
use crate::delivery::PublisherStatus;
use crate::journal::Books;
use crate::record::Timestamp;
use serde::Deserialize;
use serde_json::Value;

pub(super) const NAME: usize = 40;
pub(super) const REASON: usize = 200;

/// A publisher, as a host tells of it; a newer host may say more.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Publisher {
    label: String,
    #[serde(rename = "type")]
    kind: String,
    state: String,
    reason: Option<String>,
    since: String,
    books: Books,
    attempts: u64,
    failed_attempts: u64,
    #[serde(default)]
    refused_waiting: u64,
    last_error: Option<String>,
    update_failed: Option<String>,
    last_delivery: Option<String>,
    breaker: Option<String>,
    next_attempt: Option<String>,
    last_overflow: Option<String>,
    #[serde(default)]
    detail: Value,
}

impl From<&PublisherStatus> for Publisher {
    fn from(status: &PublisherStatus) -> Self {
        Self {
            label: status.label.to_string(),
            kind: status.kind.to_string(),
            state: status.state.as_str().to_owned(),
            reason: status.reason.clone(),
            since: status.since.to_string(),
            books: status.books,
            attempts: status.attempts,
            failed_attempts: status.failed_attempts,
            refused_waiting: status.refused_waiting,
            last_error: status.last_error.clone(),
            update_failed: status.update_failed.clone(),
            last_delivery: status.last_delivery.map(|time| time.to_string()),
            breaker: Some(status.breaker.as_str().to_owned()),
            next_attempt: status.next_attempt.map(|time| time.to_string()),
            last_overflow: status.last_overflow.map(|time| time.to_string()),
            detail: status.detail.clone().unwrap_or_default(),
        }
    }
}

pub(in crate::cli) fn publishers(publishers: &[Publisher], rows: usize) -> String {
    let columns = [
        Column::Text("publisher"),
        Column::Text("type"),
        Column::Text("state"),
        Column::Figure("accepted"),
        Column::Figure("delivered"),
        Column::Figure("filtered"),
        Column::Figure("dead letters"),
        Column::Figure("dropped"),
        Column::Figure("backlog"),
        Column::Text("books"),
        Column::Text("calls"),
        Column::Text("last delivery"),
    ];
    let now = Timestamp::now();
    let when = |text: &str| text.parse().map_or_else(|_| cut(text, NAME), |time| words::time(time, now));
    let table = publishers.iter().take(rows).flat_map(|one| {
        let books = &one.books;
        let mut row = [&one.label, &one.kind, &one.state].map(|text| cut(text, NAME)).to_vec();
        let fates =
            [books.delivered, books.filtered, books.dead_lettered, books.dropped.total(), books.backlog];
        row.push(count(books.accepted));
        row.extend(fates.map(count));
        row.push(if books.balance() { "balance" } else { "DO NOT BALANCE" }.to_owned());
        row.push(match one.failed_attempts {
            0 => count(one.attempts),
            failed => format!("{} ({} failed)", count(one.attempts), count(failed)),
        });
        row.push(one.last_delivery.as_deref().map_or_else(|| "never".to_owned(), when));
        let members = members(&one.detail).into_iter().map(|member| member.row(when)).collect::<Vec<_>>();
        std::iter::once(row).chain(members)
    });
    let mut out = words::table(&columns, table, "there is no publisher");
    for one in publishers.iter().take(rows) {
        let breaker = one.breaker.as_deref().filter(|stand| *stand != "closed");
        let breaker = breaker.map_or_else(String::new, |stand| format!(", breaker {}", cut(stand, NAME)));
        let next =
            one.next_attempt.as_deref().map_or_else(String::new, |at| format!(", next attempt {}", when(at)));
        let stands = format!("{} since {}{breaker}{next}: ", cut(&one.state, NAME), when(&one.since));
        let said = [
            (stands.as_str(), &one.reason),
            ("not updated: ", &one.update_failed),
            ("last error: ", &one.last_error),
        ];
        let mut told: Vec<&str> = Vec::new();
        for (what, text) in said {
            let Some(text) = text.as_deref().filter(|text| !told.contains(text)) else { continue };
            out.push_str(&format!("  {}: {what}{}\n", cut(&one.label, NAME), cut(text, REASON)));
            told.push(text);
        }
        if let Some(last) = &one.last_overflow {
            let lost = count(one.books.dropped.overflow);
            let label = cut(&one.label, NAME);
            out.push_str(&format!("  {label}: lost {lost} records to overflow, the last {}\n", when(last)));
        }
        if one.refused_waiting > 0 {
            let waiting = words::counted(one.refused_waiting, "refused record");
            out.push_str(&format!(
                "  {}: {waiting} of the backlog wait to be written to the dead letters\n",
                cut(&one.label, NAME)
            ));
        }
        members(&one.detail).iter().for_each(|member| out.extend(member.lines(when)));
    }
    out + &left_out(publishers.len(), rows)
}

/// A plugin file, as a host tells of it.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Plugin {
    plugin: String,
    file: String,
    digest: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    compiling: Value,
    #[serde(default)]
    publishers: Vec<PluginPublisher>,
}

#[derive(Debug, Deserialize)]
struct PluginPublisher {
    label: String,
    state: String,
    reason: Option<String>,
    update_failed: Option<String>,
    #[serde(default)]
    detail: Value,
}

pub(in crate::cli) fn plugins(plugins: &[Plugin], rows: usize) -> String {
    let columns = [
        Column::Text("plugin"),
        Column::Text("publisher"),
        Column::Text("state"),
        Column::Text("interface"),
        Column::Text("digest"),
        Column::Figure("compiled in"),
        Column::Figure("calls"),
        Column::Figure("traps"),
        Column::Figure("memory"),
        Column::Figure("of"),
    ];
    let table = plugins.iter().take(rows).flat_map(|plugin| {
        let name = cut(&plugin.plugin, NAME);
        let digest = plugin.digest.as_deref().map_or_else(|| "-".to_owned(), |digest| cut(digest, 13));
        let idle = plugin.publishers.is_empty().then(|| {
            let mut row =
                vec![name.clone(), "-".to_owned(), "idle".to_owned(), "-".to_owned(), digest.clone()];
            row.resize(columns.len(), "-".to_owned());
            row
        });
        let running = plugin.publishers.iter().map(move |one| {
            let number = |key: &str| one.detail.get(key).and_then(Value::as_u64);
            let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            // What it runs, which is not what lies in the directory if that could not be loaded.
            let runs = one.detail.get("digest").and_then(Value::as_str).map(|digest| cut(digest, 13));
            let interface = one.detail.get("interface").and_then(Value::as_str).map(|text| cut(text, NAME));
            let compiled =
                one.detail.get("compile_ms").and_then(Value::as_f64).map(|ms| words::seconds(ms / 1e3));
            let cached = one.detail.get("cached").and_then(Value::as_bool) == Some(true);
            let time = if cached { "cache".to_owned() } else { shown(compiled) };
            let code = match one.detail.get("tier").and_then(Value::as_str) {
                Some(tier) => format!("{}, {time}", cut(tier, NAME)),
                None => time,
            };
            vec![
                name.clone(),
                cut(&one.label, NAME),
                cut(&one.state, NAME),
                shown(interface),
                runs.unwrap_or_else(|| digest.clone()),
                code,
                shown(number("calls").map(count)),
                shown(number("traps").map(count)),
                shown(number("memory_bytes").map(bytes)),
                shown(number("memory_limit_bytes").map(bytes)),
            ]
        });
        idle.into_iter().chain(running)
    });
    let mut out = words::table(&columns, table, "there is no plugin in the plugin directory");
    for plugin in plugins.iter().take(rows) {
        let name = cut(&plugin.plugin, NAME);
        if let Some(reason) = &plugin.reason {
            out.push_str(&format!("  {name} ({}): {}\n", cut(&plugin.file, REASON), cut(reason, REASON)));
        }
        let tier = plugin.compiling.get("tier").and_then(Value::as_str);
        if let (Some(tier), Some(ms)) = (tier, plugin.compiling.get("elapsed_ms").and_then(Value::as_f64)) {
            let (tier, elapsed) = (cut(tier, NAME), words::seconds(ms / 1e3));
            out.push_str(&format!("  {name} is being compiled ({tier}), for {elapsed} by now\n"));
        }
        for one in &plugin.publishers {
            let label = cut(&one.label, NAME);
            let last = one.detail.get("last_error").and_then(Value::as_str).map(str::to_owned);
            let said = [("", &one.reason), ("not updated: ", &one.update_failed), ("last trap: ", &last)];
            for (what, text) in said {
                if let Some(text) = text {
                    out.push_str(&format!("  {label}: {what}{}\n", cut(text, REASON)));
                }
            }
            let lines =
                one.detail.get("log").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for line in
                lines.iter().filter_map(Value::as_str).rev().take(5).collect::<Vec<_>>().into_iter().rev()
            {
                out.push_str(&format!("  {label} says {}\n", cut(line, REASON)));
            }
        }
    }
    out + &left_out(plugins.len(), rows)
}

fn left_out(all: usize, rows: usize) -> String {
    match all.checked_sub(rows) {
        None | Some(0) => String::new(),
        Some(_) => format!("  {} of {} are shown\n", count(rows as u64), count(all as u64)),
    }
}
