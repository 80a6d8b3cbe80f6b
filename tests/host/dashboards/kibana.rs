//! What Kibana 8.9 imports, read from the files: saved objects as it exports them, complete, and consistent.

use super::file;
use serde_json::Value;
use std::collections::BTreeSet;

/// Members that a saved object holds as JSON in a text.
const TEXTS: &[&str] = &[
    "fieldAttrs",
    "fieldFormatMap",
    "fields",
    "optionsJSON",
    "panelsJSON",
    "runtimeFieldMap",
    "searchSourceJSON",
    "sourceFilters",
    "typeMeta",
];

/// The saved objects, with everything in them as JSON.
pub(super) fn objects() -> Vec<Value> {
    serde_json::from_str(&file("kibana/source.json")).unwrap()
}

/// The object of that id.
pub(super) fn object<'a>(objects: &'a [Value], id: &str) -> &'a Value {
    objects.iter().find(|object| object["id"] == id).unwrap_or_else(|| panic!("there is no {id}"))
}

/// The dashboard's panels.
pub(super) fn panels(objects: &[Value]) -> &[Value] {
    object(objects, "pressroom")["attributes"]["panelsJSON"].as_array().unwrap()
}

/// The one layer of a panel: its id, and its columns in their order.
pub(super) fn layer(panel: &Value) -> (&str, Vec<(&str, &Value)>) {
    let layers = panel["embeddableConfig"]["attributes"]["state"]["datasourceStates"]["formBased"]["layers"]
        .as_object();
    let (id, layer) = layers.unwrap().iter().next().unwrap();
    let order = layer["columnOrder"].as_array().unwrap().iter().map(|column| column.as_str().unwrap());
    (id, order.map(|column| (column, &layer["columns"][column])).collect())
}

/// As Kibana keeps it.
fn packed(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                let packed =
                    if TEXTS.contains(&key.as_str()) { value.to_string().into() } else { packed(value) };
                (key.clone(), packed)
            })
            .collect(),
        other => other.clone(),
    }
}

#[test]
fn the_file_is_its_source_as_kibana_keeps_it() {
    let lines: String = objects().iter().map(|object| format!("{}\n", packed(object))).collect();
    if std::env::var_os("PRESSROOM_PACK").is_some() {
        std::fs::write(crate::support::root().join("dashboards/kibana/pressroom.ndjson"), &lines).unwrap();
    }
    let hint = "source.json was changed, or the file itself; dashboards/README.md says how it is packed";
    assert!(file("kibana/pressroom.ndjson") == lines, "{hint}");
}

#[test]
fn it_has_the_migration_versions_of_8_9_and_fixed_ids() {
    let objects = objects();
    let seen: Vec<_> = objects
        .iter()
        .map(|object| {
            // Kibana would take what it does not know for a wrong file.
            let known =
                ["attributes", "coreMigrationVersion", "id", "references", "type", "typeMigrationVersion"];
            assert!(object.as_object().unwrap().keys().eq(known), "{}", object["id"]);
            let text = |key: &str| object[key].as_str().unwrap();
            (text("type"), text("id"), text("coreMigrationVersion"), text("typeMigrationVersion"))
        })
        .collect();
    let wanted = [
        ("index-pattern", "pressroom-events", "8.8.0", "8.0.0"),
        ("index-pattern", "pressroom-network", "8.8.0", "8.0.0"),
        ("dashboard", "pressroom", "8.8.0", "8.9.0"),
    ];
    assert_eq!(seen, wanted);
    for view in ["pressroom-events", "pressroom-network"] {
        assert_eq!(object(&objects, view)["attributes"]["timeFieldName"], "@timestamp");
    }
    // What the type of a dashboard has in 8.9; later ones forbid others.
    let attributes = object(&objects, "pressroom")["attributes"].as_object().unwrap();
    let known = [
        "description",
        "kibanaSavedObjectMeta",
        "optionsJSON",
        "panelsJSON",
        "refreshInterval",
        "timeFrom",
        "timeRestore",
        "timeTo",
        "title",
        "version",
    ];
    assert!(attributes.keys().eq(known), "{:?}", attributes.keys());
}

