//! Walks JSON whose grammar has been checked before, in one pass.
//!
//! Invariant: every method that takes a value moves past the whole of it, whatever it holds. So each byte is looked at a
//! fixed number of times, however deep values are nested.

use std::borrow::Cow;

/// A place in a JSON text: the first byte of a value, or the end.
pub(super) struct Walk<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    /// At the beginning of `json`, one valid value.
    pub(super) fn new(json: &'a str) -> Self {
        let mut walk = Self { json, at: 0 };
        walk.white_space();
        walk
    }

    /// Where it is, for [`Walk::since`].
    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// The text from `place` to here.
    pub(super) fn since(&self, place: usize) -> &'a str {
        self.json.get(place..self.at).unwrap_or_default()
    }

    /// The first byte of the value.
    fn first(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    /// Whether the value is `null`.
    pub(super) fn is_null(&self) -> bool {
        self.first() == Some(b'n')
    }

    fn rest(&self) -> &'a [u8] {
        self.json.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn white_space(&mut self) {
        let white = |byte: &&u8| matches!(**byte, b' ' | b'\n' | b'\r' | b'\t');
        self.at += self.rest().iter().take_while(white).count();
    }

    /// Moves past a text, and tells whether there is an escape in it.
    fn skip_text(&mut self) -> bool {
        let mut escaped = false;
        self.at += 1;
        while let Some(more) = self.rest().iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            self.at += more;
            if self.first() == Some(b'"') {
                self.at += 1;
                return escaped;
            }
            escaped = true;
            self.at += 2;
        }
        self.at = self.json.len();
        escaped
    }

    /// Moves past the value, and returns its text.
    pub(super) fn skip(&mut self) -> &'a str {
        let start = self.at;
        match self.first() {
            Some(b'"') => {
                self.skip_text();
            }
            Some(b'{' | b'[') => {
                let mut depth = 0_usize;
                while let Some(byte) = self.first() {
                    match byte {
                        b'"' => {
                            self.skip_text();
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                let rest = self.rest();
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        self.since(start)
    }

    /// Moves past the value.
    pub(super) fn pass(&mut self) {
        self.skip();
    }

    /// A text; `None` for anything else.
    pub(super) fn text(&mut self) -> Option<Cow<'a, str>> {
        if self.first() != Some(b'"') {
            self.skip();
            return None;
        }
        let start = self.at;
        let escaped = self.skip_text();
        let quoted = self.since(start);
        if escaped {
            return serde_json::from_str(quoted).ok().map(Cow::Owned);
        }
        quoted.get(1..quoted.len().saturating_sub(1)).map(Cow::Borrowed)
    }

    /// What is written in the value: a text without its quotes, anything else as it is.
    pub(super) fn token(&mut self) -> Option<Cow<'a, str>> {
        match self.first() {
            Some(b'"') => self.text(),
            Some(b'{' | b'[') => {
                self.skip();
                None
            }
            _ => Some(Cow::Borrowed(self.skip())),
        }
    }

    /// Hands every key of an object to `field`, which moves past the value that follows. `null` has no keys.
    ///
    /// # Errors
    ///
    /// The value is no object.
    pub(super) fn object(&mut self, mut field: impl FnMut(&mut Self, &str)) -> Result<(), String> {
        if !self.opens(b'{', "an object")? {
            return Ok(());
        }
        while self.next_member() {
            let Some(key) = self.text() else { continue };
            self.white_space();
            self.at += 1;
            self.white_space();
            field(self, &key);
        }
        Ok(())
    }

    /// Hands every item of a list to `item`, which moves past it. `null` has no items.
    ///
    /// # Errors
    ///
    /// The value is no list.
    pub(super) fn list(&mut self, mut item: impl FnMut(&mut Self)) -> Result<(), String> {
        if !self.opens(b'[', "a list")? {
            return Ok(());
        }
        while self.next_member() {
            item(self);
        }
        Ok(())
    }

    /// Moves into the value, if it is more than `null`.
    fn opens(&mut self, bracket: u8, expected: &str) -> Result<bool, String> {
        if self.first() == Some(bracket) {
            self.at += 1;
            return Ok(true);
        }
        match self.skip() {
            "null" => Ok(false),
            other => Err(format!("expected {expected}, found {}", super::cut(other, 64))),
        }
    }

    /// Moves to the next key or item; moves past the closing bracket where there is none.
    fn next_member(&mut self) -> bool {
        self.white_space();
        if self.first() == Some(b',') {
            self.at += 1;
            self.white_space();
        }
        match self.first() {
            Some(b'}' | b']') => {
                self.at += 1;
                false
            }
            first => first.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What serde_json builds of it.
    fn build(walk: &mut Walk<'_>) -> serde_json::Value {
        match walk.first() {
            Some(b'{') => {
                let mut map = serde_json::Map::new();
                walk.object(|walk, key| {
                    map.insert(key.to_owned(), build(walk));
                })
                .unwrap();
                map.into()
            }
            Some(b'[') => {
                let mut list = Vec::new();
                walk.list(|walk| list.push(build(walk))).unwrap();
                list.into()
            }
            Some(b'"') => walk.text().unwrap().into_owned().into(),
            _ => serde_json::from_str(walk.skip()).unwrap(),
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::Array),
                proptest::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_walked_is_what_was_written(value in any_json(), pretty in any::<bool>()) {
            let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let json = format!(" {json} ");
            prop_assert_eq!(build(&mut Walk::new(&json)), value);
            prop_assert_eq!(Walk::new(&json).skip(), json.trim());
        }

        #[test]
        fn no_text_is_walked_for_ever(json in "[\\[\\]{}\":,0-9a-z\\\\ \né]{0,60}") {
            let mut walk = Walk::new(&json);
            let _ = walk.object(|walk, _| {
                let _ = walk.list(|walk| {
                    walk.token();
                });
            });
            let _ = Walk::new(&json).list(|walk| {
                walk.text();
            });
        }
    }

    #[test]
    fn what_is_no_object_or_list_is_passed_and_named() {
        let mut walk = Walk::new("[5, null, {\"a\": [[1]]}]");
        let mut found = Vec::new();
        walk.list(|walk| found.push(walk.object(|walk, _| walk.pass()))).unwrap();
        assert_eq!(found, [Err("expected an object, found 5".to_owned()), Ok(()), Ok(())]);
        assert_eq!(Walk::new("{}").list(|_| ()).unwrap_err(), "expected a list, found {}");
    }
}
