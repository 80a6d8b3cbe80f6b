//! Real requests, byte by byte, to a real server.

mod abuse;
mod clients;
mod messages;

use super::*;
use crate::collector::CollectorSettings;
use crate::journal::{Journal, JournalSettings, Overflow, Start};
use crate::report::ReportSettings;
use std::io::Write;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

mod altered;

const TOKEN: &str = "s3cret-token";

struct Host {
    address: SocketAddr,
    services: Services,
    counts: IngestCounts,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn services() -> Services {
    let reports = Reports::new(ReportSettings::default());
    let observer = reports.clone();
    let journal = Journal::new(JournalSettings::default(), Box::new(move |batch| observer.observe(batch)));
    let collector = Collector::new(journal, CollectorSettings::default());
    Services {
        recorder: Recorder::new(collector.clone()),
        collector,
        reports,
        publishers: Arc::new(|| serde_json::json!({"publishers": ["archive"]})),
        reset_plugin: Arc::new(|label| {
            Box::pin(async move { if label == "mine" { Ok(()) } else { Err(ResetError::Unknown(label)) } })
        }),
        plugins: Arc::new(|| serde_json::json!({"plugins": []})),
        host_metrics: Arc::new(|| "up 1\n".to_owned()),
        unready: Arc::new(Vec::new),
    }
}

fn loopback() -> ServerSettings {
    ServerSettings { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServerSettings::default() }
}

async fn start(settings: ServerSettings) -> Host {
    start_with(settings, services()).await
}

async fn start_with(settings: ServerSettings, services: Services) -> Host {
    let bound = Server::bind(settings).await.unwrap();
    let address = bound.local_addr();
    let counts = bound.counts();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(bound.serve(services.clone(), async {
        let _ = stopped.await;
    }));
    Host { address, services, counts, stop, served }
}

impl Host {
    /// Sends `head` (with `{host}` replaced) and `body`, and reads to the end of the connection.
    async fn raw(&self, head: &str, body: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = head.replace("{host}", &self.address.to_string()).replace('\n', "\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that has refused may have stopped reading.
        let _ = stream.write_all(body).await;
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        let text = String::from_utf8_lossy(&reply).into_owned();
        let at = text.find("\r\n\r\n").unwrap_or_else(|| panic!("no reply: {text:?}")) + 4;
        let status = text.get(9..12).unwrap().parse().unwrap();
        Reply { status, head: text[..at].to_ascii_lowercase(), body: reply[at..].to_vec() }
    }

    async fn get(&self, path: &str) -> Reply {
        self.raw(&format!("GET {path} HTTP/1.1\nHost: {{host}}\nConnection: close\n\n"), b"").await
    }

    async fn post(&self, path: &str, headers: &str, body: &[u8]) -> Reply {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\nHost: {{host}}\nConnection: close\nContent-Length: {length}\n{headers}\n\n"
        );
        self.raw(&head, body).await
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap();
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const NDJSON: &str = "Content-Type: application/x-ndjson";
const JSON: &str = "Content-Type: application/json; charset=utf-8";
const PROTOBUF: &str = "Content-Type: application/x-protobuf";

fn event(name: &str) -> String {
    format!(
        r#"{{"event_name":"{name}","task_id":"t","start_time":"2026-11-23T11:00:00Z","end_time":"2026-11-23T11:00:03Z","error":"disk full"}}"#
    )
}

#[tokio::test]
async fn records_come_in_and_reports_come_out() {
    let host = start(loopback()).await;
    let network =
        r#"{"operation":"GET","host":"h","task_id":"t","start_time":1,"end_time":9000000000,"error":"x"}"#;
    let body = format!("{}\n{{\"oops\n{network}\n", event("resize"));
    let reply = host.post("/v1/records", NDJSON, body.as_bytes()).await;
    assert_eq!(reply.status, 200);
    let answer = reply.json();
    assert_eq!((&answer["accepted"], &answer["refused"]), (&2.into(), &1.into()), "{answer}");
    assert_eq!((&answer["errors"][0]["row"], &answer["errors"][0]["line"]), (&1.into(), &2.into()));

    let zipped = gzip(format!("[{}]", event("hash")).as_bytes());
    let reply = host.post("/v1/records", &format!("{JSON}\nContent-Encoding: gzip"), &zipped).await;
    assert_eq!((reply.status, reply.json()["accepted"].clone()), (200, 1.into()));

    let failed = host.get("/v1/report/failed-events").await;
    assert_eq!(failed.status, 200);
    assert_eq!(failed.json()["failed_since_start"], 2, "{}", failed.text());
    for (path, found) in [
        ("/v1/report/slow-events?threshold=2s", "\"resize\""),
        ("/v1/report/slow-events?threshold=4s", "\"total\":0"),
        ("/v1/report/slow-events?threshold=2.5&limit=1", "\"shown\":1"),
        ("/v1/report/slow-network-operations?threshold=500ms", "\"GET\""),
        ("/v1/report/failed-network-operations", "\"GET\""),
        ("/v1/report/retry-stats", "events_with_retries"),
        ("/v1/report/metrics", "\"hash\""),
        ("/v1/report/publishers", "archive"),
        ("/v1/report/plugins", "plugins"),
        ("/metrics", "up 1"),
        ("/healthz", "ok"),
        ("/readyz", "ready"),
        ("/", "POST /v1/traces"),
    ] {
        let reply = host.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert!(reply.text().contains(found), "{path}: {}", reply.text());
        assert!(reply.head.contains("x-content-type-options: nosniff"), "{path}: {}", reply.head);
    }
    for (path, said) in [
        ("/v1/report/slow-events?threshold=soon", "is not a duration; write 2s or 500ms"),
        ("/v1/report/slow-events?treshold=2s", "treshold"),
        ("/v1/report/metrics?limit=100001", "limit is at most 100000"),
    ] {
        let reply = host.get(path).await;
        assert_eq!(reply.status, 400, "{path}");
        assert!(reply.text().contains(said), "{path}: {}", reply.text());
    }
    assert_eq!(host.get("/v1/nothing").await.status, 404);
    assert_eq!(host.get("/v1/records").await.status, 405);
    assert_eq!(host.get("/v1/plugins/mine/reset").await.status, 405, "a look changes nothing");
    let reset = host.post("/v1/plugins/mine/reset", "", b"").await;
    assert_eq!((reset.status, reset.json()), (200, serde_json::json!({"plugin": "mine", "reset": true})));
    let refused = host.post("/v1/plugins/yours/reset", "", b"").await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("no publisher runs under the label \\\"yours\\\""), "{}", refused.text());
    let stranger = host.post("/v1/plugins/mine/reset", "Origin: http://elsewhere.example", b"").await;
    assert_eq!(stranger.status, 403);
    host.end().await;
}

#[tokio::test]
async fn messages_reach_the_recorder_and_an_end_without_a_start_is_told() {
    let host = start(loopback()).await;
    let body = r#"{"type":"end","event_name":"e","task_id":"other"}
{"type":"start","event_name":"e","task_id":"t"}
{"type":"retry","event_name":"e","task_id":"t"}
{"type":"end","event_name":"e","task_id":"t","error":"bad"}"#;
    let answer = host.post("/v1/records", NDJSON, body.as_bytes()).await.json();
    assert_eq!((&answer["accepted"], &answer["refused"]), (&3.into(), &1.into()), "{answer}");
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("is not open"), "{answer}");
    let failed = host.get("/v1/report/failed-events").await.json();
    let event = &failed["events"]["rows"][0];
    assert_eq!((&event["error"], &event["retry_count"]), (&"bad".into(), &1.into()), "{failed}");
    host.end().await;
}

#[tokio::test]
async fn browsers_and_strangers_are_refused() {
    let host = start(ServerSettings { token: Some(TOKEN.into()), ..loopback() }).await;
    let auth = format!("Authorization: Bearer {TOKEN}");
    for (head, status) in [
        ("GET / HTTP/1.1\nHost: {host}\nAuthorization: Bearer s3cret-token", 200),
        ("GET /healthz HTTP/1.1\nHost: {host}", 200),
        ("GET /readyz HTTP/1.1\nHost: localhost", 200),
        ("GET / HTTP/1.1\nHost: {host}", 401),
        ("GET /metrics HTTP/1.1\nHost: {host}\nAuthorization: Bearer s3cret-tokeN", 401),
        ("GET / HTTP/1.1\nHost: evil.example\nAuthorization: Bearer s3cret-token", 403),
        ("GET /healthz HTTP/1.1\nHost: evil.example", 403),
        ("GET / HTTP/1.1\nAuthorization: Bearer s3cret-token", 400),
        (
            "GET / HTTP/1.1\nHost: {host}\nOrigin: http://evil.example\nAuthorization: Bearer s3cret-token",
            403,
        ),
        ("OPTIONS /v1/records HTTP/1.1\nHost: {host}\nOrigin: http://evil.example", 403),
        ("GET / HTTP/1.1\nHost: {host}\nOrigin: http://{host}\nAuthorization: Bearer s3cret-token", 200),
    ] {
        let reply = host.raw(&format!("{head}\nConnection: close\n\n"), b"").await;
        assert_eq!(reply.status, status, "{head}: {}", reply.text());
        assert_eq!(reply.head.contains("www-authenticate: bearer"), status == 401, "{}", reply.head);
    }
    for content_type in ["", "Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded"] {
        for path in ["/v1/records", "/v1/traces"] {
            let reply = host.post(path, format!("{auth}\n{content_type}").trim_end(), b"[]").await;
            assert_eq!(reply.status, 415, "{content_type}");
        }
    }
    let reply = host.post("/v1/records", &format!("{auth}\n{JSON}\nContent-Encoding: br"), b"[]").await;
    assert_eq!(reply.status, 415);
    assert!(reply.text().contains("send one of gzip, deflate, zstd, or none"), "{}", reply.text());
    assert!(reply.head.contains("accept-encoding: gzip, deflate, zstd"), "{}", reply.head);
    host.end().await;

    let open = ServerSettings { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..ServerSettings::default() };
    let error = Server::bind(open.clone()).await.unwrap_err().to_string();
    assert!(error.contains("set server.token, or server.allow_without_token = true"), "{error}");
    assert!(Server::bind(ServerSettings { allow_without_token: true, ..open }).await.is_ok());
    for short in ["", "x"] {
        let short = ServerSettings { token: Some(short.into()), ..loopback() };
        assert!(matches!(Server::bind(short).await, Err(BindError::Unguarded { key: "token", .. })));
    }
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 0));
    assert!(Server::bind(ServerSettings { listen: mapped, ..loopback() }).await.is_ok());
    let settings = ServerSettings { token: Some(TOKEN.into()), ..loopback() };
    assert!(!format!("{settings:?}").contains(TOKEN));
}

