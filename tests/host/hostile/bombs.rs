//! Small files that would make much of themselves: for the compiler, or for whoever instantiates them.

use super::case::{Case, file, made_of};

pub fn cases() -> Vec<Case> {
    let globals = "(global (mut i64) (i64.const 1))".repeat(50_000);
    let instances = "(core instance (instantiate $bomb))".repeat(200);
    let step = "(local.set 0 (i64.mul (local.get 0) (i64.const 3)))";
    let long =
        format!("(func (export \"long\") (param i64) (result i64) {} (local.get 0))", step.repeat(60_000));
    let deep = format!("(func (export \"deep\") {}{})", "(block ".repeat(20_000), ")".repeat(20_000));
    let wide =
        format!("(func (export \"wide\") (param i32) (br_table {} (local.get 0)))", "0 ".repeat(500_000));
    let locals =
        "(func (local i64 i64 i64 i64 i64 i64 i64 i64 i64 i64))".replace("i64", &"i64 ".repeat(4_000));
    vec![
        file(
            "globals-by-instance",
            made_of("raw.wat", &[("instances", &format!("(core module $bomb {globals}){instances}"))]),
        )
        .fails("instances of modules of up to 50000 functions and globals"),
        file("one-long-function", made_of("raw.wat", &[("definitions", &long)])).delivers(&[]),
        file("one-deep-function", made_of("raw.wat", &[("definitions", &deep)])).delivers(&[]),
        file("one-wide-table", made_of("raw.wat", &[("definitions", &wide)]))
            .fails("which exceeds the implementation limit of 65520"),
        file("functions-of-many-locals", made_of("raw.wat", &[("definitions", &locals.repeat(20))]))
            .delivers(&[]),
    ]
}
