//! A real broker that stops, is killed, and comes back, with as many shards or another number.

mod process;

use std::time::Duration;

use bytes::Bytes;
use millrace_wire::error::ErrorCode;
use millrace_wire::native::Response;
use millrace_wire::native::messages::*;
use process::{Broker, Client, batch};

const PARTITIONS: u32 = 4;

fn produce_round(client: &mut Client, round: usize) {
    for partition in 0..PARTITIONS {
        let value = format!("{partition}/{round}");
        let placed = client.produce("t", partition, &batch(&[&value, "and more"]));
        assert_eq!(
            (placed.status, placed.base_offset),
            (Status::ok(), round as i64 * 2)
        );
    }
}

fn check_rounds(client: &mut Client, rounds: usize) {
    for partition in 0..PARTITIONS {
        let expected: Vec<String> = (0..rounds)
            .flat_map(|round| [format!("{partition}/{round}"), "and more".into()])
            .collect();
        assert_eq!(client.fetch_all("t", partition), expected);
    }
}

#[test]
fn everything_is_there_after_stops_and_kills_and_with_other_numbers_of_shards() {
    let data = tempfile::tempdir().expect("a directory");
    let runs = [
        ("2", true),
        ("2", false),
        ("1", true),
        ("2", false),
        ("1", false),
        ("2", true),
    ];
    for (round, (shards, clean)) in runs.into_iter().enumerate() {
        let broker = Broker::start(data.path(), &["--shards", shards]);
        let mut client = broker.connect();
        let hello = client.handshake(None);
        assert_eq!(
            (hello.shard_count.to_string(), hello.boot_epoch),
            (shards.into(), round as u32 + 1)
        );
        if round == 0 {
            client.create_topic("t", PARTITIONS);
        }
        check_rounds(&mut client, round);
        produce_round(&mut client, round);
        check_rounds(&mut client, round + 1);
        if clean {
            let (status, took) = broker.stop();
            assert_eq!(status.code(), Some(0));
            assert!(took < Duration::from_secs(3), "{took:?}");
        } else {
            broker.kill();
        }
    }
}

#[test]
fn topics_and_their_settings_survive_and_the_deleted_stay_deleted() {
    let data = tempfile::tempdir().expect("a directory");
    let create = |name: &str| CreateTopicRequest {
        name: name.into(),
        partitions: 3,
        configs: vec![ConfigEntry {
            name: "retention.ms".into(),
            value: "-1".into(),
            is_set: true,
        }],
        validate_only: false,
    };
    for clean in [true, false, false] {
        let broker = Broker::start(data.path(), &[]);
        let mut client = broker.connect();
        client.handshake(None);
        let Response::ListTopics(list) = client.ask(ListTopicsRequest {}, &[]).0 else {
            panic!()
        };
        if list.topics.is_empty() {
            client.ask(create("kept"), &[]);
        } else {
            let names: Vec<&str> = list.topics.iter().map(|t| t.name.as_str()).collect();
            assert_eq!(names, ["kept"]);
        }
        let request = DescribeTopicRequest {
            name: "kept".into(),
        };
        let Response::DescribeTopic(kept) = client.ask(request, &[]).0 else {
            panic!()
        };
        assert!(
            kept.configs
                .iter()
                .any(|c| c.name == "retention.ms" && c.value == "-1" && c.is_set)
        );
        assert_eq!(kept.partitions.len(), 3);
        client.ask(create("gone"), &[]);
        assert_eq!(client.produce("gone", 2, &batch(&["x"])).base_offset, 0);
        client.ask(
            DeleteTopicRequest {
                name: "gone".into(),
            },
            &[],
        );
        if clean {
            assert_eq!(broker.stop().0.code(), Some(0));
        } else {
            broker.kill();
        }
    }
}

#[test]
fn stopping_answers_what_waits_and_is_quick() {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &[]);
    let mut client = broker.connect();
    client.handshake(None);
    client.create_topic("t", 1);
    let partitions = vec![FetchPartition {
        partition: 0,
        offset: 0,
        max_bytes: 1000,
    }];
    client.send(
        FetchRequest {
            max_wait_ms: 60_000,
            min_bytes: 1,
            max_bytes: 1000,
            topics: vec![FetchTopic {
                name: "t".into(),
                partitions,
            }],
        },
        &[],
    );
    let _half_open = broker.connect();
    let mut idle = broker.connect();
    idle.handshake(None);
    // The fetch is under way once a later request on its connection is answered.
    client.send(PingRequest {}, &[]);
    assert!(matches!(
        client.try_receive().expect("an answer").1,
        Response::Ping(_)
    ));
    let (status, took) = broker.stop();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(matches!(
        client.try_receive().expect("an answer").1,
        Response::Fetch(_)
    ));
}

#[test]
fn an_address_or_a_directory_in_use_is_one_clear_sentence() {
    let data = tempfile::tempdir().expect("a directory");
    let other = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &[]);
    let bind = broker.address.to_string();
    let sentence = |result: Result<Broker, (std::process::ExitStatus, Vec<String>)>| match result {
        Ok(_) => panic!("it started"),
        Err((status, lines)) => {
            assert_eq!(status.code(), Some(1));
            let errors: Vec<_> = lines
                .into_iter()
                .filter(|l| l.starts_with("error: "))
                .collect();
            assert_eq!(errors.len(), 1, "{errors:?}");
            errors[0].clone()
        }
    };
    let in_use = sentence(Broker::try_start(other.path(), &bind, &[]));
    assert!(
        in_use.contains(&bind) && in_use.contains("--bind"),
        "{in_use}"
    );
    let locked = sentence(Broker::try_start(data.path(), "127.0.0.1:0", &[]));
    assert!(
        locked.contains("in use by process") && locked.contains("--data-dir"),
        "{locked}"
    );
    let file = other.path().join("file");
    std::fs::write(&file, "x").expect("written");
    let unusable = sentence(Broker::try_start(&file.join("data"), "127.0.0.1:0", &[]));
    assert!(
        unusable.contains("cannot be used: Not a directory"),
        "{unusable}"
    );
    broker.must_serve("after");
}

#[test]
fn deleted_records_stay_deleted_after_a_kill() {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &[]);
    let mut client = broker.connect();
    client.handshake(None);
    client.create_topic("t", 1);
    let values: Vec<Bytes> = (0..10).map(|n| batch(&[&n.to_string()])).collect();
    for value in &values {
        client.produce("t", 0, value);
    }
    let delete = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![DeleteRecordsPartition {
                partition: 0,
                before_offset: 7,
            }],
        }],
    };
    let Response::DeleteRecords(done) = client.ask(delete, &[]).0 else {
        panic!()
    };
    assert_eq!(done.topics[0].partitions[0].log_start, 7);
    broker.kill();
    let broker = Broker::start(data.path(), &[]);
    let mut client = broker.connect();
    client.handshake(None);
    let request = |offset| FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            name: "t".into(),
            partitions: vec![FetchPartition {
                partition: 0,
                offset,
                max_bytes: 1 << 20,
            }],
        }],
    };
    let Response::Fetch(below) = client.ask(request(6), &[]).0 else {
        panic!()
    };
    let status = below.topics[0].partitions[0].status.code;
    assert_eq!(
        ErrorCode::from_number(status),
        Some(ErrorCode::OffsetOutOfRange)
    );
    let Response::Fetch(rest) = client.ask(request(7), &[]).0 else {
        panic!()
    };
    let partition = &rest.topics[0].partitions[0];
    assert_eq!((partition.log_start, partition.high_watermark), (7, 10));
}
