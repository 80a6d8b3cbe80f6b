//! A relay between the host and a server, which refuses or stalls connections when told to.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the relay does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes on what arrives.
    Flow,
    /// Keeps connections, and passes on nothing.
    Stall,
    /// Closes connections, those under way included.
    Refuse,
}

/// The relay; it ends with the test's runtime.
pub struct Relay {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Relay {
    /// Starts a relay to the server at `url`.
    pub async fn start(url: &str) -> Self {
        let upstream = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, watched) = watch::channel(Mode::Flow);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *watched.borrow() != Mode::Refuse
                    && let Ok(server) = TcpStream::connect(&upstream).await
                {
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::spawn(pass(from_client, to_server, watched.clone()));
                    tokio::spawn(pass(from_server, to_client, watched.clone()));
                }
            }
        });
        Self { address, mode }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it does, at once.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// Passes on one direction until either side closes, or the relay refuses.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut part = vec![0; 64 << 10];
    let mut refused = mode.clone();
    loop {
        let length = tokio::select! {
            read = from.read(&mut part) => read.unwrap_or(0),
            _ = refused.wait_for(|mode| *mode == Mode::Refuse) => return,
        };
        let flows = mode.wait_for(|mode| *mode != Mode::Stall).await.is_ok_and(|mode| *mode == Mode::Flow);
        if length == 0 || !flows || to.write_all(&part[..length]).await.is_err() {
            return;
        }
    }
}
