//! A real server: Debian's Prometheus scrapes the host, and PromQL over it gives the counts that were recorded.

use crate::support::servers::Metrics;
use crate::support::{Folder, Process, event, free_port};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn promql_gives_the_counts_that_were_recorded() {
    let scrape = free_port();
    let folder = Folder::new("");
    let config = format!("[publishers.metrics]\ntype = \"prometheus\"\nlisten = \"127.0.0.1:{scrape}\"\n");
    let (_process, api) = Process::host(&folder, &config).await;
    let Some(prometheus) = Metrics::prometheus(&format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: pressroom\n    static_configs:\n      \
         - targets: [\"127.0.0.1:{scrape}\"]\n"
    ))
    .await
    else {
        return;
    };
    let server = &prometheus.promql;

    for first in (0..2_000).step_by(500) {
        api.post(&(first..first + 500).map(recorded).collect()).await;
    }
    let wanted =
        |pairs: &[(&str, f64)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
    let counts = "sum by (event_name) (event_duration_seconds_count)";
    server.until(counts, "event_name", &wanted(&[("resize", 1_000.0), ("store", 500.0)])).await;
    let failed = "sum by (event_name) (event_duration_seconds_count{status=\"failed\"})";
    server.until(failed, "event_name", &wanted(&[("store", 500.0)])).await;
    let retries = "sum by (event_name) (event_retries_total) > 0";
    server.until(retries, "event_name", &wanted(&[("resize", 2_000.0)])).await;
    let operations = "sum by (operation) (network_latency_seconds_count)";
    server.until(operations, "operation", &wanted(&[("PUT", 500.0)])).await;
    let bytes = "sum by (direction) (network_bytes_total)";
    server.until(bytes, "direction", &wanted(&[("sent", 500_000.0), ("received", 5_000.0)])).await;
    // All of them took half a second, and the histogram's buckets know it.
    let median = "histogram_quantile(0.5, sum by (le) (event_duration_seconds_bucket))";
    let median = server.query(median, "").await.unwrap()[""];
    assert!((0.25..=0.5).contains(&median), "{median}");
    // The same scrape carries the host's own metrics.
    let own = "sum by (publisher) (pressroom_publisher_records_total{outcome=\"delivered\"})";
    server.until(own, "publisher", &wanted(&[("metrics", 2_000.0)])).await;
}

/// Of four records two are a `resize` that was retried twice, one is a `store` that failed, one is a `PUT`.
pub fn recorded(number: u64) -> Value {
    let mut record = event(number);
    match number % 4 {
        0 | 1 => {
            record["event_name"] = "resize".into();
            record["retry_count"] = 2.into();
        }
        2 => {
            record["event_name"] = "store".into();
            record["status"] = "failed".into();
            record["error"] = "disk full".into();
        }
        _ => {
            record = json!({
                "type": "network", "id": record["id"], "task_id": "1", "operation": "PUT", "host": "s3.local",
                "port": 443, "start_time": record["start_time"], "end_time": record["end_time"],
                "bytes_sent": 1_000, "bytes_received": 10,
            });
        }
    }
    record
}
