//! A broker as a process among others: told to stop twice, and short of descriptors.

mod process;

use std::time::{Duration, Instant};

use millrace_wire::native::Response;
use millrace_wire::native::messages::*;
use process::{Broker, Client, batch};

/// A fetch of all that there is in the first partition of a topic.
fn fetch(topic: &str) -> FetchRequest {
    let partition = FetchPartition {
        partition: 0,
        offset: 0,
        max_bytes: 1 << 20,
    };
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            name: topic.into(),
            partitions: vec![partition],
        }],
    }
}

#[test]
fn a_second_signal_ends_a_broker_that_still_drains() {
    let data = tempfile::tempdir().expect("a directory");
    let limits = [
        "--shards",
        "1",
        "--set",
        "network.max_frame_bytes=1MiB",
        "--set",
        "network.buffer_bytes=1MiB",
    ];
    let mut broker = Broker::start(data.path(), &limits);
    let mut client = broker.connect();
    client.handshake(None);
    create_topic(&mut client);
    let noise = "x".repeat(900_000);
    client.produce("t", 0, &batch(&[&noise]));
    // A client that reads nothing of what it asked for: the broker's buffers fill, and the requests
    // behind them wait. Draining gives them a few seconds.
    let mut stalled = broker.connect();
    stalled.handshake(None);
    for _ in 0..30 {
        stalled.send(fetch("t"), &[]);
    }
    // All of them have arrived: what is behind them on another connection waits as well.
    let mut behind = broker.connect();
    behind.handshake(None);
    behind.send(fetch("t"), &[]);
    behind
        .stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("set");
    assert!(behind.try_receive().is_err(), "there is no memory for it");

    broker.signal(libc::SIGTERM);
    assert!(broker.wait_for_line("stopping").is_some());
    assert_eq!(broker.ended(), None, "it drains");
    let began = Instant::now();
    broker.signal(libc::SIGTERM);
    let status = broker.end_or_kill();
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "at once, not after {:?}",
        began.elapsed()
    );
    assert_eq!(status.code(), Some(130));
    assert!(
        broker
            .wait_for_line("ended at once by a second signal")
            .is_some()
    );

    let broker = Broker::start(data.path(), &limits);
    let mut client = broker.connect();
    client.handshake(None);
    assert_eq!(client.fetch_all("t", 0), [noise]);
}

/// A topic that keeps even records that are from 1970, as these tests' are.
fn create_topic(client: &mut Client) {
    let forever = ConfigEntry {
        name: "retention.ms".into(),
        value: "-1".into(),
        is_set: true,
    };
    let request = CreateTopicRequest {
        name: "t".into(),
        partitions: 1,
        configs: vec![forever],
        validate_only: false,
    };
    let Response::CreateTopic(created) = client.ask(request, &[]).0 else {
        panic!("another answer")
    };
    assert_eq!(created.status, Status::ok());
}

/// More than two journal files hold, and a segment or two.
fn ten_megabytes() -> Vec<String> {
    let long = "x".repeat(400_000);
    (0..24).map(|n| format!("{n}{long}")).collect()
}

fn produce_all(client: &mut Client, values: &[String]) {
    for (offset, value) in (0..).zip(values) {
        let placed = client.produce("t", 0, &batch(&[value]));
        assert_eq!((placed.status, placed.base_offset), (Status::ok(), offset));
    }
}

#[test]
fn a_crowd_on_a_broker_with_few_descriptors_leaves_storage_enough() {
    let data = tempfile::tempdir().expect("a directory");
    let few = 200;
    let arguments = ["--shards", "1"];
    let mut broker =
        Broker::try_start_with_descriptors(few, data.path(), &arguments).expect("enough");
    assert!(
        broker
            .wait_for_line("leaves each shard fewer connections")
            .is_some()
    );
    let mut inside = broker.connect();
    inside.handshake(None);
    create_topic(&mut inside);
    let crowd: Vec<Client> = (0..few).map(|_| broker.connect()).collect();
    assert!(broker.wait_for_line("too many connections").is_some());
    let values = ten_megabytes();
    produce_all(&mut inside, &values);
    assert!(inside.fetch_all("t", 0) == values, "what was produced");
    assert!(broker.descriptors() < few);
    drop(crowd);
    broker.must_serve("after");
    let told = |line: &&String| line.contains("too many connections");
    let lines = broker.lines.iter().filter(told).count();
    assert!(lines < 40, "a line now and then, not one for each: {lines}");
    broker.kill();

    let broker = Broker::start(data.path(), &arguments);
    let mut client = broker.connect();
    client.handshake(None);
    assert!(client.fetch_all("t", 0) == values, "and it is still there");
}

#[test]
fn too_few_descriptors_for_any_use_are_one_sentence() {
    let data = tempfile::tempdir().expect("a directory");
    let started = Broker::try_start_with_descriptors(60, data.path(), &["--shards", "2"]);
    let Err((status, lines)) = started else {
        panic!("it started")
    };
    assert_eq!(status.code(), Some(1));
    let said = lines.join("\n");
    assert!(said.contains("limit of open files is 60"), "{said}");
    assert!(said.contains("ulimit -n"), "{said}");
}

#[test]
fn a_broker_that_runs_out_of_descriptors_goes_on_and_takes_others_when_there_is_room() {
    let data = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::start(data.path(), &["--shards", "1"]);
    let mut inside = broker.connect();
    inside.handshake(None);
    create_topic(&mut inside);
    broker.limit_descriptors(broker.descriptors() + 10);
    // Most of them wait in the kernel, for want of descriptors; so does storage, for its first
    // segment, while the journal has room.
    let crowd: Vec<Client> = (0..40).map(|_| broker.connect()).collect();
    assert!(broker.wait_for_line("ulimit -n").is_some());
    let values = ten_megabytes();
    let (now, later) = values.split_at(8);
    produce_all(&mut inside, now);
    assert!(inside.fetch_all("t", 0) == now, "what was produced");
    let began = Instant::now();
    drop(crowd);
    broker.must_serve("after");
    assert!(began.elapsed() < Duration::from_secs(5), "room was found");
    for value in later {
        assert_eq!(
            inside.produce("t", 0, &batch(&[value])).status,
            Status::ok()
        );
    }
    assert!(inside.fetch_all("t", 0) == values, "all that was produced");
    assert!(broker.stop().0.success());

    let broker = Broker::start(data.path(), &["--shards", "1"]);
    let mut client = broker.connect();
    client.handshake(None);
    assert!(client.fetch_all("t", 0) == values, "and it is still there");
}
