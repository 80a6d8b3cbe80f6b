//! One row: a record in its one JSON form, or a message for the recorder.

use super::{Message, Row, Step, Wrong};
use crate::ingest::given::Given;
use crate::ingest::raw::{each_field, is_null, text, token, value, without_place};
use crate::ingest::{MAX_ATTRIBUTES, MAX_ERROR, MAX_KEY, MAX_NAME, cut, id_bytes, not_nanoseconds, unit_of};
use crate::record::{Attributes, EventMetrics, NetworkMetrics, Status, Text, Timestamp};
use serde_json::value::RawValue;
use std::borrow::Cow;
use uuid::Uuid;

const EVENT: &[&str] = &[
    "type",
    "id",
    "event_name",
    "task_id",
    "pipeline_id",
    "process_id",
    "start_time",
    "end_time",
    "status",
    "error",
    "retry_count",
    "attributes",
];
const NETWORK: &[&str] = &[
    "type",
    "id",
    "task_id",
    "operation",
    "host",
    "port",
    "start_time",
    "end_time",
    "bytes_sent",
    "bytes_received",
    "error",
    "attributes",
];
const STEP: &[&str] = &["type", "pipeline_id", "event_name", "task_id"];
const END: &[&str] = &["type", "pipeline_id", "event_name", "task_id", "status", "error"];
const TYPES: &[&str] = &["event", "network", "start", "retry", "end"];
/// A record without a type that has one of these is a network operation.
const OF_NETWORK_ALONE: &[&str] = &["operation", "host", "port", "bytes_sent", "bytes_received"];

/// Reads a row.
pub(super) fn decode(raw: &RawValue) -> Result<Row, Wrong> {
    let fields = Fields::read(raw)?;
    let kind = match fields.text("type", MAX_NAME)? {
        Some(kind) => kind,
        None if OF_NETWORK_ALONE.iter().any(|key| fields.get(key).is_some()) => "network".into(),
        None => "event".into(),
    };
    match kind.as_ref() {
        "event" => fields.event().map(Row::Event),
        "network" => fields.operation().map(Row::Operation),
        "start" => fields.message(STEP, |_| Ok(Step::Start)).map(Row::Message),
        "retry" => fields.message(STEP, |_| Ok(Step::Retry)).map(Row::Message),
        "end" => fields.message(END, Fields::end).map(Row::Message),
        other => Err(wrong("type", format!("unknown type {:?}{}", cut(other, 64), nearest(other, TYPES)))),
    }
}

fn wrong(field: &str, message: impl Into<String>) -> Wrong {
    (Some(field.to_owned()), message.into())
}

/// `; did you mean …?`, or what there is to choose from.
fn nearest(word: &str, known: &[&str]) -> String {
    let word = cut(word, 64);
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(
            || format!("; known are {}", known.join(", ")),
            |(_, candidate)| format!("; did you mean {candidate:?}?"),
        )
}

struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn read(raw: &'a RawValue) -> Result<Self, Wrong> {
        // Every kind has fewer keys; what is beyond them is unknown, and one unknown key is enough to say so.
        let most = EVENT.len() + 1;
        let mut fields: Vec<(Cow<'a, str>, &'a RawValue)> = Vec::with_capacity(most);
        let mut twice = None;
        if is_null(raw) {
            return Err((None, "expected an object".to_owned()));
        }
        each_field(raw, |key, value| {
            if fields.iter().any(|(known, _)| *known == key) {
                twice.get_or_insert(key);
            } else if fields.len() < most {
                fields.push((key, value));
            }
        })
        .map_err(|error| (None, without_place(&error)))?;
        match twice {
            Some(key) => Err(wrong(cut(&key, 64), "stands here twice")),
            None => Ok(Self(fields)),
        }
    }

    fn only(&self, known: &[&str]) -> Result<(), Wrong> {
        match self.0.iter().find(|(key, _)| !known.contains(&key.as_ref())) {
            Some((key, _)) => {
                Err(wrong(cut(key, 64), format!("unknown field {:?}{}", cut(key, 64), nearest(key, known))))
            }
            None => Ok(()),
        }
    }

    /// A field that is there and is not `null`.
    fn get(&self, key: &str) -> Option<&'a RawValue> {
        let (_, raw) = self.0.iter().find(|(known, _)| known == key)?;
        (!is_null(raw)).then_some(*raw)
    }

    fn text(&self, key: &str, most: usize) -> Result<Option<Cow<'a, str>>, Wrong> {
        let Some(raw) = self.get(key) else { return Ok(None) };
        let text = text(raw).ok_or_else(|| wrong(key, "must be a text"))?;
        if text.len() > most {
            return Err(wrong(key, format!("must not be longer than {most} bytes; it has {}", text.len())));
        }
        Ok(Some(text))
    }

    fn name(&self, key: &str) -> Result<Text, Wrong> {
        match self.text(key, MAX_NAME)? {
            Some(text) if text.is_empty() => Err(wrong(key, "must not be empty")),
            Some(text) => Ok(text.into()),
            None => Err(wrong(key, "is missing")),
        }
    }

    fn optional_name(&self, key: &str) -> Result<Option<Text>, Wrong> {
        Ok(self.text(key, MAX_NAME)?.filter(|text| !text.is_empty()).map(Text::from))
    }

    fn whole<N: TryFrom<u64>>(&self, key: &str) -> Result<Option<N>, Wrong> {
        let Some(raw) = self.get(key) else { return Ok(None) };
        let number = raw.get().parse::<u64>().ok().and_then(|number| N::try_from(number).ok());
        number.map(Some).ok_or_else(|| {
            wrong(key, format!("must be a whole number of {} bits, not negative", 8 * size_of::<N>()))
        })
    }

    fn time(&self, key: &str) -> Result<Option<Timestamp>, Wrong> {
        let Some(raw) = self.get(key) else { return Ok(None) };
        let token = token(raw).unwrap_or_default();
        if raw.get().starts_with('"')
            && let Ok(time) = token.parse()
        {
            return Ok(Some(time));
        }
        // A number in quotes is no time, but its unit can be told.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "only its magnitude counts"
        )]
        let magnitude = token.parse().unwrap_or_else(|_| token.parse::<f64>().unwrap_or_default() as u64);
        let message = match (unit_of(magnitude), token.parse()) {
            (Some(unit), _) => format!("{}, or a time in RFC 3339", not_nanoseconds(&token, unit)),
            (None, Ok(nanos)) if !raw.get().starts_with('"') => return Ok(Some(Timestamp::from_nanos(nanos))),
            _ => "must be a time in RFC 3339 between 1970 and 2554, or nanoseconds since 1970 as a whole number".to_owned(),
        };
        Err(wrong(key, message))
    }

    fn ended(&self) -> Result<(Timestamp, Timestamp), Wrong> {
        let start = self.time("start_time")?.ok_or_else(|| wrong("start_time", "is missing"))?;
        let end = self.time("end_time")?.ok_or_else(|| {
            wrong("end_time", "is missing; only finished records are taken (or send start and end messages)")
        })?;
        Ok((start, end))
    }

    fn id(&self, start: Timestamp) -> Result<Uuid, Wrong> {
        match self.text("id", MAX_NAME)? {
            Some(id) => Uuid::try_parse(&id).map_err(|_| wrong("id", "must be a UUID")),
            None => Ok(uuid::Builder::from_bytes(id_bytes(start, fastrand::u64(..)))
                .with_variant(uuid::Variant::RFC4122)
                .with_version(uuid::Version::SortRand)
                .into_uuid()),
        }
    }

    fn error(&self) -> Result<Option<Text>, Wrong> {
        Ok(self.text("error", MAX_ERROR)?.map(Text::from))
    }

    /// The status and the error, which must not contradict each other.
    fn outcome(&self) -> Result<(Status, Option<Text>), Wrong> {
        let error = self.error()?;
        let status = match self.text("status", MAX_NAME)?.as_deref() {
            None if error.is_some() => Status::Failed,
            None | Some("completed") => Status::Completed,
            Some("failed") => Status::Failed,
            Some("cancelled") => Status::Cancelled,
            Some("pending") => {
                let message =
                    "is \"pending\"; only finished records are taken (or send start and end messages)";
                return Err(wrong("status", message));
            }
            Some(other) => {
                let known = nearest(other, &["completed", "failed", "cancelled"]);
                return Err(wrong("status", format!("unknown status {:?}{known}", cut(other, 64))));
            }
        };
        match error {
            Some(_) if status != Status::Failed => {
                Err(wrong("error", format!("stands beside the status {:?}", status.as_str())))
            }
            error => Ok((status, error)),
        }
    }

    fn attributes(&self) -> Result<Attributes, Wrong> {
        let mut attributes = Given::default();
        let Some(raw) = self.get("attributes") else { return Ok(Attributes::new()) };
        let mut problem = None;
        let read = each_field(raw, |key, raw| {
            if problem.is_some() {
                return;
            }
            if key.len() > MAX_KEY {
                problem = Some(wrong("attributes", format!("a key is longer than {MAX_KEY} bytes")));
                return;
            }
            match value(raw) {
                Ok(Some(value)) => attributes.set(&key, value),
                Ok(None) => {}
                Err(message) => problem = Some(wrong(&format!("attributes.{key}"), message)),
            }
            if attributes.len() > MAX_ATTRIBUTES {
                problem = Some(wrong("attributes", format!("more than {MAX_ATTRIBUTES}")));
            }
        });
        match (read, problem) {
            (Err(error), _) => Err(wrong("attributes", without_place(&error))),
            (Ok(()), Some(problem)) => Err(problem),
            (Ok(()), None) => Ok(attributes.into_attributes()),
        }
    }

    fn event(&self) -> Result<EventMetrics, Wrong> {
        self.only(EVENT)?;
        let (start, end) = self.ended()?;
        let (status, error) = self.outcome()?;
        Ok(EventMetrics {
            pipeline_id: self.optional_name("pipeline_id")?,
            process_id: self.whole("process_id")?,
            end_time: Some(end),
            status,
            error,
            retry_count: self.whole("retry_count")?.unwrap_or(0),
            attributes: self.attributes()?,
            ..EventMetrics::started(self.id(start)?, self.name("event_name")?, self.name("task_id")?, start)
        })
    }

    fn operation(&self) -> Result<NetworkMetrics, Wrong> {
        self.only(NETWORK)?;
        let (start, end) = self.ended()?;
        let id = self.id(start)?;
        let (task, operation, host) = (self.name("task_id")?, self.name("operation")?, self.name("host")?);
        let port = self.whole("port")?.unwrap_or(0);
        Ok(NetworkMetrics {
            end_time: Some(end),
            bytes_sent: self.whole("bytes_sent")?.unwrap_or(0),
            bytes_received: self.whole("bytes_received")?.unwrap_or(0),
            error: self.error()?,
            attributes: self.attributes()?,
            ..NetworkMetrics::started(id, task, operation, host, port, start)
        })
    }

    fn end(&self) -> Result<Step, Wrong> {
        Ok(match self.outcome()? {
            (Status::Failed, error) => Step::Fail(error),
            (Status::Cancelled, _) => Step::Cancel,
            _ => Step::Complete,
        })
    }

    fn message(
        &self,
        known: &[&str],
        step: impl FnOnce(&Self) -> Result<Step, Wrong>,
    ) -> Result<Message, Wrong> {
        for key in ["time", "start_time", "end_time"] {
            if self.get(key).is_some() {
                let way_out =
                    "a message is timed when it arrives; send a record with start_time and end_time instead";
                return Err(wrong(key, way_out));
            }
        }
        self.only(known)?;
        Ok(Message {
            row: 0,
            line: 0,
            step: step(self)?,
            pipeline_id: self.optional_name("pipeline_id")?,
            event_name: self.name("event_name")?,
            task_id: self.name("task_id")?,
        })
    }
}
