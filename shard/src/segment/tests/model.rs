//! Seeded runs of everything at once, against a list in memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use millrace_wire::ids::{LogIndex, Offset};

use super::{Random, SETTINGS, empty, entry, open};
use crate::env::simulated::{DiskFaults, NodeId, SimulatedEnv, Simulation, StopReason};
use crate::env::{Env, OnPanic, Queue};
use crate::segment::{SegmentEnd, SegmentEntry, SegmentError, SegmentSettings, Segments};

const NODE: NodeId = NodeId(0);

/// What must be there, whatever happens to the node: this is what the journal would hold.
struct Model {
    random: Random,
    entries: Vec<SegmentEntry>,
    next_offset: i64,
    next_index: u64,
    log_start: Offset,
    /// The last end that the journal made durable.
    journaled: SegmentEnd,
    settings: SegmentSettings,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut random = Random(seed);
        let settings = SegmentSettings {
            segment_bytes: 8192 << random.below(6),
            segment_ms: [5, 50, u64::MAX][random.below(3) as usize],
            index_interval_bytes: 4096 << random.below(3),
        };
        Model {
            random,
            entries: Vec::new(),
            next_offset: 0,
            next_index: 1,
            log_start: Offset(0),
            journaled: empty(),
            settings,
        }
    }

    fn append(&mut self, count: u64) {
        for _ in 0..count {
            let bytes = match self.random.below(20) {
                0 => 5_000 + self.random.below(30_000),
                1..=3 => 1_000 + self.random.below(4_000),
                _ => 10 + self.random.below(500),
            };
            let records = 1 + self.random.below(4) as u32;
            let timestamp = 10_000 + self.next_offset + self.random.below(200) as i64;
            let entry = entry(
                self.next_index,
                self.next_offset,
                records,
                bytes as usize,
                timestamp,
            );
            self.next_offset += i64::from(records);
            self.next_index += 1;
            self.entries.push(entry);
        }
    }

    /// The journal lost what is not in segments, and an operator accepted that.
    fn lose_the_tail(&mut self) {
        let kept = self.journaled.next_offset;
        self.entries.retain(|entry| entry.next_offset() <= kept);
        self.next_offset += self.random.below(3) as i64;
        self.next_index += self.random.below(3);
    }

    /// The entries from the one that holds `from`, or the next, up to the safe end.
    fn from(&self, from: Offset) -> &[SegmentEntry] {
        let skip = self
            .entries
            .partition_point(|entry| entry.next_offset() <= from);
        &self.entries[skip..]
    }

    fn unsafe_from(&self, end: SegmentEnd) -> Vec<SegmentEntry> {
        self.from(end.next_offset).to_vec()
    }

    fn check_read(&self, from: Offset, max_bytes: usize, batches: &[Bytes]) {
        let bytes: usize = batches.iter().map(Bytes::len).sum();
        assert!(
            bytes <= max_bytes || batches.len() == 1,
            "{bytes} bytes are more than {max_bytes}"
        );
        for (number, (batch, entry)) in batches.iter().zip(self.from(from)).enumerate() {
            assert!(
                *batch == entry.batch,
                "batch {number} of the read from {from} is another"
            );
        }
        assert!(batches.len() <= self.from(from).len());
    }
}

type Shared = Rc<RefCell<Model>>;

async fn write(segments: &Segments<SimulatedEnv>, model: &Shared) -> Result<(), SegmentError> {
    let (entries, pad, settings, journals) = {
        let mut model = model.borrow_mut();
        let count = 1 + model.random.below(30);
        model.append(count);
        let pad = model.random.chance(30);
        (
            model.unsafe_from(segments.end()),
            pad,
            model.settings,
            model.random.chance(70),
        )
    };
    let before = segments.end();
    let end = segments.write(&entries, pad, settings).await?;
    assert!(end.next_offset >= before.next_offset && end.next_index >= before.next_index);
    let last = entries.last().expect("there is at least one");
    if pad {
        assert_eq!(end.next_offset, last.next_offset());
        assert_eq!(end.position % 4096, 0);
    }
    let left: u64 = entries
        .iter()
        .filter(|entry| entry.base_offset >= end.next_offset)
        .map(|entry| entry.header().entry_bytes())
        .sum();
    let largest = entries
        .iter()
        .map(|entry| entry.header().entry_bytes())
        .max()
        .unwrap_or(0);
    assert!(
        left <= largest + 4096,
        "{left} bytes were left to the caller"
    );
    if journals {
        model.borrow_mut().journaled = end;
    }
    Ok(())
}

