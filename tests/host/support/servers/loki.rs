//! Loki, in a run of everything.

use super::{STARTING, Server, everything, installed, left_out};
use crate::support::{Api, free_port, lasting_port, root};
use serde_json::Value;
use std::process::Command;

/// A Loki that runs.
pub struct Loki {
    server: Server,
    api: Api,
    // Last, so that it goes after the server.
    _folder: tempfile::TempDir,
}

impl Loki {
    /// Starts one; `None` if this run has none, which is said.
    pub async fn start() -> Option<Self> {
        let Some(home) = installed("loki").filter(|_| everything()) else {
            left_out("Loki is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let (http, grpc) = (lasting_port(20_000..26_000), free_port());
        let config = std::fs::read_to_string(root().join("tests/servers/loki/loki.yaml")).unwrap();
        let config = config.replace("DIR", folder.path().to_str().unwrap());
        let config = config.replace("HTTP_PORT", &http.to_string()).replace("GRPC_PORT", &grpc.to_string());
        let file = folder.path().join("loki.yaml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(home.join("loki"));
        command.arg(format!("-config.file={}", file.display()));
        let api = Api::new(format!("http://127.0.0.1:{http}"));
        let mut loki = Self { server: Server::start(command), api, _folder: folder };
        loki.server.process.until_answers(&loki.api, "/ready", STARTING).await;
        Some(loki)
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        self.api.url()
    }

    /// The streams that LogQL selects of the last thirty days, as `query_range` gives them: `stream` and `values`.
    pub async fn query(&self, query: &str) -> Option<Vec<Value>> {
        self.query_since("720h", query).await
    }

    /// As [`Loki::query`], of the time since then: Loki looks into every hour of it, one by one.
    pub async fn query_since(&self, since: &str, query: &str) -> Option<Vec<Value>> {
        let pairs = [("query", query), ("since", since), ("limit", "5000")];
        let address = reqwest::Url::parse_with_params("http://x/loki/api/v1/query_range", pairs).unwrap();
        let text = self.api.get(&format!("{}?{}", address.path(), address.query().unwrap())).await?;
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["data"]["result"].as_array().cloned()
    }

    /// Stops it as an operator does.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    /// Starts it again: where it was, with what it had.
    pub async fn start_again(&mut self) {
        self.server.start_again();
        self.server.process.until_answers(&self.api, "/ready", STARTING).await;
    }
}
