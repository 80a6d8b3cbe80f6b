//! `pressroom dashboards`, as people call it. Its requests are compared with what the public pages of the two HTTP APIs say
//! (Grafana's "Dashboard HTTP API", Kibana's "Import saved objects"); what answers is a script, since neither Grafana nor
//! Kibana can be had here.

use super::file;
use super::scripted::{Answer, Asked, Scripted};
use crate::support::{Folder, PATIENCE, free_port};
use serde_json::{Value, json};
use std::process::Stdio;

const TOKEN: &str = "glsa_a-secret-of-the-tests";
const SAVE: (&str, &str) = ("POST", "/api/dashboards/db");
const IMPORT: (&str, &str) = ("POST", "/api/saved_objects/_import?overwrite=false");
const REPLACE: (&str, &str) = ("POST", "/api/saved_objects/_import?overwrite=true");
const STATUS: (&str, &str) = ("GET", "/api/status");

/// What a command printed, and what it ended with.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `pressroom dashboards` in `folder`, with these variables in its environment and no others that it reads.
async fn dashboards(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pressroom"));
    command.arg("dashboards").args(arguments).current_dir(folder.path("")).env_remove("RUST_LOG");
    for (name, _) in std::env::vars() {
        if name.starts_with("GRAFANA_") || name.starts_with("KIBANA_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let said = Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    for secret in variables.iter().filter(|(name, _)| !name.ends_with("_USER") && !name.ends_with("_URL")) {
        assert!(!format!("{said:?}").contains(secret.1), "{} is shown: {said:?}", secret.0);
    }
    said
}

impl Said {
    fn assert_ended(&self, code: i32, out: &str, err: &str) {
        assert_eq!((self.code, self.out.as_str(), self.err.as_str()), (Some(code), out, err));
    }
}

fn saved() -> Value {
    json!({ "folderUid": "", "id": 1, "slug": "pressroom", "status": "success", "uid": "pressroom",
        "url": "/d/pressroom/pressroom", "version": 1 })
}

fn health(version: &str) -> Answer {
    let body = json!({ "commit": "0872da1", "database": "ok", "version": version });
    Answer::json(("GET", "/api/health"), 200, &body)
}

#[tokio::test]
async fn list_print_and_write_give_the_files_of_the_repository() {
    let folder = Folder::new("");
    let list = dashboards(&folder, &["list"], &[]).await;
    assert!(
        list.out.contains("grafana/pressroom.json") && list.out.contains("kibana/pressroom.ndjson"),
        "{list:?}"
    );
    for (name, path) in [("grafana", "grafana/pressroom.json"), ("kibana", "kibana/pressroom.ndjson")] {
        dashboards(&folder, &["print", name], &[]).await.assert_ended(0, &file(path), "");
    }
    dashboards(&folder, &["write", "to"], &[]).await.assert_ended(
        0,
        "to/grafana/pressroom.json\nto/kibana/pressroom.ndjson\n",
        "",
    );
    for path in ["grafana/pressroom.json", "kibana/pressroom.ndjson"] {
        assert_eq!(std::fs::read_to_string(folder.path("to").join(path)).unwrap(), file(path));
    }
    std::fs::write(folder.path("to/kibana/pressroom.ndjson"), "mine").unwrap();
    let refused = "error: to/kibana/pressroom.ndjson is there and is different; --overwrite replaces it\n";
    dashboards(&folder, &["write", "to"], &[]).await.assert_ended(1, "", refused);
}

#[tokio::test]
async fn grafana_is_sent_what_its_api_wants() {
    let folder = Folder::new("");
    let grafana = Scripted::start(vec![Answer::json(SAVE, 200, &saved()), health("12.4.0")]).await;
    let installed = format!("installed: {}/d/pressroom/pressroom\n", grafana.url);

    let arguments = ["install", "grafana", "--url", &grafana.url, "--folder", "ops", "--overwrite"];
    dashboards(&folder, &arguments, &[("GRAFANA_TOKEN", TOKEN)]).await.assert_ended(0, &installed, "");
    let asked = grafana.asked();
    let request = &asked[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), SAVE);
    assert_eq!(request.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("accept"), Some("application/json"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let message = format!("installed by pressroom {}", env!("CARGO_PKG_VERSION"));
    let dashboard: Value = serde_json::from_str(&file("grafana/pressroom.json")).unwrap();
    assert_eq!(
        body,
        json!({ "dashboard": dashboard, "folderUid": "ops", "message": message, "overwrite": true })
    );

    // The address and a user from the environment, nothing else said.
    let variables = [
        ("GRAFANA_URL", grafana.url.as_str()),
        ("GRAFANA_USER", "me"),
        ("GRAFANA_PASSWORD", "p\u{e4}ss:word"),
    ];
    dashboards(&folder, &["install", "grafana"], &variables).await.assert_ended(0, &installed, "");
    let asked = grafana.asked();
    let request = &asked[0];
    // me:päss:word
    assert_eq!(request.header("authorization"), Some("Basic bWU6cMOkc3M6d29yZA=="));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((&body["overwrite"], body.get("folderUid")), (&false.into(), None));

    // A user in the address, as in many examples: it is used and not shown.
    let with_user = grafana.url.replace("http://", "http://admin:ad%20min@");
    let said = dashboards(&folder, &["install", "grafana", "--url", &with_user], &[]).await;
    said.assert_ended(0, &installed, "");
    // admin:ad min
    assert_eq!(grafana.asked()[0].header("authorization"), Some("Basic YWRtaW46YWQgbWlu"));
}

#[tokio::test]
async fn grafana_below_a_path_is_found_and_an_old_one_is_told() {
    let folder = Folder::new("");
    let mut body = saved();
    body["url"] = "/grafana/d/pressroom/pressroom".into();
    let mut old = health("10.4.1");
    old.to = ("GET", "/grafana/api/health");
    let grafana =
        Scripted::start(vec![Answer::json(("POST", "/grafana/api/dashboards/db"), 200, &body), old]).await;
    let url = format!("{}/grafana/", grafana.url);
    let said = dashboards(&folder, &["install", "grafana", "--url", &url], &[]).await;
    let warning = "warning: this is Grafana 10.4.1, and the dashboard is made for Grafana 12 and later: parts may be missing\n";
    said.assert_ended(0, &format!("installed: {}/grafana/d/pressroom/pressroom\n", grafana.url), warning);
}

#[tokio::test]
async fn what_grafana_refuses_is_said_with_what_to_do() {
    let folder = Folder::new("");
    let with_token = [("GRAFANA_TOKEN", TOKEN)];
    for (status, headers, body, more, variables, wanted) in [
        (
            401,
            &[][..],
            json!({ "message": "Unauthorized" }),
            &[][..],
            &[][..],
            "Grafana at URL/ wants to know who asks: give --token or --user and --password, or GRAFANA_TOKEN or GRAFANA_USER and GRAFANA_PASSWORD (Unauthorized)",
        ),
        (
            401,
            &[],
            json!({ "message": format!("Invalid API key {TOKEN}") }),
            &[],
            &with_token,
            "Grafana at URL/ does not take these credentials: give --token or --user and --password, or GRAFANA_TOKEN or GRAFANA_USER and GRAFANA_PASSWORD (Invalid API key [redacted])",
        ),
        (
            403,
            &[],
            json!({ "message": "You'll need additional permissions", "accessErrorId": "ACE1" }),
            &[],
            &with_token,
            "Grafana at URL/ does not let these credentials do that (You'll need additional permissions)",
        ),
        (
            412,
            &[],
            json!({ "message": "The dashboard has been changed by someone else", "status": "version-mismatch" }),
            &[],
            &with_token,
            "Grafana has this dashboard already: --overwrite replaces it (The dashboard has been changed by someone else)",
        ),
        (
            412,
            &[],
            json!({ "message": "A dashboard with the same name in the folder already exists", "status": "name-exists" }),
            &[],
            &with_token,
            "Grafana has this dashboard already: --overwrite replaces it (A dashboard with the same name in the folder already exists)",
        ),
        (
            400,
            &[],
            json!({ "message": "folder not found" }),
            &["--folder", "nope"],
            &with_token,
            "Grafana has no folder of the uid \"nope\", or not for you (folder not found)",
        ),
        (
            400,
            &[],
            json!({ "message": "Cannot save provisioned\u{1b}[2J dashboard" }),
            &[],
            &with_token,
            "Grafana at URL/ refused with 400 Bad Request: Cannot save provisioned\\u{1b}[2J dashboard",
        ),
        (
            404,
            &[],
            Value::Null,
            &[],
            &with_token,
            "there is no /api/dashboards/db at URL/: is it the address of Grafana, with the path it is served under?",
        ),
        (
            302,
            &[("location", "/login")],
            Value::Null,
            &[],
            &with_token,
            "URL/ leads to /login: give the address of Grafana itself with --url, with https and the path it is served under",
        ),
        (
            200,
            &[],
            json!("hello"),
            &[],
            &with_token,
            "what listens at URL/ answered 200 OK and is hardly Grafana",
        ),
    ] {
        let answer = Answer { to: SAVE, status, headers, body: body.to_string() };
        let grafana = Scripted::start(vec![answer]).await;
        let arguments = [&["install", "grafana", "--url", &grafana.url][..], more].concat();
        let said = dashboards(&folder, &arguments, variables).await;
        said.assert_ended(1, "", &format!("error: {}\n", wanted.replace("URL", &grafana.url)));
        assert_eq!(grafana.asked().len(), 1, "{wanted}");
    }
    let url = format!("http://127.0.0.1:{}", free_port());
    let said = dashboards(&folder, &["install", "grafana", "--url", &url], &[]).await;
    assert_eq!(said.code, Some(1));
    assert!(said.err.starts_with(&format!("error: no Grafana answers at {url}/: ")), "{said:?}");
}

/// The one file of a form, as RFC 7578 has it: its name, and what is in it.
fn file_of_form(request: &Asked) -> (String, String) {
    let boundary =
        request.header("content-type").unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
    let body = String::from_utf8(request.body.clone()).unwrap();
    let part = body.strip_prefix(&format!("--{boundary}\r\n")).unwrap();
    let part = part.strip_suffix(&format!("\r\n--{boundary}--\r\n")).unwrap();
    let (head, content) = part.split_once("\r\n\r\n").unwrap();
    assert!(!content.contains(boundary));
    let disposition =
        head.lines().find_map(|line| line.strip_prefix("content-disposition: form-data; ")).unwrap();
    let name = disposition
        .strip_prefix("name=\"file\"; filename=\"")
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap();
    (name.to_owned(), content.to_owned())
}

fn imported() -> Value {
    json!({ "success": true, "successCount": 3, "warnings": [], "successResults": [
        { "type": "index-pattern", "id": "pressroom-events", "meta": { "title": "pressroom-event-*" }, "managed": false },
        { "type": "index-pattern", "id": "pressroom-network", "meta": { "title": "pressroom-network-*" }, "managed": false },
        { "type": "dashboard", "id": "pressroom", "meta": { "title": "Pressroom" }, "managed": false },
    ] })
}

fn kibana_status(version: &str) -> Answer {
    let body = json!({ "name": "k", "version": { "number": version }, "status": { "overall": { "level": "available" } } });
    Answer::json(STATUS, 200, &body)
}

#[tokio::test]
async fn kibana_is_sent_what_its_api_wants() {
    let folder = Folder::new("");
    let other_id = {
        let mut body = imported();
        body["successResults"][2]["destinationId"] = "4fd0-another".into();
        body
    };
    let kibana = Scripted::start(vec![
        kibana_status("8.9.0"),
        Answer::json(IMPORT, 200, &imported()),
        Answer::json(("POST", "/s/ops/api/saved_objects/_import?overwrite=true"), 200, &other_id),
    ])
    .await;
    let said =
        dashboards(&folder, &["install", "kibana", "--url", &kibana.url], &[("KIBANA_API_KEY", "a2V5\n")])
            .await;
    said.assert_ended(0, &format!("installed: {}/app/dashboards#/view/pressroom\n", kibana.url), "");
    let asked = kibana.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), STATUS);
    let request = &asked[1];
    assert_eq!((request.method.as_str(), request.path.as_str()), IMPORT);
    assert_eq!(request.header("authorization"), Some("ApiKey a2V5"));
    assert_eq!(request.header("kbn-xsrf"), Some("true"));
    // It refuses files that are not called so.
    assert_eq!(file_of_form(request), ("pressroom.ndjson".to_owned(), file("kibana/pressroom.ndjson")));

    let arguments = ["install", "kibana", "--space", "ops", "--overwrite", "--events-index", "acme-event-*"];
    let variables =
        [("KIBANA_URL", kibana.url.as_str()), ("KIBANA_USER", "elastic"), ("KIBANA_PASSWORD", "a-password")];
    let said = dashboards(&folder, &arguments, &variables).await;
    said.assert_ended(0, &format!("installed: {}/s/ops/app/dashboards#/view/4fd0-another\n", kibana.url), "");
    let asked = kibana.asked();
    assert_eq!(asked[1].header("authorization"), Some("Basic ZWxhc3RpYzphLXBhc3N3b3Jk"));
    let (_, objects) = file_of_form(&asked[1]);
    let events: Value = serde_json::from_str(objects.lines().next().unwrap()).unwrap();
    assert_eq!(events["attributes"]["title"], "acme-event-*");
}

