//! What the tests have in common: a folder with a configuration, a host in it, and someone who talks to it.

mod api;
pub mod authors;
mod builds;
mod guests;
mod process;
mod receiver;
pub mod servers;

pub use api::{Api, event, events, id};
pub use builds::{c_guest, go_guest, has_c, has_go};
pub use guests::{another_version, fixture, guest};
pub use process::{Process, free_port, lasting_port, path_of, python};
pub use receiver::Receiver;

use pressroom::host::{Host, HostBuilder};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a test waits while nothing that it looks at changes. Only a hang reaches it: the slowest machine makes some
/// progress in that time.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// [`PATIENCE`] where progress cannot be seen from outside: a compiler that builds a plugin, a server that starts.
pub const MUCH_PATIENCE: Duration = Duration::from_secs(1_800);

/// How long a host has for its end that has something left and cannot deliver it. The whole time is waited for.
pub const NO_PATIENCE: Duration = Duration::from_secs(1);

/// How often a wait starts anew because something has changed. It ends a test whose state changes for ever.
const PROGRESSES: u32 = 6;

/// A folder with a configuration and a plugin directory, gone with the test.
pub struct Folder(tempfile::TempDir);

/// What every host of the tests has: HTTP on a free port, and changes followed at once.
const COMMON: &str = "[server]\nlisten = \"127.0.0.1:0\"\n[plugins]\ndebounce = \"100ms\"\n";

impl Folder {
    /// With `config` beside what every host of the tests has.
    pub fn new(config: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path("plugins")).unwrap();
        folder.configure(config);
        folder
    }

    /// A path within.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes the configuration anew.
    pub fn configure(&self, config: &str) {
        self.write_config(&format!("{COMMON}{config}"));
    }

    /// Writes all of the configuration anew, in one step, as an editor does.
    pub fn write_config(&self, text: &str) {
        std::fs::write(self.path("new.toml"), text).unwrap();
        std::fs::rename(self.path("new.toml"), self.path("pressroom.toml")).unwrap();
    }

    /// Puts `bytes` into the plugin directory as `name.wasm`, in one step.
    pub fn drop_in(&self, name: &str, bytes: &[u8]) {
        let (new, file) = (self.path(&format!("{name}.new")), self.plugin(name));
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// Where the plugin `name` lies.
    pub fn plugin(&self, name: &str) -> PathBuf {
        self.path(&format!("plugins/{name}.wasm"))
    }

    /// What is in a file; nothing if it is not there.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Starts a host in this process.
    pub async fn start(&self) -> Running {
        self.start_with(Host::builder().compiler(env!("CARGO_BIN_EXE_pressroom"))).await
    }

    /// As [`Folder::start`], with publishers of the test's own.
    pub async fn start_with(&self, builder: HostBuilder) -> Running {
        let host = builder.config_file(self.path("pressroom.toml")).start().await.unwrap();
        let api = Api::new(format!("http://{}", host.server_addr().unwrap()));
        Running { host, api }
    }

    /// How often each id stands in a file of JSON lines. A file that is not there has none.
    pub fn ids(&self, file: &str) -> BTreeMap<String, usize> {
        let text = std::fs::read_to_string(self.path(file)).unwrap_or_default();
        let mut ids = BTreeMap::new();
        for line in text.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| {
                panic!("{file}: {error} in {line}");
            });
            *ids.entry(record["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        ids
    }

    /// Fails unless exactly the events of these numbers are in `file`, each once.
    pub fn assert_holds(&self, file: &str, numbers: std::ops::Range<u64>) {
        let ids = self.ids(file);
        assert!(ids.values().all(|times| *times == 1), "{file}: a record stands there twice");
        assert!(
            ids.keys().cloned().eq(numbers.map(|number| id(number).to_string())),
            "{file}: {}",
            ids.len()
        );
    }
}

/// A host in this process.
pub struct Running {
    /// The host.
    pub host: Host,
    /// Someone who talks to it over HTTP.
    pub api: Api,
}

/// Waits until `condition` gives something, and fails with `what` if it takes too long.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, condition: impl FnMut() -> F) -> T {
    until_or(what, PATIENCE, condition, String::new).await
}

/// As [`until`], with another patience and more to say on failure.
pub async fn until_or<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    condition: impl FnMut() -> F,
    more: impl Fn() -> String,
) -> T {
    until_progress_ends(what, patience, condition, String::new, more).await
}

/// As [`until_or`], and a change of `progress` starts the wait anew.
pub async fn until_progress_ends<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> F,
    progress: impl Fn() -> String,
    more: impl Fn() -> String,
) -> T {
    let mut wait = Wait::new(patience);
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(wait.goes_on(&progress), "it never came to this: {what}\n{}", more());
        // Between two looks, not instead of one.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A wait that progress prolongs.
pub struct Wait {
    patience: Duration,
    deadline: Instant,
    last: String,
    left: u32,
}

impl Wait {
    /// One that begins now.
    pub fn new(patience: Duration) -> Self {
        Self { patience, deadline: Instant::now() + patience, last: String::new(), left: PROGRESSES }
    }

    /// Whether there is time left. Where there is none, the wait starts anew if `progress` has changed since it last did.
    pub fn goes_on(&mut self, progress: impl Fn() -> String) -> bool {
        if Instant::now() < self.deadline {
            return true;
        }
        let now = progress();
        if self.left == 0 || now == self.last {
            return false;
        }
        (self.last, self.left) = (now, self.left - 1);
        self.deadline = Instant::now() + self.patience;
        true
    }
}

/// Says that a test was not run, and fails where nothing may be left out.
pub fn skipped(what: &str) {
    say(&format!("SKIPPED: {what}; tests/run brings it"));
    assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped: {what}");
}

/// Says something past the harness, which keeps to itself what a test that passes prints.
pub fn say(what: &str) {
    let _ = std::io::stderr().write_all(format!("\n{what}\n").as_bytes());
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
