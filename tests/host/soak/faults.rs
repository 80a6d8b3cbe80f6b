//! What goes wrong during a soak, each for a moment.

use super::relay::Mode;
use super::{Soak, settings};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How long a fault lasts.
const MOMENT: Duration = Duration::from_secs(1);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The search server refuses connections, and those under way break.
    Refused,
    /// The search server answers nothing.
    Stalled,
    /// The search server's disk is full.
    ReadOnly,
    /// The host's process is stopped and goes on.
    Paused,
    /// The configuration is wrong.
    WrongConfiguration,
    /// The plugin's file is no plugin.
    WrongPlugin,
    /// The publisher's file is moved away.
    MovedFile,
    /// Many connections say nothing.
    IdleConnections,
    /// Scrapes are asked for, and not read.
    UnreadScrapes,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Stalled,
        Self::ReadOnly,
        Self::Paused,
        Self::WrongConfiguration,
        Self::WrongPlugin,
        Self::MovedFile,
        Self::IdleConnections,
        Self::UnreadScrapes,
    ];

    /// Lets it happen for a moment, and ends it. `number` tells it from others of its kind.
    pub async fn happen(self, soak: &Soak<'_>, number: usize) {
        match self {
            Self::Refused => soak.relay.set(Mode::Refuse),
            Self::Stalled => soak.relay.set(Mode::Stall),
            Self::ReadOnly => soak.block(&json!(true)).await,
            Self::Paused => soak.process.signal("STOP"),
            Self::WrongConfiguration => soak.folder.configure("[publishers.archive]\ntype = \"fiel\"\n"),
            Self::WrongPlugin => soak.folder.drop_in("ndjson", b"no plugin"),
            Self::MovedFile => {
                let away = soak.folder.path(&format!("archive.jsonl.moved-{number}"));
                std::fs::rename(soak.folder.path("archive.jsonl"), away).unwrap();
            }
            Self::IdleConnections => return connections(soak.api.url(), b"").await,
            Self::UnreadScrapes => {
                let scrape = format!("http://127.0.0.1:{}", soak.scrape);
                return connections(&scrape, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            }
        }
        tokio::time::sleep(MOMENT).await;
        match self {
            Self::Refused | Self::Stalled => soak.relay.set(Mode::Flow),
            Self::ReadOnly => soak.block(&Value::Null).await,
            Self::Paused => soak.process.signal("CONT"),
            Self::WrongConfiguration => soak.folder.write_config(&settings(soak, 1)),
            Self::WrongPlugin => soak.folder.drop_in("ndjson", &soak.plugins[0]),
            Self::MovedFile | Self::IdleConnections | Self::UnreadScrapes => {}
        }
    }
}

/// Opens connections, writes the same into each, and closes them after a moment. A refused connection is no fault.
async fn connections(url: &str, request: &[u8]) {
    let address = url.trim_start_matches("http://");
    let mut open = Vec::new();
    for _ in 0..40 {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let _ = stream.write_all(request).await;
            open.push(stream);
        }
    }
    tokio::time::sleep(MOMENT).await;
}
