//! `wasi:io`: bodies that nobody reads, files, and standard output.

use super::again;
use super::files::file;
use super::requests::{error, unsent};
use std::hint::black_box;
use std::mem::forget;
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// The bodies of as many requests as there is room for, none of which is sent, filled by `fill` until it is refused.
fn bodies(fill: impl Fn(&OutputStream, u64) -> bool) -> bool {
    again(|| {
        let stream = unsent();
        while let Ok(room @ 1..) = stream.check_write() {
            if !fill(&stream, room) {
                break;
            }
        }
        forget(stream);
    })
}

/// The same, out of a file that is read anew each time, as long as there is room for a stream that reads it. `splice` says
/// whether there is to be more.
fn bodies_of_a_file(splice: impl Fn(&OutputStream, &InputStream) -> Result<bool, StreamError>) -> bool {
    let file = file();
    bodies(|stream, _| file.read_via_stream(0).is_ok_and(|from| matches!(splice(stream, &from), Ok(true))))
}

#[allow(clippy::expect_used, reason = "a panic is fine here")]
fn reader() -> InputStream {
    file().read_via_stream(0).expect("there is room for one")
}

pub fn call(function: &str) -> bool {
    match function {
        "error.to-debug-string" => {
            let error = error();
            again(|| drop(black_box(error.to_debug_string())))
        }
        "input-stream.read" => again(|| drop(black_box(reader().read(u64::MAX)))),
        "input-stream.blocking-read" => again(|| drop(black_box(reader().blocking_read(u64::MAX)))),
        "input-stream.skip" => again(|| drop(black_box(reader().skip(u64::MAX)))),
        "input-stream.blocking-skip" => again(|| drop(black_box(reader().blocking_skip(u64::MAX)))),
        "input-stream.subscribe" => {
            let stream = reader();
            let held = again(|| forget(stream.subscribe()));
            forget(stream);
            held
        }
        "output-stream.check-write" => bodies(|_, _| false),
        "output-stream.write" => {
            let bytes = vec![b'x'; 1 << 20];
            bodies(|stream, room| {
                let room = usize::try_from(room).unwrap_or(usize::MAX);
                stream.write(bytes.get(..room).unwrap_or(&bytes)).is_ok()
            })
        }
        "output-stream.write-zeroes" => bodies(|stream, room| stream.write_zeroes(room).is_ok()),
        // Each body takes one chunk of those that block: the second call would wait until the first chunk is sent.
        "output-stream.blocking-write-and-flush" => bodies(|stream, _| {
            let _ = stream.blocking_write_and_flush(&[b'x'; 4 << 10]);
            false
        }),
        "output-stream.blocking-write-zeroes-and-flush" => bodies(|stream, _| {
            let _ = stream.blocking_write_zeroes_and_flush(4 << 10);
            false
        }),
        "output-stream.flush" => bodies(|stream, _| {
            let _ = stream.flush();
            false
        }),
        "output-stream.blocking-flush" => bodies(|stream, _| {
            let _ = stream.blocking_flush();
            false
        }),
        "output-stream.subscribe" => {
            let stream = unsent();
            let held = again(|| forget(stream.subscribe()));
            forget(stream);
            held
        }
        "output-stream.splice" => bodies_of_a_file(|stream, from| {
            // The first call finds nothing, and has the host read as much as one call moves.
            stream.splice(from, u64::MAX)?;
            from.subscribe().block();
            Ok(stream.splice(from, u64::MAX)? > 0)
        }),
        "output-stream.blocking-splice" => bodies_of_a_file(|stream, from| {
            stream.blocking_splice(from, u64::MAX)?;
            Ok(false)
        }),
        _ => false,
    }
}
