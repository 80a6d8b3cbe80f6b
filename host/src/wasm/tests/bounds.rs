//! What a guest makes the host hold, and how much of it: everything goes through one budget or a count.

use super::Subject;
use super::server::{Server, answer};
use std::time::Duration;

async fn guest(config: &str, grant: &str, limits: &str) -> Subject {
    let section = format!("config = {{ {config} }}\ngrant = {{ {grant} }}\nlimits = {{ {limits} }}");
    Subject::hostile(&section).await.unwrap()
}

/// Until what was under way is given back: requests are given up on a task of their own.
async fn settled(plugin: &Subject) {
    while plugin.count("connections") > 0 || plugin.count("memory_bytes") > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn it_has_no_more_requests_under_way_than_it_may() {
    let server = Server::start(|_| Some(answer(200, "unread"))).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let (config, grant) =
        (format!("do = 'http-unread', url = '{url}', n = 40"), format!("http = ['POST {url}']"));
    let mut plugin = guest(&config, &grant, "connections = 5").await;
    assert_eq!(plugin.publish().await, Ok(vec![]));
    plugin.says("http-unread: denied (ErrorCode::ConnectionLimitReached)");
    plugin.says("http-unread: got 5 answers, 35 refused");
    plugin.says("warn: a request was refused: limits.connections = 5 are under way");
    assert_eq!((plugin.count("connections_peak"), plugin.count("connections")), (5, 0));
    assert_eq!((plugin.count("http_requests"), plugin.count("http_denied")), (40, 35));
    let mut plugin = guest(&config, &grant, "connections = 40").await;
    assert_eq!(plugin.publish().await, Ok(vec![]));
    plugin.says("http-unread: got 40 answers, 0 refused");
}

#[tokio::test]
async fn bodies_that_are_never_sent_are_within_its_memory() {
    let mut plugin = guest("do = 'http-unfinished'", "", "memory = '16MiB'").await;
    assert_eq!(plugin.publish().await, Ok(vec![]));
    plugin.says("http-unfinished: denied after ");
    let peak = plugin.count("memory_peak_bytes");
    assert!((12 << 20..=16 << 20).contains(&peak), "{peak}");
    // They are gone with the call's handles; the memory that its own code took is not.
    assert!(plugin.count("memory_bytes") < 10 << 20, "{}", plugin.count("memory_bytes"));
    let mut plugin = guest("do = 'http-unfinished'", "", "").await;
    assert_eq!(plugin.publish().await, Ok(vec![]));
    plugin.says("http-unfinished: denied after ");
    let peak = plugin.count("memory_peak_bytes");
    assert!((100 << 20..=128 << 20).contains(&peak), "{peak}");
}

/// What a guest holds that has called `import` of the host again and again, and kept what it got.
async fn held(import: &str, dir: &std::path::Path) -> u64 {
    let config = format!("do = 'held', import = '{import}'");
    let grant = format!(
        "dirs = [{{ host = '{}', guest = '/in', write = true }}], sockets = ['tcp://127.0.0.1:9', 'udp://127.0.0.1:9']",
        dir.display()
    );
    let limits = "memory = '8MiB', cpu_per_call = '5m', call_timeout = '10m'";
    let mut plugin = guest(&config, &grant, limits).await;
    assert_eq!(plugin.publish().await, Ok(vec![]), "{import}");
    let (held, status) = (plugin.count("memory_bytes"), plugin.publisher.status().unwrap());
    drop(plugin);
    while status()["memory_bytes"] != 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    held
}

#[tokio::test]
async fn what_the_host_keeps_behind_a_handle_is_charged_and_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = held("wasi:clocks/wall-clock now", dir.path()).await;
    assert!(nothing < 4 << 20, "{nothing}");
    for (import, least) in [
        ("wasi:io/streams output-stream.write", 6 << 20),
        ("wasi:io/streams output-stream.write-zeroes", 6 << 20),
        ("wasi:io/streams output-stream.splice", 6 << 20),
        ("wasi:http/types outgoing-response.body", 6 << 20),
        // One chunk for each of seventy bodies, of 64 KiB or of 4.
        ("wasi:io/streams output-stream.blocking-splice", nothing + ((70 * 64) << 10)),
        ("wasi:io/streams output-stream.blocking-write-and-flush", nothing + ((70 * 4) << 10)),
        ("wasi:io/streams output-stream.blocking-write-zeroes-and-flush", nothing + ((70 * 4) << 10)),
        ("wasi:http/types outgoing-request.set-path-with-query", nothing + (2 << 20)),
        ("wasi:filesystem/types descriptor.read-via-stream", nothing + (4 << 20)),
        ("wasi:filesystem/types descriptor.read-directory", nothing + (4 << 20)),
        ("wasi:sockets/tcp-create-socket create-tcp-socket", 7 << 20),
        ("wasi:sockets/udp-create-socket create-udp-socket", 7 << 20),
    ] {
        let held = held(import, dir.path()).await;
        assert!((least..=8 << 20).contains(&held), "{import}: {held}, and without it {nothing}");
    }
}

