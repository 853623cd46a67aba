//! What a disk may bring in place of a journal file.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crc_fast::{CrcAlgorithm, checksum};
use millrace_shard::env::simulated::{NodeId, Simulation};
use millrace_shard::env::{BLOCK_BYTES, Env, File, OpenOptions};
use millrace_shard::journal::format::GROUP_HEADER_BYTES;
use millrace_shard::journal::scan::{Inspection, inspect};
use millrace_shard::journal::{
    Checkpoint, Entry, Journal, JournalConfig, JournalOwner, PartitionCheckpoint, SegmentEnd,
    recover,
};
use millrace_wire::ids::{LogIndex, Offset, PartitionId, PartitionIndex, Term, TopicId};

use crate::Seed;
use crate::allocation::bounded;

/// Reads bytes as recovery reads a file, as they are and again with every checksum put right, so
/// that what the checksums guard is reached too.
pub(crate) fn file(bytes: &[u8]) {
    check(bytes);
    check(&with_right_checksums(bytes));
}

fn check(bytes: &[u8]) {
    // A group seen takes a block, and is held in less than a tenth of that.
    let found: Inspection = bounded(bytes.len() / 8 + 4096, || inspect(bytes));
    let mut end = BLOCK_BYTES as u64;
    for pair in found.groups.windows(2) {
        assert!(pair[0].sequence < pair[1].sequence, "numbers only grow");
    }
    for group in found.groups {
        assert!(group.durable_through < group.sequence);
        if group.intact {
            assert!(group.position >= end && group.end() <= bytes.len() as u64);
            end = group.end();
        }
    }
}

fn crc(parts: &[&[u8]]) -> [u8; 4] {
    (checksum(CrcAlgorithm::Crc32IsoHdlc, &parts.concat()) as u32).to_le_bytes()
}

fn with_right_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= BLOCK_BYTES {
        let right = crc(&[&bytes[..12], &bytes[16..512]]);
        bytes[12..16].copy_from_slice(&right);
    }
    for at in (BLOCK_BYTES..bytes.len()).step_by(BLOCK_BYTES) {
        let group = &mut bytes[at..];
        if group.len() < GROUP_HEADER_BYTES || !group.starts_with(b"MLRG") {
            continue;
        }
        let len = u32::from_le_bytes([group[12], group[13], group[14], group[15]]) as usize;
        if let Some(payload) = group[GROUP_HEADER_BYTES..].get(..len) {
            let right = crc(&[payload]);
            group[16..20].copy_from_slice(&right);
        }
        let right = crc(&[&group[8..GROUP_HEADER_BYTES]]);
        group[4..8].copy_from_slice(&right);
    }
    bytes
}

/// An owner with one partition that appends one batch after the other.
#[derive(Default)]
struct Owner(RefCell<Vec<PartitionCheckpoint>>);

impl JournalOwner for Owner {
    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            partitions: self.0.borrow().clone(),
            oldest_needed: None,
        }
    }

    fn producers(&self, put: &mut dyn FnMut(PartitionId, &[u8])) {
        for state in self.0.borrow().iter() {
            put(state.partition, b"what it remembers");
        }
    }
}

const PARTITION: PartitionId = PartitionId {
    topic: TopicId(0x0fed_cba9_8765_4321),
    partition: PartitionIndex(1),
};

/// The files of a small journal that has rolled, as the journal itself wrote them.
pub(crate) fn seeds() -> Vec<Seed> {
    let config = JournalConfig {
        file_bytes: 16 * BLOCK_BYTES as u64,
        max_group_bytes: BLOCK_BYTES,
        ..JournalConfig::new(PathBuf::from("/journal"))
    };
    let simulation = Simulation::new(1);
    simulation.run(|env| write(env, config));
    let mut files: Vec<_> = simulation.files(NodeId(0));
    files.sort();
    let images = files.into_iter().map(|(path, len)| {
        simulation.run(|env| async move {
            let file = env.open(Path::new(&path), OpenOptions::default()).await;
            let image = file.expect("it is there").read_at(0, len as usize).await;
            let mut image = image.expect("this disk reads");
            let used = image.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            image.truncate(used.next_multiple_of(BLOCK_BYTES));
            image
        })
    });
    let used: Vec<_> = images.filter(|image| image.len() > BLOCK_BYTES).collect();
    ["first", "second"].into_iter().zip(used).collect()
}

async fn write<E: Env>(env: E, config: JournalConfig) {
    let recovery = recover(&env, &config).await.expect("nothing is there");
    let owner = Rc::new(Owner::default());
    let shared: Rc<dyn JournalOwner> = Rc::clone(&owner) as Rc<dyn JournalOwner>;
    let started = recovery.start(env, shared, Rc::default()).await;
    let journal: Rc<Journal<E, ()>> = started.expect("this disk works");
    let mut state = PartitionCheckpoint {
        partition: PARTITION,
        log_start: Offset(0),
        safe: SegmentEnd::empty(Offset(0), LogIndex(1), Term(0)),
        log_end: Offset(0),
        last_index: LogIndex(0),
        last_term: Term(0),
        damaged: None,
    };
    append(&journal, Entry::PartitionCreated(state)).await;
    for number in 0..10 {
        let batch = vec![number as u8; 300 + 700 * number];
        let entry = Entry::Append {
            partition: PARTITION,
            index: LogIndex(state.last_index.0 + 1),
            term: Term(1),
            base_offset: state.log_end,
            record_count: 2,
            idempotent: number % 2 == 1,
            batch: &batch,
        };
        append(&journal, entry).await;
        state.log_end = Offset(state.log_end.0 + 2);
        state.last_index = LogIndex(state.last_index.0 + 1);
        *owner.0.borrow_mut() = vec![state];
    }
    let (partition, safe) = (PARTITION, state.safe);
    append(&journal, Entry::SegmentSafe { partition, safe }).await;
    let snapshot = b"what it remembers now";
    append(
        &journal,
        Entry::Producers {
            partition,
            snapshot,
        },
    )
    .await;
    let log_start = Offset(3);
    append(
        &journal,
        Entry::LogStart {
            partition,
            log_start,
        },
    )
    .await;
    append(&journal, Entry::PartitionRemoved { partition }).await;
    journal.close().await;
}

async fn append<E: Env>(journal: &Journal<E, ()>, entry: Entry<'_>) {
    journal.append_durable(entry).await.expect("it is open");
}
