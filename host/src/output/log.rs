//! A log that never blocks whoever writes to it.
//!
//! Invariants: a thread of its own writes, so that a reader that does not read holds up nothing else. What waits for it is
//! bounded in bytes; a line beyond that is lost, counted, and told of in its place. A line that repeats is written a few
//! times, and then counted. Exit waits for a bounded time.

use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What waits to be written, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// How often a line is written within [`PERIOD`]; what comes beyond that is counted, and the count written.
const REPEATS: u32 = 5;
const PERIOD: Duration = Duration::from_secs(10);

/// How many different lines are watched for repeats, and how long a part of each is shown with its count.
const MAX_WATCHED: usize = 1_000;
const SHOWN: usize = 1_024;

static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines that were lost since the process started, because too many waited or the target took none.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// What stands before a line that is written now: the time, with a blank behind it.
pub type Stamp = Box<dyn Fn() -> String + Send + Sync>;

/// A log. Cheap to clone: a handle.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something is to be written, or something has been.
    news: Condvar,
    stamp: Stamp,
}

#[derive(Default)]
struct State {
    queue: Vec<u8>,
    /// The thread has taken something that is not written yet.
    writing: bool,
    /// Lines lost since what is in `queue`.
    lost: u64,
    /// By a hash of the line.
    watched: HashMap<u64, Repeated>,
    /// Some of them have lines to tell of.
    suppressed: bool,
}

struct Repeated {
    since: Instant,
    written: u32,
    suppressed: u64,
    line: String,
}

impl Log {
    /// A log that writes to `target`.
    ///
    /// # Errors
    ///
    /// No thread could be started.
    pub fn start(mut target: Box<dyn Write + Send>, stamp: Stamp) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), news: Condvar::new(), stamp });
        let log = Self(shared.clone());
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all(&mut *target))?;
        Ok(log)
    }

    /// Writes `line`, which ends with a newline, after the time. One that is `throttled` is not written over and over.
    pub fn line(&self, line: &str, throttled: bool) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        if throttled && !state.admits(line, now, &self.0.stamp) {
            return;
        }
        let stamp = (self.0.stamp)();
        state.push(&[&stamp, line]);
        self.0.news.notify_all();
    }

    /// Writes `text` as it is, and a newline where it has none; beyond the bound too, for it is what a process says at its end.
    pub fn last_words(&self, text: &str) {
        let mut state = self.0.state.lock();
        state.tell_of_lost(&self.0.stamp);
        let end = if text.ends_with('\n') { "" } else { "\n" };
        state.queue.extend_from_slice(text.as_bytes());
        state.queue.extend_from_slice(end.as_bytes());
        self.0.news.notify_all();
    }

    /// Returns when everything is written, or after `patience`: false then.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.0.state.lock();
        state.tell_of_repeats(&self.0.stamp, |_| true);
        self.0.news.notify_all();
        while !state.queue.is_empty() || state.writing || state.lost > 0 {
            if self.0.news.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }
}

impl Shared {
    /// Runs for as long as the process does: nothing joins it, for it may hang in `target`.
    fn write_all(&self, target: &mut dyn Write) {
        loop {
            let lines = self.next();
            if target.write_all(&lines).and_then(|()| target.flush()).is_err() {
                let lost = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                LOST.fetch_add(lost, Ordering::Relaxed);
            }
            self.state.lock().writing = false;
            self.news.notify_all();
        }
    }

    /// What is to be written next.
    fn next(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        loop {
            if state.suppressed {
                let now = Instant::now();
                state.tell_of_repeats(&self.stamp, |repeated| now - repeated.since >= PERIOD);
            }
            state.tell_of_lost(&self.stamp);
            if !state.queue.is_empty() {
                state.writing = true;
                return std::mem::take(&mut state.queue);
            }
            if state.suppressed {
                self.news.wait_for(&mut state, Duration::from_secs(1));
            } else {
                self.news.wait(&mut state);
            }
        }
    }
}

impl State {
    fn push(&mut self, parts: &[&str]) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        // What was lost must be told before anything that came later.
        if self.lost > 0 || self.queue.len() + bytes > MAX_BYTES {
            self.lost += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        parts.iter().for_each(|part| self.queue.extend_from_slice(part.as_bytes()));
    }

