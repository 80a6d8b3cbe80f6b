//! A failover over scripted members, on paused time.

mod calls;
mod property;
mod succession;

use super::*;
use crate::record::{EventMetrics, NetworkMetrics, Timestamp};
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::time::Instant;
use uuid::Uuid;

/// What a member does when it is called; when nothing is left of the script, it takes everything.
#[derive(Clone, Debug)]
enum Act {
    /// It answers so, and has taken what it does not list.
    Answer(PublishResult),
    Panic,
    /// It never answers, and has taken nothing.
    Hang,
    /// It never answers, and has taken everything.
    TakeAndHang,
}

#[derive(Default)]
struct Script {
    acts: VecDeque<Act>,
    /// What it does to a flush; it answers otherwise.
    flushes: VecDeque<Act>,
    /// The rows of every call, by number, and when it came.
    calls: Vec<(Vec<u128>, Instant)>,
    taken: Vec<u128>,
    /// Of these, those of attempts that were cut off: nobody was told.
    untold: Vec<u128>,
    /// Why it cannot be built, or opened; and what was opened after what.
    unbuildable: Option<&'static str>,
    unopenable: Option<&'static str>,
    opened: Vec<&'static str>,
    flushed: usize,
}

type Shared = Arc<Mutex<Script>>;

struct Scripted {
    script: Shared,
    /// Whether it has been used: a successor sees that.
    used: bool,
}

impl Scripted {
    async fn publish(&mut self, rows: Vec<u128>) -> PublishResult {
        self.used = true;
        let act = {
            let mut script = self.script.lock();
            script.calls.push((rows.clone(), Instant::now()));
            script.acts.pop_front().unwrap_or(Act::Answer(Ok(Vec::new())))
        };
        let answer = match act {
            Act::Answer(answer) => answer,
            Act::Panic => panic!("as the script says"),
            Act::Hang => std::future::pending().await,
            Act::TakeAndHang => {
                {
                    let mut script = self.script.lock();
                    script.taken.extend(&rows);
                    script.untold.extend(&rows);
                }
                std::future::pending().await
            }
        };
        if let Ok(left_out) = &answer {
            let kept = |row: &usize| left_out.iter().all(|left_out| left_out.row as usize != *row);
            self.script.lock().taken.extend((0..rows.len()).filter(kept).map(|row| rows[row]));
        }
        answer
    }
}

#[async_trait::async_trait]
impl Publisher for Scripted {
    async fn open(&mut self, predecessor: Option<&mut dyn Publisher>) -> anyhow::Result<()> {
        let after = match predecessor.map(|old| (old as &mut dyn Any).downcast_mut::<Self>().unwrap().used) {
            None => "nothing",
            Some(false) => "a fresh one",
            Some(true) => "a used one",
        };
        let mut script = self.script.lock();
        script.opened.push(after);
        script.unopenable.map_or(Ok(()), |reason| Err(anyhow::anyhow!(reason)))
    }

    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.publish(events.iter().map(|event| event.id.as_u128()).collect()).await
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.publish(operations.iter().map(|operation| operation.id.as_u128()).collect()).await
    }

    async fn flush(&mut self) -> Result<(), PublishError> {
        let act = {
            let mut script = self.script.lock();
            script.flushed += 1;
            script.flushes.pop_front()
        };
        match act {
            None => Ok(()),
            Some(Act::Answer(answer)) => answer.map(drop),
            Some(Act::Panic) => panic!("as the script says"),
            Some(Act::Hang | Act::TakeAndHang) => std::future::pending().await,
        }
    }

    fn status(&self) -> Option<StatusSource> {
        let script = self.script.clone();
        Some(Arc::new(move || serde_json::json!({ "taken": script.lock().taken.len() })))
    }
}

const TIMEOUT: Duration = Duration::from_secs(4);
const SETTINGS: BreakerSettings = BreakerSettings {
    failures: 3,
    failing_for: Duration::from_secs(60),
    initial: Duration::from_secs(100),
    max: Duration::from_secs(100),
};

