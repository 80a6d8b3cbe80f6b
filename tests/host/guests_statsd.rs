//! The plugin `statsd`, and a socket that takes what it sends.

use crate::support::{Folder, NO_PATIENCE, PATIENCE, events, guest};
use std::collections::BTreeMap;
use std::net::UdpSocket;

fn section(server: &UdpSocket, more: &str) -> String {
    let address = server.local_addr().unwrap();
    format!(
        "[publishers.statsd]\ntype = \"wasm\"\nplugin = \"statsd\"\nconfig = {{ server = \"{address}\" }}\n{more}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_arrives_counted_and_timed() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = server.local_addr().unwrap();
    let folder = Folder::new(&section(&server, &format!("grant.sockets = [\"udp://{address}\"]\n")));
    folder.drop_in("statsd", &guest("statsd"));
    let running = folder.start().await;
    // So few that the socket holds them all, whenever they are fetched.
    running.api.post(&events(0..500)).await;
    running.api.until_delivered("statsd", 500).await;
    let mut lines: BTreeMap<String, u32> = BTreeMap::new();
    let mut packet = [0; 2_000];
    while lines.values().sum::<u32>() < 1_000 {
        let length = server.recv(&mut packet).unwrap();
        for line in std::str::from_utf8(&packet[..length]).unwrap().lines() {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
    }
    let wanted =
        [("pressroom.events.step.completed:1|c", 500), ("pressroom.events.step.duration:500.000|ms", 500)];
    assert_eq!(lines, wanted.map(|(line, count)| (line.to_owned(), count)).into());
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_it_holds_and_says_what_to_grant() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let folder = Folder::new(&section(&server, ""));
    folder.drop_in("statsd", &guest("statsd"));
    let running = folder.start().await;
    running.api.post(&events(0..10)).await;
    let wanted = format!("grant.sockets = [\"udp://{}\"]", server.local_addr().unwrap());
    let held = running.api.until("statsd", "holds", |status| !status["last_error"].is_null()).await;
    assert!(held["last_error"].as_str().unwrap().contains(&wanted), "{held:#}");
    assert_eq!(held["books"]["backlog"], 10, "{held:#}");
    assert!(running.host.shutdown(NO_PATIENCE).await.balanced());
    assert_eq!(server.recv(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
