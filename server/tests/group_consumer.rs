//! The client's group consumer against the real program: members that share, come, go, crash and come
//! back, and a broker that is killed under them.

mod process;
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_client::{
    Client, ClientConfig, ClientError, ErrorCode, GroupConfig, GroupConsumer, GroupEvent,
    GroupOffset, NewTopic, OffsetReset, ProducerConfig, Record, Start, TopicPartition,
};
use process::Broker;
use support::{client, scratch};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Short sessions, for tests that wait for their end.
const SHORT_SESSIONS: [&str; 2] = ["--set", "groups.min_session_timeout_ms=100"];

fn config() -> GroupConfig {
    GroupConfig {
        session_timeout: Duration::from_millis(1_500),
        auto_offset_reset: OffsetReset::Earliest,
        ..GroupConfig::new("g", ["t"])
    }
}

async fn create(client: &Client, topic: &str, partitions: u32) {
    let topic = NewTopic::new(topic, partitions);
    client.admin().create_topic(topic).await.expect("made");
}

/// Stores numbers, in turn in all partitions.
async fn store(client: &Client, topic: &str, partitions: u32, numbers: std::ops::Range<u32>) {
    let producer = client.producer(ProducerConfig::default()).expect("made");
    for number in numbers {
        let record = Record::new(topic, number.to_string()).partition(number % partitions);
        let delivery = producer.send(record).await.expect("taken");
        delivery.await.expect("stored");
    }
}

/// What was given out, and how often.
#[derive(Default)]
struct Seen(BTreeMap<u32, u32>);

impl Seen {
    /// Takes what there is, and tells how many records that were.
    async fn take(&mut self, consumer: &mut GroupConsumer) -> usize {
        let records = consumer
            .poll(Duration::from_millis(20))
            .await
            .expect("reads");
        for record in &records {
            let value = record.value.as_ref().expect("it has one");
            let number = std::str::from_utf8(value)
                .expect("text")
                .parse()
                .expect("a number");
            *self.0.entry(number).or_default() += 1;
        }
        records.len()
    }

    fn repeated(&self) -> usize {
        self.0.values().filter(|times| **times > 1).count()
    }
}

