//! The parsers: what was encoded comes back, and no bytes make them panic.

use millrace_wire::ids::{LogIndex, Offset, Term};
use proptest::prelude::*;

use super::{PARTITION, entry};
use crate::env::BLOCK_BYTES;
use crate::segment::format::*;

fn identity() -> Identity {
    Identity::of(PARTITION, Offset(7))
}

fn block_of(encode: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    encode(&mut block);
    block
}

#[test]
fn a_header_block_comes_back_and_only_to_its_own() {
    let previous = Some(Previous {
        base: Offset(1),
        next_offset: Offset(5),
    });
    let header = FileHeader {
        partition: PARTITION,
        base: Offset(7),
        created_ms: 99,
        previous,
    };
    let block = block_of(|block| header.encode(block));
    assert_eq!(FileHeader::decode(&block, PARTITION, Offset(7)), Ok(header));
    assert_eq!(
        FileHeader::decode(&block, PARTITION, Offset(8)),
        Err(Flaw::Checksum)
    );
    assert_eq!(
        FileHeader::decode(&block[..4095], PARTITION, Offset(7)),
        Err(Flaw::Short)
    );
    assert_eq!(
        FileHeader::decode(&[0; 4096], PARTITION, Offset(7)),
        Err(Flaw::Magic)
    );
}

#[test]
fn a_seal_comes_back_and_only_in_its_place() {
    let seal = Seal {
        end: 9_000,
        next_offset: Offset(70),
        next_index: LogIndex(9),
        term: Term(2),
        max_timestamp: -5,
    };
    let block = block_of(|block| seal.encode(identity(), block));
    assert_eq!(
        Seal::decode(&block, identity(), Offset(7), 12_288),
        Ok(seal)
    );
    assert!(matches!(
        Seal::decode(&block, identity(), Offset(7), 8_192),
        Err(Flaw::Impossible(_))
    ));
    assert!(matches!(
        Seal::decode(&block, identity(), Offset(71), 12_288),
        Err(Flaw::Impossible(_))
    ));
}

#[test]
fn a_pad_ends_with_a_block() {
    for position in 4_096..4_096 * 3 {
        let end = position + pad_bytes(position);
        assert_eq!(end % 4_096, 0);
        assert!(end - position < 4_096 + ENTRY_HEADER_BYTES as u64);
        if end == position {
            assert_eq!(position % 4_096, 0);
            continue;
        }
        let pad = encode_pad(identity(), position);
        assert_eq!(
            parse_entry(&pad, identity(), position, end),
            Ok(Parsed::Pad(end - position))
        );
        assert_eq!(
            parse_entry(&pad, identity(), position + 1, end + 1),
            Err(Flaw::Checksum)
        );
    }
}

#[test]
fn any_flipped_bit_of_an_entry_is_noticed() {
    let entry = entry(4, 50, 3, 300, 1_000);
    let header = entry.header();
    let mut bytes = header.encode(identity(), 5_000, &entry.batch).to_vec();
    bytes.extend_from_slice(&entry.batch);
    let check = |bytes: &[u8]| -> Result<(), Flaw> {
        match parse_entry(bytes, identity(), 5_000, 5_000 + bytes.len() as u64)? {
            Parsed::Batch(found) => {
                assert_eq!(found, header);
                found.check_batch(&bytes[ENTRY_HEADER_BYTES..])
            }
            Parsed::Pad(_) => Err(Flaw::Magic),
        }
    };
    assert_eq!(check(&bytes), Ok(()));
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

fn places() -> impl Strategy<Value = Vec<Place>> {
    let steps = prop::collection::vec(
        (1..1_000_i64, 1..100_000_u64, 0..50_i64),
        1..=PLACES_PER_BLOCK,
    );
    steps.prop_map(|steps| {
        let mut place = Place {
            offset: Offset(0),
            position: FIRST_ENTRY,
            max_before: NO_TIMESTAMP,
        };
        let mut places = Vec::new();
        for (offset, position, time) in steps {
            places.push(place);
            place.offset.0 += offset;
            place.position += position;
            place.max_before = place.max_before.max(0) + time;
        }
        places
    })
}

proptest! {
    #[test]
    fn index_blocks_come_back(places in places(), number: u32, last: bool) {
        let block = block_of(|block| encode_places(&places, last, identity(), number, block));
        let decoded = decode_places(&block, identity(), number, None);
        prop_assert_eq!(decoded, Ok(IndexBlock { places: places.clone(), last }));
        prop_assert!(decode_places(&block, identity(), number.wrapping_add(1), None).is_err());
        prop_assert!(decode_places(&block, identity(), number, places.last().copied()).is_err());
    }

    #[test]
    fn no_bytes_make_a_parser_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..5_000), position in 0..u64::MAX, fix: bool) {
        if fix && bytes.len() >= ENTRY_HEADER_BYTES {
            bytes[..3].copy_from_slice(&[b'M', b'e', 1]);
        }
        let _ = parse_entry(&bytes, identity(), position, u64::MAX);
        let _ = FileHeader::decode(&bytes, PARTITION, Offset(7));
        let _ = Seal::decode(&bytes, identity(), Offset(7), position);
        let _ = decode_places(&bytes, identity(), 0, None);
    }

    #[test]
    fn a_header_with_a_good_sum_and_any_fields_is_taken_or_refused(
        length: u32, index: u64, base: i64, max_timestamp: i64, term: u32, record_count: u32,
        position in 4_096..u64::MAX, end: u64, prefix: [u8; BATCH_PREFIX_BYTES],
    ) {
        let header = EntryHeader {
            length, index: LogIndex(index), base_offset: Offset(base), max_timestamp, term: Term(term), record_count,
        };
        let mut bytes = header.encode(identity(), position, &prefix).to_vec();
        bytes.extend_from_slice(&prefix);
        if let Ok(parsed) = parse_entry(&bytes, identity(), position, end) {
            prop_assert_eq!(parsed, Parsed::Batch(header));
            prop_assert!(header.next_offset() > header.base_offset);
            prop_assert!(position + header.entry_bytes() <= end);
        }
    }
}
