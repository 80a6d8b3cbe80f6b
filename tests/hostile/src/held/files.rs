//! `wasi:filesystem`, in the first directory that is granted.

use super::again;
use crate::leak::granted;
use std::hint::black_box;
use std::mem::forget;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags, filesystem_error_code,
};

const NAME: &str = "held";
const NONE: PathFlags = PathFlags::empty();

/// A file that is as long as one read and more.
pub fn file() -> Descriptor {
    opened(NAME)
}

#[allow(clippy::expect_used, reason = "a panic is fine here")]
fn opened(name: &str) -> Descriptor {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let file = granted().open_at(NONE, name, OpenFlags::CREATE, flags).expect("it can be opened");
    let _ = file.write(&[b'h'; 64 << 10], 0);
    file
}

pub fn call(function: &str) -> bool {
    let dir = granted();
    let there = file();
    match function {
        "get-directories" => again(|| forget(get_directories())),
        "filesystem-error-code" => {
            let error = super::requests::error();
            again(|| {
                black_box(filesystem_error_code(&error));
            })
        }
        // What a read found waits in the stream until it is taken.
        "descriptor.read-via-stream" => again(|| {
            if let Ok(stream) = there.read_via_stream(0) {
                let _ = stream.read(64 << 10);
                stream.subscribe().block();
                forget(stream);
            }
        }),
        "descriptor.write-via-stream" => again(|| forget(there.write_via_stream(0))),
        "descriptor.append-via-stream" => again(|| forget(there.append_via_stream())),
        "descriptor.advise" => again(|| {
            let _ = there.advise(0, 1 << 40, Advice::WillNeed);
        }),
        "descriptor.sync-data" => again(|| {
            let _ = there.sync_data();
        }),
        "descriptor.sync" => again(|| {
            let _ = there.sync();
        }),
        "descriptor.get-flags" => again(|| {
            let _ = black_box(there.get_flags());
        }),
        "descriptor.get-type" => again(|| {
            let _ = black_box(there.get_type());
        }),
        "descriptor.set-size" => again(|| {
            let _ = there.set_size(1 << 20);
        }),
        "descriptor.set-times" => again(|| {
            let _ = there.set_times(NewTimestamp::Now, NewTimestamp::NoChange);
        }),
        "descriptor.read" => again(|| {
            let _ = black_box(there.read(u64::MAX, 0));
        }),
        "descriptor.write" => {
            let bytes = vec![b'w'; 1 << 20];
            again(|| {
                let _ = there.write(&bytes, 0);
            })
        }
        "descriptor.read-directory" | "directory-entry-stream.read-directory-entry" => {
            for number in 0..500 {
                let name = format!("{number:0>200}");
                let flags = DescriptorFlags::WRITE;
                let _ = dir.open_at(NONE, &name, OpenFlags::CREATE, flags);
            }
            let held = again(|| {
                if let Ok(listing) = dir.read_directory() {
                    let _ = listing.read_directory_entry();
                    forget(listing);
                }
            });
            if let Ok(listing) = dir.read_directory() {
                while let Ok(Some(_)) = listing.read_directory_entry() {}
            }
            held
        }
        "descriptor.stat" => again(|| {
            let _ = black_box(there.stat());
        }),
        "descriptor.is-same-object" => again(|| {
            black_box(there.is_same_object(&dir));
        }),
        "descriptor.metadata-hash" => again(|| {
            let _ = black_box(there.metadata_hash());
        }),
        "descriptor.open-at" => again(|| forget(opened(NAME))),
        at => paths(at, &dir),
    }
}

/// Paths as long as they may be, which lead nowhere, and one that does.
fn paths(function: &str, dir: &Descriptor) -> bool {
    let long = "p".repeat(100 << 10);
    let each = |call: &dyn Fn(&str)| {
        again(|| {
            call(&long);
            call("a-name");
        })
    };
    match function {
        "descriptor.create-directory-at" => each(&|path| {
            let _ = dir.create_directory_at(path);
        }),
        "descriptor.stat-at" => each(&|path| {
            let _ = black_box(dir.stat_at(NONE, path));
        }),
        "descriptor.set-times-at" => each(&|path| {
            let _ = dir.set_times_at(NONE, path, NewTimestamp::Now, NewTimestamp::Now);
        }),
        "descriptor.link-at" => each(&|path| {
            let _ = dir.link_at(NONE, NAME, dir, path);
        }),
        "descriptor.readlink-at" => each(&|path| {
            let _ = black_box(dir.readlink_at(path));
        }),
        "descriptor.remove-directory-at" => each(&|path| {
            let _ = dir.remove_directory_at(path);
        }),
        "descriptor.rename-at" => each(&|path| {
            let _ = dir.rename_at(path, dir, "another-name");
        }),
        "descriptor.symlink-at" => each(&|path| {
            let _ = dir.symlink_at("nowhere", path);
        }),
        "descriptor.unlink-file-at" => each(&|path| {
            let _ = dir.unlink_file_at(path);
        }),
        "descriptor.metadata-hash-at" => each(&|path| {
            let _ = black_box(dir.metadata_hash_at(NONE, path));
        }),
        _ => false,
    }
}
