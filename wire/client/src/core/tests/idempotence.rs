//! What an idempotent producer does about each way in which a batch can fail.

use bytes::Bytes;
use millrace_wire::batch::batch_producer;
use millrace_wire::native::Request;

use super::producing::{is_produce, offset, record, stored};
use super::world::{Fate, World, config, ms};
use crate::core::ProducerId;
use crate::core::producer::Accepted;
use crate::core::producer::planted::{self, Bug};
use crate::{ClientError, ErrorCode, ProducerConfig, Record};

fn asks_for_id(request: &Request) -> bool {
    matches!(request, Request::InitProducer(_))
}

/// A producer whose records make a batch each, known to the broker by a first record, "warm".
fn warm(world: &mut World, config: ProducerConfig) -> ProducerId {
    world.log.create("t", 1);
    let producer = world.core.open_producer(ProducerConfig {
        batch_bytes: 1,
        ..config
    });
    world.push(producer, &record("warm"));
    world.finish();
    producer
}

fn push_all(world: &mut World, producer: ProducerId, values: &[&str]) -> Vec<Accepted> {
    let records: Vec<Record> = values.iter().map(record).collect();
    let pushed = records.iter().map(|record| world.push(producer, record));
    pushed.collect()
}

/// Decides the fate of produce requests by their number, from 0; everything else is served.
fn script(world: &mut World, mut fate: impl FnMut(u32) -> Fate + 'static) {
    let mut produces = 0;
    world.script = Box::new(move |request| {
        if !is_produce(request) {
            return Fate::Serve;
        }
        produces += 1;
        fate(produces - 1)
    });
}

/// Epochs and sequence numbers of the batches that came to the broker, in order.
fn numbers(world: &World) -> Vec<(i64, i16, i32)> {
    let numbers = world.log.received.iter().map(|(_, batch)| {
        let producer = batch_producer(batch).expect("it is numbered");
        (producer.id.0, producer.epoch.0, producer.base_sequence)
    });
    numbers.collect()
}

#[test]
fn one_id_serves_all_partitions_and_the_first_batch_of_each_goes_alone() {
    let mut world = World::new(2, config(), 1);
    world.log.create("t", 4);
    let producer = world.core.open_producer(ProducerConfig {
        batch_bytes: 1,
        ..ProducerConfig::default()
    });
    world.run_for(ms(100));
    assert_eq!(world.count(asks_for_id), 0, "nobody has used it yet");
    for i in 0..12 {
        world.push(producer, &Record::new("t", "v").partition(i % 4));
    }
    let first = world.log.received.len();
    world.finish();
    assert!(
        first <= 4,
        "{first} batches before any is known to be stored"
    );
    assert_eq!(world.count(asks_for_id), 1);
    for partition in 0..4 {
        let batches = world.log.received.iter();
        let batches = batches.filter(|(of, _)| *of == partition);
        let sequences: Vec<i32> = batches
            .map(|(_, batch)| batch_producer(batch).unwrap().base_sequence)
            .collect();
        assert_eq!(sequences, [0, 1, 2]);
    }
}

#[test]
fn five_full_batches_of_a_partition_are_under_way_and_the_rest_gathers() {
    let mut world = World::new(1, config(), 1);
    let producer = warm(&mut world, ProducerConfig::default());
    world.script = Box::new(|request| match is_produce(request) {
        true => Fate::ServeAndKeepSilent,
        false => Fate::Serve,
    });
    push_all(&mut world, producer, &["1", "2", "3", "4", "5", "6", "7"]);
    world.run_for(ms(1_000));
    assert_eq!(world.count(is_produce) - 1, 5);
    world.script = Box::new(|_| Fate::Serve);
    world.finish();
    assert_eq!(stored(&world, "t", 0).concat(), "warm1234567");
    // What is not full waits for what is under way.
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    let producer = world.core.open_producer(ProducerConfig::default());
    world.push(producer, &record("a"));
    world.finish();
    let before = world.count(is_produce);
    push_all(&mut world, producer, &["b", "c", "d", "e"]);
    world.finish();
    assert_eq!(world.count(is_produce) - before, 2);
}

#[test]
fn a_batch_is_sent_again_as_it_was_and_those_behind_it_after_it() {
    let mut world = World::new(1, config(), 1);
    let producer = warm(&mut world, ProducerConfig::default());
    script(&mut world, |n| match n {
        0 => Fate::Refuse(ErrorCode::Overloaded),
        _ => Fate::Serve,
    });
    let sent = push_all(&mut world, producer, &["a", "b", "c"]);
    world.finish();
    assert_eq!(stored(&world, "t", 0), ["warm", "a", "b", "c"]);
    let offsets: Vec<_> = sent.iter().map(|one| offset(&world, *one)).collect();
    assert_eq!(offsets, [Some(1), Some(2), Some(3)]);
    // The broker never saw the refused "a"; "b" and "c" came twice.
    let received: Vec<&Bytes> = world.log.received.iter().map(|(_, batch)| batch).collect();
    assert_eq!(received.len(), 1 + 2 + 3);
    assert_eq!((received[1], received[2]), (received[4], received[5]));
    assert_eq!(numbers(&world)[3], (0, 0, 1));
}

