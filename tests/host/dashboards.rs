//! The dashboards of `dashboards/`: each of their queries finds data where a host has published, and the files are such as
//! Grafana and Kibana take.

mod grafana;
mod install;
mod kibana;
mod lens;
mod promql;
mod recorded;
mod schema;
mod scripted;

use crate::support::root;
use std::collections::BTreeSet;

/// A file of `dashboards/`.
fn file(name: &str) -> String {
    let path = root().join("dashboards").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The metrics that dashboards/README.md lists, by name, with their labels.
fn documented() -> Vec<(String, BTreeSet<String>)> {
    let readme = file("README.md");
    let (_, section) = readme.split_once("\n## The metrics\n").unwrap();
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    cells
        .map(|(name, rest)| {
            let labels = rest.split('|').nth(1).unwrap_or_default();
            (name.to_owned(), labels.split('`').skip(1).step_by(2).map(str::to_owned).collect())
        })
        .collect()
}
