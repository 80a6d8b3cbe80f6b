//! Which requests are granted: rules by method, scheme, host, port and path.
//!
//! Invariant: a rule and a request are read by the same parser, which takes what every server reads in the same way and
//! refuses all else: a path is made of what is on a list, and an address that is written oddly is not corrected.

#[cfg(test)]
mod servers;

use super::sigv4::digit;
use http::Method;
use reqwest::Url;
use std::fmt;

/// Where a request goes, or where a rule lets it go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) scheme: &'static str,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

impl Target {
    /// Reads `scheme://host[:port][/path][?query]`; the query is not kept.
    ///
    /// # Errors
    ///
    /// It cannot be read, or in more than one way.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (_, rest) = text.split_once("://").ok_or("is not an address such as https://example.com/path")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("holds a user or password; use grant.inject for credentials".to_owned());
        }
        let path = path.split(['?', '#']).next().unwrap_or_default();
        plain(path)?;
        let url = Url::parse(text).map_err(|cause| format!("is not an address: {cause}"))?;
        let scheme = match url.scheme() {
            "http" => "http",
            "https" => "https",
            other => return Err(format!("has the scheme {other}, and only http and https can be granted")),
        };
        // The parser mends what it reads (`127.1`, `%41.com`, names in other scripts); what it had to mend might
        // be read otherwise by somebody else.
        let host = host_of(authority).to_ascii_lowercase();
        let read = url.host_str().unwrap_or_default();
        if host != read {
            return Err(format!("has a host that is better written {read}"));
        }
        let path = if path.is_empty() { "/" } else { path };
        if url.path() != path {
            return Err(format!("has a path that is better written {}", url.path()));
        }
        let port = url.port_or_known_default().unwrap_or_default();
        Ok(Self { scheme, host, port, path: path.to_owned() })
    }

    pub(super) fn same_server(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port == other.port
    }

    /// Whether its path is `above` or below it, in whole segments.
    pub(super) fn is_below(&self, above: &str) -> bool {
        let above = above.trim_end_matches('/');
        self.path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        if self.port != if self.scheme == "https" { 443 } else { 80 } {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

fn host_of(authority: &str) -> &str {
    match authority.rfind(']') {
        Some(end) => authority.get(..=end).unwrap_or(authority),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    }
}

/// What a path may hold beside letters and digits.
const MARKS: &[u8] = b"-._~!$&'()*+,=:@";
/// What it may hold percent-encoded beside letters and digits. Not among them is what some server gives a meaning after it
/// has decoded it: dots, slashes, `%`, `;`, `?`, `#`, and what does not print.
const ENCODED: &[u8] = b" -_~!$&'()*+,=:@\"<>[]^`{|}";

/// Whether every server reads a path in the same way, those included that decode it twice, merge slashes, cut segments at
/// `;`, trim them, or take over-long or otherwise wrong UTF-8: it holds nothing but what is known to have one meaning.
fn plain(path: &str) -> Result<(), String> {
    if path.contains("//") {
        return Err("has an empty segment (`//`) in its path".to_owned());
    }
    path.split('/').try_for_each(|segment| {
        let text = decoded(segment)?;
        if !text.is_empty() && text.trim().is_empty() {
            return Err("has a segment of spaces in its path".to_owned());
        }
        let text = text.trim();
        let after = text.trim_start_matches('.');
        let is_name = after.starts_with(|c: char| c.is_alphanumeric() || "-_".contains(c));
        if after.len() < text.len() && !is_name {
            return Err("has a dot segment, or what a server may take for one, in its path".to_owned());
        }
        Ok(())
    })
}

/// A segment of a path as text.
fn decoded(segment: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            if !first.is_ascii_alphanumeric() && !MARKS.contains(first) {
                return Err(format!(
                    "holds `{}` in its path, which may hold letters, digits, {} and percent-encoded letters",
                    first.escape_ascii(),
                    String::from_utf8_lossy(MARKS)
                ));
            }
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return Err("holds a `%` without two hexadecimal digits in its path".to_owned());
        };
        if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() {
            return Err("holds a `%` without two hexadecimal digits in its path".to_owned());
        }
        let byte = digit(*high) << 4 | digit(*low);
        if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !ENCODED.contains(&byte) {
            return Err(format!("hides `{}` in its path by encoding it", byte.escape_ascii()));
        }
        bytes.push(byte);
        rest = after;
    }
    // This refuses over-long forms as well. Of other scripts there are letters alone: marks of some turn into dots and
    // slashes where a server translates them.
    let text =
        String::from_utf8(bytes).map_err(|_| "hides bytes that are not UTF-8 in its path".to_owned())?;
    match text.chars().find(|letter| !letter.is_ascii() && !letter.is_alphabetic()) {
        Some(other) => Err(format!("hides `{}` in its path, which is no letter", other.escape_unicode())),
        None => Ok(text),
    }
}

/// One request, or all below a path.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// `None` for any.
    method: Option<Method>,
    /// The path ends in `/` if everything below it is meant.
    target: Target,
    below: bool,
}

