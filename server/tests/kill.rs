//! The kill test: producers write with `acks=all` to many partitions, the broker is killed with
//! SIGKILL at a random moment, and after each restart every acknowledged record is there once, at
//! the offset it was acknowledged with, in order, and nothing that was not acknowledged is there in
//! part. `MILLRACE_KILL_ROUNDS` says how many rounds (20 unless told; `scripts/test` runs 100).

mod process;
mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millrace_client::{
    Acks, Client, Compression, ConsumerConfig, NewTopic, OffsetQuery, ProducerConfig, Record,
    Start, UnknownOutcome,
};
use process::Broker;
use support::{DEFAULT_JOURNAL, Draws, client, number_from_env, scratch};

const TOPICS: u32 = 4;
const PARTITIONS: u32 = 16;
const PRODUCERS: u32 = 3;
/// Every so many rounds the whole log is read again from its start.
const FULL_CHECK_ROUNDS: u64 = 20;

/// A partition by topic number and partition number.
type Place = (u32, u32);

/// The value of the record numbered `id`: the number, then bytes that follow from it, of a length
/// that follows from it, so that half a record or a foreign byte shows.
fn value(id: u64) -> Bytes {
    let mut draws = Draws(id);
    let filler = match draws.below(20) {
        0 => draws.below(60_000),
        1..5 => draws.below(4_000),
        _ => draws.below(300),
    };
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend((0..filler).map(|_| draws.next() as u8));
    bytes.into()
}

/// The number of a record, after checking that its value is whole.
fn id_of(bytes: &[u8]) -> u64 {
    let id = u64::from_be_bytes(
        bytes[..8]
            .try_into()
            .expect("a value begins with its number"),
    );
    assert_eq!(bytes, value(id), "record {id} is not as it was sent");
    id
}

/// What the test knows about a partition.
#[derive(Default)]
struct Known {
    /// Acknowledged records by offset.
    acknowledged: BTreeMap<i64, u64>,
    /// What was read last time, all of it, from offset 0. It may never change afterwards.
    read: Vec<u64>,
}

#[derive(Default)]
struct Oracle {
    partitions: HashMap<Place, Known>,
    acknowledged: u64,
}

impl Oracle {
    fn acknowledge(&mut self, place: Place, offset: i64, id: u64) {
        let before = self
            .partitions
            .entry(place)
            .or_default()
            .acknowledged
            .insert(offset, id);
        assert_eq!(
            before, None,
            "two records were acknowledged at {place:?} offset {offset}"
        );
        self.acknowledged += 1;
    }

    /// Reads every partition, from where it was read last or from its start, and compares.
    async fn check(&mut self, client: &Client, from_start: bool) {
        let mut starts = Vec::new();
        for topic in 0..TOPICS {
            for partition in 0..PARTITIONS {
                let known = self.partitions.entry((topic, partition)).or_default();
                let from = if from_start {
                    0
                } else {
                    known.read.len() as i64
                };
                starts.push((topic, partition, from, name(topic)));
            }
        }
        let questions: Vec<_> = starts
            .iter()
            .map(|(_, p, _, n)| (n.as_str(), *p, OffsetQuery::Latest))
            .collect();
        let mut ends = HashMap::new();
        for answer in client
            .admin()
            .list_offsets(&questions)
            .await
            .expect("offsets are listed")
        {
            let end = answer
                .offset
                .expect("the partition serves")
                .expect("latest has an offset");
            ends.insert((answer.topic, answer.partition), end);
        }
        let mut consumer = client
            .consumer(ConsumerConfig::default())
            .expect("a consumer");
        let assigned: Vec<_> = starts
            .iter()
            .map(|(_, p, from, n)| (n.as_str(), *p, Start::Offset(*from)))
            .collect();
        consumer
            .assign(&assigned)
            .await
            .expect("the partitions are there");
        let mut fresh: HashMap<Place, (i64, Vec<u64>)> = HashMap::new();
        let mut missing = 0;
        for (topic, partition, from, name) in &starts {
            let end = ends[&(name.clone(), *partition)];
            assert!(
                end >= *from,
                "{name}/{partition} ends at {end}, and had {from} before"
            );
            fresh.insert((*topic, *partition), (*from, Vec::new()));
            missing += end - from;
        }
        while missing > 0 {
            let records = consumer
                .poll(Duration::from_secs(30))
                .await
                .expect("reading goes on");
            assert!(!records.is_empty(), "{missing} records cannot be read");
            for record in records {
                let topic: u32 = record.topic["kill-".len()..].parse().expect("our topic");
                let (from, read) = fresh
                    .get_mut(&(topic, record.partition))
                    .expect("an assigned partition");
                assert_eq!(
                    record.offset,
                    *from + read.len() as i64,
                    "offsets are dense"
                );
                read.push(id_of(&record.value.expect("every record has a value")));
                missing -= 1;
            }
        }
        for (place, (from, read)) in fresh {
            self.compare(place, from as usize, &read);
        }
    }

