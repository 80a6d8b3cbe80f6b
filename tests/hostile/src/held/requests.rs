//! `wasi:http`: requests that are never sent, and some that are, to the address of the setting `url`.

use super::again;
use crate::text;
use std::hint::black_box;
use std::mem::forget;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    OutgoingResponse, RequestOptions, Scheme, http_error_code,
};
use wasip2::io::streams::{Error, OutputStream, StreamError};

/// The body of a request that is never sent, and of which nobody reads.
#[allow(clippy::expect_used, reason = "a panic is fine here")]
pub fn unsent() -> OutputStream {
    let request = OutgoingRequest::new(Fields::new());
    let body = request.body().expect("the body is there");
    let stream = body.write().expect("the stream is there");
    forget((request, body));
    stream
}

/// An error of a stream: more is written than was announced.
#[allow(clippy::expect_used, clippy::panic, reason = "a panic is fine here")]
pub fn error() -> Error {
    let fields = Fields::new();
    fields.append("content-length", b"0").expect("it may be announced");
    let request = OutgoingRequest::new(fields);
    let body = request.body().expect("the body is there");
    let stream = body.write().expect("the stream is there");
    let _ = stream.check_write();
    let written = stream.write(b"more");
    forget((request, body, stream));
    match written {
        Err(StreamError::LastOperationFailed(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// As many headers as it may have with 8 MiB of memory: 4 KiB, of which each takes some words of the host's. More is a trap.
fn full() -> Fields {
    let fields = Fields::new();
    for number in 0..3 {
        let _ = fields.append(&format!("x-held-{number}"), &[b'v'; 1_250]);
    }
    fields
}

fn ask() -> Option<FutureIncomingResponse> {
    let url = text("url", "http://127.0.0.1:9/");
    let (authority, path) = url.strip_prefix("http://")?.split_once('/')?;
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).ok()?;
    request.set_authority(Some(authority)).ok()?;
    request.set_path_with_query(Some(&format!("/{path}"))).ok()?;
    handle(request, None).ok()
}

fn answer() -> Option<IncomingResponse> {
    let answer = ask()?;
    answer.subscribe().block();
    answer.get()?.ok()?.ok()
}

fn answered_body() -> Option<IncomingBody> {
    let answer = answer()?;
    let body = answer.consume().ok();
    forget(answer);
    body
}

pub fn call(function: &str) -> bool {
    match function.split_once('.') {
        Some(("fields", method)) => fields(method),
        Some(("outgoing-request", method)) => request(method),
        Some(("request-options", method)) => options(method),
        Some(("outgoing-response", method)) => response(method),
        Some((_, _)) => exchange(function),
        None => match function {
            "handle" => again(|| forget(ask())),
            "http-error-code" => {
                let error = error();
                again(|| drop(black_box(http_error_code(&error))))
            }
            _ => false,
        },
    }
}

fn fields(method: &str) -> bool {
    let one = full();
    let value = vec![b'v'; 1_000];
    match method {
        "constructor" => again(|| forget(Fields::new())),
        "from-list" => {
            let list: Vec<_> = (0..3).map(|number| (format!("x-{number}"), value.clone())).collect();
            again(|| forget(Fields::from_list(&list)))
        }
        "get" => again(|| drop(black_box(one.get("x-held-0")))),
        "has" => again(|| {
            black_box(one.has("x-held-0"));
        }),
        "set" => again(|| {
            let fields = Fields::new();
            let _ = fields.set("x-set", &[value.clone(), value.clone(), value.clone()]);
            forget(fields);
        }),
        "delete" => again(|| {
            let fields = full();
            let _ = fields.delete("x-held-0");
            forget(fields);
        }),
        "append" => again(|| forget(full())),
        "entries" => again(|| drop(black_box(one.entries()))),
        // A copy of its own only when it is changed.
        "clone" => again(|| {
            let copy = one.clone();
            let _ = copy.delete("x-held-0");
            forget(copy);
        }),
        _ => false,
    }
}

fn request(method: &str) -> bool {
    let each = |call: &dyn Fn(&OutgoingRequest)| {
        again(|| {
            let request = OutgoingRequest::new(full());
            call(&request);
            forget(request);
        })
    };
    let long = "p".repeat(16_000);
    match method {
        "constructor" => each(&|_| {}),
        "body" => each(&|request| forget(request.body())),
        "method" => each(&|request| drop(black_box(request.method()))),
        "set-method" => each(&|request| {
            let _ = request.set_method(&Method::Other("M".repeat(64)));
        }),
        "path-with-query" => each(&|request| drop(black_box(request.path_with_query()))),
        "set-path-with-query" => each(&|request| {
            for length in [16_000, 8_000, 4_000, 2_000] {
                let path = long.get(..length).unwrap_or(&long);
                if request.set_path_with_query(Some(&format!("/{path}"))).is_ok() {
                    break;
                }
            }
        }),
        "scheme" => each(&|request| drop(black_box(request.scheme()))),
        "set-scheme" => each(&|request| {
            let _ = request.set_scheme(Some(&Scheme::Other("s".repeat(64))));
        }),
        "authority" => each(&|request| drop(black_box(request.authority()))),
        "set-authority" => each(&|request| {
            let _ = request.set_authority(Some(&"a".repeat(512)));
        }),
        "headers" => each(&|request| forget(request.headers())),
        _ => false,
    }
}

fn options(method: &str) -> bool {
    let one = RequestOptions::new();
    match method {
        "constructor" => again(|| forget(RequestOptions::new())),
        "connect-timeout" => again(|| {
            black_box(one.connect_timeout());
        }),
        "set-connect-timeout" => again(|| {
            let _ = one.set_connect_timeout(Some(u64::MAX));
        }),
        "first-byte-timeout" => again(|| {
            black_box(one.first_byte_timeout());
        }),
        "set-first-byte-timeout" => again(|| {
            let _ = one.set_first_byte_timeout(Some(u64::MAX));
        }),
        "between-bytes-timeout" => again(|| {
            black_box(one.between_bytes_timeout());
        }),
        "set-between-bytes-timeout" => again(|| {
            let _ = one.set_between_bytes_timeout(Some(u64::MAX));
        }),
        _ => false,
    }
}

fn response(method: &str) -> bool {
    match method {
        "constructor" => again(|| forget(OutgoingResponse::new(full()))),
        "status-code" | "set-status-code" => again(|| {
            let response = OutgoingResponse::new(full());
            let _ = response.set_status_code(500);
            black_box(response.status_code());
            forget(response);
        }),
        "headers" => again(|| {
            let response = OutgoingResponse::new(full());
            forget(response.headers());
            forget(response);
        }),
        "body" => again(|| {
            let response = OutgoingResponse::new(Fields::new());
            if let Ok(body) = response.body() {
                if let Ok(stream) = body.write() {
                    while let Ok(room @ 1..) = stream.check_write() {
                        if stream.write_zeroes(room).is_err() {
                            break;
                        }
                    }
                    forget(stream);
                }
                forget(body);
            }
            forget(response);
        }),
        _ => false,
    }
}

/// What is on its way, and what has come.
fn exchange(function: &str) -> bool {
    match function {
        "outgoing-body.write" => again(|| forget(unsent())),
        "outgoing-body.finish" => again(|| {
            let request = OutgoingRequest::new(Fields::new());
            if let Ok(body) = request.body() {
                let _ = OutgoingBody::finish(body, Some(full()));
            }
            forget(request);
        }),
        "future-incoming-response.subscribe" => again(|| {
            if let Some(answer) = ask() {
                forget(answer.subscribe());
                forget(answer);
            }
        }),
        "future-incoming-response.get" => again(|| {
            if let Some(answer) = ask() {
                answer.subscribe().block();
                forget(answer.get());
                forget(answer);
            }
        }),
        "incoming-response.status" => again(|| {
            black_box(answer().map(|answer| answer.status()));
        }),
        "incoming-response.headers" => again(|| {
            if let Some(answer) = answer() {
                forget(answer.headers());
                forget(answer);
            }
        }),
        "incoming-response.consume" => again(|| forget(answered_body())),
        "incoming-body.stream" => again(|| {
            if let Some(body) = answered_body() {
                if let Ok(stream) = body.stream() {
                    stream.subscribe().block();
                    forget(stream);
                }
                forget(body);
            }
        }),
        "incoming-body.finish" | "future-trailers.subscribe" | "future-trailers.get" => again(|| {
            if let Some(body) = answered_body() {
                let trailers = IncomingBody::finish(body);
                trailers.subscribe().block();
                forget(trailers.get());
                forget(trailers);
            }
        }),
        _ => false,
    }
}
