//! The 61 bytes before a batch's records, and what a broker changes in them.
//!
//! ```text
//!  0 base offset i64 | 8 length i32 (of what follows it) | 12 leader epoch i32 | 16 magic i8 = 2
//! 17 crc u32 (CRC-32C of byte 21 to the end) | 21 attributes i16 | 23 last offset delta i32
//! 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64 | 51 producer epoch i16
//! 53 base sequence i32 | 57 record count i32 | 61 records
//! ```

use super::compression::Compression;
use super::error::BatchError;
use crate::ids::{Offset, ProducerEpoch, ProducerId, Term};

/// Bytes before the records.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Bytes that the length field does not count: the base offset and itself.
const UNCOUNTED_BYTES: usize = 12;

/// Where the bytes begin that the checksum covers.
const CRC_COVERS_FROM: usize = ATTRIBUTES_AT;

/// The only format.
const MAGIC: i8 = 2;

const BASE_OFFSET_AT: usize = 0;
const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

/// A batch's attribute bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    const APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// The attributes of a plain data batch with this codec.
    #[must_use]
    pub fn with_compression(compression: Compression) -> Attributes {
        Attributes(compression as i16)
    }

    /// How the records are compressed.
    pub fn compression(self) -> Result<Compression, BatchError> {
        let codec = (self.0 & Self::CODEC) as u8;
        Compression::from_number(codec).ok_or(BatchError::Codec(codec))
    }

    /// Whether all records have the batch's max timestamp, which the broker gave it.
    #[must_use]
    pub fn is_append_time(self) -> bool {
        self.0 & Self::APPEND_TIME != 0
    }

    /// Whether it is part of a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether it holds transaction markers rather than data.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time from which compaction may drop tombstones.
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}

