//! Cutting a connection's bytes into frames.

use bytes::{Bytes, BytesMut};
use millrace_wire::frame::{FRAME_HEADER_BYTES, FrameError, FrameHeader, MAX_FRAME_BYTES};

/// Gathers what was read from a connection and gives out whole frames. It does not read ahead of
/// the memory it is given: reserve [`FrameReader::wanted`] bytes and read into
/// [`FrameReader::buffer`].
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
    header: Option<FrameHeader>,
}

impl FrameReader {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> FrameReader {
        FrameReader::default()
    }

    /// Where bytes from the connection go.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// How many bytes are missing from the frame that has begun, at least one.
    #[must_use]
    pub fn wanted(&self) -> usize {
        let whole = self
            .header
            .map_or(FRAME_HEADER_BYTES, |header| header.payload_bytes());
        whole.saturating_sub(self.buffer.len()).max(1)
    }

    /// The next whole frame. After an error the connection is of no use.
    pub fn next_frame(&mut self) -> Result<Option<(FrameHeader, Bytes)>, FrameError> {
        if self.header.is_none() {
            let Some(bytes) = self.buffer.first_chunk::<FRAME_HEADER_BYTES>() else {
                return Ok(None);
            };
            self.header = Some(FrameHeader::parse(bytes, MAX_FRAME_BYTES)?);
            let _ = self.buffer.split_to(FRAME_HEADER_BYTES);
        }
        let Some(header) = self.header else {
            return Ok(None);
        };
        if self.buffer.len() < header.payload_bytes() {
            return Ok(None);
        }
        self.header = None;
        Ok(Some((
            header,
            self.buffer.split_to(header.payload_bytes()).freeze(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_wire::frame::Format;

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let payloads: [&[u8]; 3] = [b"a payload", b"another one, which is longer", b"123456"];
        let mut stream = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            let header = FrameHeader::for_payload(Format::Rkyv, i as u32, payload.len()).unwrap();
            stream.extend_from_slice(&header.to_bytes());
            stream.extend_from_slice(payload);
        }
        for step in [1, 2, 7, 13, stream.len()] {
            let mut reader = FrameReader::new();
            let mut frames = Vec::new();
            for piece in stream.chunks(step) {
                reader.buffer().extend_from_slice(piece);
                while let Some((header, payload)) = reader.next_frame().unwrap() {
                    assert_eq!(header.correlation as usize, frames.len());
                    frames.push(payload);
                }
            }
            assert_eq!(frames, payloads, "in steps of {step}");
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        let mut reader = FrameReader::new();
        reader
            .buffer()
            .extend_from_slice(b"HTTP/1.1 400 Bad Request");
        assert!(reader.next_frame().is_err());
    }
}
