//! What lies in the plugin directory is no plugin, or is one that breaks compilers.

use super::case::{Case, file, fixed, guest, made_of, placed, raw};
use crate::support::{fixture, guest as plugin};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

pub fn cases() -> Vec<Case> {
    let whole = plugin("hostile");
    vec![
        file("not-wasm", b"#!/bin/sh\necho this is no plugin\n".to_vec()).fails("not-wasm.wasm is not WebAssembly; "),
        file("empty", Vec::new()).fails("empty.wasm is empty; "),
        file("half", whole[..whole.len() / 2].to_vec()).fails("half.wasm is truncated or damaged: "),
        file("all-but-the-end", whole[..whole.len() - 100].to_vec()).fails("is truncated or damaged: "),
        file("header-cut", whole[..6].to_vec()).fails("header-cut.wasm is "),
        file("header-alone", whole[..8].to_vec()).fails("header-alone.wasm is of another world: it exports nothing"),
        file("header-and-zeros", [&whole[..8], &[0; 1 << 20]].concat()).fails("is truncated or damaged: "),
        file("scrambled", scrambled(whole.clone())).fails("scrambled.wasm "),
        file("zeros-of-64-mib", vec![0; 64 << 20]).fails("is not WebAssembly; "),
        file("larger-than-64-mib", [&whole[..8], &vec![0; 64 << 20]].concat()).fails("larger than the 64MiB that a plugin may have"),
        fixed("core-module", "core-module.wat").fails("is a core WebAssembly module, not a component; "),
        fixed("other-world", "other-world.wat")
            .fails("is of another world: it exports example:hello/greetings@1.2.3, not "),
        file("forged-name", forged_name()).fails("forged-name.wasm is of another world: "),
        fixed("future-version", "future-version.wat").fails("is built against pressroom:publisher@9.9.0, "),
        fixed("missing-function", "missing-function.wat").fails("publish-network-metrics"),
        fixed("wrong-type", "wrong-type.wat").fails("publish-event-metrics"),
        raw("import-of-a-stranger", &[(
            "imports",
            "(import \"example:secrets/store@1.0.0\" (instance (export \"get\" (func (result string)))))",
        )])
        .fails("imports example:secrets/store@1.0.0, which this host does not give"),
        raw("import-of-no-function", &[(
            "imports",
            "(import \"wasi:cli/environment@0.2.0\" (instance (export \"get-passwords\" (func (result string)))))",
        )])
        .fails("get-passwords"),
        raw("import-of-another-type", &[(
            "imports",
            "(import \"wasi:cli/environment@0.2.0\" (instance (export \"initial-cwd\" (func (result u32)))))",
        )])
        .fails("initial-cwd"),
        file("nested-deep", nested(5_000)).fails("nests components deeper than 16"),
        file("components-by-the-thousand", many("(component)", 20_000)).fails("is made of more than 1000 "),
        file("modules-by-the-thousand", many("(core module)", 2_000)).fails("is made of more than 1000 "),
        file("instances-by-the-thousand", made_of("raw.wat", &[(
            "instances",
            &format!("(core module $tiny){}", "(core instance (instantiate $tiny))".repeat(2_000)),
        )]))
        .fails("is made of more than 1000 "),
        file("functions-by-the-million", made_of("raw.wat", &[("definitions", &"(func)".repeat(600_000))]))
            .fails("has more than 500000 functions"),
        file("types-that-double", doubling()).fails("types-that-double.wasm cannot be compiled: "),
        placed("directory", |file| std::fs::create_dir(file).unwrap()).fails("not a file"),
        placed("pipe", |file| run("mkfifo", file)).fails("not a file"),
        placed("socket", |file| drop(std::os::unix::net::UnixListener::bind(file).unwrap())).fails("not a file"),
        placed("link-to-itself", |file| symlink(file, file).unwrap()).fails("Too many levels of symbolic links"),
        placed("link-to-nothing", |file| symlink("/nothing/there.wasm", file).unwrap()).fails("No such file"),
        placed("link-to-zeros", |file| symlink("/dev/zero", file).unwrap()).fails("not a file"),
        placed("link-to-passwords", |file| symlink("/etc/passwd", file).unwrap()).fails("is not WebAssembly; "),
        placed("link-to-a-plugin", |file| symlink("honest.wasm", file).unwrap()).delivers(&[]),
        placed("comes-and-goes", comes_and_goes).delivers(&[]),
        placed("comes-in-bits", comes_in_bits).delivers(&[]),
        // The whole one among them, which the section of another pins.
        guest("pinned-to-another").key(&format!("sha256 = \"{}\"", "0".repeat(64))).fails("pins sha256"),
    ]
}

fn run(program: &str, file: &Path) {
    assert!(Command::new(program).arg(file).status().unwrap().success(), "{program}");
}

/// Every 97th byte is another one.
fn scrambled(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.iter_mut().skip(8).step_by(97).for_each(|byte| *byte ^= 0x55);
    bytes
}

/// A component whose only export has a name that would write a line of the host's log.
fn forged_name() -> Vec<u8> {
    let (honest, forged) = (b"example:hello/greetings", b"ex\nERROR forged: \x1b[2Jok");
    let mut bytes = fixture("other-world.wat");
    assert_eq!(honest.len(), forged.len());
    let at = bytes.windows(honest.len()).position(|window| window == honest).unwrap();
    bytes[at..at + forged.len()].copy_from_slice(forged);
    bytes
}

/// `depth` components, each within the one before.
fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = wat::parse_str("(component)").unwrap();
    let header = bytes.clone();
    for _ in 0..depth {
        let mut length = bytes.len();
        let mut section = header.clone();
        section.push(4);
        while length >= 128 {
            section.push(u8::try_from(length & 127).unwrap() | 128);
            length >>= 7;
        }
        section.push(u8::try_from(length).unwrap());
        section.extend_from_slice(&bytes);
        bytes = section;
    }
    bytes
}

fn many(part: &str, times: usize) -> Vec<u8> {
    made_of("raw.wat", &[("instances", &part.repeat(times))])
}

/// Types, each twice the one before.
fn doubling() -> Vec<u8> {
    let mut text = "(type $t0 (tuple u8 u8))".to_owned();
    for level in 1..60 {
        let before = level - 1;
        text += &format!("(type $t{level} (tuple $t{before} $t{before}))");
    }
    made_of("raw.wat", &[("imports", &text)])
}

/// It is written and removed while the host looks, and stays at last.
fn comes_and_goes(file: &Path) {
    let (file, bytes) = (file.to_owned(), plugin("hostile"));
    std::thread::spawn(move || {
        for _ in 0..100 {
            std::fs::write(&file, &bytes).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(3));
            std::fs::remove_file(&file).unwrap();
        }
        std::fs::write(&file, &bytes).unwrap();
    });
}

/// It is copied slowly: whenever the host looks, it has grown.
fn comes_in_bits(file: &Path) {
    use std::io::Write as _;
    let (mut file, bytes) = (std::fs::File::create(file).unwrap(), plugin("hostile"));
    std::thread::spawn(move || {
        for part in bytes.chunks(bytes.len() / 40) {
            file.write_all(part).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
}
