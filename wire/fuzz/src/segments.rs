//! What a disk may bring in place of a segment or its index.

use millrace_shard::env::BLOCK_BYTES;
use millrace_shard::segment::format::{
    BATCH_PREFIX_BYTES, ENTRY_HEADER_BYTES, EntryHeader, FIRST_ENTRY, FileHeader, Flaw, Identity,
    NO_TIMESTAMP, Parsed, Place, Previous, Seal, decode_places, encode_pad, encode_places,
    pad_bytes, parse_entry,
};
use millrace_wire::batch::{BatchBuilder, Compression, set_base_offset};
use millrace_wire::ids::{LogIndex, Offset, PartitionId, PartitionIndex, Term, TopicId};

use crate::Seed;

const PARTITION: PartitionId = PartitionId {
    topic: TopicId(0x0fed_cba9_8765_4321),
    partition: PartitionIndex(1),
};
const BASE: Offset = Offset(100);

fn identity() -> Identity {
    Identity::of(PARTITION, BASE)
}

/// Goes through entries as a reader does, from the first on.
pub(crate) fn entries(bytes: &[u8]) {
    let end = FIRST_ENTRY + bytes.len() as u64;
    let mut rest = bytes;
    while !rest.is_empty() {
        let position = end - rest.len() as u64;
        let taken = match parse_entry(rest, identity(), position, end) {
            Ok(Parsed::Pad(pad)) => {
                assert_eq!((position + pad) % BLOCK_BYTES as u64, 0);
                pad
            }
            Ok(Parsed::Batch(header)) => {
                assert!(header.next_offset() > header.base_offset);
                let batch = &rest[ENTRY_HEADER_BYTES..][..header.length as usize];
                let again = header.encode(identity(), position, batch);
                assert_eq!(again, rest[..ENTRY_HEADER_BYTES], "one header has one form");
                if header.check_batch(batch).is_ok() {
                    assert!(batch.starts_with(&header.base_offset.0.to_be_bytes()));
                }
                header.entry_bytes()
            }
            Err(_) => return,
        };
        assert!(taken > 0 && taken <= rest.len() as u64);
        rest = &rest[taken as usize..];
    }
}

pub(crate) fn entries_seeds() -> Vec<Seed> {
    let mut bytes = Vec::new();
    for number in 0..3 {
        let mut builder = BatchBuilder::new(Compression::None);
        builder
            .push(number, None, Some(b"value"), &[])
            .expect("a small record");
        let mut batch = builder.build().expect("a batch with a record");
        let base_offset = Offset(BASE.0 + number);
        set_base_offset(&mut batch, base_offset);
        let header = EntryHeader {
            length: batch.len() as u32,
            index: LogIndex(number as u64 + 1),
            base_offset,
            max_timestamp: number,
            term: Term(1),
            record_count: 1,
        };
        let position = FIRST_ENTRY + bytes.len() as u64;
        bytes.extend(header.encode(identity(), position, &batch));
        bytes.extend(batch);
    }
    let unpadded = bytes.clone();
    let position = FIRST_ENTRY + bytes.len() as u64;
    let padded = bytes.len() + pad_bytes(position) as usize;
    bytes.extend(encode_pad(identity(), position));
    bytes.resize(padded, 0);
    vec![
        ("three", unpadded.clone()),
        ("three_and_a_pad", bytes),
        (
            "cut",
            unpadded[..unpadded.len() - BATCH_PREFIX_BYTES].to_vec(),
        ),
        ("zeros", vec![0; 100]),
    ]
}

/// The blocks with a checksum at their end, each parser on the same bytes.
pub(crate) fn blocks(bytes: &[u8]) {
    let mut again = vec![0; BLOCK_BYTES];
    match FileHeader::decode(bytes, PARTITION, BASE) {
        Ok(header) => {
            assert_eq!((header.partition, header.base), (PARTITION, BASE));
            assert!(header.previous.is_none_or(|previous| previous.base < BASE));
        }
        Err(Flaw::Newer(version)) => assert!(version > 1),
        Err(_) => {}
    }
    let seal_at = FIRST_ENTRY + BLOCK_BYTES as u64;
    if let Ok(seal) = Seal::decode(bytes, identity(), BASE, seal_at) {
        assert!(seal.next_offset >= BASE && seal.end <= seal_at);
    }
    if let Ok(block) = decode_places(bytes, identity(), 0, None) {
        assert!(
            block
                .places
                .windows(2)
                .all(|pair| pair[0].precedes(&pair[1]))
        );
        encode_places(&block.places, block.last, identity(), 0, &mut again);
        assert_eq!(decode_places(&again, identity(), 0, None), Ok(block));
    }
}

pub(crate) fn blocks_seeds() -> Vec<Seed> {
    let block = |encode: &dyn Fn(&mut [u8])| {
        let mut block = vec![0; BLOCK_BYTES];
        encode(&mut block);
        block
    };
    let previous = Some(Previous {
        base: Offset(10),
        next_offset: Offset(90),
    });
    let header = FileHeader {
        partition: PARTITION,
        base: BASE,
        created_ms: 5,
        previous,
    };
    let seal = Seal {
        end: FIRST_ENTRY + 500,
        next_offset: Offset(120),
        next_index: LogIndex(7),
        term: Term(2),
        max_timestamp: 44,
    };
    let places: Vec<Place> = (0..5)
        .map(|number| Place {
            offset: Offset(BASE.0 + number),
            position: FIRST_ENTRY + number as u64 * 4_096,
            max_before: if number == 0 { NO_TIMESTAMP } else { number },
        })
        .collect();
    vec![
        ("header", block(&|block| header.encode(block))),
        ("seal", block(&|block| seal.encode(identity(), block))),
        (
            "index",
            block(&|block| encode_places(&places, true, identity(), 0, block)),
        ),
        ("zeros", vec![0; BLOCK_BYTES]),
    ]
}
