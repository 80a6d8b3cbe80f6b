//! Asking for the addresses of names.
//!
//! Invariant: of one label few lookups are under way, and one at most for each name, however many requests wait for
//! them or have given up: the system's own lookup cannot be broken off, and holds a thread until it has ended.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// How many lookups of a label may be under way.
const MAX_LOOKUPS: usize = 4;

/// Asks for the addresses of a name.
pub(super) type Lookup = Arc<dyn Fn(String) -> Found + Send + Sync>;
type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The machine's own way.
pub(super) fn by_the_machine() -> Lookup {
    Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) }))
}

/// What a lookup found, once it has ended.
type Outcome = Option<Result<Vec<SocketAddr>, Arc<io::Error>>>;

/// The lookups of one label.
pub(super) struct Lookups {
    lookup: Lookup,
    room: Semaphore,
    under_way: Mutex<HashMap<String, watch::Receiver<Outcome>>>,
}

impl Lookups {
    pub(super) fn new(lookup: Lookup) -> Arc<Self> {
        Arc::new(Self { lookup, room: Semaphore::new(MAX_LOOKUPS), under_way: Mutex::default() })
    }

    /// The addresses of a name, as they are found from now on or by a lookup that is under way.
    pub(super) async fn find(self: Arc<Self>, name: &str) -> io::Result<Vec<SocketAddr>> {
        let mut outcome = self.ask(name);
        let outcome = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        match outcome {
            Ok(Some(Ok(addresses))) => Ok(addresses),
            Ok(Some(Err(cause))) => Err(io::Error::new(cause.kind(), cause.to_string())),
            Ok(None) | Err(_) => Err(io::Error::other("the lookup broke off")),
        }
    }

    fn ask(self: &Arc<Self>, name: &str) -> watch::Receiver<Outcome> {
        let mut under_way = self.under_way.lock();
        if let Some(outcome) = under_way.get(name) {
            return outcome.clone();
        }
        let (told, outcome) = watch::channel(None);
        under_way.insert(name.to_owned(), outcome.clone());
        let one = UnderWay { lookups: self.clone(), name: name.to_owned() };
        // On a task of its own, which outlives the request. Names are those of the rules: there are not many to wait.
        tokio::spawn(async move {
            let found = match one.lookups.room.acquire().await {
                Ok(_permit) => (one.lookups.lookup)(one.name.clone()).await,
                Err(closed) => Err(io::Error::other(closed)),
            };
            // Before it is told: who asks then asks anew.
            drop(one);
            told.send_replace(Some(found.map_err(Arc::new)));
        });
        outcome
    }
}

/// One lookup, which others may join until it has ended.
struct UnderWay {
    lookups: Arc<Lookups>,
    name: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.lookups.under_way.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::{Lookups, MAX_LOOKUPS};
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::sync::Semaphore;

    /// Lookups that end one by one as they are let, and how many were begun.
    fn slow() -> (Arc<Lookups>, Arc<Semaphore>, Arc<AtomicUsize>) {
        let (let_go, begun) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (until, count) = (let_go.clone(), begun.clone());
        let lookups = Lookups::new(Arc::new(move |name| {
            count.fetch_add(1, Ordering::Relaxed);
            let until = until.clone();
            Box::pin(async move {
                until.acquire().await.unwrap().forget();
                match name.as_str() {
                    "nowhere" => Err(std::io::Error::other("no such name")),
                    _ => Ok(vec![SocketAddr::from(([10, 0, 0, 1], 0))]),
                }
            })
        }));
        (lookups, let_go, begun)
    }

    #[tokio::test]
    async fn requests_that_gave_up_leave_few_lookups_behind() {
        let (lookups, let_go, begun) = slow();
        for turn in 0..100 {
            let name = format!("name-{}", turn % 10);
            let given_up = tokio::time::timeout(Duration::ZERO, lookups.clone().find(&name)).await;
            assert!(given_up.is_err());
            tokio::task::yield_now().await;
        }
        assert_eq!(begun.load(Ordering::Relaxed), MAX_LOOKUPS);
        let waiting = tokio::spawn({
            let lookups = lookups.clone();
            async move { lookups.find("name-9").await }
        });
        let_go.add_permits(10);
        assert_eq!(waiting.await.unwrap().unwrap().len(), 1);
        assert_eq!(begun.load(Ordering::Relaxed), 10, "one for each name");
    }

    #[tokio::test]
    async fn what_has_ended_is_asked_anew() {
        let (lookups, let_go, begun) = slow();
        let_go.add_permits(3);
        for _ in 0..2 {
            lookups.clone().find("somewhere").await.unwrap();
        }
        let refused = lookups.find("nowhere").await.unwrap_err();
        assert_eq!((refused.to_string().as_str(), begun.load(Ordering::Relaxed)), ("no such name", 3));
    }
}
