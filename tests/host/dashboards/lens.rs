//! Every panel of Kibana's dashboard, asked as Lens would ask it, of real search servers that a host has published to.

use super::kibana::{layer, object, objects, panels};
use super::recorded::{TEN, wave};
use crate::support::servers::{Needs, Search};
use crate::support::{Folder, PATIENCE};
use serde_json::{Map, Value, json};

/// How Lens would ask for the columns: buckets within one another in their order, the metrics in the innermost.
fn aggregations(columns: &[(&str, &Value)]) -> Value {
    let Some(((id, column), rest)) = columns.split_first() else { return json!({}) };
    if column["isBucketed"] != true {
        return columns.iter().filter_map(|(id, column)| Some(((*id).to_owned(), metric(column)?))).collect();
    }
    let mut within = aggregations(rest);
    let mut bucket = bucket(column);
    // What the buckets are ordered by is asked for in them, too.
    if column["params"]["orderBy"]["type"] == "column" {
        let by = column["params"]["orderBy"]["columnId"].as_str().unwrap();
        let (_, ordering) = rest.iter().find(|(id, _)| *id == by).unwrap();
        let direction = &column["params"]["orderDirection"];
        let path = match (ordering["operationType"].as_str().unwrap(), metric(ordering)) {
            ("count", None) => "_count".to_owned(),
            ("percentile", Some(asked)) => {
                within[by] = asked;
                format!("{by}.{}", ordering["params"]["percentile"])
            }
            (_, Some(asked)) => {
                within[by] = asked;
                by.to_owned()
            }
            (operation, None) => panic!("{id} is ordered by {operation}"),
        };
        bucket["terms"]["order"] = json!({ path: direction });
    }
    bucket["aggs"] = within;
    json!({ *id: bucket })
}

fn bucket(column: &Value) -> Value {
    let (field, parameters) = (&column["sourceField"], &column["params"]);
    match column["operationType"].as_str().unwrap() {
        // Lens takes an interval that fits the screen.
        "date_histogram" => {
            json!({ "date_histogram": { "field": field, "fixed_interval": "1s", "min_doc_count": 1 } })
        }
        "terms" => {
            let order = json!({ "_key": parameters["orderDirection"] });
            json!({ "terms": { "field": field, "size": parameters["size"], "order": order } })
        }
        "range" => {
            let ranges = parameters["ranges"].as_array().unwrap().iter().map(|range| {
                let bounds = ["from", "to"].into_iter().filter(|key| !range[key].is_null());
                bounds.map(|key| (key.to_owned(), range[key].clone())).collect::<Map<_, _>>()
            });
            json!({ "range": { "field": field, "ranges": ranges.collect::<Vec<_>>() } })
        }
        operation => panic!("nothing here asks for {operation}"),
    }
}

/// Nothing, for a count of all: every bucket has that.
fn metric(column: &Value) -> Option<Value> {
    let field = &column["sourceField"];
    let operation = column["operationType"].as_str().unwrap();
    Some(match operation {
        "count" => json!({ "filter": kql(column["filter"]["query"].as_str()?) }),
        "percentile" => {
            json!({ "percentiles": { "field": field, "percents": [column["params"]["percentile"]] } })
        }
        "average" => json!({ "avg": { "field": field } }),
        "sum" | "max" => json!({ operation: { "field": field } }),
        _ => panic!("nothing here asks for {operation}"),
    })
}

/// The Kibana query language, as far as it is used: `field: *` and `field: "text"`.
fn kql(query: &str) -> Value {
    match query.split_once(": ") {
        None if query.is_empty() => json!({ "match_all": {} }),
        Some((field, "*")) => json!({ "exists": { "field": field } }),
        Some((field, text)) => {
            let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            json!({ "match_phrase": { field: text.unwrap_or_else(|| panic!("{query} is not read here")) } })
        }
        None => panic!("{query} is not read here"),
    }
}

/// The buckets of the innermost level, each with what it holds.
fn innermost<'a>(answer: &'a Value, columns: &[(&str, &Value)], found: &mut Vec<&'a Value>) {
    match columns.first().filter(|(_, column)| column["isBucketed"] == true) {
        None => found.push(answer),
        Some((id, _)) => {
            let buckets = answer[id]["buckets"].as_array().unwrap_or_else(|| panic!("{id}: {answer:#}"));
            buckets.iter().for_each(|bucket| innermost(bucket, &columns[1..], found));
        }
    }
}

/// Whether a bucket has something for the column to show.
fn shows(bucket: &Value, id: &str, column: &Value) -> bool {
    let (asked, answer) = (metric(column), &bucket[id]);
    let number = match (column["operationType"].as_str().unwrap(), asked) {
        ("count", None) => &bucket["doc_count"],
        ("count", Some(_)) => &answer["doc_count"],
        ("percentile", _) => {
            answer["values"].as_object().and_then(|values| values.values().next()).unwrap_or(&Value::Null)
        }
        _ => &answer["value"],
    };
    number.as_f64().is_some_and(|number| number > 0.0)
}

