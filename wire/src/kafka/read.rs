//! Reading primitives in place (protocol guide, "Protocol Primitive Types"): big-endian numbers,
//! strings and arrays in their older and their compact form, tagged fields.

use std::marker::PhantomData;
use std::ops::Range;

use crate::error::{ErrorCode, WireError};

/// Why a request cannot be read. Its connection ends: what was meant is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("{what} at byte {at} needs {need} bytes, {have} are left")]
    Ends {
        /// What was to be read.
        what: &'static str,
        /// Where, from the beginning of what was being read.
        at: usize,
        /// How many bytes it needs.
        need: usize,
        /// How many there are.
        have: usize,
    },
    /// A length or count that cannot be.
    #[error("{what} at byte {at} has a length of {length}")]
    Length {
        /// What has it.
        what: &'static str,
        /// Where.
        at: usize,
        /// The length.
        length: i64,
    },
    /// A varint of more than 32 bits.
    #[error("the varint at byte {at} is too long")]
    Varint {
        /// Where.
        at: usize,
    },
    /// Text that is not UTF-8.
    #[error("the text at byte {at} is not UTF-8")]
    Text {
        /// Where.
        at: usize,
    },
    /// This version of it cannot be read here.
    #[error("{name} version {version} is not one that is read here")]
    Version {
        /// The request.
        name: &'static str,
        /// The version.
        version: i16,
    },
    /// The library refused what the guard let through.
    #[error("it breaks the rules of its version: {0}")]
    Content(String),
}

impl From<DecodeError> for WireError {
    fn from(error: DecodeError) -> WireError {
        WireError::new(ErrorCode::MalformedFrame, error.to_string())
    }
}

/// A place in a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    flexible: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], flexible: bool) -> Reader<'a> {
        Reader {
            bytes,
            at: 0,
            flexible,
        }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn take(
        &mut self,
        need: usize,
        what: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let (at, have) = (self.at, self.left());
        if need > have {
            return Err(DecodeError::Ends {
                what,
                at,
                need,
                have,
            });
        }
        self.at += need;
        Ok(&self.bytes[at..at + need])
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N, what)?;
        Ok(bytes.try_into().expect("as many bytes as were taken"))
    }

    pub(super) fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array("an 8-bit number")?))
    }

    pub(super) fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array("a 16-bit number")?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array("a 32-bit number")?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array("a 64-bit number")?))
    }

    /// An unsigned varint of at most 32 bits.
    pub(super) fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let at = self.at;
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array("a varint")?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0xf {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint { at })
    }

    /// A length in the form that this version has; none stands for null. `long` lengths have 32 bits
    /// in the older form, the others 16.
    fn length(&mut self, long: bool, what: &'static str) -> Result<Option<usize>, DecodeError> {
        let at = self.at;
        let length = match (self.flexible, long) {
            // Compact lengths are one more than they say; zero is null.
            (true, _) => i64::from(self.uvarint()?) - 1,
            (false, true) => self.i32()?.into(),
            (false, false) => self.i16()?.into(),
        };
        match length {
            -1 => Ok(None),
            _ => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(DecodeError::Length { what, at, length }),
            },
        }
    }

    /// Text that may be null.
    pub(super) fn nullable_string(&mut self) -> Result<Option<&'a str>, DecodeError> {
        let Some(length) = self.length(false, "a string")? else {
            return Ok(None);
        };
        let at = self.at;
        let bytes = self.take(length, "a string")?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(DecodeError::Text { at }),
        }
    }

    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let at = self.at;
        self.nullable_string()?.ok_or(DecodeError::Length {
            what: "a string",
            at,
            length: -1,
        })
    }

    /// Where bytes are; an empty range where they are null.
    pub(super) fn bytes(&mut self) -> Result<Range<usize>, DecodeError> {
        let length = self.length(true, "bytes")?.unwrap_or(0);
        let at = self.at;
        self.take(length, "bytes")?;
        Ok(at..at + length)
    }

    /// Bytes that may be null.
    pub(super) fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.length(true, "bytes")? {
            Some(length) => Ok(Some(self.take(length, "bytes")?)),
            None => Ok(None),
        }
    }

    /// The number of elements of an array that may be null, each of which has at least `least_bytes`.
    pub(super) fn nullable_count(
        &mut self,
        least_bytes: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let at = self.at;
        let Some(count) = self.length(true, "an array")? else {
            return Ok(None);
        };
        let (need, have) = (count.saturating_mul(least_bytes.max(1)), self.left());
        if need > have {
            return Err(DecodeError::Ends {
                what: "an array",
                at,
                need,
                have,
            });
        }
        Ok(Some(count))
    }

    pub(super) fn count(&mut self, least_bytes: usize) -> Result<usize, DecodeError> {
        Ok(self.nullable_count(least_bytes)?.unwrap_or(0))
    }

    /// Passes over tagged fields, where this version has any.
    pub(super) fn tags(&mut self) -> Result<(), DecodeError> {
        if self.flexible {
            for _ in 0..self.uvarint()? {
                self.uvarint()?;
                let length = self.uvarint()?;
                self.take(length as usize, "a tagged field")?;
            }
        }
        Ok(())
    }
}

/// Something that stands in an array.
pub(super) trait Element<'a>: Sized {
    /// The fewest bytes that one has.
    const LEAST_BYTES: usize;

    /// Reads one, and passes over all of it.
    fn read(reader: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError>;
}

/// An array that was found sound, read again one element at a time: nothing is allocated for it.
#[derive(Debug)]
pub(super) struct List<'a, T> {
    reader: Reader<'a>,
    version: i16,
    left: usize,
    element: PhantomData<T>,
}

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<'_, T> {}

impl<'a, T: Element<'a>> List<'a, T> {
    /// Checks the array where `reader` is, and passes over it.
    pub(super) fn read(reader: &mut Reader<'a>, version: i16) -> Result<List<'a, T>, DecodeError> {
        let left = reader.count(T::LEAST_BYTES)?;
        let list = List {
            reader: *reader,
            version,
            left,
            element: PhantomData,
        };
        for _ in 0..left {
            T::read(reader, version)?;
        }
        Ok(list)
    }

    /// An array that a version has no room for.
    pub(super) fn none(reader: &Reader<'a>) -> List<'a, T> {
        List {
            reader: *reader,
            version: 0,
            left: 0,
            element: PhantomData,
        }
    }
}

impl<'a, T: Element<'a>> Iterator for List<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        // It was read once without an error.
        T::read(&mut self.reader, self.version).ok()
    }
}
