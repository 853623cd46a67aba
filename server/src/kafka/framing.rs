//! How Kafka cuts a connection's bytes: four bytes of length, then the request (protocol guide,
//! "Common Request and Response Structure").

use millrace_wire::error::{ErrorCode, WireError};

use crate::session::Framing;

/// Kafka's frames.
pub(crate) enum KafkaFraming {}

/// The shortest request: its key, its version and its number.
const SHORTEST_REQUEST_BYTES: u32 = 8;

/// Bytes that follow a length.
#[derive(Clone, Copy)]
pub(crate) struct Length(u32);

impl Framing for KafkaFraming {
    type Header = Length;

    const HEADER_BYTES: usize = 4;

    fn parse(bytes: &[u8], max_frame_bytes: u32) -> Result<Length, (Length, WireError)> {
        let bytes = bytes.try_into().expect("as many bytes as a header has");
        let length = Length(u32::from_be_bytes(bytes));
        let refused = |code, message| Err((length, WireError::new(code, message)));
        match length.0 {
            bytes if bytes > max_frame_bytes => refused(
                ErrorCode::FrameTooLarge,
                format!(
                    "a Kafka request of {bytes} bytes is over the limit of {max_frame_bytes}; send smaller ones, or raise network.max_frame_bytes"
                ),
            ),
            bytes if bytes < SHORTEST_REQUEST_BYTES => refused(
                ErrorCode::MalformedFrame,
                format!("a Kafka request of {bytes} bytes is too short to be one"),
            ),
            _ => Ok(length),
        }
    }

    fn payload_bytes(header: Length) -> usize {
        header.0 as usize
    }
}
