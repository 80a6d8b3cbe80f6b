//! The ways to compute or to wait for ever: on its own, by calling the host, in the host's waits.

use crate::{Batch, die};
use pressroom_plugin::info;
use std::hint::black_box;
use wasip2::cli::{stdin, stdout};
use wasip2::clocks::monotonic_clock::{now, subscribe_duration};
use wasip2::io::poll::poll;
use wasip2::random::random::get_random_bytes;

/// Does what `behaviour` says, if it is one of these.
pub fn act(behaviour: &str, batch: &Batch<'_, '_>) {
    match behaviour {
        "spin-operations" if matches!(batch, Batch::Operations(_)) => die::spin(),
        "spin-records" => loop {
            match batch {
                Batch::Events(events) => drop(black_box(events.records())),
                Batch::Operations(operations) => drop(black_box(operations.records())),
            }
        },
        "spin-columns" => loop {
            match batch {
                Batch::Events(events) => drop(black_box(events.columns())),
                Batch::Operations(operations) => drop(black_box(operations.columns())),
            }
        },
        "spin-random" => loop {
            black_box(get_random_bytes(64 << 10));
        },
        "spin-clock" => loop {
            black_box(now());
        },
        // A wait that is over before it begins.
        "spin-poll" => loop {
            black_box(poll(&[&subscribe_duration(0)]));
        },
        "spin-recursion" => {
            black_box(hanoi(black_box(80)));
        }
        "spin-memory" => {
            let mut bytes = vec![0_u8; 4 << 20];
            loop {
                black_box(&mut bytes).fill(1);
            }
        }
        "spin-stdout" => {
            let out = stdout::get_stdout();
            loop {
                let _ = out.check_write();
                let _ = out.write(&[b'x'; 4 << 10]);
            }
        }
        "sleep-for-ever" => subscribe_duration(u64::MAX).block(),
        "sleep-in-bits" => loop {
            subscribe_duration(1_000_000).block();
        },
        "wait-on-stdin" => match stdin::get_stdin().blocking_read(1 << 20) {
            Ok(bytes) => info!("wait-on-stdin: got {bytes:?}"),
            Err(error) => info!("wait-on-stdin: denied ({error})"),
        },
        _ => {}
    }
}

/// Twice as long with every level, and never deep.
fn hanoi(levels: u32) -> u64 {
    if levels == 0 { 1 } else { hanoi(black_box(levels - 1)) + hanoi(levels - 1) }
}
