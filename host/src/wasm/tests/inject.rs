//! Credentials that the host injects: they arrive where they are sent, and the guest never sees them.

use super::Subject;
use super::server::{Seen, Server, answer, chunks};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;

const TOKEN: &str = "xoxb-hunter2-hunter2";

/// A guest that tries one request to `path` with an injected token; what it logs, after `http-try: `.
async fn attempt(server: &Server, path: &str, config: &str, inject: &str) -> (String, Subject) {
    let base = format!("http://127.0.0.1:{}", server.port);
    let section = format!(
        "config = {{ do = 'http-try', url = '{base}{path}', {config} }}\n\
         grant = {{ http = ['* {base}/*'], inject = [{{ to = '{base}/api', {inject} }}] }}"
    );
    let mut plugin = Subject::hostile(&section).await.unwrap();
    assert_eq!(plugin.publish().await, Ok(vec![]));
    let log = plugin.log();
    let told = log.iter().find_map(|line| line.split_once("http-try: ")).unwrap().1.to_owned();
    assert!(!plugin.status().to_string().contains("hunter2"), "{}", plugin.status());
    (told, plugin)
}

async fn ok() -> Server {
    Server::start(|_| Some(answer(200, "ok"))).await
}

#[tokio::test]
async fn a_credential_arrives_where_it_is_sent_and_nowhere_else() {
    let server = ok().await;
    let (told, _) = attempt(
        &server,
        "/api/x",
        "header = 'accept-encoding', value = 'gzip'",
        &format!("bearer = '{TOKEN}'"),
    )
    .await;
    assert_eq!(told, "got 200 \"ok\", 2 bytes");
    attempt(&server, "/other", "header = 'accept-encoding', value = 'gzip'", &format!("bearer = '{TOKEN}'"))
        .await;
    attempt(&server, "/apis", "", &format!("bearer = '{TOKEN}'")).await;
    let seen = server.seen();
    let expected = format!("Bearer {TOKEN}");
    let got: Vec<_> = seen.iter().map(|request| request.header("authorization")).collect();
    assert_eq!(got, [Some(expected.as_str()), None, None]);
    let encodings: Vec<_> = seen.iter().map(|request| request.header("accept-encoding")).collect();
    assert_eq!(encodings, [Some("identity"); 3]);
}

#[tokio::test]
async fn a_guest_that_sets_the_header_itself_is_refused() {
    let server = ok().await;
    let config = "header = 'Authorization', value = 'Bearer mine'";
    let (told, plugin) = attempt(&server, "/api", config, &format!("bearer = '{TOKEN}'")).await;
    assert!(told.contains("HttpRequestDenied"), "{told}");
    let last = plugin.status()["last_denied"].as_str().unwrap().to_owned();
    assert!(
        last.ends_with("/api: the plugin sets the header authorization itself, which grant.inject sets"),
        "{last}"
    );
    assert!(server.seen().is_empty());
    // Elsewhere it may.
    attempt(&server, "/other", config, &format!("bearer = '{TOKEN}'")).await;
    assert_eq!(server.seen()[0].header("authorization"), Some("Bearer mine"));
}

/// Answers by path with what it was sent.
fn echo(seen: &Seen) -> Option<super::server::Answer> {
    let sent = seen.header("authorization").unwrap_or_default().to_owned();
    Some(match seen.path.as_str() {
        "/api/body" => answer(200, format!("you sent {sent}!")),
        "/api/error" => answer(401, sent.trim_start_matches("Bearer ").to_owned()),
        "/api/chunks" => {
            let letters = format!("you sent {sent}!").into_bytes();
            chunks(letters.into_iter().map(|letter| Bytes::from(vec![letter])))
        }
        "/api/header" => {
            let mut answer = answer(200, "");
            answer.headers_mut().insert("x-sent", sent.parse().unwrap());
            answer
        }
        // As if it had been kept from another request.
        "/kept" => answer(200, TOKEN),
        _ => answer(200, "Bearer xoxb-hunter1 is another"),
    })
}

