//! It computes, or waits, for ever.

use super::case::{Case, WAITING, guest, raw};

const SPUN: &str = "ran past its compute bound of 150ms";
const LATE: &str = "ran past its call timeout of 2s";
const SPIN: &str = "(loop $on (br $on))";

pub fn cases() -> Vec<Case> {
    vec![
        guest("spin").fails(SPUN),
        guest("spin-operations").falters(SPUN),
        guest("spin-start").fails(SPUN),
        guest("spin-flush").falters(SPUN),
        guest("spin-encode").fails(SPUN),
        guest("spin-records").fails(SPUN),
        guest("spin-columns").fails(SPUN),
        guest("spin-config").fails(SPUN),
        guest("spin-log").fails(SPUN),
        guest("spin-random").fails(SPUN),
        guest("spin-clock").fails(SPUN),
        // The host's clock ticks in milliseconds: that is waiting, or computing, as the machine has it.
        guest("spin-poll").limits(WAITING).fails("ran past its c"),
        guest("spin-recursion").fails(SPUN),
        guest("spin-memory").fails(SPUN),
        raw("spin-instantiate", &[("definitions", "(func $begin (loop $on (br $on))) (start $begin)")])
            .fails(SPUN),
        // The host asks for room to put its answer, and never gets it.
        raw("spin-allocator", &[("allocator", SPIN), ("events", "(call $get-all (i32.const 2048))")])
            .fails(SPUN),
        raw("spin-after-answer", &[("published", SPIN)]).fails(SPUN),
        raw("spin-grow-refused", &[("events", "(loop $on (drop (memory.grow (i32.const 60000))) (br $on))")])
            .fails(SPUN),
        raw(
            "spin-bulk-copies",
            &[(
                "events",
                "(loop $on (memory.copy (i32.const 0) (i32.const 8) (i32.const 4194000)) (br $on))",
            )],
        )
        .fails(SPUN),
        guest("sleep").with("ms = 3600000").limits(WAITING).fails(LATE),
        guest("sleep-start").with("ms = 3600000").limits(WAITING).fails(LATE),
        guest("sleep-flush").with("ms = 3600000").limits(WAITING).falters(LATE),
        guest("sleep-for-ever").limits(WAITING).fails(LATE),
        guest("sleep-in-bits").limits(WAITING).fails(LATE),
        guest("wait-on-stdin").delivers(&["wait-on-stdin: denied"]),
    ]
}
