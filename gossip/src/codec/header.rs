//! The head of a datagram: who sends what number to whom, in which life, and the challenge and the
//! answer that make a stranger trusted.

use super::{Malformed, Reader, Write};
use crate::identity::{Life, NodeId};
use crate::keys::KeyId;

const MAGIC: [u8; 2] = *b"mg";
const VERSION: u8 = 1;
const WITH_CHALLENGE: u8 = 1;
const WITH_ANSWER: u8 = 2;

/// The bytes of a header without challenge and answer.
pub(crate) const HEADER_BYTES: usize = 2 + 1 + 1 + 4 + 4 + 4 + 8 + 8;
/// The most bytes that challenge and answer add.
pub(crate) const MAX_CHALLENGE_BYTES: usize = 16;

/// A datagram's header.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) key: KeyId,
    pub(crate) source: NodeId,
    pub(crate) destination: NodeId,
    pub(crate) life: Life,
    /// Counts the source's datagrams to this destination in that life.
    pub(crate) sequence: u64,
    /// A number that the destination is asked to send back.
    pub(crate) challenge: Option<u64>,
    /// The number that the destination asked for.
    pub(crate) answer: Option<u64>,
}

/// Why a header is not taken.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum BadHeader {
    Magic,
    Version,
    Malformed,
}

impl From<Malformed> for BadHeader {
    fn from(_: Malformed) -> BadHeader {
        BadHeader::Malformed
    }
}

impl Header {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        if self.challenge.is_some() {
            flags |= WITH_CHALLENGE;
        }
        if self.answer.is_some() {
            flags |= WITH_ANSWER;
        }
        out.put(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(flags);
        out.put_u32(self.key.0);
        out.put_u32(self.source.0);
        out.put_u32(self.destination.0);
        out.put_life(self.life);
        out.put_u64(self.sequence);
        for nonce in [self.challenge, self.answer].into_iter().flatten() {
            out.put_u64(nonce);
        }
    }

    /// Reads one; what follows it stays in the reader.
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Header, BadHeader> {
        if from.bytes(2)? != MAGIC {
            return Err(BadHeader::Magic);
        }
        if from.u8()? != VERSION {
            return Err(BadHeader::Version);
        }
        let flags = from.u8()?;
        if flags & !(WITH_CHALLENGE | WITH_ANSWER) != 0 {
            return Err(BadHeader::Malformed);
        }
        let mut header = Header {
            key: KeyId(from.u32()?),
            source: NodeId(from.u32()?),
            destination: NodeId(from.u32()?),
            life: from.life()?,
            sequence: from.u64()?,
            challenge: None,
            answer: None,
        };
        if flags & WITH_CHALLENGE != 0 {
            header.challenge = Some(from.u64()?);
        }
        if flags & WITH_ANSWER != 0 {
            header.answer = Some(from.u64()?);
        }
        Ok(header)
    }
}
