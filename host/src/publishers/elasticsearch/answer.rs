//! What a server says of the items of a bulk request.
//!
//! Invariant: an item's fate is known only from an answer that is whole and speaks of exactly as many items as were
//! sent, in their order. Everything else says nothing of any of them.

use super::trouble::Trouble;
use super::wire::describe;
use elasticsearch::http::response::Error as ServerError;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::time::Duration;

/// What is asked of an answer. `timeout` is how long a server waits for an index that has lost its shards: a minute by
/// default, longer than a call may take, so that such an index would never be named. Then a status per item, and why where there is an error. The rest, ten times as much, says
/// again what was sent.
pub(super) const FILTER: &str = "timeout=10s&filter_path=items.*.status,items.*.error.type,items.*.error.reason,\
                                 items.*.error.caused_by.type,items.*.error.caused_by.reason,\
                                 items.*.error.caused_by.caused_by.type,items.*.error.caused_by.caused_by.reason";

/// How much of an answer for so many items is read. As a rule an item takes 30 bytes, and some hundred where there is an
/// error, which may quote the record.
pub(super) fn longest(count: usize) -> usize {
    (1 << 20) + count.saturating_mul(2 << 10).min(32 << 20)
}

/// The fates of the items of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Items {
    /// How many were created.
    pub(super) created: usize,
    /// How many were there before.
    pub(super) duplicates: usize,
    /// The others: which, counted from 0, and what about them.
    pub(super) others: Vec<(usize, Fate)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not yet.
    Trouble(Trouble),
    /// Never, in this form.
    Refused(String),
    /// Not there: its index refuses whatever is sent to it. `hold`: until somebody mends something.
    Index { reason: String, hold: bool },
}

/// Reads an answer for `count` items.
///
/// # Errors
///
/// Why it says nothing.
pub(super) fn read(body: &[u8], count: usize, after: Option<Duration>) -> Result<Items, String> {
    if all_created(body) == Some(count) {
        return Ok(Items { created: count, ..Items::default() });
    }
    parse(body, count, after)
}

/// How many items an answer is for, if it says of each that it was created and nothing else: it does as a rule, always
/// in the same bytes, and to parse them costs more than to send the records.
fn all_created(body: &[u8]) -> Option<usize> {
    let mut rest = body.strip_prefix(br#"{"items":["#)?;
    for count in 1.. {
        rest = rest.strip_prefix(br#"{"create":{"status":201}}"#)?;
        match rest.split_first() {
            Some((b',', more)) => rest = more,
            _ => return (rest == b"]}").then_some(count),
        }
    }
    None
}

fn parse(body: &[u8], count: usize, after: Option<Duration>) -> Result<Items, String> {
    let mut found = Found { count: 0, after, items: Items::default() };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = deserializer.deserialize_map(Whole { found: &mut found }).and_then(|()| deserializer.end());
    match read {
        Err(error) => Err(format!("the answer cannot be read: {error}")),
        Ok(()) if found.count != count => {
            Err(format!("the answer is for {} items, and {count} were sent", found.count))
        }
        Ok(()) => Ok(found.items),
    }
}

struct Found {
    count: usize,
    after: Option<Duration>,
    items: Items,
}

impl Found {
    fn add(&mut self, item: Item) {
        let at = self.count;
        self.count += 1;
        let said = || match &item.error {
            Some(error) => format!("{}: {}", item.status, describe(error)),
            None => item.status.to_string(),
        };
        let fate = match item.status {
            200..=299 => return self.items.created += 1,
            409 => return self.items.duplicates += 1,
            status if concerns_the_index(status, item.error.as_deref()) => {
                // The disk's flood stage, and shards that are lost, may pass by themselves.
                Fate::Index { reason: said(), hold: !matches!(status, 429 | 503) }
            }
            408 | 429 => Fate::Trouble(Trouble::Retry { reason: said(), after: self.after }),
            400..=499 => Fate::Refused(said()),
            // 5xx; and what no server should say.
            _ => Fate::Trouble(Trouble::Retry { reason: said(), after: self.after }),
        };
        self.items.others.push((at, fate));
    }
}

/// Whether an item's error says nothing of the record, and nothing of the server: whatever is sent to that index is refused,
/// and what is sent to others may be taken.
fn concerns_the_index(status: u16, error: Option<&ServerError>) -> bool {
    let ty = error.and_then(ServerError::ty).unwrap_or_default();
    let reason = error.and_then(|error| error.reason()).unwrap_or_default();
    match status {
        // The credentials do not reach it, it is blocked, or it is not there and must not be made.
        401 | 403 | 404 => true,
        400 => match ty {
            // The first: no more shards may be made in this cluster.
            "validation_exception" | "index_closed_exception" | "invalid_index_name_exception" => true,
            "illegal_argument_exception" => reason.starts_with("no write index is defined for alias"),
            _ => false,
        },
        // A block of the whole cluster names no index.
        429 | 503 if ty == "cluster_block_exception" => reason.starts_with("index ["),
        503 => ty == "unavailable_shards_exception",
        _ => false,
    }
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    /// Boxed, for it is large, moved from hand to hand, and absent as a rule.
    #[serde(default)]
    error: Option<Box<ServerError>>,
}

/// The answer: of its members only `items` is looked at.
struct Whole<'a> {
    found: &'a mut Found,
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer to a bulk request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == "items" {
                if std::mem::replace(&mut seen, true) {
                    return Err(A::Error::duplicate_field("items"));
                }
                map.next_value_seed(ItemsOf { found: &mut *self.found })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if seen { Ok(()) } else { Err(A::Error::missing_field("items")) }
    }
}

struct ItemsOf<'a> {
    found: &'a mut Found,
}

