//! The host's own metrics, read from the text that scrapes get.
//!
//! Invariant: a line that is not as the format says costs itself and nothing else; a time stamp in it is not heeded.

use super::groups::{Description, Group, Identity, Kind};
use crate::record::Text;
use std::sync::Arc;

/// The samples of a text in the exposition format 0.0.4, each a group of its own, and what it says about its families.
pub(super) fn read(text: &str) -> (Vec<Group>, Vec<Description>) {
    let mut groups = Vec::new();
    let mut descriptions: Vec<Description> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            describe(comment.trim_start(), &mut descriptions);
        } else if let Some((name, labels, value)) = sample(line) {
            // The samples of a family stand below what is said about it.
            let family = descriptions.last().filter(|family| belongs(&name, family));
            let kind = family.map_or(Kind::Unknown, |family| family.kind);
            let identity = Arc::new(Identity::new(&name, labels));
            groups.push(Group { identity, own: false, kind, values: vec![value] });
        } else {
            tracing::debug!("passed over a line of the host's own metrics: {line:?}");
        }
    }
    (groups, descriptions)
}

/// A family's samples have its name; those of a histogram say more behind it.
fn belongs(name: &str, family: &Description) -> bool {
    name.strip_prefix(&*family.name).is_some_and(|suffix| {
        suffix.is_empty()
            || (family.kind == Kind::Histogram && ["_bucket", "_sum", "_count"].contains(&suffix))
    })
}

fn describe(comment: &str, descriptions: &mut Vec<Description>) {
    let Some((what, rest)) = comment.split_once(' ') else { return };
    let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
    if !matches!(what, "HELP" | "TYPE") {
        return;
    }
    if descriptions.last().is_none_or(|family| family.name != name) {
        descriptions.push(Description { name: name.into(), help: Text::default(), kind: Kind::Unknown });
    }
    let Some(family) = descriptions.last_mut() else { return };
    match what {
        "HELP" => family.help = unescape(text),
        _ => {
            family.kind = match text.trim() {
                "counter" => Kind::Counter,
                "gauge" => Kind::Gauge,
                "histogram" => Kind::Histogram,
                _ => Kind::Unknown,
            }
        }
    }
}

type Sample = (Text, Vec<(Text, Text)>, f64);

/// `name{label="value",…} number`, with a time stamp behind it or without.
fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = line.split_at(line.find(['{', ' ', '\t'])?);
    let mut rest = rest.trim_start();
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner.trim_start();
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once('=')?;
            let quoted = quoted.trim_start().strip_prefix('"')?;
            let end = closing_quote(quoted)?;
            labels.push((Text::new(label.trim()), unescape(quoted.get(..end)?)));
            rest = quoted.get(end + 1..)?.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.split_whitespace().next()?;
    let legal = !name.is_empty() && labels.iter().all(|(name, _)| !name.is_empty());
    legal.then_some((Text::new(name), labels, value.parse().ok()?))
}

fn closing_quote(quoted: &str) -> Option<usize> {
    let mut escaped = false;
    quoted.char_indices().find_map(|(at, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at)
    })
}

fn unescape(text: &str) -> Text {
    if !text.contains('\\') {
        return Text::new(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(escaped) => out.push(escaped),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Exposition;
    use proptest::prelude::*;

    fn series(group: &Group) -> Vec<(String, String)> {
        let labels = group.identity.series().next().unwrap().labels(&[]);
        labels.into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect()
    }

    #[test]
    fn what_the_host_says_of_itself_is_read_with_its_types() {
        let text = Exposition::new()
            .counter("a_total", "All\n\\a.", &[("publisher", "x\"}\\\n,"), ("empty", "")], 3_u64)
            .gauge("b", "", &[], f64::NEG_INFINITY)
            .gauge("c", "", &[("x", "1")], f64::NAN)
            .finish();
        let (groups, descriptions) = read(&text);
        let kinds: Vec<_> = groups.iter().map(|group| (group.kind, group.own)).collect();
        assert_eq!(kinds, [(Kind::Counter, false), (Kind::Gauge, false), (Kind::Gauge, false)]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(series(&groups[0]), [pair("__name__", "a_total"), pair("publisher", "x\"}\\\n,")]);
        assert_eq!(series(&groups[2]), [pair("__name__", "c"), pair("x", "1")]);
        assert_eq!((&*groups[0].values, &*groups[1].values), (&[3.0][..], &[f64::NEG_INFINITY][..]));
        assert!(groups[2].values[0].is_nan());
        assert_eq!((&*descriptions[0].help, descriptions.len()), ("All\n\\a.", 3));
    }

    #[test]
    fn a_line_that_is_wrong_costs_itself_only() {
        let text = "# a comment\n# TYPE h histogram\nh_bucket{le=\"1\"} 2 1700000000000\nh_sum 0.5\n\n{} 1\nx\ny \n\
                    z{a=\"\\\"} 1\nz{a} 1\nz{=\"\"} 1\nz{a=\"1\" one\nunknown 7\n\tspaced\t{ a = \"1\" , } 8\n";
        let (groups, _) = read(text);
        let found: Vec<_> =
            groups.iter().map(|group| (series(group)[0].1.clone(), group.kind, group.values[0])).collect();
        let expected = [
            ("h_bucket", Kind::Histogram, 2.0),
            ("h_sum", Kind::Histogram, 0.5),
            ("unknown", Kind::Unknown, 7.0),
            ("spaced", Kind::Unknown, 8.0),
        ];
        assert_eq!(found, expected.map(|(name, kind, value)| (name.to_owned(), kind, value)));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text: String) {
            read(&text);
        }

        #[test]
        fn every_sample_that_is_written_is_read(
            samples in prop::collection::btree_map("\\PC{1,8}|[\\\\\"\n,}={ a]{1,8}", any::<f64>(), 0..20)
        ) {
            let mut exposition = Exposition::new();
            for (value, number) in &samples {
                exposition = exposition.counter("one_total", "h", &[("b", value), ("a", "1")], *number);
            }
            let (groups, _) = read(&exposition.finish());
            let read = groups.iter().map(|group| (series(group)[2].1.clone(), group.values[0].to_string()));
            let read: std::collections::BTreeMap<_, _> = read.collect();
            let written = samples.iter().map(|(value, number)| (value.clone(), number.to_string()));
            prop_assert_eq!(read, written.collect());
        }
    }
}
