//! Watches the configuration and the plugin directory.
//!
//! Invariant: a change is told once what it touches has been left alone for the debounce time, so that a file that is
//! still being written, or is away for a moment while it is replaced, is not told of. A plugin of which the system says
//! that it is whole (it was closed by who wrote it, or renamed into place) is told of at once.
//!
//! The system's notifications say when to look; what is compared is what lies on the disk. Where there are no
//! notifications (some network file systems, a directory that does not exist yet) it is looked at every two seconds.

#[cfg(test)]
mod tests;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// What has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The configuration's file, or a file that it refers to.
    pub config: bool,
    /// A file of the plugin directory.
    pub plugins: bool,
}

/// What is watched.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// The configuration's file.
    pub config: Option<PathBuf>,
    /// The plugin directory; it need not exist.
    pub plugins: Option<PathBuf>,
    /// The files that the configuration refers to.
    pub referred: Referred,
}

/// Files and what tells them from what they were before; `None` where there was none.
pub(crate) type Marks = BTreeMap<PathBuf, Option<Mark>>;

/// The files that the configuration refers to, as they were when they were read. Whoever reads it anew says so here. A
/// clone is a handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Referred(Arc<Mutex<Marks>>);

impl Referred {
    /// Watches these from here on, and no others.
    pub(crate) fn set(&self, marks: Marks) {
        *self.0.lock() = marks;
    }

    /// Watches these, too.
    pub(crate) fn extend(&self, marks: Marks) {
        self.0.lock().extend(marks);
    }

    /// As they were when they were read, or told of.
    fn seen(&self) -> Marks {
        self.0.lock().clone()
    }

    /// Notes what was told, for files that are still watched.
    fn told(&self, marks: &Marks) {
        for (file, mark) in self.0.lock().iter_mut() {
            if let Some(told) = marks.get(file) {
                *mark = *told;
            }
        }
    }
}

/// Tells changes of what it watches.
pub struct Watch {
    watched: Watched,
    seen: Seen,
    nudges: mpsc::Receiver<()>,
    /// Plugins that were closed or renamed into place, not written to since, and not looked at yet.
    whole: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// There may be more to tell than what was told last.
    unsettled: bool,
    watcher: Option<RecommendedWatcher>,
    /// The directories that notifications come from.
    notified: Vec<PathBuf>,
}

/// What tells a file from what it was before, and from another one that was put in its place, without reading it. (A
/// file that is copied with its times kept has another inode, or at least another time of change of that.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    length: u64,
    modified: Option<SystemTime>,
    identity: (u64, u64, i64, i64),
}

/// The files that are watched, by path; the configuration's has its own place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    config: Option<Mark>,
    referred: Marks,
    plugins: BTreeMap<PathBuf, Mark>,
}

const POLL: Duration = Duration::from_secs(2);

/// After so many debounce times what has settled is told of, though something else has not.
const PATIENCE: u32 = 8;

impl Watch {
    /// Begins to watch: changes from here on are told.
    pub fn new(watched: Watched) -> Self {
        let (nudge, nudges) = mpsc::channel(1);
        let whole = Arc::new(Mutex::new(BTreeSet::new()));
        let noted = whole.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // And one nudge that waits is as good as many.
            if event.map_or(true, |event| note(&event, &noted)) {
                let _ = nudge.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!("changes are looked for every two seconds only: {error}"))
            .ok();
        let seen = Seen::look(&watched, &Seen::default());
        let mut watch =
            Self { watched, seen, nudges, whole, unsettled: false, watcher, notified: Vec::new() };
        watch.subscribe();
        watch
    }

    /// Returns when something has changed and has then been left alone for `debounce`. May be given up at any time.
    pub async fn changed(&mut self, debounce: Duration) -> Changes {
        loop {
            if !std::mem::take(&mut self.unsettled) {
                let _ = tokio::time::timeout(POLL, self.nudged()).await;
            }
            self.subscribe();
            self.seen.referred = self.watched.referred.seen();
            let mut now = Seen::look(&self.watched, &self.seen);
            if now == self.seen {
                continue;
            }
            let mut looks = 0;
            loop {
                if let Some(changes) = self.whole_within(debounce).await {
                    return changes;
                }
                let later = Seen::look(&self.watched, &self.seen);
                looks += 1;
                if later == now {
                    break;
                }
                // What never comes to rest does not hold up what has.
                if looks % PATIENCE == 0 {
                    let settled = now.settled(&later, &self.seen);
                    if settled != self.seen {
                        now = settled;
                        break;
                    }
                }
                now = later;
            }
            let changes = Changes {
                config: now.config != self.seen.config || now.referred != self.seen.referred,
                plugins: now.plugins != self.seen.plugins,
            };
            self.watched.referred.told(&now.referred);
            self.seen = now;
            if changes != Changes::default() {
                return changes;
            }
        }
    }

