//! Files in the directories that the operator has granted.

use crate::lines::Storage;
use pressroom_plugin::PublishError;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

/// Opens, or creates, `dir/file`.
pub fn open(dir: &str, file: &str) -> Result<Box<dyn Storage>, PublishError> {
    let dir = dir.trim_end_matches('/');
    let (granted, within) = get_directories()
        .into_iter()
        .filter_map(|(granted, path)| Some((granted, within(dir, &path)?.to_owned())))
        .min_by_key(|(_, within)| within.len())
        .ok_or_else(|| {
            PublishError::hold(format!("no directory is granted for \"{dir}\": {}", grant(dir)))
        })?;
    let path = if within.is_empty() { file.to_owned() } else { format!("{within}/{file}") };
    let rights = DescriptorFlags::READ | DescriptorFlags::WRITE;
    match granted.open_at(PathFlags::SYMLINK_FOLLOW, &path, OpenFlags::CREATE, rights) {
        Ok(descriptor) => Ok(Box::new(File { descriptor, path: format!("{dir}/{file}") })),
        Err(ErrorCode::NoEntry) => Err(PublishError::hold(format!(
            "{dir}/{file}: its directory does not exist, create it in what is granted, or set another \"dir\""
        ))),
        Err(code) => Err(error(code, "open", &format!("{dir}/{file}"))),
    }
}

/// Where `dir` lies within a granted path, if it does.
fn within<'a>(dir: &'a str, granted: &str) -> Option<&'a str> {
    let rest = dir.strip_prefix(granted.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

fn grant(dir: &str) -> String {
    format!("add grant.dirs = [{{ host = \"…\", guest = \"{dir}\", write = true }}] to this publisher")
}

/// What an operator must mend is a hold, the rest may pass.
fn error(code: ErrorCode, what: &str, path: &str) -> PublishError {
    // "No such file or directory, similar to `ENOENT` in POSIX." says enough before its comma.
    let message = code.message();
    let message = message.split_once(',').map_or(message, |(before, _)| before).trim_end_matches('.');
    let reason = format!("cannot {what} {path}: {}", message.to_ascii_lowercase());
    match code {
        ErrorCode::NotPermitted | ErrorCode::Access | ErrorCode::ReadOnly => {
            let dir = path.rsplit_once('/').map_or(path, |(dir, _)| dir);
            PublishError::hold(format!("{reason}; writing is not allowed: {}", grant(dir)))
        }
        ErrorCode::IsDirectory | ErrorCode::NotDirectory | ErrorCode::NameTooLong | ErrorCode::Loop => {
            PublishError::hold(format!("{reason}; set another \"file\""))
        }
        _ => PublishError::retry(reason),
    }
}

struct File {
    descriptor: Descriptor,
    path: String,
}

impl File {
    fn error(&self, code: ErrorCode, what: &str) -> PublishError {
        error(code, what, &self.path)
    }
}

impl Storage for File {
    fn size(&self) -> Result<u64, PublishError> {
        self.descriptor.stat().map(|stat| stat.size).map_err(|code| self.error(code, "look at"))
    }

    fn read(&self, length: u64, offset: u64) -> Result<Vec<u8>, PublishError> {
        let mut bytes = Vec::new();
        while let missing @ 1.. = length - bytes.len() as u64 {
            let at = offset + bytes.len() as u64;
            let (mut piece, end) =
                self.descriptor.read(missing, at).map_err(|code| self.error(code, "read"))?;
            let nothing = piece.is_empty();
            bytes.append(&mut piece);
            if end || nothing {
                break;
            }
        }
        Ok(bytes)
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<usize, PublishError> {
        let written = self.descriptor.write(bytes, offset).map_err(|code| self.error(code, "write to"))?;
        Ok(usize::try_from(written).unwrap_or(bytes.len()).min(bytes.len()))
    }

    fn set_size(&mut self, size: u64) -> Result<(), PublishError> {
        self.descriptor.set_size(size).map_err(|code| self.error(code, "cut"))
    }

    fn sync(&mut self) -> Result<(), PublishError> {
        self.descriptor.sync_data().map_err(|code| self.error(code, "sync"))
    }
}
