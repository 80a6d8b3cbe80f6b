//! A changed configuration is applied as a difference; a wrong one changes nothing and says why.

use crate::support::{Api, Folder, PATIENCE, Process, events, free_port, until};

fn config(prometheus: u16, more: &str) -> String {
    format!(
        "[publishers.metrics]\ntype = \"prometheus\"\nlisten = \"127.0.0.1:{prometheus}\"\n\
         [publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n{more}"
    )
}

/// How many events the series of the publisher `prometheus` on this port have seen.
async fn counted(port: u16) -> Option<u64> {
    let text = Api::new(format!("http://127.0.0.1:{port}")).get("/metrics").await?;
    let values = text.lines().filter(|line| line.starts_with("event_duration_seconds_count{"));
    Some(values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum())
}

async fn until_counted(port: u16, count: u64) {
    let look = || async { (counted(port).await? == count).then_some(()) };
    until(&format!("the scrape on {port} counts {count}"), look).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_touches_only_what_changed() {
    let port = free_port();
    let folder = Folder::new(&config(port, ""));
    let running = folder.start().await;
    let api = &running.api;
    api.post(&events(0..100)).await;
    until_counted(port, 100).await;
    let before = api.publisher("metrics").await;

    // One more: the others are not touched.
    let second = "[publishers.second]\ntype = \"file\"\npath = \"second.jsonl\"\n";
    folder.configure(&config(port, second));
    api.until_running("second").await;
    api.post(&events(100..200)).await;
    until_counted(port, 200).await;
    api.until_delivered("second", 100).await;
    let after = api.publisher("metrics").await;
    assert_eq!(after["since"], before["since"]);
    assert_eq!(after["books"]["accepted"], 200);

    // One changes: it keeps its cursor, and the file that it wrote.
    let failed_only = format!("{second}only = {{ status = [\"failed\"] }}\n");
    folder.configure(&config(port, &failed_only));
    let applied = running.host.reload().await;
    assert!(applied.is_ok(), "{applied:?}");
    api.post(&events(200..300)).await;
    let second = api.until("second", "has filtered", |status| status["books"]["filtered"] == 100).await;
    assert_eq!(second["books"]["delivered"], 100);
    until_counted(port, 300).await;

    // One goes, drained and accounted for.
    folder.configure(&config(port, ""));
    let gone = || async { api.publisher("second").await.is_null().then_some(()) };
    until("`second` is gone", gone).await;
    until_counted(port, 300).await;
    api.until_delivered("archive", 300).await;
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
    let labels: Vec<_> = closing.publishers.iter().map(|account| &*account.label).collect();
    assert!(labels.contains(&"second"), "{labels:?}");
    folder.assert_holds("archive.jsonl", 0..300);
    folder.assert_holds("second.jsonl", 100..200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_changes_nothing_and_says_why() {
    let port = free_port();
    let folder = Folder::new(&config(port, ""));
    let running = folder.start().await;
    let labels =
        || running.host.publishers().iter().map(|status| status.label.to_string()).collect::<Vec<_>>();
    let before = labels();
    for (more, why) in [
        ("[publishers.new]\ntype = \"fil\"\n", "file"),
        ("[publishers.new]\ntype = \"file\"\npth = \"x\"\n", "path"),
        ("[publishers.new]\ntype = \"file\"\npath = \"${NOBODY_SETS_THIS}\"\n", "NOBODY_SETS_THIS"),
        ("[publishers.new\n", "pressroom.toml:"),
    ] {
        folder.configure(&config(port, more));
        let error = running.host.reload().await.unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("pressroom.toml"), "{error}");
        assert_eq!(labels(), before);
    }
    running.api.post(&events(0..100)).await;
    until_counted(port, 100).await;

    // What a running host cannot take over is refused by name, and with it all that came along.
    let new = "[publishers.new]\ntype = \"file\"\npath = \"new.jsonl\"\n";
    folder.configure(&format!("[journal]\nmax_records = 5\n{}", config(port, new)));
    let error = running.host.reload().await.unwrap_err().to_string();
    assert!(error.contains("journal.max_records") && error.contains("restart"), "{error}");
    assert!(!error.contains("server.listen"), "{error}");
    assert_eq!(labels(), before);
    folder.write_config(&format!("[server]\nlisten = \"127.0.0.1:1\"\n{}", config(port, "")));
    let error = running.host.reload().await.unwrap_err().to_string();
    assert!(error.contains("server.listen"), "{error}");

    // A right one is taken again.
    folder.configure(&config(port, new));
    running.host.reload().await.unwrap();
    running.api.until_running("new").await;
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_in_its_log_why_it_keeps_the_old_configuration() {
    let folder = Folder::new("");
    let archive = "[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n";
    let (mut process, api) = Process::host(&folder, archive).await;
    let text = std::fs::read_to_string(folder.path("pressroom.toml")).unwrap();
    folder.write_config(&text.replace("type = \"file\"", "type = \"flie\""));
    let said = || async { process.output().contains("did you mean \"file\"").then_some(()) };
    until("the log says what is wrong", said).await;
    api.post(&events(0..10)).await;
    api.until_delivered("archive", 10).await;
    process.terminate();
    let ended = process.ended().await;
    assert!(ended.success(), "{ended}: {}", process.output());
}
