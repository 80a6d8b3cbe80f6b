//! What of the host a guest is given: by default clocks and randomness, and nothing else.
//!
//! Invariant: no network, no arguments, and of files and the environment exactly what the operator's section names.

use super::output::Stdio;
use super::settings::Grant;
use std::path::Path;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

/// The most random bytes that one call gets: what it asks for is first held by the host.
const MAX_RANDOM: u64 = 64 << 10;

/// The surroundings of one instance.
///
/// # Errors
///
/// A directory is not there, or a variable is not set; the text names it.
pub(super) fn surroundings(
    grant: &Grant,
    base_dir: &Path,
    stdout: &Stdio,
    stderr: &Stdio,
) -> Result<WasiCtx, String> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(stdout.clone()).stderr(stderr.clone());
    wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    wasi.max_random_size(MAX_RANDOM);
    for dir in &grant.dirs {
        let host = base_dir.join(&dir.host);
        let permissions = if dir.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        wasi.preopened_dir(&host, &dir.guest, permissions).map_err(|cause| {
            format!(
                "the granted directory {} cannot be opened: {cause}; create it or correct grant.dirs",
                host.display()
            )
        })?;
    }
    for name in &grant.env {
        match std::env::var(name) {
            Ok(value) => wasi.env(name, value),
            Err(std::env::VarError::NotPresent) => {
                return Err(format!(
                    "the granted variable {name} is not set; set it or remove it from grant.env"
                ));
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(format!("the granted variable {name} is not valid Unicode"));
            }
        };
    }
    Ok(wasi.build())
}
