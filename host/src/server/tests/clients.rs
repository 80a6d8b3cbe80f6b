//! What clients expect of HTTP and of OTLP.

use super::*;
use crate::ingest::otlp::{self, Encoding};

fn open_token() -> ServerSettings {
    ServerSettings { token: Some(TOKEN.to_owned()), max_body: 1_000, ..loopback() }
}

#[tokio::test]
async fn every_refusal_of_otlp_is_a_status_in_the_encoding_of_the_request() {
    let host = start(open_token()).await;
    let auth = format!("Authorization: Bearer {TOKEN}");
    let large = vec![b' '; 1_001];
    for (encoding, media_type) in
        [(Encoding::Json, "application/json"), (Encoding::Protobuf, "application/x-protobuf")]
    {
        let sent = format!("Content-Type: {media_type}");
        let post = |path: &str, headers: &str| {
            format!(
                "POST {path} HTTP/1.1\nHost: {{host}}\nConnection: close\nContent-Length: 1\n{sent}\n{headers}\n\n"
            )
        };
        let many = format!("{auth}\n{}", "X-Many: x\n".repeat(70).trim_end());
        for (head, body, status, code) in [
            (post("/v1/traces", &auth), &b"\xff"[..], 400, 3),
            (post("/v1/traces", "X-None: 1"), b"{", 401, 16),
            (post("/v1/logs", "X-None: 1"), b"{", 401, 16),
            (post("/v1/traces", &format!("{auth}\nOrigin: http://evil.example")), b"{", 403, 7),
            (post("/v1/traces/more", &auth), b"{", 404, 5),
            (post("/v1/metrics", &format!("{auth}\nUser-Agent: {media_type}")), b"{", 404, 5),
            (post("/v1/traces", &auth).replace("POST", "PUT"), b"{", 405, 12),
            (post("/v1/traces", &auth).replace("Length: 1", "Length: 1001"), &large[..], 413, 8),
            (post("/v1/traces", &format!("{auth}\nContent-Encoding: br")), b"{", 415, 12),
            (post("/v1/traces", &many), b"{", 431, 3),
            (post("//v1/traces/", &many), b"{", 431, 3),
            (
                post("/v1/traces", &auth).replace("Content-Length: 1", "Transfer-Encoding: gzip"),
                b"{",
                501,
                12,
            ),
            (
                post("/v1/traces", &auth).replace("Content-Length: 1", "Transfer-Encoding: gzip, chunked"),
                b"{",
                501,
                12,
            ),
        ] {
            let reply = host.raw(&head, body).await;
            assert_eq!(reply.status, status, "{head}: {}", reply.text());
            assert!(
                reply.head.contains(&format!("content-type: {media_type}\r\n")),
                "{head}: {}",
                reply.head
            );
            let message = match encoding {
                Encoding::Json => {
                    assert_eq!(reply.json()["code"], code, "{head}: {}", reply.text());
                    reply.json()["message"].as_str().unwrap().to_owned()
                }
                Encoding::Protobuf => {
                    let message =
                        String::from_utf8_lossy(&reply.body[4.min(reply.body.len())..]).into_owned();
                    assert_eq!(&reply.body[..2], [8, code as u8], "{head}: {}", reply.text());
                    message
                }
            };
            assert!(!message.is_empty(), "{head}");
        }
    }
    // A media type that is not known has no encoding: its client reads JSON, if anything.
    let reply = host.post("/v1/traces", &format!("{auth}\nContent-Type: text/plain"), b"x").await;
    assert_eq!((reply.status, reply.json()["code"].clone()), (415, 12.into()));
    assert!(reply.head.contains("connection: close"), "its body was not read: {}", reply.head);
    host.end().await;
}

#[tokio::test]
async fn an_answer_before_the_body_is_read_says_that_the_connection_ends_and_arrives() {
    let host = start(loopback()).await;
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    let head = "POST /v1/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 3000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // The client sends everything before it reads.
    stream.write_all(&vec![b' '; 3_000_000]).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 415") && reply.contains("connection: close"), "{reply}");
    host.end().await;
}

