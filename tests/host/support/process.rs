//! Programs that the tests start: the host's binary, real servers, real clients.

use super::{Api, Folder, PATIENCE, root, until_or};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A program that runs. What it writes is kept, for the failure's message; it ends with the test.
pub struct Process {
    child: Child,
    /// It leads a group of processes, which end together, and is asked before it is made to.
    leads: bool,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::null()), false)
    }

    /// Starts a server, which may start others: it ends with this program, however that ends.
    pub fn server(command: &Command) -> Self {
        let mut kept = Command::new(root().join("tests/servers/keep"));
        kept.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => kept.env(name, value),
                None => kept.env_remove(name),
            };
        }
        kept.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
        Self::spawn(kept.stdin(Stdio::piped()).process_group(0), true)
    }

    fn spawn(command: &mut Command, leads: bool) -> Self {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = vec![collect(stdout, output.clone()), collect(stderr, output.clone())];
        Self { child, leads, output, readers }
    }

    /// Starts the host's binary in `folder` with `arguments`.
    pub fn pressroom(folder: &Folder, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
        command.args(arguments).current_dir(folder.path("")).env_remove("RUST_LOG");
        // One that may be granted to a plugin.
        Self::start(command.env("PRESSROOM_HOSTILE", "granted"))
    }

    /// Starts `pressroom run` with the configuration of `folder`, on a free port, and waits until it is ready.
    pub async fn host(folder: &Folder, config: &str) -> (Self, Api) {
        let port = free_port();
        let common = format!("[server]\nlisten = \"127.0.0.1:{port}\"\n[plugins]\ndebounce = \"100ms\"\n");
        folder.write_config(&format!("{common}{config}"));
        let mut process = Self::pressroom(folder, &["run", "--config", "pressroom.toml"]);
        let api = Api::new(format!("http://127.0.0.1:{port}"));
        process.until_ready(&api, "/readyz").await;
        (process, api)
    }

    /// Waits until it answers.
    pub async fn until_ready(&mut self, api: &Api, path: &str) {
        self.until_answers(api, path, PATIENCE).await;
    }

    /// As [`Process::until_ready`], with another deadline.
    pub async fn until_answers(&mut self, api: &Api, path: &str, patience: Duration) {
        let output = self.output.clone();
        let look = || {
            let ended = self.child.try_wait().unwrap();
            async move {
                assert!(ended.is_none(), "it ended: {ended:?}");
                api.get(path).await
            }
        };
        let what = format!("{}{path} answers", api.url());
        until_or(&what, patience, look, || output.lock().unwrap().clone()).await;
    }

    /// What it has written until now.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Asks it to end, as an operator's `kill` does.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        signal(name, &self.child.id().to_string());
    }

    /// Ends it at once, and all that a server has started.
    pub fn kill(&mut self) {
        self.kill_group();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends what a server has started and left behind. Once: another group may get the number later.
    fn kill_group(&mut self) {
        if std::mem::take(&mut self.leads) {
            signal("KILL", &format!("-{}", self.child.id()));
        }
    }

    /// The most memory that it has had at any time, in bytes.
    pub fn most_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that it has now, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    fn status(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks it to end and waits for that, on this thread.
    pub fn stop(&mut self) {
        self.terminate();
        let deadline = Instant::now() + PATIENCE;
        while self.runs() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    /// Waits until it has ended. All that it wrote is there then.
    pub async fn ended(&mut self) -> ExitStatus {
        self.ended_within(PATIENCE).await
    }

    /// As [`Process::ended`], with another deadline.
    pub async fn ended_within(&mut self, patience: Duration) -> ExitStatus {
        let output = self.output.clone();
        let look = || {
            let ended = self.child.try_wait().unwrap();
            async move { ended }
        };
        let status = until_or("the program ends", patience, look, || output.lock().unwrap().clone()).await;
        self.kill_group();
        for reader in std::mem::take(&mut self.readers) {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.leads && self.runs() {
            self.stop();
        }
        self.kill();
    }
}

fn collect(stream: impl Read + Send + 'static, output: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let mut output = output.lock().unwrap();
            output.push_str(&String::from_utf8_lossy(&line));
            output.push('\n');
        }
    })
}

/// Sends a signal to a process, or, with a minus before it, to a group. It may have ended by then.
fn signal(name: &str, process: &str) {
    let _ = Command::new("kill").args(["-s", name, "--", process]).stderr(Stdio::null()).status().unwrap();
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A port that is free now and that no outgoing connection will get: for a server that goes and comes back.
pub fn lasting_port(range: Range<u16>) -> u16 {
    let from = fastrand::u16(range.clone());
    let mut ports = (from..range.end).chain(range.start..from);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// Where a program is, if it is installed.
pub fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The Python that has OpenTelemetry's SDK, if `tests/run` could make it.
pub fn python() -> Option<PathBuf> {
    let beside_the_binary = || {
        let binary = Path::new(env!("CARGO_BIN_EXE_pressroom"));
        Some(binary.parent()?.parent()?.join("tests-venv"))
    };
    let venv = std::env::var_os("PRESSROOM_TESTS_VENV").map(PathBuf::from).or_else(beside_the_binary)?;
    Some(venv.join("bin/python")).filter(|python| python.is_file())
}
