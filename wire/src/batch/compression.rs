//! The five codecs of Kafka's record batches. Expansion streams into a buffer that grows with what
//! really comes out and stops at the caller's limit, so that a bomb costs at most that much.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use bytes::{BufMut, BytesMut};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::error::BatchError;

/// How a batch's records are compressed; the number in its attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    None = 0,
    /// gzip.
    Gzip = 1,
    /// Snappy, in the framing of snappy-java or bare.
    Snappy = 2,
    /// LZ4 frames; what the Rust client uses unless told otherwise.
    #[default]
    Lz4 = 3,
    /// Zstandard.
    Zstd = 4,
}

/// What ends an LZ4 frame: a block of no bytes.
const LZ4_END_MARK: [u8; 4] = [0; 4];

/// No codec has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compression '{0}' is not known; use one of none, gzip, snappy, lz4, zstd")]
pub struct UnknownCompression(pub String);

impl Compression {
    /// Every codec, for tables and tests.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The codec with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Compression> {
        Compression::ALL.get(usize::from(number)).copied()
    }

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Appends the compressed records to `out`.
    pub(super) fn compress(self, records: &[u8], out: &mut BytesMut) -> io::Result<()> {
        match self {
            Compression::None => out.extend_from_slice(records),
            Compression::Gzip => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::GzEncoder::new(out.writer(), level);
                encoder.write_all(records)?;
                encoder.finish()?;
            }
            Compression::Snappy => xerial::compress(records, out)?,
            Compression::Lz4 => {
                // Larger blocks fall out of the cache, and a decoder allocates a block at once.
                // Java's decoder wants independent ones.
                let block_size = match records.len() {
                    ..=0x1_0000 => BlockSize::Max64KB,
                    _ => BlockSize::Max256KB,
                };
                let info = FrameInfo::new()
                    .block_size(block_size)
                    .block_mode(BlockMode::Independent);
                let mut encoder = FrameEncoder::with_frame_info(info, out.writer());
                encoder.write_all(records)?;
                encoder.finish()?;
            }
            Compression::Zstd => {
                // In one go, so that tables and window fit the size.
                let level = zstd::DEFAULT_COMPRESSION_LEVEL;
                out.extend_from_slice(&zstd::bulk::compress(records, level)?);
            }
        }
        Ok(())
    }

    /// Expands compressed records, all of them, to at most `limit` bytes.
    pub(super) fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        let expanded = match self {
            Compression::None => read_bounded(bytes, bytes.len(), limit),
            Compression::Gzip => gzip(bytes, limit),
            Compression::Snappy => xerial::decompress(bytes, limit),
            Compression::Lz4 => lz4(bytes, limit),
            Compression::Zstd => zstd(bytes, limit),
        };
        expanded.map_err(|error| match error {
            ExpandError::Limit => BatchError::Expands { limit },
            ExpandError::Broken(reason) => BatchError::Compressed {
                codec: self,
                reason,
            },
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Compression, UnknownCompression> {
        let known = Compression::ALL
            .into_iter()
            .find(|codec| codec.name() == name);
        known.ok_or_else(|| UnknownCompression(name.to_owned()))
    }
}

/// Why records could not be expanded.
enum ExpandError {
    /// More comes out than is allowed.
    Limit,
    /// The codec says that the bytes are broken.
    Broken(String),
}

impl ExpandError {
    fn broken(reason: impl fmt::Display) -> ExpandError {
        ExpandError::Broken(reason.to_string())
    }
}

/// Reads to the end, unless there is more than `limit`. The first allocation goes by the bytes that
/// were received, every further one by what has come out.
fn read_bounded(reader: impl Read, received: usize, limit: usize) -> Result<Vec<u8>, ExpandError> {
    let mut out = Vec::with_capacity(received.saturating_mul(4).min(limit));
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader
        .take(bound)
        .read_to_end(&mut out)
        .map_err(ExpandError::broken)?;
    if out.len() > limit {
        Err(ExpandError::Limit)
    } else {
        Ok(out)
    }
}

/// A codec that stops at the end of its frame must have used all bytes.
fn nothing_left(rest: &[u8]) -> Result<(), ExpandError> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(ExpandError::Broken(format!(
        "{} bytes follow the compressed data",
        rest.len()
    )))
}

fn gzip(bytes: &[u8], limit: usize) -> Result<Vec<u8>, ExpandError> {
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let out = read_bounded(&mut decoder, bytes.len(), limit)?;
    nothing_left(decoder.into_inner())?;
    Ok(out)
}

fn lz4(bytes: &[u8], limit: usize) -> Result<Vec<u8>, ExpandError> {
    // The decoder takes the end of its input for the end of a frame, Java's does not. An end mark
    // behind the input tells them apart: it is used only if the frame has none of its own.
    let mut decoder = FrameDecoder::new(bytes.chain(&LZ4_END_MARK[..]));
    let out = read_bounded(&mut decoder, bytes.len(), limit)?;
    let (rest, mark) = decoder.into_inner().into_inner();
    nothing_left(rest)?;
    if mark != LZ4_END_MARK {
        return Err(ExpandError::broken("the frame is cut off"));
    }
    Ok(out)
}