#[test]
fn answers_that_are_lost_store_nothing_twice() {
    let mut world = World::new(1, config(), 1);
    let producer = warm(&mut world, ProducerConfig::default());
    script(&mut world, |n| match n {
        0..4 => Fate::ServeAndKeepSilent,
        4 => Fate::ServeAndBreak,
        _ => Fate::Serve,
    });
    let sent = push_all(&mut world, producer, &["a", "b", "c", "d", "e", "f"]);
    world.finish();
    assert_eq!(stored(&world, "t", 0).concat(), "warmabcdef");
    for (place, one) in (1..).zip(sent) {
        assert_eq!(offset(&world, one), Some(place));
    }
}

#[test]
fn after_a_batch_that_is_refused_for_good_those_behind_it_begin_a_new_epoch() {
    let mut world = World::new(1, config(), 1);
    let producer = warm(&mut world, ProducerConfig::default());
    script(&mut world, |n| match n {
        0 => Fate::Refuse(ErrorCode::MessageTooLarge),
        _ => Fate::Serve,
    });
    let sent = push_all(&mut world, producer, &["large", "b", "c"]);
    world.finish();
    let refused = world.done[&sent[0].batch].clone().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::MessageTooLarge));
    assert_eq!(stored(&world, "t", 0), ["warm", "b", "c"]);
    assert_eq!(offset(&world, sent[2]), Some(2));
    let numbers = numbers(&world);
    assert_eq!(
        numbers[1..3],
        [(0, 0, 2), (0, 0, 3)],
        "refused, for 1 is missing"
    );
    assert_eq!(numbers[3..], [(0, 1, 0), (0, 1, 1)]);
    // When the topic was not known yet, and when the record came to be sent.
    assert!(world.count(asks_for_id) <= 2);
}

#[test]
fn a_batch_whose_time_is_over_leaves_no_gap_for_those_after_it() {
    let mut world = World::new(1, config(), 1);
    let short = ProducerConfig {
        delivery_timeout: ms(3_000),
        ..ProducerConfig::default()
    };
    let producer = warm(&mut world, short);
    script(&mut world, |_| Fate::Break);
    let sent = push_all(&mut world, producer, &["late"]);
    world.finish();
    assert!(world.done[&sent[0].batch].is_err());
    world.script = Box::new(|_| Fate::Serve);
    push_all(&mut world, producer, &["b", "c"]);
    world.finish();
    assert_eq!(stored(&world, "t", 0), ["warm", "b", "c"]);
    assert_eq!(numbers(&world)[1..], [(0, 1, 0), (0, 1, 1)]);
}

#[test]
fn a_straggler_of_the_old_epoch_does_not_land_behind_the_new_one() {
    let mut world = World::new(1, config(), 1);
    let short = ProducerConfig {
        delivery_timeout: ms(3_000),
        ..ProducerConfig::default()
    };
    let producer = warm(&mut world, short);
    script(&mut world, |n| match n {
        0 => Fate::BreakAndServeLate(ms(20_000)),
        _ => Fate::Break,
    });
    push_all(&mut world, producer, &["straggler"]);
    world.finish();
    world.script = Box::new(|_| Fate::Serve);
    push_all(&mut world, producer, &["b"]);
    world.finish();
    world.run_for(ms(30_000));
    let last = numbers(&world).pop();
    assert_eq!(last, Some((0, 0, 1)), "the straggler has come");
    assert_eq!(stored(&world, "t", 0), ["warm", "b"]);
}

/// "a" is lost for good, and "b" behind it is lost once together with it. What of both the broker gets
/// `lateness` after they were sent is served then. How often "b" is there in the end.
fn copies_of_a_batch_lost_behind_a_gap(lateness: u64) -> usize {
    let mut world = World::new(1, config(), 1);
    let patient = ProducerConfig {
        delivery_timeout: ms(2_000),
        ..ProducerConfig::default()
    };
    let producer = warm(&mut world, patient);
    script(&mut world, |_| Fate::Break);
    let a = world.push(producer, &record("a"));
    world.run_for(ms(1_000));
    script(&mut world, move |n| match n {
        0 => Fate::BreakAndServeLate(ms(lateness)),
        _ => Fate::Break,
    });
    let b = world.push(producer, &record("b"));
    while !world.done.contains_key(&a.batch) {
        world.run_for(ms(1));
    }
    world.script = Box::new(|_| Fate::Serve);
    world.finish();
    assert!(world.done[&a.batch].is_err(), "its time was over");
    world.push(producer, &record("c"));
    world.finish();
    world.run_for(ms(10_000));
    let there = stored(&world, "t", 0);
    let copies = |value: &str| there.iter().filter(|there| *there == value).count();
    assert!(copies("a") <= 1, "{there:?}");
    assert_eq!(copies("c"), 1, "the producer goes on");
    match &world.done[&b.batch] {
        Ok(_) => assert!(copies("b") >= 1),
        Err(error) => assert!(error.is_retriable(), "{error}"),
    }
    copies("b")
}

