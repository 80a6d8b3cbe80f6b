//! Every key of the configuration, as the types list them: a change of it in a running host is applied or refused by name.

use super::{PATIENCE, write};
use crate::config::{Config, DeliveryConfig};
use crate::host::{Host, ReloadError};
use serde::de::DeserializeOwned;
use std::path::Path;

/// The publisher comes first: a section knows its line, and a line that is added above it would change that, too.
const BASE: &str = "[publishers.one]\ntype = \"file\"\npath = \"one.jsonl\"\n[server]\nenabled = false\n";

/// Values of every kind that a key may have. The first that a key takes, and that is not what it has, is its changed one.
const VALUES: [&str; 16] = [
    "false",
    "true",
    "7",
    "\"700MiB\"",
    "\"7s\"",
    "\"127.0.0.1:7\"",
    "[\"seven\"]",
    "[\"https://app.example\"]",
    "\"a-text-that-is-long-enough-for-a-token\"",
    "\"newest\"",
    "\"oldest\"",
    "\"block\"",
    "{ max_records = 7 }",
    "{ max_age = \"7s\" }",
    "{ kind = \"event\" }",
    "{ status = [\"failed\"] }",
];

/// What an error lists as known: the words in backticks, but for the first, which is the unknown one.
fn known(error: &str) -> Vec<String> {
    error.split('`').skip(1).step_by(2).skip(1).map(str::to_owned).collect()
}

fn keys<T: DeserializeOwned + std::fmt::Debug>() -> Vec<String> {
    known(&toml::from_str::<T>("nobody_has_this_key = 1").unwrap_err().to_string())
}

fn parse(text: &str, dir: &Path) -> Option<String> {
    let config = Config::parse(text, dir, "pressroom.toml").ok()?;
    // What the types of publishers know.
    let mut problems = crate::config::Problems::new();
    super::super::catalog::Catalog::new(std::collections::BTreeMap::new()).read(&config, &mut problems);
    problems.is_empty().then(|| format!("{config:?}"))
}

/// `BASE` with `key` of `section` changed.
fn changed(section: &str, key: &str, dir: &Path) -> String {
    let before = parse(BASE, dir).unwrap();
    let header = format!("[{section}]\n");
    let with = |value: &&str| match BASE.contains(&header) {
        true => {
            let line = |line: &&str| !line.starts_with(&format!("{key} ="));
            let base = BASE.lines().filter(line).map(|line| format!("{line}\n")).collect::<String>();
            base.replace(&header, &format!("{header}{key} = {value}\n"))
        }
        false => format!("{BASE}{header}{key} = {value}\n"),
    };
    let mut candidates = VALUES.iter().map(with);
    let found = candidates.find(|text| parse(text, dir).is_some_and(|config| config != before));
    found.unwrap_or_else(|| panic!("{section}.{key}: give VALUES one that it takes"))
}

#[tokio::test]
async fn a_change_of_any_key_is_applied_or_refused_by_name() {
    use crate::config as sections;
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), BASE);
    let host = Host::builder().config_file(&file).watch(false).start().await.unwrap();
    let own = [
        ("journal", keys::<sections::JournalConfig>()),
        ("recorder", keys::<sections::RecorderConfig>()),
        ("reports", keys::<sections::ReportsConfig>()),
        ("server", keys::<sections::ServerConfig>()),
        ("ingest.otlp", keys::<sections::OtlpConfig>()),
        ("plugins", keys::<sections::PluginsConfig>()),
        ("dead_letters", keys::<sections::DeadLettersConfig>()),
        ("shutdown", keys::<sections::ShutdownConfig>()),
    ];
    let every = Config::parse("[no_such_section_at_all]\n", "", "").unwrap_err().to_string();
    let (_, listed) = every.split_once("known are ").unwrap_or_else(|| panic!("{every}"));
    let listed: Vec<&str> = listed.split(", ").map(str::trim).filter(|name| *name != "publishers").collect();
    let mut tried: Vec<&str> = own.iter().map(|(section, _)| section.split('.').next().unwrap()).collect();
    assert_eq!(keys::<sections::IngestConfig>(), ["otlp"]);
    tried.sort_unstable();
    assert_eq!(listed, tried, "a section is new: add it here");
    let (mut applied, mut refused) = (0, 0);
    for (section, keys) in own {
        assert!(!keys.is_empty(), "{section}");
        for key in keys {
            let name = format!("{section}.{key}");
            let text = changed(section, &key, dir.path());
            write(dir.path(), &text);
            match host.reload().await {
                Ok(_) => {
                    assert_eq!(Some(format!("{:?}", host.config())), parse(&text, dir.path()), "{name}");
                    assert!(
                        ["plugins.drop_in", "plugins.debounce", "shutdown.timeout"].contains(&&*name),
                        "{name} is neither refused nor known to be applied: who reads it anew?"
                    );
                    applied += 1;
                }
                Err(ReloadError::NeedsRestart(keys)) => {
                    assert!(keys.contains(&name), "{name}: {keys:?}");
                    refused += 1;
                }
                Err(error) => panic!("{name}: {error}\n{text}"),
            }
            write(dir.path(), BASE);
            host.reload().await.unwrap();
        }
    }
    assert!(applied > 0 && refused > 20, "{applied} {refused}");
    host.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_change_of_any_key_of_a_publisher_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), BASE);
    let host = Host::builder().config_file(&file).watch(false).start().await.unwrap();
    let common = keys::<DeliveryConfig>();
    assert!(common.len() > 5, "{common:?}");
    for key in common {
        write(dir.path(), &changed("publishers.one", &key, dir.path()));
        let applied = host.reload().await.unwrap();
        assert_eq!(applied.replaced, ["one".into()], "{key}");
        write(dir.path(), BASE);
        host.reload().await.unwrap();
    }
    host.shutdown(PATIENCE).await;
}
