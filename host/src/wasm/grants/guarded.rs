//! What no plugin may write to, whatever its section says: what decides which code runs, and what it may do.
//!
//! Invariant: a directory that is opened for writing holds none of it, is none of it and lies in none of it, wherever the
//! links on the way lead at that moment. Code in the cache is run as it lies there: who can write to it leaves the sandbox.

use super::super::settings::Grant;
use std::path::{Path, PathBuf};

/// What is wrong with the directories of a grant that starts at `base_dir`, as (key, message).
pub(super) fn problems(grant: &Grant, base_dir: &Path, guarded: &[PathBuf]) -> Vec<(String, String)> {
    let writable = grant.dirs.iter().enumerate().filter(|(_, dir)| dir.write);
    writable
        .filter_map(|(at, dir)| {
            let cause = check(&resolved(&base_dir.join(&dir.host)), guarded).err()?;
            Some((format!("grant.dirs.{at}.host"), cause))
        })
        .collect()
}

/// Refuses to let a plugin write to `dir`, which is [`resolved`], if that touches what is guarded.
pub(super) fn check(dir: &Path, guarded: &[PathBuf]) -> Result<(), String> {
    for path in guarded {
        let real = resolved(path);
        let how = if real == dir {
            "decides which plugins run and what they may do".to_owned()
        } else if real.starts_with(dir) {
            format!("holds {}, which decides which plugins run and what they may do", path.display())
        } else if dir.starts_with(&real) {
            format!("lies in {}, which decides which plugins run and what they may do", path.display())
        } else {
            continue;
        };
        return Err(format!(
            "no plugin may write to {}: it {how}; grant a directory of its own, or leave out write = true",
            dir.display()
        ));
    }
    Ok(())
}

/// Where a path leads, through all links. What is not there yet is taken as it is written.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in path.ancestors() {
        if let Ok(real) = there.canonicalize() {
            return match path.strip_prefix(there) {
                Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
                _ => real,
            };
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::{check, resolved};

    #[test]
    fn what_decides_on_code_is_not_written_to_by_any_way() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["plugins", "plugins/data", "out", "plugins-of-others"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        // The cache is not there yet; a plugin could make it.
        let guarded = [at("plugins"), at("state/cache"), at("pressroom.lock")];
        let refused = |name: &str| check(&resolved(&at(name)), &guarded).err();
        for (name, how) in [
            ("", "holds "),
            ("out/..", "holds "),
            ("plugins", "decides "),
            ("plugins/data", "lies in "),
            ("state", "holds "),
            ("state/cache/deep", "lies in "),
        ] {
            let text = refused(name).unwrap_or_else(|| panic!("{name} is granted"));
            assert!(
                text.contains(&format!("it {how}")) && text.contains("decides which plugins run"),
                "{text}"
            );
        }
        for name in ["out", "out/deep", "plugins-of-others"] {
            assert_eq!(refused(name), None, "{name}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("plugins"), at("out/link")).unwrap();
            assert!(refused("out/link").is_some_and(|text| text.contains("it decides ")));
            // And where what is guarded lies behind a link.
            std::os::unix::fs::symlink(at("out"), at("elsewhere")).unwrap();
            assert!(check(&resolved(&at("out")), &[at("elsewhere/cache")]).is_err());
        }
    }
}
