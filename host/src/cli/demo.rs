//! `pressroom demo`: all of it at work, on this machine, with nothing else installed.
//!
//! Invariant: it is a test too: what was recorded is compared with what reports, `/metrics` and the file say, the books
//! must balance, and it fails if anything differs. What it starts ends with it, and its directory goes with it.

mod acts;
mod files;
mod pipeline;
mod plugin;
mod proof;
mod site;

use super::run::Signals;
use super::{Failure, words};
use acts::Stage;
use files::WorkDir;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// See all of it at work, without a server or a configuration
///
/// Starts a host with two publishers (/metrics and a file) and records a real pipeline over the files of a directory:
/// each is read, hashed, its words are counted, and it is fetched from a small HTTP server that the demo starts on
/// loopback and that is busy now and then. Some files make trouble, some steps are slow. While the pipeline keeps
/// running, the plugin plugins/rollup is built with cargo and dropped into the running host's plugin directory, where
/// it goes live. Then the reports are printed, and what was recorded is compared with what everybody says.
///
/// It ends by itself, removes its directory, and leaves nothing running. Your directory is only read. (What cargo
/// built stays in plugins/target.)
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom demo
  pressroom demo --dir ~/Documents            work on these files
  pressroom demo --keep                       leave it running until ctrl-c
  pressroom demo --plugin rollup.wasm         drop this plugin in, build none

Exit codes:
  0  everything that was recorded arrived everywhere, once, and all books balance
  1  something did not; or the plugin could not be built or did not go live
  2  wrong usage")]
pub(super) struct Args {
    /// Leave the host running until ctrl-c, and keep the demo's directory
    #[arg(long)]
    keep: bool,
    /// Work on the files of this directory [default: Pressroom's own sources]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Drop this plugin in instead of building plugins/rollup
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
}

/// Where the plugin comes from.
enum PluginSource {
    File(PathBuf),
    Checkout(PathBuf),
}

/// Tells what happens, with the time since the beginning.
struct Story {
    started: Instant,
}

impl Story {
    /// One line. That nobody reads it is no reason to end.
    fn say(&self, line: &str) {
        let _ = super::to_stdout(&format!("[{:5.1}s] {line}", self.started.elapsed().as_secs_f64()));
    }

    /// A heading and what belongs under it.
    fn show(&self, heading: &str, text: &str) {
        let _ = super::to_stdout(&format!("\n== {heading}\n\n{}", text.trim_end()));
    }
}

pub(super) async fn demo(args: Args) -> Result<(), Failure> {
    let source = plugin_source(&args)?;
    let checkout = plugin::checkout();
    let own_sources =
        || checkout.as_ref().map(|checkout| checkout.join("host/src")).filter(|dir| dir.is_dir());
    let dir = match &args.dir {
        Some(dir) if dir.is_dir() => Some(dir.clone()),
        Some(dir) => return Err(Failure::wrong(format!("--dir {} is not a directory", dir.display()))),
        None => own_sources(),
    };
    let mut signals = Signals::new()?;
    let work = WorkDir::new(args.keep)?;
    let story = Story { started: Instant::now() };
    let ended_early = |name: &str| Failure::failed(format!("{name}: the demo ended early"));
    let (stage, mut problems) = tokio::select! {
        played = play(&source, dir.as_deref(), &work, &story) => played?,
        name = signals.end() => return Err(ended_early(name)),
    };
    if args.keep {
        let again = stage.pipeline.clone().start(Duration::from_secs(5));
        stage.invite(&story);
        story.say(&format!("{}: ending", signals.end().await));
        again.stop().await?;
    }
    problems.extend(tokio::select! {
        closed = stage.close(&story) => closed?,
        name = signals.end() => return Err(ended_early(name)),
    });
    if problems.is_empty() {
        story.say("everything that was recorded arrived everywhere, once, and all books balance");
        return Ok(());
    }
    Err(Failure::failed(problems.join("\nerror: ")))
}

fn plugin_source(args: &Args) -> Result<PluginSource, Failure> {
    if let Some(file) = &args.plugin {
        let is_plugin = file.is_file() && file.extension().is_some_and(|extension| extension == "wasm");
        return match is_plugin {
            true => Ok(PluginSource::File(file.clone())),
            false => Err(Failure::wrong(format!("--plugin {} is not a .wasm file", file.display()))),
        };
    }
    plugin::checkout().map(PluginSource::Checkout).ok_or_else(|| {
        Failure::wrong(
            "there is no checkout of Pressroom here to build a plugin from: call it in one, or give a plugin that is \
             built already with --plugin FILE",
        )
    })
}

/// Everything up to the end of the host. Returns what runs and what went wrong.
async fn play(
    source: &PluginSource,
    dir: Option<&Path>,
    work: &WorkDir,
    story: &Story,
) -> Result<(Stage, Vec<String>), Failure> {
    story.say(&format!("everything that the demo writes is in {}", work.path().display()));
    let stage = Stage::set(dir, work.path(), story).await?;
    let running = stage.pipeline.clone().start(Duration::from_millis(500));
    stage.watch_for(Duration::from_secs(3), "recording", story).await;

    let mut problems = Vec::new();
    if let Err(problem) = stage.plugin(source, story).await {
        story.say(&format!("WITHOUT THE PLUGIN: {problem}"));
        problems.push(problem);
    }
    story.say("the pipeline ends with the round that is under way");
    running.stop().await?;
    problems.extend(stage.settle(story).await);
    stage.reports(story);
    problems.extend(stage.compare(story).await?);
    Ok((stage, problems))
}
