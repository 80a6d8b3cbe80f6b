//! Which addresses a name may resolve into.
//!
//! Invariant: an address that is not plainly a public one (private, loopback, link-local, multicast, shared, reserved,
//! or standing for such an IPv4 address) is connected to only if the operator granted its network.

use super::lookups::{Lookup, Lookups};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// A network by the beginning of its addresses: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8`, or one address.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that follow its text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let wrong = || "is not a network such as 10.0.0.0/8 or fd00::/8".to_owned();
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(wrong)?,
            None => most,
        };
        let network = Self { address, prefix };
        if bits(address) & !network.mask() != 0 {
            return Err(format!("has bits set beyond its first {prefix}"));
        }
        Ok(network)
    }

    fn mask(&self) -> u128 {
        let width: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let all = u128::MAX.checked_shr(128 - width).unwrap_or(0);
        all & !all.checked_shr(self.prefix).unwrap_or(0)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && bits(address) & self.mask() == bits(self.address)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Networks of IPv4 that are not public.
const NOT_PUBLIC: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Multicast, and what is reserved beyond it.
    ([224, 0, 0, 0], 3),
];

/// Whether an address is plainly a public one.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match stands_for(address) {
            Some(address) => is_public_v4(address),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC.iter().any(|(network, prefix)| {
        Network { address: IpAddr::V4((*network).into()), prefix: *prefix }.contains(IpAddr::V4(address))
    })
}

/// The IPv4 address that one of IPv6 stands for: mapped (`::ffff:0:0/96`), or by NAT64 (`64:ff9b::/96`).
fn stands_for(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            let [.., a, b, c, d] = address.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

/// Global unicast, less what is set apart within it: 2001::/23 (Teredo and others), 2001:db8::/32 and 3fff::/20
/// (documentation), and 2002::/16 (6to4, which carries an IPv4 address).
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let set_apart = match first {
        0x2001 => second < 0x0200 || second == 0x0db8,
        0x2002 => true,
        0x3fff => second < 0x1000,
        _ => false,
    };
    first & 0xe000 == 0x2000 && !set_apart
}

/// A name leads nowhere but to addresses that are not granted.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) struct Prohibited {
    name: String,
    addresses: Vec<IpAddr>,
}

impl Prohibited {
    /// What the operator may add to allow it.
    pub(super) fn rule(&self) -> String {
        let networks = self.addresses.iter().map(|address| match address {
            IpAddr::V4(_) => format!("\"{address}/32\""),
            IpAddr::V6(_) => format!("\"{address}/128\""),
        });
        format!("private = [{}]", networks.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Prohibited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} resolves into private addresses only: add {}", self.name, self.rule())
    }
}

/// Resolves names for requests, and leaves out what may not be connected to. What it answers is what is connected to.
pub(super) struct Resolver {
    granted: Arc<[Network]>,
    lookups: Arc<Lookups>,
}

impl Resolver {
    pub(super) fn new(granted: Arc<[Network]>, lookup: Lookup) -> Self {
        Self { granted, lookups: Lookups::new(lookup) }
    }
}

/// Those of `addresses` that may be connected to.
fn permitted(
    granted: &[Network],
    name: &str,
    addresses: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, Prohibited> {
    let may = |address: &SocketAddr| {
        let ip = address.ip();
        is_public(ip)
            || granted.iter().any(|network| network.contains(ip) || network.contains(ip.to_canonical()))
    };
    let (permitted, prohibited): (Vec<_>, Vec<_>) = addresses.into_iter().partition(may);
    if permitted.is_empty() && !prohibited.is_empty() {
        let addresses = prohibited.iter().map(SocketAddr::ip).take(8).collect();
        return Err(Prohibited { name: name.to_owned(), addresses });
    }
    Ok(permitted)
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (granted, lookups) = (self.granted.clone(), self.lookups.clone());
        Box::pin(async move {
            let name = name.as_str().to_owned();
            // That name is never asked of anybody; a rule that names it means this machine.
            let permitted = if name == "localhost" {
                let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                loopback.map(|ip| SocketAddr::new(ip, 0)).to_vec()
            } else {
                permitted(&granted, &name, lookups.find(&name).await?)?
            };
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Network, is_public, permitted};
    use std::net::{IpAddr, SocketAddr};

    #[test]
    fn only_plainly_public_addresses_are_public() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2001:10::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:4860:4860::8888",
            "3fff:1000::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        let holds = |network: &str, address: &str| {
            Network::parse(network).unwrap().contains(address.parse::<IpAddr>().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "9.9.9.9") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fc00::1"));
        assert!(holds("::/0", "::1") && holds("::1", "::1") && !holds("::1", "::2"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3/32", "10.1.2.4"));
        for wrong in ["10.0.0.0/33", "10.0.0.1/8", "fd00::1/64", "ten/8", "", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_name_resolves_into_is_held_against_the_grant() {
        let found = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
        };
        let granted = [Network::parse("10.0.0.0/8").unwrap()];
        let both = permitted(&[], "a.example", found(&["127.0.0.1", "8.8.8.8"])).unwrap();
        assert_eq!(both, found(&["8.8.8.8"]), "the private one is left out");
        let refused = permitted(&granted, "rebound.example", found(&["169.254.169.254", "::1"])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "rebound.example resolves into private addresses only: add private = [\"169.254.169.254/32\", \"::1/128\"]"
        );
        for own in ["10.1.2.3", "::ffff:10.1.2.3"] {
            assert_eq!(permitted(&granted, "a.example", found(&[own])).unwrap(), found(&[own]));
        }
        assert!(permitted(&granted, "a.example", found(&["::ffff:127.0.0.1"])).is_err());
        assert_eq!(permitted(&granted, "a.example", vec![]).unwrap(), []);
    }
}
