//! It takes memory: its own by every way there is, the stack's, and the host's behind handles and results.

use super::case::{Case, ROOMY, file, guest, made_of, raw};

const BEYOND: &str = "of memory where its limit is 16MiB";
const HANDLES: &str = "holds more than 256 handles (files, streams) at once";
const TOO_MUCH: &str = "handed over too much in one call, more than 16MiB";
const READ: &str = "dirs = [{ host = \"in\", guest = \"/in\" }]";

pub fn cases() -> Vec<Case> {
    vec![
        guest("memory-bomb").fails(BEYOND),
        // It is retired in time, and a fresh one goes on.
        guest("grow").delivers(&[]),
        raw("memory-declared", &[("definitions", "(memory $big 65536)")]).fails(BEYOND),
        raw("memory-64-declared", &[("definitions", "(memory $big i64 0x100000000)")])
            .fails("cannot be compiled: "),
        raw("memories-many", &[("definitions", &"(memory 1)".repeat(40))]).fails("memory count too high"),
        raw(
            "memory-64-grown",
            &[
                ("definitions", "(memory $wide i64 1)"),
                ("events", "(loop $on (br_if $on (i64.ne (memory.grow $wide (i64.const 16)) (i64.const -1))))"),
            ],
        )
        .fails("memory64 must be enabled"),
        raw(
            "table-bomb",
            &[
                ("definitions", "(table $mine 1 funcref)"),
                (
                    "events",
                    "(loop $on (br_if $on (i32.ne (table.grow $mine (ref.null func) (i32.const 10000)) (i32.const -1))))",
                ),
            ],
        )
        .delivers(&[]),
        raw("table-declared", &[("definitions", "(table $mine 10000000 funcref)")]).fails(BEYOND),
                raw(
            "tables-many",
            &[("instances", &format!("(core module $t{})(core instance (instantiate $t))(core instance (instantiate $t))(core instance (instantiate $t))", "(table 1 funcref)".repeat(90)))],
        )
        .fails("table count too high"),
        raw(
            "instances-many",
            &[("instances", &format!("(core module $tiny){}", "(core instance (instantiate $tiny))".repeat(300)))],
        )
        .fails("instance count too high"),
        guest("stack-overflow").fails("overflowed its stack"),
        raw("stack-of-wide-frames", &wide_frames()).fails("overflowed its stack"),
        raw(
            "stack-in-allocator",
            &[
                ("allocator", "(drop (call 0 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))"),
                ("events", "(call $get-all (i32.const 2048))"),
            ],
        )
        .fails("overflowed its stack"),
        guest("leak-pollables").fails(HANDLES),
        guest("leak-streams").fails(HANDLES),
        guest("leak-networks").fails(HANDLES),
        guest("leak-directories").grant(READ).fails(HANDLES),
        guest("leak-listings").grant(READ).delivers(&["leak-listings: denied after "]),
        guest("leak-file-streams").grant(READ).delivers(&["leak-file-streams: denied after "]),
        guest("open-many").with("path = \"/in/there\"").grant(READ).fails(HANDLES),
        guest("leak-sockets").delivers(&["leak-sockets: denied"]),
        guest("rows-by-the-million").config("do = \"many-rows\"").limits(ROOMY).fails(TOO_MUCH),
        guest("giant-error").limits(ROOMY).fails(TOO_MUCH),
        guest("huge-log").limits(ROOMY).fails(TOO_MUCH),
        guest("huge-key").with("bytes = 33554432").limits(ROOMY).fails(TOO_MUCH),
        guest("huge-poll").limits(ROOMY).fails("store handle limit exceeded"),
        guest("huge-random").fails("exceeds limit"),
        guest("huge-path").delivers(&["huge-path: denied"]).grant(READ),
        guest("huge-format").limits(ROOMY).delivers(&["huge-format: denied"]),
        guest("huge-read").grant(READ).delivers(&["huge-read: got Ok(4)"]),
        guest("huge-zeroes").fails("cannot write more zeroes than `check_write` allows"),
        file("batch-larger-than-its-memory", small()).limits("memory = \"5MiB\"").falters("beyond end of memory"),
    ]
}

/// A function that calls itself and needs all its locals afterwards.
fn wide_frames() -> [(&'static str, &'static str); 2] {
    static TEXT: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let names = 0..400;
        let locals: String = names.clone().map(|name| format!("(local $l{name} i64)")).collect();
        let load = |name| format!("(local.set $l{name} (i64.load (i32.const {})))", name * 8);
        let loads: String = names.clone().map(load).collect();
        let store = |name| format!("(i64.store (i32.const {}) (local.get $l{name}))", name * 8);
        let stores: String = names.map(store).collect();
        format!("(func $deep {locals} {loads} (call $deep) {stores})")
    });
    [("definitions", TEXT.as_str()), ("events", "(call $deep)")]
}

/// A plugin of one page that asks for all of the batch, rendered.
fn small() -> Vec<u8> {
    let encode = "(call $encode (local.get $batch) (i32.const 1024) (i32.const 10) (i32.const 2048))";
    let whole = "(return (i32.sub (i32.const 4194304) (i32.const 1024)))";
    made_of("raw.wat", &[("events", encode), ("allocator", whole)])
}
