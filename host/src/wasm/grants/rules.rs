//! Which requests are granted: rules by method, scheme, host, port and path.
//!
//! Invariant: a rule and a request are read by the same parser, and what could be read in two ways (dot segments,
//! backslashes, encoded separators, an address written oddly) is refused rather than mended.

use super::sigv4::decode;
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

/// Whether there is only one way to read a path.
fn plain(path: &str) -> Result<(), String> {
    let lower = path.to_ascii_lowercase();
    if path.contains('\\') || ["%2e", "%2f", "%5c", "%00"].iter().any(|hidden| lower.contains(hidden)) {
        return Err("hides a dot, a slash or a backslash in its path".to_owned());
    }
    // Some servers decode a path twice, or take over-long bytes for letters: %c0%af for a slash.
    let once = decode(path);
    let encoded = |text: &[u8]| matches!(text, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    if once.windows(3).any(encoded) || once.iter().any(|byte| [0xc0, 0xc1].contains(byte)) {
        return Err("hides a letter in its path by encoding it twice or oddly".to_owned());
    }
    if path.contains("//") {
        return Err("has an empty segment (`//`) in its path".to_owned());
    }
    // Some servers cut a segment at `;` before they look at it.
    if path.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | ".."))) {
        return Err("has a dot segment in its path".to_owned());
    }
    Ok(())
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
        assert!(allows("GET http://a.example/*", "GET", "http://a.example/100%25/of%25it%25"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (address, cause) in [
            ("https://a.example/services/../admin", "a dot segment"),
            ("https://a.example/services/./x", "a dot segment"),
            ("https://a.example/services/..;x=1/admin", "a dot segment"),
            ("https://a.example/..", "a dot segment"),
            ("https://a.example//services/x", "an empty segment"),
            ("https://a.example/services/x//", "an empty segment"),
            ("https://a.example/services\\..\\x", "hides a dot"),
            ("https://a.example\\@b.example/x", "hides a dot"),
            ("https://a.example/services/%2e%2E/admin", "hides a dot"),
            ("https://a.example/services%2Fx", "hides a dot"),
            ("https://a.example/services%5cx", "hides a dot"),
            ("https://a.example/x%00", "hides a dot"),
            ("https://a.example/services/%252e%252e/admin", "hides a letter"),
            ("https://a.example/x%25%32f", "hides a letter"),
            ("https://a.example/x%%32f", "hides a letter"),
            ("https://a.example/services%252Fx", "hides a letter"),
            ("https://a.example/services%c0%afx", "hides a letter"),
            ("https://a.example/services/%C1%9cx", "hides a letter"),
            ("https://a.example/a b", "better written /a%20b"),
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
