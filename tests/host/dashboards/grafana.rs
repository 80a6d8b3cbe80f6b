//! What every panel of Grafana's dashboard must have, read from the file.

use super::{documented, file};
use serde_json::Value;
use std::collections::BTreeSet;

/// Units that Grafana knows: those of `@grafana/data` 12.4 that are in use here. Another one would be a suffix.
const UNITS: &[&str] = &[
    "Bps",
    "bytes",
    "cps",
    "dtdurations",
    "eps",
    "none",
    "ops",
    "percentunit",
    "recps",
    "reqps",
    "s",
    "short",
];

/// What overrides change beside the unit.
const OVERRIDES: &[&str] = &["color", "custom.cellOptions", "decimals", "mappings", "thresholds"];

/// The dashboard.
pub(super) fn dashboard() -> Value {
    serde_json::from_str(&file("grafana/pressroom.json")).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Its panels, those of collapsed rows too; rows are none.
pub(super) fn panels(dashboard: &Value) -> Vec<&Value> {
    let (rows, panels): (Vec<_>, Vec<_>) =
        list(dashboard, "panels").iter().partition(|panel| panel["type"] == "row");
    panels.into_iter().chain(rows.into_iter().flat_map(|row| list(row, "panels"))).collect()
}

/// Its queries, each with the panel that it is in.
pub(super) fn targets(dashboard: &Value) -> Vec<(&Value, &Value)> {
    let of = |panel| list(panel, "targets").iter().map(move |target| (panel, target));
    panels(dashboard).into_iter().flat_map(of).collect()
}

/// Its variables.
pub(super) fn variables(dashboard: &Value) -> &[Value] {
    list(&dashboard["templating"], "list")
}

/// The selectors of an expression, as (metric, what stands in the braces).
pub(super) fn selectors(expression: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (open, _) in expression.match_indices('{') {
        let before = &expression[..open];
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let start = before.rfind(|c| !name(c)).map_or(0, |at| at + 1);
        let (matchers, _) = expression[open + 1..].split_once('}').unwrap();
        found.push((&before[start..], matchers));
    }
    found
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn its_identity_is_fixed() {
    let dashboard = dashboard();
    assert_eq!((&dashboard["uid"], &dashboard["title"]), (&"pressroom".into(), &"Pressroom".into()));
    assert_eq!(dashboard["schemaVersion"], 42);
    // An id is one Grafana's own; with it, another dashboard there would be meant.
    assert!(dashboard["id"].is_null());
    assert_eq!(dashboard["tags"], serde_json::json!(["pressroom"]));
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_and_what_no_data_means() {
    let dashboard = dashboard();
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for row in list(&dashboard, "panels").iter().filter(|panel| panel["type"] == "row") {
        assert!(ids.insert(row["id"].as_u64().unwrap()), "{}", row["title"]);
    }
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(titles.insert(title), "two panels are called {title:?}");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another one's");
        let description = text(panel, "description");
        assert!(description.ends_with('.') && description.len() > 20, "{title}: {description:?}");
        let defaults = &panel["fieldConfig"]["defaults"];
        assert!(UNITS.contains(&text(defaults, "unit")), "{title}: {}", defaults["unit"]);
        assert!(!text(defaults, "noValue").is_empty(), "{title}: nothing is said where there is no data");
        for override_ in list(&panel["fieldConfig"], "overrides") {
            for property in list(override_, "properties") {
                let known = match text(property, "id") {
                    "unit" => UNITS.contains(&text(property, "value")),
                    // Grafana's types leave these open, and what it does not know it passes over.
                    id => OVERRIDES.contains(&id),
                };
                assert!(known, "{title}: {property}");
            }
        }
        if panel["type"] == "timeseries" {
            let tooltip = &panel["options"]["tooltip"];
            assert_eq!((&tooltip["mode"], &tooltip["sort"]), (&"multi".into(), &"desc".into()), "{title}");
        }
        assert!(!list(panel, "targets").is_empty(), "{title}: asks nothing");
    }
    assert!(titles.len() > 40, "the rule looks at nothing: {titles:?}");
}

/// Where a panel is: its columns, its top, its bottom.
fn place(panel: &Value) -> (std::ops::Range<u64>, u64, u64) {
    let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
    (at("x")..at("x") + at("w"), at("y"), at("y") + at("h"))
}

/// Fails unless Grafana, which lets every panel rise until it meets another, would leave these where they are.
fn is_settled(panels: &[Value], top: u64) {
    for (number, panel) in panels.iter().enumerate() {
        let (title, (columns, y, _)) = (text(panel, "title"), place(panel));
        assert!(columns.end <= 24 && !columns.is_empty(), "{title}: {columns:?}");
        let mut above = top;
        for other in &panels[..number] {
            let (others, other_y, bottom) = place(other);
            if others.start < columns.end && columns.start < others.end {
                let name = text(other, "title");
                assert!(bottom <= y, "{title} at {y} lies on {name}, which is at {other_y} to {bottom}");
                above = above.max(bottom);
            }
        }
        assert_eq!(y, above, "{title} would not stay there");
    }
}

#[test]
fn no_panel_lies_on_another_and_none_would_move() {
    let dashboard = dashboard();
    let panels = list(&dashboard, "panels");
    is_settled(panels, 0);
    let mut collapsed = 0;
    for row in panels.iter().filter(|panel| panel["type"] == "row") {
        let (columns, _, bottom) = place(row);
        assert_eq!((columns, row["gridPos"]["h"].as_u64()), (0..24, Some(1)), "{}", row["title"]);
        let within = list(row, "panels");
        // Panels of a row that is open stand beside it, those of one that is collapsed within it.
        assert_eq!(row["collapsed"], !within.is_empty(), "{}", row["title"]);
        is_settled(within, bottom);
        collapsed += usize::from(!within.is_empty());
    }
    assert_eq!(collapsed, 2);
}

#[test]
fn every_rate_is_over_what_grafana_makes_of_the_time_range() {
    let dashboard = dashboard();
    let mut seen = 0;
    for (panel, target) in targets(&dashboard) {
        let (title, expression) = (text(panel, "title"), text(target, "expr"));
        for (at, _) in expression.match_indices('[') {
            let (range, _) = expression[at + 1..].split_once(']').unwrap();
            let call = expression[..at].rfind("rate(").max(expression[..at].rfind("increase(")).unwrap();
            let is_rate = expression[call..].starts_with("rate(");
            // Over the whole range only counts are asked for, once.
            let allowed =
                range == "$__rate_interval" || (range == "$__range" && !is_rate && target["instant"] == true);
            assert!(allowed, "{title}: [{range}] in {expression}");
            seen += 1;
        }
        assert_ne!(target["instant"], target["range"], "{title}");
        assert_eq!(target["instant"] == true, panel["type"] == "table", "{title}");
    }
    assert!(seen > 50, "the rule looks at nothing: {seen}");
}

#[test]
fn nothing_is_hard_wired() {
    let dashboard = dashboard();
    let source = serde_json::json!({ "type": "prometheus", "uid": "${datasource}" });
    for panel in panels(&dashboard) {
        assert_eq!(panel["datasource"], source, "{}", panel["title"]);
    }
    for (panel, target) in targets(&dashboard) {
        let (title, expression) = (text(panel, "title"), text(target, "expr"));
        assert_eq!(target["datasource"], source, "{title}");
        let selectors = selectors(expression);
        assert!(!selectors.is_empty(), "{title}: {expression}");
        for (metric, matchers) in selectors {
            let rest = matchers.strip_prefix("job=~\"$job\",instance=~\"$instance\"");
            let rest = rest.unwrap_or_else(|| panic!("{title}: {metric}{{{matchers}}} is of any job"));
            // What else is chosen by a variable, or has few values that never change.
            for matcher in rest.split("\",").filter(|matcher| !matcher.is_empty()) {
                let matcher = matcher.trim_start_matches(',').trim_end_matches('"');
                let (label, value) = matcher.split_once("=~\"").or(matcher.split_once("=\"")).unwrap();
                let closed = ["status", "direction", "outcome", "state"].contains(&label);
                assert!(value.starts_with('$') || closed, "{title}: {label} is {value}");
            }
        }
    }
    let names: Vec<_> = variables(&dashboard).iter().map(|variable| text(variable, "name")).collect();
    assert_eq!(names, ["datasource", "job", "instance", "service", "event", "operation"]);
    for variable in variables(&dashboard).iter().skip(1) {
        assert_eq!((&variable["datasource"], &variable["multi"]), (&source, &true.into()), "{variable:#}");
        assert_eq!(variable["includeAll"], true, "{variable:#}");
    }
}

#[test]
fn every_metric_of_an_expression_is_documented() {
    let dashboard = dashboard();
    let documented: BTreeSet<_> = documented().into_iter().map(|(name, _)| name).collect();
    let expressions = targets(&dashboard).into_iter().map(|(_, target)| text(target, "expr"));
    let queries = variables(&dashboard).iter().map(|variable| text(&variable["query"], "query"));
    let mut used = BTreeSet::new();
    for expression in expressions.chain(queries.filter(|query| query.contains('{'))) {
        for (metric, _) in selectors(expression) {
            let series = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix));
            let known = documented.contains(metric) || series.is_some_and(|name| documented.contains(name));
            assert!(known, "{metric} is not in dashboards/README.md");
            used.insert(series.unwrap_or(metric).to_owned());
        }
    }
    assert!(used.len() > 25, "the rule looks at nothing: {used:?}");
}