async fn read(segments: &Segments<SimulatedEnv>, model: &Shared) {
    let (mut from, max_bytes, mut times) = {
        let mut model = model.borrow_mut();
        let span = (segments.end().next_offset.0 + 2 - model.log_start.0).max(1) as u64;
        let from = Offset(model.log_start.0 + model.random.below(span) as i64);
        (
            from,
            1 << (8 + model.random.below(10)),
            1 + model.random.below(4),
        )
    };
    while times > 0 {
        times -= 1;
        let safe = segments.end().next_offset;
        let batches = match segments.read(from, max_bytes, true).await {
            Ok(batches) => batches,
            Err(SegmentError::Trimmed { .. }) if from < model.borrow().log_start => return,
            Err(error) => panic!("reading from {from}: {error}"),
        };
        let model = model.borrow();
        model.check_read(from, max_bytes, &batches);
        let has_any = model
            .from(from)
            .first()
            .is_some_and(|entry| entry.next_offset() <= safe);
        assert!(
            !has_any || !batches.is_empty(),
            "nothing was read from {from} of {safe}"
        );
        let Some(read) = batches.len().checked_sub(1) else {
            return;
        };
        from = model.from(from)[read].next_offset();
    }
}

async fn search(segments: &Segments<SimulatedEnv>, model: &Shared) {
    let (from, timestamp) = {
        let mut model = model.borrow_mut();
        let span = (segments.end().next_offset.0 + 1 - model.log_start.0).max(1) as u64;
        let from = Offset(model.log_start.0 + model.random.below(span) as i64);
        let latest = model.next_offset as u64 + 250;
        (from, 10_000 + model.random.below(latest) as i64)
    };
    let safe = segments.end().next_offset;
    let found = segments
        .find_by_timestamp(from, timestamp)
        .await
        .expect("a search");
    let largest = segments.max_timestamp(from).await.expect("a search");
    let model = model.borrow();
    let stored = model
        .from(from)
        .iter()
        .filter(|entry| entry.next_offset() <= safe);
    let expected = stored
        .clone()
        .find(|entry| entry.max_timestamp >= timestamp);
    assert_eq!(
        found.as_ref().map(|found| found.base_offset),
        expected.map(|entry| entry.base_offset),
        "the first batch from {from} at or after {timestamp}"
    );
    assert_eq!(
        found.map(|found| found.batch),
        expected.map(|entry| entry.batch.clone())
    );
    let expected = stored.fold(None, |best: Option<&SegmentEntry>, entry| match best {
        Some(best) if best.max_timestamp >= entry.max_timestamp => Some(best),
        _ => Some(entry),
    });
    assert_eq!(
        largest.map(|found| found.base_offset),
        expected.map(|entry| entry.base_offset)
    );
}

async fn housekeep(segments: &Segments<SimulatedEnv>, model: &Shared) {
    let durable = {
        let mut model = model.borrow_mut();
        let span = model.journaled.next_offset.0 - model.log_start.0 + 1;
        if span > 0 {
            let step = model.random.below(span as u64) as i64;
            model.log_start.0 += step;
        }
        model.journaled
    };
    let log_start = model.borrow().log_start;
    segments
        .remove_before(log_start, durable)
        .await
        .expect("a removal");
    let summaries = segments.summaries().await.expect("summaries");
    let end = segments.end();
    for pair in summaries.windows(2) {
        assert!(pair[0].next_offset <= pair[1].base_offset && pair[0].sealed);
        let removable =
            pair[1].base_offset <= log_start && pair[0].base_offset < durable.segment_base;
        assert!(!removable, "segment {} should be gone", pair[0].base_offset);
    }
    if let Some(last) = summaries.last() {
        assert_eq!(last.next_offset, end.next_offset);
        assert_eq!(last.sealed, end.position == 0);
    }
    let model = model.borrow();
    for summary in &summaries {
        let inside = model.entries.iter().filter(|entry| {
            entry.base_offset >= summary.base_offset && entry.next_offset() <= summary.next_offset
        });
        let largest = inside.clone().map(|entry| entry.max_timestamp).max();
        assert_eq!(
            summary.max_timestamp, largest,
            "of segment {}",
            summary.base_offset
        );
        let bytes: usize = inside.map(|entry| entry.batch.len()).sum();
        assert!(summary.bytes >= bytes as u64);
    }
}

