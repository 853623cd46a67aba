//! Producers and a consumer among random failures: whatever happens, acknowledged records are where
//! their deliveries say, in the order in which they were sent, and a consumer sees exactly the log. Of an
//! idempotent producer nothing is there twice or out of order, acknowledged or not.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::consuming::drain;
use super::producing::stored;
use super::world::{Fate, World, config, ms};
use crate::core::consumer::Reader;
use crate::core::producer::Accepted;
use crate::core::producer::planted::{self, Bug};
use crate::core::random::Random;
use crate::{ConsumerConfig, ErrorCode, ProducerConfig, Record, Start};

#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    shards: u16,
    partitions: u32,
    records: u32,
    /// Of 1000 requests this many meet with a fault.
    faults: u32,
    batch_bytes: usize,
    max_in_flight: usize,
    idempotent: bool,
    retries: u32,
    delivery_timeout: Duration,
}

/// Longer than anything here takes.
const FOR_EVER: Duration = Duration::from_secs(100_000);

fn plan() -> impl Strategy<Value = Plan> {
    let sizes = (1..4_u16, 1..6_u32, 1..150_u32);
    let kind = prop_oneof![
        Just((true, u32::MAX, FOR_EVER)),
        (1..5_u32).prop_map(|retries| (true, retries, FOR_EVER)),
        (1..8_000_u64).prop_map(|timeout| (true, u32::MAX, ms(timeout))),
        Just((false, u32::MAX, FOR_EVER)),
        Just((false, 0, FOR_EVER)),
    ];
    let producer = (1..400_usize, 1..10_usize, kind);
    (any::<u64>(), sizes, 0..300_u32, producer).prop_map(
        |(seed, (shards, partitions, records), faults, (batch_bytes, max_in_flight, kind))| {
            let (idempotent, retries, delivery_timeout) = kind;
            Plan {
                seed,
                shards,
                partitions,
                records,
                faults,
                batch_bytes,
                max_in_flight,
                idempotent,
                retries,
                delivery_timeout,
            }
        },
    )
}

fn fate(random: &mut Random, faults: u32, late: bool) -> Fate {
    if random.below(1000) >= faults {
        return Fate::Serve;
    }
    match random.below(if late { 10 } else { 7 }) {
        7..=9 => Fate::BreakAndServeLate(ms(u64::from(random.below(6_000)))),
        0 => Fate::Break,
        1 => Fate::ServeAndBreak,
        2 => Fate::ServeAndKeepSilent,
        3 => Fate::Refuse(ErrorCode::Overloaded),
        4 => Fate::Refuse(ErrorCode::NotLeader),
        5 => Fate::Refuse(ErrorCode::RequestTimedOut),
        _ => Fate::Refuse(ErrorCode::ShuttingDown),
    }
}

fn run(plan: &Plan) -> Result<(), TestCaseError> {
    let mut world = World::new(plan.shards, config(), plan.seed);
    world.log.create("t", plan.partitions);
    world.log.strict = true;
    world.latency = ms(5);
    let mut fates = Random::new(plan.seed ^ 1);
    let (faults, late) = (plan.faults, plan.idempotent);
    world.script = Box::new(move |_| fate(&mut fates, faults, late));
    let producer = world.core.open_producer(ProducerConfig {
        idempotent: plan.idempotent,
        delivery_timeout: plan.delivery_timeout,
        batch_bytes: plan.batch_bytes,
        max_in_flight: plan.max_in_flight,
        retries: plan.retries,
        buffer_bytes: 5_000,
        ..ProducerConfig::default()
    });
    let consumer = world.core.open_consumer(ConsumerConfig {
        prefetch_bytes: 2_000,
        partition_max_bytes: 500,
        ..ConsumerConfig::default()
    });
    let all: Vec<_> = (0..plan.partitions)
        .map(|p| ("t", p, Start::Offset(0)))
        .collect();
    world.core.assign(consumer, &all);

    let mut draws = Random::new(plan.seed ^ 2);
    let mut reader = Reader::new();
    let mut seen: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut sent: Vec<(Accepted, String)> = Vec::new();
    for i in 0..plan.records {
        let partition = draws.below(plan.partitions);
        let value = format!("{i}");
        let record = Record::new("t", value.clone()).partition(partition);
        sent.push((world.push(producer, &record), value));
        match draws.below(40) {
            0 => world.break_all(),
            1 => {
                world.log.turn += 1;
                world.log.revision += 1;
            }
            2..=10 => world.run_for(ms(u64::from(draws.below(20)))),
            _ => {}
        }
        look(&mut world, consumer, &mut reader, &mut seen)?;
    }
    world.finish();
    world.script = Box::new(|_| Fate::Serve);
    for _ in 0..300 {
        world.run_for(ms(100));
        look(&mut world, consumer, &mut reader, &mut seen)?;
    }
    check(&world, plan, &sent, &seen)
}

