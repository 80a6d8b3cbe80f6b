//! Settings that cannot be meant.

use super::super::{ElasticsearchConfig, ElasticsearchPublisher};
use crate::publisher::{Context, PublisherType};

fn problems(text: &str) -> Vec<(String, String)> {
    let config: ElasticsearchConfig = toml::from_str(text).unwrap();
    ElasticsearchPublisher::validate(&config)
}

/// One problem with this key, and its message has this in it.
fn one(text: &str, key: &str, message: &str) {
    let found = problems(text);
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    assert!(found[0].0 == key && found[0].1.contains(message), "{text}: {found:?}");
}

const HOST: &str = "hosts = ['https://localhost:9200']";

#[test]
fn somewhere_to_publish_to_is_named_once_and_well() {
    assert_eq!(problems(HOST), []);
    assert_eq!(problems("hosts = ['http://[::1]:9200', 'https://es.example.com/behind/a/proxy']"), []);
    one("", "hosts", "is missing");
    one("cloud_id = 'no colon'", "cloud_id", "cannot be read");
    one("cloud_id = 'name:%%%'", "cloud_id", "cannot be read");
    one(&format!("{HOST}\ncloud_id = 'name:bG9jYWxob3N0JHV1aWQ='"), "cloud_id", "beside hosts");
    for host in ["localhost:9200", "ftp://localhost", "http://", "", "//x"] {
        let found = problems(&format!("hosts = ['{host}']"));
        assert!(found.len() == 1 && found[0].0 == "hosts.0", "{host}: {found:?}");
    }
    one("hosts = ['http://a:9200', 'http://a:9200/']", "hosts.1", "already");
    one("hosts = ['http://a:9200/?pretty']", "hosts.0", "no ?");
    let found = problems("hosts = ['http://elastic:sesame@a:9200']");
    assert!(
        found[0].1.contains("username and password") && !format!("{found:?}").contains("sesame"),
        "{found:?}"
    );
}

#[test]
fn one_way_to_say_who_one_is_is_enough() {
    let with = |more: &str| format!("{HOST}\n{more}");
    one(&with("username = 'a'"), "password", "go together");
    one(&with("password = 'a'"), "username", "go together");
    one(&with("api_key_id = 'a'"), "api_key", "go together");
    one(&with("api_key = 'id:key'"), "api_key", "api_key_id");
    one(&with("api_key = \"a\\nb\""), "api_key", "printable");
    one(&with("bearer_token = ''"), "bearer_token", "not empty");
    one(&with("username = 'a:b'\npassword = 'c'"), "username", "colon");
    one(&with("username = 'a'\npassword = 'b'\napi_key = 'c'"), "api_key", "given beside username");
    one(&with("api_key = 'c'\nbearer_token = 'd'"), "bearer_token", "given beside api_key");
}

#[test]
fn names_are_such_as_servers_take() {
    let prefix = |name: &str| format!("{HOST}\nindex_prefix = \"{name}\"");
    let stream = |name: &str| format!("{HOST}\ndata_stream = true\nnamespace = \"{name}\"");
    for name in ["a", "press-room_2.0", "été", &"a".repeat(236)] {
        assert_eq!(problems(&prefix(name)), [], "{name}");
    }
    for name in [
        "",
        "A",
        "É",
        "-a",
        "_a",
        "+a",
        ".a",
        "a b",
        "a,b",
        "a#b",
        "a:b",
        "a/b",
        "a\\\\b",
        "a*",
        "a?",
        "a\\\"b",
        "a<",
        "a|",
        &"a".repeat(237),
    ] {
        let found = problems(&prefix(name));
        assert!(found.len() == 1 && found[0].0 == "index_prefix", "{name}: {found:?}");
    }
    assert_eq!(problems(&stream("shop.eu")), []);
    one(&stream("shop-eu"), "namespace", "'-'");
    one(&stream(&"a".repeat(91)), "namespace", "longer than");
    one(&format!("{HOST}\ndata_stream = true\nindex_prefix = 'a'"), "index_prefix", "use namespace");
    one(&format!("{HOST}\nnamespace = 'a'"), "namespace", "data_stream = true");
    one(&format!("{HOST}\ndata_stream = true\nlate = 'today'"), "late", "every day");
    assert_eq!(problems(&format!("{HOST}\nlate = 'dead_letter'")), []);
}

#[test]
fn what_does_nothing_or_cannot_work_is_told_all_at_once() {
    one("hosts = ['http://a']\nca_file = 'ca.pem'", "ca_file", "every host is http://");
    one(&format!("{HOST}\nlifecycle = ''"), "lifecycle", "empty");
    one(&format!("{HOST}\nlifecycle = 'a'\ninstall_template = false"), "lifecycle", "belongs into yours");
    one(&format!("{HOST}\nbulk_bytes = '1KiB'"), "bulk_bytes", "from 64KiB");
    one(&format!("{HOST}\nin_flight = 0"), "in_flight", "from 1");
    let all = problems("index_prefix = 'A'\nin_flight = 0\nbulk_bytes = 0\nusername = 'a'\nnamespace = 'b'");
    let keys: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["hosts", "password", "namespace", "index_prefix", "bulk_bytes", "in_flight"]);
    assert!(toml::from_str::<ElasticsearchConfig>("hostz = []").is_err());
}

/// Whoever builds one without asking first is told as well.
#[test]
fn wrong_settings_do_not_build() {
    let config: ElasticsearchConfig = toml::from_str("hosts = ['x']").unwrap();
    let error =
        ElasticsearchPublisher::build(config, Context::detached("search", "")).map(|_| ()).unwrap_err();
    assert!(format!("{error:#}").contains("[publishers.search]"), "{error:#}");
}
