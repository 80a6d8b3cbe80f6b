//! A bulk server that only counts and checks, so that it is not what is measured.
//!
//! Invariant: every document that arrives is looked at: it must carry the number of a span that was sent and that has
//! not arrived before. One in [`SAMPLE`] is parsed as a whole. What is wrong is kept, and fails the benchmark. It
//! answers as Elasticsearch does, with an item for each document.

mod answer;

use crate::spans;
use answer::{FilterPath, Target};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::{BufRead, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// One document in so many is parsed as a whole.
const SAMPLE: u64 = 256;

/// The server. It ends with this.
pub struct BulkServer {
    address: SocketAddr,
    tally: Arc<Tally>,
    /// On threads of its own.
    _runtime: Runtime,
}

/// What has arrived.
pub struct Tally {
    /// A bit for each number, set once it has arrived.
    seen: Vec<AtomicU64>,
    sent: u64,
    /// Answers say that there was no error, and nothing of the items.
    brief: bool,
    /// Documents that have arrived, each counted once.
    pub arrived: AtomicU64,
    /// Bulk requests.
    pub requests: AtomicU64,
    /// Bulk requests that came with gzip.
    pub gzipped: AtomicU64,
    /// Bytes of bulk requests as they came.
    pub wire: AtomicU64,
    /// The same, decompressed.
    pub bytes: AtomicU64,
    /// Bytes of the answers to them.
    pub answers: AtomicU64,
    /// Other requests, of which nothing is said.
    others: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl BulkServer {
    /// Starts one that expects the spans with the numbers below `spans`. It answers as Elasticsearch does, or, `brief`,
    /// with nothing about the items.
    pub fn start(spans: u64, brief: bool) -> Self {
        let words = usize::try_from(spans.div_ceil(64)).unwrap();
        let tally = Arc::new(Tally {
            seen: (0..words).map(|_| AtomicU64::new(0)).collect(),
            sent: spans,
            brief,
            arrived: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            gzipped: AtomicU64::new(0),
            wire: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            others: AtomicU64::new(0),
            wrong: Mutex::default(),
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(accept(listener, tally.clone()));
        Self { address, tally, _runtime: runtime }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has arrived so far.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }
}

impl Tally {
    /// Whether all have arrived, or something is wrong.
    pub fn is_settled(&self) -> bool {
        self.arrived.load(Ordering::Relaxed) >= self.sent || !self.wrong.lock().unwrap().is_empty()
    }

    /// Fails unless every span has arrived, once.
    pub fn check(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "what arrived is wrong:\n{}", wrong.join("\n"));
        let missing = (0..self.sent).filter(|number| {
            self.seen[usize::try_from(number / 64).unwrap()].load(Ordering::Relaxed) >> (number % 64) & 1 == 0
        });
        let first: Vec<_> = missing.clone().take(5).collect();
        assert!(first.is_empty(), "{} spans have not arrived, {first:?} …", missing.count());
        assert_eq!(self.arrived.load(Ordering::Relaxed), self.sent);
    }

    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < 10 {
            wrong.push(what);
        }
    }

    /// Counts one document. What is wrong with it is the error.
    fn count(&self, action: &Target<'_>, document: &[u8], hint: &mut usize) -> Result<(), String> {
        let shown = || String::from_utf8_lossy(&document[..document.len().min(2_000)]).into_owned();
        let number = spans::number(document, hint).ok_or_else(|| format!("no number in {:?}", shown()))?;
        let word = usize::try_from(number / 64).ok().and_then(|word| self.seen.get(word));
        let word = word.filter(|_| number < self.sent).ok_or_else(|| format!("{number} was never sent"))?;
        let bit = 1 << (number % 64);
        if word.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return Err(format!("{number} has arrived twice"));
        }
        let before = self.arrived.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(SAMPLE) {
            let parsed: serde_json::Value = serde_json::from_slice(document)
                .map_err(|error| format!("{error} in the document {:?}", shown()))?;
            let (id, own) = (action.id, parsed.get("id").and_then(serde_json::Value::as_str));
            if id.is_some() && own.is_some() && id != own {
                return Err(format!("{id:?} is not the id of {:?}", shown()));
            }
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, tally: Arc<Tally>) {
    while let Ok((stream, _)) = listener.accept().await {
        let tally = tally.clone();
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(request, tally.clone()));
            // A client that goes away in the middle leaves spans missing, which is told.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn handle(request: Request<Incoming>, tally: Arc<Tally>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            tally.wrong(format!("{} {}: {error}", parts.method, parts.uri));
            return Ok(respond(StatusCode::BAD_REQUEST, String::new()));
        }
    };
    let path = parts.uri.path();
    if !path.ends_with("/_bulk") {
        tally.others.fetch_add(1, Ordering::Relaxed);
        return Ok(other(&parts.method, path));
    }
    let gzip = parts.headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    tally.requests.fetch_add(1, Ordering::Relaxed);
    tally.wire.fetch_add(body.len() as u64, Ordering::Relaxed);
    let body = if gzip {
        tally.gzipped.fetch_add(1, Ordering::Relaxed);
        let mut plain = Vec::with_capacity(body.len() * 8);
        if let Err(error) = MultiGzDecoder::new(&*body).read_to_end(&mut plain) {
            tally.wrong(format!("a body is no gzip: {error}"));
        }
        plain.into()
    } else {
        body
    };
    tally.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
    let index = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let answer = bulk(&body, index, &FilterPath::of(parts.uri.query()), &tally);
    tally.answers.fetch_add(answer.len() as u64, Ordering::Relaxed);
    Ok(respond(StatusCode::OK, answer))
}

/// Counts the documents of one bulk, and answers.
fn bulk(mut body: &[u8], index: &str, filter: &FilterPath, tally: &Tally) -> String {
    let mut items = answer::Items::new(filter, index);
    let mut hint = 0;
    while let Some(action) = line(&mut body) {
        if action.is_empty() {
            continue;
        }
        let document = line(&mut body).unwrap_or_default();
        let target = match Target::parse(action) {
            Ok(target) => target,
            Err(reason) => {
                tally.wrong(format!("{reason}: {:?}", String::from_utf8_lossy(action)));
                break;
            }
        };
        if let Err(reason) = tally.count(&target, document, &mut hint) {
            tally.wrong(reason);
        }
        items.push(&target);
    }
    if tally.brief { answer::BRIEF.to_owned() } else { items.finish() }
}

/// The next line, without its end; none where nothing is left.
fn line<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let whole = *body;
    let length = body.skip_until(b'\n').ok().filter(|length| *length > 0)?;
    let line = &whole[..length];
    Some(line.strip_suffix(b"\n").unwrap_or(line))
}

/// What is asked at start: whether it is there, and for templates, which are taken and forgotten.
fn other(method: &Method, path: &str) -> Response<Full<Bytes>> {
    match *method {
        Method::GET if path == "/" => respond(
            StatusCode::OK,
            r#"{"name":"counts","cluster_name":"counts","version":{"number":"9.1.0","build_flavor":"default"},"tagline":"You Know, for Search"}"#.to_owned(),
        ),
        Method::GET if path.starts_with("/_cat") || path.starts_with("/_cluster") => {
            respond(StatusCode::OK, r#"{"status":"green"}"#.to_owned())
        }
        Method::GET => respond(
            StatusCode::NOT_FOUND,
            r#"{"error":{"type":"resource_not_found_exception","reason":"there is nothing here"},"status":404}"#
                .to_owned(),
        ),
        Method::HEAD => respond(StatusCode::OK, String::new()),
        _ => respond(StatusCode::OK, r#"{"acknowledged":true}"#.to_owned()),
    }
}

fn respond(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("X-elastic-product", "Elasticsearch")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}
