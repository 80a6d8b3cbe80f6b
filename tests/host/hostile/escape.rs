//! It reaches for what it was not granted, and out of what it was.

use super::case::{Case, guest};
use crate::support::Folder;
use std::os::unix::fs::symlink;

const READ: &str = "dirs = [{ host = \"in\", guest = \"/in\" }]";
const WRITE: &str = "dirs = [{ host = \"out\", guest = \"/out\", write = true }]";

/// Two directories to be granted, a file beside them that is not, and ways from here to there.
pub fn before(folder: &Folder) {
    for dir in ["in", "out"] {
        std::fs::create_dir(folder.path(dir)).unwrap();
        std::fs::write(folder.path(dir).join("there"), "data").unwrap();
        let link = |to: &str, name: &str| symlink(to, folder.path(dir).join(name)).unwrap();
        link("../secret", "relative");
        link(folder.path("secret").to_str().unwrap(), "absolute");
        link("..", "up");
        link("relative", "chain");
        link("loop", "loop");
        link("/proc/self/root", "root");
    }
    std::fs::write(folder.path("secret"), "secret data").unwrap();
}

/// Nothing has come out, and nothing in.
pub fn after(folder: &Folder) {
    assert_eq!(folder.text("secret"), "secret data");
    assert_eq!(folder.text("in/there"), "data");
    for path in ["made", "in/new", "in/folder", "in/link", "in/moved", "out/a-hard-way-out", "out/here"] {
        assert!(!folder.path(path).exists(), "{path} is there");
    }
}

/// Tries `what` with `path` in a directory that may be read, or written too.
fn tries(name: &'static str, what: &str, path: &str, grant: &str, line: &'static [&'static str]) -> Case {
    guest(name).config(&format!("do = \"{what}\", path = \"{path}\"")).grant(grant).delivers(line)
}

pub fn cases() -> Vec<Case> {
    let read = |name, path| tries(name, "read-path", path, READ, &["read-path: denied"]);
    vec![
        guest("file-not-granted")
            .config("do = \"open-file\"")
            .delivers(&["open-file: denied", "list-root: denied"]),
        guest("write-not-granted").config("do = \"write-file\"").delivers(&["write-file: denied"]),
        guest("sparse-not-granted").config("do = \"sparse-file\"").delivers(&["sparse-file: denied"]),
        guest("many-not-granted").config("do = \"open-many\"").delivers(&["open-many: denied after 0 "]),
        guest("environment").config("do = \"read-env\"").delivers(&["read-env: denied", "read-args: denied"]),
        guest("environment-beside-the-grant")
            .config("do = \"read-env\"")
            .grant("env = [\"PRESSROOM_HOSTILE\"]")
            .delivers(&["read-env: got [(\"PRESSROOM_HOSTILE\", \"granted\")]"]),
        guest("sockets").delivers(&[
            "tcp-connect: denied",
            "tcp-listen: denied",
            "udp-send: denied",
            "resolve: denied",
        ]),
        read("up", "../secret"),
        read("up-from-within", "a/b/../../../secret"),
        read("up-through-a-file", "there/../../secret"),
        read("absolute", "/etc/passwd"),
        read("absolute-proc", "/proc/self/environ"),
        read("doubled-slashes", "//..//secret"),
        read("nul-in-the-path", "there\\u0000/../../secret"),
        read("backslashes", "..\\\\secret"),
        read("link-relative", "relative"),
        read("link-absolute", "absolute"),
        read("link-chain", "chain"),
        read("link-loop", "loop"),
        read("link-to-a-directory", "up/secret"),
        read("link-to-the-root", "root/etc/passwd"),
        tries("stat-up", "stat-path", "../secret", READ, &["stat-path: denied"]),
        tries("hash-up", "hash-path", "../secret", READ, &["hash-path: denied"]),
        tries("list-up", "list-path", "..", READ, &["list-path: denied"]),
        tries("list-link", "list-path", "up", READ, &["list-path: denied"]),
        tries("make-up", "make-path", "../made", WRITE, &["make-path: denied"]),
        tries("make-through-link", "make-path", "up/made", WRITE, &["make-path: denied"]),
        tries("overwrite-through-link", "make-path", "relative", WRITE, &["make-path: denied"]),
        tries("make-dir-up", "make-dir", "../made", WRITE, &["make-dir: denied"]),
        tries("remove-up", "remove-path", "../secret", WRITE, &["remove-path: denied"]),
        tries("link-made-relative", "symlink-out", "../secret", WRITE, &["symlink-out: denied"]),
        tries("link-made-absolute", "symlink-out", "/etc/passwd", WRITE, &["symlink-out: denied"]),
        tries(
            "hard-link-out",
            "hard-link-out",
            "../secret",
            WRITE,
            &["hard-link-made: denied", "hard-link-out: denied"],
        ),
        tries(
            "hard-link-of-a-link",
            "hard-link-out",
            "relative",
            WRITE,
            &["hard-link-made: denied", "hard-link-out: denied"],
        ),
        tries("rename-out", "rename-out", "../made", WRITE, &["rename-out: denied", "rename-in: denied"]),
        guest("change-read-only").grant(READ).delivers(&[
            "open-to-write: denied",
            "truncate: denied",
            "create: denied",
            "write: denied",
            "set-size: denied",
            "set-times: denied",
            "write-stream: denied",
            "append-stream: denied",
            "set-times-at: denied",
            "rename: denied",
            "unlink: denied",
            "make-dir: denied",
            "symlink: denied",
            "link: denied",
        ]),
    ]
}
