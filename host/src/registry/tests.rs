use super::*;
use crate::config::DeliveryConfig;
use crate::delivery::State as Stands;
use crate::journal::JournalSettings;
use crate::publisher::{Context, Factory, PublishResult, Publisher};
use crate::record::{Batch, EventBatch, EventMetrics, NetworkBatch, Status, Timestamp};
use uuid::Uuid;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Named(String, Log);

#[async_trait::async_trait]
impl Publisher for Named {
    async fn open(&mut self, predecessor: Option<&mut dyn Publisher>) -> anyhow::Result<()> {
        let after = predecessor.map_or("nothing", |_| "one");
        self.1.0.lock().push(format!("open {} after {after}", self.0));
        assert!(self.0 != "panics", "no such luck");
        anyhow::ensure!(self.0 != "taken", "the port is taken");
        let dead = self.1.0.lock().iter().filter(|line| *line == "gone dead").count();
        anyhow::ensure!(self.0 != "exclusive" || dead > 0, "the port is taken by one that goes");
        Ok(())
    }
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        if self.0 == "dead" {
            return Err(crate::publisher::PublishError::retry("nobody answers"));
        }
        self.1.0.lock().push(format!("{} {}", self.0, events.len()));
        Ok(Vec::new())
    }
    async fn publish_network_metrics(&mut self, _: &NetworkBatch) -> PublishResult {
        Ok(Vec::new())
    }
}

struct Bench {
    registry: Registry,
    journal: Journal,
    log: Log,
}

