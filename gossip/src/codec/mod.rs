//! Bytes: how datagrams, stream frames and what they carry are laid out, and the checks of every
//! byte that comes in. Big-endian throughout; all lengths are checked against what remains before
//! anything is taken. Nothing here knows keys, members or time.
//!
//! A datagram is a header, messages, and a code that authenticates both. Each message carries its
//! length, so that a node skips kinds that a newer one sends.

mod header;
mod message;

pub(crate) use header::{BadHeader, HEADER_BYTES, Header, MAX_CHALLENGE_BYTES};
pub(crate) use message::{Item, MAX_MESSAGE_BYTES, Message, Messages};

use std::net::{IpAddr, SocketAddr};

use crate::identity::{BootEpoch, Life};

/// The most bytes of a datagram, its authentication code included. It stays below what Ethernet
/// carries unfragmented.
pub const MAX_PACKET_BYTES: usize = 1_400;

/// Why bytes cannot be read.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it ends too early")]
    Short,
    #[error("it goes on after its end")]
    Trailing,
    #[error("a value has no meaning")]
    Value,
}

/// Reads from the front of some bytes.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Refuses what is left over.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Trailing)
        }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    pub(crate) fn life(&mut self) -> Result<Life, Malformed> {
        Ok(Life {
            boot: BootEpoch(self.u32()?),
            nonce: self.u32()?,
        })
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Value),
        }
    }

    /// A string of at most `most` bytes behind its length.
    pub(crate) fn string(&mut self, most: usize) -> Result<String, Malformed> {
        let length = usize::from(self.u8()?);
        if length > most {
            return Err(Malformed::Value);
        }
        let bytes = self.bytes(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Value)?;
        Ok(text.to_owned())
    }

    pub(crate) fn address(&mut self) -> Result<SocketAddr, Malformed> {
        let ip: IpAddr = match self.u8()? {
            4 => self.array::<4>()?.into(),
            6 => self.array::<16>()?.into(),
            _ => return Err(Malformed::Value),
        };
        Ok(SocketAddr::new(ip, self.u16()?))
    }
}

/// Appends to bytes.
pub(crate) trait Write {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    fn put_u128(&mut self, value: u128) {
        self.put(&value.to_be_bytes());
    }

    fn put_life(&mut self, life: Life) {
        self.put_u32(life.boot.0);
        self.put_u32(life.nonce);
    }

    /// A string of at most 255 bytes behind its length; callers keep to smaller limits.
    fn put_string(&mut self, text: &str) {
        let length = u8::try_from(text.len());
        assert!(length.is_ok(), "a checked string has at most 255 bytes");
        self.put_u8(length.unwrap_or(u8::MAX));
        self.put(text.as_bytes());
    }

    fn put_address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.put_u8(4);
                self.put(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.put_u8(6);
                self.put(&ip.octets());
            }
        }
        self.put_u16(address.port());
    }
}

impl Write for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
