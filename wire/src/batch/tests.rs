//! Batches made, checked and read back, and every rule for producers broken once.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;
use crate::ids::{Offset, Term};

/// What a test pushes: timestamp, key, value, headers.
type Input = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

fn header() -> impl Strategy<Value = Header> {
    // Few keys, so that they repeat.
    ("[ab]{0,2}", proptest::option::of(vec(any::<u8>(), 0..20))).prop_map(|(key, value)| Header {
        key: Bytes::from(key),
        value: value.map(Bytes::from),
    })
}

fn input() -> impl Strategy<Value = Input> {
    let bytes = || proptest::option::of(vec(any::<u8>(), 0..200));
    (-1..i64::MAX / 4, bytes(), bytes(), vec(header(), 0..4))
}

fn built(compression: Compression, inputs: &[Input]) -> BytesMut {
    let mut builder = BatchBuilder::new(compression);
    for (timestamp, key, value, headers) in inputs {
        let before = builder.len_estimate();
        let most = BatchBuilder::record_len(key.as_deref(), value.as_deref(), headers);
        builder
            .push(*timestamp, key.as_deref(), value.as_deref(), headers)
            .unwrap();
        assert!(builder.len_estimate() - before <= most);
    }
    assert_eq!(builder.record_count() as usize, inputs.len());
    builder.build().unwrap()
}

/// A batch of three small records.
fn sample(compression: Compression) -> BytesMut {
    let record = |n: i64| {
        let key = Some(format!("key {n}").into_bytes());
        (1_000 + n, key, Some(b"value".repeat(8)), vec![])
    };
    built(compression, &[record(0), record(1), record(2)])
}

fn limits() -> ProduceLimits {
    ProduceLimits {
        max_message_bytes: 1 << 20,
        max_uncompressed_bytes: 1 << 20,
        earliest_timestamp: i64::MIN,
        latest_timestamp: i64::MAX,
        key_required: false,
    }
}

/// Overwrites bytes and renews the checksum, so that only the change is to be found.
fn patched(compression: Compression, at: usize, bytes: &[u8]) -> BytesMut {
    let mut batch = sample(compression);
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    renew_crc(&mut batch);
    batch
}

fn renew_crc(batch: &mut [u8]) {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_pushed_comes_back(
        inputs in vec(input(), 1..20),
        codec in 0u8..5,
        base in 0i64..1 << 60,
    ) {
        let codec = Compression::from_number(codec).unwrap();
        let mut batch = built(codec, &inputs);
        let produced = validate_produced(&mut batch, &limits()).unwrap();
        prop_assert_eq!(produced.record_count as usize, inputs.len());
        prop_assert_eq!(produced.max_timestamp, inputs.iter().map(|input| input.0).max().unwrap());

        set_base_offset(&mut batch, Offset(base));
        set_leader_epoch(&mut batch, Term(7));
        let stored = verify(&batch, Limits::default()).unwrap();
        prop_assert_eq!(stored.leader_epoch, 7);
        prop_assert_eq!(stored.next_offset(), Offset(base + inputs.len() as i64));

        let records = Records::decode(&batch.freeze(), 1 << 20).unwrap();
        let records: Vec<Record> = records.collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(records.len(), inputs.len());
        for (n, (record, (timestamp, key, value, headers))) in
            records.into_iter().zip(inputs).enumerate()
        {
            let expected = Record {
                offset: Offset(base + n as i64),
                timestamp,
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers,
            };
            prop_assert_eq!(record, expected);
        }
    }

    #[test]
    fn no_changed_bit_is_overlooked(bit in 0usize..1000, codec in 0u8..5) {
        let codec = Compression::from_number(codec).unwrap();
        let mut batch = sample(codec);
        let bit = bit % (batch.len() * 8);
        batch[bit / 8] ^= 1 << (bit % 8);
        // The base offset and the leader epoch belong to the broker and have no checksum.
        let free = (0..8).contains(&(bit / 8)) || (12..16).contains(&(bit / 8));
        prop_assert!(verify(&batch, Limits::default()).is_err() || free, "bit {}", bit);
    }
}

