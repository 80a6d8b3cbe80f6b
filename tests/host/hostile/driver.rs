//! Runs a group of cases in one running host, and holds what must hold for each of them.
//!
//! Invariants: the host runs as a process of its own, as users run it. Before, while and after the cases are there the
//! publishers beside them deliver everything, once; a report is answered at all times, about as fast as by a host without
//! plugins on the same machine at the same time; of each case the books close, and the message names plugin and cause in the report and in the log; once they have gone, the host's
//! memory is what it was.

use super::case::{Case, Then};
use crate::support::{Api, Folder, PATIENCE, Process, Wait, event, guest, id, say, until_or};
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A native publisher and an honest plugin, which every group has beside it.
pub const SIBLINGS: &str = "[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n\
    [publishers.honest]\ntype = \"wasm\"\nplugin = \"honest\"\nconfig = { do = \"count-columns\" }\n\
    limits = { cpu_per_call = \"5m\", call_timeout = \"10m\" }\ntimeout = \"20m\"\n";

/// For a host that ends with something left: what is left is not waited for.
const IMPATIENT: &str = "[shutdown]\ntimeout = \"1s\"\n";

/// How many records are posted before the cases are there, and with each of the later steps.
const LOT: u64 = 1_000;

/// How much more memory the host may have at the end than before: what allocators and pools keep for the next time.
const KEPT: u64 = 96 << 20;

/// What is secret in the configuration of every group that has a file `secret.txt`.
pub const SECRET: &str = "hunter2-hunter2";

/// How much slower the slowest report may be than the slowest of a host without plugins: a blocked host is slower for as
/// long as a case computes or waits, which is without end.
const SLOWER: u32 = 10;
/// What a report may take on any machine.
const PROMPT: Duration = Duration::from_secs(10);

/// Events, and among them network operations.
pub fn records(numbers: Range<u64>) -> Value {
    let operation = |number: u64| {
        json!({
            "type": "network",
            "id": id(number),
            "task_id": format!("task-{number}"),
            "operation": "PUT",
            "host": "s3.local",
            "port": 443,
            "start_time": "2026-11-23T11:14:44.25Z",
            "end_time": "2026-11-23T11:14:44.75Z",
            "bytes_sent": number,
            "bytes_received": 3,
        })
    };
    numbers.map(|number| if number % 10 == 0 { operation(number) } else { event(number) }).collect()
}

/// A group of cases, which share a host.
pub struct Group {
    pub name: &'static str,
    pub cases: fn() -> Vec<Case>,
    /// Puts things into the folder before the host starts.
    pub before: fn(&Folder),
    /// Looks whether they are as they were, after it has ended.
    pub after: fn(&Folder),
}

impl Group {
    /// One that needs nothing in its folder.
    pub const fn plain(name: &'static str, cases: fn() -> Vec<Case>) -> Self {
        Self { name, cases, before: |_| {}, after: |_| {} }
    }
}

/// Runs the cases of a group in one host, all of them at once.
pub async fn run(group: &Group) {
    let (began, cases) = (Instant::now(), (group.cases)());
    let folder = Folder::new("");
    (group.before)(&folder);
    folder.drop_in("honest", &guest("hostile"));
    let (mut process, api) = Process::host(&folder, SIBLINGS).await;
    let mut stage = Stage { group: group.name, folder: &folder, api: &api, posted: 0 };
    stage.post(2).await;
    let before = process.memory();

    let beside = Folder::new("");
    let (mut control, control_api) = Process::host(&beside, "").await;
    let watches = [&api, &control_api].map(|api| Watch::over(api.clone()));
    folder.drop_in("hostile", &guest("hostile"));
    let siblings = folder.text("pressroom.toml");
    let mut config = siblings.clone();
    cases.iter().for_each(|case| config += &case.section());
    folder.write_config(&config);
    stage
        .all("there", &cases, &process, |case, status, _| match status {
            Value::Null => Err(format!("there is no {}", case.name)),
            _ => Ok(()),
        })
        .await;
    // The sections first: a file that none names would run under its own name, and with other limits.
    cases.iter().for_each(|case| case.place(&folder.path("plugins")));
    let from = stage.posted;
    stage.post(3).await;
    stage.all("as they should be", &cases, &process, judge).await;
    stage.post(1).await;
    let posted = stage.posted - from;
    stage
        .all("in the books", &cases, &process, |_, status, _| match &status["books"] {
            books if books["accepted"] == posted && books["filtered"] == 0 => Ok(()),
            books => Err(format!("of {posted} it was given {books}")),
        })
        .await;
    let most = process.memory();

    // Without its section a file would run under its own name.
    for case in &cases {
        case.remove(&folder.path("plugins"));
    }
    folder.write_config(&siblings);
    stage
        .all("gone", &cases, &process, |_, status, _| match status {
            Value::Null => Ok(()),
            status => Err(format!("it is {}", status["state"])),
        })
        .await;
    stage.post(1).await;
    let what = format!("{}: the memory is what it was, {} MiB", group.name, before >> 20);
    let after = || async { Some(process.memory()).filter(|now| *now <= before + KEPT) };
    let more = || format!("{} MiB", process.memory() >> 20);
    let after = until_or(&what, PATIENCE, after, more).await;
    let [watched, calm] = watches.map(Watch::ended);
    let (watched, calm) = (watched.await, calm.await);
    control.stop();
    stage.ends(&mut process, 0).await;
    (group.after)(&folder);

    let mut text = format!(
        "hostile, {}: {} cases in {:.1} s; memory {} MiB before, {} with them, {} after; {} reports, the slowest \
         took {} ms, {} ms without plugins",
        group.name,
        cases.len(),
        began.elapsed().as_secs_f64(),
        before >> 20,
        most >> 20,
        after >> 20,
        watched.asked,
        watched.slowest.as_millis(),
        calm.slowest.as_millis(),
    );
    for case in &cases {
        text += &format!("\n  {}/{}", group.name, case.name);
    }
    say(&text);
    let most = PROMPT + calm.slowest * SLOWER;
    assert!(
        watched.unanswered == 0 && watched.slowest < most,
        "{}: {} unanswered, the slowest took {:?}, without plugins {:?}",
        group.name,
        watched.unanswered,
        watched.slowest,
        calm.slowest
    );
}

