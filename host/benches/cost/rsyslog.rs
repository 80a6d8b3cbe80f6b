//! The peer: rsyslog with omelasticsearch, which is given the records as ready JSON lines over TCP.
//!
//! Invariant: the lines are the documents that the host writes for the same spans, so both deliver the same; rsyslog decodes
//! nothing and renders nothing, and its queue batches as largely as the host.

use super::load::Door;
use super::process::Process;
use super::spans::Request;
use pressroom::ingest::otlp::{Encoding, Mapping, decode};
use pressroom::record::EventBatch;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What rsyslog is told. Its omelasticsearch of Debian 12 compresses nothing.
fn config(dir: &Path, bulk: SocketAddr) -> String {
    let (dir, host, port) = (dir.display(), bulk.ip(), bulk.port());
    format!(
        r#"global(workDirectory="{dir}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
module(load="imptcp")
module(load="omelasticsearch")
template(name="line" type="string" string="%rawmsg%")
ruleset(name="deliver" queue.type="LinkedList" queue.size="20000" queue.dequeueBatchSize="5000") {{
    action(type="omelasticsearch" server="{host}" serverport="{port}" template="line" searchType="_doc"
           searchIndex="pressroom-event" bulkmode="on" maxbytes="5m" action.resumeRetryCount="-1")
}}
input(type="imptcp" address="127.0.0.1" port="0" listenPortFileName="{dir}/port" ruleset="deliver")
"#
    )
}

/// Whether it is installed; else what to do.
pub fn version() -> Result<String, String> {
    let missing = "not installed; Debian: apt-get install rsyslog rsyslog-elasticsearch";
    let module = "/usr/lib/x86_64-linux-gnu/rsyslog/omelasticsearch.so";
    let said = Command::new("rsyslogd").arg("-v").output().map_err(|_| missing.to_owned())?;
    let known = std::env::consts::ARCH != "x86_64" || Path::new(module).exists();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    known.then(|| said.split_whitespace().nth(1).unwrap_or_default().to_owned()).ok_or(missing.to_owned())
}

/// Starts one that delivers to `bulk`, and says where it takes lines.
pub fn start(dir: &Path, bulk: SocketAddr) -> (Process, SocketAddr) {
    let file = dir.join("rsyslog.conf");
    std::fs::write(&file, config(dir, bulk)).unwrap();
    let mut command = Command::new("rsyslogd");
    command.arg("-n").arg("-f").arg(&file).arg("-i").arg(dir.join("pid"));
    let mut process = Process::start(&mut command);
    let port = process.until("rsyslog listens", Duration::from_secs(30), |_| {
        std::fs::read_to_string(dir.join("port")).ok()?.trim().parse().ok()
    });
    (process, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// One connection for lines.
pub struct Lines {
    stream: TcpStream,
    out: Vec<u8>,
}

impl Lines {
    /// Connects to the rsyslog at `address`.
    pub fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).unwrap(), out: Vec::new() }
    }
}

impl Door for Lines {
    fn send(&mut self, request: &mut Request, first: u64) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let decoded = decode(request.patch(first, now), Encoding::Protobuf, &Mapping::default()).unwrap();
        let lines = EventBatch::detached(decoded.batch.events).json_lines();
        self.out.clear();
        for (event, line) in lines.range(0..lines.len()) {
            // What the publisher adds to a line, too.
            let (start, took) = (event.start_time, event.duration().unwrap().as_secs_f64());
            write!(self.out, "{{\"@timestamp\":\"{start}\",\"duration_seconds\":{took},").unwrap();
            self.out.extend_from_slice(&line[1..]);
        }
        self.stream.write_all(&self.out).unwrap();
        true
    }
}