#[tokio::test]
async fn slashes_that_say_nothing_change_nothing() {
    let host = start(loopback()).await;
    for path in ["//v1/traces", "/v1/traces/", "//v1//traces//", "/v1/traces/?x=1"] {
        assert_eq!(host.post(path, JSON, b"{}").await.status, 200, "{path}");
    }
    assert_eq!(host.post("/v1/records/", JSON, b"[]").await.status, 200);
    for path in ["//healthz", "/v1/report/slow-events/?limit=1", "//"] {
        assert_eq!(host.get(path).await.status, 200, "{path}");
    }
    host.end().await;
}

#[tokio::test]
async fn answers_are_compressed_where_the_client_asks() {
    let host_metrics = Arc::new(|| "up 1\n".repeat(1_000));
    let host = start_with(loopback(), Services { host_metrics, ..services() }).await;
    let body: String = (0..50).map(|number| event(&format!("event-{number}")) + "\n").collect();
    assert_eq!(host.post("/v1/records", NDJSON, body.as_bytes()).await.status, 200);
    for path in ["/metrics", "/v1/report/metrics", "/v1/report/failed-events?limit=2000"] {
        let plain = host.get(path).await;
        assert!(!plain.head.contains("content-encoding"), "{}", plain.head);
        let head =
            format!("GET {path} HTTP/1.1\nHost: {{host}}\nConnection: close\nAccept-Encoding: gzip\n\n");
        let reply = host.raw(&head, b"").await;
        assert!(reply.head.contains("content-encoding: gzip"), "{path}: {}", reply.head);
        assert!(reply.head.contains("vary: accept-encoding"), "{path}: {}", reply.head);
        let mut read = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&reply.body[..]), &mut read).unwrap();
        assert_eq!(read.len(), plain.body.len(), "{path}");
    }
    host.end().await;
}

#[tokio::test]
async fn pages_of_a_listed_origin_send_spans_and_no_others_do() {
    let cors_origins = vec!["https://app.example".to_owned()];
    let host = start(ServerSettings { cors_origins, ..open_token() }).await;
    let preflight = |origin: &str, path: &str| {
        format!(
            "OPTIONS {path} HTTP/1.1\nHost: {{host}}\nConnection: close\nOrigin: {origin}\n\
             Access-Control-Request-Method: POST\nAccess-Control-Request-Headers: content-type,authorization\n\n"
        )
    };
    let reply = host.raw(&preflight("https://app.example", "/v1/traces"), b"").await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    for header in [
        "access-control-allow-origin: https://app.example",
        "access-control-allow-methods: post",
        "access-control-allow-headers: content-type,authorization",
        "access-control-allow-credentials: true",
        "vary: origin",
    ] {
        assert!(reply.head.contains(header), "{header}: {}", reply.head);
    }
    let sent = format!("{JSON}\nOrigin: https://app.example\nAuthorization: Bearer {TOKEN}");
    let reply = host.post("/v1/traces", &sent, b"{}").await;
    assert_eq!(reply.status, 200);
    assert!(reply.head.contains("access-control-allow-origin: https://app.example"), "{}", reply.head);
    // The page may read why it was refused.
    let reply = host.post("/v1/traces", &format!("{JSON}\nOrigin: https://app.example"), b"{}").await;
    assert_eq!(reply.status, 401);
    assert!(reply.head.contains("access-control-allow-origin"), "{}", reply.head);
    for (origin, path) in [
        ("https://evil.example", "/v1/traces"),
        ("https://app.example", "/v1/plugins/mine/reset"),
        ("https://app.example", "/metrics"),
    ] {
        let reply = host.raw(&preflight(origin, path), b"").await;
        assert_eq!(reply.status, 403, "{origin} {path}");
        assert!(!reply.head.contains("access-control"), "{}", reply.head);
    }
    host.end().await;

    let host = start(loopback()).await;
    let reply = host.raw(&preflight("https://app.example", "/v1/traces"), b"").await;
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("server.cors_origins"), "{}", reply.text());
    assert!(!reply.head.contains("access-control"), "{}", reply.head);
    host.end().await;
}

