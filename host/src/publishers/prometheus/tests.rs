use super::*;
use crate::record::{EventMetrics, Status, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

fn events(name: &str, retries: u32) -> EventBatch {
    let mut event = EventMetrics::started(Uuid::nil(), name, "task-1", Timestamp::from_nanos(5));
    event.end_time = Some(Timestamp::from_nanos(9));
    event.status = Status::Completed;
    event.retry_count = retries;
    EventBatch::detached(vec![event])
}

fn config() -> PrometheusConfig {
    PrometheusConfig { listen: (Ipv4Addr::LOCALHOST, 0).into(), ..PrometheusConfig::default() }
}

fn built(config: PrometheusConfig) -> PrometheusPublisher {
    let mut context = Context::detached("metrics", ".");
    context.host_metrics = Arc::new(|| "# TYPE pressroom_up gauge\npressroom_up 1".to_owned());
    PrometheusPublisher::build(config, context).unwrap()
}

async fn opened(config: PrometheusConfig) -> PrometheusPublisher {
    let mut publisher = built(config);
    publisher.open(None).await.unwrap();
    publisher
}

fn address(publisher: &PrometheusPublisher) -> SocketAddr {
    let status = publisher.status().unwrap()();
    status["listen"].as_str().unwrap().parse().unwrap()
}

async fn exchange(stream: &mut TcpStream, method: &str, path: &str) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    exchange(&mut TcpStream::connect(address).await.unwrap(), method, path).await
}

