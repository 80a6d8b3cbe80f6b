//! Every query of Grafana's dashboard, asked of a real Prometheus that has scraped a running host.

use super::documented;
use super::grafana::{dashboard, panels, targets, variables};
use super::recorded::{TEN, host, wave};
use crate::support::servers::Metrics;
use crate::support::{Api, Folder, PATIENCE, Running, free_port, guest};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Someone who asks a Prometheus what Grafana would ask it, with everything chosen that the variables offer.
struct Grafana {
    url: String,
    login: Option<(&'static str, &'static str)>,
    client: reqwest::Client,
    chosen: BTreeMap<String, String>,
}

impl Grafana {
    /// Opens the dashboard over a server: fills its variables, each of which must find something.
    async fn open(server: &Metrics, dashboard: &Value) -> Self {
        let (url, login) = (server.promql.api().url().to_owned(), server.login());
        let mut grafana = Self { url, login, client: reqwest::Client::new(), chosen: BTreeMap::new() };
        for variable in variables(dashboard).iter().filter(|variable| variable["type"] == "query") {
            let name = variable["name"].as_str().unwrap();
            let query = grafana.filled(variable["query"]["query"].as_str().unwrap());
            let call = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
            let (series, label) = call.rsplit_once(", ").unwrap();
            let values = grafana.ask(&format!("/api/v1/label/{label}/values"), &[("match[]", series)]).await;
            let values: Vec<_> =
                values.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
            assert!(!values.is_empty(), "${name} finds nothing: {query}");
            // "All" is its own pattern, or all that was found.
            let escaped = |value: &&str| value.replace('.', "\\\\.");
            let all = variable["allValue"].as_str().map_or_else(
                || format!("({})", values.iter().map(escaped).collect::<Vec<_>>().join("|")),
                str::to_owned,
            );
            grafana.chosen.insert(name.to_owned(), all);
        }
        grafana
    }

    /// As Grafana fills it in: variables, and the ranges that it makes of the time range.
    fn filled(&self, expression: &str) -> String {
        let mut filled = expression.replace("$__rate_interval", "1m").replace("$__range", "3600s");
        for (name, value) in &self.chosen {
            filled = filled.replace(&format!("${name}"), value);
        }
        assert!(!filled.contains('$'), "nothing fills in {filled}");
        filled
    }

    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url), parameters).unwrap();
        let request = self.client.get(url);
        let request = match self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{parameters:?}: {status}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()["data"].take()
    }

    /// The series that a query of a panel finds now: their labels, and their newest value.
    async fn series(&self, target: &Value) -> Vec<(BTreeMap<String, String>, f64)> {
        let expression = self.filled(target["expr"].as_str().unwrap());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let (start, end) = ((now - 300).to_string(), (now + 1).to_string());
        let found = match target["range"] == true {
            true => {
                let range = [("query", expression.as_str()), ("start", &start), ("end", &end), ("step", "1")];
                self.ask("/api/v1/query_range", &range).await
            }
            false => self.ask("/api/v1/query", &[("query", &expression)]).await,
        };
        let newest = |series: &Value| -> f64 {
            let values =
                series["values"].as_array().cloned().unwrap_or_else(|| vec![series["value"].clone()]);
            let mut numbers = values.iter().map(|value| value[1].as_str().unwrap().parse::<f64>().unwrap());
            numbers.rfind(|number| !number.is_nan()).unwrap_or(f64::NAN)
        };
        let series = found["result"].as_array().unwrap().iter();
        series
            .map(|series| (serde_json::from_value(series["metric"].clone()).unwrap(), newest(series)))
            .collect()
    }

    /// Fails unless every query finds data, and the data has what the panel shows of it.
    async fn all_find_data(&self, dashboard: &Value) {
        for (panel, target) in targets(dashboard) {
            let (title, expression) = (&panel["title"], &target["expr"]);
            let found = self.series(target).await;
            assert!(
                found.iter().any(|(_, value)| value.is_finite()),
                "{title}: {expression} finds no data: {found:?}"
            );
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let named = legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0));
            for label in named.chain(keys(panel)) {
                let has = |(labels, _): &(BTreeMap<String, String>, f64)| labels.contains_key(label);
                // A table's queries are merged by the labels that they have in common.
                let wanted = match panel["type"] == "table" {
                    true => ["job", "instance", "type", "version"].contains(&label) || found.iter().all(has),
                    false => found.iter().all(has),
                };
                assert!(wanted, "{title}: {expression} has no label {label}: {found:?}");
            }
            if target["format"] == "heatmap" {
                assert!(found.iter().any(|(labels, _)| labels["le"] == "+Inf"), "{title}: {found:?}");
            }
        }
    }

    /// What the panel `title` shows, by the value of `label`.
    async fn shown(&self, dashboard: &Value, title: &str, label: &str) -> BTreeMap<String, f64> {
        let panel = panels(dashboard).into_iter().find(|panel| panel["title"] == title).unwrap();
        let series = self.series(&panel["targets"][0]).await.into_iter();
        series.map(|(labels, value)| (labels.get(label).cloned().unwrap_or_default(), value)).collect()
    }
}

