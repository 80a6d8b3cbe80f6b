//! Whom a URL addresses.

/// The host and the port of an absolute URL; the port of its scheme where it names none.
pub(super) fn of_url(url: &str) -> Option<(&str, Option<u16>)> {
    let (scheme, rest) = url.split_once("://")?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
        return None;
    }
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let (host, port) = match address.strip_prefix('[') {
        Some(literal) => {
            let (host, port) = literal.split_once(']')?;
            (host, port.strip_prefix(':').unwrap_or_default())
        }
        None => address.split_once(':').unwrap_or((address, "")),
    };
    let port = match port {
        "" => default_port(scheme),
        port => Some(port.parse().ok()?),
    };
    (!host.is_empty()).then_some((host, port))
}

fn default_port(scheme: &str) -> Option<u16> {
    let is = |known: &str| scheme.eq_ignore_ascii_case(known);
    if is("http") || is("ws") {
        Some(80)
    } else if is("https") || is("wss") {
        Some(443)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::of_url;

    #[test]
    fn a_url_says_whom_it_addresses() {
        for (url, address) in [
            ("https://api.local/users?a=b#c", Some(("api.local", Some(443)))),
            ("http://api.local:8080", Some(("api.local", Some(8080)))),
            ("HTTP://user:p@ss@api.local?x", Some(("api.local", Some(80)))),
            ("https://[2001:db8::1]:8443/", Some(("2001:db8::1", Some(8443)))),
            ("https://[::1]", Some(("::1", Some(443)))),
            ("redis://cache:6379/0", Some(("cache", Some(6379)))),
            ("ftp://files/", Some(("files", None))),
            ("https://api.local:/", Some(("api.local", Some(443)))),
            ("/users", None),
            ("api.local/users", None),
            ("https:///users", None),
            ("https://api.local:99999/", None),
            ("https://[::1/", None),
            ("a b://c", None),
            ("", None),
        ] {
            assert_eq!(of_url(url), address, "{url}");
        }
    }
}
