//! What it costs the host to take spans over OTLP/HTTP and to deliver them to Elasticsearch's `_bulk`: CPU and memory
//! of its process, as fast as it takes them and at a steady rate, beside rsyslog with omelasticsearch, which is given
//! ready JSON lines.
//!
//! `cargo bench -p pressroom --bench cost` prints the table; `-- --help` says what else may be measured.
//!
//! The host is the binary, in a process of its own; what it has used is what the kernel booked on it. The generator
//! and the bulk server are the benchmark's process and share the machine's cores with the host: how many spans a
//! second pass says something about the machine, the host's CPU for each says something about the host. Every span
//! must arrive, once, or the benchmark fails.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic,
    missing_docs
)]

mod bulk;
mod host;
mod load;
mod options;
mod process;
mod rsyslog;
mod spans;
mod table;

use bulk::{BulkServer, Tally};
use clap::Parser;
use host::Host;
use load::{Door, Load};
use options::{Options, Part, Publisher};
use process::{Cpu, Process};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use table::{Goal, Sample, Table};

/// Seconds of a steady run before what is measured.
const WARM_UP: u64 = 3;

/// What is measured: a host or the peer.
enum Subject {
    Host(Host),
    Rsyslog(Process, std::net::SocketAddr),
}

impl Subject {
    fn process(&self) -> &Process {
        match self {
            Self::Host(host) => &host.process,
            Self::Rsyslog(process, _) => process,
        }
    }

    fn open(&self) -> Box<dyn Door> {
        match self {
            Self::Host(host) => Box::new(host.door()),
            Self::Rsyslog(_, address) => Box::new(rsyslog::Lines::connect(*address)),
        }
    }
}

fn measure(options: &Options, part: Part) -> Sample {
    let steady = part.is_steady();
    let (before, spans) = match steady {
        true => (WARM_UP * options.rate, options.seconds * options.rate),
        false => (0, options.spans),
    };
    let server = BulkServer::start(before + spans, part == Part::RsyslogBrief);
    let tally = server.tally();
    let dir = tempfile::tempdir().unwrap();
    let subject = match part {
        _ if part.is_peer() => {
            let (process, address) = rsyslog::start(dir.path(), server.address());
            Subject::Rsyslog(process, address)
        }
        _ => {
            let section = host::section(options.publisher, server.address(), part.has_gzip());
            Subject::Host(Host::start(&options.binary, dir.path(), &format!("{section}\n{}", options.toml)))
        }
    };
    let load = |first, spans| Load {
        first,
        spans,
        batch: options.batch,
        connections: options.connections,
        rate: steady.then_some(options.rate),
        window: options.window,
    };
    let send = |load| match &subject {
        Subject::Host(host) if options.publisher == Publisher::File => {
            watched(host, tally, || load::run(load, &tally.arrived, || subject.open()))
        }
        _ => load::run(load, &tally.arrived, || subject.open()),
    };
    send(load(0, before));
    let attached = options.attach.as_deref().map(|command| attach(command, subject.process().id()));
    let (cpu, began) = (subject.process().cpu(), Instant::now());
    let refused = send(load(before, spans));
    let sent = began.elapsed();
    arrive(options, part, &subject, &server, before + spans);
    let (elapsed, used) = (began.elapsed(), subject.process().cpu().since(cpu));
    let peak = subject.process().peak();
    attached.into_iter().for_each(detach);
    eprintln!(
        "  {part:?}: {spans} spans sent in {sent:.1?} ({refused} requests refused for now), all there after {elapsed:.1?}"
    );
    match subject {
        Subject::Host(host) => host.end(),
        Subject::Rsyslog(process, _) => drop(process.end()),
    }
    sample(used, peak, elapsed, spans, &server)
}

/// Does `work` while `arrived` is kept at what the host itself says it has delivered: for a file, nobody else counts.
fn watched<T>(host: &Host, tally: &Tally, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        // Its end, a failed one included, is seen by what hangs up.
        let (working, ended) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
                tally.arrived.store(host.delivered(), Ordering::Relaxed);
            }
        });
        let outcome = work();
        drop(working);
        outcome
    })
}

