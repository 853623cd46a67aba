//! Producers.

use millrace_wire::batch::Records;
use millrace_wire::native::Request;

use super::world::{Fate, World, config, ms};
use crate::core::producer::{Accepted, Push};
use crate::{Acks, ClientError, Compression, ErrorCode, ProducerConfig, Record, UnknownOutcome};

pub(super) fn is_produce(request: &Request) -> bool {
    matches!(request, Request::Produce(_))
}

/// The values stored in a partition, in order.
pub(super) fn stored(world: &World, topic: &str, partition: usize) -> Vec<String> {
    let batches = &world.log.topics[topic][partition].batches;
    let records = batches.iter().flat_map(|(_, batch)| {
        Records::decode(batch, 1 << 20)
            .expect("the batch is whole")
            .map(|record| record.unwrap())
    });
    records
        .map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap())
        .collect()
}

/// Where the record was stored.
pub(super) fn offset(world: &World, accepted: Accepted) -> Option<i64> {
    let place = world.done[&accepted.batch].clone().expect("it is stored");
    place
        .base_offset
        .map(|base| base + i64::from(accepted.index))
}

pub(super) fn record(value: impl ToString) -> Record {
    Record::new("t", value.to_string()).partition(0)
}

#[test]
fn records_that_come_while_a_batch_is_under_way_share_the_next() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let producer = world.core.open_producer(ProducerConfig::default());
    let first = world.push(producer, &record(0));
    for i in 1..100 {
        let accepted = world.core.push(world.now, producer, &record(i), 1);
        world.settle();
        let Push::Accepted(accepted) = accepted else {
            panic!("{accepted:?}")
        };
        assert_ne!(accepted.batch, first.batch);
        assert_eq!(accepted.index, i - 1);
    }
    world.finish();
    assert_eq!(world.count(is_produce), 2);
    assert_eq!(
        stored(&world, "t", 0),
        (0..100).map(|i| i.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(
        world.done[&first.batch].clone().unwrap().base_offset,
        Some(0)
    );
}

#[test]
fn lingering_gathers_and_a_full_batch_or_a_flush_ends_it() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let linger = ProducerConfig {
        linger: ms(50),
        batch_bytes: 500,
        ..ProducerConfig::default()
    };
    let producer = world.core.open_producer(linger);
    world.push(producer, &record("a"));
    world.run_for(ms(45));
    assert_eq!(world.count(is_produce), 0);
    world.push(producer, &record("b"));
    world.run_for(ms(10));
    assert_eq!(
        world.count(is_produce),
        1,
        "both left when the first had lingered"
    );
    world.push(producer, &record("c".repeat(600)));
    world.run_for(ms(5));
    assert_eq!(world.count(is_produce), 2, "a full batch does not linger");
    world.push(producer, &record("d"));
    world.core.flush(world.now, producer);
    world.run_for(ms(5));
    assert_eq!(world.count(is_produce), 3, "a flush ends the lingering");
    assert!(!world.core.has_undelivered());
}

#[test]
fn a_lost_answer_is_retried_and_order_is_kept() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let mut produces = 0;
    world.script = Box::new(move |request| {
        produces += u32::from(is_produce(request));
        match produces {
            1 if is_produce(request) => Fate::ServeAndBreak,
            2 if is_produce(request) => Fate::Refuse(ErrorCode::Overloaded),
            _ => Fate::Serve,
        }
    });
    let producer = world.core.open_producer(ProducerConfig::default());
    let first = world.push(producer, &record(0));
    let second = world.push(producer, &record(1));
    world.finish();
    // The broker knows the first batch again, and tells where it was stored.
    assert_eq!(stored(&world, "t", 0), ["0", "1"]);
    assert_eq!(offset(&world, first), Some(0));
    assert_eq!(offset(&world, second), Some(1));
}

#[test]
fn without_idempotence_a_lost_answer_may_store_twice() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let mut produces = 0;
    world.script = Box::new(move |request| {
        produces += u32::from(is_produce(request));
        match is_produce(request) && produces == 1 {
            true => Fate::ServeAndBreak,
            false => Fate::Serve,
        }
    });
    let plain = ProducerConfig {
        idempotent: false,
        ..ProducerConfig::default()
    };
    let producer = world.core.open_producer(plain);
    let first = world.push(producer, &record(0));
    let second = world.push(producer, &record(1));
    world.finish();
    // The second copy is the one that is acknowledged.
    assert_eq!(stored(&world, "t", 0), ["0", "0", "1"]);
    assert_eq!(offset(&world, first), Some(1));
    assert_eq!(offset(&world, second), Some(2));
    assert_eq!(
        world.count(|request| matches!(request, Request::InitProducer(_))),
        0
    );
}

