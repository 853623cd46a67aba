//! Making batches, as a producer does.

use bytes::{BufMut, BytesMut};

use super::compression::Compression;
use super::header::{Attributes, BATCH_HEADER_BYTES, BatchHeader};
use super::records::Header;
use super::validate::NO_TIMESTAMP;
use super::varint;
use crate::frame::MAX_FRAME_BYTES;
use crate::ids::Offset;

/// The most offsets that one batch takes: the last one's distance from the first is an `i32`.
const MOST_OFFSETS: u32 = 1 << 31;

/// Why a record did not fit or a batch could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The batch would be larger than any frame.
    #[error("the record would make the batch larger than {MAX_FRAME_BYTES} bytes")]
    TooLarge,
    /// The record's timestamp is too far from the first record's.
    #[error("timestamp {0} is too far from that of the batch's first record")]
    Timestamp(i64),
    /// There are no records.
    #[error("a batch has at least one record")]
    Empty,
    /// The codec failed.
    #[error("the records could not be compressed: {0}")]
    Compress(String),
}

/// A batch that grows record by record.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    /// Room for the header, then the records, not compressed.
    bytes: BytesMut,
    records: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(compression: Compression) -> BatchBuilder {
        let mut bytes = BytesMut::new();
        bytes.put_bytes(0, BATCH_HEADER_BYTES);
        BatchBuilder {
            compression,
            bytes,
            records: 0,
            base_timestamp: 0,
            max_timestamp: 0,
        }
    }

    /// Adds a record. If it fails, the batch is as it was.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), BuildError> {
        if self.records == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.checked_sub(self.base_timestamp);
        let timestamp_delta = timestamp_delta.ok_or(BuildError::Timestamp(timestamp))?;
        let offset_delta = i64::from(self.records);
        // The attributes take one byte.
        let length = 1
            + varint::len_i64(timestamp_delta)
            + varint::len_i64(offset_delta)
            + nullable_len(key)
            + nullable_len(value)
            + headers_len(headers);
        let framed = length + varint::len_i64(length as i64);
        if self.bytes.len() + framed > MAX_FRAME_BYTES as usize {
            return Err(BuildError::TooLarge);
        }
        let out = &mut self.bytes;
        out.reserve(framed);
        varint::put_i64(length as i64, out);
        out.put_u8(0);
        varint::put_i64(timestamp_delta, out);
        varint::put_i64(offset_delta, out);
        put_nullable(key, out);
        put_nullable(value, out);
        varint::put_i64(headers.len() as i64, out);
        for header in headers {
            put_nullable(Some(&header.key), out);
            put_nullable(header.value.as_deref(), out);
        }
        self.records += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// The most bytes that [`BatchBuilder::push`] would add for such a record.
    #[must_use]
    pub fn record_len(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> usize {
        // Length and offset delta take up to five bytes, the timestamp delta ten.
        const MOST_FRAMING: usize = 5 + 1 + 10 + 5;
        MOST_FRAMING + nullable_len(key) + nullable_len(value) + headers_len(headers)
    }

    /// Bytes so far, before compression, with the header.
    #[must_use]
    pub fn len_estimate(&self) -> usize {
        self.bytes.len()
    }

    /// Number of records so far.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.records
    }

    /// Whether there are no records yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Compresses the records and closes the batch.
    pub fn build(self) -> Result<BytesMut, BuildError> {
        let last_offset_delta = self.records.checked_sub(1).ok_or(BuildError::Empty)?;
        let mut batch = match self.compression {
            Compression::None => self.bytes,
            codec => {
                let mut batch = BytesMut::with_capacity(self.bytes.len() / 2 + BATCH_HEADER_BYTES);
                batch.put_bytes(0, BATCH_HEADER_BYTES);
                codec
                    .compress(&self.bytes[BATCH_HEADER_BYTES..], &mut batch)
                    .map_err(|error| BuildError::Compress(error.to_string()))?;
                batch
            }
        };
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            total_bytes: batch.len(),
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes::with_compression(self.compression),
            last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: self.records,
        };
        header.write(&mut batch);
        Ok(batch)
    }
}

/// A batch without records that takes `offsets` offsets, from 1 to 2^31, as compaction leaves them:
/// whoever reads goes on after it.
#[must_use]
pub fn empty_batch(offsets: u32) -> BytesMut {
    let mut batch = BytesMut::zeroed(BATCH_HEADER_BYTES);
    let header = BatchHeader {
        base_offset: Offset::ZERO,
        total_bytes: batch.len(),
        leader_epoch: -1,
        crc: 0,
        attributes: Attributes::with_compression(Compression::None),
        last_offset_delta: offsets.clamp(1, MOST_OFFSETS) - 1,
        base_timestamp: NO_TIMESTAMP,
        max_timestamp: NO_TIMESTAMP,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    };
    header.write(&mut batch);
    batch
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(varint::len_i64(-1), |bytes| {
        varint::len_i64(bytes.len() as i64) + bytes.len()
    })
}

fn headers_len(headers: &[Header]) -> usize {
    let each =
        |header: &Header| nullable_len(Some(&header.key)) + nullable_len(header.value.as_deref());
    varint::len_i64(headers.len() as i64) + headers.iter().map(each).sum::<usize>()
}

fn put_nullable(bytes: Option<&[u8]>, out: &mut BytesMut) {
    match bytes {
        None => varint::put_i64(-1, out),
        Some(bytes) => {
            varint::put_i64(bytes.len() as i64, out);
            out.put_slice(bytes);
        }
    }
}
