//! It does things when they must not be done, or when they have been done, or dies.

use super::case::{Case, guest, raw};

const ALL: &str = "(call $get-all (i32.const 2048))";
const LOG: &str = "(call $log (i32.const 2) (i32.const 1056) (i32.const 3))";
const LEN: &str = "(drop (call $len (local.get $batch)))";
const DROP: &str = "(call $drop-events (local.get $batch))";

/// What stands in `publish-events` of the plugin written by hand.
fn acts(name: &'static str, lines: &[&str]) -> Case {
    raw(name, &[("events", &lines.join("\n"))])
}

pub fn cases() -> Vec<Case> {
    vec![
        acts("batch-kept", &["(return (i32.const 16))"]).fails("borrow handles still remain"),
        acts("batch-after-drop", &[DROP, LEN]).fails("unknown handle index"),
        acts("batch-dropped-twice", &[DROP]).fails("unknown handle index"),
        acts("batch-of-the-other-kind", &["(drop (call $length (local.get $batch)))"]).fails("handle"),
        acts("batch-made-up", &["(drop (call $len (i32.const 12345)))"]).fails("unknown handle index"),
        acts("batch-zero", &["(drop (call $len (i32.const 0)))"]).fails("unknown handle index"),
        acts("batch-negative", &["(drop (call $len (i32.const -1)))"]).fails("unknown handle index"),
        // In the second call of an instance, when the handle of that one has been given back.
        acts(
            "batch-of-the-call-before",
            &[
                "(if (global.get $kept) (then",
                DROP,
                "(drop (call $len (global.get $kept)))))",
                "(global.set $kept (local.get $batch))",
            ],
        )
        .delivers(&["unknown handle index"]),
        raw("allocator-calls-host", &[(
            "definitions",
            "(elem (table $table) (i32.const 0) func $again) (func $again (call $get-all (i32.const 2048)))",
        ), ("allocator", "(call_indirect (type $act) (i32.const 0))"), ("events", ALL)])
        .fails("cannot leave component instance"),
        raw("allocator-lies", &[("allocator", "(return (i32.const -8))"), ("events", ALL)]).fails("beyond end of memory"),
        raw("allocator-dies", &[("allocator", "(unreachable)"), ("events", ALL)]).fails("wasm `unreachable` instruction executed"),
        raw("after-answer-calls-host", &[("published", LOG)]).fails("cannot leave component instance"),
        raw("after-answer-dies", &[("published", "(unreachable)")]).fails("wasm `unreachable` instruction executed"),
        raw(
            "calls-host-before-it-lives",
            &[("definitions", &format!("(func $begin {LOG}) (start $begin)"))],
        )
        .delivers(&["info: key"]),
        raw("dies-before-it-lives", &[("definitions", "(func $begin (unreachable)) (start $begin)")])
            .fails("wasm `unreachable` instruction executed"),
        guest("trap").fails("trapped: wasm `unreachable` instruction executed"),
        guest("panic").fails("it panics on purpose"),
        guest("exit").fails("exited with status 1"),
        guest("exit-well").config("do = \"exit\", code = 0").fails("exited with status 0"),
        guest("exit-start").fails("exited with status"),
        guest("stderr").fails("its last words on stderr"),
        guest("trap-start").fails("wasm `unreachable` instruction executed"),
        guest("trap-flush").falters("wasm `unreachable` instruction executed"),
        guest("start-error").fails("refused to start: it refuses to start"),
        guest("flush-error").falters("it never flushes"),
        // What follows a trap goes to a fresh instance.
        guest("trap-nth").with("n = 2").delivers(&["wasm `unreachable` instruction executed"]),
        guest("retry-first").with("n = 2").delivers(&[]),
    ]
}