#[test]
fn what_may_have_been_stored_is_not_sent_under_another_number() {
    let most = || {
        (0..4_000)
            .step_by(20)
            .map(copies_of_a_batch_lost_behind_a_gap)
            .max()
    };
    planted::plant(Some(Bug::LostNumberedAnew));
    let with_bug = most();
    planted::plant(None);
    assert_eq!(with_bug, Some(2), "the bug went unnoticed");
    assert_eq!(most(), Some(1));
}

#[test]
fn a_missing_predecessor_makes_a_lost_batchs_fate_unknown() {
    let mut world = World::new(1, config(), 1);
    let producer = warm(&mut world, ProducerConfig::default());
    script(&mut world, |n| match n {
        0 => Fate::Break,
        // As if what came before it were gone.
        1 => Fate::Refuse(ErrorCode::OutOfOrderSequenceNumber),
        _ => Fate::Serve,
    });
    let sent = push_all(&mut world, producer, &["a"]);
    world.finish();
    let error = world.done[&sent[0].batch].clone().unwrap_err();
    assert!(matches!(error, ClientError::FateUnknown { .. }), "{error}");
    // The producer goes on.
    push_all(&mut world, producer, &["b"]);
    world.finish();
    assert_eq!(stored(&world, "t", 0), ["warm", "b"]);
    assert_eq!(numbers(&world)[1..], [(0, 1, 0)]);
}

#[test]
fn an_id_that_the_broker_does_not_know_is_replaced() {
    for code in [
        ErrorCode::UnknownProducerId,
        ErrorCode::InvalidProducerEpoch,
    ] {
        let mut world = World::new(1, config(), 1);
        let producer = warm(&mut world, ProducerConfig::default());
        script(&mut world, move |n| match n {
            0 => Fate::Refuse(code),
            _ => Fate::Serve,
        });
        push_all(&mut world, producer, &["a", "b"]);
        world.finish();
        assert_eq!(stored(&world, "t", 0), ["warm", "a", "b"]);
        assert_eq!(world.count(asks_for_id), 2);
        let numbers = numbers(&world);
        assert_eq!(numbers[numbers.len() - 2..], [(1, 0, 0), (1, 0, 1)]);
    }
}

#[test]
fn a_duplicate_that_is_too_old_to_be_placed_is_stored_all_the_same() {
    let mut world = World::new(1, config(), 1);
    let producer = warm(&mut world, ProducerConfig::default());
    script(&mut world, |n| match n {
        0 => Fate::ServeAndBreak,
        1 => Fate::Refuse(ErrorCode::DuplicateSequenceNumber),
        _ => Fate::Serve,
    });
    let sent = push_all(&mut world, producer, &["a", "b"]);
    world.finish();
    assert_eq!(offset(&world, sent[0]), None);
    assert_eq!(offset(&world, sent[1]), Some(2));
    assert_eq!(stored(&world, "t", 0), ["warm", "a", "b"]);
}

#[test]
fn an_id_that_cannot_be_had_is_asked_for_again_or_fails_what_waits() {
    let refuse = |code| {
        move |request: &Request| match asks_for_id(request) {
            true => Fate::Refuse(code),
            false => Fate::Serve,
        }
    };
    // For a while: with pauses, until the record's time is over.
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    world.script = Box::new(refuse(ErrorCode::DiskReserveReached));
    let producer = world.core.open_producer(ProducerConfig {
        delivery_timeout: ms(3_000),
        ..ProducerConfig::default()
    });
    let first = world.push(producer, &record("a"));
    world.finish();
    let asked = world.count(asks_for_id);
    assert!((4..40).contains(&asked), "asked {asked} times in 3 s");
    let error = world.done[&first.batch].clone().unwrap_err().to_string();
    assert!(error.contains("DiskReserveReached"), "{error}");
    world.run_for(ms(60_000));
    assert!(
        world.count(asks_for_id) <= asked + 2,
        "nobody needs one now"
    );
    world.script = Box::new(|_| Fate::Serve);
    world.push(producer, &record("b"));
    world.finish();
    assert_eq!(stored(&world, "t", 0), ["b"]);
    // For good.
    let mut world = World::new(1, config(), 1);
    world.log.create("t", 1);
    world.script = Box::new(refuse(ErrorCode::UnsupportedVersion));
    let producer = world.core.open_producer(ProducerConfig::default());
    let first = world.push(producer, &record("a"));
    world.finish();
    let error = world.done[&first.batch].clone().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnsupportedVersion));
    // When the topic was not known yet, and when the record came to be sent.
    assert!(world.count(asks_for_id) <= 2);
}
