//! The command line as the README shows it: `check` and `report` end to end, and what the README has people write,
//! post and ask for is taken as it stands there.

use crate::support::{Folder, PATIENCE, Running, free_port, root};
use serde_json::Value;
use std::process::Stdio;

const TOKEN: &str = "an-operators-secret";

/// What a command printed, and what it ended with.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// Fails unless the command ended with `code`, having said exactly `err` on standard error.
    fn assert_ended(&self, code: i32, err: &str) {
        let Self { code: ended, out, err: said } = self;
        assert_eq!((*ended, said.as_str()), (Some(code), err), "on standard output: {out}");
    }
}

/// Runs the command in `folder`, with `token` as its PRESSROOM_TOKEN.
async fn pressroom(folder: &Folder, arguments: &[&str], token: Option<&str>) -> Said {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pressroom"));
    command.args(arguments).current_dir(folder.path("")).env_remove("RUST_LOG").env_remove("PRESSROOM_TOKEN");
    // The README's configuration has more secrets than the one that tests leave out.
    command.env("ES_PASSWORD", "e").env("GRAFANA_CLOUD_TOKEN", "g");
    command.envs(token.map(|token| ("PRESSROOM_TOKEN", token))).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// What stands in `text` after `start` and before the next `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("the README has no {start:?}"));
    rest.split_once(end).unwrap_or_else(|| panic!("the README has no {end:?} after {start:?}")).0
}

/// A host that wants a token, and a request to it that has the token.
async fn guarded() -> (Folder, Running, impl Fn(reqwest::Method, &str) -> reqwest::RequestBuilder) {
    let folder = Folder::new("");
    folder.write_config(&format!("[server]\nlisten = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n"));
    let running = folder.start().await;
    let (url, client) = (running.api.url().to_owned(), reqwest::Client::new());
    let request = move |method, path: &str| client.request(method, format!("{url}{path}")).bearer_auth(TOKEN);
    (folder, running, request)
}

/// The body that the README posts.
fn readmes_body(readme: &str) -> Value {
    let command = between(readme, "curl -s localhost:4680/v1/records ", "\n```");
    assert!(command.starts_with("-H 'content-type: application/json' "), "{command}");
    serde_json::from_str(between(command, "-d '", "'\n")).unwrap()
}

#[tokio::test]
async fn check_says_every_problem_with_its_place() {
    let folder = Folder::new("");
    folder.write_config(
        "[publishers.a]\ntype = \"fil\"\npath = \"a.jsonl\"\n\
         [publishers.b]\ntype = \"file\"\npath = \"b.jsonl\"\nmax_sise = \"1MiB\"\n",
    );
    let wrong = pressroom(&folder, &["check"], None).await;
    wrong.assert_ended(2, "error: 2 problems in pressroom.toml\n");
    assert_eq!(
        wrong.out,
        "pressroom.toml:2:8: publishers.a.type: unknown type, did you mean \"file\"?\n\
         pressroom.toml:7:1: publishers.b.max_sise: unknown key, did you mean \"max_size\"?\n"
    );
    assert!(readme().contains(&wrong.out), "the README shows other lines than these:\n{}", wrong.out);

    let missing = pressroom(&folder, &["check", "--config", "no.toml"], None).await;
    assert_eq!(missing.code, Some(2), "{}", missing.err);
    assert!(missing.err.starts_with("error: there is no ") && missing.err.contains("/no.toml\n"));
}

#[tokio::test]
async fn check_and_the_start_try_what_will_be_written() {
    let folder = Folder::new("");
    // A file stands where a directory is to be: that holds for every user, the administrator included.
    std::fs::write(folder.path("readonly"), "").unwrap();
    folder.configure(
        "[dead_letters]\npath = \"readonly/dead-letters.jsonl\"\n\
         [publishers.a]\ntype = \"file\"\npath = \"readonly/a.jsonl\"\n",
    );
    let checked = pressroom(&folder, &["check"], None).await;
    checked.assert_ended(1, "error: 2 files cannot be read or written\n");
    for said in
        ["publishers.a.path: ", "dead_letters.path: ", "name a file that can be written in dead_letters.path"]
    {
        assert!(checked.out.contains(said), "{said} is not in {}", checked.out);
    }
    let started = pressroom(&folder, &["run"], None).await;
    assert_eq!(started.code, Some(1), "{}", started.err);
    assert!(
        started.err.contains("dead letters: ") && started.err.contains("dead_letters.path"),
        "{}",
        started.err
    );

    folder.configure(
        "[dead_letters]\npath = \"state/dead-letters.jsonl\"\n\
         [publishers.a]\ntype = \"file\"\npath = \"out/a.jsonl\"\n",
    );
    let checked = pressroom(&folder, &["check"], None).await;
    checked.assert_ended(0, "");
    assert!(!folder.path("state").exists() && !folder.path("out").exists(), "check makes nothing");
}

