//! Segments against a model, on a disk that loses, tears, fills up and flips.

mod damage;
mod format;
mod glommio;
mod model;
mod small;
mod unreadable;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use millrace_wire::batch::{BatchBuilder, Compression, set_base_offset};
use millrace_wire::ids::{LogIndex, Offset, PartitionId, PartitionIndex, Term, TopicId, TopicName};

use super::{FileCache, SegmentEnd, SegmentEntry, SegmentSettings, Segments};
use crate::env::Env;

const PARTITION: PartitionId = PartitionId {
    topic: TopicId(0x1234_5678_9abc_def0),
    partition: PartitionIndex(3),
};

/// A small generator, so that a test's draws do not depend on the simulation's.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn directory() -> PathBuf {
    PathBuf::from("/data/topic/3")
}

/// What a broker has done before it opens a partition.
async fn make_data_directory<E: Env>(env: E) {
    env.create_directory(Path::new("/data"))
        .await
        .expect("a directory");
    env.sync_directory(Path::new("/")).await.expect("a sync");
}

fn open<E: Env>(env: &E, end: SegmentEnd, open_files: usize) -> Rc<Segments<E>> {
    open_in(env, directory(), end, open_files)
}

fn open_in<E: Env>(
    env: &E,
    directory: PathBuf,
    end: SegmentEnd,
    open_files: usize,
) -> Rc<Segments<E>> {
    let topic: TopicName = "topic".parse().expect("a good name");
    let files = FileCache::new(env.clone(), open_files);
    Rc::new(Segments::new(
        env.clone(),
        directory,
        PARTITION,
        &topic,
        end,
        files,
    ))
}

fn empty() -> SegmentEnd {
    SegmentEnd::empty(Offset(0), LogIndex(1), Term(0))
}

const SETTINGS: SegmentSettings = SegmentSettings {
    segment_bytes: 1 << 30,
    segment_ms: u64::MAX,
    index_interval_bytes: 4096,
};

/// A batch of `records` records whose values take about `bytes` in all, the last with the largest
/// timestamp.
fn entry(index: u64, offset: i64, records: u32, bytes: usize, max_timestamp: i64) -> SegmentEntry {
    let mut builder = BatchBuilder::new(Compression::None);
    let value: Vec<u8> = (0..bytes / records as usize)
        .map(|at| (at as u64 * 7 + index) as u8)
        .collect();
    for left in (0..records).rev() {
        let timestamp = max_timestamp - i64::from(left);
        builder
            .push(timestamp, None, Some(&value), &[])
            .expect("a small record");
    }
    let mut batch = builder.build().expect("a batch with records");
    set_base_offset(&mut batch, Offset(offset));
    SegmentEntry {
        index: LogIndex(index),
        term: Term(1),
        base_offset: Offset(offset),
        record_count: records,
        max_timestamp,
        batch: batch.freeze(),
    }
}

/// `count` entries of `bytes` each, one record in each, times ascending.
fn entries(count: u64, bytes: usize) -> Vec<SegmentEntry> {
    (0..count)
        .map(|at| entry(at + 1, at as i64, 1, bytes, 1000 + at as i64))
        .collect()
}
