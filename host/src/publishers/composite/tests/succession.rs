//! The start, and what a successor takes over.

use super::*;

async fn opened(plans: &[MemberPlan]) -> anyhow::Result<Box<dyn Publisher>> {
    let mut failover = build(plans).await?;
    failover.open(None).await?;
    Ok(failover)
}

fn states(failover: &dyn Publisher) -> Vec<String> {
    let status = failover.status().unwrap()();
    let members = status["members"].as_array().unwrap();
    members.iter().map(|member| member["state"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_member_that_cannot_be_built_is_a_mistake_and_a_plugin_that_cannot_is_out() {
    let scripts = <[Shared; 3]>::default();
    scripts[0].lock().unbuildable = Some("no such CA");
    let mut plans = plans(&scripts);
    let error = build(&plans).await.err().unwrap().to_string();
    assert_eq!(error, "member \"a\": no such CA");

    plans[0].required = false;
    let mut failover = opened(&plans).await.unwrap();
    assert_eq!(states(&*failover), ["held", "active", "standby"]);
    let batch = EventBatch::detached(vec![event(1)]);
    assert_eq!(failover.publish_event_metrics(&batch).await, Ok(vec![]));
    assert_eq!(scripts[1].lock().taken, [1]);
    // It is tried again.
    scripts[0].lock().unbuildable = None;
    tokio::time::sleep(SETTINGS.max).await;
    assert_eq!(failover.publish_event_metrics(&batch).await, Ok(vec![]));
    assert_eq!(states(&*failover)[0], "active");
    assert_eq!(scripts[0].lock().taken, [1]);

    for (plan, script) in plans.iter_mut().zip(&scripts) {
        plan.required = false;
        script.lock().unbuildable = Some("no such file");
    }
    let error = build(&plans).await.err().unwrap().to_string();
    assert_eq!(error, "no member can run: a: no such file; b: no such file; c: no such file");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_cannot_be_opened_is_out_and_only_if_none_can_be_nothing_starts() {
    let scripts = <[Shared; 3]>::default();
    scripts[0].lock().unopenable = Some("the port is taken");
    let mut failover = opened(&plans(&scripts)).await.unwrap();
    assert_eq!(states(&*failover), ["held", "active", "standby"]);
    assert_eq!(failover.status().unwrap()()["members"][0]["reason"], "the port is taken");
    scripts[0].lock().unopenable = None;
    tokio::time::sleep(SETTINGS.max).await;
    failover.publish_event_metrics(&EventBatch::detached(vec![event(1)])).await.unwrap();
    assert_eq!(scripts[0].lock().taken, [1]);

    scripts.iter().for_each(|script| script.lock().unopenable = Some("the port is taken"));
    let error = opened(&plans(&scripts)).await.err().unwrap().to_string();
    let each = ["a", "b", "c"].map(|label| format!("{label}: the port is taken"));
    assert_eq!(error, format!("no member can be opened: {}", each.join("; ")));
}

#[tokio::test(start_paused = true)]
async fn one_whose_file_is_missing_waits_and_is_not_asked() {
    let scripts = <[Shared; 3]>::default();
    let mut plans = plans(&scripts);
    plans[0].missing = Some("there is no a.wasm".into());
    let mut failover = opened(&plans).await.unwrap();
    for number in 0..3 {
        tokio::time::sleep(SETTINGS.max).await;
        failover.publish_event_metrics(&EventBatch::detached(vec![event(number)])).await.unwrap();
    }
    assert_eq!((scripts[0].lock().calls.len(), scripts[1].lock().taken.len()), (0, 3));
    assert_eq!(states(&*failover), ["waiting", "active", "standby"]);
    // It is somebody's to mend, as one that is held is.
    for script in &scripts[1..] {
        script.lock().acts.push_back(hold("mend me"));
    }
    let answer = failover.publish_event_metrics(&EventBatch::detached(vec![event(9)])).await;
    let reason = "no member takes records: a: there is no a.wasm; b: mend me; c: mend me";
    assert_eq!(answer, Err(PublishError::hold(reason)));
}

#[tokio::test(start_paused = true)]
async fn a_successor_goes_on_with_what_has_not_changed_and_opens_the_rest_after_its_like() {
    let mut bench = Bench::new([vec![hold("mend me")], vec![], vec![]]).await;
    bench.publish(0..2).await.unwrap();
    let mut plans = plans(&bench.scripts);
    plans[1].fingerprint = "changed".into();
    plans.push(member("d", &bench.scripts[0]));
    let mut failover = build(&plans).await.unwrap();
    failover.open(Some(&mut *bench.failover)).await.unwrap();
    let opened = |at: usize| bench.scripts[at].lock().opened.clone();
    assert_eq!(opened(0), ["nothing", "nothing"], "`a` goes on as it was; `d` is new");
    assert_eq!(opened(1), ["nothing", "a used one"]);
    assert_eq!(opened(2), ["nothing"]);
    let status = failover.status().unwrap()();
    assert_eq!(states(&*failover), ["held", "active", "standby", "standby"]);
    assert_eq!(status["members"][0]["attempts"], 1);
    assert_eq!(status["members"][1]["delivered"], 2, "what it has counted stays");
    failover.publish_event_metrics(&EventBatch::detached(vec![event(2)])).await.unwrap();
    assert_eq!((bench.calls(), bench.taken()[1].clone()), ([1, 2, 0], vec![0, 1, 2]));
    tokio::time::sleep(SETTINGS.max).await;
    failover.publish_event_metrics(&EventBatch::detached(vec![event(3)])).await.unwrap();
    assert_eq!(bench.taken()[0], [3], "its probe is due when it was");
}

#[tokio::test(start_paused = true)]
async fn a_changed_member_starts_anew() {
    let mut bench = Bench::new([vec![hold("mend me")], vec![], vec![]]).await;
    bench.publish(0..1).await.unwrap();
    let mut plans = plans(&bench.scripts);
    plans[0].fingerprint = "mended".into();
    let mut failover = build(&plans).await.unwrap();
    failover.open(Some(&mut *bench.failover)).await.unwrap();
    assert_eq!(states(&*failover), ["active", "standby", "standby"]);
    failover.publish_event_metrics(&EventBatch::detached(vec![event(1)])).await.unwrap();
    assert_eq!(bench.taken(), [vec![1], vec![0], vec![]]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_cannot_be_built_does_not_push_out_one_that_runs() {
    let mut bench = Bench::new(Default::default()).await;
    bench.publish(0..1).await.unwrap();
    bench.scripts[0].lock().unbuildable = Some("not a component");
    let mut plans = plans(&bench.scripts);
    (plans[0].required, plans[0].fingerprint) = (false, "new".into());
    let mut failover = build(&plans).await.unwrap();
    let error = failover.open(Some(&mut *bench.failover)).await.unwrap_err().to_string();
    assert_eq!(error, "member \"a\": not a component");
    drop(failover);
    // The predecessor goes on as it was.
    assert_eq!(bench.publish(1..2).await, Ok(vec![]));
    assert_eq!(bench.taken(), [vec![0, 1], vec![], vec![]]);
    assert_eq!(bench.scripts.each_ref().map(|script| script.lock().opened.len()), [1, 1, 1]);
    // One that has not changed need not be built: it is there.
    plans[0].fingerprint = "as it was".into();
    plans[1].fingerprint = "new".into();
    let mut failover = build(&plans).await.unwrap();
    failover.open(Some(&mut *bench.failover)).await.unwrap();
    failover.publish_event_metrics(&EventBatch::detached(vec![event(2)])).await.unwrap();
    assert_eq!((bench.taken()[0].clone(), states(&*failover)[0].as_str()), (vec![0, 1, 2], "active"));
}

#[tokio::test(start_paused = true)]
async fn a_successor_that_cannot_open_anything_takes_nothing() {
    let mut bench = Bench::new(Default::default()).await;
    let mut plans = plans(&bench.scripts);
    plans.iter_mut().for_each(|plan| plan.fingerprint = "new".into());
    bench.scripts.iter().for_each(|script| script.lock().unopenable = Some("no"));
    let mut failover = build(&plans).await.unwrap();
    assert!(failover.open(Some(&mut *bench.failover)).await.is_err());
    drop(failover);
    assert_eq!(bench.publish(0..1).await, Ok(vec![]));
    assert_eq!(bench.taken(), [vec![0], vec![], vec![]]);
}

#[tokio::test(start_paused = true)]
async fn it_opens_after_a_publisher_of_another_type_as_after_nothing() {
    let scripts = <[Shared; 3]>::default();
    let mut other = Scripted { script: Shared::default(), used: true };
    let mut failover = build(&plans(&scripts)).await.unwrap();
    failover.open(Some(&mut other)).await.unwrap();
    assert_eq!(scripts[0].lock().opened, ["nothing"]);
}

/// Breaks down when it is let go.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("it was let go");
    }
}

#[async_trait::async_trait]
impl Publisher for Bomb {
    async fn publish_event_metrics(&mut self, _: &EventBatch) -> PublishResult {
        panic!("it was asked");
    }
    async fn publish_network_metrics(&mut self, _: &NetworkBatch) -> PublishResult {
        Ok(vec![])
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_panic_whatever_one_does_harm_nobody() {
    let factory: Factory = Arc::new(|_| Box::pin(async { Ok(Box::new(Bomb) as Box<dyn Publisher>) }));
    let script = Shared::default();
    let bomb = |label: &str| MemberPlan { factory: factory.clone(), ..member(label, &script) };
    let mut failover = opened(&[bomb("a"), bomb("b"), member("c", &script)]).await.unwrap();
    let batch = EventBatch::detached(vec![event(1)]);
    for _ in 0..4 {
        assert!(failover.publish_event_metrics(&batch).await.is_err());
    }
    assert_eq!(failover.publish_event_metrics(&batch).await, Ok(vec![]));
    drop(failover);
    assert_eq!(script.lock().taken, [1]);
}
