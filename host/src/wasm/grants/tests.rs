//! The gate with names that lead where the test wants.

use super::addresses::Network;
use super::client::{Wanted, client};
use super::counts::Counts;
use super::echo::Guarded;
use super::http::{Gate, Http};
use super::lookups::Lookup;
use super::rules::Rule;
use crate::config::Secrets;
use crate::wasm::limits::{Budget, MemoryGauge};
use crate::wasm::output::Lines;
use crate::wasm::settings::Limits;
use crate::wasm::tests::server::{Server, answer};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpHooks};

/// Answers with each of `answers` in turn, and with the last one from then on.
fn lookup(answers: &[&[&str]]) -> Lookup {
    let answers: Vec<Vec<IpAddr>> =
        answers.iter().map(|all| all.iter().map(|address| address.parse().unwrap()).collect()).collect();
    let asked = AtomicUsize::new(0);
    Arc::new(move |_| {
        let turn = asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        let found = answers[turn].iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
        Box::pin(std::future::ready(Ok(found)))
    })
}

struct Subject {
    http: Arc<Http>,
    port: u16,
}

impl Subject {
    fn new(port: u16, private: &[&str], lookup: Lookup) -> Self {
        Self::within(Limits::default(), port, private, lookup)
    }

    fn within(limits: Limits, port: u16, private: &[&str], lookup: Lookup) -> Self {
        let wanted = Wanted {
            private: private.iter().map(|text| Network::parse(text).unwrap()).collect(),
            lookup,
            connections: 4,
            connect_timeout: limits.call_timeout,
            tls: false,
            ca_file: None,
        };
        let http = Http {
            rules: vec![Rule::parse(&format!("* http://names.example:{port}/*")).unwrap()],
            injections: Vec::new(),
            guarded: Guarded::default(),
            client: Ok(client(&wanted).unwrap()),
            limits,
            lines: Arc::new(Lines::new("subject".into(), Secrets::default(), 100)),
            counts: Arc::new(Counts::default()),
        };
        Self { http: Arc::new(http), port }
    }

    async fn get(&self) -> Result<String, Error> {
        self.send("GET", Empty::new().map_err(|_| Error::HttpProtocolError).boxed_unsync()).await
    }

    async fn send(&self, method: &str, body: WasiBody) -> Result<String, Error> {
        let mut gate = Gate::new(self.http.clone(), Budget::new(1 << 20, Arc::new(MemoryGauge::default())));
        let address = format!("http://names.example:{}/x", self.port);
        let request = Request::builder().method(method).uri(address).body(body).unwrap();
        let sent = gate.send_request(request, None, Box::new(std::future::ready(Ok(()))));
        let (response, _) = Box::into_pin(sent).await?;
        let body = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    fn report(&self) -> Value {
        let mut report = json!({});
        self.http.counts.add_to(&mut report);
        report
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_is_denied_unless_its_network_is_granted() {
    let server = Server::start(|_| Some(answer(200, "inside"))).await;
    for address in ["127.0.0.1", "::ffff:127.0.0.1"] {
        let subject = Subject::new(server.port, &[], lookup(&[&[address]]));
        let denied = subject.get().await.unwrap_err();
        assert!(matches!(denied, Error::DestinationIpProhibited), "{denied:?}");
        let (report, port) = (subject.report(), server.port);
        let width = if address.contains(':') { 128 } else { 32 };
        let said = format!(
            "denied GET http://names.example:{port}/x: names.example resolves into private addresses only: add \
             private = [\"{address}/{width}\"]"
        );
        assert_eq!(report["last_denied"], said);
        assert_eq!(subject.http.lines.recent(), [format!("warn: {said}")]);
        assert_eq!((&report["http_denied"], &report["connections"]), (&json!(1), &json!(0)));
    }
    assert!(server.seen().is_empty() && server.connections() == 0);
    let granted = Subject::new(server.port, &["127.0.0.0/8"], lookup(&[&["127.0.0.1"]]));
    assert_eq!(granted.get().await.unwrap(), "inside");
    assert_eq!(granted.report()["http_denied"], 0);
}

#[tokio::test]
async fn a_name_that_is_rebound_between_requests_is_looked_at_anew() {
    let server = Server::start(|_| {
        let mut answer = answer(200, "granted");
        answer.headers_mut().insert("connection", "close".parse().unwrap());
        Some(answer)
    })
    .await;
    // First where it may, then inside.
    let subject = Subject::new(server.port, &["127.0.0.1/32"], lookup(&[&["127.0.0.1"], &["127.0.0.2"]]));
    assert_eq!(subject.get().await.unwrap(), "granted");
    // The server ends each connection; a new one asks for the name again.
    let denied = loop {
        match subject.get().await {
            Ok(text) => assert_eq!(text, "granted"),
            Err(Error::DestinationIpProhibited) => break subject.report()["last_denied"].to_string(),
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(denied.contains("127.0.0.2/32"), "{denied}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_granted_are_connected_to() {
    let server = Server::start(|_| Some(answer(200, "the second"))).await;
    // Nothing may be sent to the first, on which the server would answer as well.
    let subject = Subject::new(server.port, &["127.0.0.1"], lookup(&[&["0.0.0.0", "127.0.0.1"]]));
    assert_eq!(subject.get().await.unwrap(), "the second");
    let first = Subject::new(server.port, &["127.0.0.1"], lookup(&[&["0.0.0.0"]]));
    assert!(matches!(first.get().await, Err(Error::DestinationIpProhibited)));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn the_headers_of_an_answer_are_bounded_like_those_of_a_request() {
    let server = Server::start(|_| {
        let mut answer = answer(200, "much");
        answer.headers_mut().insert("x-long", "x".repeat(10_000).parse().unwrap());
        Some(answer)
    })
    .await;
    let get = async |memory: &str| {
        let limits = Limits { memory: memory.parse().unwrap(), ..Limits::default() };
        Subject::within(limits, server.port, &["127.0.0.1"], lookup(&[&["127.0.0.1"]])).get().await
    };
    assert_eq!(get("128MiB").await.unwrap(), "much");
    let refused = get("8MiB").await.unwrap_err();
    assert!(matches!(refused, Error::HttpResponseHeaderSectionSize(Some(4096))), "{refused:?}");
}

#[tokio::test]
async fn a_request_is_under_way_until_its_body_has_ended_whatever_was_answered() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let subject =
        Subject::new(listener.local_addr().unwrap().port(), &["127.0.0.1"], lookup(&[&["127.0.0.1"]]));
    let early = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 4096];
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").await.unwrap();
        stream
    });
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let rest = futures_util::stream::once(async {
        let _ = ended.await;
        Ok(Frame::data(Bytes::from_static(b"the rest")))
    });
    assert_eq!(subject.send("POST", StreamBody::new(rest).boxed_unsync()).await.unwrap(), "early");
    let _stream = early.await.unwrap();
    assert_eq!(subject.report()["connections"], 1, "its answer is read, and it is still being written");
    end.send(()).unwrap();
    while subject.report()["connections"] != 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
