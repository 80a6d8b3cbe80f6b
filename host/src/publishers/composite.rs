//! The publisher `composite` in its mode `failover`: one publisher made of several, of which one is asked at a time.
//!
//! Invariant: of a batch every row is taken by one member, rejected by one, or handed back to be tried again; what one
//! has taken no other is handed. It moves on, within the same call, with the rows not yet taken and only when a member's
//! breaker is open; what a member rejects is rejected. The first member whose breaker is closed is asked, or one
//! whose probe is due: so it returns to the first as soon as that has recovered. No member's type is known here, and none
//! costs another more than its own deadline.
//!
//! (In its mode `all` a composite is no publisher: each member is delivered to on its own.)

mod config;
mod judge;
mod member;
mod status;
#[cfg(test)]
mod tests;

pub use config::{BreakerConfig, CompositeConfig, Mode};

use crate::publisher::{
    BreakerSettings, Context, Factory, Fate, PublishError, PublishResult, Published, Publisher, StatusSource,
    Unpublished,
};
use crate::record::{EventBatch, NetworkBatch, Rows};
use futures_util::future::join_all;
use judge::{Again, Judged, Rest};
use member::{Answer, Member};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// A member, as it is built and asked.
#[derive(Clone)]
pub struct MemberPlan {
    /// Its type, for reports.
    pub kind: Arc<str>,
    /// Builds it, as often as it is needed.
    pub factory: Factory,
    /// What it is built with; its label is the member's.
    pub context: Context,
    /// How long one attempt at it may take, building it again included.
    pub timeout: Duration,
    /// Two alike mean: a successor takes it over as it is.
    pub fingerprint: String,
    /// Why it cannot be built until something changes: its plugin file is not there.
    pub missing: Option<String>,
    /// That it cannot be built is a mistake, not an outage: nothing is built then.
    pub required: bool,
}

/// Hands batches to the first of its members that takes them.
pub struct Failover {
    members: Vec<Member>,
}

impl Failover {
    /// A factory of failovers over these members, the first choice first.
    pub fn factory(breaker: BreakerSettings, members: Vec<MemberPlan>) -> Factory {
        Arc::new(move |context| {
            let members = members.clone();
            Box::pin(async move {
                let failover = Self::build(breaker, members, &context.label).await?;
                Ok(Box::new(failover) as Box<dyn Publisher>)
            })
        })
    }

    /// What delivery must give a call, so that the last member still has its time.
    pub fn call_timeout(members: &[MemberPlan]) -> Duration {
        let attempts = members.iter().map(|member| member.timeout);
        attempts.fold(SLACK, Duration::saturating_add).min(crate::config::units::MAX_DURATION)
    }

    async fn build(
        breaker: BreakerSettings,
        plans: Vec<MemberPlan>,
        label: &Arc<str>,
    ) -> anyhow::Result<Self> {
        let mut members = Vec::new();
        for plan in plans {
            members.push(Member::build(plan, breaker, label.clone()).await?);
        }
        anyhow::ensure!(members.iter().any(Member::is_there), "no member can run: {}", reasons(&members));
        Ok(Self { members })
    }

    async fn publish<R: Published>(&mut self, batch: &Rows<R>) -> PublishResult {
        let mut rest = Rest::all(batch);
        let mut left_out = Vec::new();
        let mut asked = false;
        for member in &mut self.members {
            if member.admits() {
                asked = true;
                match ask(member, &mut rest, &mut left_out).await {
                    Asked::Done => return Ok(left_out),
                    Asked::Ends(error) => return rest.answer(error, left_out),
                    Asked::MovesOn => {}
                }
            }
        }
        // All are out, and yet somebody asks, who knows why: the host is about to end, say. The next one in turn is tried.
        if let Some(member) = self.next_in_turn().filter(|_| !asked)
            && member.insist()
        {
            match ask(member, &mut rest, &mut left_out).await {
                Asked::Done => return Ok(left_out),
                Asked::Ends(error) => return rest.answer(error, left_out),
                Asked::MovesOn => {}
            }
        }
        rest.answer(self.out(), left_out)
    }

    fn next_in_turn(&mut self) -> Option<&mut Member> {
        let members = self.members.iter_mut().filter(|member| member.can_be_asked());
        members.min_by_key(|member| member.until_probe())
    }

    /// Why nobody takes anything, and when it is worth another try.
    fn out(&self) -> PublishError {
        let reason = format!("no member takes records: {}", reasons(&self.members));
        if self.members.iter().all(Member::is_held) {
            return PublishError::hold(reason);
        }
        let after = self.members.iter().filter_map(Member::until_probe).min();
        PublishError::Retry { reason, after }
    }
}

/// What comes of asking a member.
enum Asked {
    /// Nothing is left.
    Done,
    /// This is what becomes of the rest.
    Ends(PublishError),
    /// The rest is for the next one.
    MovesOn,
}

