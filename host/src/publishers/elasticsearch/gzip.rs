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

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use std::io::Read as _;

    proptest! {
        #[test]
        fn what_is_unpacked_is_what_was_packed(
            plain in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..5_000),
                "([a-f]{1,20}|\\{\"id\":\"[0-9]{0,9}\"\\}){0,200}".prop_map(String::into_bytes),
            ],
        ) {
            let packed = compress(&plain);
            let mut unpacked = Vec::new();
            GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
            prop_assert_eq!(unpacked, plain);
        }
    }
}
