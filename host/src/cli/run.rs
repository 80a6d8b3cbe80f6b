//! `pressroom run`: a host, until it is told to end.
//!
//! Invariant: what it ends with is told in full: the books of every publisher, and what was lost.

use super::words::{self, Column};
use super::{DEFAULT_CONFIG, Failure, to_stderr};
use crate::host::{Closing, Host, ReloadError, StartError};
use crate::output::escape;
use std::path::{Path, PathBuf};

/// Run the host
///
/// Runs a host with a configuration: it takes records over HTTP, answers questions, and publishes. The configuration
/// and the plugin directory are watched: what changes is applied without a restart, and a wrong change leaves
/// everything as it was and is logged. SIGHUP has them read again at once.
///
/// SIGINT (ctrl-c) and SIGTERM end it: nothing more is taken, requests in flight have a quarter of shutdown.timeout,
/// publishers the rest to deliver what is left, and the final account is printed. A second signal ends it at once. The log
/// goes to standard error, and waits for no reader: lines that are not read in time are lost, and counted in /metrics.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom run
  pressroom run --config /etc/pressroom/pressroom.toml
  RUST_LOG=debug pressroom run                 a talkative log
  kill -HUP $(pidof pressroom)                 read the configuration again

Exit codes:
  0  it was told to end, and nothing was lost by that: what was left was published or set aside as a dead letter
  1  it could not start; or records were lost at the end or never accepted; or a second signal ended it
  2  the configuration is wrong; every problem is listed")]
pub(super) struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(super) config: PathBuf,
}

/// Says what to do where there is no configuration.
pub(super) fn exists(config: &Path) -> Result<(), Failure> {
    if config.exists() {
        return Ok(());
    }
    let place = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    Err(Failure::wrong(format!(
        "there is no {}
Name another with --config FILE, or begin with these lines in it:

    [publishers.metrics]
    type = \"prometheus\"            # http://127.0.0.1:9464/metrics
    listen = \"127.0.0.1:9464\"

examples/quickstart.toml says more; `pressroom demo` needs no configuration at all",
        escape::path(&place)
    )))
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    exists(&args.config)?;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    super::memory::give_back();
    let mut signals = Signals::new()?;
    // In a task of its own: a file that blocks the thread that reads it must not keep signals waiting.
    let builder = crate::cli::host().config_file(&args.config);
    let mut launch = tokio::spawn(async move { builder.launch().await });
    let host = tokio::select! {
        launched = &mut launch => launched.map_err(anyhow::Error::from)?.map_err(not_started)?,
        name = signals.end() => {
            launch.abort();
            tracing::info!("{name}: ended during the start, before anything was accepted");
            return Ok(());
        }
    };
    let mut next = tokio::select! {
        () = host.settle() => None,
        signal = signals.next() => Some(signal),
    };
    introduce(&host, &args.config);
    loop {
        let signal = match next.take() {
            Some(signal) => signal,
            None => signals.next().await,
        };
        match signal {
            Signal::Reload => {
                // In a task of its own: a reload that takes long must not keep the end waiting.
                let host = host.clone();
                tokio::spawn(async move { reload(&host).await });
            }
            Signal::End(name) => return end(&host, name, &mut signals).await,
        }
    }
}

/// Shuts the host down and accounts for everything, unless another signal comes meanwhile.
async fn end(host: &Host, name: &str, signals: &mut Signals) -> Result<(), Failure> {
    let patience = host.config().shutdown.timeout;
    tracing::info!("{name}: ending, publishers have {}", words::duration(patience));
    let closing = tokio::select! {
        closing = host.shutdown(patience) => closing,
        name = signals.end() => {
            return Err(Failure::failed(format!("{name} came again: ended at once, without an account")));
        }
    };
    to_stderr(&account(&closing))?;
    verdict(&closing)
}

fn not_started(error: StartError) -> Failure {
    match error {
        StartError::Config(error) => {
            let problems = words::counted(error.problems().len() as u64, "problem");
            Failure::wrong(format!("{problems} in the configuration\n{error}"))
        }
        error => Failure::from(anyhow::Error::from(error)),
    }
}

/// Says what runs where.
fn introduce(host: &Host, config: &Path) {
    tracing::info!("pressroom {} runs with {}", env!("CARGO_PKG_VERSION"), escape::path(config));
    match host.server_addr() {
        Some(address) => tracing::info!("records and questions: http://{address}/"),
        None => tracing::info!("no HTTP of its own: server.enabled is false"),
    }
    let publishers = host.publishers();
    if publishers.is_empty() {
        tracing::warn!("no publishers: records are kept for reports only");
    }
    for status in publishers {
        let text = |key: &str| Some(status.detail.as_ref()?.get(key)?.as_str()?.to_owned());
        let place = match (&*status.kind, text("listen"), text("path").or_else(|| text("file"))) {
            ("prometheus", Some(address), _) => format!(", http://{address}/metrics"),
            (_, Some(place), _) | (_, None, Some(place)) => format!(", {place}"),
            (_, None, None) => String::new(),
        };
        let reason = status.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        tracing::info!(
            "publisher {} ({}{place}) {}{reason}",
            status.label,
            status.kind,
            status.state.as_str()
        );
    }
    let settings = host.config();
    let drop_in = if settings.plugins.drop_in { "drop a .wasm in to run it" } else { "drop_in is off" };
    tracing::info!("plugins: {} ({drop_in})", escape::path(settings.plugins_dir()));
}

