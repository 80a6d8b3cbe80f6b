//! The ways to make the host hold things: handles that are never given back, texts and lists of any size.

use crate::{Batch, number, text};
use pressroom_plugin::{EventBatch, Format, NetworkBatch, PublishError, config, info};
use std::hint::black_box;
use std::mem::forget;
use wasip2::cli::{stderr, stdout};
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip2::io::poll::poll;
use wasip2::io::streams::OutputStream;
use wasip2::random::random::get_random_bytes;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::IpAddressFamily;
use wasip2::sockets::{tcp_create_socket, udp_create_socket};

/// Does what `behaviour` says, if it is one of these.
pub fn act(behaviour: &str, batch: &Batch<'_, '_>) -> Result<(), PublishError> {
    match behaviour {
        "leak-pollables" => loop {
            forget(subscribe_duration(1 << 60));
        },
        "leak-streams" => loop {
            forget(stdout::get_stdout());
        },
        "leak-directories" => loop {
            forget(get_directories());
        },
        "leak-listings" => {
            let dir = granted();
            // Those that are given back are no leak.
            (0..100).for_each(|_| drop(dir.read_directory()));
            let mut held = 0;
            while let Ok(listing) = dir.read_directory() {
                forget(listing);
                held += 1;
            }
            info!("leak-listings: denied after {held}");
        }
        "leak-file-streams" => {
            let file = open(&text("path", "there"));
            let mut held = 0;
            while let Ok(stream) = file.read_via_stream(0) {
                forget(stream);
                held += 1;
            }
            info!("leak-file-streams: denied after {held}");
        }
        "leak-networks" => loop {
            forget(instance_network());
        },
        "leak-sockets" => loop {
            let tcp = tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4);
            let udp = udp_create_socket::create_udp_socket(IpAddressFamily::Ipv6);
            if let (Err(tcp), Err(udp)) = (&tcp, &udp) {
                info!("leak-sockets: denied ({tcp}, {udp})");
                break;
            }
            forget((tcp, udp));
        },
        "stdout-flood" => flood(&stdout::get_stdout(), b"a line of a flood on stdout\n"),
        "stderr-flood" => flood(&stderr::get_stderr(), b"a line of a flood on stderr\n"),
        "endless-line" => endless(&stdout::get_stdout(), number("bytes", 32 << 20)?),
        "control-characters" => info!("\u{1b}[2J\u{7}\r\nERROR forged: the host has failed\u{0}\u{9b}31m"),
        "huge-key" => drop(black_box(config::get(&"k".repeat(number("bytes", 8 << 20)?)))),
        "huge-format" => {
            let name = "f".repeat(number("bytes", 4 << 20)?);
            let error = match batch {
                Batch::Events(events) => EventBatch::encode(events, Format::Named(&name)).err(),
                Batch::Operations(operations) => NetworkBatch::encode(operations, Format::Named(&name)).err(),
            };
            info!("huge-format: denied ({} bytes)", error.map_or(0, |error| error.reason().len()));
        }
        "huge-path" => match granted().stat_at(PathFlags::empty(), &"p/".repeat(number("bytes", 1 << 20)?)) {
            Ok(_) => info!("huge-path: got it"),
            Err(error) => info!("huge-path: denied ({error})"),
        },
        "huge-random" => drop(black_box(get_random_bytes(number("bytes", 1 << 40)?))),
        "huge-poll" => {
            let due = subscribe_duration(0);
            let ready = poll(&vec![&due; number("n", 1_000_000)?]);
            info!("huge-poll: {}", ready.len());
        }
        "huge-read" => {
            let file = open(&text("path", "there"));
            let read = file.read(u64::MAX, 0).map(|(bytes, _)| bytes.len());
            info!("huge-read: got {read:?}");
            let read = file.read_via_stream(0).map(|stream| stream.blocking_read(u64::MAX).map(|b| b.len()));
            info!("huge-read: got {read:?}");
        }
        "huge-zeroes" => {
            let out = stdout::get_stdout();
            let _ = out.check_write();
            let _ = out.write_zeroes(1 << 40);
        }
        _ => {}
    }
    Ok(())
}

/// The first directory that was granted.
#[allow(clippy::expect_used, reason = "a panic is fine here")]
pub fn granted() -> Descriptor {
    get_directories().into_iter().next().expect("a directory is granted").0
}

#[allow(clippy::expect_used, reason = "a panic is fine here")]
fn open(path: &str) -> Descriptor {
    let opened = granted().open_at(PathFlags::empty(), path, OpenFlags::empty(), DescriptorFlags::READ);
    opened.expect("it is there")
}

fn flood(out: &OutputStream, line: &[u8]) -> ! {
    let lines = line.repeat(100);
    loop {
        let _ = out.check_write();
        let _ = out.write(&lines);
    }
}

/// A line without an end.
fn endless(out: &OutputStream, mut bytes: usize) {
    let part = [b'z'; 4 << 10];
    while bytes > 0 {
        let _ = out.check_write();
        let _ = out.write(&part);
        bytes = bytes.saturating_sub(part.len());
    }
}
