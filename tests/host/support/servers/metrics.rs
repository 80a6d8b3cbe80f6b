//! Prometheus and VictoriaMetrics, and PromQL over what they have.

use super::Server;
use crate::support::{Api, PATIENCE, lasting_port, path_of, skipped, until_or};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// Who may write to a receiving Prometheus.
const LOGIN: (&str, &str) = ("4711", "a-password-of-the-tests");

/// The same, as Prometheus wants it: bcrypt, of the least cost.
const LOGIN_BCRYPT: &str =
    "basic_auth_users: { \"4711\": \"$2b$04$mMqcDMwzh6QiEJZpF6jCJuYvJy34TvT/Ewi9JS0Hiup2w/IZM8hi2\" }\n";

/// A server of metrics that runs.
pub struct Metrics {
    server: Server,
    ready: &'static str,
    /// Its answers.
    pub promql: Promql,
    // Last, so that it goes after the server.
    folder: tempfile::TempDir,
}

impl Metrics {
    /// Prometheus with this configuration; `None` if it is not installed, which is said.
    pub async fn prometheus(config: &str) -> Option<Self> {
        Self::start_prometheus(config, None, false).await
    }

    /// Prometheus as a receiver of remote writes, which lets in nobody but [`Metrics::login`].
    pub async fn receiver() -> Option<Self> {
        Self::start_prometheus("", Some(LOGIN), false).await
    }

    /// As [`Metrics::receiver`], over TLS with an authority of the test's own.
    pub async fn receiver_over_tls() -> Option<Self> {
        Self::start_prometheus("", Some(LOGIN), true).await
    }

    async fn start_prometheus(
        config: &str,
        login: Option<(&'static str, &'static str)>,
        tls: bool,
    ) -> Option<Self> {
        let Some(prometheus) = path_of("prometheus") else {
            skipped("Prometheus is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(prometheus);
        let file = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        command.arg(format!("--config.file={}", file("prometheus.yml", config).display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()));
        if login.is_some() {
            let mut web = LOGIN_BCRYPT.to_owned();
            if tls {
                super::tls::certificates(folder.path());
                web.push_str("tls_server_config: { cert_file: node.pem, key_file: node.key }\n");
            }
            command.arg("--web.enable-remote-write-receiver");
            command.arg(format!("--web.config.file={}", file("web.yml", &web).display()));
        }
        let port = lasting_port(20_000..26_000);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut api = Api::new(format!("http://127.0.0.1:{port}")).logged_in(login);
        if tls {
            let ca = folder.path().join("ca.pem");
            api = Api::new(format!("https://127.0.0.1:{port}")).logged_in(login).trusting(&ca);
        }
        Some(Self::start(command, api, "/-/ready", folder).await)
    }

    /// VictoriaMetrics; `None` if it is not installed, which is said.
    pub async fn victoria() -> Option<Self> {
        let Some(victoria) = path_of("victoria-metrics") else {
            skipped("VictoriaMetrics is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = lasting_port(20_000..26_000);
        let mut command = Command::new(victoria);
        command.arg(format!("-httpListenAddr=127.0.0.1:{port}")).arg("-retentionPeriod=1d");
        command.arg(format!("-storageDataPath={}", folder.path().join("data").display()));
        // What was written a moment ago is found, too.
        command.arg("-search.latencyOffset=0s");
        let api = Api::new(format!("http://127.0.0.1:{port}"));
        Some(Self::start(command, api, "/health", folder).await)
    }

    async fn start(mut command: Command, api: Api, ready: &'static str, folder: tempfile::TempDir) -> Self {
        command.current_dir(folder.path());
        let promql = Promql { api };
        let mut metrics = Self { server: Server::start(command), ready, promql, folder };
        metrics.until_ready().await;
        metrics
    }

    async fn until_ready(&mut self) {
        self.server.process.until_ready(&self.promql.api, self.ready).await;
    }

    /// Where it takes remote writes.
    pub fn write_url(&self) -> String {
        format!("{}/api/v1/write", self.promql.api.url())
    }

    /// The certificate of its authority, where it talks over TLS.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The user and the password that it wants, if it wants any.
    pub fn login(&self) -> Option<(&'static str, &'static str)> {
        self.promql.api.login
    }

    /// What it has written to its log until now.
    pub fn log(&self) -> String {
        self.server.process.output()
    }

    /// Stops it as an operator does.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.server.process.kill();
    }

    /// Starts it again: where it was, with what it had.
    pub async fn start_again(&mut self) {
        self.server.start_again();
        self.until_ready().await;
    }
}

/// Someone who asks in PromQL.
pub struct Promql {
    api: Api,
}

impl Promql {
    /// The server's other answers.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// What PromQL gives now, by the value of `label`.
    pub async fn query(&self, query: &str, label: &str) -> Option<BTreeMap<String, f64>> {
        let address = reqwest::Url::parse_with_params("http://x/api/v1/query", [("query", query)]).unwrap();
        let text = self.api.get(&format!("{}?{}", address.path(), address.query().unwrap())).await?;
        let answer: Value = serde_json::from_str(&text).unwrap();
        let series = answer["data"]["result"].as_array()?.iter();
        let value = |series: &Value| series["value"][1].as_str().unwrap().parse().unwrap();
        let key = |series: &Value| series["metric"][label].as_str().unwrap_or_default().to_owned();
        Some(series.map(|series| (key(series), value(series))).collect())
    }

    /// Waits until PromQL gives this.
    pub async fn until(&self, query: &str, label: &str, wanted: &BTreeMap<String, f64>) {
        let last = Mutex::new(None);
        let look = || async {
            let found = self.query(query, label).await;
            let there = (found.as_ref() == Some(wanted)).then_some(());
            *last.lock().unwrap() = found;
            there
        };
        until_or(&format!("{query} is {wanted:?}"), PATIENCE, look, || format!("{:?}", last.lock().unwrap()))
            .await;
    }
}
