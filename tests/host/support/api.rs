//! Someone who talks to a host over HTTP.

use super::{PATIENCE, until_progress_ends};
use serde_json::{Value, json};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// A client of one host.
#[derive(Clone)]
pub struct Api {
    url: String,
    client: reqwest::Client,
    /// The user and the password that it goes with, if any.
    pub login: Option<(&'static str, &'static str)>,
}

/// The id of the event `number`: the same in every test.
pub fn id(number: u64) -> uuid::Uuid {
    uuid::Uuid::from_u128(0x01a2_081d_8d9a_7000_8000_0000_0000_0000 | u128::from(number))
}

/// An event with a number, as it is posted.
pub fn event(number: u64) -> Value {
    json!({
        "type": "event",
        "id": id(number),
        "event_name": "step",
        "task_id": format!("task-{number}"),
        "start_time": "2026-11-23T11:14:44.25Z",
        "end_time": "2026-11-23T11:14:44.75Z",
        "status": "completed",
    })
}

/// Events with these numbers, as a list.
pub fn events(numbers: Range<u64>) -> Value {
    numbers.map(event).collect()
}

impl Api {
    /// Of the host that answers at `url`.
    pub fn new(url: String) -> Self {
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { url, client, login: None }
    }

    /// Trusting nobody but the authority of this certificate.
    pub fn trusting(mut self, ca: &Path) -> Self {
        let ca = reqwest::Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap();
        let client = reqwest::Client::builder().timeout(PATIENCE);
        self.client = client.tls_built_in_root_certs(false).add_root_certificate(ca).build().unwrap();
        self
    }

    /// With a user and a password.
    pub fn logged_in(mut self, login: Option<(&'static str, &'static str)>) -> Self {
        self.login = login;
        self
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `GET path`, as text; `None` if nobody answers, or anything but 200.
    pub async fn get(&self, path: &str) -> Option<String> {
        let request = self.client.get(format!("{}{path}", self.url));
        let request = match self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        let answer = request.send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        answer.text().await.ok()
    }

    /// Sends records and gives the answer.
    pub async fn send(&self, records: &Value) -> reqwest::Result<reqwest::Response> {
        self.client.post(format!("{}/v1/records", self.url)).json(records).send().await
    }

    /// Posts records, all of which must be accepted.
    pub async fn post(&self, records: &Value) {
        let answer = self.send(records).await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["accepted"], records.as_array().unwrap().len(), "{answer}");
    }

    /// Answers a question.
    pub async fn report(&self, question: &str) -> Value {
        let text = self.get(&format!("/v1/report/{question}")).await.expect(question);
        serde_json::from_str(&text).unwrap()
    }

    /// The status of one publisher, whose books must close; `null` if there is none of that label.
    pub async fn publisher(&self, label: &str) -> Value {
        let found = self.publishers().await.into_iter().find(|status| status["label"] == label);
        found.unwrap_or(Value::Null)
    }

    /// The status of every publisher, whose books must close.
    pub async fn publishers(&self) -> Vec<Value> {
        let Value::Array(all) = self.report("publishers").await else { panic!("a list") };
        all.iter().for_each(assert_balanced);
        all
    }

    /// Waits until a publisher is as `wanted`, and gives its status.
    pub async fn until(&self, label: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_within(PATIENCE, label, what, wanted).await
    }

    /// As [`Api::until`], with another patience. A change of its books counts as progress.
    pub async fn until_within(
        &self,
        patience: Duration,
        label: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let last = std::sync::Mutex::new(Value::Null);
        let look = || async {
            let status = self.publisher(label).await;
            *last.lock().unwrap() = status.clone();
            wanted(&status).then_some(status)
        };
        let books = || last.lock().unwrap()["books"].to_string();
        let more = || format!("{:#}", last.lock().unwrap());
        until_progress_ends(&format!("`{label}` {what}"), patience, look, books, more).await
    }

    /// Waits until a publisher has delivered so many.
    pub async fn until_delivered(&self, label: &str, count: u64) -> Value {
        self.until(label, &format!("has delivered {count}"), |status| status["books"]["delivered"] == count)
            .await
    }

    /// Waits until a publisher runs.
    pub async fn until_running(&self, label: &str) -> Value {
        self.until(label, "runs", |status| status["state"] == "running").await
    }
}

fn assert_balanced(status: &Value) {
    let books = &status["books"];
    let count = |value: &Value| value.as_u64().unwrap();
    let dropped: u64 = books["dropped"].as_object().unwrap().values().map(count).sum();
    let sum = count(&books["filtered"])
        + count(&books["delivered"])
        + count(&books["dead_lettered"])
        + count(&books["backlog"])
        + dropped;
    assert_eq!(count(&books["accepted"]), sum, "the books do not close: {status:#}");
}