fn look(
    world: &mut World,
    consumer: crate::core::ConsumerId,
    reader: &mut Reader,
    seen: &mut BTreeMap<u32, Vec<String>>,
) -> Result<(), TestCaseError> {
    let drained = drain(world, consumer, reader);
    let records = drained.map_err(|error| TestCaseError::fail(error.to_string()))?;
    for record in records {
        let partition = seen.entry(record.partition).or_default();
        prop_assert_eq!(
            record.offset,
            partition.len() as i64,
            "records come in order, each once"
        );
        let value = record.value.unwrap_or_default();
        partition.push(String::from_utf8_lossy(&value).into_owned());
    }
    Ok(())
}

fn check(
    world: &World,
    plan: &Plan,
    sent: &[(Accepted, String)],
    seen: &BTreeMap<u32, Vec<String>>,
) -> Result<(), TestCaseError> {
    let mut last: BTreeMap<u32, i64> = BTreeMap::new();
    let log: Vec<Vec<String>> = (0..plan.partitions)
        .map(|partition| stored(world, "t", partition as usize))
        .collect();
    for (accepted, value) in sent {
        let outcome = world.done.get(&accepted.batch);
        prop_assert!(outcome.is_some(), "{:?} has no outcome", accepted.batch);
        if plan.retries == u32::MAX && plan.delivery_timeout == FOR_EVER {
            prop_assert!(outcome.is_some_and(Result::is_ok), "{outcome:?}");
        }
        let Some(Ok(place)) = outcome else { continue };
        let offset = place.base_offset.unwrap_or(-1) + i64::from(accepted.index);
        let there = &log[accepted.partition as usize];
        prop_assert_eq!(
            there.get(offset as usize),
            Some(value),
            "at offset {}",
            offset
        );
        let before = last.insert(accepted.partition, offset);
        prop_assert!(
            before.is_none_or(|before| before < offset),
            "{before:?} then {offset}"
        );
    }
    for (partition, there) in log.iter().enumerate() {
        // Idempotent, or without retries, nothing is stored twice, and order is plain.
        let mut firsts: Vec<u32> = Vec::new();
        for value in there {
            let value = value.parse().expect("a number was sent");
            if !firsts.contains(&value) {
                firsts.push(value);
            } else {
                let may_be = !plan.idempotent && plan.retries > 0;
                prop_assert!(may_be, "{value} is there twice");
            }
        }
        prop_assert!(firsts.is_sorted(), "partition {partition}: {firsts:?}");
        let empty = Vec::new();
        let seen = seen.get(&(partition as u32)).unwrap_or(&empty);
        prop_assert_eq!(seen, there, "the consumer sees the log");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn order_and_content_survive_random_failures(plan in plan()) {
        run(&plan)?;
    }
}

/// A plan that leaves the producer many chances to go wrong.
fn hostile(seed: u64) -> Plan {
    let mut draws = Random::new(seed);
    Plan {
        seed,
        shards: 1,
        partitions: 1 + draws.below(2),
        records: 100,
        faults: 100 + draws.below(300),
        batch_bytes: 1 + draws.below(100) as usize,
        max_in_flight: 2 + draws.below(8) as usize,
        idempotent: true,
        retries: u32::MAX,
        delivery_timeout: match draws.below(2) {
            0 => FOR_EVER,
            _ => ms(u64::from(100 + draws.below(4_000))),
        },
    }
}

#[test]
fn planted_bugs_are_found_and_nothing_is_found_without() {
    const PLANS: u64 = 1_500;
    let find = |bug| {
        planted::plant(bug);
        let found = (0..PLANS).find_map(|seed| run(&hostile(seed)).err().map(|why| (seed, why)));
        planted::plant(None);
        found
    };
    for bug in [Bug::NumberedAnewOnRetry, Bug::MoreUnderWayThanKnown] {
        assert!(find(Some(bug)).is_some(), "{bug:?} went unnoticed");
    }
    let found = find(None);
    assert!(found.is_none(), "{found:?}");
}
