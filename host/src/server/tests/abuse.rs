//! Clients that take places, memory and answers and give nothing back: others are answered nevertheless. Every timeout is
//! so long that a test would never end if it were a timeout that helps.

use super::*;

const NEVER: Duration = Duration::from_secs(3_600);

fn patient(max_connections: usize) -> ServerSettings {
    let timeouts = Timeouts { head: NEVER, body_idle: NEVER, body: NEVER, write: NEVER, drain: NEVER };
    ServerSettings { max_connections, timeouts, ..loopback() }
}

impl Host {
    /// A client that sends this and nothing more.
    async fn begun(&self, head: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = head.replace("{host}", &self.address.to_string()).replace('\n', "\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // A connection may be closed in the middle: that is what is tested.
        let _ = stream.write_all(body).await;
        stream
    }

    async fn takes_a_record(&self, headers: &str) {
        // Where many wait at once, a client may be told to come back: then it does.
        let mut reply = self.post("/v1/records", headers, event("resize").as_bytes()).await;
        while reply.status == 503 && reply.head.contains("retry-after: 1") {
            reply = self.post("/v1/records", headers, event("resize").as_bytes()).await;
        }
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    /// Ends although clients hang: they are cut off.
    async fn abort(self) {
        self.stop.send(()).unwrap();
        self.served.abort();
    }
}

const DRIP: &str =
    "POST /v1/records HTTP/1.1\nHost: {host}\nContent-Type: application/x-ndjson\nContent-Length: 1000\n\n";

#[tokio::test]
async fn idle_connections_leave_their_places_to_clients_that_ask() {
    let host = start(patient(4)).await;
    let mut idle = Vec::new();
    for _ in 0..3 * QUESTIONS {
        idle.push(TcpStream::connect(host.address).await.unwrap());
        idle.push(host.begun("GET / HTTP/1.1\nHost: lo", b"").await);
    }
    assert_eq!(host.get("/healthz").await.status, 200);
    host.takes_a_record(NDJSON).await;
    let counted = host.counts.expose(Exposition::new()).finish();
    assert!(!counted.contains("pressroom_http_closed_early_total 0\n"), "{counted}");
    host.abort().await;
}

#[tokio::test]
async fn senders_that_drip_leave_their_places_to_others_and_questions_have_places_of_their_own() {
    let host = start(patient(QUESTIONS)).await;
    let mut slow = Vec::new();
    for _ in 0..2 * QUESTIONS {
        slow.push(host.begun(DRIP, b"{").await);
        assert_eq!(host.get("/healthz").await.status, 200);
    }
    for path in ["/v1/report/metrics", "/metrics", "/readyz"] {
        assert_eq!(host.get(path).await.status, 200, "{path}");
    }
    host.takes_a_record(NDJSON).await;
    host.abort().await;
}

#[tokio::test]
async fn bodies_that_are_held_back_leave_memory_to_others() {
    let host = start(ServerSettings { max_body: 1 << 20, ..patient(64) }).await;
    let head = DRIP.replace("1000", "1048576");
    let most = vec![b' '; (1 << 20) - 1];
    let mut held = Vec::new();
    for _ in 0..9 {
        held.push(host.begun(&head, &most).await);
    }
    host.takes_a_record(NDJSON).await;
    let zipped = gzip(event("hash").as_bytes());
    let reply = host.post("/v1/records", &format!("{NDJSON}\nContent-Encoding: gzip"), &zipped).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    host.abort().await;
}

#[tokio::test]
async fn strangers_take_no_place_of_those_who_have_the_token() {
    let host = start(ServerSettings { token: Some(TOKEN.to_owned()), ..patient(1) }).await;
    let mut strangers = Vec::new();
    for _ in 0..2 * QUESTIONS {
        strangers.push(host.begun(DRIP, b"{").await);
    }
    host.takes_a_record(&format!("{NDJSON}\nAuthorization: Bearer {TOKEN}")).await;
    // Each was told, although it still sends, and its connection ends.
    for mut stranger in strangers {
        let mut reply = Vec::new();
        if stranger.read_to_end(&mut reply).await.is_ok() && !reply.is_empty() {
            let reply = String::from_utf8(reply).unwrap();
            assert!(reply.starts_with("HTTP/1.1 401") && reply.contains("connection: close"), "{reply}");
        }
    }
    host.end().await;
}

#[tokio::test]
async fn reports_that_are_not_read_take_bounded_memory_and_are_cut() {
    let host = start(patient(256)).await;
    // Names of a thousand bytes make a report of megabytes.
    let body: String =
        (0..9_000).map(|number| event(&format!("{number}{}", "n".repeat(1_000))) + "\n").collect();
    assert_eq!(host.post("/v1/records", NDJSON, body.as_bytes()).await.status, 200);
    let large = "/v1/report/metrics?limit=100000";
    let size = host.get(large).await.body.len();
    let readers = 4 * MAX_ANSWERS / size;
    let mut unread = Vec::new();
    for _ in 0..readers {
        unread.push(host.begun(&format!("GET {large} HTTP/1.1\nHost: {{host}}\n\n"), b"").await);
    }
    // Small reports do not wait for the large ones; another large one is answered as soon as a reader was cut.
    assert_eq!(host.get("/v1/report/failed-events?limit=1").await.status, 200);
    let reply = host.get(large).await;
    assert_eq!((reply.status, reply.body.len()), (200, size), "{}", reply.head);
    let counted = host.counts.expose(Exposition::new()).finish();
    assert!(!counted.contains("pressroom_http_closed_early_total 0\n"), "{counted}");
    host.abort().await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_although_no_place_is_short() {
    let timeouts = Timeouts { write: Duration::from_millis(100), drain: NEVER, ..Timeouts::default() };
    let host = start(ServerSettings { timeouts, ..loopback() }).await;
    let body: String =
        (0..9_000).map(|number| event(&format!("{number}{}", "n".repeat(1_000))) + "\n").collect();
    assert_eq!(host.post("/v1/records", NDJSON, body.as_bytes()).await.status, 200);
    let ask = "GET /v1/report/metrics?limit=100000 HTTP/1.1\nHost: {host}\n\n";
    let mut unread = Vec::new();
    for _ in 0..2 {
        let mut stream = host.begun(ask, b"").await;
        // The answer is on its way.
        stream.read_exact(&mut [0; 9]).await.unwrap();
        unread.push(stream);
    }
    // The shutdown waits for answers that are on their way: it ends only because these are cut.
    host.end().await;
}
