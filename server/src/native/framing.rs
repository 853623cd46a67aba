//! How the native protocol cuts a connection's bytes: see [`millrace_wire::frame`].

use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::frame::{FRAME_HEADER_BYTES, Format, FrameError, FrameHeader};

use crate::session::Framing;

/// Native frames.
pub(crate) enum NativeFraming {}

impl Framing for NativeFraming {
    type Header = FrameHeader;

    const HEADER_BYTES: usize = FRAME_HEADER_BYTES;

    fn parse(bytes: &[u8], max_frame_bytes: u32) -> Result<FrameHeader, (FrameHeader, WireError)> {
        let bytes = bytes.try_into().expect("as many bytes as a header has");
        FrameHeader::parse(bytes, max_frame_bytes)
            .map_err(|error| (answerable(*bytes), frame_error(error)))
    }

    fn payload_bytes(header: FrameHeader) -> usize {
        header.payload_bytes()
    }
}

/// A header to answer to, from one that was refused: its correlation, and its format if there is
/// such a format.
fn answerable(bytes: [u8; FRAME_HEADER_BYTES]) -> FrameHeader {
    let format = Format::from_number(bytes[4]).unwrap_or(Format::Rkyv);
    let correlation = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
    FrameHeader {
        length: 0,
        format,
        correlation,
    }
}

fn frame_error(error: FrameError) -> WireError {
    let code = match error {
        FrameError::TooLarge { .. } => ErrorCode::FrameTooLarge,
        FrameError::TooShort(_) | FrameError::UnknownFormat(_) => ErrorCode::MalformedFrame,
    };
    WireError::new(code, error.to_string())
}
