//! Record batches: Kafka's v2 layout, the same bytes from a producer's buffer to the segment to a
//! consumer's buffer. Pure functions over byte slices; they run on any thread and do no I/O.
//!
//! - [`BatchHeader`] reads the 61 bytes before the records; the `set_*` functions change in place
//!   what a broker assigns.
//! - [`verify`] checks one batch that comes from a disk or a broker; [`validate_produced`] also
//!   checks everything that a broker demands of a producer, every record's framing included.
//! - [`iter_batches`] and [`split_batches`] cut a run of batches; [`Records`] decodes one.
//! - [`BatchBuilder`] makes one, [`empty_batch`] one that only takes offsets.
//!
//! Nothing here allocates by a length or a count that the bytes merely claim: decompression grows
//! with what really comes out, up to a limit that the caller sets.

mod builder;
mod compression;
mod error;
mod header;
mod recompress;
mod records;
#[cfg(test)]
mod tests;
mod validate;
mod varint;

pub use builder::{BatchBuilder, BuildError, empty_batch};
pub use compression::{Compression, UnknownCompression};
pub use error::BatchError;
pub use header::{
    Attributes, BATCH_HEADER_BYTES, BatchHeader, BatchProducer, batch_len, batch_producer,
    set_append_time, set_base_offset, set_batch_producer, set_leader_epoch,
};
pub use recompress::recompress;
pub use records::{Header, Record, Records, iter_batches, split_batches};
pub use validate::{Limits, NO_TIMESTAMP, ProduceLimits, validate_produced, verify};

/// The most that a batch may expand to where nobody says otherwise. It also bounds the window that
/// a zstd frame may ask for.
pub const DEFAULT_MAX_UNCOMPRESSED_BYTES: usize = 64 * 1024 * 1024;