#[tokio::test]
async fn what_is_too_much_is_refused_and_says_so() {
    let settings = ServerSettings { max_body: 20_000, max_decompressed: 100_000, ..loopback() };
    let host = start(settings).await;
    let bomb = gzip(&vec![b' '; 10_000_000]);
    assert!(bomb.len() < 20_000);
    for (headers, body, status, said) in [
        (
            format!("{JSON}\nContent-Encoding: gzip"),
            bomb,
            413,
            "larger than 100000 bytes when it is decompressed",
        ),
        (JSON.to_owned(), vec![b' '; 20_001], 413, "larger than 20000 bytes"),
        (format!("{JSON}\nContent-Encoding: gzip"), b"not gzip".to_vec(), 400, "the body is not gzip"),
        (format!("{JSON}\nContent-Encoding: gzip"), gzip(b"[]")[..15].to_vec(), 400, "the body is not gzip"),
        (JSON.to_owned(), b"[\n{]".to_vec(), 400, "line 2, column 2"),
        (JSON.to_owned(), b"".to_vec(), 400, "the body is empty"),
        (
            JSON.to_owned(),
            [&b"["[..], &[b'['; 9000], &[b']'; 9000], b"]"].concat(),
            400,
            "nested deeper than 64",
        ),
        (NDJSON.to_owned(), b"{}".to_vec(), 400, "is missing"),
    ] {
        let reply = host.post("/v1/records", &headers, &body).await;
        assert_eq!(reply.status, status, "{said}: {}", reply.text());
        assert!(reply.text().contains(said), "{said}: {}", reply.text());
    }
    // The same without an announced length.
    let chunk = [b"5000\r\n", &[b' '; 0x5000][..], b"\r\n"].concat();
    let head = format!(
        "POST /v1/records HTTP/1.1\nHost: {{host}}\n{JSON}\nTransfer-Encoding: chunked\nConnection: close\n\n"
    );
    assert_eq!(host.raw(&head, &chunk).await.status, 413);
    let large = format!("GET / HTTP/1.1\nHost: {{host}}\nConnection: close\nX: {}\n\n", "x".repeat(200_000));
    let reply = host.raw(&large, b"").await;
    assert_eq!(reply.status, 431);
    assert_eq!(reply.json()["error"], "the head is larger than 32 KiB, or has more than 64 headers");
    host.end().await;
}