impl Drop for Named {
    fn drop(&mut self) {
        if self.0 == "dead" {
            self.1.0.lock().push("gone dead".to_owned());
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(300);

impl Bench {
    fn new() -> Self {
        let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
        let letters = Arc::new(DeadLetters::new("never written"));
        Self { registry: Registry::new(journal.clone(), letters), journal, log: Log::default() }
    }

    /// A publisher by the name of its settings.
    fn desired(&self, label: &str, name: &str) -> Desired {
        let (log, of) = (self.log.clone(), name.to_owned());
        let factory: Factory = Arc::new(move |_| {
            assert!(of != "no factory", "not even a future");
            let publisher = Named(of.clone(), log.clone());
            Box::pin(async move {
                anyhow::ensure!(publisher.0 != "broken", "it is broken");
                Ok(Box::new(publisher) as Box<dyn Publisher>)
            })
        });
        let context = Context::detached(label, "");
        let config = DeliveryConfig::default();
        let plan = Plan { kind: "named".into(), config, filters: Vec::new(), factory, context };
        let fingerprint = name.to_owned();
        Desired {
            label: label.into(),
            fingerprint,
            plan,
            missing: None,
            configured: true,
            required: false,
            members: Vec::new(),
        }
    }

    async fn apply(&self, desired: impl IntoIterator<Item = Desired>) -> Applied {
        self.registry.apply(desired.into_iter().collect(), PATIENCE, false).await
    }

    fn record(&self) {
        let mut event = EventMetrics::started(Uuid::nil(), "e", "t", Timestamp::from_nanos(1));
        event.end_time = Some(Timestamp::from_nanos(2));
        event.status = Status::Completed;
        let mut batch: Batch = [event].into_iter().collect();
        self.journal.append(&mut batch).unwrap();
    }

    fn status(&self, label: &str) -> PublisherStatus {
        self.registry.status().into_iter().find(|status| &*status.label == label).unwrap()
    }
}

fn labels(labels: &[Arc<str>]) -> Vec<&str> {
    labels.iter().map(|label| &**label).collect()
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_is_not_touched_and_what_did_keeps_its_books() {
    let bench = Bench::new();
    let applied = bench.apply([bench.desired("a", "1"), bench.desired("b", "1")]).await;
    assert_eq!(labels(&applied.started), ["a", "b"]);
    bench.record();
    let applied = bench.apply([bench.desired("a", "1"), bench.desired("b", "2")]).await;
    assert_eq!((labels(&applied.unchanged), labels(&applied.replaced)), (vec!["a"], vec!["b"]));
    bench.record();
    let accounts = bench.registry.shutdown(PATIENCE).await;
    for account in &accounts {
        assert_eq!((account.books.accepted, account.books.delivered), (2, 2));
    }
    let opened =
        bench.log.0.lock().iter().filter(|line| line.starts_with("open")).cloned().collect::<Vec<_>>();
    assert_eq!(opened, ["open 1 after nothing", "open 1 after nothing", "open 2 after one"]);
}

#[tokio::test(start_paused = true)]
async fn a_label_that_goes_is_drained_and_a_rename_is_both() {
    let bench = Bench::new();
    bench.apply([bench.desired("old", "1")]).await;
    bench.record();
    let applied = bench.apply([bench.desired("new", "1")]).await;
    assert_eq!((labels(&applied.removed), labels(&applied.started)), (vec!["old"], vec!["new"]));
    bench.record();
    let accounts = bench.registry.shutdown(PATIENCE).await;
    let books: Vec<_> =
        accounts.iter().map(|of| (&*of.label, of.books.accepted, of.books.delivered)).collect();
    assert_eq!(books, [("old", 1, 1), ("new", 1, 1)]);
    assert!(bench.registry.status().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_moves_into_another_leaves_its_old_place_first() {
    let bench = Bench::new();
    let made_of = |label, name, members: &[&str]| {
        let members = members.iter().map(|member| (*member).into()).collect();
        Desired { members, ..bench.desired(label, name) }
    };
    let before = |first: &str, then: &str| {
        let log = bench.log.0.lock();
        let at = |wanted: &str| {
            log.iter().position(|line| line == wanted).unwrap_or_else(|| panic!("{wanted}: {log:?}"))
        };
        assert!(at(first) < at(then), "{log:?}");
    };
    bench.apply([bench.desired("a", "1"), made_of("safe", "2", &["b"]), made_of("z", "3", &["c"])]).await;
    // `a`, which was delivered to on its own, becomes a part of `safe`, which there was before.
    bench.record();
    bench.apply([made_of("safe", "4", &["a", "b"]), made_of("z", "3", &["c"])]).await;
    before("1 1", "open 4 after one");
    // `a` is on its own again, and `b` moves on to `z`: first `safe` lets them go.
    bench.apply([bench.desired("a", "5"), bench.desired("safe", "6"), made_of("z", "7", &["b", "c"])]).await;
    before("open 6 after one", "open 5 after nothing");
    before("open 6 after one", "open 7 after one");
    // `c` is to be delivered to on its own, and `z` cannot be changed: then it does not let go of it.
    let apart = || [bench.desired("c", "8"), bench.desired("a", "5"), bench.desired("safe", "6")];
    let applied = bench.apply(apart().into_iter().chain([made_of("z", "taken", &["b"])])).await;
    let failed: Vec<_> =
        applied.failed.iter().map(|failed| (&*failed.label, failed.reason.as_str())).collect();
    let still = "\"c\" is still a member of \"z\", which could not be changed";
    assert_eq!(failed, [("c", still), ("z", "the port is taken")]);
    assert_eq!(bench.status("c").state, Stands::Waiting);
    let still_wrong = apart().into_iter().chain([made_of("z", "taken", &["b"])]).collect();
    bench.registry.apply(still_wrong, PATIENCE, true).await;
    assert_eq!(bench.status("c").state, Stands::Waiting);
    let mended = apart().into_iter().chain([made_of("z", "9", &["b"])]).collect();
    bench.registry.apply(mended, PATIENCE, true).await;
    before("open 9 after one", "open 8 after nothing");
    bench.registry.shutdown(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_change_leaves_the_old_one_running_and_says_why() {
    let bench = Bench::new();
    bench.apply([bench.desired("a", "1")]).await;
    let reasons = [
        ("broken", "it is broken"),
        ("taken", "the port is taken"),
        ("panics", "no such luck"),
        ("no factory", "not even a future"),
    ];
    for (name, reason) in reasons {
        let applied = bench.apply([bench.desired("a", name)]).await;
        assert!(applied.failed[0].reason.contains(reason), "{applied:?}");
        let status = bench.status("a");
        assert_eq!(status.state, Stands::Running);
        assert!(status.update_failed.unwrap().contains(reason));
    }
    bench.record();
    let applied = bench.apply([bench.desired("a", "1")]).await;
    assert_eq!((labels(&applied.unchanged), bench.status("a").update_failed), (vec!["a"], None));
    assert_eq!(bench.registry.shutdown(PATIENCE).await[0].books.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_start_waits_with_a_cursor_if_it_is_configured() {
    let bench = Bench::new();
    let mut dropped_in = bench.desired("dropped-in", "panics");
    dropped_in.configured = false;
    let mut required = bench.desired("required", "taken");
    required.required = true;
    let missing = Desired { missing: Some("no such file".into()), ..bench.desired("missing", "1") };
    let applied = bench.apply([dropped_in, required, missing]).await;
    assert_eq!(applied.waiting, [("missing".into(), "no such file".into())]);
    let failed: Vec<_> = applied.failed.iter().map(|failed| (&*failed.label, failed.required)).collect();
    assert_eq!(failed, [("dropped-in", false), ("required", true)]);
    bench.record();
    let states = ["dropped-in", "required", "missing"].map(|label| {
        let status = bench.status(label);
        (status.state, status.books.backlog)
    });
    assert_eq!(states, [(Stands::Failed, 0), (Stands::Waiting, 1), (Stands::Waiting, 1)]);

    let applied = bench.apply([bench.desired("required", "1"), bench.desired("missing", "1")]).await;
    assert_eq!(labels(&applied.replaced), ["missing", "required"]);
    let missing = Desired { missing: Some("gone again".into()), ..bench.desired("missing", "1") };
    bench.apply([bench.desired("required", "1"), missing]).await;
    bench.record();
    let status = bench.status("missing");
    assert_eq!((status.state, status.reason.as_deref()), (Stands::Waiting, Some("gone again")));
    let applied = bench.apply([bench.desired("required", "1"), bench.desired("missing", "1")]).await;
    assert_eq!(labels(&applied.replaced), ["missing"]);
    for account in bench.registry.shutdown(PATIENCE).await {
        assert_eq!((account.books.accepted, account.books.delivered), (2, 2), "{}", account.label);
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_tried_again_only_when_it_changed_or_when_told_to() {
    let bench = Bench::new();
    bench.apply([bench.desired("a", "taken")]).await;
    bench.apply([bench.desired("a", "taken")]).await;
    assert_eq!(bench.log.0.lock().len(), 1);
    let applied = bench.registry.apply(vec![bench.desired("a", "taken")], PATIENCE, true).await;
    assert_eq!((bench.log.0.lock().len(), applied.failed.len()), (2, 1));
    bench.apply([bench.desired("a", "1")]).await;
    assert_eq!(bench.status("a").state, Stands::Running);
}

/// One whose build never ends.
fn never_built(mut desired: Desired) -> Desired {
    desired.plan.factory = Arc::new(|_| Box::pin(std::future::pending()));
    desired
}

#[tokio::test(start_paused = true)]
async fn one_that_is_slow_to_build_is_pending_with_its_cursor_and_delays_no_other() {
    let bench = Bench::new();
    let slow = || never_built(bench.desired("slow", "1"));
    let round = bench.registry.begin(vec![slow(), bench.desired("quick", "1")], false);
    let _slow = std::pin::pin!(bench.registry.finish(round, PATIENCE));
    // What is accepted from here on is for both, though neither runs.
    bench.record();
    let states =
        ["slow", "quick"].map(|label| (bench.status(label).state, bench.status(label).books.backlog));
    assert_eq!(states, [(Stands::Pending, 1), (Stands::Pending, 1)]);
    // A later call is not held up by the build, nor by the label that it is for.
    let round =
        bench.registry.begin(vec![slow(), bench.desired("quick", "1"), bench.desired("later", "1")], false);
    let finish = bench.registry.finish(round, PATIENCE);
    let live = async { bench.registry.settled(&["quick".into(), "later".into()]).await };
    tokio::select! {
        _ = finish => panic!("the slow one is never built"),
        () = live => {}
    }
    assert_eq!(["slow", "later"].map(|label| bench.status(label).state), [Stands::Pending, Stands::Running]);
    // And the end waits for it no longer than the deadline.
    let began = Instant::now();
    let accounts = bench.registry.shutdown(PATIENCE).await;
    assert_eq!(began.elapsed(), PATIENCE);
    let books: Vec<_> =
        accounts.iter().map(|of| (&*of.label, of.books.accepted, of.books.dropped.shutdown)).collect();
    assert!(books.contains(&("slow", 1, 1)), "{books:?}");
}

#[tokio::test(start_paused = true)]
async fn the_newest_wins_and_no_stale_build_replaces_it() {
    let bench = Bench::new();
    bench.apply([bench.desired("a", "1")]).await;
    let (build, built) = tokio::sync::oneshot::channel::<()>();
    let built = Arc::new(Mutex::new(Some(built)));
    let mut stale = bench.desired("a", "stale");
    let make = bench.desired("a", "stale").plan.factory;
    stale.plan.factory = Arc::new(move |context| {
        let (make, built) = (make.clone(), built.lock().take());
        Box::pin(async move {
            if let Some(built) = built {
                let _ = built.await;
            }
            make(context).await
        })
    });
    let first = bench.registry.begin(vec![stale], false);
    let second = bench.registry.begin(vec![bench.desired("a", "newest")], false);
    let (first, second) = tokio::join!(bench.registry.finish(first, PATIENCE), async {
        let applied = bench.registry.finish(second, PATIENCE).await;
        let _ = build.send(());
        applied
    });
    assert_eq!((first, labels(&second.replaced)), (Applied::default(), vec!["a"]));
    bench.record();
    bench.registry.shutdown(PATIENCE).await;
    let log = bench.log.0.lock();
    assert!(
        !log.iter().any(|line| line.contains("stale")) && log.contains(&"newest 1".to_owned()),
        "{log:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_removed_dead_one_delays_neither_a_new_one_nor_its_own_successor() {
    let bench = Bench::new();
    bench.apply([bench.desired("dead", "dead"), bench.desired("kept", "1")]).await;
    bench.record();
    let began = Instant::now();
    let round = bench.registry.begin(vec![bench.desired("kept", "1"), bench.desired("new", "1")], false);
    let removing = bench.registry.finish(round, PATIENCE);
    let adding = async {
        bench.registry.settled(&["new".into()]).await;
        // The same label again, while what was removed is still on its way out.
        let desired = ["kept", "new", "dead"].map(|label| bench.desired(label, "1")).to_vec();
        let round = bench.registry.begin(desired, false);
        bench.record();
        let applied = bench.registry.finish(round, PATIENCE).await;
        assert_eq!(labels(&applied.started), ["dead"]);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    };
    let (applied, ()) = tokio::join!(removing, adding);
    assert_eq!((labels(&applied.removed), labels(&applied.started)), (vec!["dead"], vec!["new"]));
    let accounts = bench.registry.shutdown(PATIENCE).await;
    let dead: Vec<_> = accounts.iter().filter(|of| &*of.label == "dead").map(|of| of.books).collect();
    assert_eq!(
        dead.iter().map(|books| (books.dropped.removed, books.delivered)).collect::<Vec<_>>(),
        [(1, 0), (0, 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_while_a_removed_one_holds_it_is_opened_when_that_has_ended() {
    let bench = Bench::new();
    bench.apply([bench.desired("dead", "dead")]).await;
    bench.record();
    // `exclusive` can be opened once `dead` has gone.
    let applied = bench.apply([bench.desired("new", "exclusive")]).await;
    assert_eq!((labels(&applied.started), labels(&applied.removed)), (Vec::new(), vec!["dead"]));
    assert_eq!((labels(&applied.replaced), bench.status("new").state), (vec!["new"], Stands::Running));
    bench.record();
    let accounts = bench.registry.shutdown(PATIENCE).await;
    assert!(accounts.iter().any(|of| &*of.label == "new" && of.books.delivered == 1), "{accounts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_label_is_shown_as_soon_as_it_is_done() {
    let bench = Bench::new();
    let slow = never_built(bench.desired("slow", "1"));
    // It begins first: a label that is not desired counts as settled.
    let round = bench.registry.begin(vec![slow, bench.desired("quick", "1")], false);
    let apply = bench.registry.finish(round, PATIENCE);
    let looked = async {
        bench.registry.settled(&["quick".into()]).await;
        bench.status("quick").state
    };
    tokio::select! {
        _ = apply => panic!("the slow one is never built"),
        state = looked => assert_eq!(state, Stands::Running),
    }
}
