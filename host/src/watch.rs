//! Watches the configuration and the plugin directory.
//!
//! Invariant: a change is told once what it touches has been left alone for the debounce time, so that a file that is
//! still being written, or is away for a moment while it is replaced, is not told of.
//!
//! The system's notifications say when to look; what is compared is what lies on the disk. Where there are no
//! notifications (some network file systems, a directory that does not exist yet) it is looked at every two seconds.

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is no change of it; and one nudge that waits is as good as many.
            if !matches!(event, Ok(notify::Event { kind: notify::EventKind::Access(_), .. })) {
                let _ = nudge.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!("changes are looked for every two seconds only: {error}"))
            .ok();
        let seen = Seen::look(&watched);
        let mut watch = Self { watched, seen, nudges, watcher, notified: Vec::new() };
        watch.subscribe();
        watch
    }

    /// Returns when something has changed and has then been left alone for `debounce`. May be given up at any time.
    pub async fn changed(&mut self, debounce: Duration) -> Changes {
        loop {
            if self.watcher.is_some() {
                let _ = tokio::time::timeout(POLL, self.nudges.recv()).await;
            } else {
                tokio::time::sleep(POLL).await;
            }
            self.subscribe();
            let mut now = Seen::look(&self.watched);
            if now == self.seen {
                continue;
            }
            let mut looks = 0;
            loop {
                tokio::time::sleep(debounce).await;
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
    files.filter(|path| is_plugin(path)).filter_map(|path| mark(&path).map(|mark| (path, mark))).collect()
}

/// Whether a path is that of a plugin: `NAME.wasm`, not hidden.
pub fn is_plugin(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "wasm")
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
    async fn what_never_comes_to_rest_holds_up_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("pressroom.toml");
        std::fs::write(&config, "a").unwrap();
        let plugins = Some(dir.path().to_owned());
        let mut watch = Watch::new(Watched { config: Some(config.clone()), plugins });
        std::fs::write(&config, "changed").unwrap();
        let restless = dir.path().join("restless.wasm");
        let write = async {
            for byte in 0_u64.. {
                std::fs::write(&restless, byte.to_string()).unwrap();
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
        assert_eq!(watch.changed(Duration::from_millis(20)).await, Changes { config: false, plugins: true });
        assert_eq!(watch.seen.plugins.len(), 2);
    }
}
