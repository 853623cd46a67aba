//! Frames: what cuts a native connection's byte stream into requests and responses.
//!
//! A native connection begins with [`PREAMBLE`], from the client only. After it, both ways:
//! `length u32 BE | format u8 | correlation u32 BE | payload`, where length counts everything after
//! itself. What a payload holds is in [`crate::native`].

/// The first bytes of a native connection. Read as the length of a Kafka request they are more
/// than a gigabyte, and a TLS hello begins with 0x16, so four bytes tell the protocols apart.
pub const PREAMBLE: [u8; 4] = *b"MLR\x00";

/// The longest frame there can be, in bytes after the length field. A broker may allow less.
pub const MAX_FRAME_BYTES: u32 = 100 * 1024 * 1024;

/// Bytes before a frame's payload.
pub const FRAME_HEADER_BYTES: usize = 9;

/// Of these, the bytes that the length field counts: the format and the correlation id.
const COUNTED_HEADER_BYTES: u32 = 5;

/// Bytes of a payload before its body: the kind and the body's length.
pub const PAYLOAD_HEADER_BYTES: usize = 6;

/// The shortest frame: an empty body and no attachments.
const MIN_FRAME_BYTES: u32 = COUNTED_HEADER_BYTES + PAYLOAD_HEADER_BYTES as u32;

/// How the message bodies of a frame are encoded. A response has its request's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Format {
    /// rkyv 0.8, little-endian and unaligned; what the Rust client speaks.
    Rkyv = 0,
    /// Protocol buffers, for every other language.
    Protobuf = 1,
}

impl Format {
    /// Both formats, for tables and tests.
    pub const ALL: [Format; 2] = [Format::Rkyv, Format::Protobuf];

    /// The format with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Format> {
        match number {
            0 => Some(Format::Rkyv),
            1 => Some(Format::Protobuf),
            _ => None,
        }
    }
}

/// Why a frame header was refused. The connection closes: what follows cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is over the limit.
    #[error("a frame of {length} bytes is over the limit of {limit}; send smaller requests")]
    TooLarge {
        /// The frame's length field.
        length: u32,
        /// The most that is taken.
        limit: u32,
    },
    /// The length is less than the shortest frame's.
    #[error("a frame of {0} bytes is too short to hold a message")]
    TooShort(u32),
    /// The format number is not known.
    #[error("frame format {0} is not known; 0 is rkyv, 1 is protobuf")]
    UnknownFormat(u8),
}

/// The first bytes of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes after the length field.
    pub length: u32,
    /// How the body is encoded.
    pub format: Format,
    /// Chosen by the client, repeated in the response.
    pub correlation: u32,
}

impl FrameHeader {
    /// Reads a header and checks it against `max_frame_bytes` (and [`MAX_FRAME_BYTES`]).
    pub fn parse(
        bytes: &[u8; FRAME_HEADER_BYTES],
        max_frame_bytes: u32,
    ) -> Result<FrameHeader, FrameError> {
        let [l0, l1, l2, l3, format, c0, c1, c2, c3] = *bytes;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let limit = max_frame_bytes.min(MAX_FRAME_BYTES);
        if length > limit {
            return Err(FrameError::TooLarge { length, limit });
        }
        if length < MIN_FRAME_BYTES {
            return Err(FrameError::TooShort(length));
        }
        let format = Format::from_number(format).ok_or(FrameError::UnknownFormat(format))?;
        Ok(FrameHeader {
            length,
            format,
            correlation: u32::from_be_bytes([c0, c1, c2, c3]),
        })
    }

    /// The header of a frame with a payload of this many bytes.
    pub fn for_payload(
        format: Format,
        correlation: u32,
        payload_bytes: usize,
    ) -> Result<FrameHeader, FrameError> {
        let length = payload_bytes.saturating_add(COUNTED_HEADER_BYTES as usize);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLarge {
                length,
                limit: MAX_FRAME_BYTES,
            });
        }
        Ok(FrameHeader {
            length,
            format,
            correlation,
        })
    }

    /// The header as it is sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        let [c0, c1, c2, c3] = self.correlation.to_be_bytes();
        [l0, l1, l2, l3, self.format as u8, c0, c1, c2, c3]
    }

    /// Bytes that follow the header.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        (self.length - COUNTED_HEADER_BYTES) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        for format in Format::ALL {
            let header = FrameHeader::for_payload(format, 0xfeed_beef, 1234).unwrap();
            assert_eq!(
                FrameHeader::parse(&header.to_bytes(), MAX_FRAME_BYTES),
                Ok(header)
            );
            assert_eq!(header.payload_bytes(), 1234);
        }
    }

    #[test]
    fn lengths_and_formats_out_of_range_are_refused() {
        let parse = |length: u32, format: u8, limit: u32| {
            let mut bytes = [0; FRAME_HEADER_BYTES];
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            bytes[4] = format;
            FrameHeader::parse(&bytes, limit)
        };
        assert_eq!(parse(10, 0, 100), Err(FrameError::TooShort(10)));
        assert!(parse(11, 0, 100).is_ok());
        assert!(parse(100, 1, 100).is_ok());
        assert_eq!(
            parse(101, 0, 100),
            Err(FrameError::TooLarge {
                length: 101,
                limit: 100
            })
        );
        assert_eq!(parse(50, 2, 100), Err(FrameError::UnknownFormat(2)));
        let over = MAX_FRAME_BYTES + 1;
        assert_eq!(
            parse(over, 0, u32::MAX),
            Err(FrameError::TooLarge {
                length: over,
                limit: MAX_FRAME_BYTES
            })
        );
        assert!(FrameHeader::for_payload(Format::Rkyv, 0, usize::MAX).is_err());
    }

    #[test]
    fn the_preamble_is_neither_kafka_nor_tls() {
        assert!(u32::from_be_bytes(PREAMBLE) > 1 << 30);
        assert_ne!(PREAMBLE[0], 0x16);
    }
}
