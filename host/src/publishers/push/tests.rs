use super::receiver::{Received, Receiver, Reply};
use super::*;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, USER_AGENT as USER_AGENT_HEADER};
use std::sync::Arc;

fn destination(url: &str) -> Destination {
    Destination {
        url: url.to_owned(),
        user: Some("123456".to_owned()),
        api_key: Some(Secret::new("glc_hush")),
        org_slug: None,
        tenant: None,
        ca_file: None,
    }
}

fn place(destination: Destination) -> Place {
    let patience = Duration::from_secs(20);
    Place::new(destination, Path::new(""), HeaderMap::new(), patience, &Secrets::default()).unwrap()
}

fn body() -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(b"x").unwrap()
}

async fn answer_to(reply: Reply) -> Answer {
    let receiver = Receiver::new(move |_| reply.clone());
    let mut destination = destination(&receiver.url("/push"));
    destination.org_slug = Some("acme".to_owned());
    let answer = place(destination).send(body()).await;
    assert!(!format!("{answer:?}").contains("hush"), "{answer:?}");
    answer
}

/// The reason of an answer, without where it was pushed to.
fn reason(answer: Answer) -> (&'static str, String) {
    let (what, reason) = match answer {
        Answer::Taken => return ("taken", String::new()),
        Answer::Silent { reason } => ("silent", reason),
        Answer::TooLarge { reason } => ("too large", reason),
        Answer::Later { reason, .. } => ("later", reason),
        Answer::Mend { reason } => ("mend", reason),
        Answer::Unwanted { reason } => ("unwanted", reason),
        Answer::Misdirected { reason } => ("misdirected", reason),
    };
    let (place, reason) = reason.split_once("/push: ").unwrap();
    assert!(place.starts_with("http://127.0.0.1:"), "{place}");
    (what, reason.to_owned())
}

#[tokio::test]
async fn a_request_carries_its_credentials_and_nothing_follows_a_redirect() {
    let seen: Arc<Mutex<Vec<Received>>> = Arc::default();
    let receiver = Receiver::new({
        let seen = seen.clone();
        move |request| {
            seen.lock().push(request.clone());
            Reply::Say(307, vec![("location", "/elsewhere".to_owned())], String::new())
        }
    });
    let mut to = destination(&receiver.url("/push"));
    to.tenant = Some("team-a".to_owned());
    let (what, why) = reason(place(to.clone()).send(body()).await);
    assert_eq!(what, "mend");
    assert_eq!(why, "HTTP 307 Temporary Redirect, to /elsewhere: give the URL itself in `url`");
    (to.user, to.api_key, to.tenant) = (None, None, None);
    place(to).send(body()).await;

    let seen = seen.lock();
    let header = |at: usize, name: &str| seen[at].headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!((seen.len(), &*seen[0].path, &*seen[0].body), (2, "/push", &b"x"[..]));
    // 123456:glc_hush
    assert_eq!(header(0, AUTHORIZATION.as_str()), Some("Basic MTIzNDU2OmdsY19odXNo"));
    assert_eq!(header(0, TENANT), Some("team-a"));
    assert!(header(0, USER_AGENT_HEADER.as_str()).unwrap().starts_with("pressroom/"));
    assert_eq!((header(1, AUTHORIZATION.as_str()), header(1, TENANT)), (None, None));
}

#[tokio::test]
async fn every_status_has_a_meaning() {
    for (status, expected) in [
        (200, "taken"),
        (204, "taken"),
        (301, "mend"),
        (400, "unwanted"),
        (401, "mend"),
        (403, "mend"),
        (404, "misdirected"),
        (405, "misdirected"),
        (408, "later"),
        (413, "too large"),
        (422, "unwanted"),
        (429, "later"),
        (500, "later"),
        (503, "later"),
    ] {
        let (what, _) = reason(answer_to(Reply::say(status, "why not")).await);
        assert_eq!(what, expected, "{status}");
    }
    let (_, why) = reason(answer_to(Reply::say(400, " out of\n\torder \u{7} glc_hush ")).await);
    assert_eq!(why, "HTTP 400 Bad Request: out of order [redacted]");
    let (_, why) = reason(answer_to(Reply::say(403, "no")).await);
    let expected = "`user` or `api_key` is wrong, or may not write; both come from https://grafana.com/orgs/acme \
                    (HTTP 403 Forbidden: no)";
    // The reason stands first, the answer behind it.
    assert_eq!(why, expected);
    let (_, why) = reason(answer_to(Reply::say(500, &"é".repeat(100_000))).await);
    assert!(why.ends_with('…') && why.chars().count() < MAX_SHOWN + 50, "{why}");
}

