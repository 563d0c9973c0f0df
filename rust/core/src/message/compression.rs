//! The compressions of a body that the `compression` header may name.
//!
//! The header carries a content type; people write names. What Celery calls `gzip` is a raw zlib
//! stream. A receiver says how large a body may become, and what would grow beyond that is refused
//! before it is in memory. Other compressions that Celery may have (lzma, brotli) are optional
//! there and not read here.

use std::io::{Read, Write};

use crate::error::{Error, ErrorKind, Result};

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A zlib stream: `gzip`, `zlib`.
    Zlib,
    /// `bzip2`, `bzip`.
    Bzip2,
    /// `zstd`, `zstandard`.
    Zstd,
}

impl Compression {
    /// By the name that a user gives to `compression=`; content types are names too.
    ///
    /// # Errors
    /// `Config` when there is none of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::find(name).ok_or_else(|| {
            let sentence =
                format!("compression `{name}` is unknown, expected `gzip`, `bzip2` or `zstd`");
            Error::new(ErrorKind::Config, sentence)
        })
    }

    /// By the content type in the `compression` header of a message.
    ///
    /// # Errors
    /// `Unsupported` when it is none that this version reads.
    pub fn from_content_type(content_type: &str) -> Result<Self> {
        Self::find(content_type).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "a body compressed as `{content_type}` cannot be read, expected \
                     `application/x-gzip`, `application/x-bz2` or `application/zstd`"
                ),
            )
        })
    }

    fn find(name: &str) -> Option<Self> {
        match name {
            "gzip" | "zlib" | "application/x-gzip" => Some(Self::Zlib),
            "bzip2" | "bzip" | "application/x-bz2" => Some(Self::Bzip2),
            "zstd" | "zstandard" | "application/zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What the `compression` header says.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Zlib => "application/x-gzip",
            Self::Bzip2 => "application/x-bz2",
            Self::Zstd => "application/zstd",
        }
    }

    /// The name for logs and for `self.request.compression`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zlib => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses a whole body at the library's default level.
    pub fn compress(self, data: &[u8]) -> Vec<u8> {
        let out = Vec::with_capacity(data.len() / 2 + 64);
        let done = match self {
            Self::Zlib => {
                let mut w = flate2::write::ZlibEncoder::new(out, flate2::Compression::default());
                w.write_all(data).and_then(|()| w.finish())
            }
            Self::Bzip2 => {
                let mut w = bzip2::write::BzEncoder::new(out, bzip2::Compression::best());
                w.write_all(data).and_then(|()| w.finish())
            }
            Self::Zstd => zstd::stream::encode_all(data, zstd::DEFAULT_COMPRESSION_LEVEL),
        };
        done.expect("compressing from memory to memory does not fail")
    }

    /// Decompresses a whole body of at most `limit` bytes.
    ///
    /// # Errors
    /// `TooLarge` when it would become larger than `limit`; `Decode` when the data is damaged or
    /// cut off.
    pub fn decompress(self, data: &[u8], limit: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let room = limit as u64 + 1; // one byte more tells `at the limit` from `over it`
        let read = match self {
            Self::Zlib => flate2::read::ZlibDecoder::new(data).take(room).read_to_end(&mut out),
            Self::Bzip2 => bzip2::read::MultiBzDecoder::new(data).take(room).read_to_end(&mut out),
            Self::Zstd => zstd::stream::read::Decoder::with_buffer(data)
                .and_then(|decoder| decoder.take(room).read_to_end(&mut out)),
        };
        if out.len() > limit {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the decompressed body is larger than the limit of `{limit}` bytes"),
            ));
        }
        read.map_err(|e| {
            Error::caused(
                ErrorKind::Decode,
                format!("the body is not valid {} data", self.name()),
                e,
            )
        })?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Compression; 3] = [Compression::Zlib, Compression::Bzip2, Compression::Zstd];

    #[test]
    fn names_and_content_types_lead_back() {
        for c in ALL {
            assert_eq!(Compression::from_content_type(c.content_type()).unwrap(), c);
            assert_eq!(Compression::from_name(c.name()).unwrap(), c);
        }
        assert_eq!(Compression::from_name("zlib").unwrap(), Compression::Zlib);
        assert_eq!(Compression::from_name("bzip").unwrap(), Compression::Bzip2);
        assert_eq!(Compression::from_name("zstandard").unwrap(), Compression::Zstd);
        assert_eq!(Compression::from_name("rar").unwrap_err().kind(), ErrorKind::Config);
        let error = Compression::from_content_type("application/x-lzma").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("`application/x-lzma`"));
    }

    #[test]
    fn gzip_is_a_zlib_stream() {
        assert_eq!(Compression::Zlib.compress(b"taskcore")[..2], [0x78, 0x9c]);
    }

    #[test]
    fn a_bomb_is_refused_with_the_limit_named() {
        let bomb = vec![0; 10_000_000];
        for c in ALL {
            let data = c.compress(&bomb);
            assert!(data.len() < 100_000);
            let error = c.decompress(&data, 1_000_000).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{c:?}");
            assert!(error.to_string().contains("`1000000`"));
            assert_eq!(
                c.decompress(&data, bomb.len()).unwrap().len(),
                bomb.len(),
                "exactly at the limit"
            );
        }
    }

    #[test]
    fn damaged_data_is_a_decode_error() {
        let text = b"the quick brown fox jumps over the lazy dog ".repeat(50);
        for c in ALL {
            let data = c.compress(&text);
            for damaged in [&data[..data.len() - 6], b"not compressed at all".as_slice()] {
                let error = c.decompress(damaged, 1 << 20).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Decode, "{c:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(data: Vec<u8>) {
            for c in ALL {
                prop_assert_eq!(&c.decompress(&c.compress(&data), data.len()).unwrap(), &data);
            }
        }

        #[test]
        fn hostile_data_never_panics(data: Vec<u8>) {
            for c in ALL {
                let _ = c.decompress(&data, 1 << 16);
            }
        }
    }
}
