//! The host as users run it: whole, over HTTP, with real servers and clients, and with plugins that do their worst.
//!
//! Invariants: nothing waits for a time, only for a condition with a deadline; ports are free ones; every file is in a
//! temporary folder; a test that lacks a server says SKIPPED and passes, but fails where `CI` is set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

mod authors;
mod cli;
mod compile;
mod dashboards;
mod demo;
mod elasticsearch;
mod embed;
mod failover;
mod guests_c;
mod guests_go;
mod guests_http;
mod guests_statsd;
mod hostile;
mod loki;
mod otel;
mod outage;
mod overflow;
mod plugins;
mod prometheus;
mod referred;
mod reload;
mod reloads;
mod remote_write;
mod servers;
mod shutdown;
mod soak;
mod stuck;
mod supervision;
mod trust;