/// Some operations, with a reader beside them. Ends early when the disk is full.
async fn phase(env: SimulatedEnv, segments: Rc<Segments<SimulatedEnv>>, model: Shared) -> bool {
    let done = Rc::new(Cell::new(false));
    let reader = {
        let (segments, model, done, env_inside) =
            (segments.clone(), model.clone(), done.clone(), env.clone());
        env.spawn(
            Queue::Requests,
            "reader",
            OnPanic::StopProcess,
            async move {
                while !done.get() {
                    read(&segments, &model).await;
                    env_inside
                        .sleep(std::time::Duration::from_micros(300))
                        .await;
                }
            },
        )
    };
    let operations = 2 + model.borrow_mut().random.below(10);
    let mut full = false;
    for _ in 0..operations {
        let choice = model.borrow_mut().random.below(12);
        let result = match choice {
            0 => segments.roll().await.map(|end| {
                let mut model = model.borrow_mut();
                if model.random.chance(70) {
                    model.journaled = end;
                }
            }),
            1 => {
                search(&segments, &model).await;
                Ok(())
            }
            2 => {
                housekeep(&segments, &model).await;
                Ok(())
            }
            3 | 4 => {
                read(&segments, &model).await;
                Ok(())
            }
            _ => write(&segments, &model).await,
        };
        match result {
            Ok(()) => {}
            Err(SegmentError::NoSpace { .. }) => full = true,
            Err(error) => panic!("{error}"),
        }
        if full {
            break;
        }
    }
    done.set(true);
    reader.await;
    full
}

/// Everything that must be there is there.
async fn check_all(segments: Rc<Segments<SimulatedEnv>>, model: Shared) {
    let end = segments.end();
    let mut at = model.borrow().log_start;
    while at < end.next_offset {
        let batches = segments.read(at, 100_000, true).await.expect("a read");
        let model = model.borrow();
        model.check_read(at, 100_000, &batches);
        let Some(read) = batches.len().checked_sub(1) else {
            break;
        };
        at = model.from(at)[read].next_offset();
    }
    let safe = model
        .borrow()
        .entries
        .iter()
        .rev()
        .map(|entry| entry.next_offset())
        .find(|next| *next <= end.next_offset);
    assert!(
        at >= safe.unwrap_or(at),
        "the last offset read is {at} of {safe:?}"
    );
}

/// What a set of runs went through, so that the test can tell that it tested something.
#[derive(Default)]
struct Tally {
    crashes: u32,
    full: u32,
    rolls: u64,
    removed: u64,
    ahead: u64,
}

fn space_used(simulation: &Simulation) -> u64 {
    simulation.set_faults(NODE, DiskFaults::default());
    match simulation.try_run(
        NODE,
        |env| async move { env.space(&super::directory()).await },
    ) {
        Ok(space) => space.map_or(0, |space| space.total - space.available),
        Err(_) => 0,
    }
}

