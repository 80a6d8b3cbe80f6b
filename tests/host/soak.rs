//! A host under steady load, with reloads and faults: in the end the books close, every id is everywhere, once, and
//! memory is what it was.
//!
//! `tests/run soak` takes 15 minutes: 3,000 records a second into a file, Prometheus, a search server and a plugin, with
//! 500 reloads and a random fault every ten seconds. Other runs take some seconds of it, so that it keeps working.

mod faults;
mod relay;

use crate::support::servers::{Needs, Search};
use crate::support::{Api, Folder, Process, another_version, event, free_port, guest, id, say};
use faults::Fault;
use relay::Relay;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Records in a post, and how often there is one: 3,000 a second.
const POST: u64 = 300;
const PACE: Duration = Duration::from_millis(100);
/// One record in so many is a network operation.
const OPERATIONS: u64 = 5;
const LABELS: [&str; 4] = ["archive", "metrics", "search", "rows"];

/// How long it takes.
#[derive(Clone, Copy)]
struct Length {
    whole: Duration,
    /// From when on memory must not grow.
    warm: Option<Duration>,
    reload_every: Duration,
    fault_every: Duration,
}

impl Length {
    fn of_this_run() -> Self {
        if std::env::var("PRESSROOM_TESTS").is_ok_and(|which| which == "soak") {
            return Self {
                whole: Duration::from_secs(900),
                warm: Some(Duration::from_secs(600)),
                reload_every: Duration::from_millis(1_800),
                fault_every: Duration::from_secs(10),
            };
        }
        Self {
            whole: Duration::from_secs(12),
            warm: None,
            reload_every: Duration::from_millis(1_500),
            fault_every: Duration::from_secs(2),
        }
    }
}

/// A host, and what surrounds it.
struct Soak<'a> {
    length: Length,
    began: Instant,
    folder: &'a Folder,
    process: &'a Process,
    api: Api,
    server: &'a Search,
    relay: &'a Relay,
    scrape: u16,
    plugins: [Vec<u8>; 2],
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_under_load_reloads_and_faults_keeps_every_record_and_its_memory() {
    Search::any(Needs::Nothing, async |server| soak(server).await).await;
}

async fn soak(server: &Search) {
    let folder = Folder::new("");
    std::fs::create_dir(folder.path("out")).unwrap();
    let relay = Relay::start(server.url()).await;
    let plugin = guest("ndjson");
    folder.drop_in("ndjson", &plugin);
    let plugins = [another_version(&plugin, "one"), another_version(&plugin, "two")];
    let scrape = free_port();
    let publishers = publishers(scrape, &relay.url(), server.prefix(), 0);
    let (mut process, api) = Process::host(&folder, &publishers).await;
    api.post(&records(0..POST)).await;
    for label in LABELS {
        api.until_delivered(label, POST).await;
    }
    let (length, began, api) = (Length::of_this_run(), Instant::now(), api.clone());
    let soak = Soak {
        length,
        began,
        folder: &folder,
        process: &process,
        api: api.clone(),
        server,
        relay: &relay,
        scrape,
        plugins,
    };
    let (load, reloads, faults, memory) =
        tokio::join!(soak.load(), soak.reloads(), soak.faults(), soak.memory());
    let took = began.elapsed();
    for label in LABELS {
        let status = api.until_delivered(label, load.posted).await;
        assert_eq!(status["books"]["accepted"], load.posted, "{status:#}");
    }
    let again = api.publisher("search").await["detail"]["duplicates"].as_u64().unwrap();
    soak.assert_counted(load.posted).await;
    process.terminate();
    let ended = process.ended().await;
    let output = process.output();
    assert!(ended.success(), "{ended}: {output}");
    assert!(!output.contains("panicked at"), "{output}");
    assert_eq!(folder.text("dead-letters.jsonl"), "");
    let archives = std::fs::read_dir(folder.path("")).unwrap().map(|entry| entry.unwrap().path());
    let archives = archives.filter(|path| path.to_string_lossy().contains("archive.jsonl"));
    assert_each_once("archive", load.posted, archives.flat_map(|path| ids(&path)));
    assert_each_once("rows", load.posted, ids(&folder.path("out/records.jsonl")).into_iter());
    let there = server.ids(&format!("{}-*", server.prefix())).await;
    assert_each_once("search", load.posted, there.into_iter().flat_map(|(id, times)| vec![id; times]));

    let seconds = took.as_secs_f64();
    say(&format!(
        "soak: {} records in {seconds:.0} s, {:.0} a second, each at four places once ({again} came to the search \
         server again); {} posts were refused and sent again; {reloads} reloads; faults {faults:?}; resident {}",
        load.posted,
        load.posted as f64 / seconds,
        load.refused,
        memory.told(),
    ));
    memory.assert_flat();
}

