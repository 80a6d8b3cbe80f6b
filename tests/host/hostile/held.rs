//! Every function that the host offers, called again and again by a plugin that keeps what it gets: `host/src/wasm/HELD.md`
//! names them and what bounds each.
//!
//! Invariant: whatever they call, the host grows by what `limits.memory` gives the plugins, and gives it back.

use super::driver::SIBLINGS;
use super::evil;
use crate::support::{Api, Folder, PATIENCE, Process, guest, root, say, until_or};
use serde_json::Value;

/// What each plugin may hold.
const MEMORY: u64 = 8 << 20;
/// What the host may take beside that for plugins that come and go: code, stacks, reports, and what allocators keep.
const BESIDE: u64 = 64 << 20;
/// How many plugins are there at once.
const AT_ONCE: usize = 8;
/// How many records each of them is given.
const LOT: u64 = 100;

/// The functions of the table, as the guest's setting `import` has them.
fn imports() -> Vec<String> {
    let table = std::fs::read_to_string(root().join("host/src/wasm/HELD.md")).unwrap();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let (mut imports, mut interface) = (Vec::new(), String::new());
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let mut cells = line.split(" | ");
        if let Some(new) = names(cells.next().unwrap()).into_iter().next() {
            interface = new;
        }
        let functions = names(cells.next().unwrap());
        let holds = cells.next().unwrap();
        if !holds.contains("out of reach") && !holds.contains("it ends the instance") {
            imports.extend(functions.iter().map(|function| format!("{interface} {function}")));
        }
    }
    imports
}

fn section(at: usize, import: &str, granted: bool) -> String {
    let (port, url) = (evil::port(), evil::url("/ok"));
    let grant = match granted {
        true => format!(
            "dirs = [{{ host = \"in-{at}\", guest = \"/in\", write = true }}], http = [\"* {}\"], \
             sockets = [\"tcp://127.0.0.1:{port}\", \"udp://127.0.0.1:{port}\"]",
            evil::url("/*")
        ),
        false => String::new(),
    };
    format!(
        "[publishers.held-{at}]\ntype = \"wasm\"\nplugin = \"hostile\"\n\
         config = {{ do = \"held\", import = \"{import}\", url = \"{url}\", port = {port} }}\n\
         limits = {{ memory = \"8MiB\", cpu_per_call = \"5m\", call_timeout = \"10m\", log_rate = 1000 }}\n\
         timeout = \"20m\"\ngrant = {{ {grant} }}\n"
    )
}

/// A host in which plugins are put to the test, lot by lot.
struct Trial {
    folder: Folder,
    process: Process,
    api: Api,
    siblings: String,
    posted: u64,
    /// The host's memory when it had seen a plugin of each kind.
    before: u64,
}

impl Trial {
    async fn begin() -> Self {
        let folder = Folder::new("");
        // One for each: what one section may write to, no other is granted.
        for at in 0..AT_ONCE {
            std::fs::create_dir(folder.path(&format!("in-{at}"))).unwrap();
        }
        for name in ["honest", "hostile"] {
            folder.drop_in(name, &guest("hostile"));
        }
        let (process, api) = Process::host(&folder, SIBLINGS).await;
        let siblings = folder.text("pressroom.toml");
        let mut trial = Self { folder, process, api, siblings, posted: 0, before: 0 };
        trial.run(&["wasi:clocks/wall-clock now".to_owned()], true).await;
        trial.before = trial.process.memory();
        trial
    }

    /// Has a plugin for each of these call it. Returns the host's memory while they hold what they got, and afterwards.
    async fn run(&mut self, imports: &[String], granted: bool) -> (u64, u64) {
        let sections: String =
            imports.iter().enumerate().map(|(at, import)| section(at, import, granted)).collect();
        self.folder.write_config(&format!("{}{sections}", self.siblings));
        let labels: Vec<String> = (0..imports.len()).map(|at| format!("held-{at}")).collect();
        for label in &labels {
            self.api.until(label, "is there", |status| status["state"] == "running").await;
        }
        self.api.post(&super::driver::records(self.posted..self.posted + LOT)).await;
        self.posted += LOT;
        for (label, import) in labels.iter().zip(imports) {
            let what = format!("has called {import}");
            let done =
                |status: &Value| status["books"]["backlog"] == 0 && status["books"]["delivered"] == LOT;
            self.api.until(label, &what, done).await;
        }
        let with = self.process.memory();
        self.folder.write_config(&self.siblings);
        let gone = || async {
            let publishers = self.api.publishers().await;
            let is_held =
                |status: &Value| status["label"].as_str().is_some_and(|label| label.starts_with("held-"));
            (!publishers.iter().any(is_held)).then_some(())
        };
        until_or("they have gone", PATIENCE, gone, String::new).await;
        (with, self.process.memory())
    }

    /// The same, and what the host may hold of it.
    async fn bounds(&mut self, imports: &[String], granted: bool) -> (u64, u64) {
        let (with, after) = self.run(imports, granted).await;
        let most = self.before + imports.len() as u64 * MEMORY + BESIDE;
        let mib = |bytes: u64| bytes >> 20;
        assert!(with <= most, "{} MiB, {} before: {imports:?}", mib(with), mib(self.before));
        (with, after)
    }

    /// What it grew by has been given back.
    async fn end(mut self, what: &str, most: u64) {
        let kept = self.before + BESIDE;
        let after = || async { Some(self.process.memory()).filter(|now| *now <= kept) };
        let more = || format!("{} MiB", self.process.memory() >> 20);
        let after = until_or("the memory is what it was", PATIENCE, after, more).await;
        say(&format!(
            "hostile, {what}: memory {} MiB before, {} at most with them, {} after",
            self.before >> 20,
            most >> 20,
            after >> 20
        ));
        self.process.terminate();
        assert_eq!(self.process.ended().await.code(), Some(0), "{}", self.process.output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_calls_the_host_holds_no_more_than_its_memory_allows_and_gives_it_back() {
    let imports = imports();
    assert!(imports.len() > 140, "{}", imports.len());
    let mut trial = Trial::begin().await;
    let mut most = 0;
    for lot in imports.chunks(AT_ONCE) {
        most = most.max(trial.bounds(lot, true).await.0);
    }
    trial.end(&format!("{} imports", imports.len()), most).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_never_sent_are_charged_whatever_fills_them() {
    let mut trial = Trial::begin().await;
    let mut most = 0;
    for fill in ["write", "write-zeroes", "blocking-write-and-flush", "blocking-write-zeroes-and-flush"] {
        // Eight plugins with nothing granted.
        let imports = vec![format!("wasi:io/streams output-stream.{fill}"); AT_ONCE];
        most = most.max(trial.bounds(&imports, false).await.0);
    }
    trial.end("unsent bodies", most).await;
}