#[tokio::test]
async fn an_answer_that_holds_it_is_cut() {
    let server = Server::start(echo).await;
    for path in ["body", "error", "chunks", "header"] {
        let (told, plugin) =
            attempt(&server, &format!("/api/{path}"), "", &format!("bearer = '{TOKEN}'")).await;
        assert!(told.ends_with("the answer holds an injected credential; it was cut)"), "{path}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
        assert_eq!((plugin.count("traps"), plugin.count("connections")), (0, 0), "{path}");
    }
    let (told, _) = attempt(&server, "/kept", "", &format!("bearer = '{TOKEN}'")).await;
    assert!(told.ends_with("the answer holds an injected credential; it was cut)"), "{told}");
    let (told, _) = attempt(&server, "/api/other", "", &format!("bearer = '{TOKEN}'")).await;
    assert_eq!(told, "got 200 \"Bearer xoxb-hunter1 is another\", 30 bytes");
}

#[tokio::test]
async fn bodies_are_signed_as_they_are_sent() {
    let server = ok().await;
    let hmac = format!("hmac = {{ header = 'x-hub-signature-256', secret = '{TOKEN}', prefix = 'sha256=' }}");
    attempt(&server, "/api", "bytes = 200000", &hmac).await;
    let aws = format!(
        "sigv4 = {{ access_key = 'AKIDEXAMPLE', secret_key = '{TOKEN}', region = 'eu-west-1', service = 's3' }}"
    );
    attempt(&server, "/api/k%20y?b=2&a", "bytes = 5", &aws).await;
    let seen = server.seen();
    let body = vec![b'x'; 200_000];
    assert!(seen[0].body == body && seen[0].header("transfer-encoding").is_none());
    let mac = Hmac::<Sha256>::new_from_slice(TOKEN.as_bytes()).unwrap().chain_update(&body).finalize();
    let signature = super::super::component::hex(&mac.into_bytes());
    assert_eq!(seen[0].header("x-hub-signature-256"), Some(format!("sha256={signature}").as_str()));
    let authorization = seen[1].header("authorization").unwrap();
    assert!(
        authorization
            .contains("/eu-west-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, "),
        "{authorization}"
    );
    assert_eq!(&seen[1].body[..], b"xxxxx");
    assert_eq!(seen[1].path, "/api/k%20y?b=2&a");
}

#[tokio::test]
async fn an_answer_that_holds_a_signature_is_cut() {
    let server = Server::start(|seen| {
        let sent = seen.header("x-sig").or(seen.header("authorization")).unwrap_or_default();
        let (_, signature) = sent.rsplit_once('=').unwrap();
        Some(answer(403, format!("AWSAccessKeyId=AKIDEXAMPLE, not {signature}")))
    })
    .await;
    let aws = format!(
        "sigv4 = {{ access_key = 'AKIDEXAMPLE', secret_key = '{TOKEN}', region = 'eu-west-1', service = 's3' }}"
    );
    for inject in [format!("hmac = {{ header = 'x-sig', secret = '{TOKEN}', prefix = 'sha256=' }}"), aws] {
        let (told, _) = attempt(&server, "/api", "bytes = 5", &inject).await;
        assert!(told.ends_with("the answer holds an injected credential; it was cut)"), "{told}");
    }
}

#[test]
fn settings_do_not_show_it() {
    for kind in [
        format!("bearer = '{TOKEN}'"),
        format!("header = 'x-key', value = '{TOKEN}'"),
        format!("basic = {{ user = 'me', password = '{TOKEN}' }}"),
        format!("hmac = {{ header = 'x', secret = '{TOKEN}' }}"),
        format!(
            "sigv4 = {{ access_key = 'AKID', secret_key = '{TOKEN}', region = 'r', service = 's', session_token = '{TOKEN}' }}"
        ),
    ] {
        let section = format!(
            "grant = {{ http = ['POST http://127.0.0.1:9/'], inject = [{{ to = 'http://127.0.0.1:9', {kind} }}] }}"
        );
        let config: super::WasmConfig = toml::from_str(&section).unwrap();
        assert_eq!(config.validate(), []);
        let shown = format!("{config:?}");
        assert!(shown.contains("[redacted]") && !shown.contains("hunter2"), "{shown}");
    }
    let nowhere = "grant = { inject = [{ to = 'https://a.example', bearer = 'hunter2' }] }";
    let problems = toml::from_str::<super::WasmConfig>(nowhere).unwrap().validate();
    let text =
        "goes to https://a.example/, where no request is granted: add http = [\"POST https://a.example/\"]";
    assert_eq!(problems, [("grant.inject.0".to_owned(), text.to_owned())]);
}
