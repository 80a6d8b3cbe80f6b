//! Credentials that the host adds to requests, and the guest never sees.
//!
//! Invariant: a value leaves the host in a request to where the operator sends it, and in nothing else: no log, no
//! report, no `Debug`.

use super::rules::Target;
use http::HeaderName;

/// A credential, ready to be added.
#[derive(Clone)]
pub(super) struct Injection {
    to: Target,
    headers: Vec<HeaderName>,
}

impl Injection {
    /// Whether a request there is given it.
    pub(super) fn applies(&self, target: &Target) -> bool {
        self.to.same_server(target) && target.is_below(&self.to.path)
    }

    /// The headers that it sets, which a guest may not.
    pub(super) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.headers.iter()
    }

    /// What no answer may hold.
    pub(super) fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether it needs the whole body.
    pub(super) fn signs_body(&self) -> bool {
        false
    }

    pub(super) fn apply(&self, _request: &mut reqwest::Request, _body: &[u8]) -> Result<(), String> {
        Ok(())
    }
}
