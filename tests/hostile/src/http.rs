//! Requests, honest and hostile. Each try logs what came of it: `WHAT: got IT` or `WHAT: denied (why)`.
//!
//! | `do` | what it does | settings |
//! | --- | --- | --- |
//! | `http-post` | posts the batch as JSON lines, and answers as the SDK makes of the answer | `url`, `header`, `value` |
//! | `http-try` | sends a request, and logs the answer's status and body | `url`, `method` (POST), `header`, `value`, `bytes` (a body of so many), `timeout_ms` |

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
