//! Who may reach a listener: one rule for every address on which the host answers.
//!
//! Invariant: the configuration's validation and the code that binds a port ask this one rule, so that what the one
//! accepts the other accepts too.

use std::net::SocketAddr;

/// Characters that a token has at least. A shorter one is found by trying.
pub const MIN_TOKEN: usize = 8;

/// What the configuration says of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// What stands before a key in messages: `server.`, or nothing within a publisher's section.
    pub prefix: &'a str,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bearer token that requests must carry.
    pub token: Option<&'a str>,
    /// Whether it may listen on another address than loopback without a token.
    pub allow_without_token: bool,
    /// Further `Host` names that are answered.
    pub hosts: &'a [String],
}

impl Access<'_> {
    /// What is wrong, as (key, message).
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let Self { prefix, listen, token, allow_without_token, hosts } = *self;
        let mut problems = Vec::new();
        if token.is_none() && !allow_without_token && !is_loopback(listen) {
            let message = format!(
                "{listen} can be reached from other machines: set {prefix}token, or {prefix}allow_without_token = true"
            );
            problems.push(("listen", message));
        }
        problems.extend(token.and_then(token_problem).map(|problem| ("token", problem)));
        if !hosts.iter().all(|host| is_name(host)) {
            let message = "expected host names such as \"pressroom.example\", without a scheme or a path";
            problems.push(("hosts", message.to_owned()));
        }
        problems
    }
}

/// Whether only this machine reaches `address`, in either spelling: `127.0.0.1` and `::ffff:127.0.0.1` are one.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn token_problem(token: &str) -> Option<String> {
    if token.trim().is_empty() {
        return Some("is empty, remove it or give one".to_owned());
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("must be visible ASCII characters without spaces: no header carries others".to_owned());
    }
    (token.len() < MIN_TOKEN).then(|| {
        format!(
            "has fewer than {MIN_TOKEN} characters, which is guessed too soon: take `openssl rand -hex 16`"
        )
    })
}

fn is_name(host: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    !host.is_empty() && host.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(listen: &str, token: Option<&str>, allow_without_token: bool) -> Vec<&'static str> {
        let listen = listen.parse().unwrap();
        let access = Access { prefix: "server.", listen, token, allow_without_token, hosts: &[] };
        access.problems().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn loopback_in_every_spelling_needs_no_token_and_any_other_address_does() {
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(keys(loopback, None, false), [""; 0], "{loopback}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "[::ffff:0.0.0.0]:1", "192.0.2.7:1", "[::ffff:192.0.2.7]:1"] {
            assert_eq!(keys(open, None, false), ["listen"], "{open}");
            assert_eq!(keys(open, None, true), [""; 0], "{open}");
            assert_eq!(keys(open, Some("0123456789abcdef"), false), [""; 0], "{open}");
        }
    }

    #[test]
    fn a_token_that_is_short_or_that_no_header_carries_is_refused_on_every_address() {
        for wrong in ["", " ", "x", "1234567", "two words", "söcrets!", "line\nbreak", "        "] {
            for listen in ["127.0.0.1:1", "0.0.0.0:1"] {
                assert_eq!(keys(listen, Some(wrong), false), ["token"], "{wrong:?}");
                assert_eq!(keys(listen, Some(wrong), true), ["token"], "{wrong:?}");
            }
        }
    }
}
