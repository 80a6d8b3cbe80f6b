//! Sockets to granted addresses.
//!
//! Invariant: a guest sends to granted addresses and hears from them, and from nobody else; it listens nowhere, and
//! picks no port of its own.

use super::super::output::{Lines, Severity};
use super::counts::Counts;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// One granted address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    transport: Transport,
    address: SocketAddr,
}

impl Peer {
    /// Reads `udp://127.0.0.1:8125`; for `localhost`, both loopback addresses.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that follow its text.
    pub(super) fn parse(text: &str) -> Result<Vec<Self>, String> {
        let wrong = "is not an address such as udp://127.0.0.1:8125 or tcp://[::1]:2003; names other than localhost \
                     are not resolved for sockets";
        let (transport, address) = match text.split_once("://") {
            Some(("udp", address)) => (Transport::Udp, address),
            Some(("tcp", address)) => (Transport::Tcp, address),
            _ => return Err(wrong.to_owned()),
        };
        let addresses = match address.strip_prefix("localhost:").map(str::parse) {
            Some(Ok(port)) => {
                let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                loopback.map(|ip| SocketAddr::new(ip, port)).to_vec()
            }
            Some(Err(_)) => return Err(wrong.to_owned()),
            None => vec![address.parse::<SocketAddr>().map_err(|_| wrong.to_owned())?],
        };
        if addresses.iter().any(|address| address.port() == 0) {
            return Err("has port 0, to which nothing can be sent".to_owned());
        }
        Ok(addresses.into_iter().map(|address| Self { transport, address }).collect())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.transport == Transport::Udp { "udp" } else { "tcp" };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// What of sockets a plugin is granted, for all its instances.
pub(super) struct Sockets {
    pub(super) peers: Vec<Peer>,
    pub(super) lines: Arc<Lines>,
    pub(super) counts: Arc<Counts>,
}

impl Sockets {
    pub(super) fn grant(self: &Arc<Self>, wasi: &mut WasiCtxBuilder) {
        let any = |transport| self.peers.iter().any(|peer| peer.transport == transport);
        wasi.allow_udp(any(Transport::Udp)).allow_tcp(any(Transport::Tcp)).allow_ip_name_lookup(false);
        let sockets = self.clone();
        wasi.socket_addr_check(move |address, to| {
            let may = sockets.may(address, to);
            Box::pin(std::future::ready(may))
        });
    }

    fn may(&self, address: SocketAddr, to: SocketAddrUse) -> bool {
        let (may, text) = match to {
            SocketAddrUse::UdpSend => self.reach(Transport::Udp, address),
            SocketAddrUse::TcpConnect => self.reach(Transport::Tcp, address),
            // What others send to its port is dropped, as a firewall does, and not worth a word.
            SocketAddrUse::UdpReceive => return self.reach(Transport::Udp, address).0,
            SocketAddrUse::UdpBind | SocketAddrUse::TcpBind => {
                let ephemeral = address.port() == 0
                    && (address.ip().is_unspecified() || address.ip().to_canonical().is_loopback());
                let text = format!(
                    "denied a socket at {address}: a plugin may not pick the port or the network that it sends from"
                );
                (ephemeral, text)
            }
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => {
                (false, format!("denied listening at {address}: a plugin connects, and is not connected to"))
            }
        };
        if !may {
            self.lines.say(Severity::Warn, &text);
            self.counts.socket_denied(text);
        }
        may
    }

    fn reach(&self, transport: Transport, address: SocketAddr) -> (bool, String) {
        let wanted = Peer { transport, address };
        let same = |peer: &Peer| {
            peer.transport == transport
                && peer.address.port() == address.port()
                && peer.address.ip() == address.ip()
        };
        (self.peers.iter().any(same), format!("denied {wanted}: add sockets = [\"{wanted}\"]"))
    }
}

#[cfg(test)]
mod tests {
    use super::Peer;

    #[test]
    fn addresses_are_literal_and_localhost_is_both() {
        let shown = |text: &str| Peer::parse(text).unwrap().iter().map(Peer::to_string).collect::<Vec<_>>();
        assert_eq!(shown("udp://127.0.0.1:8125"), ["udp://127.0.0.1:8125"]);
        assert_eq!(shown("tcp://[::1]:2003"), ["tcp://[::1]:2003"]);
        assert_eq!(shown("tcp://localhost:2003"), ["tcp://127.0.0.1:2003", "tcp://[::1]:2003"]);
        for wrong in [
            "127.0.0.1:8125",
            "unix:///x",
            "udp://statsd:8125",
            "udp://127.0.0.1",
            "tcp://localhost:x",
            "udp://127.1:1",
        ] {
            assert!(Peer::parse(wrong).unwrap_err().contains("is not an address such as"), "{wrong}");
        }
        assert!(Peer::parse("udp://127.0.0.1:0").unwrap_err().contains("port 0"));
    }
}
