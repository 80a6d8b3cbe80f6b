//! What it answers is not so, or is no answer.

use super::case::{Case, guest, raw};

/// The host answers with an error whose text is the memory's from 32 on.
const REJECTS: &str = "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 24) (i32.const 1))";

/// It lists one row, which is described from 8192 on, and rejects it.
const ROW: &str = "(i32.store (i32.const 24) (i32.const 8192)) (i32.store (i32.const 28) (i32.const 1)) \
    (i32.store8 (i32.const 8200) (i32.const 1))";

fn answers(name: &'static str, lines: &[&str]) -> Case {
    raw(name, &[("events", &lines.join("\n"))])
}

pub fn cases() -> Vec<Case> {
    vec![
        guest("rows-out-of-range").config("do = \"lie-rows\"").sets_aside("a lie"),
        guest("rows-by-the-thousand")
            .config("do = \"many-rows\", n = 1000")
            .sets_aside("metrics` answered `reject` with an empty text"),
        guest("reject-all").sets_aside("it rejects everything"),
        guest("hold").fails("it wants to be mended"),
        guest("retry-all").fails("not now"),
        guest("retry-in-an-eternity")
            .config("do = \"retry-all\", after_ms = \"18446744073709551615\"")
            .fails("not now"),
        guest("row-in-an-eternity")
            .config("do = \"retry-row\", after_ms = \"18446744073709551615\"")
            .falters("this row later"),
        answers(
            "retry-at-once",
            &[
                "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 32) (i32.const 1024))",
                "(i32.store (i32.const 36) (i32.const 10)) (i32.store8 (i32.const 40) (i32.const 1))",
            ],
        )
        .fails("json-lines"),
        answers(
            "text-not-utf8",
            &[
                REJECTS,
                "(i32.store (i32.const 32) (i32.const 1040)) (i32.store (i32.const 36) (i32.const 4))",
            ],
        )
        .fails("utf-8"),
        answers(
            "text-beyond-memory",
            &[REJECTS, "(i32.store (i32.const 32) (i32.const -16)) (i32.store (i32.const 36) (i32.const 8))"],
        )
        .fails("out of bounds"),
        answers(
            "text-of-four-gigabytes",
            &[REJECTS, "(i32.store (i32.const 32) (i32.const 64)) (i32.store (i32.const 36) (i32.const -1))"],
        )
        .fails("out of bounds"),
        answers(
            "row-text-not-utf8",
            &[
                ROW,
                "(i32.store (i32.const 8208) (i32.const 1040)) (i32.store (i32.const 8212) (i32.const 4))",
            ],
        )
        .fails("utf-8"),
        answers(
            "row-text-beyond-memory",
            &[ROW, "(i32.store (i32.const 8208) (i32.const -16)) (i32.store (i32.const 8212) (i32.const 4))"],
        )
        .fails("out of bounds"),
        answers("row-of-no-fate", &[ROW, "(i32.store8 (i32.const 8200) (i32.const 7))"])
            .fails("unexpected discriminant: 7"),
        answers(
            "row-perhaps-later",
            &[ROW, "(i32.store8 (i32.const 8200) (i32.const 0)) (i32.store8 (i32.const 8216) (i32.const 9))"],
        )
        .fails("invalid option discriminant"),
        answers(
            "list-beyond-memory",
            &["(i32.store (i32.const 24) (i32.const -64)) (i32.store (i32.const 28) (i32.const 1))"],
        )
        .fails("out of bounds"),
        answers(
            "list-of-four-billion",
            &["(i32.store (i32.const 24) (i32.const 64)) (i32.store (i32.const 28) (i32.const -1))"],
        )
        .fails("out of bounds"),
        answers(
            "list-unaligned",
            &["(i32.store (i32.const 24) (i32.const 8193)) (i32.store (i32.const 28) (i32.const 1))"],
        )
        .fails("not aligned"),
        answers(
            "answer-beyond-memory",
            &["(call $drop-events (local.get $batch)) (return (i32.const 4194296))"],
        )
        .fails("out of bounds"),
        answers("answer-unaligned", &["(call $drop-events (local.get $batch)) (return (i32.const 17))"])
            .fails("not aligned"),
        answers("answer-of-neither-kind", &["(i32.store8 (i32.const 16) (i32.const 7))"])
            .fails("invalid expected discriminant"),
        answers("error-of-no-kind", &[REJECTS, "(i32.store8 (i32.const 24) (i32.const 9))"])
            .fails("unexpected discriminant: 9"),
        answers("log-not-utf8", &["(call $log (i32.const 2) (i32.const 1040) (i32.const 4))"]).fails("utf-8"),
        answers("log-beyond-memory", &["(call $log (i32.const 2) (i32.const -16) (i32.const 4))"])
            .fails("out of bounds"),
        answers("log-of-no-level", &["(call $log (i32.const 99) (i32.const 1056) (i32.const 3))"])
            .fails("unexpected discriminant: 99"),
        answers("key-not-utf8", &["(call $get (i32.const 1040) (i32.const 4) (i32.const 2048))"])
            .fails("utf-8"),
        answers(
            "format-not-utf8",
            &["(call $encode (local.get $batch) (i32.const 1040) (i32.const 4) (i32.const 2048))"],
        )
        .fails("utf-8"),
        answers("result-beyond-memory", &["(call $get-all (i32.const 4194300))"]).fails("out of bounds"),
        answers("result-unaligned", &["(call $get-all (i32.const 2049))"]).fails("not aligned"),
    ]
}
