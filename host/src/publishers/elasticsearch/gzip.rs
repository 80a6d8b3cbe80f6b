//! Bodies as they are sent: as they were written, or compressed, with gzip at the fastest level.
//!
//! The fastest level of the crates that are kept well: on bodies of ordinary spans (670 bytes a record, the two lines of it)
//! zlib-rs took 2.0 µs of CPU time a record at level 1 and made a quarter of them, libdeflate at its fastest 2.2 to 2.4 µs and a
//! sixth, on a machine that had other things to do.
//!
//! Invariant: what is to be compressed is so while it is still in the processor's cache; no body is ever there as a whole in
//! both forms.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;

/// So much is compressed at once.
const PIECE: usize = 64 << 10;
/// Records compress to about a seventh.
const RATIO: usize = 6;

/// A body that grows, row by row.
pub(super) struct Packer {
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// What has been written and not been compressed; without an encoder, all of it.
    plain: Vec<u8>,
    /// What has been compressed, in bytes before that.
    packed: usize,
}

impl Packer {
    /// For a body of so many bytes, about.
    pub(super) fn new(gzip: bool, size: usize) -> Self {
        if !gzip {
            return Self { encoder: None, plain: Vec::with_capacity(size), packed: 0 };
        }
        let encoder = GzEncoder::new(Vec::with_capacity(size / RATIO + 64), Compression::fast());
        Self { encoder: Some(encoder), plain: Vec::with_capacity(size.min(PIECE + PIECE / 4)), packed: 0 }
    }

    /// What the next row is appended to.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    /// A row has been written.
    pub(super) fn row_ends(&mut self) {
        if self.encoder.is_some() && self.plain.len() >= PIECE {
            self.pack();
        }
    }

    fn pack(&mut self) {
        if let Some(encoder) = &mut self.encoder {
            // Writing to a Vec cannot fail.
            let _ = encoder.write_all(&self.plain);
            self.packed += self.plain.len();
            self.plain.clear();
        }
    }

    /// The size of the body before it was compressed, and what is sent.
    pub(super) fn finish(mut self) -> (usize, Bytes) {
        self.pack();
        let size = self.packed + self.plain.len();
        let sent = match self.encoder {
            Some(encoder) => encoder.finish().unwrap_or_default(),
            None => self.plain,
        };
        (size, sent.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use std::io::Read as _;

    proptest! {
        #[test]
        fn what_is_unpacked_is_what_was_packed(
            rows in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..50_000),
                    "([a-f]{1,20}|\\{\"id\":\"[0-9]{0,9}\"\\}){0,200}".prop_map(String::into_bytes),
                ],
                0..9,
            ),
            gzip in any::<bool>(),
        ) {
            let plain = rows.concat();
            let mut packer = Packer::new(gzip, plain.len());
            for row in &rows {
                packer.out().extend_from_slice(row);
                packer.row_ends();
            }
            let (size, sent) = packer.finish();
            prop_assert_eq!(size, plain.len());
            let mut unpacked = Vec::new();
            if gzip {
                GzDecoder::new(&*sent).read_to_end(&mut unpacked).unwrap();
            } else {
                unpacked.extend_from_slice(&sent);
            }
            prop_assert!(unpacked == plain);
        }
    }
}
