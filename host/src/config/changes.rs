//! What becomes of a changed key in a running host: it is applied, or refused by name.
//!
//! Invariant: each key of each section is listed here; a section with a key that is not does not compile. (A publisher's
//! section is applied as a whole, by its fingerprint.)

use super::Config;
use super::ingest::{IngestConfig, OtlpConfig};
use super::sections::{
    DeadLettersConfig, JournalConfig, PluginsConfig, RecorderConfig, ReportsConfig, ServerConfig,
    ShutdownConfig,
};

/// Whether a running host takes a changed key over.
#[derive(PartialEq, Eq)]
enum Takes {
    /// It does: the key is read whenever it is needed.
    Live,
    /// It must be restarted.
    Restart,
}

/// Defines `restart_keys` of a section: its keys that differ and that need a restart.
macro_rules! keys {
    ($section:ident { $($key:ident: $takes:ident),+ $(,)? }) => {
        impl $section {
            fn restart_keys(&self, new: &Self) -> Vec<&'static str> {
                let Self { $($key),+ } = self;
                let differ = [$((stringify!($key), Takes::$takes, *$key != new.$key)),+];
                let refused = differ.into_iter().filter(|(_, takes, differs)| *differs && *takes == Takes::Restart);
                refused.map(|(key, ..)| key).collect()
            }
        }
    };
}

keys!(JournalConfig { max_bytes: Restart, max_records: Restart });
keys!(RecorderConfig {
    max_pending: Restart,
    max_pending_bytes: Restart,
    max_buffered: Restart,
    max_buffered_bytes: Restart,
});
keys!(ReportsConfig {
    max_records: Restart,
    max_bytes: Restart,
    max_age: Restart,
    slow_threshold: Restart,
    max_names: Restart,
    max_statistics_bytes: Restart,
});
keys!(OtlpConfig {
    resource_attributes: Restart,
    events: Restart,
    links: Restart,
    scope: Restart,
    trace_state: Restart
});
keys!(ServerConfig {
    enabled: Restart,
    listen: Restart,
    otlp_listen: Restart,
    cors_origins: Restart,
    token: Restart,
    allow_without_token: Restart,
    hosts: Restart,
    max_body: Restart,
    max_decompressed: Restart,
    max_connections: Restart,
});
keys!(PluginsConfig {
    dir: Restart,
    drop_in: Live,
    cache_dir: Restart,
    cache_max_bytes: Restart,
    baseline: Restart,
    compile_memory: Restart,
    compile_timeout: Restart,
    trusted_keys: Restart,
    locked: Restart,
    debounce: Live,
});
keys!(DeadLettersConfig { path: Restart });
keys!(ShutdownConfig { timeout: Live });

impl Config {
    /// The keys in which `new` differs from this and that a running host cannot take over: it must be restarted.
    /// What is not named here, it takes over.
    pub fn needs_restart(&self, new: &Self) -> Vec<String> {
        let Self {
            journal,
            recorder,
            reports,
            server,
            ingest: IngestConfig { otlp },
            plugins,
            dead_letters,
            shutdown,
            publishers: _,
            base_dir: _,
            secrets: _,
            files: _,
            dead_letters_at: _,
        } = self;
        let sections = [
            ("journal", journal.restart_keys(&new.journal)),
            ("recorder", recorder.restart_keys(&new.recorder)),
            ("reports", reports.restart_keys(&new.reports)),
            ("server", server.restart_keys(&new.server)),
            ("ingest.otlp", otlp.restart_keys(&new.ingest.otlp)),
            ("plugins", plugins.restart_keys(&new.plugins)),
            ("dead_letters", dead_letters.restart_keys(&new.dead_letters)),
            ("shutdown", shutdown.restart_keys(&new.shutdown)),
        ];
        let keys = sections
            .into_iter()
            .flat_map(|(section, keys)| keys.into_iter().map(move |key| format!("{section}.{key}")));
        // A path that is written in another way, or equals the default, is the same.
        keys.filter(|key| match key.as_str() {
            "plugins.dir" => self.plugins_dir() != new.plugins_dir(),
            "plugins.cache_dir" => self.cache_dir() != new.cache_dir(),
            "dead_letters.path" => self.dead_letters_path() != new.dead_letters_path(),
            _ => true,
        })
        .collect()
    }
}
