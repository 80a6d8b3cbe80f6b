//! What a guest says: log lines, and what it writes to its standard output and error.
//!
//! Invariant: it is bounded in length and in rate, holds no control character when it reaches the host's log, and
//! what was left out is counted and said.

use crate::config::Secrets;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

/// The longest line that reaches the log, in bytes.
const MAX_LINE: usize = 8 << 10;
/// How many seconds' worth of lines may come at once.
const BURST: f64 = 10.0;
/// How much may be written at once.
const MAX_WRITE: usize = 64 << 10;
/// How many lines reports show, and how much of each.
const RECENT: usize = 20;
const RECENT_LENGTH: usize = 512;
/// How much of the end of standard error is kept for the message of a trap.
const TAIL: usize = 2 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The lines of one plugin, of all its instances.
pub(super) struct Lines {
    label: Arc<str>,
    secrets: Secrets,
    /// Lines a second, in the long run.
    rate: f64,
    state: Mutex<State>,
}

struct State {
    allowance: f64,
    since: Instant,
    /// All that were left out, and those that the log has not been told of.
    dropped: u64,
    untold: u64,
    recent: VecDeque<String>,
}

impl Lines {
    pub(super) fn new(label: Arc<str>, secrets: Secrets, rate: u32) -> Self {
        let rate = f64::from(rate);
        let state = State {
            allowance: rate * BURST,
            since: Instant::now(),
            dropped: 0,
            untold: 0,
            recent: VecDeque::new(),
        };
        Self { label, secrets, rate, state: Mutex::new(state) }
    }

    /// Says a line, if the plugin has not said too many.
    pub(super) fn say(&self, severity: Severity, text: &str) {
        let Some(untold) = self.admit() else { return };
        if untold > 0 {
            self.emit(
                Severity::Warn,
                &format!("{untold} lines were left out: it logs more than {} a second", self.rate),
            );
        }
        let line = clean(&self.secrets.redact(text), MAX_LINE);
        self.emit(severity, &line);
        let mut state = self.state.lock();
        if state.recent.len() >= RECENT {
            state.recent.pop_front();
        }
        let shown = line.get(..line.floor_char_boundary(RECENT_LENGTH)).unwrap_or_default();
        state.recent.push_back(format!("{}: {shown}", severity.as_str()));
    }

    /// Says the beginning of a line whose rest was not kept.
    fn say_cut(&self, severity: Severity, text: &str) {
        self.say(severity, &self.secrets.redact_cut(text));
    }

    /// `text` as it may be shown: no longer than a line of a report, and without what is secret.
    pub(super) fn shown(&self, text: &str) -> String {
        clean(&self.secrets.redact(text), RECENT_LENGTH)
    }

    /// The last lines, the oldest first.
    pub(super) fn recent(&self) -> Vec<String> {
        self.state.lock().recent.iter().cloned().collect()
    }

    /// How many lines were left out.
    pub(super) fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Whether one more line may be said; then how many were left out before it.
    fn admit(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let earned = now.duration_since(state.since).as_secs_f64() * self.rate;
        state.since = now;
        state.allowance = (state.allowance + earned).min(self.rate * BURST);
        if state.allowance < 1.0 {
            state.dropped += 1;
            state.untold += 1;
            return None;
        }
        state.allowance -= 1.0;
        Some(std::mem::take(&mut state.untold))
    }

    fn emit(&self, severity: Severity, line: &str) {
        let label = &*self.label;
        match severity {
            Severity::Trace => tracing::trace!(target: "pressroom::plugin", label, "{line}"),
            Severity::Debug => tracing::debug!(target: "pressroom::plugin", label, "{line}"),
            Severity::Info => tracing::info!(target: "pressroom::plugin", label, "{line}"),
            Severity::Warn => tracing::warn!(target: "pressroom::plugin", label, "{line}"),
            Severity::Error => tracing::error!(target: "pressroom::plugin", label, "{line}"),
        }
    }
}

/// `text` without control characters, which could forge lines or drive a terminal, and no longer than `most`.
pub(super) fn clean(text: &str, most: usize) -> String {
    let kept = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
    let mut line = String::with_capacity(kept.len());
    for letter in kept.trim_end().chars() {
        if letter == '\t' || !letter.is_control() {
            line.push(letter);
        } else {
            line.extend(letter.escape_default());
        }
    }
    if kept.len() < text.len() {
        line.push_str(&format!("… (cut, was {} bytes)", text.len()));
    }
    line
}

/// Standard output or error of one instance: said line by line, and the end of it kept.
#[derive(Clone)]
pub(super) struct Stdio {
    lines: Arc<Lines>,
    severity: Severity,
    buffer: Arc<Mutex<Buffer>>,
}

#[derive(Default)]
struct Buffer {
    line: Vec<u8>,
    tail: VecDeque<u8>,
}

impl Stdio {
    pub(super) fn new(lines: Arc<Lines>, severity: Severity) -> Self {
        Self { lines, severity, buffer: Arc::default() }
    }

