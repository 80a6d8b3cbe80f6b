//! Requests of guests: what is granted arrives, and nothing else does.

use super::server::{Server, answer, chunks};
use super::{Subject, events};
use crate::publisher::PublishError;
use bytes::Bytes;
use std::time::Duration;

/// A guest that does `config`, with `grant` and `limits` in TOML.
async fn guest(config: &str, grant: &str, limits: &str) -> Subject {
    let section = format!("config = {{ {config} }}\ngrant = {{ {grant} }}\nlimits = {{ {limits} }}");
    Subject::hostile(&section).await.unwrap()
}

/// What a guest that tries one request logs, after `http-try: `.
async fn attempt(config: &str, grant: &str, limits: &str) -> (String, Subject) {
    let mut plugin = guest(&format!("do = 'http-try', {config}"), grant, limits).await;
    assert_eq!(plugin.publish().await, Ok(vec![]));
    let log = plugin.log();
    let told = log.iter().find_map(|line| line.split_once("http-try: ")).unwrap().1.to_owned();
    (told, plugin)
}

#[tokio::test]
async fn a_granted_request_arrives_whole_and_connections_are_kept() {
    let server = Server::start(|_| Some(answer(204, ""))).await;
    let address = format!("http://127.0.0.1:{}/ingest", server.port);
    let mut plugin = guest(
        &format!(
            "do = 'http-post', url = '{address}?a=1', header = 'content-type', value = 'application/x-ndjson'"
        ),
        &format!("http = ['POST {address}']"),
        "",
    )
    .await;
    // Larger than one write of the guest's.
    let batch = events(1_024);
    for _ in 0..5 {
        assert_eq!(plugin.publisher.publish_event_metrics(&batch).await, Ok(vec![]));
    }
    let expected = batch.encode("json-lines".parse().unwrap());
    assert!(expected.len() > 300_000);
    let seen = server.seen();
    assert_eq!(seen.len(), 5);
    for request in &seen {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/ingest?a=1"));
        assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(request.header("content-length"), Some(expected.len().to_string().as_str()));
        assert_eq!(request.header("host"), Some(format!("127.0.0.1:{}", server.port).as_str()));
        assert!(request.body == expected);
    }
    assert_eq!(server.connections(), 1);
    assert_eq!((plugin.count("http_requests"), plugin.count("http_denied")), (5, 0));
    assert_eq!((plugin.count("connections"), plugin.count("connections_peak")), (0, 1));
}

#[tokio::test]
async fn what_is_not_granted_is_denied_with_the_rule_that_would_allow_it() {
    let server = Server::start(|_| Some(answer(200, "reached"))).await;
    let port = server.port;
    let granted = format!("http = ['POST http://127.0.0.1:{port}/in/*', 'GET http://localhost:{port}/']");
    for (method, address, why) in [
        ("GET", format!("http://127.0.0.1:{port}/in/x"), None),
        ("POST", format!("http://127.0.0.1:{port}/other"), None),
        ("POST", format!("https://127.0.0.1:{port}/in/x"), None),
        ("POST", format!("http://127.0.0.2:{port}/in/x"), None),
        ("POST", format!("http://localhost:{port}/in/x"), None),
        ("POST", "http://127.0.0.1/in/x".to_owned(), None),
        ("POST", format!("http://127.0.0.1:{port}/in/../out"), Some("a dot segment")),
        ("POST", format!("http://127.0.0.1:{port}/in/%2e%2e/out"), Some("hides `.`")),
        ("POST", format!("http://127.0.0.1:{port}/in//x"), Some("an empty segment")),
        ("POST", format!("http://127.0.0.1:{port}/in%2fx"), Some("hides `/`")),
        ("POST", format!("http://127.1:{port}/in/x"), Some("better written 127.0.0.1")),
        ("POST", format!("http://user:pass@127.0.0.1:{port}/in/x"), Some("holds a user")),
    ] {
        let (told, plugin) =
            attempt(&format!("method = '{method}', url = '{address}?q=quiet'"), &granted, "").await;
        assert!(told.contains("is not granted (ErrorCode::HttpRequestDenied)"), "{address}: {told}");
        let last = plugin.status()["last_denied"].as_str().unwrap().to_owned();
        match why {
            None => {
                assert_eq!(last, format!("denied {method} {address}: add http = [\"{method} {address}\"]"))
            }
            Some(why) => assert!(last.starts_with("denied POST http://") && last.contains(why), "{last}"),
        }
        assert!(!last.contains("quiet") && !last.contains("pass@"), "{last}");
        plugin.says(&format!("warn: {last}"));
        assert_eq!((plugin.count("http_denied"), plugin.count("traps")), (1, 0));
    }
    assert!(server.seen().is_empty());
    let (told, _) = attempt(&format!("url = 'http://127.0.0.1:{port}/in/a'"), &granted, "").await;
    assert_eq!(told, "got 200 \"reached\", 7 bytes");
    let (told, _) =
        attempt(&format!("method = 'GET', bytes = 0, url = 'http://localhost:{port}'"), &granted, "").await;
    assert_eq!(told, "got 200 \"reached\", 7 bytes");
}

