//! Who may ask at all: decided from the request's head, before anything of it is read or done.

use crate::ingest::body::Refusal;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use std::net::IpAddr;

/// Checks `Host`, `Origin` and the token.
pub(super) struct Guard {
    authorization: Option<Vec<u8>>,
    hosts: Vec<String>,
}

impl Guard {
    pub(super) fn new(token: Option<&str>, hosts: &[String]) -> Self {
        Self {
            authorization: token.map(|token| token.as_bytes().to_vec()),
            hosts: hosts.iter().map(|host| host.trim_end_matches('.').to_ascii_lowercase()).collect(),
        }
    }

    /// Whether this request, which came to the address `local`, is answered.
    pub(super) fn check(&self, request: &Parts, local: IpAddr) -> Result<(), Refusal> {
        let host = single(&request.headers, &header::HOST)?;
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "the Host header is missing"));
        };
        // A request line with a whole URL names the host a second time.
        let target = request.uri.authority().map(|authority| authority.as_str());
        for named in [Some(host), target].into_iter().flatten() {
            if !self.is_ours(named, local) {
                let named = named.get(..64).unwrap_or(named);
                let message =
                    format!("this host does not answer for {named:?}; add it to server.hosts if it should");
                return Err(Refusal::new(StatusCode::FORBIDDEN, message));
            }
        }
        if let Some(origin) = single(&request.headers, &header::ORIGIN)?
            && !self.is_same_origin(origin, host)
        {
            let message = "requests from web pages of another origin are refused";
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
        match &self.authorization {
            Some(token) if !matches!(request.uri.path(), "/healthz" | "/readyz") => {
                let given = single(&request.headers, &header::AUTHORIZATION)?.and_then(bearer);
                if given.is_some_and(|given| same(given.as_bytes(), token)) {
                    return Ok(());
                }
                let message = match given {
                    Some(_) => "the bearer token is wrong",
                    None => "a bearer token is required: authorization: Bearer <server.token>",
                };
                Err(Refusal::new(StatusCode::UNAUTHORIZED, message))
            }
            _ => Ok(()),
        }
    }

    /// A page that lets its own name resolve to this machine cannot make the browser send an address, or a name that
    /// nobody else can own.
    fn is_ours(&self, authority: &str, local: IpAddr) -> bool {
        let authority = authority.to_ascii_lowercase();
        let name = name_of(&authority);
        if name == "localhost" || self.names(&authority) {
            return true;
        }
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.is_ok_and(|address| {
            let address = address.to_canonical();
            address.is_loopback() || address == local.to_canonical()
        })
    }

    /// Whether `server.hosts` has it, with or without its port.
    fn names(&self, authority: &str) -> bool {
        let name = name_of(authority);
        self.hosts.iter().any(|host| host == authority || host == name)
    }

    fn is_same_origin(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let (authority, port) = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
            (Some(authority), _) => (authority, ":80"),
            (_, Some(authority)) => (authority, ":443"),
            _ => return false,
        };
        let host = host.to_ascii_lowercase();
        let plain = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_owned();
        plain(authority) == plain(&host) || self.names(authority)
    }
}

/// The one value of a header. Two of what is checked here may be read differently further on.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    let text = value.map(|value| value.to_str()).transpose();
    match (values.next(), text) {
        (None, Ok(text)) => Ok(text.map(str::trim)),
        _ => {
            let message = format!("the header {name} must stand once, in ASCII");
            Err(Refusal::new(StatusCode::BAD_REQUEST, message))
        }
    }
}

/// `authority` without its port and its last dot.
fn name_of(authority: &str) -> &str {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !inside_brackets(name) => {
            name
        }
        _ => authority,
    };
    name.trim_end_matches('.')
}

/// Whether the colon after `name` is one of an IPv6 address in brackets.
fn inside_brackets(name: &str) -> bool {
    name.starts_with('[') && !name.ends_with(']')
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Takes as long whichever byte differs.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differences = given.iter().zip(token).fold(0_u8, |differences, (a, b)| {
        // Opaque to the optimiser, which could otherwise stop at the first difference.
        std::hint::black_box(differences | (a ^ b))
    });
    given.len() == token.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn check(guard: &Guard, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri("/v1/records");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let local = "192.0.2.7".parse().unwrap();
        guard.check(&parts, local).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn hosts() {
        let guard = Guard::new(None, &["Press.example".to_owned(), "other.example:8443".to_owned()]);
        for (host, status) in [
            ("localhost", 200),
            ("LOCALHOST:4680", 200),
            ("localhost.:1", 200),
            ("127.0.0.1:4680", 200),
            ("127.9.9.9", 200),
            ("[::1]:4680", 200),
            ("[::1]", 200),
            ("[::ffff:127.0.0.1]", 200),
            ("192.0.2.7:4680", 200),
            ("press.example:99", 200),
            ("other.example:8443", 200),
            ("other.example", 403),
            ("192.0.2.8", 403),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("evil.example:localhost", 403),
            ("127.0.0.1.evil.example", 403),
            ("", 400),
        ] {
            assert_eq!(check(&guard, &[("host", host)]), status, "{host:?}");
        }
        assert_eq!(check(&guard, &[]), 400);
        assert_eq!(check(&guard, &[("host", "localhost"), ("host", "evil.example")]), 400);
        let (parts, ()) = Request::builder()
            .uri("http://evil.example/v1/records")
            .header("host", "localhost")
            .body(())
            .unwrap()
            .into_parts();
        let local = "127.0.0.1".parse().unwrap();
        assert_eq!(guard.check(&parts, local).unwrap_err().status, StatusCode::FORBIDDEN);
    }

    #[test]
    fn origins() {
        let guard = Guard::new(None, &["press.example".to_owned()]);
        for (host, origin, status) in [
            ("localhost:4680", "http://localhost:4680", 200),
            ("localhost", "http://localhost:80", 200),
            ("press.example", "https://press.example", 200),
            ("127.0.0.1:4680", "https://press.example", 200),
            ("localhost:4680", "http://localhost:3000", 403),
            ("localhost:4680", "http://evil.example", 403),
            ("localhost:4680", "null", 403),
            ("localhost:4680", "", 403),
            ("localhost:4680", "file://", 403),
        ] {
            assert_eq!(check(&guard, &[("host", host), ("origin", origin)]), status, "{host} {origin}");
        }
    }

    #[test]
    fn tokens() {
        let guard = Guard::new(Some("secret"), &[]);
        for (value, status) in [
            ("Bearer secret", 200),
            ("bearer  secret", 200),
            ("Bearer secre", 401),
            ("Bearer secrets", 401),
            ("Bearer ", 401),
            ("Basic secret", 401),
            ("secret", 401),
        ] {
            let headers = [("host", "localhost"), ("authorization", value)];
            assert_eq!(check(&guard, &headers), status, "{value:?}");
        }
        assert_eq!(check(&guard, &[("host", "localhost")]), 401);
    }
}