    /// The end of what was written, for the message of a trap.
    pub(super) fn tail(&self) -> String {
        let (bytes, is_cut) = {
            let buffer = self.buffer.lock();
            (Vec::from(buffer.tail.clone()), buffer.tail.len() >= self.kept(TAIL))
        };
        let text = String::from_utf8_lossy(&bytes);
        let text = self.lines.secrets.redact(&text);
        // Where it was cut its beginning may be the rest of a secret.
        let begin =
            if is_cut { text.ceil_char_boundary(self.lines.secrets.longest().min(text.len())) } else { 0 };
        let text = text.get(begin..).unwrap_or_default();
        // What Rust's runtime adds to every panic tells nobody anything here.
        let telling =
            |line: &&str| !line.trim().is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE");
        clean(&text.lines().filter(telling).collect::<Vec<_>>().join(" | "), TAIL * 2)
    }

    /// Forgets what was written: what comes now belongs to another call.
    pub(super) fn clear(&self) {
        let mut buffer = self.buffer.lock();
        buffer.line.clear();
        buffer.tail.clear();
    }

    /// So much is kept where `shown` bytes are to be shown: a secret that is cut is not found any more.
    fn kept(&self, shown: usize) -> usize {
        shown + self.lines.secrets.longest().min(MAX_WRITE)
    }

    fn take(&self, bytes: &[u8]) {
        let mut buffer = self.buffer.lock();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = self.kept(MAX_LINE + 1).saturating_sub(buffer.line.len());
            buffer.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if piece.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&buffer.line);
                if buffer.line.len() < self.kept(MAX_LINE + 1) {
                    self.lines.say(self.severity, &line);
                } else {
                    self.lines.say_cut(self.severity, &line);
                }
                buffer.line.clear();
            }
        }
        let kept = self.kept(TAIL);
        let end = bytes.get(bytes.len().saturating_sub(kept)..).unwrap_or(bytes);
        buffer.tail.extend(end);
        let excess = buffer.tail.len().saturating_sub(kept);
        buffer.tail.drain(..excess);
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        // Written at once rather than through a task, so that the last words before a trap are there.
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdio {
    async fn ready(&mut self) {}
}

impl OutputStream for Stdio {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        // `check_write` has told it.
        if bytes.len() > MAX_WRITE {
            return Err(StreamError::trap(
                "wrote more at once to its standard output than it was told it may",
            ));
        }
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(MAX_WRITE)
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.get(..MAX_WRITE).unwrap_or(bytes);
        self.take(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, MAX_LINE, RECENT, RECENT_LENGTH, Severity, Stdio, TAIL, clean};
    use std::sync::Arc;

    const RATE: u32 = 100;

    #[test]
    fn a_line_cannot_forge_another() {
        assert_eq!(clean("a\nERROR b\u{1b}[2J\tc\n", 100), "a\\nERROR b\\u{1b}[2J\tc");
        assert_eq!(clean("ééé", 3), "é… (cut, was 6 bytes)");
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let lines = Lines::new("loud".into(), crate::config::Secrets::default(), RATE);
        let long = "x".repeat(MAX_LINE * 2);
        let said = 5_000;
        for _ in 0..said {
            lines.say(Severity::Trace, &long);
        }
        // What is earned while this runs is let through as well.
        assert!(lines.dropped() <= said - u64::from(RATE) * 10 && lines.dropped() > 0, "{}", lines.dropped());
        assert_eq!(lines.recent().len(), RECENT);
        assert!(lines.recent()[0].len() < 1_000);
    }

    #[test]
    fn what_is_written_becomes_lines_and_the_end_is_kept() {
        let lines = Arc::new(Lines::new("writer".into(), crate::config::Secrets::default(), RATE));
        let stdio = Stdio::new(lines.clone(), Severity::Warn);
        stdio.take(b"first\nsec");
        stdio.take(b"ond\nrest");
        assert_eq!(lines.recent(), ["warn: first", "warn: second"]);
        assert_eq!(stdio.tail(), "first | second | rest");
        stdio.take(b"\n\nnote: run with `RUST_BACKTRACE=1` to see more\n");
        assert_eq!(stdio.tail(), "first | second | rest");
        stdio.take(&vec![b'y'; 1 << 20]);
        assert_eq!(stdio.tail(), "y".repeat(TAIL));
        assert!(stdio.buffer.lock().line.len() <= MAX_LINE + 1);
    }

    #[test]
    fn no_cut_shows_a_part_of_a_secret() {
        let secrets = crate::config::Secrets::default().with(["hunter2-hunter2".to_owned()]);
        let lines = Arc::new(Lines::new("leaky".into(), secrets, 10_000));
        let stdio = Stdio::new(lines.clone(), Severity::Warn);
        for at in (RECENT_LENGTH - 20..RECENT_LENGTH + 5).chain(MAX_LINE - 20..MAX_LINE + 5) {
            let line = format!("{}hunter2-hunter2{}", "x".repeat(at), "y".repeat(MAX_LINE));
            lines.say(Severity::Info, &line);
            stdio.take(format!("{line}\n").as_bytes());
            assert!(!lines.recent().concat().contains("hun"), "{at}");
        }
        stdio.clear();
        for at in TAIL - 20..TAIL + 5 {
            stdio.take(format!("hunter2-hunter2{}", "z".repeat(at)).as_bytes());
            let tail = stdio.tail();
            assert!(tail.contains('z') && !tail.contains("ter2"), "{at}");
        }
    }
}