#[test]
fn an_unknown_outcome_fails_where_the_user_wants_no_duplicates() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let mut produces = 0;
    world.script = Box::new(move |request| {
        produces += u32::from(is_produce(request));
        match produces {
            1 if is_produce(request) => Fate::Refuse(ErrorCode::NotLeader),
            2 if is_produce(request) => Fate::ServeAndBreak,
            _ => Fate::Serve,
        }
    });
    let config = ProducerConfig {
        idempotent: false,
        unknown_outcome: UnknownOutcome::Fail,
        ..ProducerConfig::default()
    };
    let producer = world.core.open_producer(config);
    let first = world.push(producer, &record(0));
    world.finish();
    let second = world.push(producer, &record(1));
    world.finish();
    // What was certainly not stored was sent again; what may have been was not.
    assert_eq!(stored(&world, "t", 0), ["0", "1"]);
    let error = world.done[&first.batch].clone().unwrap_err();
    assert!(
        matches!(error, ClientError::ConnectionLost { .. }),
        "{error}"
    );
    assert!(world.done[&second.batch].is_ok());
}

#[test]
fn an_answer_that_does_not_come_closes_the_connection_and_is_retried() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let mut produces = 0;
    world.script = Box::new(move |request| {
        produces += u32::from(is_produce(request));
        if produces == 1 && is_produce(request) {
            Fate::ServeAndKeepSilent
        } else {
            Fate::Serve
        }
    });
    let producer = world.core.open_producer(ProducerConfig::default());
    let first = world.push(producer, &record(0));
    world.run_for(ms(1_900));
    assert_eq!(world.count(is_produce), 1);
    world.run_for(ms(300));
    assert_eq!(world.dialled.len(), 2);
    assert_eq!(offset(&world, first), Some(0));
    assert_eq!(stored(&world, "t", 0), ["0"]);
}

#[test]
fn delivery_times_out_and_says_why() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    world.script = Box::new(|request| {
        if is_produce(request) {
            Fate::Refuse(ErrorCode::DiskReserveReached)
        } else {
            Fate::Serve
        }
    });
    let config = ProducerConfig {
        delivery_timeout: ms(3_000),
        ..ProducerConfig::default()
    };
    let producer = world.core.open_producer(config);
    let batch = world.push(producer, &record(0)).batch;
    let begun = world.now;
    world.finish();
    let error = world.done[&batch].clone().unwrap_err().to_string();
    assert!(error.contains("DiskReserveReached"), "{error}");
    let took = world.now.since(begun);
    assert!(took >= ms(2_900) && took < ms(3_200), "{took:?}");
    assert!(world.count(is_produce) > 3, "it was tried repeatedly");
}

#[test]
fn what_no_retry_can_mend_fails_at_once() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    world.script = Box::new(|request| {
        if is_produce(request) {
            Fate::Refuse(ErrorCode::MessageTooLarge)
        } else {
            Fate::Serve
        }
    });
    let producer = world.core.open_producer(ProducerConfig::default());
    let batch = world.push(producer, &record(0)).batch;
    world.finish();
    assert_eq!(world.count(is_produce), 1);
    let error = world.done[&batch].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
}

#[test]
fn without_retries_several_batches_of_a_partition_are_under_way() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    world.latency = ms(100);
    let config = ProducerConfig {
        idempotent: false,
        retries: 0,
        max_in_flight: 3,
        batch_bytes: 100,
        ..ProducerConfig::default()
    };
    let producer = world.core.open_producer(config.clone());
    world.push(producer, &record("warm"));
    world.finish();
    let before = world.count(is_produce);
    for i in 0..5 {
        let value = format!("{i}{}", "x".repeat(120));
        assert!(matches!(
            world.core.push(world.now, producer, &record(value), 1),
            Push::Accepted(_)
        ));
    }
    world.settle();
    world.run_for(ms(100));
    assert_eq!(world.count(is_produce) - before, 3);
    world.finish();
    assert_eq!(world.log.topics["t"][0].batches.len(), 6);
    // With retries there is one at a time.
    let producer = world.core.open_producer(ProducerConfig {
        retries: 1,
        ..config
    });
    let before = world.count(is_produce);
    for i in 0..5 {
        let value = format!("{i}{}", "x".repeat(120));
        world.core.push(world.now, producer, &record(value), 1);
    }
    world.settle();
    world.run_for(ms(100));
    assert_eq!(world.count(is_produce) - before, 1);
}

