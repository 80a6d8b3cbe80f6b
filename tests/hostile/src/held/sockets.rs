//! `wasi:sockets`, to the port of this machine that is granted.

use super::again;
use crate::text;
use std::hint::black_box;
use std::mem::forget;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::{OutgoingDatagram, UdpSocket};
use wasip2::sockets::udp_create_socket::create_udp_socket;

const FAMILY: IpAddressFamily = IpAddressFamily::Ipv4;

/// The port that is granted.
fn granted() -> u16 {
    text("port", "9").parse().unwrap_or(9)
}

fn address(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
}

pub fn call(function: &str) -> bool {
    match function {
        "instance-network" => again(|| forget(instance_network())),
        "create-tcp-socket" => again(|| forget(create_tcp_socket(FAMILY))),
        "create-udp-socket" => again(|| forget(create_udp_socket(FAMILY))),
        "resolve-addresses"
        | "resolve-address-stream.resolve-next-address"
        | "resolve-address-stream.subscribe" => {
            let network = instance_network();
            again(|| {
                if let Ok(stream) = resolve_addresses(&network, "localhost") {
                    stream.subscribe().block();
                    let _ = stream.resolve_next_address();
                    forget(stream);
                }
            })
        }
        _ => match function.split_once('.') {
            Some(("tcp-socket", method)) => tcp(method),
            Some((_, method)) => udp(method),
            None => false,
        },
    }
}

fn tcp(method: &str) -> bool {
    let each = |call: &dyn Fn(&TcpSocket)| {
        again(|| {
            if let Ok(socket) = create_tcp_socket(FAMILY) {
                call(&socket);
                forget(socket);
            }
        })
    };
    let network = instance_network();
    let connect = |socket: &TcpSocket| {
        let _ = socket.start_connect(&network, address(granted()));
        socket.subscribe().block();
        forget(socket.finish_connect());
    };
    match method {
        "start-bind" | "finish-bind" | "local-address" => each(&|socket| {
            let _ = socket.start_bind(&network, address(0));
            let _ = socket.finish_bind();
            let _ = black_box(socket.local_address());
        }),
        "start-connect" | "finish-connect" | "remote-address" | "shutdown" => each(&|socket| {
            connect(socket);
            let _ = black_box(socket.remote_address());
            let _ = socket.shutdown(ShutdownType::Both);
        }),
        "start-listen" | "finish-listen" | "accept" | "is-listening" | "set-listen-backlog-size" => {
            each(&|socket| {
                let _ = socket.start_bind(&network, address(0));
                let _ = socket.finish_bind();
                let _ = socket.set_listen_backlog_size(u64::MAX);
                let _ = socket.start_listen();
                let _ = socket.finish_listen();
                black_box(socket.is_listening());
                forget(socket.accept());
            })
        }
        "address-family" => each(&|socket| {
            black_box(socket.address_family());
        }),
        "keep-alive-enabled" | "set-keep-alive-enabled" => each(&|socket| {
            let _ = socket.set_keep_alive_enabled(true);
            let _ = black_box(socket.keep_alive_enabled());
        }),
        "keep-alive-idle-time" | "set-keep-alive-idle-time" => each(&|socket| {
            let _ = socket.set_keep_alive_idle_time(u64::MAX);
            let _ = black_box(socket.keep_alive_idle_time());
        }),
        "keep-alive-interval" | "set-keep-alive-interval" => each(&|socket| {
            let _ = socket.set_keep_alive_interval(u64::MAX);
            let _ = black_box(socket.keep_alive_interval());
        }),
        "keep-alive-count" | "set-keep-alive-count" => each(&|socket| {
            let _ = socket.set_keep_alive_count(u32::MAX);
            let _ = black_box(socket.keep_alive_count());
        }),
        "hop-limit" | "set-hop-limit" => each(&|socket| {
            let _ = socket.set_hop_limit(255);
            let _ = black_box(socket.hop_limit());
        }),
        "receive-buffer-size" | "set-receive-buffer-size" => each(&|socket| {
            let _ = socket.set_receive_buffer_size(u64::MAX);
            let _ = black_box(socket.receive_buffer_size());
        }),
        "send-buffer-size" | "set-send-buffer-size" => each(&|socket| {
            let _ = socket.set_send_buffer_size(u64::MAX);
            let _ = black_box(socket.send_buffer_size());
        }),
        "subscribe" => each(&|socket| forget(socket.subscribe())),
        _ => false,
    }
}

fn udp(method: &str) -> bool {
    let each = |call: &dyn Fn(&UdpSocket)| {
        again(|| {
            if let Ok(socket) = create_udp_socket(FAMILY) {
                call(&socket);
                forget(socket);
            }
        })
    };
    let network = instance_network();
    let bind = |socket: &UdpSocket| {
        let _ = socket.start_bind(&network, address(0));
        let _ = socket.finish_bind();
    };
    match method {
        "start-bind" | "finish-bind" | "local-address" => each(&|socket| {
            bind(socket);
            let _ = black_box(socket.local_address());
        }),
        "stream" | "remote-address" | "receive" | "check-send" | "send" => each(&|socket| {
            bind(socket);
            if let Ok((incoming, outgoing)) = socket.stream(Some(address(granted()))) {
                let _ = black_box(socket.remote_address());
                drop(black_box(incoming.receive(u64::MAX)));
                if let Ok(room @ 1..) = outgoing.check_send() {
                    let room = usize::try_from(room).unwrap_or(usize::MAX).min(16);
                    let datagram = || OutgoingDatagram { data: vec![b'd'; 60_000], remote_address: None };
                    let _ = outgoing.send(&(0..room).map(|_| datagram()).collect::<Vec<_>>());
                }
                forget((incoming, outgoing));
            }
        }),
        "address-family" => each(&|socket| {
            black_box(socket.address_family());
        }),
        "unicast-hop-limit" | "set-unicast-hop-limit" => each(&|socket| {
            let _ = socket.set_unicast_hop_limit(255);
            let _ = black_box(socket.unicast_hop_limit());
        }),
        "receive-buffer-size" | "set-receive-buffer-size" => each(&|socket| {
            let _ = socket.set_receive_buffer_size(u64::MAX);
            let _ = black_box(socket.receive_buffer_size());
        }),
        "send-buffer-size" | "set-send-buffer-size" => each(&|socket| {
            let _ = socket.set_send_buffer_size(u64::MAX);
            let _ = black_box(socket.send_buffer_size());
        }),
        // Of the socket and of both of its streams.
        "subscribe" => again(|| {
            if let Ok(socket) = create_udp_socket(FAMILY) {
                bind(&socket);
                if let Ok((incoming, outgoing)) = socket.stream(None) {
                    incoming.subscribe();
                    outgoing.subscribe();
                    drop((incoming, outgoing));
                }
                forget(socket.subscribe());
                forget(socket);
            }
        }),
        _ => false,
    }
}
