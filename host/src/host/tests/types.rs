//! Every type of publisher, put to the contract.
//!
//! Those that can leave out rows and refuse batches at a server's word are put to `outcomes_hold` as well. The others have no
//! such outcomes (prometheus, grafana-cloud and stdout take everything that they are handed), or have them tested where a
//! server's words are scripted in full (loki) and where a disk fails (file).
//!
//! Invariant: a type that configuration knows is here; [`no_type_is_left_out`] fails for one that is not.

#[cfg(feature = "prometheus")]
use super::contract::Arrived::Counts;
#[cfg(feature = "wasm")]
use super::contract::Arrived::Untold;
use super::contract::{Arrived, Behaviour, SLOW, Subject, flush_errors_hold, holds, id_in, outcomes_hold};
use crate::host::check;
use crate::publisher::{Fate, PublishError, PublishResult, Publisher, PublisherType, Unpublished};
#[cfg(feature = "prometheus")]
use crate::publishers::series::Series;
use crate::publishers::{FilePublisher, StdoutPublisher};
use crate::record::{EventBatch, NetworkBatch};
use parking_lot::Mutex;
#[cfg(feature = "prometheus")]
use prometheus::{Encoder, TextEncoder};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

#[test]
fn no_type_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = super::write(dir.path(), "[publishers.a]\ntype = \"kafka\"\n");
    let error = check(file).unwrap_err().to_string();
    let (_, known) = error.split_once("known are ").unwrap();
    let known: Vec<&str> = known.lines().next().unwrap().split(", ").collect();
    let here = [
        crate::host::composite::TYPE,
        #[cfg(feature = "elasticsearch")]
        crate::publishers::ElasticsearchPublisher::TYPE,
        "embedded",
        FilePublisher::TYPE,
        #[cfg(feature = "grafana-cloud")]
        crate::publishers::GrafanaCloudPublisher::TYPE,
        #[cfg(feature = "grafana-cloud")]
        crate::publishers::LokiPublisher::TYPE,
        #[cfg(feature = "prometheus")]
        crate::publishers::PrometheusPublisher::TYPE,
        StdoutPublisher::TYPE,
        #[cfg(feature = "wasm")]
        "wasm",
    ];
    assert_eq!(known, here);
}

fn ids(text: &str) -> Vec<Uuid> {
    text.lines().map(|line| id_in(line, "/id")).collect()
}

/// The ids in every file of a folder.
fn ids_in(dir: &Path) -> Arrived {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    Arrived::Ids(files.flat_map(|file| ids(&std::fs::read_to_string(file).unwrap())).collect())
}

#[tokio::test]
async fn file() {
    // So small that it is rotated on the way.
    let config: <FilePublisher as PublisherType>::Config =
        toml::from_str("path = 'out/records.jsonl'\nmax_size = '16KiB'").unwrap();
    holds(|dir| {
        let (config, out) = (config.clone(), dir.join("out"));
        Subject {
            factory: Arc::new(move |context| {
                let built = FilePublisher::build(config.clone(), context);
                Box::pin(async { Ok(Box::new(built?) as Box<dyn Publisher>) })
            }),
            arrived: Box::new(move || ids_in(&out)),
        }
    })
    .await;
}

/// Stands for the standard output.
#[derive(Clone, Default)]
struct Terminal(Arc<Mutex<Vec<u8>>>);

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Not everything at once, as a pipe would.
        let length = bytes.len().min(1_000);
        self.0.lock().extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn stdout() {
    holds(|_| {
        let terminal = Terminal::default();
        let out = terminal.clone();
        Subject {
            factory: Arc::new(move |context| {
                let publisher = StdoutPublisher::to(Box::new(terminal.clone()), context);
                Box::pin(async { Ok(Box::new(publisher) as Box<dyn Publisher>) })
            }),
            arrived: Box::new(move || Arrived::Ids(ids(std::str::from_utf8(&out.0.lock()).unwrap()))),
        }
    })
    .await;
}

