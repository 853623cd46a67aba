//! The log of one shard, from the outside, in the simulation. What survives a crash is the business
//! of `power_loss`; here are the rules of a quiet day, in `duplicates` what idempotent producers may
//! rely on, and in `races` what meets what.

mod duplicates;
mod races;
mod repair;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use millrace_wire::batch::{BatchBuilder, Compression};
use millrace_wire::ids::{Offset, PartitionId, PartitionIndex, ShardId, TopicId, TopicName};

use super::{FoundOffset, OffsetQuery, Partition, PartitionSettings, PartitionStatus};
use crate::env::Env;
use crate::env::simulated::{NodeId, SimulatedEnv, Simulation};
use crate::error::StorageError;
use crate::journal::JournalConfig;
use crate::local::Event;
use crate::shard::{Shard, ShardConfig};

const KEEP_ALL: PartitionSettings = PartitionSettings {
    retention_ms: None,
    retention_bytes: None,
    segment_bytes: 16 << 10,
    segment_ms: u64::MAX,
};

fn config() -> ShardConfig {
    let journal = JournalConfig {
        file_bytes: 8 << 20,
        ..JournalConfig::new(PathBuf::from("/data/@journal/0000"))
    };
    ShardConfig {
        shard: ShardId(0),
        shard_count: 1,
        data_directory: PathBuf::from("/data"),
        journal,
        cache_bytes: 64 << 10,
        unwritten_bytes: 48 << 10,
        disk_reserve_bytes: 1 << 20,
        flush_bytes: 8 << 10,
        index_interval_bytes: 4 << 10,
        open_files_max: 8,
        producer_expiration: Duration::from_secs(3_600),
        housekeeping_interval: Duration::from_millis(100),
        space_interval: Duration::from_millis(100),
    }
}

fn partition_id(topic: u128) -> PartitionId {
    PartitionId {
        topic: TopicId(topic),
        partition: PartitionIndex(0),
    }
}

fn name(topic: u128) -> TopicName {
    format!("topic-{topic}").parse().unwrap()
}

fn batch(timestamp: i64, value_bytes: usize) -> BytesMut {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    // Does not compress, so that lengths are what they seem.
    let mut state = timestamp as u64 | 1;
    let value: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(value_bytes)
    .collect();
    builder.push(timestamp, None, Some(&value), &[]).unwrap();
    builder
        .push(timestamp - 5, None, Some(b"older"), &[])
        .unwrap();
    builder.build().unwrap()
}

async fn produce(
    partition: &Rc<Partition<SimulatedEnv>>,
    timestamp: i64,
    value_bytes: usize,
) -> Offset {
    let batch = batch(timestamp, value_bytes);
    partition.append_room(batch.len()).await.unwrap();
    let appended = partition.append(batch, 2, timestamp).unwrap();
    appended.durable.wait().await.unwrap();
    appended.base_offset
}

async fn open(env: &SimulatedEnv) -> Rc<Shard<SimulatedEnv>> {
    env.create_directory(Path::new("/data/@journal/0000"))
        .await
        .unwrap();
    Shard::open(env.clone(), config()).await.unwrap()
}

/// Asks for a partition, which is made or found.
async fn make(
    shard: &Rc<Shard<SimulatedEnv>>,
    topic: u128,
    settings: PartitionSettings,
) -> Rc<Partition<SimulatedEnv>> {
    let (id, name) = (partition_id(topic), name(topic));
    let made = shard.create_partition(id, &name, settings).await;
    made.expect("it is made or found")
}