/// Has these consumers read until `is_done`.
macro_rules! read_until {
    ($seen:expr, [$($consumer:expr),+], $is_done:expr) => {{
        let end = Instant::now() + PATIENCE;
        while !$is_done {
            $($seen.take(&mut $consumer).await;)+
            assert!(Instant::now() < end, "it does not happen");
        }
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn two_share_a_topic_and_one_goes() {
    let (_scratch, data) = scratch();
    let broker = Broker::start(&data, &SHORT_SESSIONS);
    let client = client(&broker).await;
    create(&client, "t", 8).await;
    store(&client, "t", 8, 0..80).await;
    let mut seen = Seen::default();
    let mut a = client.group_consumer(config()).expect("good");
    read_until!(seen, [a], seen.0.len() == 80);
    let mut b = client.group_consumer(config()).expect("good");
    read_until!(seen, [a, b], b.assignment().len() == 4);
    assert_eq!(a.assignment().len(), 4);
    store(&client, "t", 8, 80..160).await;
    read_until!(seen, [a, b], seen.0.len() == 160);
    assert_eq!(seen.repeated(), 0, "what moved was committed before");

    // What it was given last is committed, and the other goes on behind that.
    a.close().await.expect("commits and leaves");
    read_until!(seen, [b], b.assignment().len() == 8);
    store(&client, "t", 8, 160..200).await;
    read_until!(seen, [b], seen.0.len() == 200);
    assert_eq!(seen.repeated(), 0);
    let places: Vec<_> = (0..8).map(|p| TopicPartition::new("t", p)).collect();
    b.commit().await.expect("noted");
    let committed = b.committed(&places).await.expect("told");
    let offsets: Vec<_> = committed.into_iter().map(|o| o.map(|o| o.offset)).collect();
    assert_eq!(offsets, [Some(25); 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_crashes_is_replaced_and_who_is_dropped_leaves() {
    let (_scratch, data) = scratch();
    let broker = Broker::start(&data, &SHORT_SESSIONS);
    let client = client(&broker).await;
    create(&client, "t", 4).await;
    store(&client, "t", 4, 0..40).await;
    let address = broker.address.to_string();
    // A process of its own, as far as the broker can see.
    let other = tokio::runtime::Runtime::new().expect("made");
    let began = other.spawn(async move {
        let client = Client::connect(ClientConfig::new([address]))
            .await
            .expect("connects");
        let mut consumer = client.group_consumer(config()).expect("good");
        while consumer.poll(PATIENCE).await.expect("reads").is_empty() {}
        std::mem::forget((client, consumer));
    });
    began.await.expect("reads");
    let mut a = client.group_consumer(config()).expect("good");
    let mut seen = Seen::default();
    read_until!(seen, [a], a.assignment().is_empty());
    tokio::task::spawn_blocking(move || other.shutdown_timeout(Duration::ZERO))
        .await
        .expect("ends");
    read_until!(seen, [a], a.assignment().len() == 4 && seen.0.len() == 40);

    let b = client.group_consumer(config()).expect("good");
    let client_of_b = client.clone();
    drop(b);
    drop(client_of_b);
    let mut c = client.group_consumer(config()).expect("good");
    read_until!(seen, [a, c], c.assignment().len() == 2);
    drop(a);
    read_until!(seen, [c], c.assignment().len() == 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_moves_is_revoked() {
    let (_scratch, data) = scratch();
    let broker = Broker::start(&data, &SHORT_SESSIONS);
    let client = client(&broker).await;
    create(&client, "t", 4).await;
    let mut a = client.group_consumer(config()).expect("good");
    let all: Vec<_> = (0..4).map(|p| TopicPartition::new("t", p)).collect();
    let first = a.poll_event(PATIENCE).await.expect("reads");
    assert_eq!(first, Some(GroupEvent::Assigned(all.clone())));
    let mut b = client.group_consumer(config()).expect("good");
    // Records flow all the time, and those of what stays are given out by the one that has it.
    let (mut next, mut revoked) = (0, Vec::new());
    let (mut of_a, mut before) = (0, None);
    let end = Instant::now() + PATIENCE;
    while b.assignment().len() < 2 {
        store(&client, "t", 4, next..next + 4).await;
        next += 4;
        match a
            .poll_event(Duration::from_millis(50))
            .await
            .expect("reads")
        {
            Some(GroupEvent::Records(records)) => of_a += records.len(),
            Some(GroupEvent::Revoked(places)) => {
                // It has them until it comes back, so that nobody else can have them yet.
                before = Some(b.assignment().len());
                revoked = places;
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
        b.poll(Duration::from_millis(5)).await.expect("reads");
        assert!(Instant::now() < end, "it does not happen");
    }
    assert_eq!((revoked.len(), before), (2, Some(0)));
    assert_eq!(a.assignment().len(), 2);
    assert!(of_a > 0);
    assert!(revoked.iter().all(|place| b.assignment().contains(place)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_sees_a_new_topic() {
    let (_scratch, data) = scratch();
    let broker = Broker::start(&data, &SHORT_SESSIONS);
    let client = Client::connect(ClientConfig {
        metadata_max_age: Duration::from_millis(200),
        ..ClientConfig::new([broker.address.to_string()])
    });
    let client = client.await.expect("connects");
    create(&client, "orders-1", 1).await;
    create(&client, "others", 1).await;
    let mut consumer = client
        .group_consumer(GroupConfig {
            subscription: GroupConfig::matching("g", "orders-\\d+").subscription,
            ..config()
        })
        .expect("good");
    let mut seen = Seen::default();
    read_until!(seen, [consumer], consumer.assignment().len() == 1);
    create(&client, "orders-2", 2).await;
    store(&client, "others", 1, 0..3).await;
    store(&client, "orders-2", 2, 10..13).await;
    read_until!(seen, [consumer], seen.0.len() == 3);
    assert_eq!(consumer.assignment().len(), 3);
    // A topic that is named and does not exist is read once it does.
    let mut named = client
        .group_consumer(GroupConfig {
            group: "named".into(),
            subscription: GroupConfig::new("named", ["later"]).subscription,
            ..config()
        })
        .expect("good");
    assert_eq!(seen.take(&mut named).await, 0);
    create(&client, "later", 1).await;
    store(&client, "later", 1, 20..21).await;
    read_until!(seen, [named], seen.0.contains_key(&20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_costs_neither_the_place_nor_the_membership() {
    let (_scratch, data) = scratch();
    let broker = Broker::start(&data, &[]);
    let address = broker.address.to_string();
    let client = client(&broker).await;
    create(&client, "t", 2).await;
    store(&client, "t", 2, 0..20).await;
    let config = GroupConfig {
        session_timeout: Duration::from_secs(20),
        auto_commit: None,
        ..config()
    };
    let mut consumer = client.group_consumer(config.clone()).expect("good");
    let mut seen = Seen::default();
    read_until!(seen, [consumer], seen.0.len() == 20);
    consumer.commit().await.expect("noted");
    let offset = GroupOffset {
        metadata: "by hand".into(),
        ..GroupOffset::new("t", 1, 7)
    };
    consumer
        .commit_offsets(std::slice::from_ref(&offset))
        .await
        .expect("noted");
    broker.kill();
    let broker = Broker::try_start(&data, &address, &[]).expect("starts again");
    // It is the same member still, and goes on where it was.
    store(&client, "t", 2, 20..30).await;
    read_until!(seen, [consumer], seen.0.len() == 30);
    assert_eq!(seen.repeated(), 0);
    // What was committed by hand counts for whoever comes next.
    drop(consumer);
    let mut next = client.group_consumer(config).expect("good");
    let mut again = Seen::default();
    read_until!(again, [next], again.0.len() == 13);
    let expected: Vec<u32> = (15..30).filter(|n| n % 2 == 1 || *n >= 20).collect();
    assert_eq!(again.0.keys().copied().collect::<Vec<_>>(), expected);
    let told = next
        .committed(&[TopicPartition::new("t", 1)])
        .await
        .expect("told");
    assert_eq!(told, [Some(offset)]);
    next.close().await.expect("leaves");
    broker.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn seeking_and_pausing() {
    let (_scratch, data) = scratch();
    let broker = Broker::start(&data, &SHORT_SESSIONS);
    let client = client(&broker).await;
    create(&client, "t", 2).await;
    store(&client, "t", 2, 0..20).await;
    let mut consumer = client.group_consumer(config()).expect("good");
    let mut seen = Seen::default();
    read_until!(seen, [consumer], seen.0.len() == 20);
    consumer
        .seek("t", 0, Start::Offset(8))
        .await
        .expect("placed");
    assert_eq!(consumer.position("t", 0), Some(8));
    read_until!(seen, [consumer], seen.repeated() == 2);
    assert_eq!((seen.0[&16], seen.0[&18]), (2, 2));
    consumer.pause("t", 0).expect("it has it");
    store(&client, "t", 2, 20..30).await;
    read_until!(seen, [consumer], seen.0.len() == 25);
    assert_eq!(seen.take(&mut consumer).await, 0);
    assert!(!seen.0.contains_key(&20));
    consumer.resume("t", 0).expect("it has it");
    read_until!(seen, [consumer], seen.0.len() == 30);
    assert_eq!(seen.repeated(), 2);
    let error = consumer.pause("t", 7).unwrap_err();
    assert!(matches!(error, ClientError::NotAssigned { .. }), "{error}");
    consumer.seek("t", 1, Start::Latest).await.expect("placed");
    assert_eq!(consumer.position("t", 1), Some(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn static_members_come_back_and_two_of_a_name_are_one_too_many() {
    let (_scratch, data) = scratch();
    let broker = Broker::start(&data, &SHORT_SESSIONS);
    let client = client(&broker).await;
    create(&client, "t", 2).await;
    let config = GroupConfig {
        instance_id: Some("shelf-3".into()),
        session_timeout: Duration::from_secs(20),
        ..config()
    };
    let mut a = client.group_consumer(config.clone()).expect("good");
    let mut seen = Seen::default();
    read_until!(seen, [a], a.assignment().len() == 2);
    a.close().await.expect("ends");
    let mut a = client.group_consumer(config.clone()).expect("good");
    read_until!(seen, [a], a.assignment().len() == 2);
    let mut thief = client.group_consumer(config).expect("good");
    read_until!(seen, [thief], thief.assignment().len() == 2);
    let error = loop {
        match a.poll(Duration::from_millis(100)).await {
            Ok(records) => assert!(records.is_empty()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Some(ErrorCode::FencedInstanceId));
    assert_eq!(a.poll(PATIENCE).await, Err(error));
}
