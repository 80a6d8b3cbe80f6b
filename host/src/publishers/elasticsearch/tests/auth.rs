//! Credentials and authorities.

use super::super::wire::Trust;
use super::super::{ElasticsearchConfig, ElasticsearchPublisher};
use super::script::{Reply, Script};
use super::{config, events, on_bulk, publisher, publisher_to, status};
use crate::publisher::{Context, Publisher, PublisherType};
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;

async fn header(more: &str) -> Option<String> {
    let server = Script::start(|_, _| None);
    let mut publisher = publisher_to(&server, more);
    assert_eq!(publisher.publish_event_metrics(&events(1)).await, Ok(vec![]));
    let mut headers: Vec<Option<String>> = server
        .look(|kept| kept.asked.iter().map(|asked| asked.headers.get("authorization").cloned()).collect());
    headers.dedup();
    assert_eq!(headers.len(), 1, "every request says the same");
    headers.pop().unwrap()
}

#[tokio::test]
async fn each_way_to_say_who_one_is_is_a_header() {
    assert_eq!(header("").await, None);
    let basic = header("username = 'elastic'\npassword = 'pä:ss'").await;
    assert_eq!(basic.as_deref(), Some("Basic ZWxhc3RpYzpww6Q6c3M="));
    let key = header("api_key_id = 'VuaCfGcBCdbkQm'\napi_key = 'ui2lp2axTNmsyakw9tvNnw'").await;
    assert_eq!(key.as_deref(), Some("ApiKey VnVhQ2ZHY0JDZGJrUW06dWkybHAyYXhUTm1zeWFrdzl0dk5udw=="));
    assert_eq!(header("api_key = 'VnVhQ2ZH'").await.as_deref(), Some("ApiKey VnVhQ2ZH"));
    assert_eq!(header("bearer_token = 'eyJ.abc.def'").await.as_deref(), Some("Bearer eyJ.abc.def"));
}

#[tokio::test]
async fn a_secret_is_not_told_even_if_the_server_does() {
    let server = Script::start(on_bulk(|_, _| {
        Some(Reply::error(401, "security_exception", "wrong password correct-horse for elastic"))
    }));
    let mut publisher = publisher_to(&server, "username = 'elastic'\npassword = 'correct-horse'");
    let error = publisher.publish_event_metrics(&events(1)).await.unwrap_err().to_string();
    assert!(error.contains("wrong password [redacted] for elastic"), "{error}");
    let config = config(&[server.url()], "username = 'elastic'\npassword = 'correct-horse'");
    assert!(!format!("{config:?}{}", status(&publisher)).contains("correct-horse"));
}

/// Nobody here has a deployment in Elastic's cloud: what can be seen is whom the publisher wants to talk to.
#[tokio::test]
async fn a_cloud_id_names_the_deployment_that_is_asked() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    use base64::Engine as _;
    let encoded = base64::prelude::BASE64_STANDARD
        .encode(format!("eu-west-1.example.com:{port}$deployment-7$kibana-7"));
    let config: ElasticsearchConfig =
        toml::from_str(&format!("cloud_id = 'prod:{encoded}'\napi_key = 'VnVhQ2ZH'")).unwrap();
    assert_eq!(ElasticsearchPublisher::validate(&config), []);
    let name = "deployment-7.eu-west-1.example.com";
    assert_eq!(config.urls().unwrap()[0].as_str(), format!("https://{name}:{port}/"));

    // The name is looked up here and nowhere else; the rest is the publisher's own.
    let mut publisher = ElasticsearchPublisher::build(config, Context::detached("search", "")).unwrap();
    let resolved = Trust(None).builder().unwrap().resolve(name, SocketAddr::from(([127, 0, 0, 1], port)));
    publisher.wire = {
        let mut wire = std::sync::Arc::into_inner(publisher.wire).unwrap();
        wire.set_client(resolved.build().unwrap());
        std::sync::Arc::new(wire)
    };
    let asked = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = Vec::new();
        while !hello.windows(name.len()).any(|bytes| bytes == name.as_bytes()) {
            assert_ne!(stream.read_buf(&mut hello).await.unwrap(), 0, "it said: {hello:?}");
        }
        hello
    };
    let rows = events(1);
    let (hello, answer) = tokio::join!(asked, publisher.publish_event_metrics(&rows));
    assert_eq!(hello[0], 22, "a TLS handshake");
    assert!(answer.is_err());
}

#[test]
fn a_file_without_certificates_is_refused_when_the_publisher_is_built() {
    let dir = tempfile::tempdir().unwrap();
    let build = |ca: &str| {
        let config = config(&["https://localhost:9200".to_owned()], &format!("ca_file = '{ca}'"));
        ElasticsearchPublisher::build(config, Context::detached("search", dir.path()))
            .map(|_| ())
            .map_err(|error| format!("{error:#}"))
    };
    let broken = "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n";
    for (name, text) in
        [("empty.pem", ""), ("key.pem", "-----BEGIN PRIVATE KEY-----\nAA==\n"), ("broken.pem", broken)]
    {
        std::fs::write(dir.path().join(name), text).unwrap();
        let error = build(name).unwrap_err();
        assert!(error.contains("ca_file") && error.contains(name), "{error}");
    }
    let error = build("nowhere.pem").unwrap_err();
    assert!(error.contains("cannot read") && error.contains("nowhere.pem"), "{error}");
}

#[test]
fn a_server_is_not_asked_for_before_the_publisher_is_opened() {
    publisher(&["http://127.0.0.1:1".to_owned()], "");
}