    /// Tells of lost lines behind what was written before them.
    fn tell_of_lost(&mut self, stamp: &Stamp) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let lines = if lost == 1 { "line" } else { "lines" };
            let told = format!("{} WARN {lost} {lines} of the log lost: the reader was too slow\n", stamp());
            self.queue.extend_from_slice(told.as_bytes());
        }
    }

    /// Whether `line` has not been written too often just now.
    fn admits(&mut self, line: &str, now: Instant, stamp: &Stamp) -> bool {
        let key = key(line);
        if let Some(repeated) = self.watched.get_mut(&key) {
            if now - repeated.since < PERIOD {
                if repeated.written < REPEATS {
                    repeated.written += 1;
                    return true;
                }
                repeated.suppressed += 1;
                self.suppressed = true;
                return false;
            }
            self.tell_of_repeats(stamp, |repeated| now - repeated.since >= PERIOD);
        } else if self.watched.len() >= MAX_WATCHED {
            self.tell_of_repeats(stamp, |repeated| now - repeated.since >= PERIOD);
        }
        if self.watched.len() < MAX_WATCHED {
            let shown =
                line.char_indices().nth(SHOWN).map_or(line, |(end, _)| line.get(..end).unwrap_or(line));
            let line = shown.trim_end().to_owned();
            // One that goes on was told of with its count just now: it does not begin anew with all its repeats.
            let written = self.watched.get(&key).map_or(1, |repeated| repeated.written);
            self.watched.insert(key, Repeated { since: now, written, suppressed: 0, line });
        }
        true
    }

    /// Tells how often the lines came that were not written, of those that are `due`, and forgets those that have stopped.
    fn tell_of_repeats(&mut self, stamp: &Stamp, due: impl Fn(&Repeated) -> bool) {
        let mut watched = std::mem::take(&mut self.watched);
        self.suppressed = false;
        watched.retain(|_, repeated| {
            if !due(repeated) {
                self.suppressed |= repeated.suppressed > 0;
                return true;
            }
            if repeated.suppressed == 0 {
                return false;
            }
            let Repeated { suppressed, line, since, .. } = repeated;
            let seconds = since.elapsed().as_secs().max(1);
            self.push(&[&stamp(), &format!("{line} ({suppressed} more like it within {seconds}s)\n")]);
            (repeated.since, repeated.suppressed, repeated.written) = (Instant::now(), 0, REPEATS);
            true
        });
        self.watched = watched;
    }
}

/// Lines of the same kind have the same: numbers that are words of their own, or values of fields, may differ.
fn key(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut before = ' ';
    let mut in_number = false;
    for c in line.chars() {
        in_number = c.is_ascii_digit() && (in_number || matches!(before, ' ' | '=' | '('));
        if !in_number {
            c.hash(&mut hasher);
        }
        before = c;
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Takes a line at a time, each when the test lets it.
    struct Slow {
        allowed: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.allowed.recv().is_err() {
                // Never again: as a pipe that nothing reads.
                loop {
                    std::thread::park();
                }
            }
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (Log, mpsc::Sender<()>, impl Fn() -> String) {
        let (allow, allowed) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let target = Box::new(Slow { allowed, written: written.clone() });
        let log = Log::start(target, Box::new(|| "now ".to_owned())).unwrap();
        (log, allow, move || String::from_utf8(written.lock().clone()).unwrap())
    }

    const PATIENCE: Duration = Duration::from_secs(120);

    #[test]
    fn a_reader_that_does_not_read_blocks_nothing_and_what_is_lost_is_counted_and_told() {
        let (log, allow, written) = log();
        let line = "x".repeat(1_023) + "\n";
        let before = lost();
        for _ in 0..5_000 {
            log.line(&line, false);
        }
        let lost = lost() - before;
        assert!((3_000..4_500).contains(&lost), "{lost}");
        assert!(log.0.state.lock().queue.len() <= MAX_BYTES);
        assert!(!log.flush(Duration::from_millis(1)), "it gives up in time");
        (0..3).for_each(|_| allow.send(()).unwrap());
        assert!(log.flush(PATIENCE));
        let text = written();
        assert_eq!(text.lines().filter(|line| line.contains("xxx")).count() as u64, 5_000 - lost);
        let told = format!("now  WARN {lost} lines of the log lost: the reader was too slow\n");
        assert!(text.ends_with(&told), "{}", &text[text.len() - 200..]);
    }

    #[test]
    fn a_line_that_repeats_is_written_a_few_times_and_then_counted() {
        let (log, allow, written) = log();
        for number in 0..1_000 {
            log.line(&format!("WARN failed, rows={number} after {number} attempts\n"), true);
        }
        for number in 0..10 {
            log.line(&format!("INFO publisher p{number} runs\n"), true);
            log.line(&format!("guest says {number}\n"), false);
        }
        (0..10).for_each(|_| allow.send(()).unwrap());
        assert!(log.flush(PATIENCE));
        let text = written();
        let failed: Vec<_> = text.lines().filter(|line| line.contains("failed")).collect();
        assert_eq!(failed.len(), REPEATS as usize + 1);
        let told = "now WARN failed, rows=0 after 0 attempts (995 more like it within 1s)";
        assert_eq!(failed.last().copied(), Some(told));
        assert_eq!(text.lines().count(), REPEATS as usize + 1 + 20, "others are as they were: {text}");
    }

    #[test]
    fn a_line_comes_again_when_it_has_rested() {
        let mut state = State::default();
        let stamp: Stamp = Box::new(String::new);
        let start = Instant::now();
        assert_eq!((0..20).filter(|_| state.admits("a\n", start, &stamp)).count(), 5);
        let later = start + PERIOD;
        assert!(state.admits("a\n", later, &stamp));
        let told = String::from_utf8(state.queue.clone()).unwrap();
        assert_eq!(told, "a (15 more like it within 1s)\n");
        assert_eq!((0..20).filter(|_| state.admits("a\n", later, &stamp)).count(), 0, "it goes on");
        let rested = later + PERIOD * 2;
        state.tell_of_repeats(&stamp, |_| true);
        state.tell_of_repeats(&stamp, |_| true);
        assert_eq!((0..20).filter(|_| state.admits("a\n", rested, &stamp)).count(), 5);
        for number in 0..2 * MAX_WATCHED {
            assert!(state.admits(&format!("x{number}"), rested, &stamp), "bounded, and nothing is lost");
        }
        assert!(state.watched.len() <= MAX_WATCHED);
    }
}
