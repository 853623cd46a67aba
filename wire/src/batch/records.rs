//! Cutting a run of bytes into batches, and a batch into records.
//!
//! A record is `length varint | attributes i8 | timestamp delta varint | offset delta varint |
//! key length varint, key | value length varint, value | header count varint, headers`, where a
//! length of -1 means null. A header is a key, which is not null, and a value.

use std::borrow::Cow;

use bytes::Bytes;

use super::compression::Compression;
use super::error::BatchError;
use super::header::{BATCH_HEADER_BYTES, BatchHeader, batch_len};
use super::validate::{Limits, verify};
use super::varint;
use crate::ids::Offset;

/// One record. Its bytes share the batch's buffer, or the one that the batch was expanded into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: Offset,
    /// Given by the producer or, where the topic stamps by append time, by the broker; ms since
    /// 1970, -1 for none.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none marks the key as deleted on a compacted topic.
    pub value: Option<Bytes>,
    /// The headers in their order; keys may repeat.
    pub headers: Vec<Header>,
}

/// A record's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Its key. Kafka's clients take it for UTF-8.
    pub key: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Header {
        Header {
            key: key.into(),
            value: Some(value.into()),
        }
    }

    /// The key for people: what is not UTF-8 is replaced.
    #[must_use]
    pub fn key_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// A record where it lies.
pub(super) struct RawRecord<'a> {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    header_count: u32,
    headers: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Takes a record, headers and all, from the front of `rest`.
    pub(super) fn take(rest: &mut &'a [u8]) -> Result<RawRecord<'a>, &'static str> {
        let length = varint::take_i32(rest).ok_or("its length is cut off")?;
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        let (mut body, after) = rest
            .split_at_checked(length)
            .ok_or("it ends after the batch")?;
        *rest = after;
        let (_attributes, fields) = body.split_first().ok_or("it is empty")?;
        body = fields;
        let timestamp_delta = varint::take_i64(&mut body).ok_or("its timestamp is cut off")?;
        let offset_delta = varint::take_i32(&mut body).ok_or("its offset is cut off")?;
        let key = take_nullable(&mut body).ok_or("its key ends after it")?;
        let value = take_nullable(&mut body).ok_or("its value ends after it")?;
        let header_count = varint::take_i32(&mut body).ok_or("its header count is cut off")?;
        let header_count =
            u32::try_from(header_count).map_err(|_| "its header count is negative")?;
        let headers = body;
        for _ in 0..header_count {
            take_header(&mut body).ok_or("one of its headers is broken")?;
        }
        if !body.is_empty() {
            return Err("bytes follow its last header");
        }
        Ok(RawRecord {
            timestamp_delta,
            offset_delta,
            key,
            value,
            header_count,
            headers,
        })
    }

    /// Its headers, which [`RawRecord::take`] has found to be whole.
    fn headers(&self, data: &Bytes) -> Vec<Header> {
        let mut rest = self.headers;
        // Each takes at least two bytes, so the count is no larger than what was received.
        let mut headers = Vec::with_capacity(self.header_count as usize);
        while let Some((key, value)) = take_header(&mut rest) {
            let value = value.map(|value| data.slice_ref(value));
            headers.push(Header {
                key: data.slice_ref(key),
                value,
            });
        }
        headers
    }
}

/// Takes a length and as many bytes; the outer `None` means that they are cut off.
fn take_nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint::take_i32(rest)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(Some(bytes))
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let key = take_nullable(rest)??;
    Some((key, take_nullable(rest)?))
}

/// The records of one batch, decoded one by one.
#[derive(Debug)]
pub struct Records {
    header: BatchHeader,
    data: Bytes,
    position: usize,
    taken: u32,
    next_delta: u32,
    failed: bool,
}

impl Records {
    /// Verifies a batch, checksum included, and expands it to at most `max_uncompressed_bytes`.
    pub fn decode(batch: &Bytes, max_uncompressed_bytes: usize) -> Result<Records, BatchError> {
        let header = verify(batch, Limits::default())?;
        let data = match header.attributes.compression()? {
            Compression::None => batch.slice(BATCH_HEADER_BYTES..),
            codec => codec
                .decompress(&batch[BATCH_HEADER_BYTES..], max_uncompressed_bytes)?
                .into(),
        };
        Ok(Records {
            header,
            data,
            position: 0,
            taken: 0,
            next_delta: 0,
            failed: false,
        })
    }

    /// The batch's header. A control batch holds transaction markers, not data.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn take(&mut self) -> Result<Option<Record>, BatchError> {
        let mut rest = &self.data[self.position..];
        if self.taken == self.header.record_count {
            let left = rest.len();
            return if left == 0 {
                Ok(None)
            } else {
                Err(BatchError::TrailingRecords(left))
            };
        }
        let broken = |reason| BatchError::Record {
            record: self.taken,
            reason,
        };
        let raw = RawRecord::take(&mut rest).map_err(broken)?;
        let delta =
            u32::try_from(raw.offset_delta).map_err(|_| broken("its offset is negative"))?;
        if delta < self.next_delta || delta > self.header.last_offset_delta {
            return Err(broken("its offset is out of order"));
        }
        let timestamp = if self.header.attributes.is_append_time() {
            self.header.max_timestamp
        } else {
            let sum = self.header.base_timestamp.checked_add(raw.timestamp_delta);
            sum.ok_or_else(|| broken("its timestamp overflows"))?
        };
        let record = Record {
            offset: self.header.base_offset.advance(delta),
            timestamp,
            key: raw.key.map(|key| self.data.slice_ref(key)),
            value: raw.value.map(|value| self.data.slice_ref(value)),
            headers: raw.headers(&self.data),
        };
        self.position = self.data.len() - rest.len();
        self.taken += 1;
        self.next_delta = delta + 1;
        Ok(Some(record))
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    /// The next record; after an error, none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let taken = self.take();
        self.failed = taken.is_err();
        taken.transpose()
    }
}

/// Cuts a run of whole batches; by their lengths alone, nothing else is checked. After an error,
/// none follow.
pub fn iter_batches(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], BatchError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = match first_batch(rest)? {
            Ok(length) => length,
            Err(error) => {
                rest = &[];
                return Some(Err(error));
            }
        };
        let (batch, after) = rest.split_at(length);
        rest = after;
        Some(Ok(batch))
    })
}

/// Like [`iter_batches`], with batches that share the buffer.
pub fn split_batches(mut bytes: Bytes) -> impl Iterator<Item = Result<Bytes, BatchError>> {
    std::iter::from_fn(move || match first_batch(&bytes)? {
        Ok(length) => Some(Ok(bytes.split_to(length))),
        Err(error) => {
            bytes.clear();
            Some(Err(error))
        }
    })
}

/// The length of the first batch, all of which is there; `None` where nothing is.
fn first_batch(bytes: &[u8]) -> Option<Result<usize, BatchError>> {
    if bytes.is_empty() {
        return None;
    }
    Some(batch_len(bytes).and_then(|need| {
        let have = bytes.len();
        if need > have {
            Err(BatchError::Truncated { have, need })
        } else {
            Ok(need)
        }
    }))
}
