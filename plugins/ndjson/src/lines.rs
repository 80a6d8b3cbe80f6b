//! A file of whole lines: an append is complete, or undone before the next one.

use pressroom_plugin::PublishError;

/// What is needed of a file.
pub trait Storage {
    /// Its length in bytes.
    fn size(&self) -> Result<u64, PublishError>;
    /// At most `length` bytes from `offset` on.
    fn read(&self, length: u64, offset: u64) -> Result<Vec<u8>, PublishError>;
    /// Writes at `offset`, and says how many bytes it took.
    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<usize, PublishError>;
    /// Cuts it off.
    fn set_size(&mut self, size: u64) -> Result<(), PublishError>;
    /// Brings it to the disk.
    fn sync(&mut self) -> Result<(), PublishError>;
}

/// The file, and how much of it is good.
pub struct Lines {
    file: Box<dyn Storage>,
    good: u64,
    /// Whether something may lie beyond `good`.
    dirty: bool,
}

/// A line longer than that is none of ours.
const LONGEST_LINE: u64 = 16 << 20;
const PIECE: u64 = 64 << 10;

impl Lines {
    /// Takes an opened file over, and mends its end: an earlier instance may have been lost while it wrote. Says what
    /// it mended.
    pub fn open(file: Box<dyn Storage>) -> Result<(Self, Option<String>), PublishError> {
        let size = file.size()?;
        let mut lines = Self { file, good: size, dirty: false };
        let tail = lines.tail()?;
        if tail.is_empty() {
            return Ok((lines, None));
        }
        if is_object(&tail) {
            lines.append(b"\n")?;
            return Ok((lines, Some("its last line had no end, completed".to_owned())));
        }
        lines.good = size.saturating_sub(tail.len() as u64);
        lines.dirty = true;
        lines.undo()?;
        Ok((lines, Some(format!("half a line of {} bytes was cut off its end", tail.len()))))
    }

    /// Appends whole lines.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        self.undo()?;
        self.dirty = true;
        match self.write(bytes) {
            Ok(()) => {
                self.good += bytes.len() as u64;
                self.dirty = false;
                Ok(())
            }
            Err(error) => {
                // If this fails as well, the next append comes back to it.
                let _ = self.undo();
                Err(error)
            }
        }
    }

    /// Brings it to the disk.
    pub fn sync(&mut self) -> Result<(), PublishError> {
        self.undo()?;
        self.file.sync()
    }

    fn write(&mut self, mut rest: &[u8]) -> Result<(), PublishError> {
        let mut at = self.good;
        while !rest.is_empty() {
            let written = self.file.write(rest, at)?;
            if written == 0 {
                return Err(PublishError::retry("the file takes no more bytes"));
            }
            rest = rest.get(written..).unwrap_or_default();
            at += written as u64;
        }
        Ok(())
    }

    fn undo(&mut self) -> Result<(), PublishError> {
        if self.dirty {
            self.file.set_size(self.good)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// What follows the last line's end.
    fn tail(&self) -> Result<Vec<u8>, PublishError> {
        let mut tail = Vec::new();
        // Nearly always the last byte says that there is none.
        let mut piece = 1;
        let mut end = self.good;
        while end > 0 {
            let start = end.saturating_sub(piece);
            let mut bytes = self.file.read(end - start, start)?;
            if (bytes.len() as u64) < end - start {
                return Err(PublishError::retry(
                    "the file is shorter than it was, does another process write to it?",
                ));
            }
            let newline = bytes.iter().rposition(|byte| *byte == b'\n');
            let after = newline.map_or(0, |newline| newline + 1);
            bytes.drain(..after);
            bytes.append(&mut tail);
            tail = bytes;
            if newline.is_some() {
                break;
            }
            if tail.len() as u64 > LONGEST_LINE {
                return Err(PublishError::hold("the file does not hold JSON lines, set another \"file\""));
            }
            (end, piece) = (start, PIECE);
        }
        Ok(tail)
    }
}

/// Whether this is one whole JSON object, going by its brackets.
fn is_object(line: &[u8]) -> bool {
    let (mut depth, mut text, mut escaped) = (0_u32, false, false);
    let line = line.trim_ascii();
    if !line.starts_with(b"{") {
        return false;
    }
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            _ if text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return *byte == b'}' && bytes.next().is_none();
        }
    }
    false
}

#[cfg(test)]
pub mod memory {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    /// A file in memory, on a disk that may be full and may fail to be cut.
    #[derive(Clone, Default)]
    pub struct Disk {
        pub bytes: Rc<RefCell<Vec<u8>>>,
        pub room: Rc<Cell<Option<usize>>>,
        pub stuck: Rc<Cell<bool>>,
    }

    impl Disk {
        pub fn holding(text: &str) -> Self {
            Self { bytes: Rc::new(RefCell::new(text.into())), ..Self::default() }
        }

