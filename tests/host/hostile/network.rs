//! It speaks HTTP, or the server that it speaks to misbehaves, or both.

use super::case::{Case, guest};
use super::driver::SECRET;
use super::evil;
use crate::support::Folder;

/// What it is granted: all of one server, and nothing else.
fn granted() -> String {
    format!("http = [\"* {}\"]", evil::url("/*"))
}

/// Asks for `path` of the server as a client does, and logs the answer.
fn asks(name: &'static str, path: &str) -> Case {
    asks_for(name, &evil::url(path)).grant(&granted())
}

fn asks_for(name: &'static str, url: &str) -> Case {
    guest(name).config(&format!("do = \"http-try\", method = \"GET\", bytes = 0, url = \"{url}\""))
}

/// Does what `requests.rs` of the guest says, with `path` of the server.
fn does(name: &'static str, what: &str, path: &str) -> Case {
    guest(name).config(&format!("do = \"requests-{what}\", url = \"{}\"", evil::url(path))).grant(&granted())
}

/// Asks for a path that some server would read as one beside what is granted.
fn strays(name: &'static str, path: &str) -> Case {
    asks(name, path)
        .grant(&format!("http = [\"* {}\"]", evil::url("/granted/*")))
        .delivers(&["http-try: denied"])
}

/// The same with a credential, which the host adds.
fn with_credential(case: Case) -> Case {
    let to = evil::url("/");
    let inject = format!("inject = [{{ to = \"{to}\", bearer = \"${{file:secret.txt}}\" }}]");
    case.grant(&format!("{}, {inject}", granted()))
}

/// The name of this machine leads to a private address, if it leads anywhere.
fn own_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_lowercase()
}

pub fn before(folder: &Folder) {
    std::fs::write(folder.path("secret.txt"), SECRET).unwrap();
}