/// A batch's header, checked for what can be checked without the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the whole batch, header included.
    pub total_bytes: usize,
    /// The term in which the batch was appended; -1 before.
    pub leader_epoch: i32,
    /// CRC-32C as stored.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record, less the base offset.
    pub last_offset_delta: u32,
    /// What the records' timestamps are relative to, ms since 1970.
    pub base_timestamp: i64,
    /// The largest timestamp, ms since 1970.
    pub max_timestamp: i64,
    /// Idempotent producer's id; -1 for none.
    pub producer_id: i64,
    /// Its epoch; -1 for none.
    pub producer_epoch: i16,
    /// Sequence number of the first record; -1 for none.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: u32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which must hold the whole batch and may hold more.
    /// The checksum is not verified.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let total_bytes = batch_len(bytes)?;
        if total_bytes > bytes.len() {
            return Err(BatchError::Truncated {
                have: bytes.len(),
                need: total_bytes,
            });
        }
        let magic = i8::from_be_bytes(field(bytes, MAGIC_AT));
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let not_negative = |field, value: i32| {
            u32::try_from(value).map_err(|_| BatchError::Field {
                field,
                value: i64::from(value),
            })
        };
        let last_offset_delta = i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA_AT));
        let record_count = i32::from_be_bytes(field(bytes, RECORD_COUNT_AT));
        let base_offset = i64::from_be_bytes(field(bytes, BASE_OFFSET_AT));
        // Also leaves room for the offset after the last record.
        if !(0..=i64::MAX - (1 << 32)).contains(&base_offset) {
            return Err(BatchError::Field {
                field: "base offset",
                value: base_offset,
            });
        }
        Ok(BatchHeader {
            base_offset: Offset(base_offset),
            total_bytes,
            leader_epoch: i32::from_be_bytes(field(bytes, LEADER_EPOCH_AT)),
            crc: u32::from_be_bytes(field(bytes, CRC_AT)),
            attributes: Attributes(i16::from_be_bytes(field(bytes, ATTRIBUTES_AT))),
            last_offset_delta: not_negative("last offset delta", last_offset_delta)?,
            base_timestamp: i64::from_be_bytes(field(bytes, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(bytes, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(field(bytes, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(field(bytes, BASE_SEQUENCE_AT)),
            record_count: not_negative("record count", record_count)?,
        })
    }

    /// The offset after the last record's.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset.advance(self.last_offset_delta).advance(1)
    }

    /// Writes the header over the first bytes of a batch whose records are in place, with the
    /// length and the checksum that they give; `total_bytes` and `crc` are not looked at.
    pub(super) fn write(&self, batch: &mut [u8]) {
        let length = (batch.len() - UNCOUNTED_BYTES) as i32;
        put(batch, BASE_OFFSET_AT, self.base_offset.0.to_be_bytes());
        put(batch, LENGTH_AT, length.to_be_bytes());
        put(batch, LEADER_EPOCH_AT, self.leader_epoch.to_be_bytes());
        put(batch, MAGIC_AT, MAGIC.to_be_bytes());
        put(batch, ATTRIBUTES_AT, self.attributes.0.to_be_bytes());
        put(
            batch,
            LAST_OFFSET_DELTA_AT,
            self.last_offset_delta.to_be_bytes(),
        );
        put(batch, BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        put(batch, MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        put(batch, PRODUCER_ID_AT, self.producer_id.to_be_bytes());
        put(batch, PRODUCER_EPOCH_AT, self.producer_epoch.to_be_bytes());
        put(batch, BASE_SEQUENCE_AT, self.base_sequence.to_be_bytes());
        put(batch, RECORD_COUNT_AT, self.record_count.to_be_bytes());
        set_crc(batch);
    }
}

/// Which idempotent producer a batch is from, and its place among what that producer sends to the
/// partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchProducer {
    /// The producer.
    pub id: ProducerId,
    /// Which life of it.
    pub epoch: ProducerEpoch,
    /// Sequence number of the first record.
    pub base_sequence: i32,
}

/// The idempotent producer of a batch; none for a plain one. Looks at nothing else in the header.
///
/// # Panics
/// If the slice is shorter than a header.
#[must_use]
pub fn batch_producer(batch: &[u8]) -> Option<BatchProducer> {
    let id = i64::from_be_bytes(field(batch, PRODUCER_ID_AT));
    (id >= 0).then(|| BatchProducer {
        id: ProducerId(id),
        epoch: ProducerEpoch(i16::from_be_bytes(field(batch, PRODUCER_EPOCH_AT))),
        base_sequence: i32::from_be_bytes(field(batch, BASE_SEQUENCE_AT)),
    })
}

/// Makes a batch one of an idempotent producer, and renews the checksum.
///
/// # Panics
/// If the slice is shorter than a header. It must hold exactly the batch.
pub fn set_batch_producer(batch: &mut [u8], producer: BatchProducer) {
    put(batch, PRODUCER_ID_AT, producer.id.0.to_be_bytes());
    put(batch, PRODUCER_EPOCH_AT, producer.epoch.0.to_be_bytes());
    put(
        batch,
        BASE_SEQUENCE_AT,
        producer.base_sequence.to_be_bytes(),
    );
    set_crc(batch);
}

/// The length of the batch at the start of `bytes`, from its length field; `bytes` may end before
/// the batch does, but not before the header does.
pub fn batch_len(bytes: &[u8]) -> Result<usize, BatchError> {
    if bytes.len() < BATCH_HEADER_BYTES {
        return Err(BatchError::Truncated {
            have: bytes.len(),
            need: BATCH_HEADER_BYTES,
        });
    }
    let length = i32::from_be_bytes(field(bytes, LENGTH_AT));
    match usize::try_from(length) {
        Ok(counted) if counted >= BATCH_HEADER_BYTES - UNCOUNTED_BYTES => {
            Ok(counted + UNCOUNTED_BYTES)
        }
        _ => Err(BatchError::Length(length)),
    }
}

/// Gives a batch its place. The base offset lies outside of the checksum.
///
/// # Panics
/// If the slice is shorter than a header.
pub fn set_base_offset(batch: &mut [u8], offset: Offset) {
    put(batch, BASE_OFFSET_AT, offset.0.to_be_bytes());
}

/// Notes the term in which a batch was appended, which lies outside of the checksum.
///
/// # Panics
/// If the slice is shorter than a header.
pub fn set_leader_epoch(batch: &mut [u8], term: Term) {
    put(batch, LEADER_EPOCH_AT, term.0.to_be_bytes());
}

/// Stamps a batch with the broker's time, which makes it the timestamp of every record, and
/// renews the checksum.
///
/// # Panics
/// If the slice is shorter than a header. It must hold exactly the batch.
pub fn set_append_time(batch: &mut [u8], time_ms: i64) {
    let attributes = i16::from_be_bytes(field(batch, ATTRIBUTES_AT)) | Attributes::APPEND_TIME;
    put(batch, ATTRIBUTES_AT, attributes.to_be_bytes());
    set_max_timestamp(batch, time_ms);
}

/// Sets the largest timestamp and renews the checksum.
pub(super) fn set_max_timestamp(batch: &mut [u8], time_ms: i64) {
    put(batch, MAX_TIMESTAMP_AT, time_ms.to_be_bytes());
    set_crc(batch);
}

/// The checksum that a batch's bytes give.
pub(super) fn compute_crc(batch: &[u8]) -> u32 {
    crc_fast::checksum(
        crc_fast::CrcAlgorithm::Crc32Iscsi,
        &batch[CRC_COVERS_FROM..],
    ) as u32
}

fn set_crc(batch: &mut [u8]) {
    let crc = compute_crc(batch);
    put(batch, CRC_AT, crc.to_be_bytes());
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has N bytes")
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}
