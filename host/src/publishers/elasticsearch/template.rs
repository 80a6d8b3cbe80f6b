//! The index template: the types of a record's fields.
//!
//! Invariants: no record is refused for what its attributes are: they are one field, whatever is in them, and none of
//! them makes a field of its own. Times keep their nanoseconds (`start_time`, `end_time`); `@timestamp` is a plain `date`,
//! for that is what every tool that draws by time can read.

use super::target::Target;
use crate::record::Kind;
use serde_json::{Value, json};

/// Grows with every change of what is below. A server's newer one stays.
pub(super) const VERSION: u64 = 2;
/// Who a template is of.
pub(super) const MANAGED_BY: &str = "pressroom";
/// Above those that come with the servers.
const PRIORITY: u64 = 501;
/// Longer texts are kept, and not found by their whole.
const LONGEST_KEYWORD: usize = 1_024;

/// How a field is indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Date,
    Nanos,
    Keyword,
    /// A keyword whose words can be searched as well.
    Words,
    Whole,
    Seconds,
    Attributes,
}

impl Field {
    /// The types under which the field serves what it is for.
    pub(super) fn types(self) -> &'static [&'static str] {
        match self {
            Self::Date => &["date", "date_nanos"],
            Self::Nanos => &["date_nanos"],
            Self::Keyword | Self::Words => &["keyword", "constant_keyword", "wildcard"],
            Self::Whole => &["long", "integer", "unsigned_long"],
            Self::Seconds => &["double", "float", "scaled_float"],
            Self::Attributes => &["flattened", "flat_object", "object"],
        }
    }

    fn mapping(self, attributes: AttributesType) -> Value {
        match self {
            Self::Date => json!({ "type": "date" }),
            Self::Nanos => json!({ "type": "date_nanos" }),
            Self::Keyword => json!({ "type": "keyword", "ignore_above": LONGEST_KEYWORD }),
            Self::Words => json!({
                "type": "keyword",
                "ignore_above": LONGEST_KEYWORD,
                "fields": { "text": { "type": "text" } },
            }),
            Self::Whole => json!({ "type": "long" }),
            Self::Seconds => json!({ "type": "double" }),
            Self::Attributes => attributes.mapping(),
        }
    }
}

/// How a server indexes attributes without a field for each of them: as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttributesType {
    /// Elasticsearch.
    Flattened,
    /// OpenSearch.
    FlatObject,
    /// Neither: kept, and not searched.
    Kept,
}

impl AttributesType {
    pub(super) const ALL: [Self; 3] = [Self::Flattened, Self::FlatObject, Self::Kept];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Flattened => "flattened",
            Self::FlatObject => "flat_object",
            Self::Kept => "object",
        }
    }

    fn mapping(self) -> Value {
        match self {
            // Longer values are kept, and not indexed. Its limit of depth is 20 as well, and counts less than ours.
            Self::Flattened => json!({ "type": self.as_str(), "ignore_above": LONGEST_KEYWORD }),
            Self::FlatObject => json!({ "type": self.as_str() }),
            Self::Kept => json!({ "type": self.as_str(), "enabled": false }),
        }
    }
}

/// How deep attributes may be nested that are sent as fields.
pub(super) const DEEPEST: usize = 20;

/// The field that all attributes are in.
pub(super) const ATTRIBUTES: &str = "attributes";

const EVENT: &[(&str, Field)] = &[
    ("@timestamp", Field::Date),
    ("type", Field::Keyword),
    ("id", Field::Keyword),
    ("event_name", Field::Keyword),
    ("task_id", Field::Keyword),
    ("pipeline_id", Field::Keyword),
    ("process_id", Field::Whole),
    ("start_time", Field::Nanos),
    ("end_time", Field::Nanos),
    ("duration_seconds", Field::Seconds),
    ("status", Field::Keyword),
    ("error", Field::Words),
    ("retry_count", Field::Whole),
    (ATTRIBUTES, Field::Attributes),
    ("attributes_json", Field::Keyword),
];

const NETWORK: &[(&str, Field)] = &[
    ("@timestamp", Field::Date),
    ("type", Field::Keyword),
    ("id", Field::Keyword),
    ("task_id", Field::Keyword),
    ("operation", Field::Keyword),
    ("host", Field::Keyword),
    ("port", Field::Whole),
    ("start_time", Field::Nanos),
    ("end_time", Field::Nanos),
    ("latency_seconds", Field::Seconds),
    ("bytes_sent", Field::Whole),
    ("bytes_received", Field::Whole),
    // Where the number does not fit into a `long`.
    ("bytes_sent_exact", Field::Keyword),
    ("bytes_received_exact", Field::Keyword),
    ("error", Field::Words),
    (ATTRIBUTES, Field::Attributes),
    ("attributes_json", Field::Keyword),
];

