//! Waiting costs nothing and ends at once: a hundred consumers wait at the tail of a thousand
//! partitions. Without traffic the broker's processor time is measured and printed; a new record
//! then reaches every consumer without a poll interval.

mod process;
mod support;

use std::time::{Duration, Instant};

use millrace_client::{ConsumerConfig, NewTopic, ProducerConfig, Record, Start};
use process::Broker;
use support::{number_from_env, scratch};

const PARTITIONS: u32 = 1000;
const CONSUMERS: usize = 100;

/// Processor time that the process has used so far, user and system, in clock ticks of 10 ms.
fn processor_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the broker runs");
    let after_name = &stat[stat.rfind(')').expect("a name in brackets") + 2..];
    let fields: Vec<&str> = after_name.split(' ').collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_at_the_tail_is_free_and_ends_at_once() {
    let seconds = number_from_env("MILLRACE_IDLE_SECONDS", 10);
    let (_directory, data) = scratch();
    let broker = Broker::start(&data, &[]);
    let client = support::client(&broker).await;
    client
        .admin()
        .create_topic(NewTopic::new("tail", PARTITIONS))
        .await
        .expect("the topic");

    let mut waiting = Vec::new();
    let (seen, mut arrivals) = tokio::sync::mpsc::channel(CONSUMERS * 4);
    for _ in 0..CONSUMERS {
        let client = support::client(&broker).await;
        let mut consumer = client
            .consumer(ConsumerConfig::default())
            .expect("a consumer");
        consumer
            .assign_topic("tail", Start::Latest)
            .await
            .expect("assigned");
        let seen = seen.clone();
        waiting.push(tokio::spawn(async move {
            loop {
                for record in consumer
                    .poll(Duration::from_secs(60))
                    .await
                    .expect("polling")
                {
                    let at = Instant::now();
                    seen.send((record.partition, at))
                        .await
                        .expect("the test listens");
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;

    let before = processor_ticks(broker.pid());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = processor_ticks(broker.pid()) - before;
    let percent = used as f64 / seconds as f64;
    println!(
        "{CONSUMERS} consumers at the tail of {PARTITIONS} idle partitions: {percent:.2} % of a core"
    );
    // The aim is under 1 %; the bound is wide because time is not what a test may hang on. A
    // broker that polls uses far more than this.
    assert!(percent < 10.0, "waiting costs {percent:.2} % of a core");

    let producer = client
        .producer(ProducerConfig::default())
        .expect("a producer");
    let mut slowest = Vec::new();
    for partition in [0, 1, 499, 998, 999] {
        let begun = Instant::now();
        let record = Record::new("tail", "now").partition(partition);
        producer
            .send(record)
            .await
            .expect("accepted")
            .await
            .expect("stored");
        let mut last = begun;
        for _ in 0..CONSUMERS {
            let arrival = tokio::time::timeout(Duration::from_secs(30), arrivals.recv()).await;
            let (from, at) = arrival
                .expect("every consumer is woken")
                .expect("consumers live");
            assert_eq!(from, partition);
            last = last.max(at);
        }
        slowest.push(last - begun);
    }
    slowest.sort();
    println!(
        "a new record reached all {CONSUMERS} consumers within {:?} (median of 5)",
        slowest[2]
    );
    // Far below the consumers' wait of 10 s: they were woken, they did not come back by themselves.
    assert!(
        slowest[2] < Duration::from_secs(3),
        "woken late: {slowest:?}"
    );
    waiting.into_iter().for_each(|task| task.abort());
}
