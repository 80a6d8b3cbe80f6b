//! A receiver of pushes, for tests: it keeps what it gets and answers as it is told.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A request as it came, its body taken out of snappy.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This, with these headers.
    Say(u16, Vec<(&'static str, String)>, String),
    /// Nothing, ever.
    Hang,
    /// The connection is closed.
    Tear,
}

impl Reply {
    /// A status and a text.
    pub(crate) fn say(status: u16, text: &str) -> Self {
        Self::Say(status, Vec::new(), text.to_owned())
    }

    /// It was taken.
    pub(crate) fn taken() -> Self {
        Self::say(204, "")
    }
}

type Script = Box<dyn FnMut(&Received) -> Reply + Send>;

/// Listens on a free port, on a thread of its own: a test may block while it works. Ends with this.
pub(crate) struct Receiver {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Receiver {
    /// Answers as `script` says.
    pub(crate) fn new(script: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let socket = TcpListener::from_std(socket).unwrap();
                tokio::select! {
                    () = accept(socket, script) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, _stop: stop }
    }

    /// Where it listens, with this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn accept(socket: TcpListener, script: Arc<Mutex<Script>>) {
    loop {
        let (stream, _) = socket.accept().await.unwrap();
        let script = script.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, script.clone()));
            let connection = hyper::server::conn::http1::Builder::new();
            // An error is a connection that was torn, here or there.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Mutex<Script>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Err(std::io::ErrorKind::ConnectionReset.into()) };
    let body = snap::raw::Decoder::new().decompress_vec(&body.to_bytes()).unwrap();
    let received = Received { path: parts.uri.path().to_owned(), headers: parts.headers, body };
    let reply = (script.lock())(&received);
    match reply {
        Reply::Say(status, headers, text) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::new(text.into())).unwrap())
        }
        Reply::Hang => match std::future::pending::<Infallible>().await {},
        Reply::Tear => Err(std::io::ErrorKind::ConnectionReset.into()),
    }
}