#[tokio::test]
async fn a_denied_request_with_a_large_body_is_a_denial_and_no_broken_pipe() {
    let (told, _) = attempt("bytes = 4000000, url = 'http://127.0.0.1:9/'", "", "").await;
    assert!(told.contains("is not granted (ErrorCode::HttpRequestDenied)"), "{told}");
    let mut plugin = guest("do = 'http-post', url = 'http://127.0.0.1:9/'", "", "").await;
    let PublishError::Hold { reason } = plugin.publish().await.unwrap_err() else { panic!() };
    assert!(reason.contains("the host's log says what to add"), "{reason}");
}

#[tokio::test]
async fn a_secret_in_a_denied_address_is_not_shown() {
    let section = "config = { do = 'http-try', url = 'https://a.example/hooks/hunter2-hunter2' }";
    let mut context = crate::publisher::Context::detached("subject", "");
    context.secrets = crate::config::Secrets::default().with(["hunter2-hunter2".to_owned()]);
    let config: super::WasmConfig = toml::from_str(section).unwrap();
    let build = super::HOST.0.factory(config, super::guests::plugin("hostile"));
    let mut plugin = Subject { publisher: build(context).await.unwrap() };
    assert_eq!(plugin.publish().await, Ok(vec![]));
    let status = plugin.status();
    let said = "denied POST https://a.example/hooks/[redacted]: add http = [\"POST https://a.example/hooks/[redacted]\"]";
    assert_eq!(status["last_denied"], said);
    assert!(!status.to_string().contains("hunter2"), "{status}");
}

#[tokio::test]
async fn certificates_that_cannot_be_read_refuse_the_plugin() {
    let dir = tempfile::tempdir().unwrap();
    let section = "grant = { http = ['POST https://a.example/'], ca_file = 'ca.pem' }";
    let refused = Subject::build("hostile", section, dir.path()).await.err().unwrap().to_string();
    let file = dir.path().join("ca.pem");
    assert!(
        refused.contains(&format!("the certificates {} of grant.ca_file cannot be used", file.display())),
        "{refused}"
    );
    std::fs::write(&file, "no certificate").unwrap();
    let refused = Subject::build("hostile", section, dir.path()).await.err().unwrap().to_string();
    assert!(refused.contains("it holds none in PEM"), "{refused}");
}

#[tokio::test]
async fn a_redirect_is_handed_to_the_guest_and_not_followed() {
    let server = Server::start(|_| {
        let mut answer = answer(302, "");
        answer.headers_mut().insert("location", "http://127.0.0.1:1/private".parse().unwrap());
        Some(answer)
    })
    .await;
    let address = format!("http://127.0.0.1:{}/", server.port);
    let (told, plugin) =
        attempt(&format!("url = '{address}'"), &format!("http = ['* {address}*']"), "").await;
    assert_eq!(told, "got 302 \"\", 0 bytes");
    assert_eq!(server.seen().len(), 1);
    assert_eq!(plugin.count("http_requests"), 1);
}

#[tokio::test]
async fn bodies_are_bounded_both_ways() {
    let server = Server::start(|seen| {
        Some(match seen.path.as_str() {
            "/endless" => chunks(std::iter::repeat(Bytes::from_static(&[b'y'; 8192]))),
            _ => answer(200, "taken"),
        })
    })
    .await;
    let base = format!("http://127.0.0.1:{}", server.port);
    let grant = format!("http = ['* {base}/*']");
    let (told, plugin) = attempt(&format!("url = '{base}/endless'"), &grant, "body = '1MiB'").await;
    assert!(told.contains("HTTP response body size exceeds limit: 1048576 bytes"), "{told}");
    assert_eq!(plugin.count("connections"), 0);
    let (told, _) = attempt(&format!("bytes = 2000000, url = '{base}/in'"), &grant, "body = '1MiB'").await;
    assert!(told.contains("HttpRequestBodySize(Some(1048576))"), "{told}");
    let (told, _) = attempt(&format!("bytes = 2000000, url = '{base}/in'"), &grant, "body = '2MB'").await;
    assert_eq!(told, "got 200 \"taken\", 5 bytes");
}

#[tokio::test]
async fn a_guest_waits_no_longer_than_it_wants_nor_than_its_call_may_take() {
    let server = Server::start(|_| None).await;
    let address = format!("http://127.0.0.1:{}/", server.port);
    let grant = format!("http = ['POST {address}']");
    let (told, plugin) = attempt(&format!("timeout_ms = 50, url = '{address}'"), &grant, "").await;
    assert!(told.contains("ConnectionReadTimeout"), "{told}");
    assert_eq!(plugin.count("http_failed"), 1);
    let mut plugin = guest(
        &format!("do = 'http-post', url = '{address}'"),
        &grant,
        "call_timeout = '300ms', cpu_per_call = '5m'",
    )
    .await;
    let error = plugin.publish().await.unwrap_err().to_string();
    assert!(error.contains("ConnectionReadTimeout") || error.contains("call timeout of 300ms"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_retry() {
    let server = Server::start(|_| None).await;
    let address = format!("http://127.0.0.1:{}/", server.port);
    drop(server);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let grant = format!("http = ['POST {address}']");
    let mut plugin = guest(&format!("do = 'http-post', url = '{address}'"), &grant, "").await;
    let error = plugin.publish().await.unwrap_err();
    assert_eq!(error, PublishError::retry(format!("{address}: ErrorCode::ConnectionRefused")));
    assert_eq!((plugin.count("http_failed"), plugin.count("http_denied")), (1, 0));
}