#[test]
fn an_append_is_visible_when_durable_and_wakes_who_waits() {
    Simulation::new(1).run(|env| async move {
        let shard = open(&env).await;
        let partition = make(&shard, 1, KEEP_ALL).await;
        let event = Rc::new(Event::new());
        let listener = event.listen();
        let registration = partition.watch(Offset(0), &event);
        let appended = partition.append(batch(100, 10), 2, 100).unwrap();
        let marks = partition.watermarks();
        assert_eq!(
            (marks.appended, marks.durable, marks.visible),
            (Offset(2), Offset(0), Offset(0))
        );
        assert!(
            partition
                .read(Offset(0), 1_000, true)
                .await
                .unwrap()
                .batches
                .is_empty()
        );
        appended.durable.wait().await.unwrap();
        listener.await;
        drop(registration);
        assert_eq!(partition.watermarks().visible, Offset(2));
        let read = partition.read(Offset(1), 1, true).await.unwrap();
        assert_eq!(read.batches.len(), 1, "the first batch always fits");
        assert!(
            partition
                .read(Offset(1), 1, false)
                .await
                .unwrap()
                .batches
                .is_empty()
        );
        let beyond = partition.read(Offset(3), 1, true).await;
        assert!(
            matches!(beyond, Err(StorageError::OffsetOutOfRange { .. })),
            "{beyond:?}"
        );
    });
}

#[test]
fn records_are_found_by_time_in_memory_and_in_segments() {
    Simulation::new(2).run(|env| async move {
        let shard = open(&env).await;
        let partition = make(&shard, 1, KEEP_ALL).await;
        for number in 0..60 {
            produce(&partition, 1_000 + number * 10, 1_500).await;
        }
        assert!(
            partition.safe.get().next_offset > Offset(40),
            "most of it is in segments"
        );
        assert!(
            partition.cache.borrow().start() > Some(Offset(20)),
            "the cache is bounded"
        );
        let found = |offset, timestamp| {
            Some(FoundOffset {
                offset: Offset(offset),
                timestamp,
            })
        };
        let at = |timestamp| partition.find_offset(OffsetQuery::AtTimestamp(timestamp));
        assert_eq!(at(0).await.unwrap(), found(0, Some(1_000)));
        assert_eq!(at(1_041).await.unwrap(), found(10, Some(1_050)));
        assert_eq!(at(1_589).await.unwrap(), found(118, Some(1_590)));
        assert_eq!(at(1_591).await.unwrap(), None);
        let newest = partition
            .find_offset(OffsetQuery::MaxTimestamp)
            .await
            .unwrap();
        assert_eq!(newest, found(118, Some(1_590)));
        assert_eq!(
            partition.find_offset(OffsetQuery::Latest).await.unwrap(),
            found(120, None)
        );
        // The newest record of its batch is deleted: the other one is what is left.
        partition.delete_records(Offset(119)).await.unwrap();
        let newest = partition
            .find_offset(OffsetQuery::MaxTimestamp)
            .await
            .unwrap();
        assert_eq!(newest, found(119, Some(1_585)));
        assert_eq!(
            partition.find_offset(OffsetQuery::Earliest).await.unwrap(),
            found(119, None)
        );
    });
}

#[test]
fn retention_by_bytes_keeps_as_much_as_it_says_by_whole_segments() {
    Simulation::new(3).run(|env| async move {
        let shard = open(&env).await;
        let settings = PartitionSettings {
            retention_bytes: Some(40 << 10),
            ..KEEP_ALL
        };
        let partition = make(&shard, 1, settings).await;
        for number in 0..100 {
            produce(&partition, 1_000 + number, 1_500).await;
        }
        env.sleep(Duration::from_secs(1)).await;
        let size = partition.size_bytes().await.unwrap();
        assert!(
            (40 << 10..(40 + 20) << 10).contains(&size),
            "{size} bytes are kept"
        );
        assert!(partition.watermarks().log_start > Offset(0));
        let early = partition.read(Offset(0), 1, true).await;
        assert!(
            matches!(early, Err(StorageError::OffsetOutOfRange { .. })),
            "{early:?}"
        );
    });
}

#[test]
fn retention_by_time_reaches_an_idle_partition_and_spares_a_young_one() {
    Simulation::new(4).run(|env| async move {
        let shard = open(&env).await;
        let settings = PartitionSettings {
            retention_ms: Some(5_000),
            segment_ms: 1_000,
            ..KEEP_ALL
        };
        let partition = make(&shard, 1, settings).await;
        for _ in 0..3 {
            produce(&partition, env.wall_clock_ms(), 100).await;
        }
        env.sleep(Duration::from_millis(4_000)).await;
        assert_eq!(partition.watermarks().log_start, Offset(0), "still young");
        env.sleep(Duration::from_millis(2_000)).await;
        assert_eq!(
            partition.watermarks().log_start,
            Offset(6),
            "all of it is too old"
        );
        assert_eq!(
            produce(&partition, env.wall_clock_ms(), 100).await,
            Offset(6)
        );
        assert_eq!(
            partition
                .read(Offset(6), 1_000, true)
                .await
                .unwrap()
                .batches
                .len(),
            1
        );
    });
}