/// The whole configuration, of which `variant` changes a publisher.
fn settings(soak: &Soak<'_>, variant: usize) -> String {
    let listen = soak.api.url().trim_start_matches("http://");
    let common = format!("[server]\nlisten = \"{listen}\"\n[plugins]\ndebounce = \"100ms\"\n");
    common + &publishers(soak.scrape, &soak.relay.url(), soak.server.prefix(), variant)
}

fn publishers(scrape: u16, search: &str, prefix: &str, variant: usize) -> String {
    let age = 100 + 50 * (variant % 2);
    format!(
        "[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\nmax_size = \"16MiB\"\nkeep = 10000\n\
         batch = {{ max_age = \"{age}ms\" }}\n\
         [publishers.metrics]\ntype = \"prometheus\"\nlisten = \"127.0.0.1:{scrape}\"\n\
         [publishers.search]\ntype = \"elasticsearch\"\nhosts = [\"{search}\"]\nindex_prefix = \"{prefix}\"\n\
         retry = {{ max = \"1s\" }}\n\
         [publishers.rows]\ntype = \"wasm\"\nplugin = \"ndjson\"\n\
         grant.dirs = [{{ host = \"out\", guest = \"/out\", write = true }}]\n"
    )
}

fn records(numbers: Range<u64>) -> Value {
    let operation = |number: u64| {
        let (start, end) = ("2026-11-23T11:14:44.25Z", "2026-11-23T11:14:44.75Z");
        json!({
            "type": "network", "id": id(number), "task_id": format!("task-{number}"), "operation": "PUT",
            "host": "s3.local", "port": 443, "start_time": start, "end_time": end, "bytes_sent": 1,
            "bytes_received": 2,
        })
    };
    numbers.map(|number| if number % OPERATIONS == 0 { operation(number) } else { event(number) }).collect()
}

/// What was posted.
struct Load {
    posted: u64,
    refused: u64,
}

