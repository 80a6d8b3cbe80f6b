//! Rows as lines of StatsD, and lines as packets.
//!
//! Invariant: all lines of a row are in one packet, and no packet is longer than it may be; so a packet that was not sent
//! tells exactly which rows were not.

use pressroom_plugin::{Event, EventStatus, NetworkOperation};
use std::fmt::{self, Write};
use std::time::Duration;

/// The longest prefix, and the longest name that is not cut off: four lines of a row fit into the least packet.
pub const MAX_PREFIX: usize = 60;
const MAX_NAME: usize = 100;
/// The least that a packet may be limited to, in bytes.
pub const LEAST_PACKET: usize = 1024;

/// How a line says of which event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// In its name, as every server understands it.
    Plain,
    /// In tags, as DogStatsD, Telegraf, Vector and `statsd_exporter` understand them.
    Tags,
}

/// What lines are written with.
#[derive(Clone, Debug)]
pub struct Writer {
    /// What all names begin with.
    pub prefix: String,
    /// Where names and statuses stand.
    pub style: Style,
}

impl Writer {
    /// The lines of an event.
    pub fn event(&self, event: &Event<'_>) -> String {
        let status = match event.status() {
            EventStatus::Pending => "pending",
            EventStatus::Completed => "completed",
            EventStatus::Failed => "failed",
            EventStatus::Cancelled => "cancelled",
        };
        let row = Row { writer: self, kind: Kind::EVENT, name: Name(event.event_name()), status };
        let mut out = row.begin(event.duration());
        row.count(&mut out, "retries", u64::from(event.retry_count()));
        out
    }

    /// The lines of a network operation.
    pub fn operation(&self, operation: &NetworkOperation<'_>) -> String {
        let status = if operation.error().is_some() { "failed" } else { "completed" };
        let row = Row { writer: self, kind: Kind::OPERATION, name: Name(operation.operation()), status };
        let mut out = row.begin(operation.latency());
        row.count(&mut out, "bytes_sent", operation.bytes_sent());
        row.count(&mut out, "bytes_received", operation.bytes_received());
        out
    }
}

/// Events or network operations: the middle of a name, and the tag that the name is in.
struct Kind {
    many: &'static str,
    tag: &'static str,
}

impl Kind {
    const EVENT: Self = Self { many: "events", tag: "event" };
    const OPERATION: Self = Self { many: "network", tag: "operation" };
}

/// One row, as what its lines have in common.
struct Row<'a> {
    writer: &'a Writer,
    kind: Kind,
    name: Name<'a>,
    status: &'static str,
}

impl Row<'_> {
    /// The line that counts it, and the one that times it.
    fn begin(&self, took: Option<Duration>) -> String {
        let mut out = String::new();
        let (Row { kind, name, status, .. }, prefix) = (self, &self.writer.prefix);
        // Writing to a text does not fail.
        let _ = match self.writer.style {
            Style::Plain => writeln!(out, "{prefix}.{}.{name}.{status}:1|c", kind.many),
            Style::Tags => writeln!(out, "{prefix}.{}:1|c|{}", kind.many, self.tags()),
        };
        if let Some(took) = took {
            let millis = took.as_secs_f64() * 1e3;
            self.line(&mut out, "duration", format_args!("{millis:.3}|ms"));
        }
        out
    }

    fn count(&self, out: &mut String, what: &str, count: u64) {
        if count > 0 {
            self.line(out, what, format_args!("{count}|c"));
        }
    }

    fn line(&self, out: &mut String, what: &str, value: fmt::Arguments<'_>) {
        let (Row { kind, name, .. }, prefix) = (self, &self.writer.prefix);
        let _ = match self.writer.style {
            Style::Plain => writeln!(out, "{prefix}.{}.{name}.{what}:{value}", kind.many),
            Style::Tags => writeln!(out, "{prefix}.{}.{what}:{value}|{}", kind.many, self.tags()),
        };
    }

    fn tags(&self) -> impl fmt::Display {
        let Row { kind, name, status, .. } = self;
        format!("#{}:{name},status:{status}", kind.tag)
    }
}

/// A name as StatsD bears it: of letters, digits, `-` and `_`, and not too long.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_char('_');
        }
        for c in self.0.chars().take(MAX_NAME) {
            out.write_char(if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })?;
        }
        Ok(())
    }
}

