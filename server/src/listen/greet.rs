//! A connection's first steps: which protocol it speaks, who may come in, and where it wants to be.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::frame::{FRAME_HEADER_BYTES, Format, FrameError, FrameHeader, PREAMBLE};

use super::socket::ReadHalf;
use crate::native::handshake::{self, Greeting, MAX_HANDSHAKE_BYTES, Wanted};

/// Why a connection does not become one.
pub(super) enum Turned {
    /// It closed, or was too slow, before it said anything that could be answered.
    Silent(io::Error),
    /// It speaks something else.
    OtherProtocol(&'static str),
    /// Its handshake is refused, with this answer.
    Away {
        /// The frame to answer to.
        header: FrameHeader,
        /// Why.
        error: WireError,
    },
}

impl From<io::Error> for Turned {
    fn from(error: io::Error) -> Turned {
        Turned::Silent(error)
    }
}

/// Reads what a connection begins with.
pub(super) async fn greet(
    read: &mut ReadHalf,
    peer: SocketAddr,
    allow_remote: bool,
    timeout: Duration,
) -> Result<(Greeting, Wanted), Turned> {
    let mut preamble = [0; PREAMBLE.len()];
    read.read_exact(&mut preamble, Some(timeout)).await?;
    if preamble != PREAMBLE {
        return Err(Turned::OtherProtocol(guess(preamble)));
    }
    let mut header = [0; FRAME_HEADER_BYTES];
    read.read_exact(&mut header, Some(timeout)).await?;
    let header = match FrameHeader::parse(&header, MAX_HANDSHAKE_BYTES) {
        Ok(header) => header,
        Err(error) => return Err(broken_frame(header, error)),
    };
    let mut payload = BytesMut::zeroed(header.payload_bytes());
    read.read_exact(&mut payload, Some(timeout)).await?;
    let away = |error| Turned::Away { header, error };
    let greeted = handshake::read(header, payload).map_err(away)?;
    if !allow_remote && !is_loopback(peer.ip()) {
        return Err(away(remote_refused(peer)));
    }
    Ok(greeted)
}

/// What an unknown protocol's first bytes look like, as a sentence for the log.
fn guess(first: [u8; 4]) -> &'static str {
    /// A Kafka request begins with its length.
    const LONGEST_KAFKA_REQUEST: u32 = 100 * 1024 * 1024;
    match first {
        [0x16, 0x03, ..] => "it begins like TLS, which this version does not serve yet",
        [b'G', b'E', b'T', b' '] | [b'P', b'O', b'S', b'T'] | [b'H', b'E', b'A', b'D'] => {
            "it begins like HTTP, which this port does not serve"
        }
        _ if (8..=LONGEST_KAFKA_REQUEST).contains(&u32::from_be_bytes(first)) => {
            "it begins like the Kafka protocol, which this version does not serve yet"
        }
        _ => "it is not the native protocol, nor any other that is known here",
    }
}

fn broken_frame(bytes: [u8; FRAME_HEADER_BYTES], error: FrameError) -> Turned {
    Turned::Away {
        header: answerable(bytes),
        error: frame_error(error),
    }
}

/// A header to answer to, from one that was refused: its correlation, and its format if there is
/// such a format.
pub(super) fn answerable(bytes: [u8; FRAME_HEADER_BYTES]) -> FrameHeader {
    let format = Format::from_number(bytes[4]).unwrap_or(Format::Rkyv);
    let correlation = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
    FrameHeader {
        length: 0,
        format,
        correlation,
    }
}

pub(super) fn frame_error(error: FrameError) -> WireError {
    let code = match error {
        FrameError::TooLarge { .. } => ErrorCode::FrameTooLarge,
        FrameError::TooShort(_) | FrameError::UnknownFormat(_) => ErrorCode::MalformedFrame,
    };
    WireError::new(code, error.to_string())
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn remote_refused(peer: SocketAddr) -> WireError {
    WireError::new(
        ErrorCode::RemoteRefused,
        format!(
            "there is no authentication yet, so peers that are not on this machine ({}) are refused; start the broker with --allow-anonymous-remote to serve them",
            peer.ip()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_loopback_in_every_dress() {
        for ours in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(ours.parse().expect("an address")), "{ours}");
        }
        for theirs in ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "0.0.0.0"] {
            assert!(
                !is_loopback(theirs.parse().expect("an address")),
                "{theirs}"
            );
        }
    }

    #[test]
    fn other_protocols_are_told_apart() {
        assert!(guess([0x16, 3, 1, 2]).contains("TLS"));
        assert!(guess([0, 0, 0, 40]).contains("Kafka"));
        assert!(guess(*b"GET ").contains("HTTP"));
        assert!(guess([0xff; 4]).contains("not the native protocol"));
    }
}
