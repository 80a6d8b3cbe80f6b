use super::*;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use std::io::Write;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

const MOST: usize = 8 << 20;

async fn received(encodings: &[&str], body: &[u8]) -> Result<Received, Refusal> {
    let mut headers = HeaderMap::new();
    for encoding in encodings {
        headers.append(header::CONTENT_ENCODING, encoding.parse().unwrap());
    }
    let wait = Duration::from_secs(60);
    let bounds = Bounds { received: 16 << 20, decompressed: MOST, idle: wait, total: wait };
    receive(&headers, Body::from(body.to_vec()), bounds, &Memory::new(64 << 20, 64 << 20)).await
}

async fn decoded(encodings: &[&str], body: &[u8]) -> Result<Vec<u8>, Refusal> {
    received(encodings, body).await?.open(MOST)?.decode(MOST, |body| Ok(body.to_vec()))
}

#[tokio::test]
async fn every_coding_gives_the_body_back_whole() {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 29) as u8).collect();
    for text in [&b"[]"[..], &[b' '; 900_000], &large] {
        for (name, body) in [
            ("gzip", gzip(text)),
            ("X-GZip", gzip(text)),
            ("deflate", zlib(text)),
            ("deflate", deflate(text)),
            ("zstd", zstd(text)),
            ("identity", text.to_vec()),
            ("", text.to_vec()),
        ] {
            let back = decoded(&[name], &body).await.unwrap();
            assert!(back == text, "{name}: {} bytes of {}", back.len(), text.len());
        }
    }
}

#[tokio::test]
async fn members_of_gzip_and_frames_of_zstd_follow_each_other() {
    for (name, encode) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd)] {
        let body = [encode(b"[1,"), encode(b""), encode(b"2]")].concat();
        assert_eq!(decoded(&[name], &body).await.unwrap(), b"[1,2]", "{name}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_short_or_goes_on_is_refused() {
    let text = vec![b'x'; 100_000];
    for (name, body) in
        [("gzip", gzip(&text)), ("deflate", zlib(&text)), ("deflate", deflate(&text)), ("zstd", zstd(&text))]
    {
        for len in [1, body.len() / 2, body.len() - 1] {
            let refusal = decoded(&[name], &body[..len]).await.unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{name}, {len}: {}", refusal.message);
            assert!(refusal.message.starts_with(&format!("the body is not {name}: ")), "{}", refusal.message);
        }
        let longer = [&body[..], b"more"].concat();
        assert!(decoded(&[name], &longer).await.is_err(), "{name}");
        assert!(decoded(&[name], b"not compressed").await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn what_is_too_large_when_it_is_decompressed_is_refused() {
    let text = vec![b' '; MOST + 1];
    for (name, body) in
        [("gzip", gzip(&text)), ("deflate", zlib(&text)), ("deflate", deflate(&text)), ("zstd", zstd(&text))]
    {
        let refusal = decoded(&[name], &body).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::PAYLOAD_TOO_LARGE, "{name}");
        let small = received(&[name], &body).await.unwrap().open(MOST).unwrap();
        assert!(small.decode(1_000, |_| Ok(())).is_err(), "{name}");
    }
    let fits = &text[..MOST];
    assert_eq!(decoded(&["zstd"], &zstd(fits)).await.unwrap().len(), MOST);
}

#[tokio::test]
async fn a_window_beyond_8_mib_is_refused() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&[b' '; 100]).unwrap();
    encoder.flush().unwrap();
    encoder.write_all(&[b' '; 100]).unwrap();
    let body = encoder.finish().unwrap();
    let refusal = decoded(&["zstd"], &body).await.unwrap_err();
    assert!(refusal.message.starts_with("the body is not zstd: "), "{}", refusal.message);
}

#[tokio::test]
async fn unknown_and_repeated_codings_are_refused_with_those_that_are_taken() {
    for encodings in [&["br"][..], &["gzip, br"], &["gzip", "gzip"], &["gzip, zstd"], &["compress"]] {
        let refusal = received(encodings, b"[]").await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{encodings:?}");
        assert!(refusal.message.contains("send one of gzip, deflate, zstd, or none"), "{}", refusal.message);
    }
    assert!(received(&["identity, gzip", ""], b"[]").await.is_ok());
}

#[tokio::test]
async fn what_is_much_is_large_whatever_it_says_of_itself() {
    let is_large = async |encodings: &[&str], body: &[u8]| {
        received(encodings, body).await.unwrap().open(MOST).unwrap().is_large()
    };
    let much = vec![b' '; 4 << 20];
    // The length at the end is that of the last member.
    let lying = [gzip(&much), gzip(b"")].concat();
    assert!(lying.len() <= SMALL_COMPRESSED);
    for (name, body) in
        [("gzip", lying), ("gzip", gzip(&much)), ("deflate", zlib(&much)), ("zstd", zstd(&much))]
    {
        assert!(is_large(&[name], &body).await, "{name}");
    }
    assert!(is_large(&[], &much).await);
    for (name, body) in [("gzip", gzip(b"[]")), ("deflate", deflate(b"[]")), ("zstd", zstd(b"[]"))] {
        assert!(!is_large(&[name], &body).await, "{name}");
    }
}
