//! What operators rely on: what is read, what is said about what is wrong, and what is never shown.

mod wrong;

use super::*;
use serde::Deserialize;
use std::time::Duration;

fn variables(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("s3same-open".to_owned()),
        "PIN" => Some("77".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn read(text: &str) -> (Config, Problems) {
    Config::read(text, "/etc/pressroom", "pressroom.toml", &variables)
}

fn good(text: &str) -> Config {
    let (config, problems) = read(text);
    problems.into_result().unwrap();
    config
}

fn shown(problems: Problems) -> String {
    problems.into_result().map_or_else(|error| error.to_string(), |()| String::new())
}

/// What a publisher's type might want.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    url: String,
    index: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    dirs: Vec<Dir>,
    #[serde(default, deserialize_with = "units::optional_duration")]
    patience: Option<Duration>,
    #[serde(default)]
    level: Level,
}

/// A type that judges for itself, and quotes what it was given.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Level;

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "high" { Ok(Self) } else { Err(format!("{text} is no level, say high")) }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dir {
    host: String,
    guest: String,
}

/// Everything that is said about `text`. Reads it, and every publisher of it as [`Search`], as the registry's catalogue does.
fn wrong(text: &str) -> String {
    let (config, mut problems) = read(text);
    for publisher in &config.publishers {
        let before = problems.len();
        let search = publisher.settings.read::<Search>(&mut problems);
        assert!(search.is_some() || problems.len() > before || before > 0, "nothing read and nothing said");
    }
    shown(problems)
}

const EXAMPLE: &str = r#"
[journal]
max_bytes = "256MiB"
max_records = 1_000_000
[recorder]
max_pending = 100_000
max_pending_bytes = "64MiB"
max_buffered = 65_536
max_buffered_bytes = "64MiB"
[reports]
max_records = 100_000
max_bytes = "8MiB"
max_age = "1h"
slow_threshold = "1s"
max_names = 10_000
max_statistics_bytes = "64MiB"
[server]
enabled = true
listen = "127.0.0.1:4680"
token = "${TOKEN}"
allow_without_token = false
hosts = ["pressroom.example"]
max_body = "16MiB"
max_decompressed = "64MiB"
max_connections = 1024
[plugins]
dir = "plugins"
drop_in = true
cache_dir = "/var/cache/pressroom"
debounce = "250ms"
[dead_letters]
path = "dead-letters.jsonl"
[shutdown]
timeout = "10s"

[publishers.search]
type = "search"
only = { kind = "event", event_name = "resize*", status = ["failed", "completed"], pipeline = ["thumbs", "index-?"], min_duration = "2s", attributes = { region = ["eu", "us"], zone = 3 }, keep = 0.1 }
from = "newest"
overflow = "drop_oldest"
batch = { max_records = 1024, max_bytes = "4MiB", max_age = "200ms" }
retry = { initial = "100ms", max = "30s", max_age = "24h", hold = "30s" }
timeout = "30s"
flush_interval = "10s"
url = "https://${TOKEN}@search"
index = "$${pressroom}"

[publishers.archive]
type = "search"
from = "oldest"
overflow = "block"
only = { status = "cancelled" }
[publishers.archive.batch]
max_age = "1d"
"#;

#[test]
fn the_example_is_read_in_its_order() {
    let config = good(EXAMPLE);
    // The example spells out the defaults.
    let defaults = Config::default();
    assert_eq!((&config.journal, &config.recorder), (&defaults.journal, &defaults.recorder));
    assert_eq!((&config.reports, &config.shutdown), (&defaults.reports, &defaults.shutdown));
    assert_eq!(config.server.token, Some(Secret::new("s3same-open")));
    assert_eq!(config.server.hosts, ["pressroom.example"]);
    assert_eq!(config.plugins_dir(), Path::new("/etc/pressroom/plugins"));
    assert_eq!(config.cache_dir(), Path::new("/var/cache/pressroom"));
    assert_eq!(config.dead_letters_path(), Path::new("/etc/pressroom/dead-letters.jsonl"));

    let labels: Vec<_> = config.publishers.iter().map(|publisher| publisher.label.as_str()).collect();
    assert_eq!(labels, ["search", "archive"], "the order of the file, not of the alphabet");
    let [search, archive] = &config.publishers[..] else { panic!("two") };
    let only = search.delivery.only.as_ref().unwrap();
    assert_eq!(search.delivery, DeliveryConfig { only: Some(only.clone()), ..DeliveryConfig::default() });
    let statuses = [OnlyStatus::Failed, OnlyStatus::Completed];
    assert_eq!((only.kind, &only.status[..]), (Some(OnlyKind::Event), &statuses[..]));
    assert!(only.event_name[0].matches("resize-large"));
    assert_eq!(only.min_duration, Some(Duration::from_secs(2)));
    assert_eq!(only.attributes["region"], ["eu", "us"]);
    assert_eq!(only.attributes["zone"], ["3"]);
    assert_eq!(only.keep.unwrap().of_one(), 0.1);
    assert_eq!((search.kind.as_str(), search.line), ("search", 36));

    assert_eq!((archive.delivery.from, archive.delivery.overflow), (From::Oldest, Overflow::Block));
    assert_eq!(archive.delivery.only.as_ref().unwrap().status, [OnlyStatus::Cancelled]);
    assert_eq!(archive.delivery.batch.max_age, Duration::from_secs(86_400));
    assert_eq!(archive.delivery.batch.max_records, 1_024);

    let mut problems = Problems::new();
    let settings: Search = search.settings.read(&mut problems).unwrap();
    assert_eq!(
        (settings.url.as_str(), settings.index.as_str()),
        ("https://s3same-open@search", "${pressroom}")
    );
    assert!(problems.is_empty());
}

#[test]
fn secrets_are_never_shown() {
    let (config, problems) = read(&EXAMPLE.replace("pipeline = \"thumbs\"", "pipeline = \"${TOKEN}\""));
    problems.into_result().unwrap();
    let search = &config.publishers[0];
    let problem = search.problem_at("url", "cannot reach https://s3same-open@search");
    assert_eq!(
        problem.to_string(),
        "pressroom.toml:45:7: publishers.search.url: cannot reach https://[redacted]@search"
    );
    for shown in [
        format!("{config:?}"),
        format!("{config:#?}"),
        format!("{search:?}"),
        format!("{:?}", search.settings),
        format!("{:?}", config.server),
        format!("{problem:?}"),
    ] {
        assert!(!shown.contains("s3same"), "{shown}");
        assert!(shown.contains("[redacted]"), "{shown}");
    }
    assert_eq!(config.secrets().redact("the token is s3same-open"), "the token is [redacted]");
    assert_eq!(format!("{:?}", config.publishers[1].settings), "{}", "common keys are not the type's own");
}

#[test]
fn a_type_may_take_any_toml() {
    let config = good(
        "[publishers.a]\ntype = 'wasm'\nconfig = { a = 1, b = [true, 1.5], c = { d = 'x' }, e = 1979-05-27 }",
    );
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wasm {
        config: serde_json::Map<String, serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Toml {
        config: toml::Table,
    }
    let mut problems = Problems::new();
    let wasm: Wasm = config.publishers[0].settings.read(&mut problems).unwrap();
    let expected = serde_json::json!({ "a": 1, "b": [true, 1.5], "c": { "d": "x" }, "e": "1979-05-27" });
    assert_eq!(serde_json::Value::Object(wasm.config), expected);
    let toml: Toml = config.publishers[0].settings.read(&mut problems).unwrap();
    assert_eq!(toml.config["b"][1].as_float(), Some(1.5));
    assert!(problems.is_empty());
}

#[test]
fn a_fingerprint_changes_with_what_is_said_and_with_nothing_else() {
    let fingerprint = |text: &str| good(text).publishers[0].fingerprint();
    let first = fingerprint("[publishers.a]\ntype = 'x'\nurl = 'u'\nbatch = { max_records = 5 }");
    assert_eq!(
        first,
        fingerprint("\n[publishers.a.batch]\nmax_records = 5\n[publishers.a]\nurl = 'u'\ntype = 'x'")
    );
    for other in [
        "[publishers.b]\ntype = 'x'\nurl = 'u'\nbatch = { max_records = 5 }",
        "[publishers.a]\ntype = 'y'\nurl = 'u'\nbatch = { max_records = 5 }",
        "[publishers.a]\ntype = 'x'\nurl = '${TOKEN}'\nbatch = { max_records = 5 }",
        "[publishers.a]\ntype = 'x'\nurl = 'u'\nbatch = { max_records = 6 }",
        "[publishers.a]\ntype = 'x'\nurl = 'u'",
    ] {
        assert_ne!(first, fingerprint(other), "{other}");
    }
}

#[test]
fn a_section_can_be_made_without_a_file() {
    let section =
        PublisherSection::new("drop-in", "search").with("url", "u").with("url", "v").with("index", "i");
    let search: Search = section.settings.read(&mut Problems::new()).unwrap();
    assert_eq!((search.url.as_str(), search.index.as_str()), ("v", "i"));
    assert_eq!(section.fingerprint(), section.clone().fingerprint());
    assert_ne!(section.fingerprint(), section.clone().with("url", "w").fingerprint());
    let mut problems = Problems::new();
    assert!(section.with("colour", "red").settings.read::<Search>(&mut problems).is_none());
    assert!(
        shown(problems)
            .starts_with("(built in): publishers.drop-in.colour: unknown key, known are batch, dirs")
    );
}

#[test]
fn what_needs_a_restart_is_named() {
    let old = good(EXAMPLE);
    assert_eq!(old.needs_restart(&old.clone()), Vec::<String>::new());
    let live =
        EXAMPLE.replace("drop_in = true", "drop_in = false").replace("timeout = \"10s\"", "timeout = \"1m\"");
    assert_eq!(old.needs_restart(&good(&live)), Vec::<String>::new());
    // A default that is written out is no change.
    assert_eq!(
        old.needs_restart(&good(&EXAMPLE.replace("path = \"dead-letters.jsonl\"", ""))),
        Vec::<String>::new()
    );
    let new = EXAMPLE
        .replace("127.0.0.1:4680", "127.0.0.1:1")
        .replace("256MiB", "1GiB")
        .replace("${TOKEN}", "another-token");
    assert_eq!(old.needs_restart(&good(&new)), ["journal.max_bytes", "server.listen", "server.token"]);
}

#[test]
fn a_file_is_read_from_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.toml");
    let error = Config::load(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: cannot be read: No such file or directory (os error 2)", path.display())
    );
    std::fs::write(dir.path().join("token"), "s3same-open\n").unwrap();
    std::fs::write(&path, "[server]\ntoken = '${file:token}'").unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.server.token, Some(Secret::new("s3same-open")));
    assert_eq!(config.base_dir, dir.path());
    std::fs::write(&path, [b'a', 0xff]).unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("UTF-8"));
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange(at in 0..EXAMPLE.len(), length in 0usize..40, with in "[\\[\\]{}='\"$.,\n a-z0-9]{0,12}") {
        let mut text = EXAMPLE.to_owned();
        text.replace_range(at..(at + length).min(EXAMPLE.len()), &with);
        let shown = wrong(&text);
        proptest::prop_assert!(!shown.contains("s3same"));
    }
}