/// The fields of a kind of record.
pub(super) fn fields(kind: Kind) -> impl Iterator<Item = (&'static str, Field)> {
    match kind {
        Kind::Event => EVENT,
        Kind::Network => NETWORK,
    }
    .iter()
    .copied()
}

/// The template of a kind of record.
pub(super) fn template(
    target: &Target,
    kind: Kind,
    attributes: AttributesType,
    lifecycle: Option<&str>,
) -> Value {
    let properties: serde_json::Map<String, Value> =
        fields(kind).map(|(name, field)| (name.to_owned(), field.mapping(attributes))).collect();
    let settings = lifecycle.map_or_else(|| json!({}), |policy| json!({ "index.lifecycle.name": policy }));
    let mut template = json!({
        "index_patterns": [target.pattern(kind)],
        "priority": PRIORITY,
        "version": VERSION,
        "_meta": meta(lifecycle),
        "template": {
            "settings": settings,
            // What a later version may add is kept, and not guessed at.
            "mappings": { "dynamic": false, "properties": properties },
        },
    });
    if let (true, Some(members)) = (target.is_stream(), template.as_object_mut()) {
        members.insert("data_stream".to_owned(), json!({}));
    }
    template
}

/// What a template says of itself. With the version it says whether it is the one that is wanted.
pub(super) fn meta(lifecycle: Option<&str>) -> Value {
    json!({
        "managed_by": MANAGED_BY,
        "description": "records of Pressroom; a newer version, and one that is not managed by pressroom, stays",
        "lifecycle": lifecycle,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EventMetrics, NetworkMetrics, Rows, Status, Timestamp};
    use std::collections::BTreeSet;
    use uuid::Uuid;

    fn names(kind: Kind) -> BTreeSet<&'static str> {
        fields(kind).map(|(name, _)| name).collect()
    }

    /// What is written has a type: a member that is new in the JSON form fails here until it has one.
    #[test]
    fn every_member_of_a_record_has_a_type() {
        let start = Timestamp::from_nanos(1);
        let mut event = EventMetrics::started(Uuid::nil(), "e", "t", start);
        (event.pipeline_id, event.process_id) = (Some("p".into()), Some(1));
        (event.end_time, event.status, event.error) = (Some(start), Status::Failed, Some("x".into()));
        event.attributes = [("a", crate::record::Value::from(1))].into_iter().collect();
        let mut operation = NetworkMetrics::started(Uuid::nil(), "t", "o", "h", 1, start);
        (operation.end_time, operation.error) = (Some(start), Some("x".into()));
        operation.attributes = [("a", crate::record::Value::from(1))].into_iter().collect();

        let members = |line: &[u8]| -> BTreeSet<String> {
            let Value::Object(members) = serde_json::from_slice(line).unwrap() else { unreachable!() };
            members.into_iter().map(|(name, _)| name).collect()
        };
        let added = |more: &[&str], kind| -> BTreeSet<String> {
            let more = ["@timestamp", "attributes_json"].iter().chain(more);
            names(kind)
                .into_iter()
                .filter(|name| !more.clone().any(|added| added == name))
                .map(str::to_owned)
                .collect()
        };
        let events = Rows::detached(vec![event]).json_lines();
        assert_eq!(members(events.get(0).unwrap().1), added(&["duration_seconds"], Kind::Event));
        let operations = Rows::detached(vec![operation]).json_lines();
        assert_eq!(
            members(operations.get(0).unwrap().1),
            added(&["latency_seconds", "bytes_sent_exact", "bytes_received_exact"], Kind::Network)
        );
    }

    #[test]
    fn a_lifecycle_and_a_data_stream_are_said_where_they_are_wanted() {
        let target = Target::Daily { prefix: "p".to_owned() };
        let plain = template(&target, Kind::Event, AttributesType::Flattened, None);
        assert_eq!(plain["index_patterns"], json!(["p-event-*"]));
        assert!(plain.get("data_stream").is_none());
        assert_eq!(plain["template"]["settings"], json!({}));
        let target = Target::Stream { namespace: "n".to_owned() };
        let stream = template(&target, Kind::Network, AttributesType::FlatObject, Some("thirty-days"));
        assert_eq!(stream["index_patterns"], json!(["logs-n.network-*"]));
        assert_eq!(stream["data_stream"], json!({}));
        assert_eq!(stream["template"]["settings"]["index.lifecycle.name"], "thirty-days");
        assert_eq!(
            stream["template"]["mappings"]["properties"]["attributes"],
            json!({ "type": "flat_object" })
        );
        assert_ne!(meta(None), meta(Some("thirty-days")));
    }
}
