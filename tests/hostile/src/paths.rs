//! The ways out of a granted directory, and to write where it is only to be read. Each try logs what came of it.

use crate::die::trap;
use crate::leak::granted;
use crate::text;
use pressroom_plugin::info;
use std::fmt::{Debug, Display};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, NewTimestamp, OpenFlags, PathFlags,
};

fn tell<T: Debug, E: Display>(what: &str, answer: Result<T, E>) {
    match answer {
        Ok(it) => info!("{what}: got {it:?}"),
        Err(error) => info!("{what}: denied ({error})"),
    }
}

/// Does what `behaviour` says, if it is one of these.
pub fn act(behaviour: &str) {
    let path = || text("path", "../secret");
    match behaviour {
        "read-path" => tell("read-path", read(&granted(), &path())),
        "stat-path" => tell("stat-path", granted().stat_at(PathFlags::SYMLINK_FOLLOW, &path())),
        "hash-path" => tell("hash-path", granted().metadata_hash_at(PathFlags::SYMLINK_FOLLOW, &path())),
        "list-path" => {
            let opened = granted().open_at(
                PathFlags::SYMLINK_FOLLOW,
                &path(),
                OpenFlags::DIRECTORY,
                DescriptorFlags::READ,
            );
            tell("list-path", opened.and_then(|dir| dir.read_directory()));
        }
        "make-path" => {
            let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
            let made = granted().open_at(PathFlags::SYMLINK_FOLLOW, &path(), OpenFlags::CREATE, flags);
            tell("make-path", made.and_then(|file| file.write(b"written by a plugin\n", 0)));
        }
        "make-dir" => tell("make-dir", granted().create_directory_at(&path())),
        "remove-path" => {
            tell("remove-path", granted().unlink_file_at(&path()));
            tell("remove-path", granted().remove_directory_at(&path()));
        }
        // A link that leads out is made, if it can be, and followed.
        "symlink-out" => {
            let dir = granted();
            info!("symlink-made: {}", dir.symlink_at(&path(), "a-way-out").is_ok());
            tell("symlink-out", read(&dir, "a-way-out"));
            let _ = dir.unlink_file_at("a-way-out");
        }
        "hard-link-out" => {
            let dir = granted();
            tell("hard-link-made", dir.link_at(PathFlags::SYMLINK_FOLLOW, &path(), &dir, "a-hard-way-out"));
            tell("hard-link-out", read(&dir, "a-hard-way-out"));
        }
        "rename-out" => {
            let dir = granted();
            tell("rename-out", dir.rename_at("there", &dir, &path()));
            tell("rename-in", dir.rename_at(&path(), &dir, "here"));
        }
        "change-read-only" => change_read_only(),
        "swap-and-trap" => swap_and_trap(),
        _ => {}
    }
}

fn read(dir: &Descriptor, path: &str) -> Result<String, wasip2::filesystem::types::ErrorCode> {
    let file = dir.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ)?;
    let (bytes, _) = file.read(1 << 10, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Puts a link that leads out in the place of the directory `sub` and dies; the next instance looks where the link leads
/// from each directory that it is granted.
fn swap_and_trap() {
    let there = granted().stat_at(PathFlags::empty(), "sub");
    if there.is_ok_and(|found| found.type_ == DescriptorType::Directory) {
        let dir = granted();
        let swapped = dir.rename_at("sub", &dir, "was").and_then(|()| dir.symlink_at("../outside", "sub"));
        info!("swapped: {swapped:?}");
        trap();
    }
    for (dir, _) in get_directories() {
        for path in ["sub/secret", "secret"] {
            tell("after-swap", read(&dir, path));
        }
        let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
        let made = dir.open_at(PathFlags::SYMLINK_FOLLOW, "sub/made", OpenFlags::CREATE, flags);
        tell("after-swap", made.map(|_| "a file"));
    }
}

/// Everything that would change something, tried on the file `there` of a directory that may only be read.
fn change_read_only() {
    let dir = granted();
    let open = |flags, how| dir.open_at(PathFlags::empty(), "there", flags, how);
    tell("open-to-write", open(OpenFlags::empty(), DescriptorFlags::WRITE));
    tell("truncate", open(OpenFlags::TRUNCATE, DescriptorFlags::READ));
    tell("create", dir.open_at(PathFlags::empty(), "new", OpenFlags::CREATE, DescriptorFlags::READ));
    if let Ok(file) = open(OpenFlags::empty(), DescriptorFlags::READ) {
        tell("write", file.write(b"x", 0));
        tell("set-size", file.set_size(0));
        tell("set-times", file.set_times(NewTimestamp::Now, NewTimestamp::Now));
        tell("write-stream", file.write_via_stream(0).map(|_| "a stream"));
        tell("append-stream", file.append_via_stream().map(|_| "a stream"));
    }
    tell("set-times-at", {
        dir.set_times_at(PathFlags::empty(), "there", NewTimestamp::Now, NewTimestamp::Now)
    });
    tell("rename", dir.rename_at("there", &dir, "moved"));
    tell("unlink", dir.unlink_file_at("there"));
    tell("make-dir", dir.create_directory_at("folder"));
    tell("symlink", dir.symlink_at("there", "link"));
    tell("link", dir.link_at(PathFlags::empty(), "there", &dir, "link"));
}
