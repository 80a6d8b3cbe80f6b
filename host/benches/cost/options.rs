//! What may be said to the benchmark, after `--`.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The host, gzip on: as fast as it takes spans.
    Gzip,
    /// The host, gzip off.
    Plain,
    /// rsyslog, which knows no gzip here.
    Rsyslog,
    /// rsyslog, spared of reading about each item in the answers.
    RsyslogBrief,
    /// The host, gzip on, at a steady rate.
    Steady,
    /// rsyslog at that rate.
    RsyslogSteady,
}

/// Where the host publishes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Publisher {
    /// To the bulk server.
    Elasticsearch,
    /// To a file: the way in, without the way out.
    File,
}

/// CPU and memory of the host per million spans: OTLP/HTTP in, `_bulk` out, beside rsyslog with omelasticsearch.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Spans of each full run
    #[arg(long, default_value_t = 2_000_000)]
    pub spans: u64,
    /// Spans of a request (an SDK's default is 512, the OpenTelemetry Collector's 8192)
    #[arg(long, default_value_t = 1_000)]
    pub batch: usize,
    /// Connections that send at once, each with one request at a time
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Most spans that have been sent and have not arrived yet; 0: as many as are taken
    #[arg(long, default_value_t = 0)]
    pub window: u64,
    /// Spans a second of a steady run
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    /// Seconds of a steady run that are measured, after three that are not
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// How often everything is run; medians are told
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Only these parts
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Part>,
    /// Where the host publishes to
    #[arg(long, default_value = "elasticsearch")]
    pub publisher: Publisher,
    /// Another build of the host than this one
    #[arg(long, default_value = env!("CARGO_BIN_EXE_pressroom"))]
    pub binary: PathBuf,
    /// Lines of TOML for the publisher's section, beside what is measured
    #[arg(long, default_value = "")]
    pub toml: String,
    /// A program to run before what is measured ends, with its process id in place of {}
    #[arg(long)]
    pub attach: Option<String>,
    #[arg(long, hide = true)]
    bench: bool,
}

impl Part {
    /// At a steady rate, not as fast as it goes.
    pub fn is_steady(self) -> bool {
        matches!(self, Self::Steady | Self::RsyslogSteady)
    }

    /// Not the host, but who stands beside it.
    pub fn is_peer(self) -> bool {
        matches!(self, Self::Rsyslog | Self::RsyslogBrief | Self::RsyslogSteady)
    }

    /// Requests are to come with gzip.
    pub fn has_gzip(self) -> bool {
        matches!(self, Self::Gzip | Self::Steady)
    }
}

impl Options {
    /// Whether `part` is asked for.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}