#[tokio::test]
async fn a_client_of_a_signal_that_is_not_taken_is_told_once_by_an_error() {
    let host = start(loopback()).await;
    for (path, key) in
        [("/v1/logs", "OTEL_LOGS_EXPORTER=none"), ("/v1/metrics", "OTEL_METRICS_EXPORTER=none")]
    {
        for agent in ["one", "two"] {
            let headers = format!("{JSON}\nUser-Agent: {agent}");
            let first = host.post(path, &headers, b"{}").await;
            assert_eq!(first.status, 404);
            // What SDKs of Python and JavaScript show.
            let reason = first.head.lines().next().unwrap();
            assert!(reason.contains(&key.to_ascii_lowercase()), "{reason}");
            assert!(first.json()["message"].as_str().unwrap().contains(key), "{}", first.text());
            for _ in 0..2 {
                let next = host.post(path, &headers, b"{}").await;
                assert_eq!(next.status, 200);
                let message = next.json()["partialSuccess"]["errorMessage"].clone();
                assert!(message.as_str().unwrap().contains(key), "{}", next.text());
            }
        }
        let reply = host.post(path, PROTOBUF, b"").await;
        assert_eq!((reply.status, reply.body[..2].to_vec()), (404, vec![8, 5]));
        let reply = host.post(path, PROTOBUF, b"").await;
        assert_eq!(
            (reply.status, reply.body.clone()),
            (200, otlp::untaken(Encoding::Protobuf, &message_of(&reply)))
        );
    }
    host.end().await;
}

/// The message within an answer's partial success.
fn message_of(reply: &Reply) -> String {
    let text = reply.text();
    text[text.find("pressroom").unwrap()..].to_owned()
}

#[tokio::test]
async fn otlp_has_an_address_of_its_own_where_the_port_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let off = ServerSettings { otlp_listen: OtlpListen::IfFree(address), ..loopback() };
    let bound = Server::bind(off).await.unwrap();
    assert_eq!(bound.otlp_addr(), None, "the server runs without it");
    let at = ServerSettings { otlp_listen: OtlpListen::At(address), ..loopback() };
    let error = Server::bind(at).await.unwrap_err().to_string();
    assert!(error.contains("server.otlp_listen"), "{error}");
    let open = OtlpListen::At(SocketAddr::from(([0, 0, 0, 0], 0)));
    let error =
        Server::bind(ServerSettings { otlp_listen: open, ..loopback() }).await.unwrap_err().to_string();
    assert!(error.contains("server.otlp_listen: 0.0.0.0:0 can be reached from other machines"), "{error}");

    let free = OtlpListen::At(SocketAddr::from(([127, 0, 0, 1], 0)));
    let bound = Server::bind(ServerSettings { otlp_listen: free, ..open_token() }).await.unwrap();
    let (address, counts, services) = (bound.otlp_addr().unwrap(), bound.counts(), services());
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(bound.serve(services.clone(), async {
        let _ = stopped.await;
    }));
    let host = Host { address, services, counts, stop, served };
    let auth = format!("{JSON}\nAuthorization: Bearer {TOKEN}");
    assert_eq!(host.post("/v1/traces", &auth, b"{}").await.status, 200);
    assert_eq!(host.post("/v1/traces", JSON, b"{}").await.status, 401);
    for path in ["/v1/records", "/v1/report/metrics", "/metrics", "/v1/plugins/mine/reset"] {
        assert_eq!(host.post(path, &auth, b"{}").await.status, 404, "{path}");
    }
    host.end().await;
}