/// Waits until everything has been delivered, and checks what has arrived.
fn arrive(options: &Options, part: Part, subject: &Subject, server: &BulkServer, spans: u64) {
    let tally = server.tally();
    let to_server =
        matches!(part, Part::Rsyslog | Part::RsyslogSteady) || options.publisher == Publisher::Elasticsearch;
    let (mut last, mut since) = (0, Instant::now());
    while to_server && !tally.is_settled() {
        let arrived = tally.arrived.load(Ordering::Relaxed);
        if arrived != last {
            (last, since) = (arrived, Instant::now());
        }
        let patient = since.elapsed() < Duration::from_secs(30);
        assert!(
            patient,
            "nothing arrives any more, after {arrived} of {spans}:\n{}",
            subject.process().log()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Subject::Host(host) = subject {
        host.settle(spans);
    }
    if to_server {
        tally.check();
    }
    let (requests, gzipped) = (tally.requests.load(Ordering::Relaxed), tally.gzipped.load(Ordering::Relaxed));
    assert_eq!(gzipped, if part.has_gzip() { requests } else { 0 }, "of {requests} requests");
}

fn sample(used: Cpu, peak: u64, elapsed: Duration, spans: u64, server: &BulkServer) -> Sample {
    let (millions, tally) = (spans as f64 / 1e6, server.tally());
    let arrived = tally.arrived.load(Ordering::Relaxed).max(1) as f64;
    Sample {
        cpu: used.seconds() / millions,
        system: used.system.as_secs_f64() / millions,
        peak: peak as f64 / f64::from(1 << 20),
        pace: spans as f64 / elapsed.as_secs_f64(),
        bytes: [&tally.wire, &tally.bytes].map(|bytes| bytes.load(Ordering::Relaxed) as f64 / arrived),
        bulks: tally.requests.load(Ordering::Relaxed) as f64,
    }
}

/// Runs a program, a profiler as a rule, on the process that is measured.
fn attach(command: &str, process: u32) -> Child {
    let command = format!("exec {}", command.replace("{}", &process.to_string()));
    let child = Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).spawn().unwrap();
    // What it has to read before it begins takes it a moment.
    std::thread::sleep(Duration::from_secs(1));
    child
}

fn detach(mut child: Child) {
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    let _ = child.wait();
}

fn main() {
    let options = Options::parse();
    let goal = |cpu, peak| Some(Goal { cpu, peak });
    let to = match options.publisher {
        Publisher::Elasticsearch => "Pressroom",
        Publisher::File => "Pressroom, to a file",
    };
    let peer = rsyslog::version();
    let beside = format!("rsyslog {}, given JSON lines", peer.clone().unwrap_or_default());
    let parts = [
        (Part::Gzip, format!("{to}, gzip"), goal(2.8, Some(64.0))),
        (Part::Plain, format!("{to}, no gzip"), goal(2.3, Some(64.0))),
        (Part::Rsyslog, format!("{beside}, no gzip"), None),
        (Part::RsyslogBrief, "the same, answered without items".to_owned(), None),
        (Part::Steady, format!("{to}, gzip"), goal(3.5, None)),
        (Part::RsyslogSteady, format!("{beside}, no gzip"), None),
    ];
    let mut samples = vec![Vec::new(); parts.len()];
    for _ in 0..options.rounds {
        for ((part, ..), samples) in parts.iter().zip(&mut samples) {
            if options.wants(*part) && (!part.is_peer() || peer.is_ok()) {
                samples.push(measure(&options, *part));
            }
        }
    }
    let mut table = Table::default();
    for ((part, what, goal), samples) in parts.iter().zip(&samples) {
        match (samples.as_slice(), &peer) {
            ([], Err(why)) if *part == Part::Rsyslog && options.wants(*part) => table.missing("rsyslog", why),
            ([], _) => {}
            (samples, _) if part.is_steady() => table.steady(what, options.rate, samples, *goal),
            (samples, _) => table.full(what, samples, *goal),
        }
    }
    println!(
        "\n{} spans of {} bytes, {} a request, {} connections; cores: {}; rounds: {}",
        options.spans,
        spans::SPAN,
        options.batch,
        options.connections,
        std::thread::available_parallelism().unwrap(),
        options.rounds
    );
    table.print(options.rate);
}
