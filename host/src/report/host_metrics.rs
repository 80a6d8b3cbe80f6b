//! The host's own metrics, in the Prometheus text exposition format 0.0.4.
//!
//! Invariant: what is written can be scraped, whatever the order of the calls: the samples of a family stand
//! together under one `# HELP` and one `# TYPE`, and no series occurs twice.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Collects samples and writes them down.
///
/// ```
/// use pressroom::report::Exposition;
///
/// let text = Exposition::new()
///     .counter("pressroom_publisher_records_total", "Records by outcome.", &[("outcome", "delivered")], 3_u64)
///     .finish();
/// assert!(text.ends_with("pressroom_publisher_records_total{outcome=\"delivered\"} 3\n"));
/// ```
#[derive(Debug, Default)]
pub struct Exposition {
    /// In the order in which the families were first named.
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    /// By their labels as written.
    samples: BTreeMap<String, Number>,
}

/// A sample's value: whole numbers keep all their digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Whole(u64),
    /// Any number, the infinities and NaN included.
    Float(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Number {
    fn from(yes: bool) -> Self {
        Self::Whole(yes.into())
    }
}

impl Exposition {
    /// The content type of the text.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Without any sample.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample of something that only grows; by convention `name` ends in `_total`. Names of families and of
    /// labels are the code's own and must be valid; a label's value and the help may be any text. If the series is
    /// there already, the later sample holds.
    pub fn counter(
        self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: impl Into<Number>,
    ) -> Self {
        self.sample("counter", name, help, labels, value.into())
    }

    /// Adds a sample of something that rises and falls; see [`Exposition::counter`].
    pub fn gauge(
        self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: impl Into<Number>,
    ) -> Self {
        self.sample("gauge", name, help, labels, value.into())
    }

    fn sample(
        mut self,
        kind: &'static str,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: Number,
    ) -> Self {
        let labels = write_labels(labels);
        match self.families.iter_mut().find(|family| family.name == name) {
            Some(family) => drop(family.samples.insert(labels, value)),
            None => {
                self.families.push(Family { name, help, kind, samples: BTreeMap::from([(labels, value)]) })
            }
        }
        self
    }

    /// The text; ends with a newline unless it is empty.
    pub fn finish(self) -> String {
        let mut out = String::new();
        for Family { name, help, kind, samples } in &self.families {
            // Writing to a string does not fail.
            let _ = writeln!(out, "# HELP {name} {}", help.replace('\\', r"\\").replace('\n', r"\n"));
            let _ = writeln!(out, "# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = match value {
                    Number::Whole(number) => writeln!(out, "{name}{labels} {number}"),
                    Number::Float(f64::INFINITY) => writeln!(out, "{name}{labels} +Inf"),
                    Number::Float(f64::NEG_INFINITY) => writeln!(out, "{name}{labels} -Inf"),
                    Number::Float(number) => writeln!(out, "{name}{labels} {number}"),
                };
            }
        }
        out
    }
}

