//! What the tests ask of a search server.

use super::Search;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl Search {
    /// A request to it, with credentials if it wants some.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match self.credentials() {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    /// Its answer, whatever it is.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let request = self.request(method, path);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Its answer, which must be a good one.
    async fn asked(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.send(method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer:#}");
        answer
    }

    /// What lies at `path`.
    pub async fn get(&self, path: &str) -> Value {
        self.asked(Method::GET, path, None).await
    }

    /// Puts something at `path`.
    pub async fn put(&self, path: &str, body: &Value) -> Value {
        self.asked(Method::PUT, path, Some(body)).await
    }

    /// Changes the settings of indices, e.g. `{"index.blocks.read_only_allow_delete": true}`.
    pub async fn put_settings(&self, indices: &str, settings: &Value) {
        self.put(&format!("/{indices}/_settings"), settings).await;
    }

    /// Lets searches find all that was written.
    pub async fn refresh(&self, indices: &str) {
        self.asked(Method::POST, &format!("/{indices}/_refresh"), None).await;
    }

    /// How many documents the indices hold. Those that are not there hold none.
    pub async fn count(&self, indices: &str) -> u64 {
        self.refresh(indices).await;
        let counted = self.get(&format!("/{indices}/_count")).await;
        counted["count"].as_u64().unwrap()
    }

    /// What a search gives.
    pub async fn search(&self, indices: &str, body: &Value) -> Value {
        self.refresh(indices).await;
        self.asked(Method::POST, &format!("/{indices}/_search"), Some(body)).await
    }

    /// How often each id stands in the indices, all of them together.
    pub async fn ids(&self, indices: &str) -> BTreeMap<String, usize> {
        self.count_by(indices, &json!(false), |hit| &hit["_id"]).await
    }

    /// How often each value of an attribute, a text, stands in the indices.
    pub async fn attributes(&self, indices: &str, name: &str) -> BTreeMap<String, usize> {
        let source = json!([format!("attributes.{name}")]);
        self.count_by(indices, &source, |hit| &hit["_source"]["attributes"][name]).await
    }

    async fn count_by(
        &self,
        indices: &str,
        source: &Value,
        text: impl Fn(&Value) -> &Value,
    ) -> BTreeMap<String, usize> {
        self.refresh(indices).await;
        let mut counts = BTreeMap::new();
        let first = format!("/{indices}/_search?scroll=5m");
        let all = json!({ "size": 10_000, "sort": ["_doc"], "_source": source });
        let mut page = self.asked(Method::POST, &first, Some(&all)).await;
        loop {
            let hits = page["hits"]["hits"].as_array().unwrap();
            if hits.is_empty() {
                break;
            }
            for hit in hits {
                let text = text(hit).as_str().unwrap_or_else(|| panic!("{hit:#}"));
                *counts.entry(text.to_owned()).or_default() += 1;
            }
            let next = json!({ "scroll": "5m", "scroll_id": page["_scroll_id"] });
            page = self.asked(Method::POST, "/_search/scroll", Some(&next)).await;
        }
        let end = json!({ "scroll_id": page["_scroll_id"] });
        self.asked(Method::DELETE, "/_search/scroll", Some(&end)).await;
        counts
    }
}
