//! Plugins that do their worst in a running host, case by case: `tests/hostile/README.md` tells how to add one.
//!
//! Invariant: a case costs a line or two here, and all that must hold for each of them stands in `driver`, once.

mod bombs;
mod case;
mod compute;
mod driver;
mod escape;
mod evil;
mod files;
mod held;
mod lies;
mod memory;
mod network;
mod sequence;
mod talk;

use crate::support::say;
use driver::Group;
use std::collections::BTreeSet;

const COMPUTE: Group = Group::plain("compute", compute::cases);
const MEMORY: Group = Group { before: escape::before, ..Group::plain("memory", memory::cases) };
const TALK: Group = Group { before: talk::before, ..Group::plain("talk", talk::cases) };
const LIES: Group = Group::plain("lies", lies::cases);
const SEQUENCE: Group = Group::plain("sequence", sequence::cases);
const ESCAPE: Group =
    Group { before: escape::before, after: escape::after, ..Group::plain("escape", escape::cases) };
const FILES: Group = Group::plain("files", files::cases);

const BOMBS: Group = Group::plain("bombs", bombs::cases);
const NETWORK: Group = Group { before: network::before, ..Group::plain("network", network::cases) };

const GROUPS: &[Group] = &[COMPUTE, MEMORY, TALK, LIES, SEQUENCE, ESCAPE, NETWORK, FILES, BOMBS];

#[test]
fn there_are_more_than_eighty_of_them_each_with_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    let mut list = String::new();
    for group in GROUPS {
        let cases = (group.cases)();
        list += &format!("\n  {} ({}):", group.name, cases.len());
        for case in cases {
            assert!(names.insert(case.name), "{}: {} is there twice", group.name, case.name);
            list += &format!(" {}", case.name);
        }
    }
    say(&format!("hostile: {} cases{list}", names.len()));
    assert!(names.len() >= 80, "{} cases", names.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_ends_in_order_with_them_still_there_and_says_what_was_lost() {
    driver::ends_with(vec![
        case::guest("spin").spins(),
        case::guest("sleep-for-ever").limits(case::WAITING).fails("ran past its call timeout"),
        case::guest("memory-bomb").fails("of memory where its limit is 16MiB"),
        case::guest("hold").fails("it wants to be mended"),
        case::guest("sleep-flush")
            .with("ms = 3600000")
            .limits(case::WAITING)
            .falters("ran past its call timeout"),
        case::file("not-wasm", b"no plugin".to_vec()).fails("is not WebAssembly"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_computes_or_waits_for_ever() {
    driver::run(&COMPUTE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_memory() {
    driver::run(&MEMORY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_talks_too_much() {
    driver::run(&TALK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_lies() {
    driver::run(&LIES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_things_out_of_turn() {
    driver::run(&SEQUENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reaches_for_what_it_was_not_granted() {
    driver::run(&ESCAPE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_speaks_http_or_is_spoken_to_so() {
    driver::run(&NETWORK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_makes_much_of_itself() {
    driver::run(&BOMBS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_no_plugin() {
    driver::run(&FILES).await;
}