fn run(seed: u64, tally: &mut Tally) {
    let simulation = Simulation::new(seed);
    let model: Shared = Rc::new(RefCell::new(Model::new(seed)));
    simulation.run(super::make_data_directory);
    for _life in 0..5 {
        let (end, open_files) = {
            let mut model = model.borrow_mut();
            if model.random.chance(10) {
                model.lose_the_tail();
            }
            (model.journaled, 1 + model.random.below(6) as usize)
        };
        let env = simulation.restart(NODE);
        let segments = open(&env, end, open_files);
        if model.borrow_mut().random.chance(70) {
            let steps = 20 + model.borrow_mut().random.below(4_000);
            simulation.crash_after_steps(NODE, steps);
        }
        for _ in 0..3 {
            let (is_full, room) = {
                let mut model = model.borrow_mut();
                (model.random.chance(25), model.random.below(200_000))
            };
            let capacity_bytes = if is_full {
                space_used(&simulation) + room
            } else {
                1 << 40
            };
            simulation.set_faults(
                NODE,
                DiskFaults {
                    capacity_bytes,
                    ..DiskFaults::default()
                },
            );
            let (shared, inside) = (model.clone(), segments.clone());
            match simulation.try_run(NODE, |env| phase(env, inside, shared)) {
                Ok(full) => tally.full += u32::from(full),
                Err(StopReason::Crashed) => {
                    tally.crashes += 1;
                    break;
                }
                Err(reason) => panic!("seed {seed}: {reason:?}"),
            }
        }
        simulation.set_faults(NODE, DiskFaults::default());
        let counters = &segments.files.counters;
        tally.rolls += counters.rolls.get();
        tally.removed += counters.removed.get();
        tally.ahead += counters.read_ahead_hits.get();
    }
    let env = simulation.restart(NODE);
    let segments = open(&env, model.borrow().journaled, 4);
    simulation.run(|_| check_all(segments, model));
}

#[test]
fn segments_hold_what_the_model_holds_through_crashes_and_full_disks() {
    let seeds = std::env::var("MILLRACE_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(1_000);
    let first = std::env::var("MILLRACE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0);
    let mut tally = Tally::default();
    for seed in first..first + seeds {
        run(seed, &mut tally);
    }
    if seeds >= 1_000 {
        assert!(tally.crashes > 500 && tally.full > 100, "too few faults");
        assert!(
            tally.rolls > 1_000 && tally.removed > 500 && tally.ahead > 500,
            "too little happened"
        );
    }
}

#[test]
fn the_largest_settings_index_as_finely_as_the_smallest() {
    // The index block of a segment that never rolls fills up and is stored in several blocks.
    let simulation = Simulation::new(5);
    let all = super::entries(2_000, 4_000);
    let written = all.clone();
    simulation.run(|env| async move {
        let segments = open(&env, empty(), 4);
        for chunk in written.chunks(50) {
            let mut given = written
                .iter()
                .filter(|entry| entry.base_offset >= segments.end().next_offset);
            let upto = chunk.last().expect("a chunk").base_offset;
            let given: Vec<_> = given
                .by_ref()
                .take_while(|entry| entry.base_offset <= upto)
                .cloned()
                .collect();
            segments
                .write(&given, false, SETTINGS)
                .await
                .expect("a write");
        }
        segments
            .write(&written[1_990..], true, SETTINGS)
            .await
            .expect("a write");
        let blocks = segments.with_active(Offset(0), |active| active.index.stored_blocks);
        assert!(blocks.is_some_and(|blocks| blocks >= 10), "{blocks:?}");
        for from in (0..2_000).step_by(37) {
            let read = segments.read(Offset(from), 1, true).await.expect("a read");
            assert_eq!(read, [written[from as usize].batch.clone()]);
        }
        let found = segments
            .find_by_timestamp(Offset(0), 1_777)
            .await
            .expect("a search");
        assert_eq!(found.map(|found| found.base_offset), Some(Offset(777)));
        assert_eq!(segments.files.counters.index_rebuilds.get(), 0);
        let end = segments.roll().await.expect("a roll");
        assert_eq!(end.next_index, LogIndex(2_001));
        let again = open(&env, end, 4);
        let read = again.read(Offset(1_234), 1, true).await.expect("a read");
        assert_eq!(read, [written[1_234].batch.clone()]);
        assert_eq!(again.files.counters.index_rebuilds.get(), 0);
    });
    drop(all);
}