impl Soak<'_> {
    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.length.whole
    }

    /// Posts at a steady pace. What is refused for want of room is posted again.
    async fn load(&self) -> Load {
        let mut load = Load { posted: POST, refused: 0 };
        let mut pace = tokio::time::interval(PACE);
        while !self.is_over() {
            pace.tick().await;
            let records = records(load.posted..load.posted + POST);
            loop {
                let answer = self.api.send(&records).await.unwrap();
                let status = answer.status().as_u16();
                if status == 200 {
                    break;
                }
                assert!([429, 503].contains(&status), "{status}: {}", answer.text().await.unwrap());
                load.refused += 1;
                tokio::time::sleep(PACE).await;
            }
            load.posted += POST;
        }
        load
    }

    /// Changes the configuration and the plugin in turn.
    async fn reloads(&self) -> usize {
        let mut pace = tokio::time::interval(self.length.reload_every);
        let mut reloads = 0;
        while !self.is_over() {
            pace.tick().await;
            reloads += 1;
            match reloads % 2 {
                0 => self.folder.write_config(&settings(self, reloads / 2)),
                _ => self.folder.drop_in("ndjson", &self.plugins[reloads / 2 % 2]),
            }
        }
        // Whatever a fault left there.
        self.folder.write_config(&settings(self, 0));
        self.folder.drop_in("ndjson", &self.plugins[0]);
        reloads
    }

    /// Lets a random fault happen now and then.
    async fn faults(&self) -> BTreeMap<Fault, usize> {
        let mut pace = tokio::time::interval(self.length.fault_every);
        let mut faults = BTreeMap::new();
        let mut number = 0;
        while !self.is_over() {
            pace.tick().await;
            let fault = Fault::ALL[fastrand::usize(..Fault::ALL.len())];
            *faults.entry(fault).or_default() += 1;
            number += 1;
            fault.happen(self, number).await;
        }
        faults
    }

    /// Looks at the host's memory every second.
    async fn memory(&self) -> Memory {
        let mut pace = tokio::time::interval(Duration::from_secs(1));
        let mut memory = Memory { warm: self.length.warm, samples: Vec::new() };
        while !self.is_over() {
            pace.tick().await;
            memory.samples.push((self.began.elapsed(), self.process.memory()));
        }
        memory
    }

    /// Blocks writes to the case's indices, as a full disk does, or ends that.
    async fn block(&self, blocked: &Value) {
        let indices = format!("{}-*", self.server.prefix());
        self.server.put_settings(&indices, &json!({ "index.blocks.read_only_allow_delete": blocked })).await;
    }

    /// Fails unless the series have counted every record, once.
    async fn assert_counted(&self, posted: u64) {
        let scrape = Api::new(format!("http://127.0.0.1:{}", self.scrape));
        let text = scrape.get("/metrics").await.unwrap();
        let sum = |name: &str| -> f64 {
            let samples = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
            samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
        };
        let operations = posted.div_ceil(OPERATIONS);
        assert_eq!(sum("network_latency_seconds_count"), operations as f64);
        assert_eq!(sum("event_duration_seconds_count"), (posted - operations) as f64);
    }
}

/// The host's resident memory over time.
struct Memory {
    warm: Option<Duration>,
    samples: Vec<(Duration, u64)>,
}

impl Memory {
    /// The median of half a minute from `at` on.
    fn around(&self, at: Duration) -> u64 {
        let until = at + Duration::from_secs(30);
        let within = self.samples.iter().filter(|(when, _)| (at..until).contains(when));
        let mut within: Vec<u64> = within.map(|(_, bytes)| *bytes).collect();
        within.sort_unstable();
        within[within.len() / 2]
    }

    /// At first, when it must have settled, and in the end.
    fn ends(&self) -> [u64; 3] {
        let last = self.samples.last().unwrap().0.saturating_sub(Duration::from_secs(29));
        [Duration::ZERO, self.warm.unwrap_or_default(), last].map(|at| self.around(at))
    }

    fn told(&self) -> String {
        let most = self.samples.iter().map(|(_, bytes)| *bytes).max().unwrap();
        let [first, warm, last] = self.ends().map(|bytes| bytes >> 20);
        format!(
            "{first} MiB at first, {warm} MiB when warm, {last} MiB in the end, {} MiB at most",
            most >> 20
        )
    }

    fn assert_flat(&self) {
        let [_, warm, last] = self.ends();
        assert!(self.warm.is_none() || last <= warm + warm / 10, "memory grows: {}", self.told());
    }
}

/// The ids in a file of JSON lines.
fn ids(path: &std::path::Path) -> Vec<String> {
    let file = std::fs::File::open(path).unwrap();
    let id = |line: std::io::Result<String>| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        line["id"].as_str().unwrap().to_owned()
    };
    BufReader::new(file).lines().map(id).collect()
}

/// Fails unless the ids are those of the numbers below `posted`, each once.
fn assert_each_once(place: &str, posted: u64, ids: impl Iterator<Item = String>) {
    let mut seen = vec![0_u32; usize::try_from(posted).unwrap()];
    for id in ids {
        let number = id.parse::<uuid::Uuid>().unwrap().as_u128() - self::id(0).as_u128();
        let times = usize::try_from(number).ok().and_then(|number| seen.get_mut(number));
        *times.unwrap_or_else(|| panic!("{place} has {id}, which was not posted")) += 1;
    }
    let missing = seen.iter().filter(|times| **times == 0).count();
    let doubled = seen.iter().filter(|times| **times > 1).count();
    assert_eq!((missing, doubled), (0, 0), "{place}: missing and doubled, of {posted}");
}