/// Ends a host while `cases` are still there.
pub async fn ends_with(cases: Vec<Case>) {
    let folder = Folder::new("");
    for name in ["honest", "hostile"] {
        folder.drop_in(name, &guest("hostile"));
    }
    cases.iter().for_each(|case| case.place(&folder.path("plugins")));
    let sections: String = cases.iter().map(Case::section).collect();
    let (mut process, api) = Process::host(&folder, &format!("{SIBLINGS}{IMPATIENT}{sections}")).await;
    let mut stage = Stage { group: "end", folder: &folder, api: &api, posted: 0 };
    stage.post(3).await;
    stage.all("as they should be", &cases, &process, judge).await;
    stage.ends(&mut process, 1).await;
    // What the plugins did not take is lost at the end, and that is said.
    assert!(process.output().contains("could not be published"), "{}", process.output());
}

/// A host with siblings, and what it has been given.
struct Stage<'a> {
    group: &'a str,
    folder: &'a Folder,
    api: &'a Api,
    posted: u64,
}

impl Stage<'_> {
    /// Posts so many lots, which the siblings must deliver.
    async fn post(&mut self, lots: u64) {
        for _ in 0..lots {
            self.api.post(&records(self.posted..self.posted + LOT)).await;
            self.posted += LOT;
        }
        for sibling in ["archive", "honest"] {
            let status = self.api.until_delivered(sibling, self.posted).await;
            assert_eq!(status["failed_attempts"], 0, "{}: {status:#}", self.group);
        }
    }

    /// Waits until `wanted` is so of every case, and says of which it is not.
    async fn all(
        &self,
        what: &str,
        cases: &[Case],
        process: &Process,
        wanted: impl Fn(&Case, &Value, &Seen) -> Result<(), String>,
    ) {
        let mut wait = Wait::new(PATIENCE);
        let mut open: Vec<&Case> = cases.iter().collect();
        loop {
            let publishers = self.api.publishers().await;
            let seen = Seen {
                plugins: serde_json::from_str(&self.api.get("/v1/report/plugins").await.unwrap()).unwrap(),
                log: process.output(),
                letters: self.folder.text("dead-letters.jsonl"),
            };
            let mut left = Vec::new();
            for case in open {
                let own = |status: &&Value| status["label"] == case.name;
                let status = publishers.iter().find(own).unwrap_or(&Value::Null);
                if let Err(why) = wanted(case, status, &seen) {
                    let progress = format!("{} {}", case.name, status["books"]);
                    left.push((case, progress, format!("{}/{}: {why}\n{status:#}", self.group, case.name)));
                }
            }
            if left.is_empty() {
                return;
            }
            let progress = || left.iter().map(|(_, progress, _)| progress.as_str()).collect();
            if !wait.goes_on(progress) {
                let (names, texts): (Vec<_>, Vec<_>) =
                    left.iter().map(|(case, _, text)| (case.name, text.as_str())).unzip();
                panic!("{}: these are not {what}: {names:?}\n{}", self.group, texts.join("\n"));
            }
            open = left.into_iter().map(|(case, ..)| case).collect();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The host ends in order, with `code`, which is 0 if everything was published, and nothing of its own panicked.
    async fn ends(&self, process: &mut Process, code: i32) {
        process.terminate();
        let ended = process.ended().await;
        let output = process.output();
        // A guest may panic, the host must not.
        let panicked = |line: &&str| line.contains("panicked at") && !line.contains("hostile/src/");
        assert_eq!(output.lines().find(panicked), None, "{}", self.group);
        assert_eq!(ended.code(), Some(code), "{}: {output}", self.group);
        let forged = |line: &&str| line.starts_with("ERROR forged");
        assert_eq!(
            output.lines().find(forged),
            None,
            "{}: a plugin wrote a line of the host's log",
            self.group
        );
        for text in [&output, &self.folder.text("dead-letters.jsonl")] {
            let tells = |line: &&str| line.contains(SECRET);
            assert_eq!(text.lines().find(tells), None, "{}: a secret is told", self.group);
        }
        self.folder.assert_holds("archive.jsonl", 0..self.posted);
    }
}

/// What there is to look at beside a publisher's own report.
pub struct Seen {
    plugins: Value,
    log: String,
    letters: String,
}

impl Seen {
    /// What the report of plugins has of the plugin that runs, or should run, under a label.
    fn plugin(&self, label: &str) -> &Value {
        let runs = |plugin: &&Value| {
            let publishers = plugin["publishers"].as_array();
            publishers
                .is_some_and(|publishers| publishers.iter().any(|publisher| publisher["label"] == label))
        };
        self.plugins.as_array().unwrap().iter().find(runs).unwrap_or(&Value::Null)
    }

    /// Whether a line of the log names the label and has these words.
    fn tells(&self, label: &str, words: &str) -> bool {
        // In a field of a line a text's quotes are escaped.
        let quoted = words.replace('"', "\\\"");
        let tells = |line: &str| line.contains(label) && (line.contains(words) || line.contains(&quoted));
        self.log.lines().any(tells)
    }
}

/// Whether of a case has come what must, and why not.
fn judge(case: &Case, status: &Value, seen: &Seen) -> Result<(), String> {
    let books = &status["books"];
    let unless = |fine: bool, why: &dyn Fn() -> String| if fine { Ok(()) } else { Err(why()) };
    unless(!status.to_string().contains(SECRET), &|| "a secret is in its report".to_owned())?;
    match case.then {
        Then::Fails(words) => {
            unless(has(&status["last_error"], words), &|| format!("it has not failed for {words:?}"))?;
            unless(status["state"] != "running", &|| "it runs".to_owned())?;
            let operations = books["accepted"].as_u64().unwrap_or(0) / 10;
            let most = if case.spares_operations { operations } else { 0 };
            unless(books["delivered"].as_u64().unwrap_or(0) <= most, &|| "it has delivered".to_owned())?;
            unless(has(seen.plugin(case.name), words), &|| {
                format!("{words:?} is not in the report of plugins")
            })?;
            unless(seen.tells(case.name, words), &|| format!("{words:?} is not in the log"))
        }
        Then::Falters(words) => {
            unless(has(status, words), &|| format!("it has not faltered for {words:?}"))?;
            unless(seen.tells(case.name, words), &|| format!("{words:?} is not in the log"))
        }
        Then::Delivers(lines) => {
            let all =
                books["backlog"] == 0 && books["delivered"] == books["accepted"] && books["delivered"] != 0;
            unless(all, &|| "it has not delivered everything".to_owned())?;
            for line in lines {
                unless(has(status, line), &|| format!("it has not said {line:?}"))?;
            }
            let denied = lines.iter().any(|line| line.contains(": denied"));
            unless(!denied || !has(&status["detail"]["log"], ": got "), &|| "it has got something".to_owned())
        }
        Then::SetsAside(words) => {
            let dropped: u64 = books["dropped"]
                .as_object()
                .map_or(0, |reasons| reasons.values().filter_map(Value::as_u64).sum());
            let all = books["backlog"] == 0 && books["dead_lettered"] != 0 && dropped == 0;
            unless(all, &|| "it has not set aside what it did not publish".to_owned())?;
            let label = format!("\"publisher\":\"{}\"", case.name);
            let mut letters = seen.letters.lines().filter(|line| line.contains(&label));
            unless(letters.all(|line| line.contains(words)), &|| format!("other dead letters than {words:?}"))
        }
    }
}

/// Whether `words` stand in a text of `report`.
pub fn has(report: &Value, words: &str) -> bool {
    match report {
        Value::String(text) => text.contains(words),
        Value::Array(items) => items.iter().any(|item| has(item, words)),
        Value::Object(fields) => fields.values().any(|field| has(field, words)),
        _ => false,
    }
}

/// Someone who asks for a report again and again, and looks at the clock.
pub struct Watch {
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Watched>,
}

/// What has come of it.
#[derive(Default)]
pub struct Watched {
    pub asked: u64,
    pub unanswered: u64,
    pub slowest: Duration,
}

impl Watch {
    pub fn over(api: Api) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let task = tokio::spawn(async move {
            let mut watched = Watched::default();
            while !until.load(Ordering::Relaxed) {
                let began = Instant::now();
                let answer = api.get("/v1/report/publishers").await;
                watched.asked += 1;
                watched.slowest = watched.slowest.max(began.elapsed());
                watched.unanswered += u64::from(answer.is_none());
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            watched
        });
        Self { over, task }
    }

    pub async fn ended(self) -> Watched {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