fn zstd(bytes: &[u8], limit: usize) -> Result<Vec<u8>, ExpandError> {
    let mut decoder = zstd::Decoder::with_buffer(bytes).map_err(ExpandError::broken)?;
    // The decoder allocates the window that a frame asks for, which goes by the level and not by the
    // content: 8 MiB, which every decoder should take (RFC 8878), or as much as may come out.
    let window_bytes = limit.clamp(8 << 20, 128 << 20);
    decoder
        .window_log_max(window_bytes.next_power_of_two().trailing_zeros())
        .map_err(ExpandError::broken)?;
    read_bounded(&mut decoder, bytes.len(), limit)
}

/// Snappy has no framing of its own: snappy-java's (a header, then blocks behind their lengths) is
/// what Java's clients write and need; others also send one bare block.
mod xerial {
    use super::{BufMut, BytesMut, ExpandError, io};

    const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
    const HEADER_BYTES: usize = 16;
    const BLOCK_BYTES: usize = 32 * 1024;

    /// No byte of a snappy block stands for more than this many: the densest element is a copy of
    /// 64 bytes in three.
    const MAX_EXPANSION: usize = 22;

    pub(super) fn compress(records: &[u8], out: &mut BytesMut) -> io::Result<()> {
        out.put_slice(&MAGIC);
        out.put_u32(1); // version
        out.put_u32(1); // oldest version that can read it
        let mut encoder = snap::raw::Encoder::new();
        for block in records.chunks(BLOCK_BYTES) {
            let compressed = encoder.compress_vec(block)?;
            out.put_u32(compressed.len() as u32);
            out.put_slice(&compressed);
        }
        Ok(())
    }

    pub(super) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, ExpandError> {
        let mut out = Vec::new();
        if !bytes.starts_with(&MAGIC) {
            block(bytes, limit, &mut out)?;
            return Ok(out);
        }
        let Some(mut rest) = bytes.get(HEADER_BYTES..) else {
            return Err(ExpandError::broken("the header is cut off"));
        };
        while !rest.is_empty() {
            let Some((length, after)) = rest.split_first_chunk() else {
                return Err(ExpandError::broken("a block's length is cut off"));
            };
            let length = u32::from_be_bytes(*length) as usize;
            let Some((compressed, after)) = after.split_at_checked(length) else {
                return Err(ExpandError::broken("a block is cut off"));
            };
            block(compressed, limit, &mut out)?;
            rest = after;
        }
        Ok(out)
    }

    fn block(compressed: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), ExpandError> {
        let claimed = snap::raw::decompress_len(compressed).map_err(ExpandError::broken)?;
        if claimed > compressed.len().saturating_mul(MAX_EXPANSION) {
            return Err(ExpandError::broken(
                "a block claims more than its bytes can hold",
            ));
        }
        if claimed > limit.saturating_sub(out.len()) {
            return Err(ExpandError::Limit);
        }
        let start = out.len();
        out.resize(start + claimed, 0);
        let written = snap::raw::Decoder::new()
            .decompress(compressed, &mut out[start..])
            .map_err(ExpandError::broken)?;
        out.truncate(start + written);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(codec: Compression, records: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        codec.compress(records, &mut out).unwrap();
        out
    }

    #[test]
    fn every_codec_returns_what_went_in() {
        let text = b"the quick brown fox jumps over the lazy dog, again and again; ".repeat(20_000);
        for codec in Compression::ALL {
            for size in [0, 1, 100, 32 * 1024, 256 * 1024, text.len()] {
                let bytes = compressed(codec, &text[..size]);
                let limit = size.max(1);
                assert_eq!(
                    codec.decompress(&bytes, limit).unwrap(),
                    &text[..size],
                    "{codec}"
                );
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let zeros = vec![0; 16 << 20];
        let limit = 1 << 20;
        for codec in Compression::ALL {
            let bytes = compressed(codec, &zeros);
            assert_eq!(
                codec.decompress(&bytes, limit),
                Err(BatchError::Expands { limit }),
                "{codec}"
            );
        }
    }

    #[test]
    fn bytes_behind_the_data_and_cuts_are_refused() {
        let text = b"some bytes that are long enough to be compressed, compressed, compressed";
        for codec in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let bytes = compressed(codec, text);
            let mut longer = bytes.to_vec();
            longer.extend_from_slice(b"xyz");
            assert!(
                codec.decompress(&longer, 1000).is_err(),
                "{codec} with a tail"
            );
            for end in 1..bytes.len() {
                let cut = codec.decompress(&bytes[..end], 1000);
                // Snappy's header alone is a whole frame of nothing.
                assert!(cut.unwrap_or_default().is_empty(), "{codec} cut at {end}");
            }
        }
    }

    #[test]
    fn bare_snappy_is_read_and_a_claim_is_not_believed() {
        let text = b"bare bare bare bare bare bare bare bare".repeat(10);
        let bare = snap::raw::Encoder::new().compress_vec(&text).unwrap();
        assert_eq!(Compression::Snappy.decompress(&bare, 1000).unwrap(), text);
        // Claims 4 GiB - 1 and holds nothing.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(matches!(
            Compression::Snappy.decompress(&claim, usize::MAX),
            Err(BatchError::Compressed { .. })
        ));
    }

    #[test]
    fn names_and_numbers() {
        for codec in Compression::ALL {
            assert_eq!(codec.name().parse(), Ok(codec));
            assert_eq!(Compression::from_number(codec as u8), Some(codec));
        }
        assert!("brotli".parse::<Compression>().is_err());
        assert_eq!(Compression::from_number(5), None);
    }
}