async fn reload(host: &Host) {
    tracing::info!("SIGHUP: reading the configuration and the plugin directory again");
    match host.reload().await {
        // What changed has been logged by the host; so has what is wrong with a configuration.
        Ok(applied) => tracing::info!(
            "applied, {} did not change",
            words::counted(applied.unchanged.len() as u64, "publisher")
        ),
        Err(error @ (ReloadError::NoFile | ReloadError::Closing)) => tracing::error!("{error}"),
        Err(_) => {}
    }
}

/// The final account.
pub(super) fn account(closing: &Closing) -> String {
    let columns = [
        Column::Text("publisher"),
        Column::Figure("accepted"),
        Column::Figure("delivered"),
        Column::Figure("filtered"),
        Column::Figure("dead letters"),
        Column::Figure("dropped"),
        Column::Figure("left"),
        Column::Text("books"),
    ];
    let rows = closing.publishers.iter().map(|account| {
        let books = &account.books;
        let mut row = vec![words::cut(&account.label, 64)];
        row.extend(
            [
                books.accepted,
                books.delivered,
                books.filtered,
                books.dead_lettered,
                books.dropped.total(),
                books.backlog,
            ]
            .map(words::count),
        );
        row.push(if books.balance() { "balance" } else { "DO NOT BALANCE" }.to_owned());
        row
    });
    let mut out = String::from("The final account, in records:\n");
    out.push_str(&words::table(&columns, rows, "there was no publisher"));
    if closing.cancelled > 0 {
        let records = words::counted(closing.cancelled as u64, "unfinished record");
        out.push_str(&format!("{records} closed as cancelled\n"));
    }
    if closing.never_accepted > 0 {
        let records = words::counted(closing.never_accepted, "finished record");
        out.push_str(&format!("{records} never accepted: too many were waiting, or the host was ending\n"));
    }
    out
}

/// Losses at the end are a failure, and so are records that were never accepted. Others (overflow, a publisher that was
/// removed) were logged when they happened and are in the account.
fn verdict(closing: &Closing) -> Result<(), Failure> {
    if !closing.balanced() {
        return Err(Failure::failed("the books do not balance; please report this with the account above"));
    }
    let lost: u64 = closing.publishers.iter().map(|account| account.books.dropped.shutdown).sum();
    if lost > 0 {
        let lost = words::counted(lost, "record");
        return Err(Failure::failed(format!(
            "{lost} could not be published before shutdown.timeout was over, and are lost"
        )));
    }
    if closing.never_accepted > 0 {
        let lost = words::counted(closing.never_accepted, "finished record");
        return Err(Failure::failed(format!("{lost} never reached a publisher, and are lost")));
    }
    Ok(())
}

enum Signal {
    Reload,
    End(&'static str),
}

/// The signals that a host heeds.
#[cfg(unix)]
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::End("SIGINT"),
            _ = self.terminate.recv() => Signal::End("SIGTERM"),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// The next signal to end.
    pub(super) async fn end(&mut self) -> &'static str {
        loop {
            if let Signal::End(name) = self.next().await {
                return name;
            }
        }
    }
}

/// The signals that a host heeds: elsewhere than on Unix ctrl-c alone.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        Signal::End(self.end().await)
    }

    pub(super) async fn end(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "ctrl-c"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Books, Dropped};
    use crate::registry::Account;

    fn closing(dropped: Dropped, never_accepted: u64) -> Closing {
        let accepted = dropped.total();
        let books = Books { accepted, dropped, ..Books::default() };
        let publishers = vec![Account { label: "archive".into(), books }];
        Closing { publishers, cancelled: 0, never_accepted }
    }

    #[test]
    fn an_exit_that_lost_something_is_not_0() {
        let lost =
            |dropped, never_accepted| verdict(&closing(dropped, never_accepted)).err().map(|lost| lost.code);
        assert_eq!(lost(Dropped::default(), 0), None);
        assert_eq!(lost(Dropped { shutdown: 1, ..Dropped::default() }, 0), Some(1));
        assert_eq!(lost(Dropped::default(), 1), Some(1), "never accepted");
        let earlier = Dropped { overflow: 1, removed: 1, ..Dropped::default() };
        assert_eq!(lost(earlier, 0), None, "that was told when it happened");
    }
}
