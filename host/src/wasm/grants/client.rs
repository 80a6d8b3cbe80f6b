//! The client that sends granted requests, and its errors in the words of `wasi:http`.
//!
//! Invariant: it follows no redirect, asks no proxy, changes no body, and connects only to addresses that the resolver
//! let through. It is one per label, so that all instances share its connections.

use super::addresses::{Network, Prohibited, Resolver};
use super::body::Cut;
use super::lookups::Lookup;
use crate::paths;
use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use wasmtime_wasi_http::Error;

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(30);

/// How a client is set up.
pub(super) struct Wanted<'a> {
    pub(super) private: Arc<[Network]>,
    pub(super) lookup: Lookup,
    pub(super) connections: usize,
    pub(super) connect_timeout: Duration,
    /// Whether any rule speaks TLS: the machine's certificates take a while to read.
    pub(super) tls: bool,
    pub(super) ca_file: Option<&'a Path>,
}

/// # Errors
///
/// The certificates cannot be read; the text says which.
pub(super) fn client(wanted: &Wanted<'_>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .dns_resolver(Arc::new(Resolver::new(wanted.private.clone(), wanted.lookup.clone())))
        .connect_timeout(wanted.connect_timeout)
        .pool_max_idle_per_host(wanted.connections)
        .pool_idle_timeout(IDLE)
        .tls_built_in_native_certs(wanted.tls);
    if let Some(file) = wanted.ca_file {
        let failed = |cause: String| {
            format!("the certificates {} of grant.ca_file cannot be used: {cause}", file.display())
        };
        let text = paths::read(file).map_err(|cause| failed(cause.to_string()))?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&text).map_err(|cause| failed(cause.to_string()))?;
        if certificates.is_empty() {
            return Err(failed("it holds none in PEM".to_owned()));
        }
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|cause| format!("requests cannot be made: {cause:#}"))
}

/// The answer was cut because it holds an injected secret.
pub(super) fn echoed() -> Error {
    Error::InternalError(Some("the answer holds an injected credential; it was cut".to_owned()))
}

/// What a client's error is to the guest.
pub(super) fn error(error: &reqwest::Error) -> Error {
    if let Some(cut) = cause::<Cut>(error) {
        return cut.error();
    }
    if prohibited(error).is_some() {
        return Error::DestinationIpProhibited;
    }
    if error.is_timeout() {
        return if error.is_connect() { Error::ConnectionTimeout } else { Error::ConnectionReadTimeout };
    }
    let words = words(error);
    if error.is_connect() {
        return if words.contains("dns error") {
            Error::DnsError { rcode: Some("the name cannot be resolved".to_owned()), info_code: None }
        } else if words.contains("certificate") {
            Error::TlsCertificateError
        } else if cause::<std::io::Error>(error).is_some_and(|cause| {
            matches!(cause.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
        }) {
            Error::TlsProtocolError
        } else {
            Error::ConnectionRefused
        };
    }
    match cause::<hyper::Error>(error) {
        Some(cause) if cause.is_incomplete_message() => Error::HttpResponseIncomplete,
        Some(cause) if cause.is_parse() || cause.is_user() => Error::HttpProtocolError,
        _ => Error::ConnectionTerminated,
    }
}

/// Whether a request failed because of the address its name leads to.
pub(super) fn prohibited(error: &reqwest::Error) -> Option<Prohibited> {
    cause::<Prohibited>(error).cloned()
}

/// The first of the causes that is a `T`.
fn cause<T: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// The error and its causes, without the address that was asked: it is said beside it.
pub(super) fn words(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    if text.is_empty() { "the request failed".to_owned() } else { text }
}
