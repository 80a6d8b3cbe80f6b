//! The ways that end an instance, would never end, or hand over too much.

use crate::Batch;
use pressroom_plugin::bindings::pressroom::publisher::log::{Level, log};
use pressroom_plugin::{Format, config, info};
use std::hint::black_box;

pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Calls the host for ever, which renders, if it does, once.
pub fn spin_encode(batch: &Batch<'_, '_>) -> ! {
    let name = config::get("format").unwrap_or_else(|| "json-columns".to_owned());
    loop {
        let _ = black_box(match batch {
            Batch::Events(events) => events.encode(Format::Named(&name)),
            Batch::Operations(operations) => operations.encode(Format::Named(&name)),
        });
    }
}

pub fn spin_config() -> ! {
    loop {
        black_box(config::get_all());
    }
}

pub fn log_flood() -> ! {
    let mut line = 0_u64;
    loop {
        info!("line {line} of a flood");
        line += 1;
    }
}

/// Past the macros, which would hold it twice.
pub fn huge_log(bytes: usize) {
    log(Level::Info, &"x".repeat(bytes));
}

pub fn trap() -> ! {
    std::process::abort()
}

#[allow(clippy::panic, reason = "it is what this is for")]
pub fn panic() -> ! {
    panic!("it panics on purpose")
}

#[allow(clippy::panic, reason = "it is what this is for")]
pub fn panic_with(words: &str) -> ! {
    panic!("{words}")
}

pub fn exit(code: i32) -> ! {
    std::process::exit(code)
}

#[allow(clippy::print_stderr, reason = "it is what this is for")]
pub fn stderr() -> ! {
    eprintln!("its last words on stderr");
    panic()
}

pub fn memory_bomb() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 1 << 20]));
    }
}

pub fn stack_overflow() -> ! {
    #[allow(unconditional_recursion, reason = "it is what this is for")]
    #[inline(never)]
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        deeper(depth + 1) + frame.iter().sum::<u64>()
    }
    black_box(deeper(0));
    trap()
}
