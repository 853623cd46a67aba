//! Consumers.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use millrace_wire::batch::{BatchBuilder, Compression};
use millrace_wire::native::Request;
use millrace_wire::native::messages::{ProducePartition, ProduceRequest, ProduceTopic};

use super::world::{Fate, World, config, ms};
use crate::core::ConsumerId;
use crate::core::consumer::Reader;
use crate::{ClientError, ConsumedRecord, ConsumerConfig, ErrorCode, OutOfRange, Start};

/// Stores records, as someone else would.
pub(super) fn store(world: &mut World, partition: u32, values: impl IntoIterator<Item = String>) {
    store_in(world, "t", partition, values);
}

/// Stores records in this topic.
pub(super) fn store_in(
    world: &mut World,
    topic: &str,
    partition: u32,
    values: impl IntoIterator<Item = String>,
) {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    for value in values {
        builder.push(1, None, Some(value.as_bytes()), &[]).unwrap();
    }
    store_batch(world, topic, partition, builder.build().unwrap());
}

/// Stores a batch as it is.
pub(super) fn store_batch(world: &mut World, topic: &str, partition: u32, mut batch: BytesMut) {
    let partitions = vec![ProducePartition {
        partition,
        batch_bytes: batch.len() as u32,
    }];
    let topics = vec![ProduceTopic {
        name: topic.into(),
        partitions,
    }];
    let request = ProduceRequest {
        acks: 1,
        timeout_ms: 0,
        topics,
    };
    let shard = world.log.owner(partition);
    world.log.produce(shard, request, &mut batch);
}

pub(super) fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|i| i.to_string())
}

/// Everything that there is to poll now.
pub(super) fn drain(
    world: &mut World,
    id: ConsumerId,
    reader: &mut Reader,
) -> Result<Vec<ConsumedRecord>, ClientError> {
    let mut records = Vec::new();
    loop {
        while reader.is_reading() {
            reader.read(records.len() + 10, &mut records)?;
        }
        match world.core.take_chunk(id) {
            Some(chunk) => reader.begin(chunk),
            None => break,
        }
    }
    world.settle();
    match world.core.take_consumer_error(id) {
        Some(error) if records.is_empty() => Err(error),
        _ => Ok(records),
    }
}

fn values(records: &[ConsumedRecord]) -> Vec<String> {
    let text = |value: &Bytes| String::from_utf8(value.to_vec()).unwrap();
    records
        .iter()
        .map(|record| text(record.value.as_ref().unwrap()))
        .collect()
}

fn consumer(world: &mut World, start: Start) -> ConsumerId {
    let id = world.core.open_consumer(ConsumerConfig::default());
    world.core.assign(id, &[("t", 0, start)]);
    world.settle();
    id
}

#[test]
fn starts_are_where_they_say() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    store(&mut world, 0, numbers(0..10));
    store(&mut world, 0, numbers(10..20));
    for (start, expected) in [
        (Start::Earliest, 0..20),
        (Start::Latest, 20..20),
        (Start::Offset(13), 13..20),
        (Start::Timestamp(0), 0..20),
        (Start::Timestamp(2), 20..20),
    ] {
        let id = consumer(&mut world, start);
        let mut reader = Reader::new();
        world.run_for(ms(50));
        assert_eq!(world.core.unresolved(id), 0);
        let begin = world.core.begin(id, "t", 0);
        assert_eq!(begin, Some(expected.start as i64), "{start:?}");
        let records = drain(&mut world, id, &mut reader).unwrap();
        assert_eq!(
            values(&records),
            numbers(expected).collect::<Vec<_>>(),
            "{start:?}"
        );
        assert_eq!(reader.position("t", 0).unwrap_or(20), 20);
        world.core.close_consumer(id);
    }
}

#[test]
fn a_record_at_the_tail_arrives_without_a_poll_interval() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let id = consumer(&mut world, Start::Latest);
    let mut reader = Reader::new();
    world.run_for(ms(4_321));
    for i in 0..20 {
        store(&mut world, 0, numbers(i..i + 1));
        // A fetch is parked at the broker, so one journey brings it.
        world.core.handle_timeout(world.now);
        world.tick();
        world.run_for(ms(3));
        let records = drain(&mut world, id, &mut reader).unwrap();
        assert_eq!(values(&records), [i.to_string()]);
        world.run_for(ms(777));
    }
}

#[test]
fn more_partitions_do_not_disturb_those_that_are_read() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 2);
    store(&mut world, 0, numbers(0..5));
    store(&mut world, 1, numbers(10..12));
    let id = consumer(&mut world, Start::Earliest);
    let mut reader = Reader::new();
    world.run_for(ms(100));
    let read = drain(&mut world, id, &mut reader).unwrap();
    assert_eq!(values(&read), ["0", "1", "2", "3", "4"]);
    let more = [("t", 0, Start::Earliest), ("t", 1, Start::Earliest)];
    world.core.assign_more(id, &more);
    world.run_for(ms(100));
    let read = drain(&mut world, id, &mut reader).unwrap();
    assert_eq!(values(&read), ["10", "11"]);
    store(&mut world, 0, numbers(5..6));
    world.core.handle_timeout(world.now);
    world.tick();
    world.run_for(ms(100));
    let read = drain(&mut world, id, &mut reader).unwrap();
    assert_eq!(values(&read), ["5"]);
}

