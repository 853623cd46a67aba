//! A connection's first steps: which protocol it speaks, who may come in, and where it wants to be.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::frame::{FRAME_HEADER_BYTES, FrameHeader, PREAMBLE};

use super::accept::Speaks;
use super::socket::ReadHalf;
use crate::native::framing::NativeFraming;
use crate::native::handshake::{self, Greeting, MAX_HANDSHAKE_BYTES, Wanted};
use crate::session::Framing;

/// What a connection turned out to speak.
pub(super) enum Greeted {
    /// The native protocol: what its handshake said.
    Native(Greeting, Wanted),
    /// Kafka's: the first bytes of its first request, which is not looked into here.
    Kafka([u8; PREAMBLE.len()]),
}

/// Why a connection does not become one.
pub(super) enum Turned {
    /// It closed, or was too slow, before it said anything that could be answered.
    Silent(io::Error),
    /// It speaks something that cannot be answered here.
    Unanswerable(String),
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

/// Who may come in.
#[derive(Clone, Copy)]
pub(super) struct Doorkeeper {
    /// What is spoken on this address.
    pub(super) speaks: Speaks,
    /// Whether peers are served that are not on this machine.
    pub(super) allow_remote: bool,
    /// How long a connection may take to say what it wants.
    pub(super) timeout: Duration,
}

/// Reads what a connection begins with.
pub(super) async fn greet(
    read: &mut ReadHalf,
    peer: SocketAddr,
    keeper: Doorkeeper,
) -> Result<Greeted, Turned> {
    let mut first = [0; PREAMBLE.len()];
    read.read_exact(&mut first, Some(keeper.timeout)).await?;
    let welcome = keeper.allow_remote || is_loopback(peer.ip());
    match (first == PREAMBLE, looks_like_kafka(first), keeper.speaks) {
        (true, _, Speaks::Both | Speaks::Native) => {
            let (header, greeting, wanted) = shake_hands(read, keeper.timeout).await?;
            if !welcome {
                let error = remote_refused(peer);
                return Err(Turned::Away { header, error });
            }
            Ok(Greeted::Native(greeting, wanted))
        }
        (false, true, Speaks::Both | Speaks::Kafka) if welcome => Ok(Greeted::Kafka(first)),
        (false, true, Speaks::Both | Speaks::Kafka) => {
            Err(Turned::Unanswerable(remote_refused(peer).message))
        }
        (native, kafka, _) => Err(Turned::Unanswerable(guess(first, native, kafka).to_owned())),
    }
}

/// Reads a native handshake, whose preamble is read already.
async fn shake_hands(
    read: &mut ReadHalf,
    timeout: Duration,
) -> Result<(FrameHeader, Greeting, Wanted), Turned> {
    let mut header = [0; FRAME_HEADER_BYTES];
    read.read_exact(&mut header, Some(timeout)).await?;
    let header = NativeFraming::parse(&header, MAX_HANDSHAKE_BYTES)
        .map_err(|(header, error)| Turned::Away { header, error })?;
    let mut payload = BytesMut::zeroed(header.payload_bytes());
    read.read_exact(&mut payload, Some(timeout)).await?;
    let (greeting, wanted) =
        handshake::read(header, payload).map_err(|error| Turned::Away { header, error })?;
    Ok((header, greeting, wanted))
}

/// Whether these can be the length of a Kafka request: longer than its shortest head, shorter than
/// any broker takes.
fn looks_like_kafka(first: [u8; 4]) -> bool {
    const SHORTEST: u32 = 8;
    const LONGEST: u32 = 100 * 1024 * 1024;
    (SHORTEST..=LONGEST).contains(&u32::from_be_bytes(first))
}

/// What the first bytes look like of somebody who is not served here, as a sentence for the log.
fn guess(first: [u8; 4], native: bool, kafka: bool) -> &'static str {
    match first {
        _ if native => {
            "it speaks the native protocol, which is served on the other address (bind); connect there"
        }
        [0x16, 0x03, ..] => "it begins like TLS, which this version does not serve yet",
        [b'G', b'E', b'T', b' '] | [b'P', b'O', b'S', b'T'] | [b'H', b'E', b'A', b'D'] => {
            "it begins like HTTP, which this port does not serve"
        }
        _ if kafka => {
            "it speaks the Kafka protocol, which is served on the other address (kafka.bind); connect there"
        }
        _ => "it is not the native protocol, nor any other that is known here",
    }
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
        let looked_at = |first| guess(first, first == PREAMBLE, looks_like_kafka(first));
        assert!(looked_at([0x16, 3, 1, 2]).contains("TLS"));
        assert!(looked_at([0, 0, 0, 40]).contains("kafka.bind"));
        assert!(looked_at(PREAMBLE).contains("(bind)"));
        assert!(looked_at(*b"GET ").contains("HTTP"));
        assert!(looked_at([0xff; 4]).contains("not the native protocol"));
        assert!(!looks_like_kafka([0, 0, 0, 7]) && !looks_like_kafka(PREAMBLE));
    }
}