impl Rule {
    /// Reads `METHOD scheme://host[:port]/path`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that follow its text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let example = "write it as \"POST https://example.com/path\"";
        let (method, address) =
            text.split_once(' ').ok_or_else(|| format!("names no method and address; {example}"))?;
        let method = match method {
            "*" => None,
            name if name.bytes().all(|letter| letter.is_ascii_uppercase()) && !name.is_empty() => Some(
                Method::from_bytes(name.as_bytes()).map_err(|_| format!("has an odd method; {example}"))?,
            ),
            _ => return Err(format!("has a method that is not in capitals, nor `*`; {example}")),
        };
        if method == Some(Method::CONNECT) {
            return Err("grants a tunnel, which is never given".to_owned());
        }
        if address.contains(['?', '#']) {
            return Err("holds a query, which is no part of a grant".to_owned());
        }
        let (address, below) = match address.strip_suffix("/*") {
            Some(above) => (format!("{above}/"), true),
            None => (address.to_owned(), false),
        };
        if address.contains('*') {
            return Err("has a `*` elsewhere than alone after the last `/`".to_owned());
        }
        let target = Target::parse(&address)?;
        if !below && address.split_once("://").is_some_and(|(_, rest)| !rest.contains('/')) {
            return Err("names no path; end it in `/` for that one alone, in `/*` for all".to_owned());
        }
        Ok(Self { method, target, below })
    }

    /// A tunnel is never allowed, whatever the rule says of methods.
    pub(super) fn allows(&self, method: &Method, target: &Target) -> bool {
        let path = match self.below {
            true => target.path.starts_with(&self.target.path),
            false => target.path == self.target.path,
        };
        path && *method != Method::CONNECT
            && self.target.same_server(target)
            && self.method.as_ref().is_none_or(|granted| granted == method)
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }
}

#[cfg(test)]
mod tests {
    use super::{Rule, Target};
    use http::Method;

    fn allows(rule: &str, method: &str, address: &str) -> bool {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Rule::parse(rule).unwrap().allows(&method, &Target::parse(address).unwrap())
    }

    #[test]
    fn a_rule_allows_what_it_says_and_nothing_else() {
        let rule = "POST https://hooks.slack.com/services/*";
        for address in [
            "https://hooks.slack.com/services/",
            "https://hooks.slack.com/services/T/B/x",
            "https://HOOKS.slack.com:443/services/T?wait=1#f",
        ] {
            assert!(allows(rule, "POST", address), "{address}");
        }
        for address in [
            "http://hooks.slack.com/services/T",
            "https://hooks.slack.com/services",
            "https://hooks.slack.com/servicesX/T",
            "https://hooks.slack.com/",
            "https://hooks.slack.com:444/services/T",
            "https://hooks.slack.com.evil.example/services/T",
            "https://evil.example/services/T",
            "https://hooks.slack.com./services/T",
        ] {
            assert!(!allows(rule, "POST", address), "{address}");
        }
        assert!(!allows(rule, "GET", "https://hooks.slack.com/services/T"));
    }