#[test]
fn a_silent_tail_of_a_thousand_partitions_costs_one_fetch_a_shard() {
    let mut world = World::new(2, config(), 1);
    world.log.create("t", 1000);
    let id = world.core.open_consumer(ConsumerConfig::default());
    let all: Vec<_> = (0..1000)
        .map(|partition| ("t", partition, Start::Latest))
        .collect();
    world.core.assign(id, &all);
    world.run_for(ms(1_000));
    assert_eq!(world.core.unresolved(id), 0);
    assert_eq!((world.log.fetches, world.log.fetched_partitions), (2, 1000));
    world.run_for(ms(100_000));
    assert_eq!(
        world.log.fetches,
        2 * 11,
        "one every max_wait on each shard"
    );
}

#[test]
fn a_busy_partition_among_many_does_not_have_them_all_sent_again() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1000);
    let id = world.core.open_consumer(ConsumerConfig::default());
    let all: Vec<_> = (0..1000)
        .map(|partition| ("t", partition, Start::Latest))
        .collect();
    world.core.assign(id, &all);
    world.run_for(ms(1_000));
    let mut reader = Reader::new();
    let before = world.log.fetched_partitions;
    let mut got = BTreeMap::new();
    for i in 0..500_u32 {
        // Three busy ones, which change over time.
        let partition = i / 100 + 100 * (i % 3);
        store(&mut world, partition, numbers(i as usize..i as usize + 1));
        world.tick();
        world.run_for(ms(20));
        for record in drain(&mut world, id, &mut reader).unwrap() {
            *got.entry(record.partition).or_insert(0) += 1;
        }
    }
    assert_eq!(got.values().sum::<i32>(), 500);
    let named = world.log.fetched_partitions - before;
    assert!(
        named < 500 * 1000 / 10,
        "{named} partitions were named for 500 records"
    );
}

#[test]
fn offsets_out_of_range_follow_the_policy() {
    for (policy, expected) in [
        (OutOfRange::Earliest, Some(5)),
        (OutOfRange::Latest, Some(10)),
        (OutOfRange::Error, None),
    ] {
        let mut world = World::new(1, config(), 1);
        world.log.create("t", 1);
        numbers(0..10).for_each(|value| store(&mut world, 0, [value]));
        world.log.topics.get_mut("t").unwrap()[0].trim(5);
        let config = ConsumerConfig {
            out_of_range: policy,
            ..ConsumerConfig::default()
        };
        let id = world.core.open_consumer(config);
        world.core.assign(id, &[("t", 0, Start::Offset(2))]);
        world.run_for(ms(100));
        let mut reader = Reader::new();
        let drained = drain(&mut world, id, &mut reader);
        match expected {
            Some(offset) => {
                assert_eq!(world.core.begin(id, "t", 0), Some(offset));
                assert_eq!(drained.unwrap().len(), 10 - offset as usize);
            }
            None => {
                let error = drained.unwrap_err();
                let text = error.to_string();
                assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
                assert!(
                    text.contains("offset 2") && text.contains("begin at 5"),
                    "{text}"
                );
                // It is told once, and seeking mends it.
                world.run_for(ms(10_000));
                assert_eq!(drain(&mut world, id, &mut reader), Ok(Vec::new()));
                assert!(world.core.seek(id, "t", 0, Start::Earliest));
                world.run_for(ms(100));
                assert_eq!(drain(&mut world, id, &mut reader).unwrap().len(), 5);
            }
        }
    }
}

#[test]
fn seeking_drops_what_was_fetched_ahead_and_does_not_wait_for_a_parked_fetch() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    store(&mut world, 0, numbers(0..100));
    let id = consumer(&mut world, Start::Earliest);
    let mut reader = Reader::new();
    world.run_for(ms(100));
    let chunk = world.core.take_chunk(id).unwrap();
    reader.begin(chunk);
    let mut records = Vec::new();
    reader.read(10, &mut records).unwrap();
    assert_eq!(
        reader.position("t", 0),
        Some(10),
        "only what was handed out counts"
    );
    world.run_for(ms(100));
    for target in [50, 0, 99, 20, 70, 30] {
        assert!(world.core.seek(id, "t", 0, Start::Offset(target)));
        reader.forget("t", 0);
        world.run_for(ms(20));
        let records = drain(&mut world, id, &mut reader).unwrap();
        let expected: Vec<_> = numbers(target as usize..100).collect();
        // At most a few fetches are out, so the last of many quick seeks may wait a second.
        let records = if records.is_empty() {
            world.run_for(ms(1_100));
            drain(&mut world, id, &mut reader).unwrap()
        } else {
            records
        };
        assert_eq!(values(&records), expected, "after seeking {target}");
    }
    assert!(
        !world.core.seek(id, "t", 1, Start::Earliest),
        "it is not assigned"
    );
}