#[tokio::test]
async fn a_scrape_shows_the_series_and_the_host() {
    let mut publisher = opened(config()).await;
    publisher.publish_event_metrics(&events("resize", 3)).await.unwrap();
    let answer = ask(address(&publisher), "GET", "/metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("event_retries_total{event_name=\"resize\",service=\"\"} 3\n"), "{body}");
    assert!(body.contains("# TYPE event_duration_seconds histogram\n"), "{body}");
    assert!(body.ends_with("pressroom_up 1\n"), "{body}");

    let status = publisher.status().unwrap()();
    assert_eq!(
        (&status["series"], &status["overflowed"], &status["label"]),
        (&2.into(), &0.into(), &"metrics".into())
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let publisher = opened(config()).await;
    let at = address(&publisher);
    let head = ask(at, "HEAD", "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    let post = ask(at, "POST", "/metrics").await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
    for (method, path) in [("GET", "/"), ("POST", "/v1/records"), ("GET", "/metrics/")] {
        assert!(ask(at, method, path).await.starts_with("HTTP/1.1 404 "), "{method} {path}");
    }
    assert!(ask(at, "GET", "/metrics?x=1").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_successor_takes_listener_and_series_over() {
    let mut old = opened(config()).await;
    old.publish_event_metrics(&events("resize", 3)).await.unwrap();
    let at = address(&old);
    // A connection that was there before goes on.
    let mut before = TcpStream::connect(at).await.unwrap();

    let mut new = built(PrometheusConfig { idle_expiry: Some(Duration::from_secs(60)), ..config() });
    new.open(Some(&mut old)).await.unwrap();
    drop(old);
    new.publish_event_metrics(&events("resize", 4)).await.unwrap();
    assert_eq!(address(&new), at);
    let answer = exchange(&mut before, "GET", "/metrics").await;
    assert!(answer.contains("event_retries_total{event_name=\"resize\",service=\"\"} 7\n"), "{answer}");
}

#[tokio::test]
async fn changed_labels_start_anew_behind_the_same_port() {
    let mut old = opened(config()).await;
    old.publish_event_metrics(&events("resize", 3)).await.unwrap();
    let at = address(&old);
    let mut new = built(PrometheusConfig { labels: vec!["region".to_owned()], ..config() });
    new.open(Some(&mut old)).await.unwrap();
    new.publish_event_metrics(&events("resize", 4)).await.unwrap();
    let answer = ask(at, "GET", "/metrics").await;
    let expected = "event_retries_total{event_name=\"resize\",region=\"\",service=\"\"} 4\n";
    assert!(answer.contains(expected), "{answer}");
    assert!(!answer.contains("} 3\n"), "{answer}");
}

#[tokio::test]
async fn the_series_move_to_another_port() {
    let mut old = opened(config()).await;
    old.publish_event_metrics(&events("resize", 3)).await.unwrap();
    let (free, before) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), address(&old));
    let listen = free.local_addr().unwrap();
    drop(free);
    let mut new = built(PrometheusConfig { listen, ..config() });
    new.open(Some(&mut old)).await.unwrap();
    drop(old);
    assert_ne!(before, listen);
    assert!(ask(listen, "GET", "/metrics").await.contains("service=\"\"} 3\n"));
}

#[tokio::test]
async fn the_same_port_can_move_to_another_address() {
    let mut old = opened(config()).await;
    let port = address(&old).port();
    let mut new = built(PrometheusConfig {
        listen: (Ipv4Addr::UNSPECIFIED, port).into(),
        allow_without_token: true,
        ..PrometheusConfig::default()
    });
    new.open(Some(&mut old)).await.unwrap();
    assert_eq!(address(&new), (Ipv4Addr::UNSPECIFIED, port).into());
    let answer = ask((Ipv4Addr::LOCALHOST, port).into(), "GET", "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_port_in_use_is_named_and_the_predecessor_goes_on() {
    let mut old = opened(config()).await;
    let at = address(&old);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let mut new = built(PrometheusConfig { listen, ..config() });
    let error = format!("{:#}", new.open(Some(&mut old)).await.unwrap_err());
    assert!(
        error.starts_with(&format!(
            "cannot listen on {listen}: end what listens there, or change `listen` of [publishers.metrics]: "
        )),
        "{error}"
    );
    old.publish_event_metrics(&events("resize", 3)).await.unwrap();
    assert!(ask(at, "GET", "/metrics").await.contains("service=\"\"} 3\n"));
}

#[tokio::test]
async fn dropping_it_frees_the_port() {
    let publisher = opened(config()).await;
    let at = address(&publisher);
    drop(publisher);
    // The socket closes when its task runs next; the successor's attempts wait for that.
    let again = opened(PrometheusConfig { listen: at, ..PrometheusConfig::default() }).await;
    assert_eq!(address(&again), at);
}

#[tokio::test]
async fn connections_that_say_nothing_leave_their_places_to_scrapes() {
    let publisher = opened(config()).await;
    let at = address(&publisher);
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        // Half a header is as good as none.
        stream.write_all(b"GET /metrics HT").await.unwrap();
        silent.push(stream);
    }
    assert!(ask(at, "GET", "/metrics").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn pipelined_scrapes_that_are_not_read_leave_the_port_open() {
    let mut context = Context::detached("metrics", ".");
    context.host_metrics = Arc::new(|| "pressroom_up 1\n".repeat(300_000));
    let mut publisher = PrometheusPublisher::build(config(), context).unwrap();
    publisher.open(None).await.unwrap();
    let at = address(&publisher);
    let mut unread = Vec::new();
    for _ in 0..70 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        // It may be closed in the middle, for another one.
        let _ = stream.write_all(&b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(64)).await;
        unread.push(stream);
    }
    let answer = ask(at, "GET", "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{:.200}", answer);
    assert!(answer.ends_with("pressroom_up 1\n"));
}

#[tokio::test]
async fn a_scrape_needs_the_token_and_a_host_that_is_meant() {
    let token = Some(crate::config::Secret::new("s3cret-token"));
    let publisher = opened(PrometheusConfig { token, hosts: vec!["pressroom".to_owned()], ..config() }).await;
    let at = address(&publisher);
    for (headers, status) in [
        ("Host: localhost\r\nAuthorization: Bearer s3cret-token", 200),
        ("Host: pressroom:9464\r\nAuthorization: Bearer s3cret-token", 200),
        ("Host: localhost", 401),
        ("Host: localhost\r\nAuthorization: Bearer s3cret-tokens", 401),
        ("Host: evil.example\r\nAuthorization: Bearer s3cret-token", 403),
        ("Host: localhost\r\nOrigin: http://evil.example\r\nAuthorization: Bearer s3cret-token", 403),
    ] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nConnection: close\r\n{headers}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
        if status == 403 && !headers.contains("Origin") {
            assert!(answer.contains("add it to publishers.metrics.hosts"), "{answer}");
        }
    }
    let refused = publisher.status().unwrap()()["refused"].clone();
    assert_eq!(refused, serde_json::json!({ "head": 0, "host": 1, "origin": 1, "token": 2 }));
}

#[tokio::test]
async fn a_scrape_is_compressed_if_it_may_be() {
    let mut context = Context::detached("metrics", ".");
    context.host_metrics = Arc::new(|| "pressroom_up 1\n".repeat(1_000));
    let mut publisher = PrometheusPublisher::build(config(), context).unwrap();
    publisher.open(None).await.unwrap();
    let mut stream = TcpStream::connect(address(&publisher)).await.unwrap();
    let request =
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    assert!(String::from_utf8_lossy(&answer[..head]).contains("content-encoding: gzip"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&answer[head..]), &mut text).unwrap();
    assert!(text.ends_with("pressroom_up 1\n"));
}

#[test]
fn a_listener_that_strangers_reach_is_refused_without_a_token() {
    let keys = |text: &str| -> Vec<String> {
        let config: PrometheusConfig = toml::from_str(text).unwrap();
        let found = PrometheusPublisher::validate(&config);
        let built = PrometheusPublisher::build(config, Context::detached("metrics", "."));
        assert_eq!(built.is_err(), !found.is_empty(), "{text}: validation and build agree");
        found.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys("listen = '0.0.0.0:0'"), ["listen"]);
    assert_eq!(keys("listen = '[::]:0'"), ["listen"]);
    assert_eq!(keys("listen = '0.0.0.0:0'\nallow_without_token = true"), [""; 0]);
    assert_eq!(keys("listen = '0.0.0.0:0'\ntoken = 's3cret-token'"), [""; 0]);
    assert_eq!(keys("listen = '[::ffff:127.0.0.1]:0'"), [""; 0]);
    assert_eq!(keys("token = 'x'"), ["token"]);
    assert_eq!(keys("hosts = ['http://a']"), ["hosts"]);
}

#[test]
fn settings_are_strict_and_have_defaults() {
    let config: PrometheusConfig = toml::from_str("").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9464");
    assert_eq!((config.max_series, config.idle_expiry), (2_000, None));
    assert!(PrometheusPublisher::validate(&config).is_empty());

    let config: PrometheusConfig = toml::from_str(
        "listen = \"[::1]:0\"\nlabels = [\"region\"]\nbuckets = [1, 2.5]\nidle_expiry = \"1h\"",
    )
    .unwrap();
    assert_eq!(config.idle_expiry, Some(Duration::from_secs(3_600)));
    assert!(PrometheusPublisher::validate(&config).is_empty());

    let config: PrometheusConfig = toml::from_str("buckets = []\nidle_expiry = \"0s\"").unwrap();
    let keys: Vec<_> = PrometheusPublisher::validate(&config).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["buckets", "idle_expiry"]);
    for wrong in ["port = 1", "listen = \"9464\"", "idle_expiry = \"soon\""] {
        assert!(toml::from_str::<PrometheusConfig>(wrong).is_err(), "{wrong}");
    }
}
