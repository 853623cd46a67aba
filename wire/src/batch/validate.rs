//! What a batch must be before it is used: [`verify`] for one that was stored or sent by a broker,
//! [`validate_produced`] for one that a producer sent.
//!
//! How deep: every record of a produced batch is looked at, inside compressed batches too, because
//! a batch that is broken inside would be stored for good and stop every consumer that reaches it.
//! The price is one expansion of the batch; at about a gigabyte a second for LZ4 it is far below
//! that of making the bytes durable. What was verified once is not looked into again: the disk's
//! and the network's errors are what the checksum is for.

use super::compression::Compression;
use super::error::BatchError;
use super::header::{BATCH_HEADER_BYTES, BatchHeader, compute_crc, set_max_timestamp};
use super::records::RawRecord;
use crate::frame::MAX_FRAME_BYTES;

/// The timestamp that means that there is none.
pub const NO_TIMESTAMP: i64 = -1;

/// Bounds for [`verify`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes that a batch may have.
    pub max_batch_bytes: usize,
}

impl Default for Limits {
    /// What fits in a frame.
    fn default() -> Limits {
        Limits {
            max_batch_bytes: MAX_FRAME_BYTES as usize,
        }
    }
}

/// What a topic and its broker demand of a produced batch.
#[derive(Clone, Copy, Debug)]
pub struct ProduceLimits {
    /// The topic's `max.message.bytes`.
    pub max_message_bytes: usize,
    /// The most that a compressed batch may expand to; see
    /// [`DEFAULT_MAX_UNCOMPRESSED_BYTES`](super::DEFAULT_MAX_UNCOMPRESSED_BYTES).
    pub max_uncompressed_bytes: usize,
    /// The lowest timestamp that a record may have (`message.timestamp.before.max.ms` ago);
    /// `i64::MIN` where the topic stamps by append time or does not care.
    pub earliest_timestamp: i64,
    /// The highest (`message.timestamp.after.max.ms` from now); `i64::MAX` likewise.
    pub latest_timestamp: i64,
    /// Whether every record needs a key, as on compacted topics.
    pub key_required: bool,
}

/// Checks one batch of exactly these bytes: structure and checksum, without looking at the records.
pub fn verify(bytes: &[u8], limits: Limits) -> Result<BatchHeader, BatchError> {
    let header = exactly_one(bytes, limits.max_batch_bytes)?;
    // A compacted batch has lost records and kept its offsets.
    if u64::from(header.record_count) > u64::from(header.last_offset_delta) + 1 {
        return Err(count(&header));
    }
    Ok(header)
}

/// Checks one batch that a producer sent: everything that [`verify`] does, the rules for producers,
/// and the framing of every record. Where the header's largest timestamp is not the records', it is
/// set right, as Kafka does, so that lookups by time can rely on it.
pub fn validate_produced(
    batch: &mut [u8],
    limits: &ProduceLimits,
) -> Result<BatchHeader, BatchError> {
    let mut header = exactly_one(batch, limits.max_message_bytes)?;
    check_producer_fields(&header)?;
    let records = &batch[BATCH_HEADER_BYTES..];
    let max_timestamp = match header.attributes.compression()? {
        Compression::None => check_records(&header, records, limits)?,
        codec => {
            let expanded = codec.decompress(records, limits.max_uncompressed_bytes)?;
            check_records(&header, &expanded, limits)?
        }
    };
    if header.max_timestamp != max_timestamp {
        set_max_timestamp(batch, max_timestamp);
        header = BatchHeader::parse(batch)?;
    }
    Ok(header)
}

fn exactly_one(bytes: &[u8], max_batch_bytes: usize) -> Result<BatchHeader, BatchError> {
    // Before the header, so that what is too large is told so even if it is also cut off.
    if bytes.len() > max_batch_bytes {
        return Err(BatchError::TooLarge {
            bytes: bytes.len(),
            limit: max_batch_bytes,
        });
    }
    let header = BatchHeader::parse(bytes)?;
    if header.total_bytes < bytes.len() {
        return Err(BatchError::TrailingBytes(bytes.len() - header.total_bytes));
    }
    let computed = compute_crc(bytes);
    if computed != header.crc {
        return Err(BatchError::Crc {
            stored: header.crc,
            computed,
        });
    }
    header.attributes.compression()?;
    Ok(header)
}

fn check_producer_fields(header: &BatchHeader) -> Result<(), BatchError> {
    let refused = |field, value| Err(BatchError::Field { field, value });
    if header.base_offset.0 != 0 {
        return refused("base offset", header.base_offset.0);
    }
    if header.attributes.is_control() {
        return Err(BatchError::Control);
    }
    if header.attributes.is_append_time() {
        return Err(BatchError::StampedByProducer);
    }
    if header.attributes.has_delete_horizon() {
        return refused("delete horizon flag", 1);
    }
    // Also tells an empty batch: its delta cannot be -1.
    if u64::from(header.record_count) != u64::from(header.last_offset_delta) + 1 {
        return Err(count(header));
    }
    if header.producer_id < -1 {
        return refused("producer id", header.producer_id);
    }
    if header.producer_id == -1 {
        if header.attributes.is_transactional() {
            return refused("producer id of a transactional batch", -1);
        }
        return Ok(());
    }
    if header.producer_epoch < 0 {
        return refused("producer epoch", header.producer_epoch.into());
    }
    if header.base_sequence < 0 {
        return refused("base sequence", header.base_sequence.into());
    }
    Ok(())
}

fn count(header: &BatchHeader) -> BatchError {
    BatchError::Count {
        records: header.record_count,
        last_offset_delta: header.last_offset_delta,
    }
}

/// Looks at every record and returns the largest timestamp.
fn check_records(
    header: &BatchHeader,
    mut rest: &[u8],
    limits: &ProduceLimits,
) -> Result<i64, BatchError> {
    let mut max_timestamp = NO_TIMESTAMP;
    for record in 0..header.record_count {
        let broken = |reason| BatchError::Record { record, reason };
        let raw = RawRecord::take(&mut rest).map_err(broken)?;
        if i64::from(raw.offset_delta) != i64::from(record) {
            return Err(broken("its offset is not the one after its predecessor's"));
        }
        if limits.key_required && raw.key.is_none() {
            return Err(BatchError::KeyMissing { record });
        }
        let timestamp = header.base_timestamp.checked_add(raw.timestamp_delta);
        let timestamp = timestamp.ok_or_else(|| broken("its timestamp overflows"))?;
        let (earliest, latest) = (limits.earliest_timestamp, limits.latest_timestamp);
        if timestamp < NO_TIMESTAMP
            || (timestamp != NO_TIMESTAMP && !(earliest..=latest).contains(&timestamp))
        {
            let earliest = earliest.max(NO_TIMESTAMP);
            return Err(BatchError::Timestamp {
                record,
                timestamp,
                earliest,
                latest,
            });
        }
        max_timestamp = max_timestamp.max(timestamp);
    }
    if rest.is_empty() {
        Ok(max_timestamp)
    } else {
        Err(BatchError::TrailingRecords(rest.len()))
    }
}
