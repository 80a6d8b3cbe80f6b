//! A search server that is away, and a file that takes over: every record is at the one or the other.

use super::stream::Stream;
use super::{config, meanwhile};
use crate::support::id;
use crate::support::say;
use crate::support::servers::{Needs, Search};
use serde_json::Value;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_takes_over_from_a_search_server_that_is_away_and_gives_back() {
    Search::any(Needs::Nothing, async |server| {
        let failover = "[publishers.spill]\ntype = \"file\"\npath = \"spill.jsonl\"\n\
                        [publishers.safe]\ntype = \"composite\"\nmode = \"failover\"\nmembers = [\"search\", \"spill\"]\n";
        let mut stream = Stream::start("safe", &format!("{}{failover}", config(server))).await;
        stream.until_delivered(1_000).await;
        stream.until_busy().await;
        server.kill();
        let active = |label: &'static str| move |status: &Value| status["detail"]["active"] == label;
        stream.until("goes to the file", active("spill")).await;
        stream.until_more(meanwhile(1_000, 30_000)).await;
        server.start_again().await;
        stream.until("goes to the search server again", active("search")).await;
        stream.until_more(1_000).await;
        let sent = stream.end().await;
        let status = stream.until_delivered(sent).await;
        let delivered: Vec<_> = (0..2)
            .map(|member| status["detail"]["members"][member]["delivered"].as_u64().unwrap() as usize)
            .collect();
        assert!(delivered.iter().sum::<usize>() as u64 == sent && !delivered.contains(&0), "{status:#}");

        let (indexed, spilled) =
            (server.ids(&format!("{}-*", server.prefix())).await, stream.folder().ids("spill.jsonl"));
        assert!(indexed.values().chain(spilled.values()).all(|times| *times == 1), "a place has a record twice");
        let everywhere: BTreeSet<_> = indexed.keys().chain(spilled.keys()).cloned().collect();
        assert!(everywhere.into_iter().eq((0..sent).map(|number| id(number).to_string())), "of {sent}");
        // At both are those that the server took and did not live to say so: the failover counts them where it was told.
        let both = indexed.keys().filter(|id| spilled.contains_key(*id)).count();
        assert_eq!((indexed.len(), spilled.len()), (delivered[0] + both, delivered[1]));
        say(&format!(
            "{:?} was killed: of {sent} records it took {}, the file {}, and {both} are at both, since the server was \
             killed before it answered.",
            server.kind(),
            delivered[0],
            delivered[1]
        ));
    })
    .await;
}