#[test]
fn batches_of_many_partitions_leave_together() {
    let mut world = World::new(2, config(), 1);
    world.log.create("t", 100);
    let producer = world.core.open_producer(ProducerConfig::default());
    world.push(producer, &record("warm"));
    world.push(producer, &Record::new("t", "warm").partition(1));
    world.finish();
    let before = world.count(is_produce);
    for partition in 0..100 {
        let record = Record::new("t", "v").partition(partition);
        assert!(matches!(
            world.core.push(world.now, producer, &record, 1),
            Push::Accepted(_)
        ));
    }
    world.finish();
    assert_eq!(world.count(is_produce) - before, 2, "one request a shard");
    assert!((0..100).all(|partition| !stored(&world, "t", partition).is_empty()));
}

#[test]
fn the_buffer_is_bounded_and_an_oversize_record_may_take_it_whole() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let config = ProducerConfig {
        buffer_bytes: 1000,
        compression: Compression::None,
        ..ProducerConfig::default()
    };
    let producer = world.core.open_producer(config);
    world.push(producer, &record("warm"));
    world.finish();
    let large = record("x".repeat(5000));
    let small = record("x".repeat(100));
    let push = |world: &mut World, record| world.core.push(world.now, producer, record, 1);
    assert!(matches!(push(&mut world, &small), Push::Accepted(_)));
    assert_eq!(push(&mut world, &large), Push::Full);
    world.finish();
    assert!(matches!(push(&mut world, &large), Push::Accepted(_)));
    assert_eq!(push(&mut world, &small), Push::Full);
    world.finish();
    let mut accepted = 0;
    while matches!(push(&mut world, &small), Push::Accepted(_)) {
        accepted += 1;
    }
    assert!((5..10).contains(&accepted), "{accepted}");
    world.finish();
    assert_eq!(stored(&world, "t", 0).len(), 3 + accepted);
}

#[test]
fn acks_none_is_delivered_when_written() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let config = ProducerConfig {
        idempotent: false,
        acks: Acks::None,
        ..ProducerConfig::default()
    };
    let producer = world.core.open_producer(config);
    let batch = world.push(producer, &record(0)).batch;
    world.settle();
    assert_eq!(world.done[&batch].clone().unwrap().base_offset, None);
    world.run_for(ms(10));
    assert_eq!(stored(&world, "t", 0), ["0"]);
    world.run_for(ms(10_000));
    assert_eq!(world.dialled.len(), 1, "no answer is missed");
}

#[test]
fn keys_go_where_kafka_sends_them_and_partitions_must_exist() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 7);
    let producer = world.core.open_producer(ProducerConfig::default());
    let accepted = world.push(producer, &Record::new("t", "v").key("21"));
    let expected = millrace_wire::partitioning::partition_for_key(b"21", 7).0;
    assert_eq!(accepted.partition, expected);
    let nowhere = Record::new("t", "v").partition(7);
    let refused = loop {
        match world.core.push(world.now, producer, &nowhere, 1) {
            Push::Wait => world.run_for(ms(10)),
            other => break other,
        }
    };
    let Push::Refused(error) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        error,
        ClientError::UnknownPartition {
            topic: "t".into(),
            partition: 7,
            partitions: 7
        }
    );
    assert!(error.to_string().contains("0 to 6"), "{error}");
}

#[test]
fn a_topic_that_does_not_exist_is_an_error_soon() {
    let mut world = World::new(1, config(), 1);
    let producer = world.core.open_producer(ProducerConfig::default());
    let refused = loop {
        match world.core.push(world.now, producer, &record(0), 1) {
            Push::Wait => world.run_for(ms(10)),
            other => break other,
        }
    };
    assert_eq!(
        refused,
        Push::Refused(ClientError::UnknownTopic { topic: "t".into() })
    );
    assert!(world.now.0 < ms(2_500), "{:?}", world.now);
    world.run_for(ms(20_000));
    let asked = world.count(|request| matches!(request, Request::Metadata(_)));
    world.run_for(ms(20_000));
    let asked_later = world.count(|request| matches!(request, Request::Metadata(_)));
    assert_eq!(asked, asked_later, "it is not asked for forever");
}

#[test]
fn a_closed_producer_delivers_what_it_accepted_and_takes_no_more() {
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let config = ProducerConfig {
        linger: ms(60_000),
        ..ProducerConfig::default()
    };
    let producer = world.core.open_producer(config);
    world.push(producer, &record(0));
    world.core.close_producer(world.now, producer);
    let refused = world.core.push(world.now, producer, &record(1), 1);
    assert_eq!(refused, Push::Refused(ClientError::Closed));
    world.finish();
    assert_eq!(stored(&world, "t", 0), ["0"]);
}
