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

/// What is asked of an answer: a status per item, and why where there is an error. The rest, ten times as much, says
/// again what was sent.
pub(super) const FILTER: &str = "filter_path=items.*.status,items.*.error.type,items.*.error.reason,\
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
            401 | 403 | 404 => Fate::Trouble(Trouble::hold(said())),
            400 if item.error.as_deref().and_then(ServerError::ty).is_some_and(is_for_a_person) => {
                Fate::Trouble(Trouble::hold(said()))
            }
            408 | 429 => Fate::Trouble(Trouble::Retry { reason: said(), after: self.after }),
            400..=499 => Fate::Refused(said()),
            // 5xx; and what no server should say.
            _ => Fate::Trouble(Trouble::Retry { reason: said(), after: self.after }),
        };
        self.items.others.push((at, fate));
    }
}

/// Errors that say nothing of the record: whatever was sent there would have been refused.
fn is_for_a_person(ty: &str) -> bool {
    matches!(
        ty,
        // No more shards may be made in this cluster.
        "validation_exception" | "index_closed_exception" | "invalid_index_name_exception"
    )
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
        let hold = |reason: &str| Fate::Trouble(Trouble::hold(reason));
        assert_eq!(
            items.others,
            [
                (2, retry("429: cluster_block_exception: read only")),
                (3, Fate::Refused("400: mapper_parsing_exception: no: x: For input".to_owned())),
                (5, retry("503")),
                (6, hold("403: security_exception: not allowed")),
                (7, hold("400: validation_exception: no more shards")),
            ]
        );
    }

    #[test]
    fn advice_is_for_every_item_that_is_to_come_again() {
        let after = Some(Duration::from_secs(3));
        let items =
            read(br#"{"items":[{"create":{"status":429}},{"create":{"status":404}}]}"#, 2, after).unwrap();
        let retry = Trouble::Retry { reason: "429".to_owned(), after };
        assert_eq!(items.others, [(0, Fate::Trouble(retry)), (1, Fate::Trouble(Trouble::hold("404")))]);
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
