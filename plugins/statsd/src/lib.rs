//! A plugin that sends counts and durations to a StatsD server, over UDP, through a socket that the operator grants.
//!
//! A row is published once its packet was handed to the network, whether anybody listens or not: UDP does not tell.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod lines;

use lines::{LEAST_PACKET, MAX_PREFIX, Packets, Style, Unsent, Writer};
use pressroom_plugin::{
    EventBatch, NetworkBatch, PublishError, PublishResult, Publisher, Unpublished, config,
};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

struct Statsd {
    server: SocketAddr,
    max_packet: usize,
    writer: Writer,
    socket: Option<UdpSocket>,
}

impl Statsd {
    fn start() -> Result<Self, String> {
        let prefix = config::get("prefix").unwrap_or_else(|| "pressroom".to_owned());
        let bears = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if prefix.is_empty() || prefix.len() > MAX_PREFIX || !prefix.chars().all(bears) {
            return Err(format!(
                "config: \"prefix\" is \"{prefix}\", it must be 1 to {MAX_PREFIX} letters, digits, '-', '_' and '.'"
            ));
        }
        let style = match config::get("style").as_deref() {
            None | Some("plain") => Style::Plain,
            Some("tags") => Style::Tags,
            Some(other) => return Err(format!("config: \"style\" is \"{other}\", it must be plain or tags")),
        };
        let max_packet = config::parse("max_packet", 1432)?;
        if !(LEAST_PACKET..=65_000).contains(&max_packet) {
            return Err(format!(
                "config: \"max_packet\" is {max_packet}, it must be {LEAST_PACKET} to 65000 bytes"
            ));
        }
        let server = config::parse("server", SocketAddr::from((Ipv4Addr::LOCALHOST, 8125)))?;
        Ok(Self { server, max_packet, writer: Writer { prefix, style }, socket: None })
    }

    /// Sends the lines of each row.
    fn publish(&mut self, rows: usize, lines: impl Iterator<Item = (usize, String)>) -> PublishResult {
        let server = self.server;
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open(server).map_err(|cause| refused(server, &cause))?),
        };
        let mut send = |packet: &[u8]| match socket.send_to(packet, server) {
            // Nobody listened when the packet before came there: that is not about this one.
            Err(cause) if cause.kind() == ErrorKind::ConnectionRefused => {
                socket.send_to(packet, server).map(drop)
            }
            sent => sent.map(drop),
        };
        let mut packets = Packets::new(self.max_packet, &mut send);
        let mut sent = Ok(());
        for (row, lines) in lines {
            sent = sent.and_then(|()| packets.add(row, &lines));
        }
        match sent.and_then(|()| packets.send()) {
            Ok(()) => Ok(Vec::new()),
            Err(Unsent { row, cause }) => {
                // The next batch begins with a new socket: this one may be what is wrong.
                self.socket = None;
                let error = refused(server, &cause);
                if row == 0 {
                    return Err(error);
                }
                Ok((row..rows).map(|row| Unpublished::retry(row, error.reason())).collect())
            }
        }
    }
}

fn open(server: SocketAddr) -> std::io::Result<UdpSocket> {
    match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }
}

fn refused(server: SocketAddr, cause: &std::io::Error) -> PublishError {
    match cause.kind() {
        ErrorKind::PermissionDenied => {
            PublishError::hold(format!("{server} is not granted: grant.sockets = [\"udp://{server}\"]"))
        }
        _ => PublishError::retry(format!("cannot send to {server}: {cause}")),
    }
}

impl Publisher for Statsd {
    fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        let writer = self.writer.clone();
        self.publish(events.len(), events.rows().map(|event| (event.row(), writer.event(&event))))
    }

    fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        let writer = self.writer.clone();
        self.publish(operations.len(), operations.rows().map(|row| (row.row(), writer.operation(&row))))
    }
}

pressroom_plugin::export!(Statsd, Statsd::start);

#[cfg(test)]
mod tests {
    use super::*;
    use pressroom_plugin::EventMetrics;
    use std::time::Duration;

    #[test]
    fn every_row_arrives_at_a_server() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut plugin = Statsd { server: server.local_addr().unwrap(), ..Statsd::start().unwrap() };
        let event = EventMetrics {
            event_name: "resize".into(),
            start_time: 1,
            end_time: Some(2),
            ..Default::default()
        };
        assert_eq!(plugin.publish_event_metrics(&vec![event; 100].into()), Ok(vec![]));
        let (mut lines, mut packet) = (0, [0; 2_000]);
        while lines < 200 {
            let length = server.recv(&mut packet).unwrap();
            assert!(length <= 1432, "{length}");
            lines += std::str::from_utf8(&packet[..length]).unwrap().lines().count();
        }
        assert_eq!(lines, 200);
    }
}