/// Fails unless every field of the panel's columns is there, of a type that Lens takes for the column.
async fn fields_are_there(server: &Search, indices: &str, title: &str, columns: &[(&str, &Value)]) {
    for (id, column) in columns.iter().filter(|(_, column)| column["sourceField"] != "___records___") {
        let field = column["sourceField"].as_str().unwrap();
        let capabilities =
            server.get(&format!("/{indices}/_field_caps?fields={field}&ignore_unavailable=true")).await;
        let types =
            capabilities["fields"][field].as_object().unwrap_or_else(|| panic!("{title}: no {field}"));
        let (kind, of_type) = types.iter().next().unwrap();
        assert_eq!(types.len(), 1, "{title}: {field} is of several types: {types:#?}");
        assert_eq!(of_type["aggregatable"], true, "{title}: {field}");
        let wanted: &[&str] = match column["dataType"].as_str().unwrap() {
            _ if column["operationType"] == "range" => &["double", "float", "long", "integer"],
            "string" => &["keyword"],
            "number" => &["double", "float", "long", "integer"],
            "date" => &["date", "date_nanos"],
            other => panic!("{title}: {id} is {other}"),
        };
        assert!(wanted.contains(&kind.as_str()), "{title}: {field} is {kind}");
    }
}

/// Fails unless every panel finds something for each of its columns.
async fn every_panel_finds_data(server: &Search) {
    let objects = objects();
    for panel in panels(&objects) {
        let (title, (_, columns)) = (panel["title"].as_str().unwrap(), layer(panel));
        let attributes = &panel["embeddableConfig"]["attributes"];
        let view = object(&objects, attributes["references"][0]["id"].as_str().unwrap());
        // The data views of a host with default settings, over what this case has instead.
        let indices = view["attributes"]["title"].as_str().unwrap();
        let indices = indices.replace("pressroom-", &format!("{}-", server.prefix()));
        let indices = indices.replace("logs-*", &format!("logs-{}", server.prefix()));
        fields_are_there(server, &indices, title, &columns).await;

        let query = kql(attributes["state"]["query"]["query"].as_str().unwrap());
        let lately = json!({ "range": { "@timestamp": { "gte": "now-24h", "lte": "now" } } });
        let body = json!({
            "size": 0, "track_total_hits": true, "query": { "bool": { "filter": [query, lately] } }, "aggs": aggregations(&columns),
        });
        let path = format!("/{indices}/_search?ignore_unavailable=true&allow_no_indices=true");
        let (status, answer) = server.send(reqwest::Method::POST, &path, Some(&body)).await;
        assert!(status.is_success(), "{title}: {status} {answer:#}");
        // Without buckets, what is counted is all that was found.
        let mut all = answer["aggregations"].clone();
        if all.is_null() {
            all = json!({});
        }
        all["doc_count"] = answer["hits"]["total"]["value"].clone();
        let mut buckets = Vec::new();
        innermost(&all, &columns, &mut buckets);
        assert!(!buckets.is_empty(), "{title}: {answer:#}");
        for (id, column) in columns.iter().filter(|(_, column)| column["isBucketed"] != true) {
            assert!(
                buckets.iter().any(|bucket| shows(bucket, id, column)),
                "{title}: nothing for {id} in {answer:#}"
            );
        }
    }
}

/// A host publishes to the server, and every panel is asked.
async fn published_and_asked(server: &Search, settings: &str) {
    let publisher =
        format!("[publishers.search]\ntype = \"elasticsearch\"\nhosts = [\"{}\"]\n{settings}", server.url());
    let folder = Folder::new(&publisher);
    let running = folder.start().await;
    running.api.post(&wave(20)).await;
    running.api.until_delivered("search", 20 * TEN).await;
    for indices in [format!("{}-*", server.prefix()), format!("logs-{}.*", server.prefix())] {
        server.send(reqwest::Method::POST, &format!("/{indices}/_refresh"), None).await;
    }
    every_panel_finds_data(server).await;
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_finds_data_in_the_indices_that_a_host_published_to() {
    Search::each(Needs::Nothing, async |server| {
        published_and_asked(server, &format!("index_prefix = \"{}\"\n", server.prefix())).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_finds_data_in_the_data_streams_that_a_host_published_to() {
    Search::each(Needs::DataStreams, async |server| {
        published_and_asked(server, &format!("data_stream = true\nnamespace = \"{}\"\n", server.prefix()))
            .await;
    })
    .await;
}
