use super::*;
use hyper::Request;

fn guard(token: Option<&str>, hosts: &[&str], cors_origins: &[&str]) -> Guard {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let settings = GuardSettings {
        prefix: "server.".to_owned(),
        token: token.map(str::to_owned),
        hosts: owned(hosts),
        cors_origins: owned(cors_origins),
    };
    Guard::new(settings, RefusedCounts::default())
}

fn check(guard: &Guard, headers: &[(&str, &str)]) -> u16 {
    let mut request = Request::builder().uri("/v1/records");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let (remote, local) = ("192.0.2.1".parse().unwrap(), "192.0.2.7".parse().unwrap());
    guard
        .check(&parts, Asked::default(), remote, local)
        .map_or_else(|refused| refused.status.as_u16(), |_| 200)
}

#[test]
fn hosts() {
    let guard = guard(None, &["Press.example", "other.example:8443"], &[]);
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
    let refused = guard.check(&parts, Asked::default(), local, local).unwrap_err();
    assert_eq!((refused.status, refused.why), (StatusCode::FORBIDDEN, Why::Host));
}

#[test]
fn origins() {
    let guard = guard(None, &["press.example"], &[]);
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
    let guard = guard(Some("secret"), &[], &[]);
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

#[test]
fn refusals_are_counted_by_reason_and_name_the_key_to_set() {
    let guard = guard(Some("secret"), &[], &[]);
    for _ in 0..3 {
        check(&guard, &[("host", "pressroom:4680"), ("authorization", "Bearer secret")]);
    }
    check(&guard, &[("host", "localhost"), ("origin", "http://evil.example")]);
    check(&guard, &[("host", "localhost")]);
    check(&guard, &[]);
    let counts = Why::ALL.map(|why| guard.counts.of(why));
    assert_eq!(counts, [1, 3, 1, 1]);
    let (parts, ()) = Request::builder().header("host", "pressroom:4680").body(()).unwrap().into_parts();
    let local = "127.0.0.1".parse().unwrap();
    let refused = guard.check(&parts, Asked::default(), local, local).unwrap_err();
    assert!(refused.message.contains("\"pressroom:4680\"; add it to server.hosts"), "{}", refused.message);
}

#[test]
fn a_page_of_a_listed_origin_may_send_records_and_ask_nothing_else() {
    let guard = guard(Some("secret"), &[], &["https://app.example"]);
    let ask = |origin: &str, method: &str, cross_origin: bool, token: bool| {
        let mut request =
            Request::builder().method(method).header("host", "localhost").header("origin", origin);
        if method == "OPTIONS" {
            request = request.header("access-control-request-method", "POST");
            request = request.header("access-control-request-headers", "content-type,x-tenant");
        }
        if token {
            request = request.header("authorization", "Bearer secret");
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let local = "127.0.0.1".parse().unwrap();
        guard.check(&parts, Asked { open: false, cross_origin }, local, local)
    };
    let preflight = ask("https://app.example", "OPTIONS", true, false).unwrap();
    let headers = preflight.preflight().unwrap();
    assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "content-type,x-tenant");
    assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "POST");
    let sent = ask("https://app.example", "POST", true, true).unwrap();
    assert!(sent.origin().is_some() && sent.preflight().is_none());
    assert_eq!(ask("https://app.example", "POST", true, false).unwrap_err().status, StatusCode::UNAUTHORIZED);
    for (origin, method, cross_origin) in [
        ("https://app.example", "GET", false),
        ("https://app.example", "OPTIONS", false),
        ("http://app.example", "POST", true),
        ("https://app.example:8443", "POST", true),
        ("https://app.example.evil.example", "OPTIONS", true),
        ("null", "POST", true),
    ] {
        let refused = ask(origin, method, cross_origin, true).unwrap_err();
        assert_eq!((refused.status, refused.why), (StatusCode::FORBIDDEN, Why::Origin), "{method} {origin}");
    }
}
