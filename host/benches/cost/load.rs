//! Sends the spans: over connections that stay open, each from a thread of its own, one request at a time.
//!
//! Invariant: a request counts as sent when it was answered with 200; one that is refused for now is sent again, the
//! very same bytes, and is counted; any other answer fails the benchmark.

use super::spans::Request;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is to be sent, and how.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The first number.
    pub first: u64,
    /// How many spans.
    pub spans: u64,
    /// Spans of a request.
    pub batch: usize,
    /// Connections.
    pub connections: usize,
    /// Spans a second; as fast as they are taken without.
    pub rate: Option<u64>,
    /// Most spans that are under way at once; 0: no bound.
    pub window: u64,
}

/// One way in.
pub trait Door: Send {
    /// Sends the spans of `request`; false if they are not taken now.
    fn send(&mut self, request: &mut Request, first: u64) -> bool;
}

/// Sends it all, through the doors that `open` opens, while `arrived` is not too far behind, and returns how often it was refused for now.
pub fn run(load: Load, arrived: &AtomicU64, open: impl Fn() -> Box<dyn Door> + Sync) -> u64 {
    let (next, refused, began) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..load.connections {
            scope.spawn(|| {
                let mut door = open();
                let mut request = Request::new(load.batch);
                loop {
                    let before = next.fetch_add(load.batch as u64, Ordering::Relaxed);
                    if before >= load.spans {
                        return;
                    }
                    let left = usize::try_from(load.spans - before).unwrap();
                    if left < request.len() {
                        request = Request::new(left);
                    }
                    wait(&load, before, began, arrived);
                    while !door.send(&mut request, load.first + before) {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    refused.into_inner()
}

/// Until it is the turn of the request that comes after `before` spans.
fn wait(load: &Load, before: u64, began: Instant, arrived: &AtomicU64) {
    if let Some(rate) = load.rate {
        let due = began + Duration::from_secs_f64(before as f64 / rate as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let stalled = Instant::now();
    while load.window > 0 && load.first + before > arrived.load(Ordering::Relaxed) + load.window {
        assert!(stalled.elapsed() < Duration::from_secs(60), "nothing arrives any more");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The time since the epoch.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// `POST /v1/traces`, over one connection.
pub struct Otlp {
    stream: TcpStream,
    head: String,
    answer: Vec<u8>,
}

impl Otlp {
    /// Connects to the host at `address`.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: {address}\r\nuser-agent: cost\r\ncontent-type: application/x-protobuf\r\n"
        );
        Self { stream, head, answer: vec![0; 64 << 10] }
    }
}

impl Door for Otlp {
    fn send(&mut self, request: &mut Request, first: u64) -> bool {
        let body = request.patch(first, now());
        let head = format!("{}content-length: {}\r\n\r\n", self.head, body.len());
        self.stream.write_all(head.as_bytes()).unwrap();
        self.stream.write_all(body).unwrap();
        let answer = read_answer(&mut self.stream, &mut self.answer);
        match answer.status {
            200 => {
                // A body would say that spans were left out.
                assert!(answer.body.is_empty(), "{:?}", String::from_utf8_lossy(answer.body));
                true
            }
            429 | 503 => {
                let seconds = header(answer.head, "retry-after").and_then(|value| value.parse().ok());
                std::thread::sleep(Duration::from_secs(seconds.unwrap_or(1)));
                false
            }
            _ => panic!("{}\n{}", answer.head, String::from_utf8_lossy(answer.body)),
        }
    }
}

/// An answer over HTTP/1.1.
pub struct Answer<'a> {
    /// The code.
    pub status: u16,
    head: &'a str,
    /// What comes after the head.
    pub body: &'a [u8],
}

/// Reads one answer that says how long it is.
pub fn read_answer<'a>(stream: &mut impl Read, buffer: &'a mut Vec<u8>) -> Answer<'a> {
    let mut filled = 0;
    let (head, length) = loop {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        let read = stream.read(&mut buffer[filled..]).unwrap();
        assert!(
            read > 0,
            "closed in the middle of an answer: {:?}",
            String::from_utf8_lossy(&buffer[..filled])
        );
        filled += read;
        if let Some(end) = buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = std::str::from_utf8(&buffer[..end]).unwrap();
            let length = header(head, "content-length").map_or(0, |length| length.parse::<usize>().unwrap());
            break (end, length);
        }
    };
    let all = head + 4 + length;
    if buffer.len() < all {
        buffer.resize(all, 0);
    }
    if filled < all {
        stream.read_exact(&mut buffer[filled..all]).unwrap();
    }
    let (head, body) = (std::str::from_utf8(&buffer[..head]).unwrap(), &buffer[head + 4..all]);
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer { status: status.unwrap_or_else(|| panic!("{head}")), head, body }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