    fn compare(&mut self, place: Place, from: usize, fresh: &[u64]) {
        let known = self
            .partitions
            .get_mut(&place)
            .expect("every partition is known");
        let overlap = known.read.len() - from;
        assert_eq!(
            known.read[from..],
            fresh[..overlap],
            "what was read at {place:?} has changed"
        );
        known.read.extend_from_slice(&fresh[overlap..]);
        for (offset, id) in known.acknowledged.range(from as i64..) {
            let found = known.read.get(*offset as usize);
            assert_eq!(found, Some(id), "acknowledged at {place:?} offset {offset}");
        }
        // Record numbers grow in the order of sending, each is sent once, and each partition has
        // one producer: growth means in order and without a duplicate.
        let tail = &known.read[from.saturating_sub(1)..];
        assert!(
            tail.windows(2).all(|pair| pair[0] < pair[1]),
            "order or duplicate at {place:?}"
        );
    }
}

fn name(topic: u32) -> String {
    format!("kill-{topic}")
}

/// Sends until told to stop or until the broker is gone; gives back what was acknowledged.
async fn produce(
    address: String,
    producer_number: u32,
    seed: u64,
    next_id: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Vec<(Place, i64, u64)> {
    let config = millrace_client::ClientConfig::new([address]);
    let Ok(client) = Client::connect(config).await else {
        return Vec::new();
    };
    let producer = client
        .producer(ProducerConfig {
            acks: Acks::All,
            compression: [Compression::None, Compression::Lz4, Compression::Zstd]
                [producer_number as usize % 3],
            // Nothing is sent twice, so that what is read tells order and duplicates by itself.
            idempotent: false,
            retries: 0,
            unknown_outcome: UnknownOutcome::Fail,
            // What was queued when the broker died is given up soon.
            delivery_timeout: Duration::from_secs(1),
            ..ProducerConfig::default()
        })
        .expect("a producer");
    let mut draws = Draws(seed);
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        // Each partition belongs to one producer, so that its order is the order of sending.
        let mine = u64::from(TOPICS * PARTITIONS / PRODUCERS);
        let number = draws.below(mine) as u32 * PRODUCERS + producer_number;
        let place = (number % TOPICS, number / TOPICS);
        let id = next_id.fetch_add(1, Ordering::Relaxed);
        let record = Record::new(name(place.0), value(id)).partition(place.1);
        match producer.send(record).await {
            Ok(delivery) => sent.push((place, id, delivery)),
            Err(_) => break,
        }
        if draws.below(50) == 0 {
            tokio::time::sleep(Duration::from_micros(draws.below(3_000))).await;
        }
    }
    let mut acknowledged = Vec::new();
    for (place, id, delivery) in sent {
        if let Ok(stored) = delivery.await {
            let offset = stored.offset.expect("acks=all tells the offset");
            acknowledged.push((place, offset, id));
        }
    }
    acknowledged
}

