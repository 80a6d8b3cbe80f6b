//! It reaches for what it was not granted, and out of what it was.

use super::case::{Case, guest};
use crate::support::Folder;
use std::os::unix::fs::symlink;

const READ: &str = "dirs = [{ host = \"in\", guest = \"/in\" }]";
/// Those that may write, each in a directory of its own with its name: none may write where another one may.
const WRITERS: &[&str] = &[
    "make-up",
    "make-through-link",
    "overwrite-through-link",
    "make-dir-up",
    "remove-up",
    "link-made-relative",
    "link-made-absolute",
    "hard-link-out",
    "hard-link-of-a-link",
    "rename-out",
    "swap-and-trap",
    "swap-and-trap-beside",
];

/// Directories to be granted, files beside them that are not, and ways from here to there.
pub fn before(folder: &Folder) {
    for dir in WRITERS.iter().chain(&["in"]) {
        std::fs::create_dir_all(folder.path(dir).join("sub")).unwrap();
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
    std::fs::create_dir(folder.path("outside")).unwrap();
    std::fs::write(folder.path("outside/secret"), "secret data").unwrap();
}

/// Nothing has come out, and nothing in.
pub fn after(folder: &Folder) {
    assert_eq!(folder.text("secret"), "secret data");
    assert_eq!(folder.text("in/there"), "data");
    assert_eq!(std::fs::read_dir(folder.path("outside")).unwrap().count(), 1);
    for path in [
        "made",
        "in/new",
        "in/folder",
        "in/link",
        "in/moved",
        "hard-link-out/a-hard-way-out",
        "rename-out/here",
    ] {
        assert!(!folder.path(path).exists(), "{path} is there");
    }
    for swapped in ["swap-and-trap", "swap-and-trap-beside"] {
        assert!(folder.path(swapped).join("sub").is_symlink(), "{swapped} has not done its worst");
    }
}

/// Tries `what` with `path` in a directory that may be read.
fn tries(name: &'static str, what: &str, path: &str, line: &'static [&'static str]) -> Case {
    guest(name).config(&format!("do = \"{what}\", path = \"{path}\"")).grant(READ).delivers(line)
}

/// As [`tries`], in a directory of its own, which may be written to.
fn writes(name: &'static str, what: &str, path: &str, line: &'static [&'static str]) -> Case {
    tries(name, what, path, line).grant(&format!("dirs = [{}]", own(name)))
}

fn own(name: &str) -> String {
    format!("{{ host = \"{name}\", guest = \"/out\", write = true }}")
}

pub fn cases() -> Vec<Case> {
    let read = |name, path| tries(name, "read-path", path, &["read-path: denied"]);
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
        tries("stat-up", "stat-path", "../secret", &["stat-path: denied"]),
        tries("hash-up", "hash-path", "../secret", &["hash-path: denied"]),
        tries("list-up", "list-path", "..", &["list-path: denied"]),
        tries("list-link", "list-path", "up", &["list-path: denied"]),
        writes("make-up", "make-path", "../made", &["make-path: denied"]),
        writes("make-through-link", "make-path", "up/made", &["make-path: denied"]),
        writes("overwrite-through-link", "make-path", "relative", &["make-path: denied"]),
        writes("make-dir-up", "make-dir", "../made", &["make-dir: denied"]),
        writes("remove-up", "remove-path", "../secret", &["remove-path: denied"]),
        writes("link-made-relative", "symlink-out", "../secret", &["symlink-out: denied"]),
        writes("link-made-absolute", "symlink-out", "/etc/passwd", &["symlink-out: denied"]),
        writes(
            "hard-link-out",
            "hard-link-out",
            "../secret",
            &["hard-link-made: denied", "hard-link-out: denied"],
        ),
        writes(
            "hard-link-of-a-link",
            "hard-link-out",
            "relative",
            &["hard-link-made: denied", "hard-link-out: denied"],
        ),
        writes("rename-out", "rename-out", "../made", &["rename-out: denied", "rename-in: denied"]),
        guest("swap-and-trap")
            .grant(&format!("dirs = [{}]", own("swap-and-trap")))
            .delivers(&["after-swap: denied"]),
        guest("swap-and-trap-beside")
            .config("do = \"swap-and-trap\"")
            .grant(&format!("dirs = [{}, {{ host = \"in\", guest = \"/in\" }}]", own("swap-and-trap-beside")))
            .delivers(&["after-swap: denied"]),
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