impl<'de> serde::de::DeserializeSeed<'de> for ItemsOf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(Action(item)) = items.next_element()? {
            self.found.add(item);
        }
        Ok(())
    }
}

/// `{"create": {…}}`
struct Action(Item);

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Action;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an item")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Action, A::Error> {
                let Some((IgnoredAny, item)) = map.next_entry()? else {
                    return Err(A::Error::custom("an item without a word"));
                };
                match map.next_key::<IgnoredAny>()? {
                    None => Ok(Action(item)),
                    Some(_) => Err(A::Error::custom("an item with two words")),
                }
            }
        }
        deserializer.deserialize_map(Named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(items: &str, count: usize) -> Result<Items, String> {
        read(format!("{{\"took\":3,\"errors\":false,\"items\":[{items}]}}").as_bytes(), count, None)
    }

    #[test]
    fn every_item_has_its_own_fate() {
        let items = of(
            r#"{"create":{"status":201}},{"create":{"_id":"x","status":409,"error":{"type":"version_conflict_engine_exception","reason":"there"}}},
               {"create":{"status":429,"error":{"type":"cluster_block_exception","reason":"read only"}}},
               {"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"no","caused_by":{"type":"x","reason":"For input"}}}},
               {"create":{"status":200}},{"create":{"status":503}},
               {"create":{"status":403,"error":{"type":"security_exception","reason":"not allowed"}}},
               {"create":{"status":400,"error":{"type":"validation_exception","reason":"no more shards"}}}"#,
            8,
        )
        .unwrap();
        assert_eq!((items.created, items.duplicates), (2, 1));
        let retry = |reason: &str| Fate::Trouble(Trouble::retry(reason));
        let index = |reason: &str| Fate::Index { reason: reason.to_owned(), hold: true };
        assert_eq!(
            items.others,
            [
                (2, retry("429: cluster_block_exception: read only")),
                (3, Fate::Refused("400: mapper_parsing_exception: no: x: For input".to_owned())),
                (5, retry("503")),
                (6, index("403: security_exception: not allowed")),
                (7, index("400: validation_exception: no more shards")),
            ]
        );
    }

    #[test]
    fn what_concerns_one_index_is_told_from_what_concerns_the_server() {
        let fate = |status: u16, ty: &str, reason: &str| {
            let item = serde_json::json!({ "create": { "status": status, "error": { "type": ty, "reason": reason } } });
            of(&item.to_string(), 1).unwrap().others.remove(0).1
        };
        for (status, ty, reason) in [
            (403, "cluster_block_exception", "index [p] blocked by: [FORBIDDEN/8/index write (api)];"),
            (403, "cluster_block_exception", "index [p] blocked by: [FORBIDDEN/5/index read-only (api)];"),
            (
                429,
                "cluster_block_exception",
                "index [p] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded];",
            ),
            (
                403,
                "cluster_block_exception",
                "blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];",
            ),
            (400, "index_closed_exception", "closed"),
            (400, "illegal_argument_exception", "no write index is defined for alias [p]."),
            (404, "index_not_found_exception", "no such index [p] and [action.auto_create_index] is [false]"),
            (503, "unavailable_shards_exception", "[p][0] primary shard is not active"),
        ] {
            let hold = !matches!(status, 429 | 503);
            assert!(
                matches!(fate(status, ty, reason), Fate::Index { hold: found, .. } if found == hold),
                "{reason}"
            );
        }
        for (status, ty, reason) in [
            (429, "es_rejected_execution_exception", "the queue is full"),
            (429, "cluster_block_exception", "blocked by: [TOO_MANY_REQUESTS/12/all];"),
            (503, "cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master];"),
            (503, "some_exception", "index [p]"),
        ] {
            assert!(
                matches!(fate(status, ty, reason), Fate::Trouble(Trouble::Retry { .. })),
                "{status} {ty}"
            );
        }
        assert!(matches!(fate(400, "illegal_argument_exception", "mapper [x]"), Fate::Refused(_)));
    }

    #[test]
    fn advice_is_for_every_item_that_is_to_come_again() {
        let after = Some(Duration::from_secs(3));
        let items =
            read(br#"{"items":[{"create":{"status":429}},{"create":{"status":404}}]}"#, 2, after).unwrap();
        let retry = Trouble::Retry { reason: "429".to_owned(), after };
        assert_eq!(
            items.others,
            [(0, Fate::Trouble(retry)), (1, Fate::Index { reason: "404".to_owned(), hold: true })]
        );
    }

    #[test]
    fn what_is_read_without_parsing_is_what_parsing_would_say() {
        let of = |count: usize| {
            format!("{{\"items\":[{}]}}", vec![r#"{"create":{"status":201}}"#; count].join(","))
        };
        for count in 1..5 {
            assert_eq!(all_created(of(count).as_bytes()), Some(count));
        }
        // Whatever is changed, cut off or added: it is taken at its word only if it is that very word.
        let whole = of(3);
        for at in 0..=whole.len() {
            let (before, rest) = whole.split_at(at);
            let cut = before.to_owned();
            let changed: String = before.chars().chain(['x']).chain(rest.chars().skip(1)).collect();
            let added = format!("{before},{rest}");
            for other in [cut, changed, added].iter().filter(|other| **other != whole) {
                assert_eq!(all_created(other.as_bytes()), None, "{other}");
            }
        }
        assert_eq!(all_created(of(0).as_bytes()), None);
        assert_eq!(read(whole.as_bytes(), 3, None), parse(whole.as_bytes(), 3, None));
        assert!(read(whole.as_bytes(), 2, None).is_err());
    }

    #[test]
    fn an_answer_that_lies_says_nothing() {
        let created = r#"{"create":{"status":201}}"#;
        assert!(of(&[created, created].join(","), 2).is_ok());
        for (items, count) in [
            (created.to_owned(), 2),
            ([created, created].join(","), 1),
            (String::new(), 1),
            ("{}".to_owned(), 1),
            ("null".to_owned(), 1),
            (r#"{"create":{}}"#.to_owned(), 1),
            (r#"{"create":{"status":"201"}}"#.to_owned(), 1),
            (r#"{"create":{"status":99999}}"#.to_owned(), 1),
            (r#"{"create":{"status":201},"index":{"status":201}}"#.to_owned(), 1),
            (r#"{"create":{"status":400,"error":7}}"#.to_owned(), 1),
        ] {
            assert!(of(&items, count).is_err(), "{items}");
        }
        for whole in [
            "",
            "{",
            "[]",
            "null",
            "<html>",
            r#"{"errors":false}"#,
            r#"{"items":{}}"#,
            r#"{"items":[{"create":{"status":201}}]"#,
            r#"{"items":[{"create":{"status":201}}]}{"#,
            r#"{"items":[{"create":{"status":201}}],"items":[]}"#,
        ] {
            assert!(read(whole.as_bytes(), 1, None).is_err(), "{whole}");
        }
        let deep = format!("{{\"x\":{}", "[".repeat(1_000_000));
        assert!(read(deep.as_bytes(), 1, None).is_err());
    }
}