async fn rounds(arguments: &[&str], topic_configs: &[(&str, &str)], seed: u64) {
    let rounds = number_from_env("MILLRACE_KILL_ROUNDS", 20);
    let (_directory, data) = scratch();
    let mut draws = Draws(seed);
    let mut oracle = Oracle::default();
    let next_id = Arc::new(AtomicU64::new(0));
    let mut broker = Broker::start(&data, arguments);
    let admin = client(&broker).await.admin();
    for topic in 0..TOPICS {
        let mut new = NewTopic::new(name(topic), PARTITIONS);
        for (key, value) in topic_configs {
            new = new.config(*key, *value);
        }
        admin.create_topic(new).await.expect("the topic is made");
    }
    for round in 1..=rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|number| {
                let (next_id, stop) = (Arc::clone(&next_id), Arc::clone(&stop));
                tokio::spawn(produce(
                    broker.address.to_string(),
                    number,
                    draws.next(),
                    next_id,
                    stop,
                ))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20 + draws.below(400))).await;
        broker.kill();
        stop.store(true, Ordering::Relaxed);
        for producer in producers {
            for (place, offset, id) in producer.await.expect("a producer does not panic") {
                oracle.acknowledge(place, offset, id);
            }
        }
        broker = Broker::start(&data, arguments);
        let everything = round % FULL_CHECK_ROUNDS == 0 || round == rounds;
        oracle.check(&client(&broker).await, everything).await;
    }
    let read: usize = oracle
        .partitions
        .values()
        .map(|known| known.read.len())
        .sum();
    println!(
        "{rounds} kills (seed {seed}): {} records acknowledged and there, {} more there unacknowledged",
        oracle.acknowledged,
        read as u64 - oracle.acknowledged
    );
    assert!(
        oracle.acknowledged > rounds * 10,
        "the test hardly wrote anything"
    );
    assert!(broker.stop().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_sigkill() {
    rounds(&DEFAULT_JOURNAL, &[], 1).await;
}

/// The same with the smallest files, so that the journal recycles and segments roll all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_sigkill_while_files_roll() {
    rounds(
        &[
            "--set",
            "journal.file_bytes=4MiB",
            "--set",
            "journal.max_files=4",
        ],
        &[("segment.bytes", "262144")],
        2,
    )
    .await;
}

/// Producers that live on while the broker is killed under them, and send again what was not answered:
/// each record is there once, in order, at the place that its delivery told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_over_sigkill_is_there_once() {
    let rounds = number_from_env("MILLRACE_KILL_ROUNDS", 10);
    let (_directory, data) = scratch();
    let mut draws = Draws(3);
    let mut broker = Broker::start(&data, &DEFAULT_JOURNAL);
    let address = broker.address.to_string();
    let admin = client(&broker).await.admin();
    // The oracle looks at all of them.
    for topic in 0..TOPICS {
        let new = NewTopic::new(name(topic), PARTITIONS);
        admin.create_topic(new).await.expect("the topic is made");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..PARTITIONS)
        .map(|partition| tokio::spawn(persist(address.clone(), partition, Arc::clone(&stop))))
        .collect();
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(50 + draws.below(300))).await;
        broker.kill();
        broker = Broker::try_start(&data, &address, &DEFAULT_JOURNAL)
            .unwrap_or_else(|(status, lines)| panic!("it ended ({status}): {lines:#?}"));
    }
    stop.store(true, Ordering::Relaxed);
    let mut oracle = Oracle::default();
    let mut sent = 0;
    for (partition, producer) in (0..).zip(producers) {
        let offsets = producer.await.expect("a producer does not panic");
        let expected: Vec<i64> = (0..offsets.len() as i64).collect();
        assert_eq!(
            offsets, expected,
            "partition {partition}: each once, in order"
        );
        sent += offsets.len();
        for offset in offsets {
            oracle.acknowledge((0, partition), offset, offset as u64);
        }
    }
    oracle.check(&client(&broker).await, true).await;
    println!("{rounds} kills: {sent} records sent, each there once");
    assert!(sent as u64 > rounds * 10, "the test hardly wrote anything");
    assert!(broker.stop().0.success());
}

/// Sends 0, 1, 2, … to a partition until told to stop; where each was stored.
async fn persist(address: String, partition: u32, stop: Arc<AtomicBool>) -> Vec<i64> {
    let config = millrace_client::ClientConfig::new([address]);
    let client = Client::connect(config).await.expect("the broker is there");
    let producer = client
        .producer(ProducerConfig {
            // Several batches under way.
            batch_bytes: 500,
            // What is sent in the first round may be stored after the last only, however long a
            // machine takes for all of them.
            delivery_timeout: Duration::from_secs(3600),
            ..ProducerConfig::default()
        })
        .expect("a producer");
    let mut deliveries = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..50 {
            let record = Record::new(name(0), value(deliveries.len() as u64)).partition(partition);
            deliveries.push(producer.send(record).await.expect("there is time"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut offsets = Vec::new();
    for delivery in deliveries {
        let place = delivery.await.expect("the broker came back");
        offsets.push(place.offset.expect("acks=all tells the offset"));
    }
    offsets
}
