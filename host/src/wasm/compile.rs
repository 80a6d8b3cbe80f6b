//! From a plugin's bytes to machine code, which another file makes runnable.
//!
//! Invariant: compiling is hostile input too. Where the host knows a binary for it, the compiler runs in a child process
//! that is bounded in memory and time and is handed nothing but the bytes; whatever becomes of the child, the host
//! stands, and only what a child of its own wrote whole is taken. Without such a binary it runs in this process, off
//! the runtime's threads, behind the counts of `component` alone.

mod child;

pub use child::compile_for_host;

use super::bindings;
use super::engine::{Machine, Tier};
use crate::config::units::ByteSize;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// The hidden subcommand of the binary that compiles.
const COMMAND: &str = "compile-plugin";
/// Code that is larger was not made of a file that is allowed.
pub(super) const MAX_CODE: u64 = 1 << 30;
/// How much of what a child says on its standard error is kept.
const MAX_WORDS: u64 = 8 << 10;
/// Threads of a child whose code somebody waits for; more of them cost more memory than they save time.
const MOST_THREADS: usize = 8;

/// Compiles plugins, within bounds.
pub(super) struct Compiler {
    /// The binary that does it; `None` for this process.
    pub(super) program: Option<PathBuf>,
    pub(super) memory: ByteSize,
    pub(super) timeout: Duration,
}

/// Why there is no code.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// The compiler said no, or broke: another one may do it.
    Unfit(String),
    /// It took more than it may: a better compiler would take even more.
    Excessive(String),
    /// There is no compiler to be had just now, whatever the file.
    Absent(String),
}

impl Refusal {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Unfit(text) | Self::Excessive(text) | Self::Absent(text) => text,
        }
    }
}

impl Compiler {
    /// The code of a component for `machine`. `eagerly` if somebody waits for it.
    pub(super) async fn compile(
        &self,
        machine: &Arc<Machine>,
        bytes: Arc<Vec<u8>>,
        eagerly: bool,
    ) -> Result<Vec<u8>, Refusal> {
        match &self.program {
            Some(program) => self.in_child(program, machine.tier, &bytes, eagerly).await,
            None => {
                let machine = machine.clone();
                let compile = move || machine.engine.precompile_component(&bytes);
                match tokio::task::spawn_blocking(compile).await {
                    Ok(code) => code.map_err(|cause| Refusal::Unfit(bindings::cut(format!("{cause:#}")))),
                    // The compiler's panic is the file's fault, not the host's end.
                    Err(cause) => Err(Refusal::Unfit(format!("it broke the compiler: {cause}"))),
                }
            }
        }
    }

    async fn in_child(
        &self,
        program: &Path,
        tier: Tier,
        bytes: &[u8],
        eagerly: bool,
    ) -> Result<Vec<u8>, Refusal> {
        let failed = |what: &str, cause: std::io::Error| {
            Refusal::Absent(format!("{what} {}: {cause}", program.display()))
        };
        let mut child = self
            .command(program, tier, eagerly)
            .spawn()
            .map_err(|cause| failed("the compiler cannot be started from", cause))?;
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Refusal::Absent("the compiler has no pipes".to_owned()));
        };
        let (mut code, mut words) = (Vec::new(), Vec::new());
        let talk = async {
            let feed = async {
                // A child that ends before it has read everything says itself why.
                let _ = stdin.write_all(bytes).await;
                drop(stdin);
            };
            let (_, read, _) = tokio::join!(
                feed,
                read_bounded(&mut stdout, MAX_CODE, &mut code),
                read_bounded(&mut stderr, MAX_WORDS, &mut words)
            );
            read?;
            child.wait().await
        };
        // Dropped, a child that still runs is killed.
        let ended = tokio::time::timeout(self.patience(eagerly), talk).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(code),
            Ok(Ok(status)) => Err(self.explain(status, &String::from_utf8_lossy(&words), eagerly)),
            Ok(Err(cause)) => Err(failed("the compiler cannot be read from", cause)),
            Err(_) => {
                let _ = child.kill().await;
                Err(self.too_long(eagerly))
            }
        }
    }

    /// How long a child may be about it. One that nobody waits for lets all others go first: of its own compute it has no
    /// more than the others, but on a busy machine it may take its time for it.
    fn patience(&self, eagerly: bool) -> Duration {
        if eagerly { self.timeout } else { self.timeout.saturating_mul(10) }
    }

    fn command(&self, program: &Path, tier: Tier, eagerly: bool) -> Command {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // What nobody waits for leaves half of the machine to those who work.
        let threads = if eagerly { cores.min(MOST_THREADS) } else { (cores / 2).clamp(1, MOST_THREADS) };
        // Of compute it may have its time on every thread: that holds should this process end and no longer look at the
        // clock, and for a child that others go before.
        let seconds = self.timeout.as_secs().saturating_add(1).saturating_mul(threads as u64);
        let mut command = Command::new(program);
        command
            .arg(COMMAND)
            .args([tier.as_str(), &self.memory.bytes().to_string(), &seconds.to_string()])
            .args((!eagerly).then_some("--yielding"))
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            // Each arena of the allocator reserves addresses, which count as memory here.
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn too_long(&self, eagerly: bool) -> Refusal {
        let timeout = humantime::format_duration(self.timeout);
        let what = if eagerly { "longer than" } else { "more compute, or ten times longer, than" };
        Refusal::Excessive(format!(
            "compiling it took {what} the {timeout} of plugins.compile_timeout; raise that if you trust the file"
        ))
    }

    /// Why a child did not end well.
    fn explain(&self, status: ExitStatus, words: &str, eagerly: bool) -> Refusal {
        let words = words.trim();
        let words = bindings::cut(words.strip_prefix("error: ").unwrap_or(words).to_owned());
        let signal = signal_of(status);
        let starved = ["memory allocation of", "Cannot allocate memory", "os error 12"];
        if starved.iter().any(|starved| words.contains(starved)) {
            return Refusal::Excessive(format!(
                "compiling it took more memory than the {} of plugins.compile_memory; raise that if you trust the file",
                self.memory
            ));
        }
        match signal {
            Some(SIGXCPU) => self.too_long(eagerly),
            Some(SIGKILL) => Refusal::Excessive(
                "the compiler was killed, as the system does for want of memory; lower plugins.compile_memory, or give \
                 the machine more"
                    .to_owned(),
            ),
            None if status.code() == Some(1) => Refusal::Unfit(words),
            _ if words.is_empty() => Refusal::Unfit(format!("it broke the compiler ({status})")),
            _ => Refusal::Unfit(format!("it broke the compiler ({status}): {words}")),
        }
    }
}

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

#[cfg(unix)]
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal_of(_: ExitStatus) -> Option<i32> {
    None
}

/// Reads to the end, and keeps the first `most` bytes: who writes must not wait for a reader.
async fn read_bounded(
    from: &mut (impl AsyncRead + Unpin),
    most: u64,
    into: &mut Vec<u8>,
) -> std::io::Result<()> {
    (&mut *from).take(most).read_to_end(into).await?;
    tokio::io::copy(from, &mut tokio::io::sink()).await?;
    Ok(())
}