        pub fn text(&self) -> String {
            String::from_utf8(self.bytes.borrow().clone()).unwrap()
        }
    }

    impl Storage for Disk {
        fn size(&self) -> Result<u64, PublishError> {
            Ok(self.bytes.borrow().len() as u64)
        }

        fn read(&self, length: u64, offset: u64) -> Result<Vec<u8>, PublishError> {
            Ok(self.bytes.borrow().iter().skip(offset as usize).take(length as usize).copied().collect())
        }

        /// Takes a few bytes at a time.
        fn write(&mut self, bytes: &[u8], offset: u64) -> Result<usize, PublishError> {
            let mut file = self.bytes.borrow_mut();
            let took = bytes.len().min(5);
            let end = offset as usize + took;
            if self.room.get().is_some_and(|room| end > room) {
                return Err(PublishError::retry("disk full"));
            }
            let length = file.len().max(end);
            file.resize(length, 0);
            file[offset as usize..end].copy_from_slice(&bytes[..took]);
            Ok(took)
        }

        fn set_size(&mut self, size: u64) -> Result<(), PublishError> {
            if self.stuck.get() {
                return Err(PublishError::retry("stuck"));
            }
            self.bytes.borrow_mut().resize(size as usize, 0);
            Ok(())
        }

        fn sync(&mut self) -> Result<(), PublishError> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::memory::Disk;
    use super::*;

    fn opened(disk: &Disk) -> (Lines, Option<String>) {
        Lines::open(Box::new(disk.clone())).unwrap()
    }

    #[test]
    fn lines_are_appended_to_what_is_there() {
        let disk = Disk::holding("{\"a\":1}\n");
        let (mut lines, mended) = opened(&disk);
        lines.append(b"{\"b\":2}\n{\"c\":3}\n").unwrap();
        lines.append(b"{}\n").unwrap();
        assert_eq!(mended, None);
        assert_eq!(disk.text(), "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n{}\n");
    }

    #[test]
    fn a_failed_append_leaves_nothing_behind() {
        let disk = Disk::holding("{}\n");
        let (mut lines, _) = opened(&disk);
        disk.room.set(Some(14));
        assert_eq!(lines.append(b"{\"b\":2}\n{\"c\":3}\n"), Err(PublishError::retry("disk full")));
        assert_eq!(disk.text(), "{}\n");
        disk.room.set(None);
        lines.append(b"{\"b\":2}\n").unwrap();
        assert_eq!(disk.text(), "{}\n{\"b\":2}\n");
    }

    #[test]
    fn what_could_not_be_undone_at_once_is_undone_first_thing() {
        let disk = Disk::holding("{}\n");
        let (mut lines, _) = opened(&disk);
        disk.room.set(Some(14));
        disk.stuck.set(true);
        assert_eq!(lines.append(b"{\"b\":2}\n{\"c\":3}\n"), Err(PublishError::retry("disk full")));
        assert_eq!(lines.append(b"[]\n"), Err(PublishError::retry("stuck")));
        assert_eq!(lines.sync(), Err(PublishError::retry("stuck")));
        disk.stuck.set(false);
        lines.append(b"{}\n").unwrap();
        assert_eq!(disk.text(), "{}\n{}\n");
    }

    #[test]
    fn half_a_line_of_an_earlier_instance_is_cut_off() {
        for half in ["{\"b\":{\"c\":2}", "{\"b\":\"}", "{\"b\":\"\\\"}", "{", "x", "}"] {
            let disk = Disk::holding(&format!("{{}}\n{half}"));
            let (mut lines, mended) = opened(&disk);
            assert_eq!(mended.unwrap(), format!("half a line of {} bytes was cut off its end", half.len()));
            lines.append(b"{}\n").unwrap();
            assert_eq!(disk.text(), "{}\n{}\n", "{half}");
        }
    }

    #[test]
    fn a_line_that_only_lacks_its_end_is_completed() {
        for line in ["{}", "{\"b\":[{\"c\":\"]}\\\"\"}]}"] {
            let disk = Disk::holding(line);
            let (_, mended) = opened(&disk);
            assert_eq!(mended.unwrap(), "its last line had no end, completed");
            assert_eq!(disk.text(), format!("{line}\n"));
        }
    }

    #[test]
    fn a_long_half_is_found_piece_by_piece_and_no_file_is_taken_for_one() {
        let disk = Disk::holding(&format!("{{}}\n{{\"b\":\"{}", "x".repeat(3 * PIECE as usize)));
        opened(&disk);
        assert_eq!(disk.text(), "{}\n");
        let other = Disk::holding(&"x".repeat(LONGEST_LINE as usize + 2));
        assert!(matches!(Lines::open(Box::new(other)), Err(PublishError::Hold { .. })));
    }
}