fn write_labels(labels: &[(&str, &str)]) -> String {
    let mut sorted = labels.to_vec();
    sorted.sort_unstable();
    // A label named twice would cost the whole scrape; the first by value holds.
    sorted.dedup_by_key(|(name, _)| *name);
    let mut out = String::new();
    for (name, value) in sorted {
        let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
        let _ = write!(out, r#"{}{name}="{value}""#, if out.is_empty() { '{' } else { ',' });
    }
    if !out.is_empty() {
        out.push('}');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn samples_of_a_family_stand_together() {
        let text = Exposition::new()
            .counter("a_total", "All a.", &[("publisher", "x"), ("outcome", "delivered")], 3_u64)
            .gauge("b", "Line\nback\\slash", &[], 0.25)
            .counter("a_total", "All a.", &[("publisher", "x"), ("outcome", "dropped")], 1_usize)
            .counter("a_total", "All a.", &[("outcome", "dropped"), ("publisher", "x")], u64::MAX)
            .gauge("up", "Whether.", &[("x", "")], true)
            .finish();
        let expected = r#"# HELP a_total All a.
# TYPE a_total counter
a_total{outcome="delivered",publisher="x"} 3
a_total{outcome="dropped",publisher="x"} 18446744073709551615
# HELP b Line\nback\\slash
# TYPE b gauge
b 0.25
# HELP up Whether.
# TYPE up gauge
up{x=""} 1
"#;
        assert_eq!(text, expected);
        assert_eq!(Exposition::new().finish(), "");
    }

    #[test]
    fn what_is_no_finite_number_is_spelled_as_the_format_says() {
        let of = |number: f64| Exposition::new().gauge("g", "", &[], number).finish();
        assert!(of(f64::INFINITY).ends_with("\ng +Inf\n"));
        assert!(of(f64::NEG_INFINITY).ends_with("\ng -Inf\n"));
        assert!(of(f64::NAN).ends_with("\ng NaN\n"));
    }

    /// One sample line, read as the format's grammar says.
    fn parse(line: &str) -> (String, Vec<(String, String)>, f64) {
        let end = line.find(['{', ' ']).unwrap();
        let (name, mut rest) = line.split_at(end);
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            while let Some((label, quoted)) = rest.split_once("=\"") {
                let (mut value, mut chars) = (String::new(), quoted.char_indices());
                let end = loop {
                    match chars.next().unwrap() {
                        (_, '\\') => value.push(match chars.next().unwrap().1 {
                            'n' => '\n',
                            escaped @ ('\\' | '"') => escaped,
                            other => panic!("escape {other}"),
                        }),
                        (at, '"') => break at,
                        (_, char) => value.push(char),
                    }
                };
                labels.push((label.to_owned(), value));
                rest = &quoted[end + 1..];
                rest = rest.strip_prefix(',').unwrap_or(rest);
                if rest.starts_with('}') {
                    break;
                }
            }
            rest = rest.strip_prefix('}').unwrap();
        }
        (name.to_owned(), labels, rest.strip_prefix(' ').unwrap().parse().unwrap())
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            samples in prop::collection::vec((0..3_usize, "\\PC{0,8}|[\\\\\"\n,}={ a]{0,8}", any::<f64>()), 0..20)
        ) {
            let families = ["one_total", "two_total", "three_total"];
            let mut exposition = Exposition::new();
            let mut expected = BTreeMap::new();
            for (family, label, value) in &samples {
                exposition = exposition.counter(families[*family], "h", &[("b", label), ("a", "1")], *value);
                expected.insert((families[*family].to_owned(), label.clone()), *value);
            }
            let text = exposition.finish();
            let mut seen = BTreeMap::new();
            let mut types = Vec::new();
            for line in text.lines() {
                if let Some(named) = line.strip_prefix("# TYPE ") {
                    types.push(named.split_once(' ').unwrap().0.to_owned());
                } else if !line.starts_with('#') {
                    let (name, labels, value) = parse(line);
                    // Every sample stands under its own family's heading.
                    prop_assert_eq!(Some(&name), types.last());
                    prop_assert_eq!(&labels[0], &("a".to_owned(), "1".to_owned()));
                    prop_assert_eq!(labels.len(), 2);
                    prop_assert_eq!(&labels[1].0, "b");
                    prop_assert!(seen.insert((name, labels[1].1.clone()), value).is_none());
                }
            }
            let distinct: std::collections::BTreeSet<_> = types.iter().collect();
            prop_assert_eq!(distinct.len(), types.len());
            let bits = |map: BTreeMap<(String, String), f64>| -> Vec<_> {
                map.into_iter().map(|(key, value)| (key, value.is_nan() || value.to_bits() == 0, value.to_string())).collect()
            };
            prop_assert_eq!(bits(seen), bits(expected));
        }
    }
}