#[tokio::test]
async fn headers_are_within_its_memory() {
    let mut plugin = guest("do = 'http-headers', bytes = 1000000", "", "").await;
    plugin.fails("total size of fields exceeds limit").await;
    let before = plugin.count("memory_peak_bytes");
    let mut plugin = guest("do = 'http-many-headers'", "", "").await;
    assert_eq!(plugin.publish().await, Ok(vec![]));
    plugin.says("http-headers: got 200");
    assert!(plugin.count("memory_bytes") >= 4 << 20, "set aside for headers: {before}");
    let mut plugin = guest("do = 'http-many-headers', n = 300", "", "").await;
    plugin.fails("holds more than 256 handles").await;
    // Where there is little memory, there are small headers.
    let mut plugin = guest("do = 'http-headers', bytes = 10000", "", "memory = '8MiB'").await;
    plugin.fails("total size of fields exceeds limit").await;
}

#[tokio::test]
async fn what_it_says_of_a_request_is_bounded() {
    let mut plugin = guest("do = 'http-texts', bytes = 100000", "", "").await;
    assert_eq!(plugin.publish().await, Ok(vec![]));
    for what in ["method", "authority", "path", "scheme"] {
        plugin.says(&format!("http-texts: denied {what}"));
    }
    let mut plugin = guest("do = 'http-texts', bytes = 1000", "", "").await;
    assert_eq!(plugin.publish().await, Ok(vec![]));
    plugin.says("http-texts: denied authority");
    plugin.says("http-texts: got path");
    let mut plugin = guest("do = 'http-texts', bytes = 60", "", "").await;
    assert_eq!(plugin.publish().await, Ok(vec![]));
    for what in ["method", "authority", "path", "scheme"] {
        plugin.says(&format!("http-texts: got {what}"));
    }
}

#[tokio::test]
async fn a_guest_that_traps_in_a_body_gives_everything_back() {
    let server = Server::start(|_| None).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let mut plugin =
        guest(&format!("do = 'http-trap', url = '{url}'"), &format!("http = ['POST {url}']"), "").await;
    for _ in 0..3 {
        let error = plugin.publish_when_due().await.unwrap_err().to_string();
        assert!(error.contains("trapped: "), "{error}");
        settled(&plugin).await;
    }
    assert!(plugin.count("traps") >= 3);
    assert_eq!(
        plugin.count("traps"),
        plugin.count("instances_started"),
        "each trap on an instance of its own"
    );
}

#[tokio::test]
async fn its_lines_are_as_many_as_it_may_log() {
    let mut plugin = guest("do = 'log-flood'", "", "log_rate = 1, cpu_per_call = '50ms'").await;
    plugin.fails("ran past its compute bound").await;
    let dropped = plugin.count("log_lines_dropped");
    assert!(dropped > 100, "{dropped}");
}

/// In a process of its own, which the signal would end.
#[cfg(unix)]
#[tokio::test]
async fn a_file_larger_than_files_may_be_is_an_error_and_not_the_end() {
    const INSIDE: &str = "PRESSROOM_TEST_FILES_ARE_BOUNDED";
    if std::env::var_os(INSIDE).is_none() {
        let again = tokio::process::Command::new("sh")
            .args(["-c", "ulimit -f 1048576 && exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "wasm::tests::bounds::a_file_larger_than_files_may_be_is_an_error_and_not_the_end",
            ])
            .env(INSIDE, "yes")
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(again.status.success() && said.contains("1 passed"), "{:?} {said}", again.status);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let section = "config = { do = 'sparse-file', path = '/out/large', bytes = 1099511627776 }\n\
                   grant = { dirs = [{ host = '.', guest = '/out', write = true }] }";
    let mut plugin = Subject::build("hostile", section, dir.path()).await.unwrap();
    assert_eq!(plugin.publish().await, Ok(vec![]));
    plugin.says("sparse-file: denied (File too large");
}