pub fn cases() -> Vec<Case> {
    let (port, own) = (evil::port(), own_name());
    let denied = |name, host: &str| {
        asks_for(name, &format!("http://{host}:{port}/ok")).grant(&granted()).delivers(&["http-try: denied"])
    };
    let tries: &[&str] = &["http-try: denied"];
    vec![
        asks("answer-endless", "/endless-body").limits(SMALL_BODY).delivers(tries),
        asks("answer-of-headers-without-end", "/endless-headers").delivers(tries),
        asks("answer-of-one-line-without-end", "/endless-line").delivers(tries),
        asks("answer-of-hints-without-end", "/endless-hints")
            .limits(SHORT)
            .falters("ran past its call timeout of 500ms"),
        asks("answer-of-trailers-without-end", "/endless-trailers").delivers(&[]),
        asks("answer-with-many-headers", "/many-headers").delivers(&["http-try: got 200"]),
        asks("answer-with-a-huge-header", "/huge-header").delivers(tries),
        asks("answer-of-slow-headers", "/slow-headers")
            .limits(SHORT)
            .falters("ran past its call timeout of 500ms"),
        asks("answer-of-a-slow-body", "/slow-body")
            .limits(SHORT)
            .falters("ran past its call timeout of 500ms"),
        asks("answer-that-never-comes", "/never").limits(SHORT).falters("ran past its call timeout of 500ms"),
        asks("answer-of-garbage", "/garbage").delivers(tries),
        asks("answer-that-is-none", "/closes").delivers(tries),
        asks("answer-cut-short", "/too-short").delivers(tries),
        asks("answer-of-two-lengths", "/two-lengths").delivers(tries),
        asks("answer-of-a-huge-chunk", "/huge-chunk").delivers(tries),
        asks("answer-of-negative-length", "/negative-length").delivers(tries),
        asks("answer-in-another-protocol", "/switches").delivers(&["http-try: "]),
        asks_for("http-not-granted", &evil::url("/ok")).delivers(tries),
        does("redirect-to-private", "follow", "/redirect").delivers(&["requests-follow: denied"]),
        does("redirect-to-metadata", "follow", "/redirect-to-metadata")
            .delivers(&["requests-follow: denied"]),
        does("redirect-to-a-file", "follow", "/redirect-to-a-file").delivers(&["requests-follow: denied"]),
        does("redirect-with-a-user", "follow", "/redirect-with-a-user")
            .delivers(&["requests-follow: denied"]),
        does("redirect-to-itself", "follow", "/redirect-to-itself")
            .delivers(&["requests-follow: it goes on and on"]),
        strays("path-with-an-encoded-parameter", "/granted/..%3b/ok"),
        strays("path-with-a-parameter", "/granted/..;/ok"),
        strays("path-of-over-long-dots", "/granted/%e0%80%ae%e0%80%ae/ok"),
        strays("path-of-an-over-long-slash", "/granted/..%c0%afok"),
        strays("path-in-utf-16", "/granted/%u002e%u002e/ok"),
        strays("path-encoded-twice", "/granted/%252e%252e/ok"),
        strays("path-encoded-twice-in-utf-16", "/granted/%25u002e%25u002e/ok"),
        strays("path-of-wide-dots", "/granted/%ef%bc%8e%ef%bc%8e/ok"),
        strays("path-of-dots-and-a-space", "/granted/..%20/ok"),
        strays("path-with-a-zero", "/granted/..%00/ok"),
        strays("path-with-an-encoded-query", "/granted/..%3f/ok"),
        // A name is granted, and leads to where nobody may go.
        asks_for("name-of-this-machine", &format!("http://{own}:{port}/ok"))
            .grant(&format!("http = [\"* http://{own}:{port}/*\"]"))
            .delivers(tries),
        denied("name-of-loopback", "localhost"),
        denied("address-mapped", "[::ffff:127.0.0.1]"),
        denied("address-mapped-in-hex", "[::ffff:7f00:1]"),
        denied("address-translated", "[64:ff9b::7f00:1]"),
        denied("address-of-version-6", "[::1]"),
        denied("address-decimal", "2130706433"),
        denied("address-hexadecimal", "0x7f000001"),
        denied("address-octal", "0177.0.0.1"),
        denied("address-short", "127.1"),
        denied("address-of-nobody", "0.0.0.0"),
        denied("address-beside", "127.0.0.2"),
        denied("address-in-wide-digits", "１２７.0.0.1"),
        denied("address-with-a-dot", "127.0.0.1."),
        asks_for("address-of-metadata", "http://169.254.169.254/latest/meta-data/")
            .grant(&granted())
            .delivers(tries),
        does("requests-kept", "kept", "/never").falters("limits.connections = 16 are under way"),
        does("requests-unread", "unread", "/endless-body").delivers(&["requests-unread: denied after "]),
        does("requests-given-up", "given-up", "/never").with("n = 200").delivers(&[]),
        does("requests-endless", "endless", "/never")
            .limits(SMALL_BODY)
            .delivers(&["requests-endless: denied"]),
        does("requests-unfinished", "unfinished", "/ok").delivers(&["requests-unfinished: denied"]),
        does("requests-of-headers", "headers", "/ok").fails("total size of fields exceeds limit"),
        does("requests-fields", "fields", "/ok").fails("holds more than 256 handles"),
        does("requests-without-end", "posts", "/ok").limits(SHORT).falters("ran past its c"),
        header("header-host", "host", "evil.example"),
        header("header-connection", "connection", "upgrade"),
        header("header-transfer-encoding", "transfer-encoding", "chunked"),
        header("header-split", "x-a", "b\\r\\nx-injected: c"),
        header("header-name-split", "x-a: b\\r\\nx-c", "d"),
        with_credential(header("header-of-the-credential", "authorization", "Bearer mine")),
        with_credential(asks("credential-echoed", "/echo")).delivers(tries),
        with_credential(asks("credential-echoed-in-bits", "/echo-in-bits")).delivers(tries),
        with_credential(asks("credential-echoed-in-a-header", "/echo-in-a-header")).delivers(tries),
        with_credential(does("credential-echoed-in-a-redirect", "follow", "/echo-in-a-redirect"))
            .delivers(&["requests-follow: denied"]),
        with_credential(asks("credential-echoed-in-a-reason", "/echo-in-a-reason"))
            .delivers(&["http-try: got 500"]),
        with_credential(asks("credential-echoed-in-a-trailer", "/echo-in-a-trailer"))
            .delivers(&["http-try: got 200"]),
        with_credential(does("credential-beside-its-server", "follow", "/redirect"))
            .delivers(&["requests-follow: denied"]),
    ]
}

/// Little time, for a server that does not come to an end.
const SHORT: &str = "cpu_per_call = \"5m\", call_timeout = \"500ms\", memory = \"16MiB\"";
const SMALL_BODY: &str = "cpu_per_call = \"5m\", call_timeout = \"10m\", memory = \"16MiB\", body = \"1MiB\"";

/// A header that a guest may not set, or not so.
fn header(name: &'static str, header: &str, value: &str) -> Case {
    let url = evil::url("/ok");
    guest(name)
        .config(&format!(
            "do = \"requests-header\", url = \"{url}\", header = \"{header}\", value = \"{value}\""
        ))
        .grant(&granted())
        .delivers(&["requests-header: denied"])
}
