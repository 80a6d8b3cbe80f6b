//! How a worker treats a publisher that is down.

use super::*;
use crate::publisher::Stand;

/// Counts the calls of either kind, and takes nothing until it is up.
#[derive(Clone, Default)]
struct Down {
    calls: Arc<Mutex<(usize, usize)>>,
    up: Arc<std::sync::atomic::AtomicBool>,
}

impl Down {
    fn answer(&self) -> PublishResult {
        match self.up.load(std::sync::atomic::Ordering::Relaxed) {
            true => Ok(Vec::new()),
            false => Err(PublishError::retry("connection refused")),
        }
    }
}

#[async_trait::async_trait]
impl Publisher for Down {
    async fn publish_event_metrics(&mut self, _: &EventBatch) -> PublishResult {
        self.calls.lock().0 += 1;
        self.answer()
    }
    async fn publish_network_metrics(&mut self, _: &NetworkBatch) -> PublishResult {
        self.calls.lock().1 += 1;
        self.answer()
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_down_is_asked_once_an_attempt_and_the_report_says_when_next() {
    let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
    let letters = Arc::new(DeadLetters::new("never written"));
    let mut config = config();
    (config.retry.initial, config.retry.max) = (Duration::from_millis(1), Duration::from_secs(10));
    let down = Down::default();
    let publisher = Box::new(down.clone());
    let plan = plan(&Shared::default(), config);
    let delivery = Delivery::start("a".into(), &journal, Ok(publisher), plan, letters);
    let mut operation = NetworkMetrics::started(Uuid::nil(), "t", "GET", "h", 1, Timestamp::from_nanos(1));
    operation.end_time = Some(Timestamp::from_nanos(2));
    let mut batch = Batch { events: vec![event("1")], operations: vec![operation] };
    journal.append(&mut batch).unwrap();
    journal.seal();
    let until_called = async |events: usize| {
        while down.calls.lock().0 < events {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        delivery.status()
    };
    assert_eq!(until_called(3).await.breaker, Stand::Closed);
    let status = until_called(20).await;
    assert_eq!(*down.calls.lock(), (20, 5), "five times in a row: it is down, and no longer asked twice");
    assert_eq!((status.state, status.breaker), (State::Retrying, Stand::Open));
    let next = status.next_attempt.unwrap().since(Timestamp::now());
    assert!(next > Duration::from_secs(1) && next <= Duration::from_secs(10), "{next:?}");

    down.up.store(true, std::sync::atomic::Ordering::Relaxed);
    until_called(21).await;
    while delivery.status().books.backlog > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let status = delivery.status();
    assert_eq!((status.state, status.breaker, status.next_attempt), (State::Running, Stand::Closed, None));
    assert_eq!(*down.calls.lock(), (21, 6));
}
