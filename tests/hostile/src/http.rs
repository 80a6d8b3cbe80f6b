//! Requests, honest and hostile. Each try logs what came of it: `WHAT: got IT` or `WHAT: denied (why)`.
//!
//! | `do` | what it does | settings |
//! | --- | --- | --- |
//! | `http-post` | posts the batch as JSON lines, and answers as the SDK makes of the answer | `url`, `header`, `value` |
//! | `http-try` | sends a request, and logs the answer's status and body | `url`, `method` (POST), `header`, `value`, `bytes` (a body of so many), `timeout_ms` |
//! | `http-unread` | sends `n` requests at once, and reads no answer until all are sent | `url`, `n` (100) |
//! | `http-unfinished` | opens requests without sending them and fills their bodies, until it is refused | `n` (80) |
//! | `http-headers` | one set of headers of `bytes` | `bytes` (1 MiB) |
//! | `http-many-headers` | keeps `n` sets of headers of `bytes` | `bytes` (1,000), `n` (200) |
//! | `http-texts` | says a method, authority, path and scheme of `bytes` each | `bytes` (1 MiB) |
//! | `http-trap` | traps in the middle of a body | `url` |

use crate::{Batch, number, text};
use pressroom_plugin::http::{Request, Response};
use pressroom_plugin::{Format, PublishError, info};
use std::time::Duration;

pub fn publish(behaviour: &str, batch: &Batch<'_, '_>) -> Result<(), PublishError> {
    match behaviour {
        "http-post" => post(batch),
        "http-try" => {
            attempt("http-try");
            Ok(())
        }
        #[cfg(target_arch = "wasm32")]
        "http-unread" => raw::unread(&text("url", ""), number("n", 100)?),
        #[cfg(target_arch = "wasm32")]
        "http-unfinished" => raw::unfinished(number("n", 80)?),
        #[cfg(target_arch = "wasm32")]
        "http-headers" => raw::headers(number("bytes", 1 << 20)?, 1),
        #[cfg(target_arch = "wasm32")]
        "http-many-headers" => raw::headers(number("bytes", 1_000)?, number("n", 200)?),
        #[cfg(target_arch = "wasm32")]
        "http-texts" => raw::texts(number("bytes", 1 << 20)?),
        #[cfg(target_arch = "wasm32")]
        "http-trap" => raw::trap(&text("url", "")),
        _ => Err(PublishError::hold(format!("no behaviour {behaviour}"))),
    }
}

fn request() -> Result<Request, PublishError> {
    let mut request = Request::new(text("method", "POST"), text("url", "http://127.0.0.1:9/"));
    let header = text("header", "");
    if !header.is_empty() {
        request = request.header(header, text("value", ""));
    }
    let timeout = number("timeout_ms", 0)?;
    if timeout > 0 {
        request = request.timeout(Duration::from_millis(timeout));
    }
    Ok(request)
}

fn post(batch: &Batch<'_, '_>) -> Result<(), PublishError> {
    let lines = match batch {
        Batch::Events(events) => events.encode(Format::JsonLines)?,
        Batch::Operations(operations) => operations.encode(Format::JsonLines)?,
    };
    request()?.send(&lines)?.accepted()?;
    Ok(())
}

fn attempt(what: &str) {
    let answer = request().and_then(|request| Ok(request.send(&vec![b'x'; number("bytes", 3)?])?));
    match answer {
        Ok(Response { status, body, .. }) => {
            let shown = body.get(..200).unwrap_or(&body);
            info!("{what}: got {status} {:?}, {} bytes", String::from_utf8_lossy(shown), body.len());
        }
        Err(error) => info!("{what}: denied ({error})"),
    }
}

/// Past the SDK, which would do none of this.
#[cfg(target_arch = "wasm32")]
mod raw {
    use pressroom_plugin::{PublishError, info};
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{Fields, Method, OutgoingRequest, Scheme};