#[test]
fn prefetched_bytes_are_bounded() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 4);
    for partition in 0..4 {
        for i in 0..50 {
            store(
                &mut world,
                partition,
                [format!("{partition}-{i}-{}", noise(i, 4000))],
            );
        }
    }
    let config = ConsumerConfig {
        prefetch_bytes: 40_000,
        partition_max_bytes: 20_000,
        ..ConsumerConfig::default()
    };
    let id = world.core.open_consumer(config);
    let all: Vec<_> = (0..4)
        .map(|partition| ("t", partition, Start::Earliest))
        .collect();
    world.core.assign(id, &all);
    world.run_for(ms(1_000));
    let stored: usize = world.log.topics["t"]
        .iter()
        .flat_map(|p| &p.batches)
        .map(|b| b.1.len())
        .sum();
    assert!(stored > 400_000);
    let mut chunks = Vec::new();
    while let Some(chunk) = world.core.take_chunk(id) {
        chunks.push(chunk);
    }
    let buffered: usize = chunks.iter().map(|chunk| chunk.data.len()).sum();
    assert!((10_000..=45_000).contains(&buffered), "{buffered}");
    // As it is polled, the rest comes.
    let mut reader = Reader::new();
    let mut records = Vec::new();
    for chunk in chunks {
        reader.begin(chunk);
        while reader.is_reading() {
            reader.read(records.len() + 7, &mut records).unwrap();
        }
    }
    for _ in 0..100 {
        world.settle();
        world.run_for(ms(10));
        records.extend(drain(&mut world, id, &mut reader).unwrap());
    }
    assert_eq!(records.len(), 200);
}

/// Text that does not compress.
fn noise(seed: usize, length: usize) -> String {
    let mut random = crate::core::random::Random::new(seed as u64);
    (0..length)
        .map(|_| char::from(33 + random.below(90) as u8))
        .collect()
}

#[test]
fn damage_is_told_and_never_given_out() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    (0..3).for_each(|i| store(&mut world, 0, numbers(i * 10..i * 10 + 10)));
    let batches = &mut world.log.topics.get_mut("t").unwrap()[0].batches;
    let mut damaged = BytesMut::from(&batches[1].1[..]);
    *damaged.last_mut().unwrap() ^= 1;
    batches[1].1 = damaged.freeze();
    let id = consumer(&mut world, Start::Earliest);
    let mut reader = Reader::new();
    world.run_for(ms(100));
    let chunk = world.core.take_chunk(id).unwrap();
    reader.begin(chunk);
    let mut records = Vec::new();
    let error = reader.read(1000, &mut records).unwrap_err();
    assert_eq!(values(&records), numbers(0..10).collect::<Vec<_>>());
    let text = error.to_string();
    assert!(text.contains("offset 10") && text.contains("CRC"), "{text}");
    assert_eq!(reader.position("t", 0), Some(10));
    world.core.rest(id, "t", 0);
    world.run_for(ms(10_000));
    assert_eq!(drain(&mut world, id, &mut reader), Ok(Vec::new()));
    world.core.seek(id, "t", 0, Start::Offset(20));
    world.run_for(ms(100));
    let records = drain(&mut world, id, &mut reader).unwrap();
    assert_eq!(values(&records), numbers(20..30).collect::<Vec<_>>());
}

#[test]
fn a_missing_topic_and_a_missing_partition_are_errors() {
    let mut world = World::new(1, config(), 1);
    let id = consumer(&mut world, Start::Latest);
    world.run_for(ms(3_000));
    let error = world.core.take_consumer_error(id).unwrap();
    assert_eq!(error, ClientError::UnknownTopic { topic: "t".into() });
    world.log.create("t", 1);
    world
        .core
        .assign(id, &[("t", 0, Start::Latest), ("t", 5, Start::Latest)]);
    world.run_for(ms(3_000));
    let error = world.core.take_consumer_error(id).unwrap();
    assert!(
        matches!(error, ClientError::UnknownPartition { partition: 5, .. }),
        "{error}"
    );
    assert_eq!(world.core.unresolved(id), 0);
    assert_eq!(world.core.begin(id, "t", 0), Some(0));
}

#[test]
fn a_broken_connection_does_not_stop_the_reading() {
    let mut world = World::new(2, config(), 1);
    world.log.create("t", 1);
    let mut fetches = 0;
    world.script = Box::new(move |request| {
        fetches += u32::from(matches!(request, Request::Fetch(_)));
        match request {
            Request::Fetch(_) if fetches % 3 == 0 => Fate::ServeAndBreak,
            Request::Fetch(_) if fetches % 5 == 0 => Fate::Refuse(ErrorCode::Overloaded),
            _ => Fate::Serve,
        }
    });
    let id = consumer(&mut world, Start::Earliest);
    let mut reader = Reader::new();
    let mut records = Vec::new();
    for i in 0..50 {
        store(&mut world, 0, numbers(i..i + 1));
        world.tick();
        world.run_for(ms(100));
        records.extend(drain(&mut world, id, &mut reader).unwrap());
    }
    world.run_for(ms(5_000));
    records.extend(drain(&mut world, id, &mut reader).unwrap());
    assert_eq!(values(&records), numbers(0..50).collect::<Vec<_>>());
}
