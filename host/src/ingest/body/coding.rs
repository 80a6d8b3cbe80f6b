//! The content codings that a body may have.
//!
//! Invariant: a body that ends early, or has more after its end, is an error: nothing of it is taken for the whole.

use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{Error, ErrorKind, Read};

/// What is taken, for people and for `accept-encoding`.
pub const CODINGS: &str = "gzip, deflate, zstd";

/// What a frame of zstd may need of memory: what RFC 9659 allows in HTTP.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// One member or several (RFC 1952).
    Gzip,
    /// zlib (RFC 1950), or nothing but deflate (RFC 1951), which some senders take for it.
    Deflate,
    /// One frame or several (RFC 8878).
    Zstd,
}

impl Coding {
    /// By its name in lower case.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn decoder(self, body: Bytes) -> std::io::Result<Decoder> {
        Ok(match self {
            Self::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(body.reader()))),
            Self::Deflate => Decoder::Deflate(Inflate::new(body)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(body.reader())?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Decoder::Zstd(decoder)
            }
        })
    }
}

/// Decompresses a body.
pub(super) enum Decoder {
    Gzip(Box<MultiGzDecoder<Reader<Bytes>>>),
    Deflate(Inflate),
    Zstd(zstd::stream::read::Decoder<'static, Reader<Bytes>>),
}

impl Read for Decoder {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Deflate(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

/// Decompresses `deflate`. flate2's own readers take the end of the input for the end of the data.
pub(super) struct Inflate {
    body: Bytes,
    decompress: Decompress,
    ended: bool,
}

impl Inflate {
    fn new(body: Bytes) -> Self {
        // RFC 1950: deflate is method 8, and the two bytes together are a multiple of 31.
        let zlib = matches!(body.first_chunk(), Some(head @ [method, _])
            if method & 0x0f == 8 && u16::from_be_bytes(*head) % 31 == 0);
        Self { body, decompress: Decompress::new(zlib), ended: false }
    }
}

impl Read for Inflate {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let (read, written) = (self.decompress.total_in(), self.decompress.total_out());
        let status = self
            .decompress
            .decompress(&self.body, buffer, FlushDecompress::None)
            .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        // Never more than there was.
        let taken = usize::try_from(self.decompress.total_in() - read).unwrap_or(usize::MAX);
        self.body.advance(taken.min(self.body.len()));
        let written = usize::try_from(self.decompress.total_out() - written).unwrap_or(usize::MAX);
        if status == Status::StreamEnd {
            self.ended = true;
            if !self.body.is_empty() {
                return Err(Error::new(ErrorKind::InvalidData, "more follows after its end"));
            }
        } else if written == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "it is cut short"));
        }
        Ok(written)
    }
}