    #[test]
    fn exact_paths_and_any_method() {
        assert!(allows("* http://[::1]:8086/write", "PURGE", "http://[::1]:8086/write?db=a"));
        assert!(!allows("* http://[::1]:8086/write", "POST", "http://[::1]:8086/write/"));
        assert!(!allows("* http://[::1]:8086/*", "CONNECT", "http://[::1]:8086/"));
        assert!(allows("GET http://a.example/", "GET", "http://a.example"));
        assert!(!allows("GET http://a.example/", "GET", "http://a.example/b"));
        assert!(allows("GET http://a.example/*", "GET", "http://a.example/b"));
        for path in [
            "%C3%BCber/%E6%9D%B1%E4%BA%AC",
            "a%20b/%7Bdate%7D/%5B1%5D",
            "me/drive/root:/x:publish@2,3+4=5",
            ".well-known/..data/a.b..c/x.",
            "%3Clogstash-%7Bnow%7D%3E/_doc/-_~!$&'()*",
            "sp%61ced%2C",
        ] {
            let address = format!("http://a.example/{path}");
            assert!(allows("GET http://a.example/*", "GET", &address), "{address}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (address, cause) in [
            ("https://a.example/services/../admin", "a dot segment"),
            ("https://a.example/services/./x", "a dot segment"),
            ("https://a.example/services/..;x=1/admin", "holds `;`"),
            ("https://a.example/..", "a dot segment"),
            ("https://a.example//services/x", "an empty segment"),
            ("https://a.example/services/x//", "an empty segment"),
            ("https://a.example/services/...", "a dot segment"),
            ("https://a.example/services/..%20/admin", "a dot segment"),
            ("https://a.example/services/%20..%20/admin", "a dot segment"),
            ("https://a.example/services/..:x/admin", "a dot segment"),
            ("https://a.example/services/.~/admin", "a dot segment"),
            ("https://a.example/services/%20/admin", "a segment of spaces"),
            ("https://a.example/services\\..\\x", "holds `\\\\`"),
            ("https://a.example\\@b.example/x", "holds `\\\\`"),
            ("https://a.example/services/%2e%2E/admin", "hides `.`"),
            ("https://a.example/services%2Fx", "hides `/`"),
            ("https://a.example/services%5cx", "hides `\\\\`"),
            ("https://a.example/x%00", "hides `\\x00`"),
            ("https://a.example/x%0d%0ay", "hides `\\r`"),
            ("https://a.example/x%09", "hides `\\t`"),
            ("https://a.example/x%7f", "hides `\\x7f`"),
            ("https://a.example/x%3fy", "hides `?`"),
            ("https://a.example/x%23y", "hides `#`"),
            ("https://a.example/services/..%3b/admin", "hides `;`"),
            ("https://a.example/services/x;y=1/admin", "holds `;`"),
            ("https://a.example/services/%252e%252e/admin", "hides `%`"),
            ("https://a.example/services/%25u002e%25u002e/admin", "hides `%`"),
            ("https://a.example/100%25/of%25it", "hides `%`"),
            ("https://a.example/x%25%32f", "hides `%`"),
            ("https://a.example/x%%32f", "holds a `%` without"),
            ("https://a.example/services/%u002e%u002e/admin", "holds a `%` without"),
            ("https://a.example/services/%uff0e%uFF0E/admin", "holds a `%` without"),
            ("https://a.example/services/x%", "holds a `%` without"),
            ("https://a.example/services/x%2", "holds a `%` without"),
            ("https://a.example/services%252Fx", "hides `%`"),
            ("https://a.example/services%c0%afx", "not UTF-8"),
            ("https://a.example/services/%C1%9cx", "not UTF-8"),
            ("https://a.example/services/%c0%ae%c0%ae/admin", "not UTF-8"),
            ("https://a.example/services/%e0%80%ae%e0%80%ae/admin", "not UTF-8"),
            ("https://a.example/services/%f0%80%80%ae%f0%80%80%ae/admin", "not UTF-8"),
            ("https://a.example/services/%f8%80%80%80%ae/admin", "not UTF-8"),
            ("https://a.example/services/%ed%a0%80/admin", "not UTF-8"),
            ("https://a.example/services/%ff/admin", "not UTF-8"),
            ("https://a.example/services/%ef%bc%8e%ef%bc%8e/admin", "no letter"),
            ("https://a.example/services/%e2%80%a4%e2%80%a4%e2%88%95admin", "no letter"),
            ("https://a.example/services/%c2%a5admin", "no letter"),
            ("https://a.example/a b", "holds ` `"),
            ("https://a.example/\u{fc}ber", "holds `\\xc3`"),
            ("https://user@a.example/x", "holds a user"),
            ("https://a.example:443@b.example/x", "holds a user"),
            ("http://127.1/x", "better written 127.0.0.1"),
            ("http://0x7f000001/x", "better written 127.0.0.1"),
            ("http://2130706433/x", "better written 127.0.0.1"),
            ("http://[::ffff:127.0.0.1]/x", "better written [::ffff:7f00:1]"),
            ("http://[0:0::1]/x", "better written [::1]"),
            ("http://%61.example/x", "better written a.example"),
            ("http://bücher.example/x", "better written xn--"),
            ("ftp://a.example/x", "only http and https"),
            ("http:///x", "better written x"),
            ("a.example/x", "is not an address such as"),
            ("http://a.example:99999/x", "is not an address: "),
        ] {
            let refused = Target::parse(address).unwrap_err();
            assert!(refused.contains(cause), "{address}: {refused}");
        }
    }

    #[test]
    fn a_bad_rule_says_what_is_wrong_with_it() {
        for (rule, cause) in [
            ("https://a.example/x", "names no method"),
            ("post https://a.example/x", "not in capitals"),
            (" https://a.example/x", "not in capitals"),
            ("CONNECT https://a.example/x", "tunnel"),
            ("POST https://a.example/x?y", "holds a query"),
            ("POST https://*.example/x", "`*` elsewhere"),
            ("POST https://a.example/*/x", "`*` elsewhere"),
            ("POST https://a.example/x*", "`*` elsewhere"),
            ("POST https://a.example", "names no path"),
            ("POST https://a.example:*/x", "`*` elsewhere"),
            ("POST https://me:it@a.example/x", "use grant.inject"),
            ("POST gopher://a.example/x", "only http and https"),
            ("POST https://a.example/../x", "a dot segment"),
        ] {
            let refused = Rule::parse(rule).unwrap_err();
            assert!(refused.contains(cause), "{rule}: {refused}");
        }
    }

    #[test]
    fn below_is_by_whole_segments() {
        let target = Target::parse("https://a.example/services/T").unwrap();
        for above in ["/", "", "/services", "/services/", "/services/T"] {
            assert!(target.is_below(above), "{above}");
        }
        for above in ["/serv", "/services/T/x", "/services/U"] {
            assert!(!target.is_below(above), "{above}");
        }
    }
}
