//! One guest for many tests: the setting `do` says how it behaves. Every behaviour does the thing for real.
//!
//! | `do` | what it does | settings |
//! | --- | --- | --- |
//! | `count-records`, `count-columns` | reads every field by that view | |
//! | `count-encode` | asks for the rendered bytes | `format` (`json-lines`) |
//! | `once` (default) | counts rows, as a well-behaved plugin does | |
//! | `reject-row`, `retry-row` | leaves out row `row` of every batch | `row` (0), `after_ms` |
//! | `retry-first` | retries the first `n` calls, then counts | `n` (1), `after_ms` |
//! | `retry-all`, `reject-all`, `hold` | answers so to every batch | `after_ms` |
//! | `reject-poison` | rejects alone, as a batch, whatever holds an event named `poison` | |
//! | `trap-poison`, `spin-poison` | traps, computes for ever on a batch that holds an event named `poison` | |
//! | `spin`, `spin-start`, `spin-flush` | computes for ever | |
//! | `spin-encode`, `spin-log`, `spin-config` | calls the host for ever | `format` |
//! | `spin-…`, `sleep-…`, `wait-…` and others of [`spin`] | computes, calls the host or waits in one more way | |
//! | what is in [`leak`] | makes the host hold things: handles, lines, texts | `n`, `bytes` |
//! | what is in [`paths`] | leaves a granted directory, or writes where it may only read | `dir` (`/in`), `path` |
//! | `trap`, `panic`, `exit`, `stderr` | dies: an `unreachable`, a panic, an exit, a panic after a line on stderr | `code` (1) |
//! | `trap-start`, `trap-flush`, `trap-nth` | dies in `start`, in `flush`, in every `n`-th call of an instance | `n` (3) |
//! | `memory-bomb`, `stack-overflow` | eats all there is | |
//! | `grow` | keeps `bytes` more with every call | `bytes` (1 MiB) |
//! | `log-flood`, `huge-log` | logs for ever; logs one line of `bytes` | `bytes` (32 MiB) |
//! | `lie-rows` | leaves out rows that are out of range, and one row twice | |
//! | `many-rows` | leaves out `n` rows | `n` (1,000,000) |
//! | `giant-error` | an error of `bytes` | `bytes` (32 MiB) |
//! | `forged-…` | an error, a panic, that would write a line of the host's log | |
//! | `secret-in-…` | says a setting that the configuration keeps secret | `secret` |
//! | `start-error`, `flush-error` | refuses to start; never flushes | `reason` |
//! | `nap` | waits `n` times, computing next to nothing between | `n` (3), `ms` (1,000) |
//! | `held` | calls one import of the host again and again, and keeps what it hands out | `import`, `url` |
//! | `blank` | answers `answer` to every batch, with the reason `reason` | `answer` (`hold`), `reason` (empty) |
//! | `trap-operations` | dies of every network operation; keeps events until `flush` | |
//! | `flush-poison` | dies in `flush` after a batch that held an event named `poison` | |
//! | `sleep`, `sleep-start`, `sleep-flush` | waits on the host's clock, computing nothing | `ms` (1,000) |
//! | `open-file` | opens and reads `path` | `path` (`/etc/passwd`) |
//! | `write-file` | writes `path` | `path` (`/out/hostile`) |
//! | `open-many` | opens `path` for ever and keeps it open | `path` |
//! | `sparse-file` | makes `path` `bytes` long | `path`, `bytes` (1 TiB) |
//! | `read-env` | reads every variable and argument | |
//! | `sockets` | connects, listens, sends and resolves | `address` (`127.0.0.1:9`) |
//!
//! Whatever asks for what was not granted logs one line per try, `WHAT: denied (why)` or `WHAT: got IT`, and then
//! counts the batch as published. Those that count log, at every flush, what this instance has seen so far:
//! `rows=1024 events=1000 operations=24 bytes=56789`, where `bytes` is what the view handed over, texts and numbers.

// It speaks WASI by itself: natively there is nothing of it.
#![cfg(target_arch = "wasm32")]

mod ask;
mod count;
mod die;
mod held;
mod http;
mod leak;
mod paths;
mod requests;
mod spin;