#[tokio::test]
async fn the_configurations_that_people_begin_with_are_right() {
    let folder = Folder::new("");
    let readme = readme();
    let section = between(&readme, "\n## Configuration by example\n", "\n## ");
    std::fs::write(folder.path("readme.toml"), between(section, "```toml\n", "```")).unwrap();
    std::fs::copy(root().join("tests/fixtures/authorities/old.pem"), folder.path("ca.pem")).unwrap();
    std::fs::create_dir(folder.path("out")).unwrap();
    let right = pressroom(&folder, &["check", "--config", "readme.toml"], Some(TOKEN)).await;
    right.assert_ended(0, "");
    assert!(right.out.starts_with("readme.toml is right\n"), "{}", right.out);
    assert!(!right.out.contains(TOKEN), "{}", right.out);
    let publishers = ["metrics", "archive", "failures", "search", "cloud", "lines", "both", "safe", "spare"];
    for publisher in publishers {
        assert!(right.out.contains(&format!("  {publisher} ")), "{publisher} is not in {}", right.out);
    }
    let unset = pressroom(&folder, &["check", "--config", "readme.toml"], None).await;
    unset.assert_ended(2, "error: 1 problem in readme.toml\n");
    let problem = "server.token: the environment variable PRESSROOM_TOKEN is not set\n";
    assert!(unset.out.starts_with("readme.toml:") && unset.out.ends_with(problem), "{}", unset.out);

    let quickstart = root().join("examples/quickstart.toml");
    let quickstart = quickstart.to_str().unwrap();
    let right = pressroom(&folder, &["check", "--config", quickstart], None).await;
    right.assert_ended(0, "");
    assert!(right.out.starts_with(&format!("{quickstart} is right\n")), "{}", right.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_readme_posts_is_accepted_and_every_path_that_it_names_answers() {
    let readme = readme();
    let (_folder, running, request) = guarded().await;
    let posted = request(reqwest::Method::POST, "/v1/records").json(&readmes_body(&readme)).send();
    let answer: Value = posted.await.unwrap().json().await.unwrap();
    assert_eq!(answer, serde_json::json!({ "accepted": 1, "refused": 0, "errors": [] }));

    let sentence = between(&readme, "The same answers are at `GET /v1/report/", ";");
    let paths: Vec<_> = sentence.split('`').step_by(2).collect();
    assert_eq!(paths.len(), 8, "{paths:?}");
    for path in paths {
        let answer = request(reqwest::Method::GET, &format!("/v1/report/{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let answer: Value = answer.json().await.unwrap();
        if path == "failed-events" {
            assert_eq!(answer["events"]["rows"][0]["error"], "disk full", "{answer:#}");
        }
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert!(readme.contains(&format!("`{path}`")), "{path} is not in the README");
        let answer = request(reqwest::Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn report_asks_a_running_host() {
    let (folder, running, request) = guarded().await;
    let posted = request(reqwest::Method::POST, "/v1/records").json(&readmes_body(&readme())).send();
    assert_eq!(posted.await.unwrap().status(), 200);
    let url = running.api.url();
    let ask = async |question: &str, more: &[&str], token| {
        let arguments = [&["report", question, "--url", url], more].concat();
        pressroom(&folder, &arguments, token).await
    };

    for question in [
        "metrics",
        "failed-events",
        "slow-events",
        "retry-stats",
        "failed-network-operations",
        "slow-network-operations",
        "publishers",
        "plugins",
    ] {
        let table = ask(question, &[], Some(TOKEN)).await;
        table.assert_ended(0, "");
        assert!(!table.out.trim().is_empty(), "{question}");
        let json = ask(question, &["--json", "--token", TOKEN], None).await;
        json.assert_ended(0, "");
        let _: Value = serde_json::from_str(&json.out).unwrap_or_else(|error| panic!("{question}: {error}"));
    }
    let failed = ask("failed-events", &["--token", TOKEN], None).await;
    assert!(failed.out.starts_with("1 event failed since "), "{}", failed.out);
    for cell in ["resize", "42", "thumbs", "1.50 s", "disk full"] {
        assert!(failed.out.contains(&format!(" {cell}")), "{cell} is not in {}", failed.out);
    }
    let failed = ask("failed-events", &["--json", "--token", TOKEN], None).await;
    let failed: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!(failed["failed_since_start"], 1, "{failed:#}");
    assert_eq!(failed["events"]["rows"][0]["duration_seconds"], 1.5, "{failed:#}");

    let why = "give its server.token with --token or PRESSROOM_TOKEN";
    let refused = ask("metrics", &["--token", "another"], Some(TOKEN)).await;
    refused.assert_ended(1, &format!("error: the host at {url} does not take this token: {why}\n"));
    assert_eq!(refused.out, "");
    let why = "give it with --token or PRESSROOM_TOKEN";
    let refused = ask("metrics", &["--json"], None).await;
    refused.assert_ended(1, &format!("error: the host at {url} wants its server.token: {why}\n"));
    assert_eq!(refused.out, "");
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}

#[tokio::test]
async fn report_says_when_nobody_answers() {
    let (folder, url) = (Folder::new(""), format!("http://127.0.0.1:{}", free_port()));
    let alone = pressroom(&folder, &["report", "metrics", "--url", &url], None).await;
    assert_eq!((alone.code, alone.out.as_str()), (Some(1), ""), "{}", alone.err);
    let begins = format!("error: no host answers at {url}: ");
    let ends = "; is it running (`pressroom run`), and is this its server.listen? --url names another\n";
    assert!(alone.err.starts_with(&begins) && alone.err.ends_with(ends), "{}", alone.err);
}
