//! The log of a running host, on standard error.
//!
//! Invariants: nothing that writes to it waits for whoever reads it (`output/log.rs`), not even a panic; and what came from
//! outside cannot steer a terminal or break a line.

use super::Failure;
use crate::output::escape;
use crate::output::log::Log;
use crate::record::Timestamp;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;

/// How long an exit waits for a reader of the log.
const PATIENCE: Duration = Duration::from_secs(2);

static LOG: OnceLock<Log> = OnceLock::new();

/// Sends the log to standard error: what `RUST_LOG` asks for, else `level`, and of the compiler of plugins warnings.
pub(super) fn start(level: &str) -> Result<(), Failure> {
    let asked = std::env::var("RUST_LOG").ok().filter(|asked| !asked.is_empty());
    let directives = asked.unwrap_or_else(|| {
        let quiet =
            ["wasmtime", "cranelift_codegen", "regalloc2", "hyper", "hyper_util", "reqwest", "notify"];
        quiet.iter().fold(level.to_owned(), |all, noisy| all + "," + noisy + "=warn")
    });
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| Failure::wrong(format!("RUST_LOG={directives} cannot be read: {error}")))?;
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let stamp = move || {
        let now = Timestamp::now();
        if colours { format!("\u{1b}[2m{now}\u{1b}[0m ") } else { format!("{now} ") }
    };
    let log = Log::start(standard_error(), Box::new(stamp))?;
    // A subscriber that an embedder has set stays.
    let _ = subscriber(log.clone(), filter, colours);
    // The hook that the standard library has waits for whoever reads standard error, while it holds its lock.
    std::panic::set_hook(Box::new(|panic| tracing::error!("a panic, please report it: {panic}")));
    let _ = LOG.set(log);
    Ok(())
}

fn subscriber(
    log: Log,
    filter: EnvFilter,
    colours: bool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines(log))
        .with_ansi(colours)
        .with_target(false)
        // The log puts it before each line: lines that differ in it alone repeat.
        .without_time()
        .compact()
        .fmt_fields(fields())
        .try_init()
}

/// Fields as `tracing-subscriber` writes them, and escaped.
fn fields() -> impl for<'w> tracing_subscriber::fmt::FormatFields<'w> + Send + Sync + 'static {
    debug_fn(|out, field, value| {
        let text = format!("{value:?}");
        match field.name() {
            "message" => write!(out, "{}", escape::line(&text)),
            name => write!(out, "{name}={}", escape::line(&text)),
        }
    })
    .delimited(" ")
}

/// Prints `text` behind what the log has, or on standard error where there is no log.
pub(super) fn last_words(text: &str) -> io::Result<()> {
    let Some(log) = LOG.get() else { return super::write_to(&mut io::stderr().lock(), text.as_bytes()) };
    log.last_words(text);
    Ok(())
}

/// Waits until the log is written, for a bounded time.
pub(super) fn flush() {
    if let Some(log) = LOG.get() {
        log.flush(PATIENCE);
    }
}

/// Standard error without its lock: whatever takes that would wait as long as the log does.
#[cfg(unix)]
fn standard_error() -> Box<dyn Write + Send> {
    use std::os::fd::AsFd;
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(std::fs::File::from(descriptor)),
        Err(_) => Box::new(io::stderr()),
    }
}

#[cfg(not(unix))]
fn standard_error() -> Box<dyn Write + Send> {
    Box::new(io::stderr())
}

struct Lines(Log);

/// Takes one line, whole.
struct Line<'a> {
    log: &'a Log,
    throttled: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { log: &self.0, throttled: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        // A plugin's lines have a bound of their own; and whoever asks for more than usual wants to see it.
        let throttled = *meta.level() <= Level::INFO && meta.target() != "pressroom::plugin";
        Line { log: &self.0, throttled }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.log.line(&String::from_utf8_lossy(line), self.throttled);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
