//! Where the operator says so, only what is signed and what is locked runs; what is refused is told by name, and what ran
//! before goes on.

use crate::support::{Folder, Process, Running, another_version, root};
use std::path::Path;

fn signed(name: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/fixtures/signed").join(name)).unwrap()
}

fn sign(folder: &Folder, name: &str, signature: &str) {
    std::fs::write(folder.path(&format!("plugins/{name}.wasm.minisig")), signed(signature)).unwrap();
}

/// Waits until why `label` does not run, or not in its newest version, has `words` in it.
async fn is_refused(running: &Running, label: &str, words: &str) {
    let refused = |status: &serde_json::Value| {
        let texts = [&status["reason"], &status["update_failed"]];
        texts.iter().any(|text| text.as_str().is_some_and(|text| text.contains(words)))
    };
    running.api.until(label, &format!("is refused: {words}"), refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_trusted_key_signed_runs() {
    let key = String::from_utf8(signed("trusted.pub")).unwrap().lines().nth(1).unwrap().to_owned();
    // As a text, and as a file beside the configuration.
    for keys in [format!("\"{key}\""), "\"keys/trusted.pub\"".to_owned()] {
        let folder = Folder::new(&format!("trusted_keys = [{keys}]\n"));
        std::fs::create_dir(folder.path("keys")).unwrap();
        std::fs::write(folder.path("keys/trusted.pub"), signed("trusted.pub")).unwrap();
        let running = folder.start().await;
        let api = &running.api;
        folder.drop_in("minimal", &signed("minimal.wasm"));
        is_refused(&running, "minimal", "there is no ").await;
        sign(&folder, "minimal", "minimal.wasm.minisig");
        let first = api.until_running("minimal").await;

        // Another file under the old signature; a signature of somebody else's; none at all: the first one goes on.
        folder.drop_in("minimal", &another_version(&signed("minimal.wasm"), "two"));
        is_refused(&running, "minimal", "was changed after it was signed").await;
        sign(&folder, "minimal", "minimal.wasm.by-another.minisig");
        is_refused(&running, "minimal", "a key that is not among plugins.trusted_keys").await;
        std::fs::write(folder.path("plugins/minimal.wasm.minisig"), "nonsense").unwrap();
        is_refused(&running, "minimal", "is not a signature of minisign's").await;
        let still = api.publisher("minimal").await;
        assert_eq!(
            (&still["state"], &still["detail"]["digest"]),
            (&"running".into(), &first["detail"]["digest"])
        );

        folder.drop_in("minimal", &signed("minimal.wasm"));
        sign(&folder, "minimal", "minimal.wasm.minisig");
        api.until("minimal", "is as it was", |status| status["update_failed"].is_null()).await;
    }
    let folder = Folder::new("trusted_keys = [\"keys/no.pub\"]\n");
    let refused = pressroom::host::Host::builder().config_file(folder.path("pressroom.toml")).start().await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("plugins.trusted_keys") && refused.contains("no.pub"), "{refused}");
}

/// Runs `pressroom plugin lock` and returns what it says.
async fn lock(folder: &Folder) -> String {
    let mut process = Process::pressroom(folder, &["plugin", "lock"]);
    let ended = process.ended().await;
    assert!(ended.success(), "{}", process.output());
    process.output()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_locked_runs_and_may_no_more_than_was_locked() {
    let section = |grants: &str| {
        format!(
            "locked = true\n[publishers.one]\ntype = \"wasm\"\nplugin = \"minimal\"\ngrant = {{ {grants} }}\n"
        )
    };
    let folder = Folder::new(&section("env = [\"PATH\"]"));
    let minimal = signed("minimal.wasm");
    folder.drop_in("minimal", &minimal);
    folder.drop_in("other", &minimal);
    let running = folder.start().await;
    is_refused(&running, "one", "there is no lock").await;
    is_refused(&running, "one", "`pressroom plugin lock`").await;

    let said = lock(&folder).await;
    assert!(
        said.contains("2 plugins") && said.contains("one: new, plugin minimal") && said.contains("env PATH"),
        "{said}"
    );
    running.host.reload().await.unwrap();
    let first = running.api.until_running("one").await;
    running.api.until_running("other").await;

    // Another file in its place, a further grant, a label that nobody looked at: refused by name, the old one goes on.
    folder.drop_in("minimal", &another_version(&minimal, "two"));
    let digest = first["detail"]["digest"].as_str().unwrap();
    is_refused(&running, "one", &format!("locked is {digest}")).await;
    folder.drop_in("minimal", &minimal);
    running.api.until("one", "is as it was", |status| status["update_failed"].is_null()).await;
    folder.configure(&section("env = [\"PATH\", \"HOME\"]"));
    is_refused(&running, "one", "its section grants what is not locked: env HOME").await;
    folder.drop_in("third", &minimal);
    is_refused(&running, "third", "the label \"third\" is not in it").await;
    let still = running.api.publisher("one").await;
    assert_eq!(
        (&still["state"], &still["detail"]["digest"]),
        (&"running".into(), &first["detail"]["digest"])
    );

    // Whoever approves of it locks anew.
    let said = lock(&folder).await;
    assert!(said.contains("env HOME") && said.contains("third: new"), "{said}");
    running.host.reload().await.unwrap();
    running.api.until("one", "is changed", |status| status["update_failed"].is_null()).await;
    running.api.until_running("third").await;

    // What is not there cannot be locked.
    std::fs::remove_file(folder.plugin("minimal")).unwrap();
    let mut process = Process::pressroom(&folder, &["plugin", "lock"]);
    assert_eq!(process.ended().await.code(), Some(1));
    assert!(process.output().contains("minimal.wasm"), "{}", process.output());
    assert!(Path::new(&folder.path("pressroom.lock")).exists());
}
