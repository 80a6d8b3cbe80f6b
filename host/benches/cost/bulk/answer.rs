//! Answers to bulk requests, member for member what Elasticsearch says of documents that it has created.

use serde::Deserialize;
use std::fmt::Write as _;

/// An answer that says nothing of the items.
pub const BRIEF: &str = r#"{"errors":false,"took":7,"items":[]}"#;

/// Where a document is to go.
#[derive(Default, Deserialize)]
pub struct Target<'a> {
    /// The index, unless the address says it.
    #[serde(borrow, rename = "_index")]
    index: Option<&'a str>,
    /// The document's id.
    #[serde(borrow, rename = "_id")]
    pub id: Option<&'a str>,
    #[serde(skip)]
    action: &'static str,
}

#[derive(Deserialize)]
struct Action<'a> {
    #[serde(borrow)]
    create: Option<Target<'a>>,
    #[serde(borrow)]
    index: Option<Target<'a>>,
}

impl<'a> Target<'a> {
    /// Reads an action line.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        let action: Action<'a> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match action {
            Action { create: Some(target), .. } => Ok(Self { action: "create", ..target }),
            Action { index: Some(target), .. } => Ok(Self { action: "index", ..target }),
            _ => Err("neither create nor index".to_owned()),
        }
    }
}

/// What of an answer is asked for, in `filter_path`.
#[derive(Default)]
pub struct FilterPath {
    only: Vec<Vec<String>>,
    without: Vec<Vec<String>>,
}

impl FilterPath {
    /// The one of an address's query.
    pub fn of(query: Option<&str>) -> Self {
        let given = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("filter_path="));
        let decoded = given.unwrap_or_default().replace("%2C", ",").replace("%2c", ",").replace("%2A", "*");
        let mut filter = Self::default();
        for path in decoded.split(',').filter(|path| !path.is_empty()) {
            let (list, path) = match path.strip_prefix('-') {
                Some(path) => (&mut filter.without, path),
                None => (&mut filter.only, path),
            };
            list.push(path.split('.').map(str::to_owned).collect());
        }
        filter
    }

    /// Whether the member at `path` is asked for.
    fn wants(&self, path: &[&str]) -> bool {
        let any = |list: &[Vec<String>]| list.iter().any(|pattern| covers(pattern, path));
        (self.only.is_empty() || any(&self.only)) && !any(&self.without)
    }
}

/// Whether `pattern` names what is at `path`, or something that holds it.
fn covers(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, _) => true,
        (Some((first, rest)), _) if first == "**" => {
            (0..=path.len()).any(|skipped| covers(rest, &path[skipped..]))
        }
        (Some(_), None) => false,
        (Some((first, rest)), Some((name, below))) => {
            let fits = match first.split_once('*') {
                Some((before, after)) => {
                    name.len() + 1 >= first.len() && name.starts_with(before) && name.ends_with(after)
                }
                None => first == name,
            };
            fits && covers(rest, below)
        }
    }
}

/// The members of an item, in Elasticsearch's order.
const MEMBERS: [&str; 8] =
    ["_index", "_id", "_version", "result", "_shards", "_seq_no", "_primary_term", "status"];

/// An answer that grows, item by item.
pub struct Items<'a> {
    /// The index of the address.
    index: &'a str,
    out: String,
    count: usize,
    members: Vec<&'static str>,
}

impl<'a> Items<'a> {
    /// The beginning of an answer of which `filter` says what is asked for; `index` is the address's.
    pub fn new(filter: &FilterPath, index: &'a str) -> Self {
        let wanted = |name: &&str| filter.wants(&["items", "create", name]);
        let members: Vec<_> = MEMBERS.into_iter().filter(wanted).collect();
        let mut out = String::from("{");
        for (name, value) in [("errors", "false"), ("took", "7")] {
            if filter.wants(&[name]) {
                let _ = write!(out, "\"{name}\":{value},");
            }
        }
        out.push_str(if members.is_empty() { "" } else { "\"items\":[" });
        Self { index, out, count: 0, members }
    }

    /// Says that a document was created.
    pub fn push(&mut self, target: &Target<'_>) {
        self.count += 1;
        if self.members.is_empty() {
            return;
        }
        let _ = write!(self.out, "{{\"{}\":{{", target.action);
        for name in &self.members {
            let out = &mut self.out;
            let _ = match *name {
                "_index" => write!(out, r#""_index":"{}","#, target.index.unwrap_or(self.index)),
                "_id" => match target.id {
                    Some(id) => write!(out, r#""_id":"{id}","#),
                    // As long as one that Elasticsearch makes up.
                    None => write!(out, r#""_id":"count{:015}","#, self.count),
                },
                "_version" => write!(out, r#""_version":1,"#),
                "result" => write!(out, r#""result":"created","#),
                "_shards" => write!(out, r#""_shards":{{"total":2,"successful":1,"failed":0}},"#),
                "_seq_no" => write!(out, r#""_seq_no":{},"#, self.count),
                "_primary_term" => write!(out, r#""_primary_term":1,"#),
                _ => write!(out, r#""status":201,"#),
            };
        }
        self.out.pop();
        self.out.push_str("}},");
    }

    /// The whole answer.
    pub fn finish(mut self) -> String {
        if self.out.ends_with(',') {
            self.out.pop();
        }
        if !self.members.is_empty() {
            self.out.push(']');
        }
        self.out.push('}');
        self.out
    }
}
