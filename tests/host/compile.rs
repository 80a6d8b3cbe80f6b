//! Plugins are compiled in a process of its own: what a file makes of the compiler harms that process alone.

use crate::support::{Api, Folder, PATIENCE, Process, another_version, events, fixture, guest, until};
use pressroom::host::Host;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_pressroom");
const ARCHIVE: &str = "[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n";

/// A component with the surface of a plugin and so many functions.
fn of_functions(functions: usize) -> Vec<u8> {
    let function =
        "(func (param f64) (result f64) (f64.div (f64.mul (local.get 0) (f64.const 3)) (f64.const 7)))";
    let text = format!(
        r#"(component (core module {}) (instance $publisher)
           (export "pressroom:publisher/publisher@0.1.0" (instance $publisher)))"#,
        function.repeat(functions)
    );
    wat::parse_str(text).unwrap()
}

/// Waits until the plugin dropped in as `label` is refused, and says why.
async fn refusal(api: &Api, label: &str) -> String {
    let refused = |status: &serde_json::Value| status["state"] == "failed";
    let status = api.until_within(3 * PATIENCE, label, "is refused", refused).await;
    status["reason"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_much_to_compile_ends_in_the_child_and_the_host_goes_on() {
    for (bounds, functions, cause) in [
        ("compile_memory = \"256MiB\"", 400_000, "more memory than the 256MiB of plugins.compile_memory"),
        ("compile_timeout = \"1ms\"", 1, "longer than the 1ms of plugins.compile_timeout"),
    ] {
        let folder = Folder::new(&format!("{bounds}\n{ARCHIVE}"));
        let running = folder.start().await;
        folder.drop_in("bomb", &of_functions(functions));
        let api = &running.api;
        let posting = async {
            for from in (0..500).step_by(50) {
                api.post(&events(from..from + 50)).await;
            }
            api.until_delivered("archive", 500).await;
        };
        let (reason, ()) = tokio::join!(refusal(api, "bomb"), posting);
        assert!(
            reason.contains("bomb.wasm cannot be compiled: compiling it took ") && reason.contains(cause),
            "{reason}"
        );
        let closing = running.host.shutdown(PATIENCE).await;
        assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
    }
}

/// A program in place of the compiler.
fn impostor(folder: &Folder, script: &str) -> PathBuf {
    let path = folder.path("compiler");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_compiler_wrote_to_its_end_is_taken() {
    for (script, cause) in [
        ("echo nonsense", "what was compiled is not for this host: "),
        (&format!("{BINARY} \"$@\" | head -c 4000"), "what was compiled is not for this host: "),
        (&format!("{BINARY} \"$@\"; kill -9 $$"), "the compiler was killed"),
        (
            &format!("{BINARY} \"$@\"; echo it broke >&2; exit 101"),
            "it broke the compiler (exit status: 101): it broke",
        ),
        ("exec sleep 60", "longer than the 2s of plugins.compile_timeout"),
    ] {
        let folder = Folder::new("compile_timeout = \"2s\"\n");
        let compiler = impostor(&folder, script);
        let running = folder.start_with(Host::builder().compiler(compiler)).await;
        folder.drop_in("minimal", &fixture("minimal.wat"));
        let reason = refusal(&running.api, "minimal").await;
        assert!(
            reason.contains("minimal.wasm cannot be compiled: ") && reason.contains(cause),
            "{script}: {reason}"
        );
        let cached = std::fs::read_dir(folder.path("plugins/.cache")).unwrap().count();
        assert_eq!(cached, 0, "{script}");
    }
    let folder = Folder::new("");
    let running = folder.start_with(Host::builder().compiler(folder.path("nobody"))).await;
    folder.drop_in("minimal", &fixture("minimal.wat"));
    let reason = refusal(&running.api, "minimal").await;
    assert!(reason.contains("the compiler cannot be started from ") && reason.contains("nobody"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_compiles_for_ever_holds_up_neither_the_start_nor_its_siblings() {
    let section = "[publishers.slow]\ntype = \"wasm\"\nplugin = \"minimal\"\n";
    let folder = Folder::new(&format!("{ARCHIVE}{section}"));
    folder.drop_in("minimal", &fixture("minimal.wat"));
    let compiler = impostor(&folder, "exec sleep 600");
    // The host is there although its plugin is not, and says what it is at.
    let running = folder.start_with(Host::builder().compiler(compiler)).await;
    running.api.post(&events(0..100)).await;
    running.api.until_delivered("archive", 100).await;
    let slow = running.api.publisher("slow").await;
    assert_eq!((&slow["state"], &slow["books"]["backlog"]), (&"pending".into(), &100.into()), "{slow:#}");
    assert!(slow["reason"].as_str().unwrap().contains("is being loaded"), "{slow:#}");
    let plugins = running.api.report("plugins").await;
    let compiling = &plugins[0]["compiling"];
    assert!(compiling["tier"].is_string() && compiling["elapsed_ms"].as_f64() > Some(0.0), "{plugins:#}");
    let closing = running.host.shutdown(Duration::from_secs(1)).await;
    assert!(closing.balanced(), "{closing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_waits_for_no_plugin_that_compiles_for_ever() {
    // Nothing ends it: a reload that waits for it never ends either.
    let plugins = "compile_timeout = \"1h\"\n";
    let slow = "[publishers.slow]\ntype = \"wasm\"\nplugin = \"minimal\"\n";
    let folder = Folder::new(&format!("{plugins}{ARCHIVE}{slow}"));
    for file in ["minimal", "dropped-1", "dropped-2", "dropped-3", "dropped-4", "dropped-5"] {
        folder.drop_in(file, &another_version(&fixture("minimal.wat"), file));
    }
    let compiler = impostor(&folder, "exec sleep 600");
    let running = folder.start_with(Host::builder().compiler(compiler)).await;
    let api = &running.api;
    for number in 0..3 {
        let new = format!("[publishers.new]\ntype = \"file\"\npath = \"new-{number}.jsonl\"\n");
        folder.configure(&format!("{plugins}{ARCHIVE}{slow}{new}"));
        let path = |status: &serde_json::Value| {
            status["detail"]["path"]
                .as_str()
                .is_some_and(|path| path.ends_with(&format!("new-{number}.jsonl")))
        };
        api.until("new", "runs as it is configured now", path).await;
        api.post(&events(number * 10..number * 10 + 10)).await;
        api.until_delivered("new", number * 10 + 10).await;
    }
    // All that was accepted waits for those that are not compiled yet.
    for label in ["slow", "dropped-1", "dropped-5"] {
        let pending = api.publisher(label).await;
        assert_eq!(
            (&pending["state"], &pending["books"]["backlog"]),
            (&"pending".into(), &30.into()),
            "{pending:#}"
        );
    }
    assert!(running.host.shutdown(Duration::from_millis(100)).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compiler_is_told_nothing_but_the_bytes() {
    let folder = Folder::new("");
    let seen = folder.path("seen");
    let compiler = impostor(&folder, &format!("env >>{}\nexec {BINARY} \"$@\"", seen.display()));
    let running = folder.start_with(Host::builder().compiler(compiler)).await;
    folder.drop_in("minimal", &fixture("minimal.wat"));
    running.api.until_running("minimal").await;
    let environment = std::fs::read_to_string(&seen).unwrap();
    assert!(environment.contains("RAYON_NUM_THREADS="), "{environment}");
    for (name, _) in
        std::env::vars().filter(|(name, _)| !["PWD", "_", "SHLVL", "OLDPWD", "PATH"].contains(&name.as_str()))
    {
        assert!(
            !environment.lines().any(|line| line.starts_with(&format!("{name}="))),
            "{name} in {environment}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_plugin_gets_its_optimised_code_and_the_next_start_begins_with_it() {
    let folder = Folder::new("");
    let (mut process, api) = Process::host(&folder, "").await;
    folder.drop_in("rollup", &guest("rollup"));
    let running = api.until_running("rollup").await;
    if cfg!(target_arch = "x86_64") {
        assert!(running["detail"]["baseline_ms"].is_number(), "{running:#}");
    }
    let mut posted = 0;
    let optimised = || async {
        api.post(&events(0..10)).await;
        let status = api.publisher("rollup").await;
        (status["detail"]["tier"] == "optimised").then_some(status)
    };
    let status = until("the optimised code takes over", optimised).await;
    posted += status["books"]["accepted"].as_u64().unwrap();
    assert!(posted > 0 && status["detail"]["optimised_ms"].is_number(), "{status:#}");
    assert_eq!(status["detail"]["traps"], 0);
    // Another version is on its baseline again, and the first one, when it is back, is not.
    folder.drop_in("rollup", &another_version(&guest("rollup"), "two"));
    let other = |now: &serde_json::Value| now["detail"]["digest"] != status["detail"]["digest"];
    api.until("rollup", "is replaced", other).await;
    folder.drop_in("rollup", &guest("rollup"));
    let back = |now: &serde_json::Value| now["detail"]["digest"] == status["detail"]["digest"];
    let back = api.until("rollup", "is back", back).await;
    assert_eq!(
        (&back["detail"]["tier"], &back["detail"]["cached"]),
        (&"optimised".into(), &true.into()),
        "{back:#}"
    );
    process.terminate();
    assert!(process.ended().await.success(), "{}", process.output());
    let said = process.output();
    assert!(said.contains("compiling (optimised) took"), "{said}");
}
