//! How OpenSearch and Elasticsearch are started: command, settings, and a user that is not root.

use super::super::{installed, tls};
use super::{Kind, PASSWORD, USER};
use crate::support::lasting_port;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a search server runs with: at most a gigabyte, since others want to run, too.
const HEAP: [&str; 2] = ["-Xms512m", "-Xmx1g"];

/// The JDK that the server in `home` runs on.
fn jdk(home: &Path) -> PathBuf {
    std::fs::canonicalize(home.join("jdk")).unwrap()
}

/// OpenSearch, with its data in `folder`.
pub fn opensearch(kind: Kind, folder: &Path) -> Command {
    let home = installed(kind.name()).unwrap();
    // It takes the port after the one that it is told, and none above 9299.
    let port = lasting_port(9_201..9_290);
    let mut command = Command::new(jdk(&home).join("bin/java"));
    command.args(HEAP);
    if kind == Kind::OpenSearch3 {
        command.arg("--enable-native-access=ALL-UNNAMED");
    }
    command.arg("-cp").arg(home.join("lib/*")).arg("org.codelibs.opensearch.runner.OpenSearchRunner");
    command.arg("-basePath").arg(folder.join("data")).args(["-numOfNode", "1", "-printOnFailure"]);
    command.args(["-baseHttpPort", &(port - 1).to_string()]).current_dir(folder);
    command
}

/// Elasticsearch, in `folder`: all of it, since who runs it may not be able to read where it was installed.
pub fn elasticsearch(kind: Kind, guarded: bool, folder: &Path) -> Command {
    let home = installed(kind.name()).unwrap();
    let jdk = jdk(&home);
    let copied = Command::new("cp").arg("-R").arg(&home).arg(folder.join("home")).status().unwrap();
    assert!(copied.success(), "{} could not be copied", home.display());
    let home = folder.join("home");
    // Outgoing connections get their ports from 32768 on.
    let (port, transport) = (lasting_port(20_000..26_000), lasting_port(26_000..32_000));
    let mut settings = format!(
        "discovery.type: single-node\nnetwork.host: 127.0.0.1\nhttp.port: {port}\ntransport.port: {transport}\n\
         xpack.security.enabled: {guarded}\n"
    );
    if guarded {
        tls::certificates(folder);
        for file in ["node.pem", "node.key"] {
            std::fs::copy(folder.join(file), home.join("config").join(file)).unwrap();
        }
        settings.push_str(
            "http.max_content_length: 1mb\nxpack.security.http.ssl.enabled: true\n\
             xpack.security.http.ssl.certificate: node.pem\nxpack.security.http.ssl.key: node.key\n",
        );
    }
    std::fs::write(home.join("config/elasticsearch.yml"), settings).unwrap();
    give_away(folder);
    let program = |name: &str| {
        let mut command = as_nobody(&home.join("bin").join(name));
        command.env("ES_JAVA_HOME", &jdk).env("HOME", folder).current_dir(folder);
        command
    };
    if guarded {
        bootstrap(&program);
    }
    let mut command = program("elasticsearch");
    command.env("ES_JAVA_OPTS", HEAP.join(" "));
    command
}

/// Makes the keystore, with the password of the user that is there from the start.
fn bootstrap(program: &dyn Fn(&str) -> Command) {
    let created = program("elasticsearch-keystore").arg("create").output().unwrap();
    assert!(created.status.success(), "{created:?}");
    let mut add = program("elasticsearch-keystore");
    add.args(["add", "-x", "bootstrap.password"]).stdin(Stdio::piped());
    let mut add = add.spawn().unwrap();
    let said = std::io::Write::write_all(&mut add.stdin.take().unwrap(), PASSWORD.as_bytes());
    assert!(said.is_ok() && add.wait().unwrap().success(), "no password for {USER}");
}

/// Whether this is root, as whom Elasticsearch refuses to run.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Gives a folder to nobody, if this is root.
fn give_away(folder: &Path) {
    if is_root() {
        let given = Command::new("chown").args(["-R", "nobody:nogroup"]).arg(folder).status().unwrap();
        assert!(given.success(), "{} could not be given to nobody", folder.display());
    }
}

/// A program that runs as nobody, if this is root.
fn as_nobody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
    command
}
