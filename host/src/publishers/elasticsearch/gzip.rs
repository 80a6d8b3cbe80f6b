//! Bodies compressed: gzip at the fastest level.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;

/// `plain`, compressed.
pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4 + 64), Compression::fast());
    // Writing to a Vec cannot fail.
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}