/// The labels that a table has as columns.
fn keys(panel: &Value) -> impl Iterator<Item = &str> {
    let transformations = panel["transformations"].as_array().map_or(&[][..], Vec::as_slice);
    let organized = transformations.iter().find(|one| one["id"] == "organize");
    let renamed = organized.and_then(|one| one["options"]["renameByName"].as_object());
    renamed
        .into_iter()
        .flatten()
        .map(|(column, _)| column.as_str())
        .filter(|column| !column.starts_with("Value #"))
}

/// Records in waves, each of which the server has before the next comes, for rates are of what rises; and then asks all
/// that the dashboard asks.
async fn every_query_finds_data(prometheus: &Metrics, running: Running) {
    for waves in 1..=4 {
        running.api.post(&wave(20)).await;
        let counted = BTreeMap::from([(String::new(), (waves * 20 * TEN) as f64)]);
        let counts = "sum(event_duration_seconds_count) + sum(network_latency_seconds_count)";
        prometheus.promql.until(counts, "", &counted).await;
    }
    // The failover moves on once its first member has failed often enough.
    running.api.until_delivered("pair", 4 * 20 * TEN).await;
    let moved = "pressroom_failover_member_active{member=\"spare\"}";
    prometheus.promql.until(moved, "member", &BTreeMap::from([("spare".to_owned(), 1.0)])).await;
    for (label, state) in [("held", "held"), ("down", "retrying"), ("broken", "quarantined")] {
        running.api.until(label, state, |status| status["state"] == state).await;
        let asked = format!("pressroom_publisher_state{{publisher=\"{label}\",state=\"{state}\"}}");
        prometheus.promql.until(&asked, "publisher", &BTreeMap::from([(label.to_owned(), 1.0)])).await;
    }

    let dashboard = dashboard();
    let grafana = Grafana::open(prometheus, &dashboard).await;
    grafana.all_find_data(&dashboard).await;

    let states = grafana.shown(&dashboard, "State of publishers", "publisher").await;
    let (well, ill) =
        (["metrics", "pair", "picky", "rollup"], [("broken", 8.0), ("down", 5.0), ("held", 6.0)]);
    let wanted = well.map(|label| (label, 1.0)).into_iter().chain(ill);
    assert_eq!(states, wanted.map(|(label, state)| (label.to_owned(), state)).collect());
    let members = grafana.shown(&dashboard, "Failover members", "member").await;
    assert_eq!(
        members,
        [("spare", 2.0), ("trapping", 0.0)].map(|(label, stand)| (label.to_owned(), stand)).into()
    );
    // A plugin is seen as one where it is a failover's member, too.
    let discarded = grafana.shown(&dashboard, "Discarded instances", "publisher").await;
    assert!(discarded.keys().eq(["broken", "rollup", "trapping"]), "{discarded:?}");
    let down = grafana.shown(&dashboard, "Publishers not at work", "").await;
    assert_eq!(down[""], 3.0);
    // One of seven events failed, one of three network operations; 7 of 7 events were tried 6 times again.
    let ratios =
        [("Failed events", 1.0 / 7.0), ("Failed operations", 1.0 / 3.0), ("Retries per event", 6.0 / 7.0)];
    for (title, wanted) in ratios {
        let shown = grafana.shown(&dashboard, title, "").await[""];
        assert!((shown - wanted).abs() < 1e-3, "{title}: {shown}, not {wanted}");
    }
    // The slowest seventh of the events took 12 seconds, and the buckets end at 10 and 30.
    let p95 = grafana.shown(&dashboard, "Duration, p95", "").await[""];
    assert!((10.0..=30.0).contains(&p95), "{p95}");
    let lost = grafana.shown(&dashboard, "Set aside and lost", "publisher").await;
    assert!(lost["picky"] > 0.0 && lost.len() == 1, "{lost:?}");
    // Two of them will not deliver, however long they have.
    assert!(running.host.shutdown(Duration::from_millis(100)).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_finds_data_in_a_prometheus_that_scraped_a_host() {
    let scrape = free_port();
    let scrapes = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: pressroom\n    static_configs:\n      \
         - targets: [\"127.0.0.1:{scrape}\"]\n"
    );
    let Some(prometheus) = Metrics::prometheus(&scrapes).await else { return };
    let metrics = format!("type = \"prometheus\"\nlisten = \"127.0.0.1:{scrape}\"\n");
    let (_folder, running) = host(&metrics).await;
    every_query_finds_data(&prometheus, running).await;
}

/// A host that pushes to the server.
async fn pushing(server: &Metrics) -> (Folder, Running) {
    let login =
        server.login().map(|(user, password)| format!("user = \"{user}\"\napi_key = \"{password}\"\n"));
    host(&format!(
        "type = \"grafana-cloud\"\nurl = \"{}\"\npush_interval = \"1s\"\n{}",
        server.write_url(),
        login.unwrap_or_default()
    ))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_finds_data_in_a_prometheus_that_a_host_pushed_to() {
    let Some(prometheus) = Metrics::receiver().await else { return };
    let (_folder, running) = pushing(&prometheus).await;
    every_query_finds_data(&prometheus, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_finds_data_in_victoria_metrics() {
    let Some(victoria) = Metrics::victoria().await else { return };
    let (_folder, running) = pushing(&victoria).await;
    every_query_finds_data(&victoria, running).await;
}

/// The metrics that a scrape has, with their labels, but for those of a histogram's buckets.
fn scraped(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("# TYPE ") {
            family = named.split(' ').next().unwrap();
            families.entry(family.to_owned()).or_default();
        } else if let Some((_, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            // No value that is recorded here has a quotation mark or a comma in it.
            let names = labels.split(',').map(|label| label.split_once('=').unwrap().0);
            families.get_mut(family).unwrap().extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    families
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_lists_every_metric_that_a_host_has_and_no_other() {
    let scrape = free_port();
    let folder = Folder::new(&format!(
        "[publishers.metrics]\ntype = \"prometheus\"\nlisten = \"127.0.0.1:{scrape}\"\n\
         [publishers.pair]\ntype = \"composite\"\nmode = \"failover\"\nmembers = [\"first\", \"spare\"]\n\
         [publishers.first]\ntype = \"file\"\npath = \"first.jsonl\"\n\
         [publishers.spare]\ntype = \"file\"\npath = \"spare.jsonl\"\n"
    ));
    folder.drop_in("rollup", &guest("rollup"));
    let running = folder.start().await;
    running.api.post(&wave(1)).await;
    running.api.until_delivered("metrics", TEN).await;
    running.api.until_delivered("rollup", TEN).await;
    running.api.until_delivered("pair", TEN).await;
    let text = Api::new(format!("http://127.0.0.1:{scrape}")).get("/metrics").await.unwrap();
    assert_eq!(scraped(&text), documented().into_iter().collect(), "on the left what is scraped");
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}
