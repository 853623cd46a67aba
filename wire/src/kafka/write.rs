//! Writing primitives, and the head of an answer.

use bytes::{BufMut, Bytes, BytesMut};

use super::api::ApiKey;

/// Where a message is written to.
pub(super) trait Out {
    /// Adds bytes.
    fn put(&mut self, bytes: &[u8]);
    /// Adds a record batch.
    fn batch(&mut self, batch: &Bytes);
}

impl Out for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }

    fn batch(&mut self, batch: &Bytes) {
        self.put_slice(batch);
    }
}

/// Only counts.
#[derive(Default)]
pub(super) struct Counted(pub(super) usize);

impl Out for Counted {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn batch(&mut self, batch: &Bytes) {
        self.0 += batch.len();
    }
}

/// A message being written.
pub(super) struct Writer<'a, O: Out> {
    pub(super) out: &'a mut O,
    pub(super) flexible: bool,
}

impl<O: Out> Writer<'_, O> {
    pub(super) fn i8(&mut self, value: i8) {
        self.out.put(&value.to_be_bytes());
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.out.put(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.out.put(&value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.out.put(&value.to_be_bytes());
    }

    pub(super) fn uvarint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.out.put(&[(value & 0x7f) as u8 | 0x80]);
            value >>= 7;
        }
        self.out.put(&[value as u8]);
    }

    fn length(&mut self, length: Option<usize>, long: bool) {
        let bounded = |length| i32::try_from(length).expect("a message's parts have 31 bits");
        let length = length.map_or(-1, bounded);
        match (self.flexible, long) {
            (true, _) => self.uvarint((length + 1).cast_unsigned()),
            (false, true) => self.i32(length),
            (false, false) => {
                self.i16(i16::try_from(length).expect("a string of this form has 15 bits"));
            }
        }
    }

    /// Text of any length: what the form has no room for is cut off, at a character.
    pub(super) fn string(&mut self, text: &str) {
        const MOST: usize = i16::MAX as usize;
        let mut end = text.len().min(MOST);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = &text[..end];
        self.length(Some(text.len()), false);
        self.out.put(text.as_bytes());
    }

    pub(super) fn nullable_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => self.length(None, false),
        }
    }

    pub(super) fn nullable_bytes(&mut self, bytes: Option<&[u8]>) {
        self.length(bytes.map(<[u8]>::len), true);
        self.out.put(bytes.unwrap_or_default());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.length(Some(count), true);
    }

    pub(super) fn null_array(&mut self) {
        self.length(None, true);
    }

    /// Batches as they are, one behind the other.
    pub(super) fn batches(&mut self, batches: &[Bytes]) {
        let bytes = batches.iter().map(Bytes::len).sum();
        self.length(Some(bytes), true);
        batches.iter().for_each(|batch| self.out.batch(batch));
    }

    /// No tagged fields: one that holds its default must not be sent, and older clients cannot even
    /// pass over others.
    pub(super) fn no_tags(&mut self) {
        if self.flexible {
            self.uvarint(0);
        }
    }

    /// The head of an answer, without the frame's length.
    pub(super) fn response_head(&mut self, key: ApiKey, version: i16, correlation: i32) {
        self.i32(correlation);
        if key.has_flexible_response_head(version) {
            self.uvarint(0);
        }
    }
}
