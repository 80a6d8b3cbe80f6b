//! Handles behind which the host keeps buffers: files that are read, and sockets.
//!
//! Invariant: such a handle is charged to the instance, with the most that the host keeps for it, from when it is made
//! until it is dropped.

use super::super::limits::Charge;
use super::super::state::State;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType, WasmList};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types as files;
use wasmtime_wasi::p2::bindings::filesystem::types::HostDescriptor as _;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::bindings::sockets::udp::HostUdpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
use wasmtime_wasi::p2::{DynInputStream, FsResult, SocketResult, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::WasiSocketsView as _;

// As `wasmtime-wasi` names them; a guest of another 0.2 finds them all the same.
const FILES: &str = "wasi:filesystem/types@0.2.12";
const TCP: &str = "wasi:sockets/tcp@0.2.12";
const TCP_CREATE: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const UDP: &str = "wasi:sockets/udp@0.2.12";
const UDP_CREATE: &str = "wasi:sockets/udp-create-socket@0.2.12";

/// What a stream keeps that reads a file: the bytes of a read that nobody has taken.
const READER: usize = 64 << 10;
/// What a socket keeps: what waits to be sent and what has come, in the host and in the kernel.
const SOCKET: usize = 256 << 10;
/// The largest buffer of the kernel that a guest may ask for.
const MOST_BUFFER: u64 = 64 << 10;
/// The most that one call writes to a file.
const MOST_WRITTEN: usize = 64 << 10;

type File = Resource<Descriptor>;
type Store<'a> = StoreContextMut<'a, State>;

/// Puts functions that charge in the place of those that are there.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut files = linker.instance(FILES)?;
    files.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store: Store<'_>, (file, at): (File, u64)| Ok((reader(store.data_mut(), file, at)?,)),
    )?;
    files.func_wrap_async(
        "[method]descriptor.write",
        |mut store: Store<'_>, (file, list, at): (File, WasmList<u8>, u64)| {
            Box::new(async move {
                // A guest is told how much of it was written.
                let bytes = list.as_le_slice(&store);
                let bytes = bytes.get(..MOST_WRITTEN).unwrap_or(bytes);
                let Some(_charge) = store.data().budget().charge(bytes.len()) else {
                    return Ok((Err(files::ErrorCode::InsufficientMemory),));
                };
                let bytes = bytes.to_vec();
                Ok((told(store.data_mut().filesystem().write(file, bytes, at).await)?,))
            })
        },
    )?;
    let mut create = linker.instance(TCP_CREATE)?;
    create.func_wrap("create-tcp-socket", |mut store: Store<'_>, (family,): (IpAddressFamily,)| {
        let state = store.data_mut();
        let Some(charge) = state.budget().charge(SOCKET) else { return Ok((Err(ErrorCode::OutOfMemory),)) };
        let made = state.sockets().create_tcp_socket(family);
        Ok((kept(state, made, charge)?,))
    })?;
    let mut create = linker.instance(UDP_CREATE)?;
    create.func_wrap_async("create-udp-socket", |mut store: Store<'_>, (family,): (IpAddressFamily,)| {
        Box::new(async move {
            let state = store.data_mut();
            let Some(charge) = state.budget().charge(SOCKET) else {
                return Ok((Err(ErrorCode::OutOfMemory),));
            };
            let made = state.sockets().create_udp_socket(family).await;
            Ok((kept(state, made, charge)?,))
        })
    })?;
    let mut tcp = linker.instance(TCP)?;
    tcp.resource("tcp-socket", ResourceType::host::<TcpSocket>(), dropped::<TcpSocket>)?;
    tcp.func_wrap("[method]tcp-socket.set-receive-buffer-size", |mut store: Store<'_>, (socket, size)| {
        let mut sockets = store.data_mut().sockets();
        Ok((asked(HostTcpSocket::set_receive_buffer_size(&mut sockets, socket, most_of(size)))?,))
    })?;
    tcp.func_wrap("[method]tcp-socket.set-send-buffer-size", |mut store: Store<'_>, (socket, size)| {
        let mut sockets = store.data_mut().sockets();
        Ok((asked(HostTcpSocket::set_send_buffer_size(&mut sockets, socket, most_of(size)))?,))
    })?;
    let mut udp = linker.instance(UDP)?;
    udp.resource("udp-socket", ResourceType::host::<UdpSocket>(), dropped::<UdpSocket>)?;
    udp.func_wrap("[method]udp-socket.set-receive-buffer-size", |mut store: Store<'_>, (socket, size)| {
        let mut sockets = store.data_mut().sockets();
        Ok((asked(HostUdpSocket::set_receive_buffer_size(&mut sockets, socket, most_of(size)))?,))
    })?;
    udp.func_wrap("[method]udp-socket.set-send-buffer-size", |mut store: Store<'_>, (socket, size)| {
        let mut sockets = store.data_mut().sockets();
        Ok((asked(HostUdpSocket::set_send_buffer_size(&mut sockets, socket, most_of(size)))?,))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

fn most_of(size: u64) -> u64 {
    size.min(MOST_BUFFER)
}

fn reader(
    state: &mut State,
    file: File,
    at: u64,
) -> wasmtime::Result<Result<Resource<DynInputStream>, files::ErrorCode>> {
    let Some(charge) = state.budget().charge(READER) else {
        return Ok(Err(files::ErrorCode::InsufficientMemory));
    };
    let made = told(state.filesystem().read_via_stream(file, at))?;
    Ok(made.inspect(|stream| state.keep_charge(stream.rep(), charge)))
}

fn told<T>(result: FsResult<T>) -> wasmtime::Result<Result<T, files::ErrorCode>> {
    result.map_or_else(|cause| cause.downcast().map(Err), |it| Ok(Ok(it)))
}

fn asked<T>(result: SocketResult<T>) -> wasmtime::Result<Result<T, ErrorCode>> {
    result.map_or_else(|cause| cause.downcast().map(Err), |it| Ok(Ok(it)))
}

fn kept<T: 'static>(
    state: &mut State,
    made: SocketResult<Resource<T>>,
    charge: Charge,
) -> wasmtime::Result<Result<Resource<T>, ErrorCode>> {
    Ok(asked(made)?.inspect(|socket| state.keep_charge(socket.rep(), charge)))
}

fn dropped<T: Send + 'static>(mut store: Store<'_>, socket: u32) -> wasmtime::Result<()> {
    let state = store.data_mut();
    state.table.delete(Resource::<T>::new_own(socket))?;
    state.drop_charge(socket);
    Ok(())
}
