//! Templates, lifecycles and fields, as servers of any kind have them.

use super::script::{Asked, Kept, Reply, Script};
use super::{events, publisher_to, status};
use crate::publisher::{PublishError, Publisher};
use serde_json::{Value, json};

fn is_template(asked: &Asked) -> bool {
    asked.method == "PUT" && asked.path.starts_with("/_index_template/")
}

/// A server that knows these types, and lifecycles or not.
fn server(unknown: &'static [&'static str], policies: Option<&'static [&'static str]>) -> Script {
    Script::start(move |asked: &Asked, _: &mut Kept| {
        if let Some(policy) = asked.path.strip_prefix("/_ilm/policy/") {
            return Some(match policies {
                None => Reply::error(400, "x", "no handler found for uri"),
                Some(known) if known.contains(&policy) => Reply::Json(200, json!({ policy: {} })),
                Some(_) => Reply::error(404, "resource_not_found_exception", "lifecycle policy not found"),
            });
        }
        if !is_template(asked) {
            return None;
        }
        if policies.is_none() && asked.body.contains("index.lifecycle.name") {
            return Some(Reply::error(400, "settings_exception", "unknown setting [index.lifecycle.name]"));
        }
        let unknown = unknown.iter().find(|ty| asked.body.contains(&format!("\"{ty}\"")));
        unknown
            .map(|ty| Reply::error(400, "mapper_parsing_exception", &format!("No handler for type [{ty}]")))
    })
}

async fn installed(server: &Script, more: &str) -> (Value, Value) {
    let mut publisher = publisher_to(server, more);
    publisher.open(None).await.unwrap();
    let status = status(&publisher);
    (server.look(|kept| kept.templates["pressroom-event"].clone()), status)
}

#[tokio::test]
async fn attributes_are_what_the_server_has_for_them() {
    for (unknown, expected) in [
        (&[][..], json!({ "type": "flattened", "ignore_above": 1_024 })),
        (&["flattened"][..], json!({ "type": "flat_object" })),
        (&["flattened", "flat_object"][..], json!({ "type": "object", "enabled": false })),
    ] {
        let (template, status) = installed(&server(unknown, None), "").await;
        assert_eq!(template["template"]["mappings"]["properties"]["attributes"], expected);
        assert_eq!((&status["templates"], &status["notes"]), (&json!("ready"), &Value::Null));
    }
}

#[tokio::test]
async fn new_indices_get_a_lifecycle_where_there_are_such() {
    let lifecycle = "lifecycle = 'thirty-days'";
    let name = |template: &Value| template["template"]["settings"]["index.lifecycle.name"].clone();
    let (template, status) = installed(&server(&["flattened"], Some(&["thirty-days"])), lifecycle).await;
    assert_eq!((name(&template), &status["notes"]), (json!("thirty-days"), &Value::Null));
    let (template, status) = installed(&server(&[], Some(&[])), lifecycle).await;
    assert_eq!(name(&template), json!("thirty-days"));
    assert!(
        status["notes"][0].as_str().unwrap().contains("no lifecycle policy \"thirty-days\" yet"),
        "{status}"
    );
    let (template, status) = installed(&server(&["flattened"], None), lifecycle).await;
    assert_eq!(name(&template), Value::Null);
    assert!(status["notes"][0].as_str().unwrap().contains("`lifecycle` does nothing"), "{status}");
}

#[tokio::test]
async fn a_template_is_installed_once_and_again_when_what_is_wanted_changes() {
    let server = server(&[], Some(&["a", "b"]));
    let puts =
        |server: &Script| server.look(|kept| kept.asked.iter().filter(|asked| is_template(asked)).count());
    for (lifecycle, expected) in [("a", 2), ("a", 2), ("b", 4), ("b", 4)] {
        installed(&server, &format!("lifecycle = '{lifecycle}'")).await;
        assert_eq!(puts(&server), expected, "with {lifecycle}");
    }
}

#[tokio::test]
async fn without_templates_nothing_is_published_unless_that_is_wanted() {
    let cases = [
        (Reply::error(403, "security_exception", "not you"), true),
        (Reply::error(400, "illegal_argument_exception", "the same priority"), true),
        (Reply::error(500, "x", "broken"), false),
        (Reply::error(429, "x", "busy"), false),
    ];
    for (reply, hold) in cases {
        let server =
            Script::start(move |asked: &Asked, _: &mut Kept| is_template(asked).then(|| reply.clone()));
        let mut publisher = publisher_to(&server, "");
        publisher.open(None).await.unwrap();
        let error = publisher.publish_event_metrics(&events(1)).await.unwrap_err();
        assert_eq!(matches!(error, PublishError::Hold { .. }), hold, "{error:?}");
        assert!(!hold || error.to_string().contains("install_template = false"), "{error}");
        assert_eq!((server.bulks(), &status(&publisher)["templates"]), (0, &json!("missing")));
        let mut without = publisher_to(&server, "install_template = false");
        without.open(Some(&mut publisher)).await.unwrap();
        assert_eq!(without.publish_event_metrics(&events(1)).await, Ok(vec![]));
    }
}

#[tokio::test]
async fn an_index_that_was_there_before_is_told_with_its_fields() {
    let server = Script::start(|asked: &Asked, _: &mut Kept| {
        let index = asked.path.strip_suffix("/_mapping?filter_path=*.mappings.properties.*.type")?;
        let index = index.trim_start_matches('/');
        let properties = json!({
            "start_time": { "type": "text" }, "duration_seconds": { "type": "float" }, "task_id": { "type": "keyword" },
        });
        index
            .contains("-event-")
            .then(|| Reply::Json(200, json!({ index: { "mappings": { "properties": properties } } })))
    });
    let mut publisher = publisher_to(&server, "");
    publisher.open(None).await.unwrap();
    // Today's at the start, and others when they have been written to.
    for notes in [1, 2] {
        publisher.flush().await.unwrap();
        let status = status(&publisher);
        let told = status["notes"].as_array().unwrap();
        assert_eq!(told.len(), notes, "{told:?}");
        for note in told {
            let note = note.as_str().unwrap();
            assert!(note.contains("has other types: start_time is text, not date_nanos;"), "{note}");
        }
        assert_eq!(publisher.publish_event_metrics(&events(3)).await, Ok(vec![]));
    }
    let looked = server.look(|kept| {
        kept.asked.iter().filter(|asked| asked.path.contains("pressroom-event-2026.11.23/_mapping")).count()
    });
    assert_eq!(looked, 1, "each is looked at once");
}