/// What a scrape of these series shows.
#[cfg(feature = "prometheus")]
fn scraped(series: &Series, metric: &str) -> usize {
    let mut text = Vec::new();
    TextEncoder::new().encode(&series.gather(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let samples = text.lines().filter(|line| line.starts_with(&format!("{metric}_count{{")));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

#[cfg(feature = "prometheus")]
const EVENTS_AND_OPERATIONS: [&str; 2] = ["event_duration_seconds", "network_latency_seconds"];

#[cfg(feature = "prometheus")]
#[tokio::test]
async fn prometheus() {
    use crate::publishers::PrometheusPublisher;

    let config: <PrometheusPublisher as PublisherType>::Config =
        toml::from_str("listen = '127.0.0.1:0'").unwrap();
    holds(|_| {
        // Those of the first: its successors take them over, or counts would start anew. They are asked, for nobody
        // answers scrapes once the publisher has ended.
        let first: Arc<Mutex<Option<Arc<Series>>>> = Arc::default();
        let (config, built) = (config.clone(), first.clone());
        Subject {
            factory: Arc::new(move |context| {
                let publisher = PrometheusPublisher::build(config.clone(), context);
                if let Ok(publisher) = &publisher {
                    built.lock().get_or_insert_with(|| publisher.series());
                }
                Box::pin(async { Ok(Box::new(publisher?) as Box<dyn Publisher>) })
            }),
            arrived: Box::new(move || {
                let series = first.lock();
                let [events, operations] =
                    EVENTS_AND_OPERATIONS.map(|metric| scraped(series.as_ref().unwrap(), metric));
                Counts { events, operations }
            }),
        }
    })
    .await;
}

#[cfg(feature = "grafana-cloud")]
#[tokio::test]
async fn grafana_cloud() {
    use crate::publishers::GrafanaCloudPublisher;
    use crate::publishers::grafana_cloud::tests::store::Store;

    holds(|_| {
        let store = Store::new();
        let config = format!("url = '{}'\nuser = 7\napi_key = 'x'\npush_interval = '10ms'", store.url());
        let config: <GrafanaCloudPublisher as PublisherType>::Config = toml::from_str(&config).unwrap();
        let first: Arc<Mutex<Option<Arc<Series>>>> = Arc::default();
        let built = first.clone();
        Subject {
            factory: Arc::new(move |context| {
                let publisher = GrafanaCloudPublisher::build(config.clone(), context);
                if let Ok(publisher) = &publisher {
                    built.lock().get_or_insert_with(|| publisher.series());
                }
                Box::pin(async { Ok(Box::new(publisher?) as Box<dyn Publisher>) })
            }),
            // By how much the counters grew at the receiver, once it has what was folded.
            arrived: Box::new(move || {
                let series = first.lock().clone().unwrap();
                let arrived = |metric: &str| store.increase(&format!("{metric}_count"), &[]) as usize;
                if EVENTS_AND_OPERATIONS.iter().any(|metric| arrived(metric) != scraped(&series, metric)) {
                    return Arrived::Underway;
                }
                let [events, operations] = EVENTS_AND_OPERATIONS.map(arrived);
                Counts { events, operations }
            }),
        }
    })
    .await;
}

#[cfg(feature = "grafana-cloud")]
#[tokio::test]
async fn loki() {
    use crate::publishers::LokiPublisher;
    use crate::publishers::loki::tests::Kept;

    holds(|_| {
        let kept = Kept::new();
        let config = format!("url = '{}'\nuser = 7\napi_key = 'x'", kept.url());
        let config: <LokiPublisher as PublisherType>::Config = toml::from_str(&config).unwrap();
        Subject {
            factory: Arc::new(move |context| {
                let built = LokiPublisher::build(config.clone(), context);
                Box::pin(async { Ok(Box::new(built?) as Box<dyn Publisher>) })
            }),
            arrived: Box::new(move || {
                Arrived::Ids(kept.lines().iter().map(|line| id_in(line, "/id")).collect())
            }),
        }
    })
    .await;
}

#[cfg(feature = "elasticsearch")]
mod elasticsearch {
    use super::{Arrived, Behaviour, SLOW, Subject, Uuid, holds, outcomes_hold};
    use crate::publisher::{Publisher, PublisherType};
    use crate::publishers::ElasticsearchPublisher;
    use crate::publishers::elasticsearch::tests::{Asked, Kept, Reply, Script, item, items_reply};
    use std::sync::Arc;

    /// What a server that behaves so answers to a bulk request.
    fn act(behaviour: Behaviour, calls: usize, asked: &Asked, kept: &mut Kept) -> Option<Reply> {
        let other = |row: usize, status, kept: &mut Kept| {
            let items = asked.items().into_iter().enumerate();
            items_reply(
                items
                    .map(|(at, document)| match at == row {
                        true => item(status, "some_exception", "not this one"),
                        false => kept.create(document),
                    })
                    .collect(),
            )
        };
        match behaviour {
            Behaviour::Publish => None,
            Behaviour::RejectRow => Some(other(0, 400, kept)),
            Behaviour::RetryRow => Some(other(1, 429, kept)),
            Behaviour::RetryFirst => (calls <= 3).then(|| Reply::error(503, "unavailable", "not now")),
            Behaviour::Hold => Some(Reply::error(401, "security_exception", "who are you?")),
            Behaviour::RejectAll => {
                let refuse = |_| item(400, "some_exception", "none of them");
                Some(items_reply(asked.items().into_iter().map(refuse).collect()))
            }
            Behaviour::Slow => {
                let items = asked.items().into_iter().map(|document| kept.create(document)).collect();
                Some(Reply::Late(SLOW, Box::new(items_reply(items))))
            }
            Behaviour::FlushError => unreachable!("nothing is held back that a flush could fail to hand on"),
        }
    }

    fn subject(behaviour: Behaviour) -> Subject {
        let mut calls = 0;
        let server = Script::start(move |asked, kept| {
            if !asked.is_bulk() {
                return None;
            }
            calls += 1;
            act(behaviour, calls, asked, kept)
        });
        let config: <ElasticsearchPublisher as PublisherType>::Config =
            toml::from_str(&format!("hosts = ['{}']", server.url())).unwrap();
        Subject {
            factory: Arc::new(move |context| {
                let built = ElasticsearchPublisher::build(config.clone(), context);
                Box::pin(async { Ok(Box::new(built?) as Box<dyn Publisher>) })
            }),
            arrived: Box::new(move || {
                let id = |id: &str| id.parse::<Uuid>().unwrap();
                Arrived::Ids(server.look(|kept| kept.documents.keys().map(|(_, at)| id(at)).collect()))
            }),
        }
    }

    #[tokio::test]
    async fn a_scripted_server() {
        holds(|_| subject(Behaviour::Publish)).await;
        outcomes_hold(|behaviour, _| subject(behaviour)).await;
    }
}

/// One that a program brings along.
struct Embedded {
    behaviour: Behaviour,
    calls: usize,
    arrived: Arc<Mutex<Vec<Uuid>>>,
}

impl Embedded {
    fn subject(behaviour: Behaviour) -> Subject {
        let arrived: Arc<Mutex<Vec<Uuid>>> = Arc::default();
        let seen = arrived.clone();
        Subject {
            factory: Arc::new(move |_| {
                let publisher = Self { behaviour, calls: 0, arrived: arrived.clone() };
                Box::pin(async { Ok(Box::new(publisher) as Box<dyn Publisher>) })
            }),
            arrived: Box::new(move || Arrived::Ids(seen.lock().clone())),
        }
    }

    async fn publish(&mut self, ids: Vec<Uuid>) -> PublishResult {
        self.calls += 1;
        if let Behaviour::Slow = self.behaviour {
            tokio::time::sleep(SLOW).await;
        }
        let left_out = match self.behaviour {
            Behaviour::RetryFirst if self.calls <= 3 => return Err(PublishError::retry("not now")),
            Behaviour::Hold => return Err(PublishError::hold("it wants to be mended")),
            Behaviour::RejectRow => Some((0, Fate::Reject { reason: "this row never".into() })),
            Behaviour::RetryRow => Some((1, Fate::Retry { reason: "this row later".into(), after: None })),
            Behaviour::RejectAll => return Err(PublishError::reject("never")),
            Behaviour::Publish | Behaviour::RetryFirst | Behaviour::Slow | Behaviour::FlushError => None,
        };
        let left_out = left_out.filter(|(row, _)| *row < ids.len());
        let kept = |row: &usize| left_out.as_ref().is_none_or(|(left_out, _)| left_out != row);
        self.arrived.lock().extend((0..ids.len()).filter(kept).map(|row| ids[row]));
        Ok(left_out.map(|(row, fate)| Unpublished { row: row as u32, fate }).into_iter().collect())
    }
}

#[async_trait::async_trait]
impl Publisher for Embedded {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.publish(events.iter().map(|event| event.id).collect()).await
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.publish(operations.iter().map(|operation| operation.id).collect()).await
    }

    async fn flush(&mut self) -> Result<(), PublishError> {
        match self.behaviour {
            Behaviour::FlushError => Err(PublishError::retry("not handed on")),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn embedded() {
    holds(|_| Embedded::subject(Behaviour::Publish)).await;
    outcomes_hold(|behaviour, _| Embedded::subject(behaviour)).await;
    flush_errors_hold(|behaviour, _| Embedded::subject(behaviour)).await;
}

/// A failover over these, the first choice first. What has reached one of them has arrived.
fn failover(members: Vec<(&str, Subject)>, behaviour: Behaviour, dir: &Path) -> Subject {
    use crate::publisher::{BreakerSettings, Context};
    use crate::publishers::composite::{Failover, MemberPlan};
    use std::time::Duration;

    let (mut plans, mut arrived) = (Vec::new(), Vec::new());
    for (label, subject) in members {
        arrived.push(subject.arrived);
        plans.push(MemberPlan {
            kind: "member".into(),
            factory: subject.factory,
            context: Context::detached(label, dir),
            timeout: Duration::from_secs(30),
            fingerprint: format!("{behaviour:?}"),
            missing: None,
            required: true,
        });
    }
    // So quick that members go out and come back many times.
    let (initial, max) = (Duration::from_millis(1), Duration::from_millis(5));
    let breaker = BreakerSettings { failures: 2, initial, max, ..BreakerSettings::default() };
    Subject {
        factory: Failover::factory(breaker, plans),
        arrived: Box::new(move || {
            let ids = arrived.iter().flat_map(|arrived| match arrived() {
                Arrived::Ids(ids) => ids,
                _ => panic!("all members keep their records"),
            });
            Arrived::Ids(ids.collect())
        }),
    }
}

#[tokio::test]
async fn composite() {
    let file = |name: &str, dir: &Path| {
        let config: <FilePublisher as PublisherType>::Config =
            toml::from_str(&format!("path = '{name}/x.jsonl'")).unwrap();
        let out = dir.join(name);
        Subject {
            factory: Arc::new(move |context| {
                let built = FilePublisher::build(config.clone(), context);
                Box::pin(async { Ok(Box::new(built?) as Box<dyn Publisher>) })
            }),
            arrived: Box::new(move || if out.exists() { ids_in(&out) } else { Arrived::Ids(Vec::new()) }),
        }
    };
    let well = Behaviour::Publish;
    holds(|dir| failover(vec![("a", file("a", dir)), ("b", file("b", dir))], well, dir)).await;
    // The first choice is down all the time, and nobody is the wiser.
    holds(|dir| failover(vec![("a", Embedded::subject(Behaviour::Hold)), ("b", file("b", dir))], well, dir))
        .await;
    let alike = |behaviour, dir: &Path| {
        let members = ["a", "b"].map(|label| (label, Embedded::subject(behaviour)));
        failover(members.into(), behaviour, dir)
    };
    outcomes_hold(alike).await;
    flush_errors_hold(alike).await;
}

#[cfg(feature = "wasm")]
#[tokio::test]
async fn wasm() {
    holds(|dir| {
        let out = dir.join("out");
        std::fs::create_dir_all(&out).unwrap();
        let section = "grant = { dirs = [{ host = 'out', guest = '/out', write = true }] }";
        Subject {
            factory: crate::wasm::tests::factory("ndjson", section),
            arrived: Box::new(move || ids_in(&out)),
        }
    })
    .await;
}

#[cfg(feature = "wasm")]
#[tokio::test]
async fn wasm_with_outcomes() {
    let hostile = |behaviour, _: &Path| {
        let config = match behaviour {
            Behaviour::Publish => "do = 'once'",
            Behaviour::RejectRow => "do = 'reject-row', row = 0",
            Behaviour::RetryRow => "do = 'retry-row', row = 1",
            Behaviour::RetryFirst => "do = 'retry-first', n = 3",
            Behaviour::Hold => "do = 'hold'",
            Behaviour::RejectAll => "do = 'reject-all'",
            Behaviour::Slow => &format!("do = 'sleep', ms = {}", SLOW.as_millis()),
            Behaviour::FlushError => "do = 'flush-error'",
        };
        let section = format!("config = {{ {config} }}");
        Subject { factory: crate::wasm::tests::factory("hostile", &section), arrived: Box::new(|| Untold) }
    };
    outcomes_hold(hostile).await;
    flush_errors_hold(hostile).await;
}
