//! What a case is: a plugin, what its section says, and what must come of it.
//!
//! Invariant: a case's name is its publisher's label, so that what is said of it names it.

use crate::support::fixture;
use std::path::Path;

/// Little memory; more compute and time than any case needs that has an end of its own.
const WIDE: &str = "cpu_per_call = \"5m\", call_timeout = \"10m\", memory = \"16MiB\"";
/// With more memory.
pub const ROOMY: &str = "cpu_per_call = \"5m\", call_timeout = \"10m\", memory = \"128MiB\"";
/// Little compute, for a case that computes without end.
const COMPUTING: &str = "cpu_per_call = \"150ms\", call_timeout = \"25s\", memory = \"16MiB\"";
/// Little time, for a case that waits without end.
pub const WAITING: &str = "cpu_per_call = \"5m\", call_timeout = \"2s\", memory = \"16MiB\"";

/// What is said of a case that has used up the compute of [`COMPUTING`].
pub const SPUN: &str = "ran past its compute bound of 150ms";

/// A plugin that misbehaves in one way.
pub struct Case {
    pub name: &'static str,
    plugin: Plugin,
    config: String,
    limits: String,
    grant: String,
    /// The section's `timeout`.
    timeout: &'static str,
    /// More keys of the section, a line each.
    keys: String,
    pub then: Then,
    /// What it does wrong it does with events alone, and publishes operations.
    pub spares_operations: bool,
}

/// Where the plugin comes from.
enum Plugin {
    /// The guest `hostile`, whose settings say what it does.
    Guest,
    /// A file of its own.
    File(Vec<u8>),
    /// Something of its own in the place of a file.
    Placed(Box<dyn Fn(&Path)>),
}

/// What must come of it.
pub enum Then {
    /// It publishes nothing, or no event; what is said of it has these words.
    Fails(&'static str),
    /// It publishes, or not: that is not the point. What is said of it has these words.
    Falters(&'static str),
    /// It publishes everything in the end. Its own log has these lines.
    Delivers(&'static [&'static str]),
    /// What it does not publish is set aside, with these words as the reason.
    SetsAside(&'static str),
}

/// A case of the guest `hostile`, which does what it is called.
pub fn guest(name: &'static str) -> Case {
    Case {
        name,
        plugin: Plugin::Guest,
        config: format!("do = \"{name}\""),
        limits: WIDE.to_owned(),
        grant: String::new(),
        timeout: "20m",
        keys: String::new(),
        then: Then::Delivers(&[]),
        spares_operations: false,
    }
}

/// A case that is a file.
pub fn file(name: &'static str, bytes: Vec<u8>) -> Case {
    Case { plugin: Plugin::File(bytes), ..guest(name) }
}

/// A case that is something in the place of a file: `place` puts it there.
pub fn placed(name: &'static str, place: impl Fn(&Path) + 'static) -> Case {
    Case { plugin: Plugin::Placed(Box::new(place)), ..guest(name) }
}

/// A case that is written by hand: `tests/fixtures/raw.wat`, with these lines replaced.
pub fn raw(name: &'static str, lines: &[(&str, &str)]) -> Case {
    Case { spares_operations: true, ..file(name, made_of("raw.wat", lines)) }
}

/// A component of `tests/fixtures` with `;; HERE …` lines replaced.
pub fn made_of(name: &str, lines: &[(&str, &str)]) -> Vec<u8> {
    let path = crate::support::root().join("tests/fixtures").join(name);
    let mut text = std::fs::read_to_string(path).unwrap();
    for (here, instead) in lines {
        let marker = format!(";; HERE {here}\n");
        assert!(text.contains(&marker), "{name} has no line {marker}");
        text = text.replacen(&marker, &format!("{instead}\n"), 1);
    }
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A case that is a component of `tests/fixtures`.
pub fn fixed(name: &'static str, fixture_name: &str) -> Case {
    file(name, fixture(fixture_name))
}

impl Case {
    /// With these settings, instead of `do = NAME`.
    pub fn config(mut self, config: &str) -> Self {
        self.config = config.to_owned();
        self
    }

    /// With these settings beside `do = NAME`.
    pub fn with(mut self, config: &str) -> Self {
        self.config = format!("{}, {config}", self.config);
        self
    }

    /// With these limits, instead of wide ones.
    pub fn limits(mut self, limits: &str) -> Self {
        self.limits = limits.to_owned();
        self
    }

    /// With this grant, instead of none.
    pub fn grant(mut self, grant: &str) -> Self {
        self.grant = grant.to_owned();
        self
    }

    /// With one more key in its section.
    pub fn key(mut self, key: &str) -> Self {
        self.keys += key;
        self.keys.push('\n');
        self
    }

    /// It publishes nothing, or no event, and `words` are in what is said of it.
    pub fn fails(self, words: &'static str) -> Self {
        Self { then: Then::Fails(words), ..self }
    }

    /// `words` are in what is said of it, whatever it publishes.
    pub fn falters(self, words: &'static str) -> Self {
        Self { then: Then::Falters(words), ..self }
    }

    /// With little compute, for what computes without end. The section's `timeout` has room for one such call, so that a
    /// batch is not halved, which would take hundreds of calls.
    pub fn computing(self) -> Self {
        Self { timeout: "30s", ..self.limits(COMPUTING) }
    }

    /// It computes without end, and fails for its compute bound.
    pub fn spins(self) -> Self {
        self.computing().fails(SPUN)
    }

    /// It publishes everything, and its log has all of `lines`.
    pub fn delivers(self, lines: &'static [&'static str]) -> Self {
        Self { then: Then::Delivers(lines), ..self }
    }

    /// What it does not publish becomes dead letters, `words` being in their reasons.
    pub fn sets_aside(self, words: &'static str) -> Self {
        Self { then: Then::SetsAside(words), ..self }
    }

    /// Puts its file, if it has one, into the plugin directory `dir`.
    pub fn place(&self, dir: &Path) {
        let file = dir.join(format!("{}.wasm", self.name));
        match &self.plugin {
            Plugin::Guest => {}
            Plugin::File(bytes) => std::fs::write(file, bytes).unwrap(),
            Plugin::Placed(place) => place(&file),
        }
    }

    /// Takes its file, if it has one, out of the plugin directory `dir`.
    pub fn remove(&self, dir: &Path) {
        let file = dir.join(format!("{}.wasm", self.name));
        match std::fs::symlink_metadata(&file) {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir(file).unwrap(),
            Ok(_) => std::fs::remove_file(file).unwrap(),
            Err(_) => {}
        }
    }

    /// Its section of the configuration.
    pub fn section(&self) -> String {
        let Self { name, config, limits, grant, timeout, keys, .. } = self;
        let plugin = if matches!(self.plugin, Plugin::Guest) { "hostile" } else { name };
        format!(
            "[publishers.{name}]\ntype = \"wasm\"\nplugin = \"{plugin}\"\nconfig = {{ {config} }}\n\
             limits = {{ {limits} }}\ngrant = {{ {grant} }}\nretry = {{ max = \"1s\", hold = \"1s\" }}\n\
             flush_interval = \"500ms\"\ntimeout = \"{timeout}\"\n{keys}"
        )
    }
}
