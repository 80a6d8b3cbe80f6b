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
use tokio::sync::Semaphore;

/// The hidden subcommand of the binary that compiles.
const COMMAND: &str = "compile-plugin";
/// Code that is larger is not taken, whatever it was made of.
pub(super) const MAX_CODE: u64 = 256 << 20;
/// Nor is code so many times as large as its file: honest files become three or four times as large.
const MOST_CODE_PER_BYTE: u64 = 16;
/// But so much is taken of the smallest file.
const LEAST_MAX_CODE: u64 = 16 << 20;
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
    /// What this process compiles at a time: one that was given up goes on to its end, and counts until then.
    pub(super) own: Arc<Semaphore>,
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
            None => self.in_here(machine.clone(), bytes, eagerly).await,
        }
    }

    /// A thread cannot be ended: who waits goes on after its time, and the thread comes to its end by itself.
    async fn in_here(
        &self,
        machine: Arc<Machine>,
        bytes: Arc<Vec<u8>>,
        eagerly: bool,
    ) -> Result<Vec<u8>, Refusal> {
        let patience = self.patience(eagerly);
        let turn = tokio::time::timeout(patience, self.own.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Refusal::Absent(
                "the compiler is busy with files of which each takes longer than plugins.compile_timeout"
                    .to_owned(),
            ));
        };
        let most = most_code(bytes.len());
        let compile = move || {
            let code = machine.engine.precompile_component(&bytes);
            drop(turn);
            code
        };
        match tokio::time::timeout(patience, tokio::task::spawn_blocking(compile)).await {
            Ok(Ok(Ok(code))) if code.len() as u64 > most => Err(too_large(most)),
            Ok(Ok(code)) => code.map_err(|cause| Refusal::Unfit(bindings::cut(format!("{cause:#}")))),
            // The compiler's panic is the file's fault, not the host's end.
            Ok(Err(cause)) => Err(Refusal::Unfit(format!("it broke the compiler: {cause}"))),
            Err(_) => Err(self.too_long(eagerly)),
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
        let most = most_code(bytes.len());
        let talk = async {
            let feed = async {
                // A child that ends before it has read everything says itself why.
                let _ = stdin.write_all(bytes).await;
                drop(stdin);
            };
            let (_, read, _) = tokio::join!(
                feed,
                read_bounded(&mut stdout, most.saturating_add(1), &mut code),
                read_bounded(&mut stderr, MAX_WORDS, &mut words)
            );
            read?;
            child.wait().await
        };
        // Dropped, a child that still runs is killed.
        let ended = tokio::time::timeout(self.patience(eagerly), talk).await;
        match ended {
            Ok(Ok(status)) if status.success() && code.len() as u64 > most => Err(too_large(most)),
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

/// How much is compiled at a time for somebody who waits.
pub(super) fn turns() -> Arc<Semaphore> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(cores.clamp(2, 8)))
}

/// How large the code of a file of so many bytes may be.
fn most_code(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(MOST_CODE_PER_BYTE).clamp(LEAST_MAX_CODE, MAX_CODE)
}

fn too_large(most: u64) -> Refusal {
    Refusal::Unfit(format!(
        "its code is larger than {}, more than that of any honest file of its size",
        ByteSize(most)
    ))
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

#[cfg(test)]
mod tests {
    use super::{ByteSize, Compiler, LEAST_MAX_CODE, MAX_CODE, Machine, Refusal, Semaphore, Tier, most_code};
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    fn compiler(program: Option<PathBuf>, timeout: Duration, turns: usize) -> Compiler {
        let own = Arc::new(Semaphore::new(turns));
        Compiler { program, memory: ByteSize::mib(512), timeout, own }
    }

    fn machine() -> Arc<Machine> {
        Arc::new(Machine::new(Tier::Optimised).unwrap())
    }

    #[tokio::test]
    async fn what_takes_too_long_in_this_process_is_not_waited_for() {
        let function = "(func (result i32) i32.const 1 i32.const 2 i32.add)";
        let text = format!("(component (core module {}))", function.repeat(20_000));
        let bytes = Arc::new(wat::parse_str(text).unwrap());
        let slow = compiler(None, Duration::from_millis(1), 1);
        let refused = slow.compile(&machine(), bytes.clone(), true).await.unwrap_err();
        assert!(
            matches!(&refused, Refusal::Excessive(text) if text.contains("longer than the 1ms")),
            "{refused:?}"
        );
        // Those that were given up do not become more and more.
        let busy = compiler(None, Duration::from_millis(1), 0);
        let refused = busy.compile(&machine(), bytes, true).await.unwrap_err();
        assert!(matches!(refused, Refusal::Absent(_)), "{refused:?}");
    }

    #[test]
    fn code_is_bounded_by_what_it_is_made_of() {
        assert_eq!(most_code(10), LEAST_MAX_CODE);
        assert_eq!(most_code(2 << 20), 32 << 20);
        assert_eq!(most_code(64 << 20), MAX_CODE);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn code_without_end_is_refused_and_not_held() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("compiler");
        std::fs::write(&script, "#!/bin/sh\nexec head -c 100000000 /dev/zero\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
        let compiler = compiler(Some(script), Duration::from_secs(60), 1);
        let refused = compiler.compile(&machine(), Arc::new(vec![0; 100]), true).await.unwrap_err();
        assert!(
            matches!(&refused, Refusal::Unfit(text) if text.contains("larger than 16MiB")),
            "{refused:?}"
        );
    }
}