#[test]
fn every_figure_of_the_storage_moves() {
    let simulation = Simulation::new(5);
    simulation.run(|env| async move {
        let shard = open(&env).await;
        let partition = make(&shard, 1, KEEP_ALL).await;
        let event = Rc::new(Event::new());
        let registration = partition.watch(Offset(0), &event);
        for number in 0..100 {
            produce(&partition, 1_000 + number, 1_500).await;
        }
        drop(registration);
        for from in [0, 2, 4, 199] {
            partition.read(Offset(from), 10_000, true).await.unwrap();
        }
        assert!(partition.append(BytesMut::new(), 0, 0).is_err());
        duplicates::put_twice(&partition).await;
        let burst: Vec<_> = (0..40).map(|_| produce(&partition, 2_000, 4_000)).collect();
        futures_util::future::join_all(burst).await;
        partition.delete_records(Offset(150)).await.unwrap();
        env.sleep(Duration::from_secs(1)).await;
        let snapshot = shard.snapshot();
        // Figures of faults, of the socket and of the journal's rare moments stay at rest here.
        let at_rest = [
            "disk_full",
            "corrupt_reads",
            "panics",
            "disk_space_low",
            "journal_waits_for_file",
            "segment_index_rebuilds",
            "segment_damages",
            "unwritten_bytes",
        ];
        for (counter, value) in &snapshot.counters {
            assert!(
                *value > 0 || at_rest.contains(counter),
                "{counter} has not moved: {snapshot:?}"
            );
        }
        for stage in [
            "append",
            "segment_write",
            "segment_read",
            "journal_wait",
            "journal_write",
        ] {
            let summary = snapshot
                .stages
                .iter()
                .find(|summary| summary.stage == stage)
                .unwrap();
            assert!(
                summary.count > 0 && summary.max_nanos > 0,
                "{stage} was never timed"
            );
        }
    });
}

#[test]
fn ten_thousand_idle_partitions_cost_little_and_open_quickly() {
    const PARTITIONS: u128 = 10_000;
    assert!(
        size_of::<Partition<SimulatedEnv>>() < 2_048,
        "{}",
        size_of::<Partition<SimulatedEnv>>()
    );
    let simulation = Simulation::new(6);
    simulation.run(|env| async move {
        let shard = open(&env).await;
        let create = |topic| {
            let shard = Rc::clone(&shard);
            async move {
                shard
                    .create_partition(partition_id(topic), &name(topic), KEEP_ALL)
                    .await
                    .map(drop)
            }
        };
        for result in futures_util::future::join_all((1..=PARTITIONS).map(create)).await {
            result.unwrap();
        }
        shard.shutdown().await;
    });
    let files = simulation.files(NodeId(0)).len();
    assert!(files < 20, "idle partitions have no files: {files}");
    simulation.restart(NodeId(0));
    let shard = simulation.run(|env| async move {
        let started = env.now();
        let shard = open(&env).await;
        assert_eq!(shard.hosted().len() as u128, PARTITIONS);
        assert!(
            env.now().since(started) < Duration::from_secs(1),
            "{:?}",
            env.now().since(started)
        );
        for topic in 1..=PARTITIONS {
            let partition = make(&shard, topic, KEEP_ALL).await;
            assert_eq!(partition.status(), PartitionStatus::Serving);
        }
        assert_eq!(
            shard
                .snapshot()
                .counters
                .iter()
                .find(|(what, _)| *what == "open_segment_files")
                .unwrap()
                .1,
            0
        );
        // Retention looks at each of them once, a few at a time.
        env.sleep(Duration::from_secs(60)).await;
        shard
    });
    let before = simulation.steps();
    simulation.run_for(Duration::from_secs(60));
    let idle = simulation.steps() - before;
    assert!(idle < 10_000, "{idle} polls in an idle minute");
    drop(shard);
}
