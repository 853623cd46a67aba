//! The bytes on disk.

use bytes::Bytes;
use millrace_wire::ids::{LogIndex, Offset, Term};
use proptest::prelude::*;

use super::model::{as_entry, created, partition};
use crate::env::BLOCK_BYTES;
use crate::journal::entry::{Entries, EntrySeed, Seen};
use crate::journal::format::{
    FileHeader, FileNumber, GROUP_HEADER_BYTES, GroupHeader, HeaderRead, VERSION,
};
use crate::journal::scan::inspect;
use crate::journal::{OwnedEntry, SegmentEnd, Sequence};

fn header() -> FileHeader {
    FileHeader {
        epoch: 3,
        salt: 0x1234_5678_9abc_def0,
        file: FileNumber(9),
        first_sequence: Sequence(40),
        first_live_file: FileNumber(8),
        previous_end: Sequence(30),
        checkpoint_through: Sequence(41),
    }
}

fn block_of(header: &FileHeader) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    header.encode(&mut block);
    block
}

fn entries() -> Vec<OwnedEntry> {
    let id = partition(4);
    let safe = SegmentEnd {
        segment_base: Offset(10),
        position: 8192,
        next_offset: Offset(70),
        next_index: LogIndex(7),
        term: Term(2),
    };
    let state = crate::journal::PartitionCheckpoint {
        safe,
        damaged: Some(Offset(71)),
        ..created(id)
    };
    vec![
        OwnedEntry::PartitionCreated(created(id)),
        OwnedEntry::Append {
            partition: id,
            index: LogIndex(8),
            term: Term(2),
            base_offset: Offset(70),
            record_count: 3,
            idempotent: true,
            batch: Bytes::from(vec![7; 5000]),
        },
        OwnedEntry::SegmentSafe {
            partition: id,
            safe,
        },
        OwnedEntry::LogStart {
            partition: id,
            log_start: Offset(60),
        },
        OwnedEntry::LossAccepted {
            partition: id,
            log_end: Offset(71),
        },
        OwnedEntry::Checkpoint(state),
        OwnedEntry::Producers {
            partition: id,
            snapshot: Bytes::from(vec![8; 300]),
        },
        OwnedEntry::ProducersCheckpoint {
            partition: id,
            snapshot: Bytes::from(vec![9; 70]),
        },
        OwnedEntry::PartitionRemoved { partition: id },
    ]
}

fn group(
    file: &FileHeader,
    sequence: u64,
    durable_through: u64,
    entries: &[OwnedEntry],
) -> Vec<u8> {
    let mut payload = Vec::new();
    for entry in entries {
        let entry = as_entry(entry);
        let (head, body) = entry.encode(EntrySeed::new(file.salt, Sequence(sequence)));
        payload.extend_from_slice(&head);
        payload.extend_from_slice(body.bytes());
    }
    let header = GroupHeader {
        file: *file,
        sequence: Sequence(sequence),
        durable_through: Sequence(durable_through),
        payload_len: payload.len() as u32,
        payload_crc: crc32fast::hash(&payload),
        entries: entries.len() as u32,
    };
    let mut bytes = vec![0; header.disk_len() as usize];
    header.encode(&mut bytes);
    bytes[GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + payload.len()].copy_from_slice(&payload);
    bytes
}

fn image() -> Vec<u8> {
    let file = header();
    let mut image = block_of(&file);
    image.extend(group(&file, 40, 30, &entries()));
    image.extend(group(&file, 41, 40, &entries()));
    image.extend(group(&file, 42, 41, &[]));
    image.resize(image.len() + 2 * BLOCK_BYTES, 0);
    image
}

#[test]
fn a_file_header_survives_the_disk_and_any_flipped_bit_is_noticed() {
    let block = block_of(&header());
    assert_eq!(FileHeader::parse(&block), HeaderRead::Valid(header()));
    assert_eq!(FileHeader::parse(&vec![0; BLOCK_BYTES]), HeaderRead::Blank);
    for bit in 0..512 * 8 {
        let mut flipped = block.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            FileHeader::parse(&flipped),
            HeaderRead::Unreadable,
            "bit {bit}"
        );
    }
}

#[test]
fn a_newer_version_is_told_apart_from_damage() {
    let mut block = block_of(&header());
    block[8..12].copy_from_slice(&(VERSION + 4).to_le_bytes());
    assert_eq!(
        FileHeader::parse(&block),
        HeaderRead::Unreadable,
        "without its checksum it is damage"
    );
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..512]);
    block[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    assert_eq!(FileHeader::parse(&block), HeaderRead::Newer(VERSION + 4));
}

#[test]
fn every_kind_of_entry_comes_back_as_it_was() {
    let seed = EntrySeed::new(5, Sequence(6));
    let mut payload = Vec::new();
    for entry in &entries() {
        let entry = as_entry(entry);
        let (head, body) = entry.encode(seed);
        assert_eq!(entry.encoded_len(), head.len() + body.bytes().len());
        payload.extend_from_slice(&head);
        payload.extend_from_slice(body.bytes());
    }
    let back: Vec<_> = Entries::new(&payload, seed)
        .map(|seen| match seen {
            Seen::Entry(entry) => entry.to_owned(),
            Seen::Lost(lost) => panic!("{lost:?}"),
        })
        .collect();
    assert_eq!(back, entries());
    for other in [
        EntrySeed::new(5, Sequence(7)),
        EntrySeed::new(4, Sequence(6)),
    ] {
        assert_eq!(
            Entries::new(&payload, other).count(),
            0,
            "another group's entries are not this one's"
        );
    }
}

