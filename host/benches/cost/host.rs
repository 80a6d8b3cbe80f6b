//! The host that is measured: the real binary, as `pressroom run`, with one publisher and default settings.

use super::load::{Otlp, read_answer};
use super::options::Publisher;
use super::process::Process;
use serde::Deserialize;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A host that runs.
pub struct Host {
    /// Its process.
    pub process: Process,
    address: SocketAddr,
}

/// What a host says of its publisher.
#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "they are told where something is wrong")]
struct Status {
    books: pressroom::journal::Books,
    state: String,
    reason: Option<String>,
    last_error: Option<String>,
}

impl Host {
    /// Starts `binary` in `dir`; its publisher has the settings of `section`.
    pub fn start(binary: &Path, dir: &Path, section: &str) -> Self {
        let config = format!("[server]\nlisten = \"127.0.0.1:0\"\n[publishers.search]\n{section}\n");
        let file = dir.join("pressroom.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(binary);
        command.arg("run").arg("--config").arg(&file).env_remove("RUST_LOG").env("NO_COLOR", "1");
        let mut process = Process::start(&mut command);
        let said = "records and questions: http://";
        let address = process.until("the host says where it listens", Duration::from_secs(30), |process| {
            let log = process.log();
            let rest = &log[log.find(said)? + said.len()..];
            rest.split('/').next()?.parse().ok()
        });
        let host = Self { process, address };
        let began = Instant::now();
        loop {
            match host.status() {
                Some(status) if status.state == "running" => return host,
                status => assert!(
                    began.elapsed() < Duration::from_secs(30),
                    "the publisher does not run: {status:?}:\n{}",
                    host.process.log()
                ),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A connection for spans.
    pub fn door(&self) -> Otlp {
        Otlp::connect(self.address)
    }

    /// Waits until its own books say that `spans` records were delivered, and that is all there is.
    pub fn settle(&self, spans: u64) {
        let began = Instant::now();
        loop {
            let status = self.status().unwrap();
            let books = status.books;
            assert!(books.balance(), "{books:?}");
            assert_eq!((books.dropped.total(), books.dead_lettered, books.filtered), (0, 0, 0), "{status:?}");
            if books.accepted == spans && books.delivered == spans {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "not delivered: {status:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it says it has delivered.
    pub fn delivered(&self) -> u64 {
        self.status().map_or(0, |status| status.books.delivered)
    }

    /// Ends it. It must say that nothing was lost.
    pub fn end(self) {
        let (status, log) = self.process.end();
        assert!(status.success(), "{status}:\n{log}");
    }

    fn status(&self) -> Option<Status> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let host = self.address;
        write!(stream, "GET /v1/report/publishers HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut buffer = vec![0; 4_096];
        let answer = read_answer(&mut stream, &mut buffer);
        assert_eq!(answer.status, 200, "{:?}", String::from_utf8_lossy(answer.body));
        let all: Vec<Status> = serde_json::from_slice(answer.body).unwrap();
        all.into_iter().next()
    }
}

/// The section of the publisher that is measured.
pub fn section(publisher: Publisher, bulk: SocketAddr, gzip: bool) -> String {
    match publisher {
        Publisher::Elasticsearch => {
            format!("type = \"elasticsearch\"\nhosts = [\"http://{bulk}\"]\ngzip = {gzip}")
        }
        Publisher::File => {
            "type = \"file\"\npath = \"records.jsonl\"\nmax_size = \"64MiB\"\nkeep = 1".to_owned()
        }
    }
}
