//! Record batches.

use bytes::Bytes;
use millrace_wire::batch::{
    BATCH_HEADER_BYTES, BatchBuilder, BatchError, Compression, Header, Limits, ProduceLimits,
    Record, Records, iter_batches, split_batches, validate_produced, verify,
};

use crate::Seed;
use crate::allocation::bounded;

pub(crate) const NONE: Compression = Compression::None;
pub(crate) const GZIP: Compression = Compression::Gzip;
pub(crate) const SNAPPY: Compression = Compression::Snappy;
pub(crate) const LZ4: Compression = Compression::Lz4;
pub(crate) const ZSTD: Compression = Compression::Zstd;

/// What a batch may expand to here.
const MAX_UNCOMPRESSED_BYTES: usize = 256 * 1024;

/// What a decoder keeps for itself: for LZ4, two blocks of 4 MiB and a window are the most.
fn decoder_bytes(compression: Compression) -> usize {
    if compression == LZ4 {
        13 << 20
    } else {
        512 * 1024
    }
}

/// A list of records grows by doubling; a header takes at least two bytes and becomes a struct.
const HELD_FOR_EACH_BYTE: usize = 80;

const LIMITS: ProduceLimits = ProduceLimits {
    max_message_bytes: 1 << 20,
    max_uncompressed_bytes: MAX_UNCOMPRESSED_BYTES,
    earliest_timestamp: i64::MIN,
    latest_timestamp: i64::MAX,
    key_required: false,
};

/// The bytes are a run of batches, as a fetch response carries them.
pub(crate) fn run_of_batches(bytes: &[u8]) {
    let mut total = 0;
    for batch in iter_batches(bytes) {
        let Ok(batch) = batch else { break };
        total += batch.len();
        let verified = verify(batch, Limits::default());
        let mut produced = batch.to_vec();
        if let Ok(header) = validate_produced(&mut produced, &LIMITS) {
            assert!(
                verified.is_ok(),
                "what is accepted from a producer can be read back"
            );
            assert_eq!(verify(&produced, Limits::default()), Ok(header));
        }
    }
    let run = Bytes::copy_from_slice(bytes);
    let split: usize = split_batches(run)
        .map_while(Result::ok)
        .map(|batch| batch.len())
        .sum();
    assert_eq!(split, total);
    assert!(total <= bytes.len());
}

pub(crate) fn none(bytes: &[u8]) {
    codec(NONE, bytes);
}

pub(crate) fn gzip(bytes: &[u8]) {
    codec(GZIP, bytes);
}

pub(crate) fn snappy(bytes: &[u8]) {
    codec(SNAPPY, bytes);
}

pub(crate) fn lz4(bytes: &[u8]) {
    codec(LZ4, bytes);
}

pub(crate) fn zstd(bytes: &[u8]) {
    codec(ZSTD, bytes);
}

/// The first byte is the number of records, less one; the rest is what follows the header, which is
/// made to fit so that the codec and the records behind it are reached.
fn codec(compression: Compression, bytes: &[u8]) {
    let Some((count, body)) = bytes.split_first() else {
        return;
    };
    let mut batch = with_header(compression, *count, body);
    let validated = bounded(
        decoder_bytes(compression) + 4 * MAX_UNCOMPRESSED_BYTES + bytes.len(),
        || validate_produced(&mut batch, &LIMITS),
    );
    let batch = Bytes::from(batch);
    let records = bounded(
        decoder_bytes(compression) + HELD_FOR_EACH_BYTE * MAX_UNCOMPRESSED_BYTES,
        || Records::decode(&batch, MAX_UNCOMPRESSED_BYTES)?.collect::<Result<Vec<_>, BatchError>>(),
    );
    let Ok(header) = validated else { return };
    let records = records.expect("what is accepted from a producer can be read back");
    assert_eq!(records.len(), header.record_count as usize);
    assert_eq!(
        records.iter().map(|record| record.timestamp).max(),
        Some(header.max_timestamp)
    );
    assert_eq!(
        again(&records),
        records,
        "decoded, encoded and decoded again"
    );
}

/// The same records, in a batch of our own.
fn again(records: &[Record]) -> Vec<Record> {
    let mut builder = BatchBuilder::new(NONE);
    for record in records {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .push(record.timestamp, key, value, &record.headers)
            .expect("they did fit");
    }
    let batch = builder.build().expect("there is a record").freeze();
    let records = Records::decode(&batch, usize::MAX).expect("it was built");
    records
        .map(|record| record.expect("it was built"))
        .collect()
}

/// Puts a header before compressed records, with a length and a checksum that fit.
fn with_header(compression: Compression, last_offset_delta: u8, body: &[u8]) -> Vec<u8> {
    let mut batch = vec![0; BATCH_HEADER_BYTES];
    batch.extend_from_slice(body);
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[12..16].fill(0xff);
    batch[16] = 2;
    batch[22] = compression as u8;
    batch[26] = last_offset_delta;
    batch[43..57].fill(0xff);
    batch[57..61].copy_from_slice(&(u32::from(last_offset_delta) + 1).to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// Batches of one bare record; of some with keys and headers; of one that expands a good deal; and
/// of one that expands too far.
fn batches(compression: Compression) -> [(&'static str, Bytes); 4] {
    type Input<'a> = (Option<&'a [u8]>, &'a [u8], &'a [Header]);
    let build = |records: &[Input<'_>]| {
        let mut builder = BatchBuilder::new(compression);
        for (n, (key, value, headers)) in records.iter().enumerate() {
            builder
                .push(n as i64, *key, Some(value), headers)
                .expect("it fits");
        }
        builder.build().expect("it has records").freeze()
    };
    let headers = [
        Header::new("trace", "0123"),
        Header {
            key: Bytes::from_static(b"trace"),
            value: None,
        },
    ];
    let zeros = vec![0; 16 * MAX_UNCOMPRESSED_BYTES];
    [
        ("bare", build(&[(None, b"", &[])])),
        (
            "several",
            build(&[
                (Some(b"k"), b"value", &headers),
                (None, b"v", &headers[..1]),
            ]),
        ),
        (
            "expands",
            build(&[(Some(b"zeros"), &zeros[..32 * 1024], &[])]),
        ),
        ("bomb", build(&[(None, &zeros, &[])])),
    ]
}

pub(crate) fn codec_seeds(compression: Compression) -> Vec<Seed> {
    let seed = |(name, batch): (&'static str, Bytes)| {
        let last_offset_delta = batch[26];
        (
            name,
            [&[last_offset_delta], &batch[BATCH_HEADER_BYTES..]].concat(),
        )
    };
    // A large seed that is not compressed is of no use.
    let small = |seed: &Seed| seed.1.len() < 20 * 1024;
    batches(compression)
        .into_iter()
        .map(seed)
        .filter(small)
        .collect()
}

pub(crate) fn run_seeds() -> Vec<Seed> {
    let several = |codec| batches(codec)[1].1.to_vec();
    let mut seeds = vec![
        ("none", several(NONE)),
        ("gzip", several(GZIP)),
        ("snappy", several(SNAPPY)),
        ("lz4", several(LZ4)),
        ("zstd", several(ZSTD)),
    ];
    seeds.push((
        "all",
        seeds.iter().flat_map(|(_, batch)| batch.clone()).collect(),
    ));
    seeds
}
