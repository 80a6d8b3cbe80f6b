//! Sockets of guests: to granted addresses and nowhere else.

use super::Subject;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};

async fn guest(address: &str, grant: &str) -> Subject {
    let section = format!("config = {{ do = 'sockets', address = '{address}' }}\ngrant = {{ {grant} }}");
    let mut plugin = Subject::hostile(&section).await.unwrap();
    assert_eq!(plugin.publish().await, Ok(vec![]));
    plugin
}

#[tokio::test]
async fn a_granted_address_is_reached_by_the_granted_transport_alone() {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap().to_string();
    let plugin = guest(&address, &format!("sockets = ['udp://{address}']")).await;
    plugin.says("udp-send: got 1");
    plugin.says("tcp-connect: denied");
    plugin.says("tcp-listen: denied");
    plugin.says("resolve: denied");
    let mut datagram = [0; 8];
    let arrived = tokio::time::timeout(Duration::from_secs(300), udp.recv(&mut datagram)).await.unwrap();
    assert_eq!((arrived.unwrap(), &datagram[..1]), (1, &b"x"[..]));

    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let plugin =
        guest(&address, &format!("sockets = ['tcp://localhost:{}']", tcp.local_addr().unwrap().port())).await;
    plugin.says("tcp-connect: got \"a connection\"");
    plugin.says("udp-send: denied");
    plugin.says("tcp-listen: denied");
    plugin.says("warn: denied listening at ");
    tokio::time::timeout(Duration::from_secs(300), tcp.accept()).await.unwrap().unwrap();
}

#[tokio::test]
async fn another_address_is_denied_with_the_rule_that_would_allow_it() {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = udp.local_addr().unwrap().port();
    let other = format!("127.0.0.2:{port}");
    let grant = format!("sockets = ['udp://127.0.0.1:{port}', 'tcp://127.0.0.1:{port}']");
    let plugin = guest(&other, &grant).await;
    plugin.says("udp-send: denied");
    plugin.says("tcp-connect: denied");
    plugin.says(&format!("warn: denied udp://{other}: add sockets = [\"udp://{other}\"]"));
    plugin.says(&format!("warn: denied tcp://{other}: add sockets = [\"tcp://{other}\"]"));
    assert_eq!(plugin.count("sockets_denied"), 3);
}