use pressroom_plugin::{
    EventBatch, NetworkBatch, PublishError, PublishResult, Publisher, Unpublished, config, info,
};
use std::time::Duration;

/// A batch of either kind: nearly every behaviour is the same for both.
pub(crate) enum Batch<'a, 'b> {
    Events(&'a EventBatch<'b>),
    Operations(&'a NetworkBatch<'b>),
}

impl Batch<'_, '_> {
    fn len(&self) -> usize {
        match self {
            Self::Events(events) => events.len(),
            Self::Operations(operations) => operations.len(),
        }
    }

    fn holds_poison(&self) -> bool {
        match self {
            Self::Events(events) => events.rows().any(|event| event.event_name() == "poison"),
            Self::Operations(_) => false,
        }
    }
}

struct Hostile {
    behaviour: String,
    calls: usize,
    seen: count::Seen,
    kept: Vec<Vec<u8>>,
    poisoned: bool,
}

impl Hostile {
    fn start() -> Result<Self, String> {
        let behaviour = config::get("do").unwrap_or_else(|| "once".to_owned());
        match behaviour.as_str() {
            "start-error" => return Err(text("reason", "it refuses to start")),
            "blank" if text("answer", "") == "start" => return Err(text("reason", "")),
            "spin-start" => die::spin(),
            "trap-start" => die::trap(),
            "sleep-start" => sleep()?,
            "exit-start" => die::exit(0),
            "secret-in-refusal" => return Err(secret()),
            _ => {}
        }
        Ok(Self { behaviour, calls: 0, seen: count::Seen::default(), kept: Vec::new(), poisoned: false })
    }

    fn publish(&mut self, batch: &Batch<'_, '_>) -> PublishResult {
        self.calls += 1;
        match self.behaviour.as_str() {
            "count-records" => self.seen.records(batch),
            "count-columns" => self.seen.columns(batch),
            "count-encode" => self.seen.encoded(batch)?,
            "reject-row" | "retry-row" => return self.leave_out(batch),
            "retry-first" if self.calls <= number("n", 1)? => return Err(retry()?),
            "retry-all" => return Err(retry()?),
            "reject-all" => return Err(PublishError::reject("it rejects everything")),
            "hold" => return Err(PublishError::hold("it wants to be mended")),
            "reject-poison" if batch.holds_poison() => return Err(PublishError::reject("poison")),
            "trap-poison" if batch.holds_poison() => die::trap(),
            "spin-poison" if batch.holds_poison() => die::spin(),
            "spin" => die::spin(),
            "spin-encode" => die::spin_encode(batch),
            "spin-config" => die::spin_config(),
            "spin-log" | "log-flood" => die::log_flood(),
            "trap" => die::trap(),
            "panic" => die::panic(),
            "exit" => die::exit(number("code", 1)?),
            "stderr" => die::stderr(),
            "trap-nth" if self.calls.is_multiple_of(number("n", 3)?) => die::trap(),
            "memory-bomb" => die::memory_bomb(),
            "stack-overflow" => die::stack_overflow(),
            "grow" => self.kept.push(vec![1; number("bytes", 1 << 20)?]),
            "huge-log" => die::huge_log(number("bytes", 32 << 20)?),
            "lie-rows" => {
                return Ok([0, 0, batch.len(), usize::MAX]
                    .map(|row| Unpublished::reject(row, "a lie"))
                    .into());
            }
            "many-rows" => {
                let rows = 0..number("n", 1_000_000)?;
                return Ok(rows.map(|row| Unpublished::reject(row, "")).collect());
            }
            "forged-error" => return Err(PublishError::retry(FORGED)),
            "forged-panic" => die::panic_with(FORGED),
            "secret-in-log" => info!("{}", secret()),
            "secret-in-error" => return Err(PublishError::hold(secret())),
            "secret-in-reject" => return Err(PublishError::reject(secret())),
            "secret-in-row" => return Ok(vec![Unpublished::reject(0, secret())]),
            "secret-in-panic" => die::panic_with(&secret()),
            "giant-error" => return Err(PublishError::retry("x".repeat(number("bytes", 32 << 20)?))),
            "nap" => {
                for _ in 0..number("n", 3)? {
                    sleep().map_err(PublishError::hold)?;
                }
            }
            // Once, for what it holds adds up; both kinds of batch have views.
            "held" if self.calls > 1 && !text("import", "").starts_with("pressroom:") => {}
            "held" => held::hold(batch)?,
            "blank" if text("answer", "") != "flush" => return blank(),
            "blank" => {}
            "trap-operations" if matches!(batch, Batch::Operations(_)) => die::trap(),
            "trap-operations" => {}
            "flush-poison" => self.poisoned |= batch.holds_poison(),
            "sleep" => sleep().map_err(PublishError::hold)?,
            "open-file" => ask::open_file(&text("path", "/etc/passwd")),
            "write-file" => ask::write_file(&text("path", "/out/hostile")),
            "open-many" => ask::open_many(&text("path", "/out")),
            "sparse-file" => ask::sparse_file(&text("path", "/out/hostile"), number("bytes", 1 << 40)?),
            "read-env" => ask::environment(),
            "sockets" => ask::sockets(&text("address", "127.0.0.1:9")),
            other if other.starts_with("requests") => requests::publish(other)?,
            other if other.starts_with("http") => http::publish(other, batch)?,
            other => {
                spin::act(other, batch);
                leak::act(other, batch)?;
                paths::act(other);
            }
        }
        self.seen.rows(batch);
        Ok(Vec::new())
    }