    fn failed(what: &str) -> PublishError {
        PublishError::reject(format!("{what} failed"))
    }

    fn post(url: &str) -> Result<OutgoingRequest, PublishError> {
        let (authority, path) = url
            .strip_prefix("http://")
            .and_then(|rest| Some(rest.split_at(rest.find('/')?)))
            .ok_or_else(|| failed("the address"))?;
        let request = OutgoingRequest::new(Fields::new());
        let set = request
            .set_method(&Method::Post)
            .and_then(|()| request.set_scheme(Some(&Scheme::Http)))
            .and_then(|()| request.set_authority(Some(authority)))
            .and_then(|()| request.set_path_with_query(Some(path)));
        set.map_err(|()| failed("the request"))?;
        Ok(request)
    }

    pub fn unread(url: &str, requests: usize) -> Result<(), PublishError> {
        let mut answers = Vec::new();
        for _ in 0..requests {
            answers.push(handle(post(url)?, None).map_err(|_| failed("sending"))?);
        }
        let (mut kept, mut refused) = (Vec::new(), 0);
        for answer in &answers {
            answer.subscribe().block();
            match answer.get() {
                Some(Ok(Ok(response))) => kept.push(response),
                Some(Ok(Err(code))) => {
                    if refused == 0 {
                        info!("http-unread: denied ({code:?})");
                    }
                    refused += 1;
                }
                _ => return Err(failed("the answer")),
            }
        }
        info!("http-unread: got {} answers, {refused} refused", kept.len());
        Ok(())
    }

    pub fn unfinished(requests: usize) -> Result<(), PublishError> {
        let mut kept = Vec::new();
        let mut bytes = 0;
        for _ in 0..requests {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body().map_err(|()| failed("the body"))?;
            let stream = body.write().map_err(|()| failed("the stream"))?;
            while let Ok(room @ 1..) = stream.check_write() {
                let room = usize::try_from(room).unwrap_or(usize::MAX).min(1 << 20);
                if let Err(error) = stream.write(&vec![b'x'; room]) {
                    info!("http-unfinished: denied after {bytes} ({error})");
                    return Ok(());
                }
                bytes += room;
            }
            kept.push((stream, body, request));
        }
        info!("http-unfinished: got {bytes}");
        Ok(())
    }

    pub fn headers(bytes: usize, sets: usize) -> Result<(), PublishError> {
        let mut kept = Vec::new();
        for _ in 0..sets {
            let fields = Fields::new();
            if let Err(error) = fields.append("x-bomb", &vec![b'x'; bytes]) {
                info!("http-headers: denied after {} ({error:?})", kept.len());
                return Ok(());
            }
            kept.push(fields);
        }
        info!("http-headers: got {}", kept.len());
        Ok(())
    }

    pub fn texts(bytes: usize) -> Result<(), PublishError> {
        let request = OutgoingRequest::new(Fields::new());
        let text = "x".repeat(bytes);
        let tries = [
            ("method", request.set_method(&Method::Other(text.clone()))),
            ("authority", request.set_authority(Some(&text))),
            ("path", request.set_path_with_query(Some(&format!("/{text}")))),
            ("scheme", request.set_scheme(Some(&Scheme::Other(text)))),
        ];
        for (what, set) in tries {
            info!("http-texts: {} {what}", if set.is_ok() { "got" } else { "denied" });
        }
        Ok(())
    }

    pub fn trap(url: &str) -> Result<(), PublishError> {
        let request = post(url)?;
        let body = request.body().map_err(|()| failed("the body"))?;
        let stream = body.write().map_err(|()| failed("the stream"))?;
        let _answer = handle(request, None).map_err(|_| failed("sending"))?;
        let writable = stream.subscribe();
        for _ in 0..4 {
            writable.block();
            stream.write(&[b'x'; 1_000]).map_err(|_| failed("writing"))?;
        }
        std::process::abort()
    }
}