/// Rows on their way into packets.
pub struct Packets<'a, S> {
    max: usize,
    packet: String,
    /// The first row in the packet.
    first: usize,
    send: &'a mut S,
}

/// A packet was not sent: this row, and all that follow it, are not published.
#[derive(Debug)]
pub struct Unsent<E> {
    /// The first that was not.
    pub row: usize,
    /// Why not.
    pub cause: E,
}

impl<'a, E, S: FnMut(&[u8]) -> Result<(), E>> Packets<'a, S> {
    /// Packets of at most `max` bytes, which is [`LEAST_PACKET`] or more, for `send`.
    pub fn new(max: usize, send: &'a mut S) -> Self {
        Self { max, packet: String::with_capacity(max), first: 0, send }
    }

    /// Adds the lines of the row `row`; rows come in order. Sends the packet before if they do not fit into it.
    pub fn add(&mut self, row: usize, lines: &str) -> Result<(), Unsent<E>> {
        if self.packet.len() + lines.len() > self.max {
            self.send()?;
            self.first = row;
        }
        self.packet.push_str(lines);
        Ok(())
    }

    /// Sends what is left.
    pub fn send(&mut self) -> Result<(), Unsent<E>> {
        // Some servers take an end of line at the end of a packet for an empty line.
        let packet = self.packet.trim_end_matches('\n');
        if !packet.is_empty() {
            (self.send)(packet.as_bytes()).map_err(|cause| Unsent { row: self.first, cause })?;
        }
        self.packet.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pressroom_plugin::{EventBatch, EventMetrics, NetworkBatch, NetworkMetrics};

    fn event(name: &str) -> EventBatch<'static> {
        vec![EventMetrics {
            event_name: name.into(),
            status: EventStatus::Failed,
            start_time: 1_000_000_000,
            end_time: Some(1_012_345_678),
            retry_count: 2,
            ..Default::default()
        }]
        .into()
    }

    fn lines(style: Style, batch: &EventBatch) -> String {
        Writer { prefix: "p".into(), style }.event(&batch.rows().next().unwrap())
    }

    #[test]
    fn an_event_is_counted_and_timed() {
        assert_eq!(
            lines(Style::Plain, &event("re.size:a|b")),
            "p.events.re_size_a_b.failed:1|c\np.events.re_size_a_b.duration:12.346|ms\np.events.re_size_a_b.retries:2|c\n"
        );
        assert_eq!(
            lines(Style::Tags, &event("größe")),
            "p.events:1|c|#event:gr__e,status:failed\np.events.duration:12.346|ms|#event:gr__e,status:failed\n\
             p.events.retries:2|c|#event:gr__e,status:failed\n"
        );
        assert!(lines(Style::Plain, &event("")).starts_with("p.events._.failed:1|c\n"));
    }

    #[test]
    fn the_longest_row_fits_into_the_least_packet() {
        let batch: NetworkBatch = vec![NetworkMetrics {
            operation: "x".repeat(4_000),
            end_time: Some(u64::MAX),
            bytes_sent: u64::MAX,
            bytes_received: u64::MAX,
            ..Default::default()
        }]
        .into();
        for style in [Style::Plain, Style::Tags] {
            let writer = Writer { prefix: "p".repeat(MAX_PREFIX), style };
            let lines = writer.operation(&batch.rows().next().unwrap());
            assert!(lines.len() <= LEAST_PACKET && lines.lines().count() == 4, "{}: {lines}", lines.len());
        }
    }

    #[test]
    fn rows_stay_whole_and_the_first_unsent_is_named() {
        let (mut sent, mut left) = (Vec::new(), 2);
        let mut send = |packet: &[u8]| {
            left -= 1;
            sent.push(String::from_utf8(packet.to_vec()).unwrap());
            if left >= 0 { Ok(()) } else { Err("no route") }
        };
        let mut packets = Packets::new(8, &mut send);
        let added: Result<(), _> = (0..6).try_for_each(|row| packets.add(row, &format!("{row}1\n")));
        added.unwrap();
        let unsent = packets.send().unwrap_err();
        assert_eq!((unsent.row, unsent.cause), (4, "no route"));
        assert_eq!(sent, ["01\n11", "21\n31", "41\n51"]);
    }
}