#[tokio::test]
async fn spans_come_in_in_both_encodings_and_answers_are_alike() {
    let host = start(loopback()).await;
    let span = |id: char, more: &str| {
        format!(
            r#"{{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"010203040506070{id}","name":"n","startTimeUnixNano":"5"{more}}}"#
        )
    };
    let good =
        r#","endTimeUnixNano":6,"attributes":[{"key":"big","value":{"intValue":18446744073709552000}}]"#;
    let body = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{},{}]}}]}}]}}"#,
        span('1', good),
        span('2', "")
    );
    let reply =
        host.post("/v1/traces", &format!("{JSON}\nContent-Encoding: gzip"), &gzip(body.as_bytes())).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["partialSuccess"]["rejectedSpans"], "1", "{}", reply.text());
    let metrics = host.get("/v1/report/metrics").await;
    assert!(metrics.text().contains("18446744073709552000"), "{}", metrics.text());

    let reply = host.post("/v1/traces", PROTOBUF, b"").await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert!(reply.head.contains("content-type: application/x-protobuf"));
    let reply = host.post("/v1/traces", PROTOBUF, b"\xff\xff garbage").await;
    assert_eq!(reply.status, 400);
    assert!(reply.head.contains("content-type: application/x-protobuf"));
    assert_eq!(reply.body[..2], [8, 3], "INVALID_ARGUMENT");
    assert!(reply.text().contains("not an OTLP ExportTraceServiceRequest"), "{}", reply.text());
    let reply = host.post("/v1/traces", JSON, b"{\"resourceSpans\":[{]}").await;
    assert_eq!((reply.status, reply.json()["code"].clone()), (400, 3.into()));
    let counted = host.counts.expose(crate::report::Exposition::new()).finish();
    for line in [
        "pressroom_ingest_records_total{endpoint=\"traces\",outcome=\"accepted\"} 1",
        "pressroom_ingest_records_total{endpoint=\"traces\",outcome=\"refused\"} 1",
        "pressroom_ingest_requests_refused_total{endpoint=\"traces\"} 2",
    ] {
        assert!(counted.contains(line), "{line} in {counted}");
    }
    host.end().await;
}

