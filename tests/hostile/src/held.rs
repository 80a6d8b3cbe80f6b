//! Every import of the host, called again and again, what it hands out being kept: for the table of what the host holds for
//! a plugin (`host/src/wasm/HELD.md`), whose names the setting `import` has.
//!
//! What comes with bytes of the guest's own memory is let go: that memory is bounded by other means.

mod files;
mod requests;
mod sockets;
mod streams;

use crate::{Batch, text};
use pressroom_plugin::bindings::pressroom::publisher::log::{Level, log};
use pressroom_plugin::{Format, PublishError, config};
use std::hint::black_box;
use std::mem::forget;
use wasip2::cli::{environment, stderr, stdin, stdout, terminal_stderr, terminal_stdin, terminal_stdout};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::io::poll::poll;
use wasip2::random::{insecure, insecure_seed, random};

/// How often each is called. Three handles each time are less than an instance may have.
const TIMES: usize = 70;

/// Calls the import that the setting names.
pub fn hold(batch: &Batch<'_, '_>) -> Result<(), PublishError> {
    let import = text("import", "");
    let (interface, function) = import.split_once(' ').unwrap_or((&import, ""));
    let known = match interface {
        "pressroom:publisher/batches" => view(function, batch),
        "pressroom:publisher/log" => again(|| log(Level::Trace, &"x".repeat(1_000))),
        "pressroom:publisher/config" => settings(function),
        other if other.starts_with("wasi:cli/") => cli(function),
        "wasi:clocks/monotonic-clock" => clock(function),
        "wasi:clocks/wall-clock" => again(|| {
            black_box((wall_clock::now(), wall_clock::resolution()));
        }),
        other if other.starts_with("wasi:random/") => chance(function),
        "wasi:io/poll" => polls(function),
        "wasi:io/streams" | "wasi:io/error" => streams::call(function),
        "wasi:filesystem/preopens" | "wasi:filesystem/types" => files::call(function),
        "wasi:http/types" | "wasi:http/outgoing-handler" => requests::call(function),
        other if other.starts_with("wasi:sockets/") => sockets::call(function),
        _ => false,
    };
    if known { Ok(()) } else { Err(PublishError::hold(format!("no import {import}"))) }
}

/// Does it again and again. True, for whoever asked knows it.
fn again(mut call: impl FnMut()) -> bool {
    for _ in 0..TIMES {
        call();
    }
    true
}

fn view(function: &str, batch: &Batch<'_, '_>) -> bool {
    let mine = match batch {
        Batch::Events(_) => "event-batch.",
        Batch::Operations(_) => "network-batch.",
    };
    let Some(view) = function.strip_prefix(mine) else {
        return function.starts_with("event-batch.") || function.starts_with("network-batch.");
    };
    let formats = ["json-lines", "json-columns", "line-protocol", "otlp-protobuf", "no-such-format"];
    match (view, batch) {
        ("len", _) => again(|| {
            black_box(batch.len());
        }),
        ("records", Batch::Events(events)) => again(|| drop(black_box(events.records()))),
        ("records", Batch::Operations(operations)) => again(|| drop(black_box(operations.records()))),
        ("columns", Batch::Events(events)) => again(|| {
            black_box(events.columns());
        }),
        ("columns", Batch::Operations(operations)) => again(|| {
            black_box(operations.columns());
        }),
        ("encode", Batch::Events(events)) => again(|| {
            formats.iter().for_each(|name| drop(black_box(events.encode(Format::Named(name)))));
        }),
        ("encode", Batch::Operations(operations)) => again(|| {
            formats.iter().for_each(|name| drop(black_box(operations.encode(Format::Named(name)))));
        }),
        _ => false,
    }
}

fn settings(function: &str) -> bool {
    match function {
        "get" => again(|| drop(black_box(config::get("import")))),
        "get-all" => again(|| drop(black_box(config::get_all()))),
        _ => false,
    }
}

fn cli(function: &str) -> bool {
    match function {
        "get-environment" => again(|| drop(black_box(environment::get_environment()))),
        "get-arguments" => again(|| drop(black_box(environment::get_arguments()))),
        "initial-cwd" => again(|| drop(black_box(environment::initial_cwd()))),
        "get-terminal-stdin" => again(|| forget(terminal_stdin::get_terminal_stdin())),
        "get-terminal-stdout" => again(|| forget(terminal_stdout::get_terminal_stdout())),
        "get-terminal-stderr" => again(|| forget(terminal_stderr::get_terminal_stderr())),
        "get-stdin" => again(|| forget(stdin::get_stdin())),
        "get-stdout" => again(|| forget(stdout::get_stdout())),
        "get-stderr" => again(|| forget(stderr::get_stderr())),
        _ => false,
    }
}

fn clock(function: &str) -> bool {
    match function {
        "now" => again(|| {
            black_box(monotonic_clock::now());
        }),
        "resolution" => again(|| {
            black_box(monotonic_clock::resolution());
        }),
        "subscribe-instant" => again(|| forget(monotonic_clock::subscribe_instant(1 << 60))),
        "subscribe-duration" => again(|| forget(monotonic_clock::subscribe_duration(1 << 60))),
        _ => false,
    }
}

fn chance(function: &str) -> bool {
    const MOST: u64 = 64 << 10;
    match function {
        "get-random-bytes" => again(|| drop(black_box(random::get_random_bytes(MOST)))),
        "get-random-u64" => again(|| {
            black_box(random::get_random_u64());
        }),
        "get-insecure-random-bytes" => again(|| drop(black_box(insecure::get_insecure_random_bytes(MOST)))),
        "get-insecure-random-u64" => again(|| {
            black_box(insecure::get_insecure_random_u64());
        }),
        "insecure-seed" => again(|| {
            black_box(insecure_seed::insecure_seed());
        }),
        _ => false,
    }
}

fn polls(function: &str) -> bool {
    let due = || monotonic_clock::subscribe_duration(0);
    match function {
        "pollable.ready" => again(|| {
            let due = due();
            black_box(due.ready());
            forget(due);
        }),
        "pollable.block" => again(|| {
            let due = due();
            due.block();
            forget(due);
        }),
        "poll" => {
            let due = due();
            again(|| drop(black_box(poll(&[&due; 5_000]))))
        }
        _ => false,
    }
}
