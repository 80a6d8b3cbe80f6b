//! It computes, or waits, for ever.

use super::case::{Case, SPUN, WAITING, guest, raw};

const LATE: &str = "ran past its call timeout of 2s";
const SPIN: &str = "(loop $on (br $on))";

pub fn cases() -> Vec<Case> {
    vec![
        guest("spin").spins(),
        guest("spin-operations").computing().falters(SPUN),
        guest("spin-start").spins(),
        guest("spin-flush").computing().falters(SPUN),
        guest("spin-encode").spins(),
        guest("spin-records").spins(),
        guest("spin-columns").spins(),
        guest("spin-config").spins(),
        guest("spin-log").spins(),
        guest("spin-random").spins(),
        guest("spin-clock").spins(),
        // Some machines call that waiting, some computing: the host's clock ticks in milliseconds.
        guest("spin-poll")
            .computing()
            .limits("cpu_per_call = \"150ms\", call_timeout = \"2s\", memory = \"16MiB\"")
            .fails("ran past its c"),
        guest("spin-recursion").spins(),
        guest("spin-memory").spins(),
        raw("spin-instantiate", &[("definitions", "(func $begin (loop $on (br $on))) (start $begin)")])
            .spins(),
        // The host asks for room to put its answer, and never gets it.
        raw("spin-allocator", &[("allocator", SPIN), ("events", "(call $get-all (i32.const 2048))")]).spins(),
        raw("spin-after-answer", &[("published", SPIN)]).spins(),
        raw("spin-grow-refused", &[("events", "(loop $on (drop (memory.grow (i32.const 60000))) (br $on))")])
            .spins(),
        raw(
            "spin-bulk-copies",
            &[(
                "events",
                "(loop $on (memory.copy (i32.const 0) (i32.const 8) (i32.const 4194000)) (br $on))",
            )],
        )
        .spins(),
        guest("sleep").with("ms = 3600000").limits(WAITING).fails(LATE),
        guest("sleep-start").with("ms = 3600000").limits(WAITING).fails(LATE),
        guest("sleep-flush").with("ms = 3600000").limits(WAITING).falters(LATE),
        guest("sleep-for-ever").limits(WAITING).fails(LATE),
        guest("sleep-in-bits").limits(WAITING).fails(LATE),
        guest("wait-on-stdin").delivers(&["wait-on-stdin: denied"]),
    ]
}
