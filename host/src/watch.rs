//! Watches the configuration and the plugin directory.
//!
//! Invariant: a change is told once what it touches has been left alone for the debounce time, so that a file that is
//! still being written, or is away for a moment while it is replaced, is not told of. A plugin of which the system says
//! that it is whole (it was closed by who wrote it, or renamed into place) is told of at once.
//!
//! The system's notifications say when to look; what is compared is what lies on the disk. Where there are no
//! notifications (some network file systems, a directory that does not exist yet) it is looked at every two seconds.

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
    /// The configuration's file.
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
        let seen = Seen::look(&watched);
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
            let mut now = Seen::look(&self.watched);
            if now == self.seen {
                continue;
            }
            let mut looks = 0;
            loop {
                if let Some(changes) = self.whole_within(debounce).await {
                    return changes;
                }
                let later = Seen::look(&self.watched);
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
            let changes =
                Changes { config: now.config != self.seen.config, plugins: now.plugins != self.seen.plugins };
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
        let parent = self.watched.config.as_deref().map(|file| file.parent().unwrap_or(Path::new(".")));
        for dir in parent.into_iter().chain(self.watched.plugins.as_deref()) {
            let known = self.notified.iter().any(|known| known == dir);
            if !dir.is_dir() {
                self.notified.retain(|known| known != dir);
            } else if !known && watcher.watch(dir, RecursiveMode::NonRecursive).is_ok() {
                self.notified.push(dir.to_owned());
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

impl Seen {
    fn look(watched: &Watched) -> Self {
        Self {
            config: watched.config.as_deref().and_then(mark),
            plugins: watched.plugins.iter().flat_map(|dir| plugin_files(dir)).collect(),
        }
    }

    /// As `self`, but what is not the same in `later` is still as in `before`: it moves.
    fn settled(mut self, later: &Self, before: &Self) -> Self {
        if self.config != later.config {
            self.config = before.config;
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

fn mark(path: &Path) -> Option<Mark> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_a_change_once_when_it_has_settled() {
        let dir = tempfile::tempdir().unwrap();
        let (config, plugins) = (dir.path().join("pressroom.toml"), dir.path().join("plugins"));
        std::fs::write(&config, "a").unwrap();
        let mut watch = Watch::new(Watched { config: Some(config.clone()), plugins: Some(plugins.clone()) });
        let debounce = Duration::from_millis(20);

        std::fs::write(&config, "changed").unwrap();
        assert_eq!(watch.changed(debounce).await, Changes { config: true, plugins: false });

        // The directory comes into being, with a plugin; what is no plugin does not count.
        std::fs::create_dir(&plugins).unwrap();
        std::fs::write(plugins.join("readme.txt"), "").unwrap();
        std::fs::write(plugins.join(".hidden.wasm"), "").unwrap();
        std::fs::write(plugins.join("a.wasm"), "").unwrap();
        assert_eq!(watch.changed(debounce).await, Changes { config: false, plugins: true });

        std::fs::remove_file(plugins.join("a.wasm")).unwrap();
        assert_eq!(watch.changed(debounce).await, Changes { config: false, plugins: true });
    }

    #[tokio::test]
    async fn a_whole_plugin_need_not_settle() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(Watched { config: None, plugins: Some(dir.path().to_owned()) });
        let plugins = Changes { config: false, plugins: true };
        let never = Duration::from_secs(86_400);
        let told = async |watch: &mut Watch| {
            tokio::time::timeout(Duration::from_secs(60), watch.changed(never)).await
        };
        // Closed by who wrote it, renamed into place, and written over.
        std::fs::write(dir.path().join("a.wasm"), "a").unwrap();
        assert_eq!(told(&mut watch).await, Ok(plugins));
        std::fs::write(dir.path().join("b.part"), "b").unwrap();
        std::fs::rename(dir.path().join("b.part"), dir.path().join("b.wasm")).unwrap();
        assert_eq!(told(&mut watch).await, Ok(plugins));
        std::fs::write(dir.path().join("a.wasm"), "another").unwrap();
        assert_eq!(told(&mut watch).await, Ok(plugins));
        // One that is still open is not told of.
        let mut open = std::fs::File::create(dir.path().join("c.wasm")).unwrap();
        std::io::Write::write_all(&mut open, b"half").unwrap();
        let soon = tokio::time::timeout(Duration::from_millis(300), watch.changed(never)).await;
        assert!(soon.is_err(), "{soon:?}");
        drop(open);
        assert_eq!(told(&mut watch).await, Ok(plugins));
    }

    #[tokio::test]
    async fn what_never_comes_to_rest_holds_up_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("pressroom.toml");
        std::fs::write(&config, "a").unwrap();
        let plugins = Some(dir.path().to_owned());
        let mut watch = Watch::new(Watched { config: Some(config.clone()), plugins });
        std::fs::write(&config, "changed").unwrap();
        let restless = dir.path().join("restless.wasm");
        let write = async {
            let mut open = std::fs::File::create(&restless).unwrap();
            for byte in 0_u64.. {
                std::io::Write::write_all(&mut open, byte.to_string().as_bytes()).unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let changes = tokio::select! {
            changes = watch.changed(Duration::from_millis(20)) => changes,
            () = write => unreachable!(),
        };
        // (On a machine that stands still for a moment the restless file may seem to have settled, too.)
        assert!(changes.config);
        // And when it has come to rest it is told of.
        std::fs::write(&restless, "at rest, and longer than any number that was there").unwrap();
        assert_eq!(watch.changed(Duration::from_millis(20)).await, Changes { config: false, plugins: true });
    }

    #[tokio::test]
    async fn what_is_back_as_it_was_has_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.wasm");
        std::fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(Watched { config: None, plugins: Some(dir.path().to_owned()) });
        let away = dir.path().join("away");
        std::fs::rename(&file, &away).unwrap();
        std::fs::rename(&away, &file).unwrap();
        std::fs::write(dir.path().join("b.wasm"), "b").unwrap();
        // The two may be told of one after the other: each is whole.
        while watch.seen.plugins.len() < 2 {
            let changes = watch.changed(Duration::from_millis(20)).await;
            assert_eq!(changes, Changes { config: false, plugins: true });
            assert!(watch.seen.plugins.contains_key(&file), "it is not told to have gone");
        }
    }
}