fn member(label: &str, script: &Shared) -> MemberPlan {
    let script = script.clone();
    let factory: Factory = Arc::new(move |_| {
        let publisher = Scripted { script: script.clone(), used: false };
        Box::pin(async move {
            let unbuildable = publisher.script.lock().unbuildable;
            anyhow::ensure!(unbuildable.is_none(), "{}", unbuildable.unwrap_or_default());
            Ok(Box::new(publisher) as Box<dyn Publisher>)
        })
    });
    MemberPlan {
        kind: "scripted".into(),
        factory,
        context: Context::detached(label, ""),
        timeout: TIMEOUT,
        fingerprint: "as it was".into(),
        missing: None,
        required: true,
    }
}

/// A failover of three, `a`, `b` and `c`.
struct Bench {
    scripts: [Shared; 3],
    failover: Box<dyn Publisher>,
}

impl Bench {
    async fn new(acts: [Vec<Act>; 3]) -> Self {
        let scripts = acts.map(|acts| {
            let script = Script { acts: acts.into(), ..Script::default() };
            Arc::new(Mutex::new(script))
        });
        let mut failover = build(&plans(&scripts)).await.unwrap();
        failover.open(None).await.unwrap();
        Self { scripts, failover }
    }

    /// Publishes events of these numbers.
    async fn publish(&mut self, numbers: std::ops::Range<u128>) -> PublishResult {
        let events = numbers.map(event).collect();
        self.failover.publish_event_metrics(&EventBatch::detached(events)).await
    }

    fn taken(&self) -> [Vec<u128>; 3] {
        self.scripts.each_ref().map(|script| script.lock().taken.clone())
    }

    fn calls(&self) -> [usize; 3] {
        self.scripts.each_ref().map(|script| script.lock().calls.len())
    }

    fn status(&self) -> serde_json::Value {
        self.failover.status().unwrap()()
    }

    fn states(&self) -> Vec<String> {
        let status = self.status();
        let members = status["members"].as_array().unwrap();
        members.iter().map(|member| member["state"].as_str().unwrap().to_owned()).collect()
    }

    /// Lets time pass until every probe is due.
    async fn until_probes(&self) {
        tokio::time::sleep(SETTINGS.max).await;
    }
}

fn plans(scripts: &[Shared; 3]) -> Vec<MemberPlan> {
    ["a", "b", "c"].into_iter().zip(scripts).map(|(label, script)| member(label, script)).collect()
}

async fn build(plans: &[MemberPlan]) -> anyhow::Result<Box<dyn Publisher>> {
    Failover::factory(SETTINGS, plans.to_vec())(Context::detached("safe", "")).await
}

fn event(number: u128) -> EventMetrics {
    EventMetrics::started(Uuid::from_u128(number), "step", "task", Timestamp::default())
}

fn operation(number: u128) -> NetworkMetrics {
    NetworkMetrics::started(Uuid::from_u128(number), "task", "GET", "h", 1, Timestamp::default())
}

fn retry(reason: &str) -> Act {
    Act::Answer(Err(PublishError::retry(reason)))
}

fn hold(reason: &str) -> Act {
    Act::Answer(Err(PublishError::hold(reason)))
}

fn later(row: u32) -> Unpublished {
    Unpublished { row, fate: Fate::Retry { reason: "later".into(), after: None } }
}

fn never(row: u32) -> Unpublished {
    Unpublished { row, fate: Fate::Reject { reason: "never".into() } }
}

/// As the failover passes it on.
fn says(label: &str, mut left_out: Unpublished) -> Unpublished {
    let (Fate::Retry { reason, .. } | Fate::Reject { reason } | Fate::Wait { reason, .. }) =
        &mut left_out.fate;
    *reason = format!("{label}: {reason}");
    left_out
}

fn rows(left_out: impl Into<Vec<Unpublished>>) -> Act {
    Act::Answer(Ok(left_out.into()))
}