/// A batch that Kafka's documentation lets one write by hand: one record, key `k`, value `v`,
/// header `h` without a value, timestamp 1.
#[test]
fn known_answer() {
    let mut builder = BatchBuilder::new(Compression::None);
    let headers = [Header {
        key: Bytes::from_static(b"h"),
        value: None,
    }];
    builder.push(1, Some(b"k"), Some(b"v"), &headers).unwrap();
    let batch = builder.build().unwrap();
    let mut expected: Vec<u8> = vec![0; 8]; // base offset
    expected.extend(61i32.to_be_bytes()); // length: 49 of header and 12 of record
    expected.extend([0xff; 4]); // leader epoch -1
    expected.push(2);
    expected.extend([0; 4]); // CRC, below
    expected.extend([0, 0]); // attributes
    expected.extend([0; 4]); // last offset delta
    expected.extend(1i64.to_be_bytes());
    expected.extend(1i64.to_be_bytes());
    expected.extend([0xff; 14]); // no producer id, epoch, sequence
    expected.extend(1i32.to_be_bytes());
    expected.extend([22, 0, 0, 0, 2, b'k', 2, b'v', 2, 2, b'h', 1]);
    let crc = crc32c_bitwise(&expected[21..]);
    expected[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(&batch[..], &expected[..]);
    assert_eq!(BatchHeader::parse(&batch).unwrap().total_bytes, 73);
}

/// The checksum by its definition (Castagnoli, reflected), against the library's.
fn crc32c_bitwise(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(
        crc32c_bitwise(b"123456789"),
        0xe306_9283,
        "the catalogue's check value"
    );
    let bytes: Vec<u8> = (0..100_000u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    for length in [21, 22, 37, 200, 4096, 100_000] {
        let bytes = &bytes[..length];
        assert_eq!(
            header::compute_crc(bytes),
            crc32c_bitwise(&bytes[21..]),
            "{length}"
        );
    }
}

#[test]
fn append_time_becomes_every_records_timestamp() {
    for codec in Compression::ALL {
        let mut batch = sample(codec);
        set_append_time(&mut batch, 5_000);
        let header = verify(&batch, Limits::default()).unwrap();
        assert!(header.attributes.is_append_time());
        assert_eq!(header.attributes.compression(), Ok(codec));
        let records = Records::decode(&batch.freeze(), 1 << 20).unwrap();
        assert!(
            records
                .map(Result::unwrap)
                .all(|record| record.timestamp == 5_000)
        );
    }
}

#[test]
fn every_rule_for_producers_holds() {
    let refuse = |mut batch: BytesMut, limits: &ProduceLimits| {
        let before = batch.clone();
        let error = validate_produced(&mut batch, limits).unwrap_err();
        assert_eq!(batch, before, "a refused batch is as it was: {error}");
        error
    };
    let plain = |at, bytes: &[u8]| refuse(patched(Compression::None, at, bytes), &limits());
    assert_eq!(plain(16, &[1]), BatchError::Magic(1));
    assert_eq!(
        plain(7, &[5]),
        BatchError::Field {
            field: "base offset",
            value: 5
        }
    );
    assert_eq!(plain(22, &[0x20]), BatchError::Control);
    assert_eq!(plain(22, &[0x08]), BatchError::StampedByProducer);
    assert!(
        matches!(plain(22, &[0x10]), BatchError::Field { value: -1, .. }),
        "transactional"
    );
    assert_eq!(plain(22, &[5]), BatchError::Codec(5));
    assert_eq!(
        plain(60, &[4]),
        BatchError::Count {
            records: 4,
            last_offset_delta: 2
        }
    );
    assert_eq!(
        plain(60, &[0]),
        BatchError::Count {
            records: 0,
            last_offset_delta: 2
        }
    );
    assert!(matches!(
        plain(57, &[0xff; 4]),
        BatchError::Field {
            field: "record count",
            ..
        }
    ));
    assert!(matches!(plain(23, &[0xff; 4]), BatchError::Field { .. }));
    let id = [0, 0, 0, 0, 0, 0, 0, 9];
    assert!(matches!(
        plain(43, &id),
        BatchError::Field {
            field: "producer epoch",
            ..
        }
    ));
    let mut sequence = id.to_vec();
    sequence.extend([0, 0]);
    assert!(matches!(
        plain(43, &sequence),
        BatchError::Field {
            field: "base sequence",
            ..
        }
    ));

    let mut longer = sample(Compression::None);
    longer.extend_from_slice(&sample(Compression::None));
    let one = longer.len() / 2;
    assert_eq!(
        refuse(longer.clone(), &limits()),
        BatchError::TrailingBytes(one)
    );
    longer.truncate(one - 1);
    assert_eq!(
        refuse(longer, &limits()),
        BatchError::Truncated {
            have: one - 1,
            need: one
        }
    );

    let small = ProduceLimits {
        max_message_bytes: one - 1,
        ..limits()
    };
    let too_large = BatchError::TooLarge {
        bytes: one,
        limit: one - 1,
    };
    assert_eq!(refuse(sample(Compression::None), &small), too_large);
    assert_eq!(too_large.code(), ErrorCode::MessageTooLarge);

    let mut garbled = sample(Compression::None);
    *garbled.last_mut().unwrap() ^= 1;
    assert!(matches!(refuse(garbled, &limits()), BatchError::Crc { .. }));

    let late = ProduceLimits {
        latest_timestamp: 1_001,
        ..limits()
    };
    let early = ProduceLimits {
        earliest_timestamp: 1_001,
        ..limits()
    };
    for codec in Compression::ALL {
        let refused = refuse(sample(codec), &late);
        assert!(matches!(
            refused,
            BatchError::Timestamp {
                record: 2,
                timestamp: 1_002,
                ..
            }
        ));
        let refused = refuse(sample(codec), &early);
        assert!(matches!(
            refused,
            BatchError::Timestamp {
                record: 0,
                timestamp: 1_000,
                ..
            }
        ));
    }
    let keyless = built(Compression::Zstd, &[(1, None, None, vec![])]);
    let compacted = ProduceLimits {
        key_required: true,
        ..limits()
    };
    assert_eq!(
        refuse(keyless, &compacted),
        BatchError::KeyMissing { record: 0 }
    );
}

#[test]
fn records_are_looked_at_inside_compressed_batches() {
    // Each with its records, not compressed, and how many the header claims.
    let good = &sample(Compression::None)[BATCH_HEADER_BYTES..];
    let record = good.len() / 3;
    let mut cases: Vec<(Vec<u8>, &str)> = vec![
        (good[..good.len() - 1].to_vec(), "record 2"),
        (good[..2 * record].to_vec(), "record 2"),
        ([good, &b"tail"[..]].concat(), "4 bytes follow"),
        (
            [&good[..record], &good[..record], &good[2 * record..]].concat(),
            "offset is not",
        ),
        (vec![], "record 0"),
    ];
    // A length, a header count and a key length that claim two gigabytes.
    for (at, what) in [
        (0, "ends after the batch"),
        (record - 1, "header"),
        (4, "key ends"),
    ] {
        let mut records = good.to_vec();
        records.splice(at..=at, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        if at != 0 {
            // The record is four bytes longer; its length is one byte, zigzag.
            records[0] += 2 * 4;
        }
        cases.push((records, what));
    }
    for codec in Compression::ALL {
        for (records, what) in &cases {
            let mut batch = BytesMut::from(&sample(codec)[..BATCH_HEADER_BYTES]);
            codec.compress(records, &mut batch).unwrap();
            let length = (batch.len() - 12) as i32;
            batch[8..12].copy_from_slice(&length.to_be_bytes());
            renew_crc(&mut batch);
            let error = validate_produced(&mut batch, &limits()).unwrap_err();
            assert!(
                error.to_string().contains(what),
                "{codec}: {error} for {what}"
            );
            let decoded = Records::decode(&batch.freeze(), 1 << 20);
            let decoded = decoded.and_then(|records| records.collect::<Result<Vec<_>, _>>());
            assert!(decoded.is_err(), "{codec}: {what}");
        }
    }
}

#[test]
fn a_compression_bomb_is_refused() {
    let zeros = (1, None, Some(vec![0; 8 << 20]), vec![]);
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut bomb = built(codec, std::slice::from_ref(&zeros));
        assert!(bomb.len() < 1 << 20, "{codec}");
        let expands = BatchError::Expands { limit: 1 << 20 };
        assert_eq!(
            validate_produced(&mut bomb, &limits()),
            Err(expands.clone()),
            "{codec}"
        );
        assert_eq!(
            Records::decode(&bomb.freeze(), 1 << 20).unwrap_err(),
            expands,
            "{codec}"
        );
    }
}

#[test]
fn a_wrong_largest_timestamp_is_set_right() {
    for codec in Compression::ALL {
        let mut batch = patched(codec, 35, &i64::MAX.to_be_bytes());
        let header = validate_produced(&mut batch, &limits()).unwrap();
        assert_eq!(header.max_timestamp, 1_002);
        assert_eq!(verify(&batch, Limits::default()), Ok(header));
    }
}

#[test]
fn a_compacted_batch_keeps_its_offsets() {
    // Offsets 0 and 2 of three.
    let good = sample(Compression::None);
    let record = (good.len() - BATCH_HEADER_BYTES) / 3;
    let mut batch = BytesMut::from(&good[..BATCH_HEADER_BYTES + record]);
    batch.extend_from_slice(&good[BATCH_HEADER_BYTES + 2 * record..]);
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[60] = 2;
    renew_crc(&mut batch);
    let records = Records::decode(&batch.clone().freeze(), 1 << 20).unwrap();
    let offsets: Vec<i64> = records.map(|record| record.unwrap().offset.0).collect();
    assert_eq!(offsets, [0, 2]);
    assert!(matches!(
        validate_produced(&mut batch, &limits()),
        Err(BatchError::Count { .. })
    ));
}

#[test]
fn a_run_is_cut_into_batches() {
    let batches: Vec<BytesMut> = Compression::ALL.map(sample).into();
    let run = Bytes::from(batches.concat());
    let cut: Vec<&[u8]> = iter_batches(&run).collect::<Result<_, _>>().unwrap();
    assert_eq!(cut, batches);
    let split: Vec<Bytes> = split_batches(run.clone())
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(split, batches);

    let short = run.slice(..run.len() - 1);
    let results: Vec<_> = split_batches(short.clone()).collect();
    assert_eq!(results.len(), 5, "an error ends the run");
    assert!(matches!(results[4], Err(BatchError::Truncated { .. })));
    assert_eq!(iter_batches(&short).filter(Result::is_err).count(), 1);
    // A length of zero must not go round for ever.
    assert_eq!(
        iter_batches(&[0; 100]).collect::<Vec<_>>(),
        [Err(BatchError::Length(0))]
    );
}

#[test]
fn a_builder_refuses_what_it_cannot_write() {
    let mut builder = BatchBuilder::new(Compression::None);
    assert_eq!(builder.push(i64::MAX, None, None, &[]), Ok(()));
    assert_eq!(builder.push(-1, None, None, &[]), Ok(()));
    let far = builder.push(i64::MIN, None, None, &[]);
    assert_eq!(far, Err(BuildError::Timestamp(i64::MIN)));
    assert_eq!(builder.record_count(), 2);
    assert_eq!(
        BatchBuilder::new(Compression::Lz4).build(),
        Err(BuildError::Empty)
    );
    let huge = vec![0; crate::frame::MAX_FRAME_BYTES as usize];
    let mut builder = BatchBuilder::new(Compression::Lz4);
    assert_eq!(
        builder.push(0, None, Some(&huge), &[]),
        Err(BuildError::TooLarge)
    );
    assert!(builder.is_empty());
}
