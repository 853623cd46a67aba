//! Start-up after SIGKILL takes about as long with much stored as with nothing, because recovery
//! reads the journal's tail and never the segments. `MILLRACE_STARTUP_GIB` says how much is stored
//! (a quarter GiB unless told). And a restart with another number of shards keeps everything.

mod process;
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_client::{
    Client, Compression, ConsumerConfig, NewTopic, OffsetQuery, ProducerConfig, Record, Start,
};
use process::Broker;
use support::{DEFAULT_JOURNAL, Draws, scratch};

const PARTITIONS: u32 = 8;

/// Produces records of 16 KiB until `bytes` are stored; gives back how many there are.
async fn fill(client: &Client, topic: &str, bytes: u64) -> u64 {
    const RECORD_BYTES: usize = 16 << 10;
    let mut draws = Draws(7);
    let noise: Vec<u8> = (0..1 << 20).map(|_| draws.next() as u8).collect();
    let noise = Bytes::from(noise);
    let producer = client
        .producer(ProducerConfig {
            compression: Compression::None,
            batch_bytes: 512 << 10,
            ..ProducerConfig::default()
        })
        .expect("a producer");
    let records = bytes / RECORD_BYTES as u64;
    let mut deliveries = std::collections::VecDeque::new();
    for number in 0..records {
        let at = draws.below((noise.len() - RECORD_BYTES) as u64) as usize;
        let record = Record::new(topic, noise.slice(at..at + RECORD_BYTES))
            .partition((number % u64::from(PARTITIONS)) as u32);
        deliveries.push_back(producer.send(record).await.expect("accepted"));
        if deliveries.len() > 4096 {
            deliveries
                .pop_front()
                .expect("not empty")
                .await
                .expect("stored");
        }
    }
    for delivery in deliveries {
        delivery.await.expect("stored");
    }
    records
}

async fn stored(client: &Client, topic: &str) -> u64 {
    let questions: Vec<_> = (0..PARTITIONS)
        .map(|p| (topic, p, OffsetQuery::Latest))
        .collect();
    let answers = client
        .admin()
        .list_offsets(&questions)
        .await
        .expect("offsets");
    answers
        .into_iter()
        .map(|a| a.offset.expect("serves").expect("an end") as u64)
        .sum()
}

/// Kills and restarts a few times; the median of the start-up times.
fn restart_times(mut broker: Broker, data: &Path) -> (Broker, Duration) {
    let mut times = Vec::new();
    for _ in 0..5 {
        broker.kill();
        let begun = Instant::now();
        broker = Broker::start(data, &DEFAULT_JOURNAL);
        times.push(begun.elapsed());
    }
    times.sort();
    (broker, times[2])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_up_does_not_depend_on_what_is_stored() {
    let gib: f64 = std::env::var("MILLRACE_STARTUP_GIB").map_or(0.25, |text| {
        text.parse().expect("MILLRACE_STARTUP_GIB is a number")
    });
    let (_directory, data) = scratch();
    let broker = Broker::start(&data, &DEFAULT_JOURNAL);
    let (broker, empty) = restart_times(broker, &data);
    let client = support::client(&broker).await;
    client
        .admin()
        .create_topic(NewTopic::new("much", PARTITIONS))
        .await
        .expect("the topic");
    let records = fill(&client, "much", (gib * f64::from(1 << 30)) as u64).await;
    drop(client);
    let (broker, full) = restart_times(broker, &data);
    println!(
        "start-up after SIGKILL: {empty:?} with nothing stored, {full:?} with {gib} GiB (medians of 5)"
    );
    assert_eq!(
        stored(&support::client(&broker).await, "much").await,
        records
    );
    // What is bounded is the journal's tail. This limit only catches reading everything again.
    assert!(
        full < empty + Duration::from_secs(10),
        "start-up reads what is stored"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_shards_keeps_everything() {
    let (_directory, data) = scratch();
    let mut broker = Broker::start(&data, &["--shards", "1"]);
    support::client(&broker)
        .await
        .admin()
        .create_topic(NewTopic::new("moved", PARTITIONS).config("segment.bytes", "1048576"))
        .await
        .expect("the topic");
    let mut records = 0;
    for (shards, cleanly) in [
        ("2", true),
        ("1", false),
        ("2", false),
        ("2", true),
        ("1", true),
    ] {
        records += fill(&support::client(&broker).await, "moved", 24 << 20).await;
        if cleanly {
            assert!(broker.stop().0.success());
        } else {
            broker.kill();
        }
        broker = Broker::start(&data, &["--shards", shards]);
        let client = support::client(&broker).await;
        assert_eq!(
            stored(&client, "moved").await,
            records,
            "after a restart with {shards} shards"
        );
        let mut consumer = client
            .consumer(ConsumerConfig::default())
            .expect("a consumer");
        consumer
            .assign_topic("moved", Start::Earliest)
            .await
            .expect("assigned");
        let mut read = 0;
        while read < records {
            let polled = consumer
                .poll(Duration::from_secs(30))
                .await
                .expect("reading");
            assert!(
                !polled.is_empty(),
                "{read} of {records} records can be read"
            );
            read += polled.len() as u64;
        }
    }
}
