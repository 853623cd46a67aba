//! A frame: its length, its kind, its key, a body, and a code over all of it and over where in
//! which stream it stands.

use crate::codec::{Malformed, Reader, Write};
use crate::identity::{Life, NodeId};
use crate::keys::{CODE_BYTES, Codes, Domain, KeyId};
use crate::refusal::Refusal;

/// The most bytes of a chunk's items.
pub(crate) const MAX_CHUNK_BYTES: usize = 16 << 10;

const VERSION: u8 = 1;
/// Kind, key, and the longest other head.
const MAX_HEAD_BYTES: usize = 64;
/// The most bytes behind a frame's length.
pub(super) const MAX_FRAME_BYTES: usize = MAX_HEAD_BYTES + MAX_CHUNK_BYTES + CODE_BYTES;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const CONFIRM: u8 = 3;
const CHUNK: u8 = 4;

/// What an opener wants.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Wanted {
    Ping,
    Sync,
}

/// A frame's meaning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Frame<'a> {
    Hello {
        wanted: Wanted,
        source: NodeId,
        /// Who is meant; a seed's id is not known.
        destination: Option<NodeId>,
        life: Life,
        nonce: u64,
    },
    Welcome {
        source: NodeId,
        life: Life,
        /// How many datagrams it has sent to the opener.
        sent: u64,
        nonce: u64,
    },
    Confirm {
        sent: u64,
    },
    Chunk {
        last: bool,
        items: &'a [u8],
    },
}

/// Where a frame stands. Both ends know it, so that only the code carries it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Place {
    /// Whether it comes from the opener.
    pub(super) from_opener: bool,
    /// How many frames came before it in its direction.
    pub(super) index: u32,
    /// The opener's nonce, once both know it; else zero. Likewise below.
    pub(super) opener_nonce: u64,
    pub(super) acceptor_nonce: u64,
    pub(super) opener: u32,
    pub(super) acceptor: u32,
}

impl Place {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(29);
        out.put_u8(u8::from(self.from_opener));
        out.put_u32(self.index);
        out.put_u64(self.opener_nonce);
        out.put_u64(self.acceptor_nonce);
        out.put_u32(self.opener);
        out.put_u32(self.acceptor);
        out
    }
}

impl Frame<'_> {
    /// The frame as it is sent.
    pub(super) fn seal(&self, codes: &Codes, place: &Place) -> Vec<u8> {
        let mut out = vec![0; 4];
        match self {
            Frame::Hello { .. } => out.put_u8(HELLO),
            Frame::Welcome { .. } => out.put_u8(WELCOME),
            Frame::Confirm { .. } => out.put_u8(CONFIRM),
            Frame::Chunk { .. } => out.put_u8(CHUNK),
        }
        out.put_u32(codes.primary().0);
        self.write_body(&mut out);
        let length = out.len() - 4 + CODE_BYTES;
        assert!(length <= MAX_FRAME_BYTES, "chunks are bounded");
        out[..4].copy_from_slice(&(length as u32).to_be_bytes());
        let code = codes.seal(Domain::Stream, &[&place.bytes(), &out]);
        out.put(&code);
        out
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        match self {
            Frame::Hello {
                wanted,
                source,
                destination,
                life,
                nonce,
            } => {
                out.put_u8(VERSION);
                out.put_u8(u8::from(*wanted == Wanted::Sync));
                out.put_u32(source.0);
                out.put_u8(u8::from(destination.is_some()));
                out.put_u32(destination.map_or(0, |node| node.0));
                out.put_life(*life);
                out.put_u64(*nonce);
            }
            Frame::Welcome {
                source,
                life,
                sent,
                nonce,
            } => {
                out.put_u32(source.0);
                out.put_life(*life);
                out.put_u64(*sent);
                out.put_u64(*nonce);
            }
            Frame::Confirm { sent } => out.put_u64(*sent),
            Frame::Chunk { last, items } => {
                out.put_u8(u8::from(*last));
                out.put(items);
            }
        }
    }

    /// Reads a frame, given all of its bytes, and checks its code for that place.
    pub(super) fn open<'a>(
        bytes: &'a [u8],
        codes: &Codes,
        place: &Place,
    ) -> Result<Frame<'a>, Refusal> {
        let split = bytes.len().checked_sub(CODE_BYTES);
        let (signed, code) = bytes.split_at(split.ok_or(Refusal::Malformed)?);
        let mut from = Reader::new(signed);
        from.u32()?;
        let kind = from.u8()?;
        let key = KeyId(from.u32()?);
        match codes.verify(key, Domain::Stream, &[&place.bytes(), signed], code) {
            None => return Err(Refusal::UnknownKey),
            Some(false) => return Err(Refusal::Code),
            Some(true) => {}
        }
        Frame::read_body(kind, from)
    }

    fn read_body(kind: u8, mut from: Reader<'_>) -> Result<Frame<'_>, Refusal> {
        let frame = match kind {
            HELLO => {
                if from.u8()? != VERSION {
                    return Err(Refusal::Version);
                }
                let wanted = match from.flag()? {
                    true => Wanted::Sync,
                    false => Wanted::Ping,
                };
                let source = NodeId(from.u32()?);
                let known = from.flag()?;
                let destination = NodeId(from.u32()?);
                Frame::Hello {
                    wanted,
                    source,
                    destination: known.then_some(destination),
                    life: from.life()?,
                    nonce: from.u64()?,
                }
            }
            WELCOME => Frame::Welcome {
                source: NodeId(from.u32()?),
                life: from.life()?,
                sent: from.u64()?,
                nonce: from.u64()?,
            },
            CONFIRM => Frame::Confirm { sent: from.u64()? },
            CHUNK => {
                return Ok(Frame::Chunk {
                    last: from.flag()?,
                    items: from.rest(),
                });
            }
            _ => return Err(Malformed::Value.into()),
        };
        from.end()?;
        Ok(frame)
    }
}

/// Cuts the next frame off a buffer, once it is complete.
pub(super) fn cut(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*head) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(Refusal::TooLong);
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let rest = buffer.split_off(4 + length);
    Ok(Some(std::mem::replace(buffer, rest)))
}
