//! Search servers. One runs at a time, since each is a JVM and the machine is small; it is handed from test to test.

mod ask;
mod start;

use super::{STARTING, Server, everything, installed};
use crate::support::{PATIENCE, skipped};
use reqwest::{Client, Method};
use serde_json::json;
use start::{elasticsearch, opensearch};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Who may enter a guarded server.
pub const USER: &str = "elastic";
/// With this password.
pub const PASSWORD: &str = "a-password-of-the-tests";

/// A search server, by its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// OpenSearch 2.
    OpenSearch2,
    /// OpenSearch 3.
    OpenSearch3,
    /// Elasticsearch 8.
    Elasticsearch8,
    /// Elasticsearch 9.
    Elasticsearch9,
}

impl Kind {
    /// The folder that it is installed in.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenSearch2 => "opensearch-2",
            Self::OpenSearch3 => "opensearch-3",
            Self::Elasticsearch8 => "elasticsearch-8",
            Self::Elasticsearch9 => "elasticsearch-9",
        }
    }

    /// Whether it is one of OpenSearch.
    pub fn is_opensearch(self) -> bool {
        matches!(self, Self::OpenSearch2 | Self::OpenSearch3)
    }
}

/// What a test needs of the servers that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing but a search server: it runs on all of them.
    Nothing,
    /// Data streams, which Elastic's core build does not have.
    DataStreams,
    /// TLS, a user with a password, and bodies of at most 1 MiB: what OpenSearch's core does not have.
    Guard,
}

impl Needs {
    /// The servers that have it, of those that this run is about. One that is not installed is said to be skipped.
    fn installed(self) -> Vec<Kind> {
        let mut kinds = vec![Kind::OpenSearch3, Kind::Elasticsearch9];
        if everything() {
            kinds.extend([Kind::OpenSearch2, Kind::Elasticsearch8]);
        }
        kinds.retain(|kind| match self {
            Self::Nothing => true,
            Self::DataStreams => kind.is_opensearch(),
            Self::Guard => !kind.is_opensearch(),
        });
        kinds.retain(|kind| {
            let folder = installed(kind.name());
            let is_there = folder.is_some_and(|folder| folder.join("jdk/bin/java").is_file());
            if !is_there {
                skipped(&format!("{} is not installed, or the JDK that it runs on", kind.name()));
            }
            is_there
        });
        kinds
    }
}

/// A search server that runs.
pub struct Search {
    kind: Kind,
    guarded: bool,
    server: Server,
    client: Client,
    url: String,
    prefix: String,
    // Last, so that it goes after the server.
    folder: tempfile::TempDir,
}

/// The one that runs, while no test has it.
static RUNNING: Mutex<Option<Search>> = Mutex::const_new(None);

impl Search {
    /// Runs `case` on every server of this run that has what it needs, one after the other, beginning with the one
    /// that runs already. A case finds data of others there: what it writes is under its own [`Search::prefix`].
    pub async fn each(needs: Needs, case: impl AsyncFn(&mut Self)) {
        let mut left = needs.installed();
        while !left.is_empty() {
            let done = Self::run(needs, &left, &case).await;
            left.retain(|kind| *kind != done);
        }
    }

    /// As [`Search::each`], on one of them: for what hangs on a server's being away, and not on which one it is.
    pub async fn any(needs: Needs, case: impl AsyncFn(&mut Self)) {
        let kinds = needs.installed();
        if !kinds.is_empty() {
            Self::run(needs, &kinds, &case).await;
        }
    }

    /// Runs `case` on one of these, and says on which.
    async fn run(needs: Needs, kinds: &[Kind], case: &impl AsyncFn(&mut Self)) -> Kind {
        let guarded = needs == Needs::Guard;
        let mut running = RUNNING.lock().await;
        let fits = |server: &mut Self| {
            server.guarded == guarded && kinds.contains(&server.kind) && server.server.process.runs()
        };
        // One that does not fit is stopped here, before the next is started.
        let fitting = running.take().and_then(|mut server| fits(&mut server).then_some(server));
        let mut server = match fitting {
            Some(server) => server,
            None => Self::start(kinds[0], guarded).await,
        };
        server.begin();
        // One that a failed test leaves behind is in a state that nobody knows: it goes with the panic.
        case(&mut server).await;
        let kind = server.kind;
        *running = Some(server);
        kind
    }

    async fn start(kind: Kind, guarded: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let command = match kind.is_opensearch() {
            true => opensearch(kind, folder.path()),
            false => elasticsearch(kind, guarded, folder.path()),
        };
        let (server, url, prefix) = (Server::start(command), String::new(), String::new());
        let mut search = Self { kind, guarded, server, client: Client::new(), url, prefix, folder };
        search.begin();
        search.until_ready(true).await;
        // How full this machine's disk is is none of the tests' business: above 90 % no index would get a place.
        let setting = json!({ "cluster.routing.allocation.disk.threshold_enabled": false });
        search.put("/_cluster/settings", &json!({ "persistent": setting })).await;
        search
    }

    /// What every case has of its own: a prefix, and connections that do not outlive its runtime.
    fn begin(&mut self) {
        static CASES: AtomicU64 = AtomicU64::new(0);
        self.prefix = format!("case{}", CASES.fetch_add(1, Ordering::Relaxed));
        let mut client = Client::builder().timeout(PATIENCE).no_proxy();
        if let Some(ca) = self.ca() {
            let pem = std::fs::read(ca).unwrap();
            client = client.add_root_certificate(reqwest::Certificate::from_pem(&pem).unwrap());
        }
        self.client = client.build().unwrap();
    }

    /// Waits until it answers and has found its shards. It is where it was, unless this is its first start.
    async fn until_ready(&mut self, first: bool) {
        let deadline = Instant::now() + STARTING;
        loop {
            // The log first: before it says so, whoever answers there is somebody else.
            if let Some(port) = published(&self.server.process.output()) {
                let url = format!("{}://127.0.0.1:{port}", if self.guarded { "https" } else { "http" });
                assert!(first || url == self.url, "it was at {} and is at {url} now", self.url);
                self.url = url;
                let health = "/_cluster/health?wait_for_status=yellow&timeout=1s";
                if self.request(Method::GET, health).send().await.is_ok_and(|answer| answer.status() == 200) {
                    return;
                }
            }
            assert!(self.server.process.runs(), "{} ended", self.kind.name());
            assert!(Instant::now() < deadline, "{} does not become ready", self.kind.name());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it answers: there, too, when it was stopped and started again.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What this case's indices begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Who may enter, and the password, if it is guarded.
    pub fn credentials(&self) -> Option<(&'static str, &'static str)> {
        self.guarded.then_some((USER, PASSWORD))
    }

    /// The certificate of who signed its own, if it is guarded.
    pub fn ca(&self) -> Option<PathBuf> {
        self.guarded.then(|| self.folder.path().join("ca.pem"))
    }

    /// Stops it as an operator does.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.server.process.kill();
    }

    /// Starts it again after [`Search::stop`] or [`Search::kill`]: where it was, with what it had.
    pub async fn start_again(&mut self) {
        self.server.start_again();
        self.until_ready(false).await;
    }
}

/// The port that a server's log says it has.
fn published(log: &str) -> Option<u16> {
    let line =
        log.lines().find(|line| line.contains("HttpServerTransport") && line.contains("publish_address"))?;
    let (_, address) = line.split_once("publish_address {127.0.0.1:")?;
    address.split_once('}')?.0.parse().ok()
}
