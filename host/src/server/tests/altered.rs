//! Compressed bodies at both ingests, and what is told and counted of records that are not what was sent.

use super::*;
use crate::ingest::otlp::Mapping;
use flate2::Compression;
use flate2::write::ZlibEncoder;

const EVENT: &str = r#"{"event_name":"x","task_id":"t","start_time":"2026-11-23T11:14:44Z","end_time":"2026-11-23T11:14:45Z"}"#;

fn spans(attributes: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"region","value":{{"stringValue":"eu"}}}}]}},"scopeSpans":[{{"spans":[{{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"n","startTimeUnixNano":"1796060000000000000","endTimeUnixNano":"1796060000000000001","attributes":[{attributes}]}}]}}]}}]}}"#
    )
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn deflate_and_zstd_are_taken_at_both_ingests_and_other_codings_are_told_what_is() {
    let host = start(loopback()).await;
    for (path, body) in [("/v1/records", EVENT.to_owned()), ("/v1/traces", spans(""))] {
        for (coding, body) in [
            ("gzip", gzip(body.as_bytes())),
            ("deflate", zlib(body.as_bytes())),
            ("zstd", zstd::stream::encode_all(body.as_bytes(), 3).unwrap()),
        ] {
            let reply = host.post(path, &format!("{JSON}\nContent-Encoding: {coding}"), &body).await;
            assert_eq!(reply.status, 200, "{path}, {coding}: {}", reply.text());
        }
        let reply = host.post(path, &format!("{JSON}\nContent-Encoding: br"), body.as_bytes()).await;
        assert_eq!(reply.status, 415);
        assert!(reply.text().contains("gzip, deflate, zstd"), "{}", reply.text());
    }
    host.end().await;
}

#[tokio::test]
async fn what_is_altered_is_told_in_the_answer_and_counted() {
    let host = start(loopback()).await;
    let body = [EVENT.as_bytes(), b"\n", EVENT.replace("\"x\"", "\"x?\"").as_bytes()].concat();
    let body: Vec<u8> = body.into_iter().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
    let reply = host.post("/v1/records", NDJSON, &body).await;
    assert_eq!(reply.status, 200);
    let answer = reply.json();
    assert_eq!(
        (&answer["accepted"], &answer["refused"], &answer["altered"]),
        (&2.into(), &0.into(), &1.into())
    );
    assert_eq!((&answer["warnings"][0]["row"], &answer["warnings"][0]["line"]), (&1.into(), &2.into()));

    let long = format!(r#"{{"key":"k","value":{{"stringValue":"{}"}}}}"#, "y".repeat(70_000));
    let reply = host.post("/v1/traces", JSON, spans(&long).as_bytes()).await;
    assert_eq!(reply.status, 200);
    let partial = &reply.json()["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], "0");
    assert!(partial["errorMessage"].as_str().unwrap().contains("cut at 65536 bytes"), "{partial}");
    let metrics = host.counts.expose(Exposition::new()).finish();
    for endpoint in ["records", "traces"] {
        let line = format!("pressroom_ingest_changes_total{{change=\"altered\",endpoint=\"{endpoint}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
    host.end().await;
}

#[tokio::test]
async fn a_body_that_is_nested_20_000_levels_deep_costs_its_attribute_alone() {
    let host = start(loopback()).await;
    let map = r#"{"kvlistValue":{"values":[{"key":"k","value":"#;
    let deep = format!(r#"{{"key":"deep","value":{}{{}}{}}}"#, map.repeat(20_000), "}]}}".repeat(20_000));
    let body = gzip(spans(&deep).as_bytes());
    assert!(body.len() < 30_000);
    let reply = host.post("/v1/traces", &format!("{JSON}\nContent-Encoding: gzip"), &body).await;
    assert_eq!(reply.status, 200);
    let partial = &reply.json()["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], "0");
    assert!(partial["errorMessage"].as_str().unwrap().contains("nested deeper than 64"), "{partial}");
    host.end().await;
}

#[tokio::test]
async fn a_resource_attribute_that_a_setting_names_is_in_the_record() {
    let mapping = Mapping { resource_attribute: Arc::new(|key| key == "region"), ..Mapping::default() };
    let host = start(ServerSettings { mapping, ..loopback() }).await;
    let failed = spans("").replace(r#""name":"n""#, r#""name":"n","status":{"code":2}"#);
    assert_eq!(host.post("/v1/traces", JSON, failed.as_bytes()).await.status, 200);
    let report = host.get("/v1/report/failed-events").await.text();
    assert!(report.replace(' ', "").contains(r#""region":"eu""#), "{report}");
    host.end().await;
}
