//! The ways to ask for what was not granted. Each try logs what came of it.

use pressroom_plugin::info;
use std::fmt::{Debug, Display};
use std::fs::{File, OpenOptions};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

fn tell<T: Debug, E: Display>(what: &str, answer: Result<T, E>) {
    match answer {
        Ok(it) => info!("{what}: got {it:?}"),
        Err(error) => info!("{what}: denied ({error})"),
    }
}

pub fn open_file(path: &str) {
    tell("open-file", std::fs::read(path).map(|bytes| bytes.len()));
    tell("list-root", std::fs::read_dir("/").map(Iterator::count));
}

pub fn write_file(path: &str) {
    tell("write-file", std::fs::write(path, "written by a plugin\n"));
}

/// Until it is refused, which a host must do before it runs out of descriptors itself.
pub fn open_many(path: &str) {
    let mut kept = Vec::new();
    loop {
        match File::open(path) {
            Ok(file) => kept.push(file),
            Err(error) => {
                info!("open-many: denied after {} ({error})", kept.len());
                return;
            }
        }
    }
}

pub fn sparse_file(path: &str, bytes: u64) {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(path);
    tell("sparse-file", file.and_then(|file| file.set_len(bytes)));
}

pub fn environment() {
    let variables: Vec<_> = std::env::vars_os().collect();
    let missing = if variables.is_empty() { Err("there is none") } else { Ok(variables) };
    tell("read-env", missing);
    let arguments: Vec<_> = std::env::args_os().collect();
    let missing = if arguments.is_empty() { Err("there are none") } else { Ok(arguments) };
    tell("read-args", missing);
}

pub fn sockets(address: &str) {
    tell("tcp-connect", TcpStream::connect(address).map(|_| "a connection"));
    tell("tcp-listen", TcpListener::bind("127.0.0.1:0").map(|_| "a listener"));
    tell("udp-send", UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", address)));
    tell("resolve", ("localhost", 80).to_socket_addrs().map(Iterator::count));
}
