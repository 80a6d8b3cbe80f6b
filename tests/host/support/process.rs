//! Programs that the tests start: the host's binary, real servers, real clients.

use super::{Api, Folder, PATIENCE, until_or};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A program that runs. What it writes is kept, for the failure's message; it ends with the test.
pub struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = vec![collect(stdout, output.clone()), collect(stderr, output.clone())];
        Self { child, output, readers }
    }

    /// Starts the host's binary in `folder` with `arguments`.
    pub fn pressroom(folder: &Folder, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
        Self::start(command.args(arguments).current_dir(folder.path("")).env_remove("RUST_LOG"))
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
        let output = self.output.clone();
        let look = || {
            let ended = self.child.try_wait().unwrap();
            async move {
                assert!(ended.is_none(), "it ended: {ended:?}");
                api.get(path).await
            }
        };
        let what = format!("{}{path} answers", api.url());
        until_or(&what, PATIENCE, look, || output.lock().unwrap().clone()).await;
    }

    /// What it has written until now.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Asks it to end, as an operator's `kill` does.
    pub fn terminate(&self) {
        terminate(self.child.id());
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
        for reader in std::mem::take(&mut self.readers) {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Sends SIGTERM.
fn terminate(process: u32) {
    let sent = Command::new("kill").args(["-TERM", &process.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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
