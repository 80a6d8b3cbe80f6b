//! A plugin that writes line protocol, rendered by the host, over HTTP: to InfluxDB, VictoriaMetrics, QuestDB, Telegraf.

use pressroom_plugin::{EventBatch, Format, NetworkBatch, PublishResult, Publisher, config, http};
use std::time::Duration;

struct Influx {
    url: String,
    timeout: Duration,
}

impl Influx {
    fn start() -> Result<Self, String> {
        let seconds: f64 = config::parse("timeout", 10.0)?;
        let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero());
        let timeout =
            timeout.ok_or_else(|| format!("config: \"timeout\" is {seconds}, it must be seconds above 0"))?;
        let url = config::get("url").ok_or(
            "config: \"url\" is missing, such as http://127.0.0.1:8086/api/v2/write?org=main&bucket=pressroom",
        )?;
        Ok(Self { url, timeout })
    }

    /// Writes whole lines. What was written twice is one point there: its time and its tags are the same.
    fn write(&self, lines: &[u8]) -> PublishResult {
        let request =
            http::Request::new("POST", &*self.url).header("content-type", "text/plain; charset=utf-8");
        // A refusal says why in a line; more is of no use to anybody.
        request.timeout(self.timeout).max_answer(64 << 10).send(lines)?.accepted()?;
        Ok(Vec::new())
    }
}

impl Publisher for Influx {
    fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.write(&events.encode(Format::LineProtocol)?)
    }

    fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.write(&operations.encode(Format::LineProtocol)?)
    }
}

pressroom_plugin::export!(Influx, Influx::start);