/// Has `member` publish the rest of a batch. What it leaves out for good, or is to be handed back, joins `left_out`.
async fn ask<R: Published>(
    member: &mut Member,
    rest: &mut Rest<R>,
    left_out: &mut Vec<Unpublished>,
) -> Asked {
    let answer = member.publish(&rest.rows).await;
    let moves_on = !member.is_closed();
    let Judged { again, rejected, strays } = match answer {
        Answer::Took(judged) => judged,
        Answer::Not(PublishError::Reject { reason }) => {
            return Asked::Ends(PublishError::Reject { reason: member.says(reason) });
        }
        Answer::Not(_) if moves_on => return Asked::MovesOn,
        Answer::Not(PublishError::Retry { reason, after }) => {
            return Asked::Ends(PublishError::Retry { reason: member.says(reason), after });
        }
        // Not where the breaker is closed: what is on hold opens it.
        Answer::Not(PublishError::Hold { reason }) => {
            return Asked::Ends(PublishError::Hold { reason: member.says(reason) });
        }
    };
    for (at, reason) in rejected {
        left_out
            .push(Unpublished { row: rest.number(at), fate: Fate::Reject { reason: member.says(reason) } });
    }
    // Rows that do not exist stay that, so that delivery counts them.
    left_out.extend(
        (0..strays).map(|_| Unpublished { row: u32::MAX, fate: Fate::Reject { reason: String::new() } }),
    );
    if moves_on && !again.is_empty() {
        rest.narrow(again.iter().map(|again| again.at));
        return Asked::MovesOn;
    }
    for Again { at, reason, after, .. } in again {
        let fate = Fate::Retry { reason: member.says(reason), after };
        left_out.push(Unpublished { row: rest.number(at), fate });
    }
    Asked::Done
}

/// What a call has beyond its members' attempts.
const SLACK: Duration = Duration::from_secs(5);

fn reasons(members: &[Member]) -> String {
    let told = members.iter().filter_map(|member| Some(format!("{}: {}", member.label(), member.reason()?)));
    told.collect::<Vec<_>>().join("; ")
}

/// The member of that label.
fn named<'a>(failover: &'a mut Option<&mut Failover>, label: &str) -> Option<&'a mut Member> {
    failover.as_deref_mut()?.members.iter_mut().find(|member| **member.label() == *label)
}

#[async_trait::async_trait]
impl Publisher for Failover {
    /// Opens every member. One that cannot be opened is out until it can; only if none can be this is an error, and
    /// then nothing was taken from the predecessor.
    async fn open(&mut self, predecessor: Option<&mut dyn Publisher>) -> anyhow::Result<()> {
        let mut before = predecessor.and_then(|old| (old as &mut dyn Any).downcast_mut::<Self>());
        for member in &self.members {
            // As with a plugin that is delivered to on its own: a version that cannot be loaded pushes out none that runs.
            if let (Some(reason), Some(old)) = (member.not_built(), named(&mut before, member.label()))
                && old.is_there()
                && !member.continues(old)
            {
                anyhow::bail!("member \"{}\": {reason}", member.label());
            }
        }
        let mut alive = false;
        for member in &mut self.members {
            let old = named(&mut before, member.label());
            if old.as_ref().is_some_and(|old| member.continues(old)) {
                alive = true;
            } else {
                member.open(old.and_then(Member::publisher)).await;
                alive |= member.is_there();
            }
        }
        anyhow::ensure!(alive, "no member can be opened: {}", reasons(&self.members));
        for member in &mut self.members {
            if let Some(old) = named(&mut before, member.label()) {
                member.succeed(old);
            }
            if !member.is_there() {
                member.report();
            }
        }
        Ok(())
    }

    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.publish(events).await
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.publish(operations).await
    }

    /// Has every member flush, at the same time: one that hangs costs the others its deadline and no more.
    async fn flush(&mut self) -> Result<(), PublishError> {
        let flushed = join_all(self.members.iter_mut().map(Member::flush)).await;
        let failed: Vec<String> = flushed.into_iter().filter_map(Result::err).collect();
        if failed.is_empty() { Ok(()) } else { Err(PublishError::retry(failed.join("; "))) }
    }

    /// Has every member say its last words, as with `flush`.
    async fn close(&mut self) -> Result<(), PublishError> {
        let closed = join_all(self.members.iter_mut().map(Member::close)).await;
        let failed: Vec<String> = closed.into_iter().filter_map(Result::err).collect();
        if failed.is_empty() { Ok(()) } else { Err(PublishError::retry(failed.join("; "))) }
    }

    /// Resets every member.
    fn reset(&mut self) -> bool {
        let mut reset = false;
        for member in &mut self.members {
            reset |= member.reset();
        }
        reset
    }

    fn status(&self) -> Option<StatusSource> {
        Some(status::source(self.members.iter().map(Member::seen).collect()))
    }
}