#[test]
fn a_damaged_body_still_tells_whose_it_was() {
    let seed = EntrySeed::new(1, Sequence(1));
    let all = entries();
    let (head, body) = as_entry(&all[1]).encode(seed);
    let mut payload = head.to_vec();
    payload.extend_from_slice(body.bytes());
    payload[300] ^= 1;
    let Some(Seen::Lost(lost)) = Entries::new(&payload, seed).next() else {
        panic!("the damage must show")
    };
    assert_eq!(
        (lost.partition, lost.index, lost.log_end),
        (partition(4), LogIndex(8), Offset(73))
    );
    assert!(lost.of_producers, "it was an idempotent producer's");
}

#[test]
fn a_damaged_snapshot_is_told_where_nothing_else_has_it() {
    let seed = EntrySeed::new(1, Sequence(1));
    let all = entries();
    let walk = |entry: &OwnedEntry| {
        let (head, body) = as_entry(entry).encode(seed);
        let mut payload = head.to_vec();
        payload.extend_from_slice(body.bytes());
        *payload.last_mut().expect("a body") ^= 1;
        let mut entries = Entries::new(&payload, seed);
        let lost = entries.next().map(|seen| match seen {
            Seen::Lost(lost) => lost,
            Seen::Entry(entry) => panic!("{entry:?}"),
        });
        (lost, entries.are_producers_lost(), entries.position())
    };
    let (lost, of_checkpoint, _) = walk(&all[6]);
    let lost = lost.expect("it is the only one");
    assert!(lost.of_producers && lost.index == LogIndex(0) && !of_checkpoint);
    let (lost, of_checkpoint, position) = walk(&all[7]);
    assert_eq!((lost, of_checkpoint, position), (None, true, 64 + 70));
}

#[test]
fn a_file_of_the_version_before_is_read() {
    let mut image = image();
    let renew = |image: &mut [u8], at: usize, from: usize, to: usize| {
        let crc = crc32fast::hash(&image[from..to]);
        image[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    };
    image[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&image[..12]);
    hasher.update(&image[16..512]);
    image[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    let positions: Vec<_> = inspect(&image).groups.iter().map(|g| g.position).collect();
    for at in positions.into_iter().map(|at| at as usize) {
        image[at + 8..at + 10].copy_from_slice(&1_u16.to_le_bytes());
        renew(&mut image, at + 4, at + 8, at + GROUP_HEADER_BYTES);
    }
    let old = inspect(&image);
    assert_eq!(old.header, Some(header()));
    assert_eq!((old.groups.len(), old.entries), (3, 18));
    assert!(old.groups.iter().all(|group| group.intact));
}

#[test]
fn an_image_is_read_and_no_flipped_bit_of_a_group_goes_unnoticed() {
    let image = image();
    let whole = inspect(&image);
    assert_eq!(whole.header, Some(header()));
    assert_eq!(
        whole
            .groups
            .iter()
            .map(|g| (g.sequence.0, g.intact))
            .collect::<Vec<_>>(),
        [(40, true), (41, true), (42, true)]
    );
    assert_eq!((whole.entries, whole.lost_entries), (18, 0));
    let first = &whole.groups[0];
    let covered = GROUP_HEADER_BYTES + first.payload_len as usize;
    for bit in (0..covered * 8).step_by(7) {
        let mut flipped = image.clone();
        flipped[BLOCK_BYTES + bit / 8] ^= 1 << (bit % 8);
        let groups = inspect(&flipped).groups;
        assert!(
            !groups.iter().any(|g| g.sequence.0 == 40 && g.intact),
            "bit {bit}"
        );
        assert!(
            groups.iter().any(|g| g.sequence.0 == 41 && g.intact),
            "bit {bit} hides the next group"
        );
    }
}

#[test]
fn a_lost_file_header_is_replaced_by_the_copy_in_the_first_group() {
    let mut image = image();
    image[100] ^= 1;
    assert_eq!(inspect(&image).header, Some(header()));
}

#[test]
fn groups_of_an_earlier_use_or_in_a_record_are_not_taken_for_the_file_s_own() {
    let mut earlier = header();
    earlier.file = FileNumber(5);
    let mut guessed = header();
    guessed.salt ^= 1;
    let mut image = image();
    let at = image.len() - 2 * BLOCK_BYTES;
    for other in [earlier, guessed] {
        let stale = group(&other, 43, 42, &[]);
        image[at..at + BLOCK_BYTES].copy_from_slice(&stale);
        assert_eq!(inspect(&image).groups.len(), 3);
    }
    let own = group(&header(), 43, 42, &[]);
    image[at..at + BLOCK_BYTES].copy_from_slice(&own);
    assert_eq!(
        inspect(&image).groups.len(),
        4,
        "the same bytes with the right identity count"
    );
}

proptest! {
    #[test]
    fn the_parser_takes_any_bytes(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..3 * BLOCK_BYTES),
        keep in 0..5 * BLOCK_BYTES,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
    ) {
        let _ = inspect(&bytes);
        let mut damaged = image();
        for (at, byte) in changes {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        damaged.truncate(keep);
        damaged.append(&mut bytes);
        let _ = inspect(&damaged);
    }
}
