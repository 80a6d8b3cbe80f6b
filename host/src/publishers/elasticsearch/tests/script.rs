//! A search server that does what it is told: what no real one can be made to do. Left alone it keeps documents as a
//! real one does.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request, its body unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn is_bulk(&self) -> bool {
        self.path.contains("/_bulk?")
    }

    /// The items of a bulk request: index, id and document.
    pub(crate) fn items(&self) -> Vec<(String, String, Value)> {
        let default = self.path.trim_start_matches('/').split('/').next().unwrap().to_owned();
        let lines: Vec<Value> = self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let item = |pair: &[Value]| {
            let create = &pair[0]["create"];
            let index = create["_index"].as_str().map_or(default.clone(), str::to_owned);
            (index, create["_id"].as_str().unwrap().to_owned(), pair[1].clone())
        };
        lines.chunks(2).map(item).collect()
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This.
    Json(u16, Value),
    /// This, with a header.
    With(u16, &'static str, String, Value),
    /// Bytes as they are, and then the connection is closed.
    Bytes(String),
    /// Nothing: the connection is closed.
    Torn,
    /// Nothing, and the connection stays open.
    Silence,
    /// This, when somebody says so.
    When(Arc<tokio::sync::Notify>, Box<Reply>),
    /// This, after a while.
    Late(std::time::Duration, Box<Reply>),
}

impl Reply {
    /// An error as servers put it.
    pub(crate) fn error(status: u16, ty: &str, reason: &str) -> Self {
        Self::Json(status, json!({ "error": { "type": ty, "reason": reason }, "status": status }))
    }
}

/// What a server keeps.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Documents by index and id.
    pub(crate) documents: BTreeMap<(String, String), Value>,
    pub(crate) templates: BTreeMap<String, Value>,
    /// Everything that was asked.
    pub(crate) asked: Vec<Asked>,
    /// Connections that were made.
    pub(crate) connections: usize,
}

impl Kept {
    /// Keeps an item of a bulk request, and says so.
    pub(crate) fn create(&mut self, (index, id, document): (String, String, Value)) -> Value {
        match self.documents.entry((index, id)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(document);
                json!({ "create": { "status": 201 } })
            }
            std::collections::btree_map::Entry::Occupied(_) => {
                item(409, "version_conflict_engine_exception", "document already exists")
            }
        }
    }

    /// What a real server would do.
    pub(crate) fn answer(&mut self, asked: &Asked) -> Reply {
        if asked.is_bulk() {
            let items: Vec<Value> = asked.items().into_iter().map(|item| self.create(item)).collect();
            return items_reply(items);
        }
        if let Some(name) = asked.path.strip_prefix("/_index_template/") {
            if asked.method == "PUT" {
                self.templates.insert(name.to_owned(), serde_json::from_str(&asked.body).unwrap());
                return Reply::Json(200, json!({ "acknowledged": true }));
            }
            if let Some(template) = self.templates.get(name) {
                let found = json!([{ "name": name, "index_template": template }]);
                return Reply::Json(200, json!({ "index_templates": found }));
            }
        }
        Reply::error(404, "resource_not_found_exception", "there is no such thing")
    }
}

/// An item's error.
pub(crate) fn item(status: u16, ty: &str, reason: &str) -> Value {
    json!({ "create": { "status": status, "error": { "type": ty, "reason": reason } } })
}

/// An answer with these items.
pub(crate) fn items_reply(items: Vec<Value>) -> Reply {
    Reply::Json(200, json!({ "items": items }))
}

type Act = Box<dyn FnMut(&Asked, &mut Kept) -> Option<Reply> + Send>;

/// The server. It ends with this.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    _connections: JoinSet<()>,
}

impl Script {
    /// One that does what `act` says, and what a real one would do where that says nothing.
    pub(crate) fn start(act: impl FnMut(&Asked, &mut Kept) -> Option<Reply> + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        let act: Arc<Mutex<Act>> = Arc::new(Mutex::new(Box::new(act)));
        let (state, mut connections) = (kept.clone(), JoinSet::new());
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                state.lock().connections += 1;
                open.spawn(serve(stream, state.clone(), act.clone()));
            }
        });
        Self { address, kept, _connections: connections }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it keeps, looked at.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock())
    }

    /// How many bulk requests it has had.
    pub(crate) fn bulks(&self) -> usize {
        self.look(|kept| kept.asked.iter().filter(|asked| asked.is_bulk()).count())
    }
}

async fn serve(mut stream: TcpStream, kept: Arc<Mutex<Kept>>, act: Arc<Mutex<Act>>) {
    let mut buffer = Vec::new();
    while let Some(asked) = read(&mut stream, &mut buffer).await {
        let reply = {
            let mut kept = kept.lock();
            kept.asked.push(asked.clone());
            let told = (act.lock())(&asked, &mut kept);
            told.unwrap_or_else(|| kept.answer(&asked))
        };
        let reply = match reply {
            Reply::When(said, reply) => {
                said.notified().await;
                *reply
            }
            Reply::Late(after, reply) => {
                tokio::time::sleep(after).await;
                *reply
            }
            reply => reply,
        };
        let (status, header, body) = match reply {
            Reply::Json(status, body) => (status, String::new(), body),
            Reply::With(status, name, value, body) => (status, format!("{name}: {value}\r\n"), body),
            Reply::Bytes(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                return;
            }
            Reply::Torn => return,
            Reply::Silence | Reply::When(..) | Reply::Late(..) => return std::future::pending().await,
        };
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{header}\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, path) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let sent: Vec<u8> = buffer.drain(..length).collect();
    let mut body = String::new();
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        flate2::read::GzDecoder::new(sent.as_slice()).read_to_string(&mut body).unwrap();
    } else {
        body = String::from_utf8(sent).unwrap();
    }
    Some(Asked { method, path, headers, body })
}