    /// Returns at a notification, if there are any.
    async fn nudged(&mut self) {
        if self.watcher.is_none() || self.nudges.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for `debounce`, unless a plugin that has come or changed is known to be whole before: that one need not
    /// settle, and the rest is looked at again.
    async fn whole_within(&mut self, debounce: Duration) -> Option<Changes> {
        let settled = tokio::time::sleep(debounce);
        tokio::pin!(settled);
        loop {
            if self.note_whole() {
                self.unsettled = true;
                return Some(Changes { config: false, plugins: true });
            }
            tokio::select! {
                () = &mut settled => return None,
                () = self.nudged() => {}
            }
        }
    }

    fn note_whole(&mut self) -> bool {
        // Taken before the disk is looked at: what becomes whole after that is looked at next time.
        let whole = std::mem::take(&mut *self.whole.lock());
        let mut told = false;
        for path in whole {
            if path.parent() == self.watched.plugins.as_deref()
                && let Some(mark) = mark(&path)
                && self.seen.plugins.get(&path) != Some(&mark)
            {
                self.seen.plugins.insert(path, mark);
                told = true;
            }
        }
        told
    }

    /// Asks for notifications from directories that exist and are not notified of yet.
    fn subscribe(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let referred = self.watched.referred.seen();
        let files = referred.keys().chain(&self.watched.config);
        let mut wanted: BTreeSet<PathBuf> = files.flat_map(|file| dirs_of(file)).collect();
        wanted.extend(self.watched.plugins.clone());
        self.notified.retain(|known| {
            let keep = wanted.contains(known) && known.is_dir();
            if !keep {
                // It may have gone.
                let _ = watcher.unwatch(known);
            }
            keep
        });
        for dir in wanted {
            let known = self.notified.contains(&dir);
            if !known && dir.is_dir() && watcher.watch(&dir, RecursiveMode::NonRecursive).is_ok() {
                self.notified.push(dir);
            }
        }
    }
}

/// Keeps in `whole` what is known of files; whether there is anything to look at.
fn note(event: &notify::Event, whole: &Mutex<BTreeSet<PathBuf>>) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            whole.lock().extend(event.paths.iter().filter(|path| is_plugin(path)).cloned());
        }
        // Reading a file is no change of it.
        EventKind::Access(_) => return false,
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => {
            let mut whole = whole.lock();
            for path in &event.paths {
                whole.remove(path);
            }
        }
        _ => {}
    }
    true
}

/// The directories in which a file can be replaced: its own, and those of the links that lead to it. (Kubernetes swaps the
/// link `..data`, which lies beside the link that is named.)
fn dirs_of(file: &Path) -> BTreeSet<PathBuf> {
    const MOST_LINKS: usize = 16;
    let mut dirs = BTreeSet::new();
    let mut at = file.to_owned();
    for _ in 0..MOST_LINKS {
        let Some(dir) = at.parent() else { break };
        let dir = if dir == Path::new("") { Path::new(".") } else { dir };
        dirs.insert(dir.to_owned());
        match std::fs::read_link(&at) {
            Ok(target) => at = dir.join(target),
            Err(_) => break,
        }
    }
    dirs
}

impl Seen {
    /// What is there now of what is watched. Of the files that are referred to, those that were looked for `before`.
    fn look(watched: &Watched, before: &Self) -> Self {
        Self {
            config: watched.config.as_deref().and_then(mark),
            referred: before.referred.keys().map(|file| (file.clone(), mark(file))).collect(),
            plugins: watched.plugins.iter().flat_map(|dir| plugin_files(dir)).collect(),
        }
    }

    /// As `self`, but what is not the same in `later` is still as in `before`: it moves.
    fn settled(mut self, later: &Self, before: &Self) -> Self {
        if self.config != later.config {
            self.config = before.config;
        }
        for (file, mark) in &mut self.referred {
            if later.referred.get(file) != Some(&*mark) {
                *mark = before.referred.get(file).copied().flatten();
            }
        }
        let paths: Vec<PathBuf> = self.plugins.keys().chain(later.plugins.keys()).cloned().collect();
        for path in paths {
            if self.plugins.get(&path) != later.plugins.get(&path) {
                match before.plugins.get(&path) {
                    Some(mark) => self.plugins.insert(path, *mark),
                    None => self.plugins.remove(&path),
                };
            }
        }
        self
    }
}

fn plugin_files(dir: &Path) -> Vec<(PathBuf, Mark)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let files = entries.filter_map(Result::ok).map(|entry| entry.path());
    files
        .filter(|path| is_plugin(path) || is_signature(path))
        .filter_map(|path| mark(&path).map(|mark| (path, mark)))
        .collect()
}

/// Whether a path is that of a plugin: `NAME.wasm`, not hidden.
pub fn is_plugin(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "wasm")
}

/// Whether a path is that of a plugin's signature.
fn is_signature(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "minisig") && is_plugin(&path.with_extension(""))
}

/// Where the signature of a plugin lies: `NAME.wasm.minisig` beside it.
pub(crate) fn signature_of(plugin: &Path) -> PathBuf {
    plugin.with_extension("wasm.minisig")
}

/// What tells the file at `path`, or where that leads, from another one; `None` where there is none.
pub(crate) fn mark(path: &Path) -> Option<Mark> {
    std::fs::metadata(path).ok().map(|metadata| Mark::of(&metadata))
}

impl Mark {
    /// Of a file with this metadata.
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let identity = (0, 0, 0, 0);
        Self { length: metadata.len(), modified: metadata.modified().ok(), identity }
    }
}
