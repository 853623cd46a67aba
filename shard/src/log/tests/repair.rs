//! A journal with a flipped bit, in each of its blocks in turn: what the partition is then, what a
//! repair makes of it, and what becomes of partitions that the journal has forgotten.

use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use millrace_wire::batch::{DEFAULT_MAX_UNCOMPRESSED_BYTES, Records};
use millrace_wire::ids::Offset;

use super::{KEEP_ALL, make, open, produce};
use crate::env::BLOCK_BYTES;
use crate::env::Env;
use crate::env::simulated::{NodeId, SimulatedEnv, Simulation};
use crate::error::StorageError;
use crate::log::{Partition, PartitionStatus};
use crate::shard::SET_ASIDE_DIRECTORY;

const NODE: NodeId = NodeId(0);
/// Blocks of a journal file that hold something in these tests, and some more.
const BLOCKS: u64 = 24;

fn places() -> impl Iterator<Item = (u64, Range<u64>)> {
    (0..BLOCKS).flat_map(|block| PARTS.map(|part| (block, part)))
}

/// In a block that a group begins with: its first entry's header, and that entry's body.
const PARTS: [Range<u64>; 2] = [128..192, 192..1_600];

/// Flips a bit in a part of one block of the journal, whichever of its files is in use.
fn flip(simulation: &Simulation, block: u64, part: &Range<u64>) {
    let at = block * BLOCK_BYTES as u64;
    for (path, _) in simulation.files(NODE) {
        if path.ends_with(".journal") {
            simulation.flip_bits(NODE, Path::new(&path), at + part.start..at + part.end);
        }
    }
}

/// Reads from `from` to the end; every batch must follow the one before.
async fn read_through(partition: &Rc<Partition<SimulatedEnv>>, mut from: Offset) -> usize {
    let mut records = 0;
    while from < partition.watermarks().visible {
        let read = partition.read(from, 1 << 20, true).await.unwrap();
        assert!(!read.batches.is_empty(), "nothing at {from}");
        for batch in read.batches {
            let decoded = Records::decode(&batch, DEFAULT_MAX_UNCOMPRESSED_BYTES).unwrap();
            let header = *decoded.header();
            assert!(header.base_offset <= from && header.next_offset() > from);
            from = header.next_offset();
            records += decoded.map(Result::unwrap).count();
        }
    }
    records
}

#[test]
fn after_a_repair_no_offset_is_given_out_again_and_no_deleted_record_is_back() {
    let (mut damaged, mut far) = (0, 0);
    for (block, part) in places() {
        let simulation = Simulation::new(block);
        simulation.run(|env| async move {
            let shard = open(&env).await;
            let partition = make(&shard, 1, KEEP_ALL).await;
            for number in 0..4 {
                produce(&partition, 1_000 + number, 1_500).await;
            }
            partition.delete_records(Offset(3)).await.unwrap();
            for number in 4..8 {
                produce(&partition, 1_000 + number, 1_500).await;
            }
            // Long enough for the journal's seal.
            env.sleep(std::time::Duration::from_secs(1)).await;
        });
        simulation.kill(NODE);
        flip(&simulation, block, &part);
        simulation.restart(NODE);
        let found = simulation.run(move |env| async move {
            let shard = open(&env).await;
            let partition = make(&shard, 1, KEEP_ALL).await;
            let was_damaged = partition.status() != PartitionStatus::Serving;
            assert!(
                partition.watermarks().log_start >= Offset(3) || was_damaged,
                "block {block}: deleted records are back"
            );
            let whole = partition.watermarks().appended;
            assert!(was_damaged || whole == Offset(16), "block {block}: {whole}");
            let goes_on = partition.accept_data_loss().await.unwrap();
            assert!(
                goes_on >= Offset(16),
                "block {block}: it goes on at {goes_on}"
            );
            assert_eq!(produce(&partition, 3_000, 100).await, goes_on);
            let log_start = partition.watermarks().log_start;
            let records = read_through(&partition, log_start).await;
            shard.shutdown().await;
            // The same again from the disk.
            let shard = open(&env).await;
            let partition = make(&shard, 1, KEEP_ALL).await;
            assert_eq!(
                partition.status(),
                PartitionStatus::Serving,
                "block {block}"
            );
            assert_eq!(partition.watermarks().visible, goes_on.advance(2));
            assert_eq!(read_through(&partition, log_start).await, records);
            shard.shutdown().await;
            (was_damaged, goes_on)
        });
        damaged += u64::from(found.0);
        far += u64::from(found.1 > Offset(1_000_000));
    }
    assert!(damaged > 4, "{damaged} flips did harm");
    assert!(far < damaged, "most losses say how far they reach");
}