#[test]
fn every_reference_is_used_and_leads_to_a_data_view() {
    let objects = objects();
    let views: BTreeSet<_> = objects
        .iter()
        .filter(|object| object["type"] == "index-pattern")
        .map(|view| view["id"].as_str().unwrap())
        .collect();
    let mut wanted = BTreeSet::new();
    for panel in panels(&objects) {
        let attributes = &panel["embeddableConfig"]["attributes"];
        let (layer, _) = layer(panel);
        let name = format!("indexpattern-datasource-layer-{layer}");
        let within = attributes["references"].as_array().unwrap();
        assert_eq!(within.len(), 1, "{}", panel["title"]);
        assert_eq!(
            (&within[0]["name"], &within[0]["type"]),
            (&name.as_str().into(), &"index-pattern".into())
        );
        let view = within[0]["id"].as_str().unwrap();
        assert!(views.contains(view), "{}: there is no {view}", panel["title"]);
        wanted.insert((format!("{}:{name}", panel["panelIndex"].as_str().unwrap()), view.to_owned()));
    }
    let references = object(&objects, "pressroom")["references"].as_array().unwrap();
    let found: BTreeSet<_> = references
        .iter()
        .map(|reference| {
            assert_eq!(reference["type"], "index-pattern");
            (reference["name"].as_str().unwrap().to_owned(), reference["id"].as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!((found.len(), &found), (references.len(), &wanted));
}

/// The texts in `value`, of members called as `key` says.
fn named<'a>(value: &'a Value, key: &dyn Fn(&str) -> bool, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str().filter(|_| key(name)) {
                    Some(text) => found.push(text),
                    None if key(name) => {
                        found.extend(value.as_array().into_iter().flatten().filter_map(Value::as_str))
                    }
                    None => named(value, key, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| named(value, key, found)),
        _ => {}
    }
}

#[test]
fn every_panel_is_by_value_whole_and_shows_columns_that_it_has() {
    let objects = objects();
    let mut titles = BTreeSet::new();
    for panel in panels(&objects) {
        let title = panel["title"].as_str().unwrap();
        assert!(titles.insert(title), "two panels are called {title:?}");
        assert_eq!((&panel["type"], &panel["version"]), (&"lens".into(), &"8.9.0".into()), "{title}");
        assert_eq!(panel["gridData"]["i"], panel["panelIndex"], "{title}");
        let attributes = &panel["embeddableConfig"]["attributes"];
        assert_eq!((&attributes["type"], &attributes["title"]), (&"lens".into(), &panel["title"]), "{title}");
        assert!(attributes["description"].as_str().unwrap().ends_with('.'), "{title}");
        let (layer_id, columns) = layer(panel);
        let layer = &attributes["state"]["datasourceStates"]["formBased"]["layers"][layer_id];
        let own: BTreeSet<_> = layer["columns"].as_object().unwrap().keys().map(String::as_str).collect();
        let ordered: BTreeSet<_> = columns.iter().map(|(id, _)| *id).collect();
        assert_eq!((columns.len(), &ordered), (own.len(), &own), "{title}: columnOrder is of other columns");
        // Buckets first, as Lens has them: the order is that of the nesting.
        let buckets: Vec<_> = columns.iter().map(|(_, column)| column["isBucketed"] == true).collect();
        assert!(buckets.is_sorted_by(|a, b| a >= b), "{title}: a bucket follows a metric");

        let visualization = &attributes["state"]["visualization"];
        let mut shown = Vec::new();
        let is_column = |key: &str| {
            let lists = ["accessors", "metrics", "primaryGroups", "columnId", "forAccessor"];
            lists.contains(&key) || key.ends_with("Accessor")
        };
        named(visualization, &is_column, &mut shown);
        assert_eq!(
            shown.iter().copied().collect::<BTreeSet<_>>(),
            own,
            "{title}: shows other columns than it has"
        );
        let mut ordering = Vec::new();
        named(layer, &|key| key == "columnId", &mut ordering);
        assert!(ordering.iter().all(|column| own.contains(column)), "{title}: {ordering:?}");
        let mut layers = Vec::new();
        named(visualization, &|key| key == "layerId", &mut layers);
        assert_eq!(layers, [layer_id], "{title}");
    }
    assert!(titles.len() > 20, "the rule looks at nothing: {titles:?}");
}

#[test]
fn no_panel_lies_on_another() {
    let objects = objects();
    let places: Vec<_> = panels(&objects)
        .iter()
        .map(|panel| {
            let at = |key: &str| panel["gridData"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 48 && at("w") > 0 && at("h") > 0, "{}", panel["title"]);
            (at("x")..at("x") + at("w"), at("y")..at("y") + at("h"), &panel["title"])
        })
        .collect();
    for (number, (columns, rows, title)) in places.iter().enumerate() {
        for (others, other_rows, other) in &places[..number] {
            let beside = columns.end <= others.start || others.end <= columns.start;
            let below = rows.end <= other_rows.start || other_rows.end <= rows.start;
            assert!(beside || below, "{title} lies on {other}");
        }
    }
}