#[tokio::test]
async fn what_kibana_refuses_is_said_object_by_object() {
    let folder = Folder::new("");
    let refused = json!({ "success": false, "successCount": 1, "errors": [
        { "type": "dashboard", "id": "pressroom", "meta": {}, "error": { "type": "conflict" } },
        { "type": "index-pattern", "id": "pressroom-events", "meta": {},
          "error": { "type": "missing_references", "references": [] } },
        { "type": "index-pattern", "id": "pressroom-network", "meta": {},
          "error": { "type": "unknown", "message": "mapping set to strict", "statusCode": 400 } },
    ] });
    let kibana = Scripted::start(vec![kibana_status("9.2.0"), Answer::json(REPLACE, 200, &refused)]).await;
    let said = dashboards(&folder, &["install", "kibana", "--overwrite", "--url", &kibana.url], &[]).await;
    said.assert_ended(
        1,
        "",
        "error: Kibana did not import 3 of 3 objects:\n  dashboard \"pressroom\": is there already; --overwrite replaces it\n  \
         index-pattern \"pressroom-events\": refers to objects that are not there\n  index-pattern \"pressroom-network\": mapping set to strict\n",
    );

    let unauthorized =
        json!({ "statusCode": 401, "error": "Unauthorized", "message": "unable to authenticate" });
    for (version, answer, wanted) in [
        ("8.8.2", None, "this is Kibana 8.8.2, and the dashboard is made for Kibana 8.9 and later"),
        (
            "2.19.1",
            None,
            "this is OpenSearch Dashboards 2.19.1, which has no Lens and cannot show the dashboard",
        ),
        (
            "8.19.0",
            Some((401, unauthorized)),
            "Kibana at URL/ wants to know who asks: give --api-key or --user and --password, or KIBANA_API_KEY or KIBANA_USER and KIBANA_PASSWORD (unable to authenticate)",
        ),
        (
            "8.19.0",
            Some((
                413,
                json!({ "statusCode": 413, "message": "Payload content length greater than maximum allowed" }),
            )),
            "Kibana at URL/ refused with 413 Payload Too Large: Payload content length greater than maximum allowed",
        ),
        (
            "8.19.0",
            None,
            "there is no /api/saved_objects/_import at URL/: is it the address of Kibana, with the path it is served under?",
        ),
    ] {
        let mut script = vec![kibana_status(version)];
        script.extend(answer.map(|(status, body)| Answer::json(IMPORT, status, &body)));
        let kibana = Scripted::start(script).await;
        let said = dashboards(&folder, &["install", "kibana", "--url", &kibana.url], &[]).await;
        said.assert_ended(1, "", &format!("error: {}\n", wanted.replace("URL", &kibana.url)));
    }
}