#[test]
fn new_partitions_need_a_repair_only_until_all_old_ones_have_been_asked_for() {
    let mut forgotten = 0;
    for (block, part) in places() {
        let simulation = Simulation::new(100 + block);
        simulation.run(|env| async move {
            let shard = open(&env).await;
            let partition = make(&shard, 1, KEEP_ALL).await;
            for number in 0..2 {
                produce(&partition, 1_000 + number, 1_500).await;
            }
            partition.request_flush(true);
            env.sleep(std::time::Duration::from_secs(1)).await;
        });
        simulation.kill(NODE);
        flip(&simulation, block, &part);
        simulation.restart(NODE);
        // This start finds the damage, and ends before anybody asked for anything.
        simulation.run(|env| async move { open(&env).await.shutdown().await });
        simulation.kill(NODE);
        simulation.restart(NODE);
        forgotten += simulation.run(|env| async move {
            let shard = open(&env).await;
            let unsure = shard.partitions_may_be_missing();
            let known = !shard.hosted().is_empty();
            assert!(known || unsure, "it is forgotten without a word");
            let old = make(&shard, 1, KEEP_ALL).await.status();
            assert!(known || old != PartitionStatus::Serving);
            if unsure {
                assert_ne!(
                    make(&shard, 2, KEEP_ALL).await.status(),
                    PartitionStatus::Serving
                );
            }
            shard.all_asked_for().await.unwrap();
            assert_eq!(
                make(&shard, 3, KEEP_ALL).await.status(),
                PartitionStatus::Serving
            );
            shard.shutdown().await;
            let shard = open(&env).await;
            assert!(!shard.partitions_may_be_missing());
            shard.shutdown().await;
            if !known {
                let aside = Path::new("/data").join(SET_ASIDE_DIRECTORY);
                let kept = env.list_directory(&aside).await.unwrap();
                assert_eq!(kept.len(), 1, "what it had stored is kept");
            }
            u64::from(unsure)
        });
    }
    assert!(forgotten > 0, "no flip made a journal forget");
}

#[test]
fn missing_segments_are_told_and_move_no_log_start() {
    let simulation = Simulation::new(200);
    simulation.run(|env| async move {
        let shard = open(&env).await;
        let partition = make(&shard, 1, KEEP_ALL).await;
        for number in 0..60 {
            produce(&partition, 1_000 + number, 1_500).await;
        }
        shard.shutdown().await;
        let first = Path::new("/data/topic-1/0/00000000000000000000.log");
        env.remove_file(first).await.unwrap();
        let shard = open(&env).await;
        let partition = make(&shard, 1, KEEP_ALL).await;
        for _ in 0..2 {
            let told = partition.read(Offset(0), 1, true).await;
            let Err(StorageError::Corrupt {
                next_readable: Some(next),
                ..
            }) = told
            else {
                panic!("{told:?}");
            };
            assert!(next > Offset(0));
            let read = partition.read(next, 1, true).await.unwrap();
            assert_eq!(read.batches.len(), 1);
            assert_eq!(partition.watermarks().log_start, Offset(0));
        }
    });
}