    fn leave_out(&mut self, batch: &Batch<'_, '_>) -> PublishResult {
        self.seen.rows(batch);
        let row = number("row", 0)?;
        if row >= batch.len() {
            return Ok(Vec::new());
        }
        Ok(vec![match (self.behaviour.as_str(), after()?) {
            ("reject-row", _) => Unpublished::reject(row, "this row never"),
            (_, Some(after)) => Unpublished::retry_after(row, "this row later", after),
            (_, None) => Unpublished::retry(row, "this row later"),
        }])
    }
}

impl Publisher for Hostile {
    fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.publish(&Batch::Events(events))
    }

    fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.publish(&Batch::Operations(operations))
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        match self.behaviour.as_str() {
            "flush-error" => return Err(PublishError::retry(text("reason", "it never flushes"))),
            "spin-flush" => die::spin(),
            "trap-flush" => die::trap(),
            "blank" if text("answer", "") == "flush" => {
                return Err(PublishError::retry(text("reason", "")));
            }
            "flush-poison" if self.poisoned => die::trap(),
            "sleep-flush" => sleep().map_err(PublishError::hold)?,
            _ => {}
        }
        info!("{}", self.seen);
        Ok(())
    }
}

/// What would be a line of the host's log, where it got there as it is.
const FORGED: &str = "not now\nERROR forged: all is lost\u{1b}[2J";

fn secret() -> String {
    format!("my secret is {}", text("secret", "not told"))
}

pub(crate) fn text(key: &str, default: &str) -> String {
    config::get(key).unwrap_or_else(|| default.to_owned())
}

pub(crate) fn number<T: std::str::FromStr<Err: std::fmt::Display>>(
    key: &str,
    default: T,
) -> Result<T, PublishError> {
    config::parse(key, default).map_err(PublishError::hold)
}

fn after() -> Result<Option<Duration>, PublishError> {
    let ms: u64 = number("after_ms", 0)?;
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

fn retry() -> Result<PublishError, PublishError> {
    Ok(match after()? {
        Some(after) => PublishError::retry_after("not now", after),
        None => PublishError::retry("not now"),
    })
}

/// An answer that gives no reason.
fn blank() -> PublishResult {
    let reason = text("reason", "");
    Err(match text("answer", "hold").as_str() {
        "retry" => PublishError::retry(reason),
        "reject" => PublishError::reject(reason),
        "row" => return Ok(vec![Unpublished::reject(0, reason)]),
        _ => PublishError::hold(reason),
    })
}

fn sleep() -> Result<(), String> {
    std::thread::sleep(Duration::from_millis(config::parse("ms", 1_000)?));
    Ok(())
}

pressroom_plugin::export!(Hostile, Hostile::start);
