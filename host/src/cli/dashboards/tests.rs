//! What needs no server: the files, and what is read of the command line. The requests are in tests/host/dashboards.

use super::*;
use clap::{CommandFactory, Parser};
use serde_json::Value;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn parsed(line: &[&str]) -> Result<Args, clap::Error> {
    Line::try_parse_from([&["dashboards"], line].concat()).map(|line| line.args)
}

fn indices(events: Option<&str>, network: Option<&str>) -> kibana::Indices {
    kibana::Indices { events_index: events.map(str::to_owned), network_index: network.map(str::to_owned) }
}

#[test]
fn every_command_below_explains_itself() {
    fn explains(command: &clap::Command) {
        let help = command.clone().render_long_help().to_string();
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name} says not what it does");
        assert!(name == "install" || help.contains("Examples:"), "{name} has no examples");
        command.get_subcommands().for_each(explains);
    }
    Line::command().debug_assert();
    Line::command().get_subcommands().for_each(explains);
}

#[test]
fn the_list_names_every_file() {
    let list = list();
    for one in Dashboard::ALL {
        assert!(list.contains(one.file()), "{list}");
    }
    assert_eq!(list.lines().count(), 1 + Dashboard::ALL.len(), "{list}");
}

#[test]
fn other_indices_change_the_data_views_and_nothing_else() {
    let defaults = kibana::objects(&indices(None, None)).into_owned();
    assert_eq!(defaults, KIBANA);
    let changed =
        kibana::objects(&indices(Some("acme-event-*"), Some("acme-network-*,other-*"))).into_owned();
    let objects =
        |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    let (mut before, after) = (objects(&defaults), objects(&changed));
    before[0]["attributes"]["title"] = "acme-event-*".into();
    before[1]["attributes"]["title"] = "acme-network-*,other-*".into();
    assert_eq!(before, after);
    assert!(changed.ends_with("}\n"));
    let one = objects(&kibana::objects(&indices(None, Some("n"))));
    assert_eq!((&one[0], &one[1]["attributes"]["title"]), (&objects(KIBANA)[0], &"n".into()));
}

#[test]
fn files_are_written_once_and_replaced_only_if_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let files = |text: &'static str| {
        [("a/one", "1"), ("b/two", text)].map(|(name, text)| (dir.path().join(name), Cow::Borrowed(text)))
    };
    write(&files("2"), false).unwrap();
    write(&files("2"), false).unwrap();
    std::fs::remove_file(dir.path().join("a/one")).unwrap();
    let refused = write(&files("3"), false).unwrap_err();
    assert_eq!(refused.code, 1);
    assert!(
        refused.message.ends_with("b/two is there and is different; --overwrite replaces it"),
        "{}",
        refused.message
    );
    assert!(!dir.path().join("a/one").exists(), "all or nothing");
    write(&files("3"), true).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("b/two")).unwrap(), "3");
}

#[tokio::test]
async fn grafanas_dashboard_has_no_indices() {
    let args = parsed(&["print", "grafana", "--events-index", "acme-event-*"]).unwrap();
    assert_eq!(dashboards(args).await.unwrap_err().code, 2);
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    for wrong in [
        &["install"][..],
        &["print"],
        &["print", "splunk"],
        &["write"],
        &["install", "kibana", "--space", "../x"],
        &["install", "kibana", "--space", "My space"],
        &["install", "kibana", "--events-index", "Acme"],
        &["install", "kibana", "--network-index", ""],
    ] {
        assert!(parsed(wrong).is_err(), "{wrong:?}");
    }
    parsed(&["install", "kibana", "--space", "ops-2", "--events-index", "a-*,-a-b,logs-*.execution-default"])
        .unwrap();
}

#[tokio::test]
async fn a_wrong_address_is_a_usage_error_that_shows_no_password() {
    for url in [
        "grafana.example.com",
        "ftp://me:hunter2@grafana.example.com",
        "https://me:hunter2@[",
        "data:hunter2",
    ] {
        let failure = dashboards(parsed(&["install", "grafana", "--url", url]).unwrap()).await.unwrap_err();
        assert_eq!(failure.code, 2, "{}", failure.message);
        let said = failure.message;
        assert!(said.starts_with("--url: ") && !said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_credential_that_no_header_can_hold_is_a_usage_error() {
    let url = ["--url", "http://127.0.0.1:1"];
    for line in [["install", "grafana", "--token", "a\nb"], ["install", "kibana", "--api-key", "a\nb"]] {
        let failure = dashboards(parsed(&[&line[..], &url].concat()).unwrap()).await.unwrap_err();
        assert_eq!((failure.code, failure.message.contains("a\nb")), (2, false), "{}", failure.message);
    }
}

#[test]
fn no_credential_shows_when_arguments_are_shown() {
    let grafana = ["install", "grafana", "--token", "hunter2", "--user", "me", "--password", "hunter3"];
    let kibana = ["install", "kibana", "--api-key", "hunter2", "--user", "me", "--password", "hunter3"];
    for line in [&grafana[..], &kibana] {
        let shown = format!("{:?}", parsed(line).unwrap());
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
