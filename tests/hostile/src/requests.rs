//! Requests that no client would make, by `wasi:http` itself. Each try logs what came of it.
//!
//! | `do` | what it does | settings |
//! | --- | --- | --- |
//! | `requests-kept` | sends requests and keeps them, until it is refused | `url` |
//! | `requests-unread` | takes answers and reads none of their bodies, until it is refused | `url` |
//! | `requests-given-up` | sends `n` requests and lets go of them at once | `url`, `n` (1,000) |
//! | `requests-endless` | writes a body that never ends, until it is refused | `url` |
//! | `requests-unfinished` | begins a body and drops it | `url` |
//! | `requests-follow` | follows redirects, asking anew | `url` |
//! | `requests-headers` | adds headers until it is refused, and sends what it has | `url` |
//! | `requests-fields` | makes headers for ever and keeps them | |
//! | `requests-header` | sends one header | `url`, `header`, `value` |
//! | `requests-posts` | waits for answers for ever, one after another | `url` |

use crate::{number, text};
use pressroom_plugin::{PublishError, info};
use std::mem::forget;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, Scheme,
};
use wasip2::io::streams::StreamError;

/// The most tries of one kind: a host that refuses none is to be seen, not waited for.
const MOST: usize = 100_000;

pub fn publish(behaviour: &str) -> Result<(), PublishError> {
    let url = text("url", "http://127.0.0.1:9/");
    match behaviour {
        "requests-kept" => {
            let mut kept = Vec::new();
            let refused = (0..MOST).find_map(|_| {
                let sent = get(&url, Fields::new()).and_then(|answer| match answer.get() {
                    Some(Ok(Err(error))) => Err(error),
                    _ => Ok(answer),
                });
                sent.map(|answer| kept.push(answer)).err()
            });
            tell(behaviour, kept.len(), refused);
        }
        "requests-unread" => {
            let mut kept = Vec::new();
            let refused = (0..MOST).find_map(|_| {
                let body = get(&url, Fields::new()).and_then(wait).map(|answer| {
                    let body = answer.consume();
                    (answer, body)
                });
                body.map(|both| kept.push(both)).err()
            });
            tell(behaviour, kept.len(), refused);
        }
        "requests-given-up" => {
            let times: usize = number("n", 1_000)?;
            let sent = (0..times).filter(|_| get(&url, Fields::new()).is_ok()).count();
            info!("{behaviour}: sent {sent}");
        }
        "requests-endless" => {
            let refused = request(&url, Fields::new(), &Method::Post).and_then(|(request, body)| {
                let answer = handle(request, None)?;
                let written = write_for_ever(&body);
                drop(body);
                match wait(answer) {
                    Ok(answer) => info!("{behaviour}: got {} after {written} bytes", answer.status()),
                    Err(error) => info!("{behaviour}: denied after {written} bytes ({error})"),
                }
                Ok(())
            });
            if let Err(error) = refused {
                info!("{behaviour}: denied ({error})");
            }
        }
        "requests-unfinished" => {
            let sent = request(&url, Fields::new(), &Method::Post).and_then(|(request, body)| {
                let answer = handle(request, None)?;
                if let Ok(stream) = body.write() {
                    let _ = stream.blocking_write_and_flush(b"only the beginning");
                }
                drop(body);
                wait(answer)
            });
            show(behaviour, sent);
        }
        "requests-follow" => follow(behaviour, url),
        "requests-headers" => {
            let fields = Fields::new();
            let value = vec![b'v'; 4 << 10];
            let refused = (0..MOST).find(|many| fields.append(&format!("x-bomb-{many}"), &value).is_err());
            info!("{behaviour}: refused after {refused:?}");
            show(behaviour, get(&url, fields).and_then(wait));
        }
        "requests-fields" => loop {
            forget(Fields::new());
        },
        "requests-header" => {
            let fields = Fields::new();
            match fields.append(&text("header", "host"), text("value", "x").as_bytes()) {
                Ok(()) => show(behaviour, get(&url, fields).and_then(wait)),
                Err(error) => info!("{behaviour}: denied ({error})"),
            }
        }
        "requests-posts" => loop {
            let _ = get(&url, Fields::new()).and_then(wait);
        },
        _ => return Err(PublishError::hold(format!("no behaviour {behaviour}"))),
    }
    Ok(())
}

fn tell(what: &str, kept: usize, refused: Option<ErrorCode>) {
    match refused {
        Some(error) => info!("{what}: denied after {kept} ({error})"),
        None => info!("{what}: got {kept}"),
    }
}

fn show(what: &str, answer: Result<IncomingResponse, ErrorCode>) {
    match answer {
        Ok(answer) => info!("{what}: got {}", answer.status()),
        Err(error) => info!("{what}: denied ({error})"),
    }
}

/// A request to `url`, and its body.
fn request(
    url: &str,
    headers: Fields,
    method: &Method,
) -> Result<(OutgoingRequest, OutgoingBody), ErrorCode> {
    let wrong = || ErrorCode::HttpRequestUriInvalid;
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let request = OutgoingRequest::new(headers);
    request.set_method(method).map_err(|()| wrong())?;
    request.set_scheme(Some(&scheme)).map_err(|()| wrong())?;
    request.set_authority(Some(authority)).map_err(|()| wrong())?;
    request.set_path_with_query(Some(if path.is_empty() { "/" } else { path })).map_err(|()| wrong())?;
    let body = request.body().map_err(|()| wrong())?;
    Ok((request, body))
}

fn get(url: &str, headers: Fields) -> Result<FutureIncomingResponse, ErrorCode> {
    let (request, body) = request(url, headers, &Method::Get)?;
    let answer = handle(request, None)?;
    let _ = OutgoingBody::finish(body, None);
    Ok(answer)
}

fn wait(answer: FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(answer)) => answer,
        _ => Err(ErrorCode::InternalError(Some("it has been taken".to_owned()))),
    }
}

fn write_for_ever(body: &OutgoingBody) -> usize {
    let Ok(stream) = body.write() else { return 0 };
    let mut written = 0;
    while stream.blocking_write_and_flush(&[b'b'; 4 << 10]).is_ok() {
        written += 4 << 10;
    }
    written
}

/// Asks where it is sent, over and over.
fn follow(what: &str, mut url: String) {
    for _ in 0..20 {
        let answer = match get(&url, Fields::new()).and_then(wait) {
            Ok(answer) => answer,
            Err(error) => return info!("{what}: denied ({error})"),
        };
        match answer.headers().get("location").into_iter().next() {
            Some(there) => url = String::from_utf8_lossy(&there).into_owned(),
            None => return info!("{what}: got {} {:?}", answer.status(), body(&answer)),
        }
    }
    info!("{what}: it goes on and on");
}

fn body(answer: &IncomingResponse) -> String {
    let Ok(body): Result<IncomingBody, ()> = answer.consume() else { return String::new() };
    let Ok(stream) = body.stream() else { return String::new() };
    match stream.blocking_read(1 << 10) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(StreamError::Closed) => String::new(),
        Err(StreamError::LastOperationFailed(error)) => error.to_debug_string(),
    }
}