#[tokio::test]
async fn who_does_not_answer_may_do_so_later_and_says_when() {
    let (what, why) = reason(answer_to(Reply::Tear).await);
    assert_eq!(what, "silent", "{why}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (what, why) = reason(place(destination(&format!("http://{nobody}/push"))).send(body()).await);
    assert_eq!(what, "silent");
    assert!(why.contains("refused"), "all of the chain of causes: {why}");

    let receiver = Receiver::new(|_| Reply::Hang);
    let to = destination(&receiver.url("/push"));
    let impatient =
        Place::new(to, Path::new(""), HeaderMap::new(), Duration::from_millis(50), &Secrets::default())
            .unwrap();
    assert_eq!(reason(impatient.send(body()).await).0, "silent");

    let in_a_while = jiff::Timestamp::now() + Duration::from_secs(100);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&in_a_while).unwrap();
    for (said, expected) in [
        ("7", Some(7..=7)),
        (date.as_str(), Some(90..=100)),
        ("Thu, 01 Jan 1970 00:00:01 GMT", Some(0..=0)),
        ("soon", None),
    ] {
        let reply = Reply::Say(503, vec![("retry-after", said.to_owned())], String::new());
        let Answer::Later { after, .. } = answer_to(reply).await else { panic!("{said}") };
        match expected {
            Some(seconds) => assert!(seconds.contains(&after.unwrap().as_secs()), "{said}: {after:?}"),
            None => assert_eq!(after, None, "{said}"),
        }
    }
}

#[test]
fn every_problem_of_a_destination_is_named() {
    type Change = fn(&mut Destination);
    let wrong = |change: Change| {
        let mut destination = destination("https://prometheus.example/api/prom/push");
        change(&mut destination);
        let problems = destination.problems("/api/prom/push");
        problems.into_iter().map(|(key, message)| format!("{key}: {message}")).collect::<Vec<_>>()
    };
    assert!(wrong(|_| {}).is_empty());
    assert!(wrong(|to| (to.user, to.api_key) = (None, None)).is_empty());
    let cases: [(Change, &str); 9] = [
        (
            |to| to.url = "prometheus".into(),
            "url: is no URL (relative URL without a base): give all of it, such as",
        ),
        (|to| to.url = "ftp://x/y".into(), "url: must begin with https:// or http://"),
        (|to| to.url = "https://a:b@x/y".into(), "url: must not carry credentials"),
        (
            |to| to.url = "https://x".into(),
            "url: has no path: give all of it, such as https://HOST/api/prom/push",
        ),
        (|to| to.user = None, "api_key: needs user beside it: the instance id"),
        (|to| to.api_key = None, "user: needs api_key beside it: a token"),
        (|to| to.user = Some("a:b".into()), "user: must not have a \":\" in it"),
        (|to| to.org_slug = Some("https://grafana.com/orgs/acme".into()), "org_slug: is the last part of"),
        (|to| to.tenant = Some("a\nb".into()), "tenant: cannot be said in a header"),
    ];
    for (change, expected) in cases {
        let problems = wrong(change);
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{expected}: {problems:?}");
    }
}

#[test]
fn a_ca_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.pem"), "").unwrap();
    for (file, expected) in
        [("missing.pem", "cannot read `ca_file`"), ("empty.pem", "there is no certificate")]
    {
        let mut to = destination("https://x/y");
        to.ca_file = Some(file.into());
        let failed =
            Place::new(to, dir.path(), HeaderMap::new(), Duration::from_secs(1), &Secrets::default())
                .err()
                .unwrap();
        let failed = format!("{failed:#}");
        assert!(failed.contains(expected) && failed.contains(file), "{failed}");
    }
}

#[test]
fn this_machine_has_a_name() {
    let name = hostname();
    assert!(!name.is_empty() && !name.contains(char::is_whitespace), "{name:?}");
}

#[tokio::test]
async fn a_receiver_that_echoes_the_credentials_tells_nobody() {
    // In each form, at the end of what is shown, and at the end of what is read.
    let echoed = Mutex::new(String::new());
    let receiver = Receiver::new(move |received: &Received| {
        let header = received.headers.get(AUTHORIZATION).unwrap().to_str().unwrap().to_owned();
        let forms =
            [header.clone(), "glc_hush".to_owned(), "glc%5Fhush".to_owned(), "glc\\u005fhush".to_owned()];
        let mut nth = echoed.lock();
        nth.push('x');
        let form = &forms[nth.len() % forms.len()];
        let before = [0, MAX_SHOWN - 4, MAX_ANSWER - 4][nth.len() % 3];
        Reply::say(400, &format!("{}{form} {}", "y".repeat(before), " ".repeat(MAX_ANSWER)))
    });
    let place = place(destination(&receiver.url("/push")));
    for _ in 0..12 {
        let (_, why) = reason(place.send(body()).await);
        for part in ["glc", "hush", "MTIzNDU2", "Z2xjX2h1c2"] {
            assert!(!why.contains(part), "{part}: {why}");
        }
    }
}