#[tokio::test]
async fn a_journal_that_takes_nothing_is_told_with_when_to_come_back() {
    let settings = JournalSettings { max_records: 1, ..JournalSettings::default() };
    let journal = Journal::new(settings, Box::new(|_| {}));
    let cursor = journal.cursor("archive".into(), Start::Oldest, Overflow::Block);
    let collector = Collector::new(journal.clone(), CollectorSettings::default());
    let unready = Arc::new(|| vec!["draining".to_owned(), "full".to_owned()]);
    let host = start_with(loopback(), Services { collector, unready, ..services() }).await;
    let body = event("resize");
    assert_eq!(host.post("/v1/records", NDJSON, body.as_bytes()).await.status, 200);
    host.services.collector.collect();
    let reply = host.post("/v1/records", NDJSON, body.as_bytes()).await;
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert!(reply.head.contains("retry-after: 1"), "{}", reply.head);
    assert!(reply.text().contains("publisher \\\"archive\\\""), "{}", reply.text());
    let span = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10",
        "spanId":"0102030405060701","startTimeUnixNano":"5","endTimeUnixNano":"6"}]}]}]}"#;
    let reply = host.post("/v1/traces", JSON, span.as_bytes()).await;
    assert_eq!((reply.status, reply.json()["code"].clone()), (429, 8.into()));
    journal.close();
    let reply = host.post("/v1/traces", JSON, span.as_bytes()).await;
    assert_eq!((reply.status, reply.json()["code"].clone()), (503, 14.into()));
    assert!(reply.head.contains("retry-after: 5"), "{}", reply.head);
    let reply = host.get("/readyz").await;
    assert_eq!((reply.status, reply.text()), (503, "not ready: draining\nnot ready: full\n".to_owned()));
    drop(cursor);
    host.end().await;
}

#[tokio::test]
async fn slow_clients_are_sent_away_and_shutdown_waits_for_requests_in_flight() {
    let quick = Duration::from_millis(50);
    let timeouts = Timeouts { head: quick, body_idle: quick, ..Timeouts::default() };
    let host = start(ServerSettings { timeouts, max_connections: 1, ..loopback() }).await;
    // A head that never ends, then a body that never comes: each is cut off, or the next could not be answered.
    let mut loris = TcpStream::connect(host.address).await.unwrap();
    loris.write_all(b"GET / HTTP/1.1\r\nHost: lo").await.unwrap();
    let mut rest = Vec::new();
    let _ = loris.read_to_end(&mut rest).await;
    let head = format!(
        "POST /v1/records HTTP/1.1\nHost: {{host}}\n{JSON}\nContent-Length: 10\nConnection: close\n\n"
    );
    assert_eq!(host.raw(&head, b"[").await.status, 408);
    host.end().await;

    let host = start(loopback()).await;
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    let mut idle = TcpStream::connect(host.address).await.unwrap();
    let head = format!(
        "POST /v1/records HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    // The server waits for the body now: the request is in flight.
    stream.read_exact(&mut asked).await.unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100 Continue"));
    host.stop.send(()).unwrap();
    let mut end = Vec::new();
    let _ = idle.read_to_end(&mut end).await;
    stream.write_all(b"[]").await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    host.served.await.unwrap();
    assert!(TcpStream::connect(host.address).await.is_err());
}
