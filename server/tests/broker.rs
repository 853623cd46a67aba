//! The broker without sockets: two shards, requests as frames, virtual time.

mod node;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_shard::env::Env;
use millrace_shard::env::simulated::{NodeId, SimulatedEnv, Simulation, StopReason};
use millrace_wire::batch::{Compression, DEFAULT_MAX_UNCOMPRESSED_BYTES, Records, split_batches};
use millrace_wire::error::ErrorCode;
use millrace_wire::frame::{Format, FrameHeader};
use millrace_wire::native::Response;
use millrace_wire::native::messages::*;
use node::{Connection, Node, batch, fetch_request, one_result, produce_request};

const BROKER: NodeId = NodeId(0);

fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce(SimulatedEnv, Node) -> F + 'static) {
    Simulation::new(1).run(|env| async move {
        let node = Node::start(&env, 2).await;
        test(env, node).await;
    });
}

fn values(attached: Bytes) -> Vec<String> {
    let mut values = Vec::new();
    for batch in split_batches(attached) {
        let batch = batch.expect("a batch");
        for record in Records::decode(&batch, DEFAULT_MAX_UNCOMPRESSED_BYTES).expect("decodes") {
            let value = record.expect("a record").value.expect("has a value");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
    }
    values
}

fn code(status: &Status) -> Option<ErrorCode> {
    ErrorCode::from_number(status.code)
}

#[test]
fn records_go_in_and_come_out_on_every_shard_from_every_shard() {
    run(|_, node| async move {
        let mut connections = [node.connect(0), node.connect(1)];
        connections[1].format = Format::Protobuf;
        let created = connections[0].create_topic("t", 4, &[]).await;
        assert_eq!((created.status, created.partitions), (Status::ok(), 4));
        for partition in 0..4 {
            for (n, connection) in connections.iter_mut().enumerate() {
                let value = format!("{partition}-{n}");
                let placed = connection
                    .produce("t", partition, batch(&[&value, "x"]))
                    .await;
                assert_eq!(
                    (placed.status, placed.base_offset),
                    (Status::ok(), n as i64 * 2)
                );
            }
        }
        for connection in &mut connections {
            let request = fetch_request("t", &[0, 1, 2, 3], 0, 0);
            let (response, attached) = connection.fetch(request).await;
            let partitions = &response.topics[0].partitions;
            let numbers: Vec<u32> = partitions.iter().map(|p| p.partition).collect();
            assert_eq!(numbers, [0, 1, 2, 3]);
            assert!(
                partitions
                    .iter()
                    .all(|p| p.high_watermark == 4 && p.log_start == 0)
            );
            let expected: Vec<String> = (0..4)
                .flat_map(|p| [format!("{p}-0"), "x".into(), format!("{p}-1"), "x".into()])
                .collect();
            assert_eq!(values(attached), expected);
        }
        node.stop().await;
    });
}

#[test]
fn pipelined_appends_keep_their_order_here_and_there() {
    run(|_, node| async move {
        let mut connection = node.connect(0);
        connection.create_topic("t", 2, &[]).await;
        for partition in 0..2 {
            let mut sent = Vec::new();
            for n in 0..50 {
                let batch = batch(&[&n.to_string()]);
                let request = produce_request("t", partition, &batch, 1);
                sent.push(connection.send(request, &[batch]).await);
            }
            let mut placed = Vec::new();
            for _ in 0..50 {
                let (correlation, response, _) = connection.receive().await;
                placed.push((correlation, one_result(response).base_offset));
            }
            placed.sort_unstable();
            let expected: Vec<(u32, i64)> = sent.into_iter().zip(0..50).collect();
            assert_eq!(placed, expected);
            let (_, attached) = connection
                .fetch(fetch_request("t", &[partition], 0, 0))
                .await;
            let expected: Vec<String> = (0..50).map(|n: i32| n.to_string()).collect();
            assert_eq!(values(attached), expected);
        }
        node.stop().await;
    });
}

#[test]
fn acks_zero_is_not_answered_and_still_there() {
    run(|_, node| async move {
        let mut connection = node.connect(0);
        connection.create_topic("t", 2, &[]).await;
        for partition in 0..2 {
            let batch = batch(&["quiet"]);
            connection
                .send(produce_request("t", partition, &batch, 0), &[batch])
                .await;
        }
        let (_, attached) = connection.fetch(fetch_request("t", &[0], 0, 1_000)).await;
        assert_eq!(
            values(attached),
            ["quiet"],
            "the first answer is the fetch's"
        );
        let (_, attached) = connection.fetch(fetch_request("t", &[1], 0, 1_000)).await;
        assert_eq!(values(attached), ["quiet"]);
        node.stop().await;
    });
}

#[test]
fn a_fetch_waits_for_data_on_any_shard_and_wakes_at_once() {
    run(|env, node| async move {
        let mut producer = node.connect(0);
        producer.create_topic("t", 4, &[]).await;
        for partition in 0..4 {
            let mut consumer = node.connect(1);
            let offset = 0;
            consumer
                .send(fetch_request("t", &[partition], offset, 60_000), &[])
                .await;
            env.sleep(Duration::from_secs(5)).await;
            let before = env.now();
            producer.produce("t", partition, batch(&["news"])).await;
            let (_, response, attached) = consumer.receive().await;
            assert!(
                env.now().since(before) < Duration::from_millis(50),
                "no poll interval"
            );
            assert!(matches!(response, Response::Fetch(_)));
            assert_eq!(values(attached), ["news"]);
        }
        node.stop().await;
    });
}

#[test]
fn a_fetch_gives_up_at_its_deadline_and_says_nothing_of_what_did_not_change() {
    run(|env, node| async move {
        let mut connection = node.connect(0);
        connection.create_topic("t", 4, &[]).await;
        let before = env.now();
        let (response, attached) = connection
            .fetch(fetch_request("t", &[0, 1, 2, 3], 0, 700))
            .await;
        let waited = env.now().since(before);
        assert!((700..800).contains(&waited.as_millis()), "{waited:?}");
        assert_eq!((response.topics.len(), attached.len()), (0, 0));
        node.stop().await;
    });
}

#[test]
fn a_fetch_waits_for_as_many_bytes_as_it_wants() {
    run(|env, node| async move {
        let mut producer = node.connect(0);
        producer.create_topic("t", 2, &[]).await;
        let one = batch(&["0123456789"]);
        let mut consumer = node.connect(1);
        let mut request = fetch_request("t", &[0, 1], 0, 60_000);
        request.min_bytes = one.len() as u32 * 4;
        consumer.send(request, &[]).await;
        for n in 0..3 {
            producer.produce("t", n % 2, one.clone()).await;
            env.sleep(Duration::from_secs(1)).await;
        }
        let before = env.now();
        producer.produce("t", 1, one.clone()).await;
        let (_, _, attached) = consumer.receive().await;
        assert_eq!(values(attached).len(), 4);
        assert!(env.now().since(before) < Duration::from_millis(50));
        node.stop().await;
    });
}

#[test]
fn byte_limits_hold_and_the_first_batch_always_fits() {
    run(|_, node| async move {
        let mut connection = node.connect(0);
        connection.create_topic("t", 2, &[]).await;
        let one = batch(&["0123456789"]);
        for partition in 0..2 {
            for _ in 0..3 {
                connection.produce("t", partition, one.clone()).await;
            }
        }
        for (max_bytes, partition_max, expected) in [
            (1, 1 << 20, 1),
            (0, 0, 1),
            (one.len() * 2, 1 << 20, 2),
            (one.len() * 5, 1 << 20, 5),
            (1 << 20, one.len() * 2, 4),
            (1 << 20, 1 << 20, 6),
        ] {
            let mut request = fetch_request("t", &[0, 1], 0, 0);
            request.max_bytes = max_bytes as u32;
            for partition in &mut request.topics[0].partitions {
                partition.max_bytes = partition_max as u32;
            }
            let (_, attached) = connection.fetch(request).await;
            assert_eq!(
                values(attached).len(),
                expected,
                "{max_bytes} {partition_max}"
            );
        }
        node.stop().await;
    });
}

#[test]
fn what_cannot_be_fetched_is_told_at_once() {
    run(|_, node| async move {
        let mut connection = node.connect(0);
        connection.create_topic("t", 2, &[]).await;
        for (topic, partition, offset, expected) in [
            ("nope", 0, 0, ErrorCode::UnknownTopicOrPartition),
            ("../etc", 0, 0, ErrorCode::InvalidTopic),
            ("t", 2, 0, ErrorCode::UnknownTopicOrPartition),
            ("t", 0, 5, ErrorCode::OffsetOutOfRange),
            ("t", 1, -1, ErrorCode::OffsetOutOfRange),
            ("t", 1, i64::MAX, ErrorCode::OffsetOutOfRange),
        ] {
            let request = fetch_request(topic, &[partition], offset, 60_000);
            let (response, _) = connection.fetch(request).await;
            let status = &response.topics[0].partitions[0].status;
            assert_eq!(code(status), Some(expected), "{topic} {partition} {offset}");
        }
        node.stop().await;
    });
}

#[test]
fn topics_live_and_die_and_live_again() {
    run(|_, node| async move {
        let mut connections = [node.connect(0), node.connect(1)];
        for round in 0..3 {
            let connection = &mut connections[round % 2];
            let created = connection.create_topic("t", 3, &[]).await;
            assert_eq!(created.status, Status::ok());
            let again = connection.create_topic("t", 3, &[]).await;
            assert_eq!(code(&again.status), Some(ErrorCode::TopicAlreadyExists));
            for partition in 0..3 {
                let placed = connection.produce("t", partition, batch(&["x"])).await;
                assert_eq!(placed.base_offset, 0, "nothing is left of the topic before");
            }
            assert_eq!(connection.delete_topic("t").await, Status::ok());
            let gone = connections[(round + 1) % 2]
                .produce("t", 0, batch(&["x"]))
                .await;
            assert_eq!(code(&gone.status), Some(ErrorCode::UnknownTopicOrPartition));
        }
        node.stop().await;
    });
}

#[test]
fn a_fetch_that_waits_on_a_deleted_topic_is_told() {
    run(|env, node| async move {
        let mut consumer = node.connect(1);
        let mut admin = node.connect(0);
        admin.create_topic("t", 2, &[]).await;
        consumer
            .send(fetch_request("t", &[0, 1], 0, 60_000), &[])
            .await;
        env.sleep(Duration::from_secs(1)).await;
        let before = env.now();
        admin.delete_topic("t").await;
        let (_, response, _) = consumer.receive().await;
        assert!(env.now().since(before) < Duration::from_secs(1));
        let Response::Fetch(response) = response else {
            panic!("{response:?}")
        };
        assert!(
            response.topics[0]
                .partitions
                .iter()
                .any(|p| p.status.code != 0)
        );
        node.stop().await;
    });
}

#[test]
fn what_is_configured_is_enforced() {
    run(|env, node| async move {
        let mut connection = node.connect(0);
        let configs = [
            ("max.message.bytes", "200"),
            ("message.timestamp.type", "LogAppendTime"),
            ("compression.type", "zstd"),
        ];
        connection.create_topic("t", 2, &configs).await;
        for partition in 0..2 {
            let large = batch(&["x".repeat(300).as_str()]);
            let refused = connection.produce("t", partition, large).await;
            assert_eq!(code(&refused.status), Some(ErrorCode::MessageTooLarge));
            let now = env.wall_clock_ms();
            let placed = connection.produce("t", partition, batch(&["small"])).await;
            assert!(
                (now..now + 100).contains(&placed.append_time_ms),
                "{placed:?}"
            );
            let (_, attached) = connection
                .fetch(fetch_request("t", &[partition], 0, 0))
                .await;
            let stored = split_batches(attached)
                .next()
                .expect("one")
                .expect("a batch");
            let records = Records::decode(&stored, DEFAULT_MAX_UNCOMPRESSED_BYTES).expect("ok");
            let attributes = records.header().attributes;
            assert_eq!(attributes.compression(), Ok(Compression::Zstd));
            assert!(attributes.is_append_time());
            assert_eq!(records.header().max_timestamp, placed.append_time_ms);
        }
        let wrong = connection
            .create_topic("u", 1, &[("retention_ms", "5")])
            .await;
        assert_eq!(code(&wrong.status), Some(ErrorCode::InvalidConfig));
        assert!(
            wrong
                .status
                .message
                .contains("did you mean 'retention.ms'?")
        );
        node.stop().await;
    });
}

#[test]
fn batches_that_are_wrong_are_refused_and_the_connection_goes_on() {
    run(|_, node| async move {
        let mut connection = node.connect(0);
        connection.create_topic("t", 2, &[]).await;
        let good = batch(&["a", "b"]);
        let broken = |change: fn(&mut Vec<u8>)| {
            let mut bytes = good.to_vec();
            change(&mut bytes);
            Bytes::from(bytes)
        };
        for (wrong, expected) in [
            (broken(|b| b[70] ^= 1), ErrorCode::CorruptMessage),
            (broken(|b| b[17] ^= 1), ErrorCode::CorruptMessage),
            (broken(|b| b[7] = 5), ErrorCode::InvalidRecord),
            (broken(|b| b[16] = 1), ErrorCode::UnsupportedVersion),
            (broken(|b| b.truncate(40)), ErrorCode::CorruptMessage),
            (broken(Vec::clear), ErrorCode::CorruptMessage),
            (
                broken(|b| b.extend_from_within(..)),
                ErrorCode::InvalidRecord,
            ),
        ] {
            for partition in 0..2 {
                let refused = connection.produce("t", partition, wrong.clone()).await;
                assert_eq!(
                    code(&refused.status),
                    Some(expected),
                    "{}",
                    refused.status.message
                );
            }
        }
        let request = produce_request("t", 0, &good, 7);
        connection.send(request, std::slice::from_ref(&good)).await;
        let refused = one_result(connection.receive().await.1);
        assert_eq!(code(&refused.status), Some(ErrorCode::InvalidRequiredAcks));
        assert_eq!(connection.produce("t", 0, good).await.base_offset, 0);
        node.stop().await;
    });
}

#[test]
fn offsets_by_time_and_deleted_records() {
    run(|_, node| async move {
        let mut connection = node.connect(0);
        connection.create_topic("t", 2, &[]).await;
        for partition in 0..2 {
            for _ in 0..3 {
                connection.produce("t", partition, batch(&["x", "y"])).await;
            }
        }
        let ask = |timestamp| ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: "t".into(),
                partitions: (0..3)
                    .map(|partition| ListOffsetsPartition {
                        partition,
                        timestamp,
                    })
                    .collect(),
            }],
        };
        for (timestamp, expected) in [(-2, 0), (-1, 6), (500, 0), (2_000, -1), (-3, 0)] {
            let Response::ListOffsets(found) = connection.ask(ask(timestamp)).await.0 else {
                panic!("another answer");
            };
            let partitions = &found.topics[0].partitions;
            assert_eq!(partitions[0].offset, expected, "{timestamp}");
            assert_eq!(partitions[1].offset, expected, "{timestamp}");
            assert_eq!(
                code(&partitions[2].status),
                Some(ErrorCode::UnknownTopicOrPartition)
            );
        }
        let delete = |before_offset| DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: "t".into(),
                partitions: (0..2)
                    .map(|partition| DeleteRecordsPartition {
                        partition,
                        before_offset,
                    })
                    .collect(),
            }],
        };
        for (before, expected) in [(3, 3), (1, 3), (-1, 6)] {
            let Response::DeleteRecords(done) = connection.ask(delete(before)).await.0 else {
                panic!("another answer");
            };
            assert!(
                done.topics[0]
                    .partitions
                    .iter()
                    .all(|p| p.log_start == expected),
                "{done:?}"
            );
        }
        let (response, _) = connection.fetch(fetch_request("t", &[0, 1], 0, 0)).await;
        let first = &response.topics[0].partitions[0].status;
        assert_eq!(code(first), Some(ErrorCode::OffsetOutOfRange));
        node.stop().await;
    });
}

#[test]
fn metadata_and_descriptions_agree_with_the_owners() {
    run(|_, node| async move {
        let mut connection = node.connect(1);
        connection
            .create_topic("b", 4, &[("segment.ms", "77")])
            .await;
        connection.create_topic("a", 1, &[]).await;
        let request = MetadataRequest { topics: None };
        let Response::Metadata(all) = connection.ask(request).await.0 else {
            panic!("metadata")
        };
        let names: Vec<&str> = all.topics.iter().map(|t| t.name.as_str()).collect();
        assert_eq!((names, all.revision), (vec!["a", "b"], 2));
        let shards: Vec<u16> = all.topics[1]
            .partitions
            .iter()
            .map(|p| p.leader_shard)
            .collect();
        assert_eq!(
            shards.iter().filter(|shard| **shard == 0).count(),
            2,
            "{shards:?}"
        );
        let request = DescribeTopicRequest { name: "b".into() };
        let Response::DescribeTopic(b) = connection.ask(request).await.0 else {
            panic!("b")
        };
        assert!(
            b.partitions
                .iter()
                .all(|p| p.status == Status::ok() && p.log_end == 0)
        );
        let set: Vec<_> = b.configs.iter().filter(|entry| entry.is_set).collect();
        assert_eq!((set.len(), set[0].value.as_str()), (1, "77"));
        let request = StatsRequest {};
        let Response::Stats(stats) = connection.ask(request).await.0 else {
            panic!("stats")
        };
        assert_eq!(stats.shards.len(), 2);
        node.stop().await;
    });
}

#[test]
fn draining_answers_what_waits_and_refuses_what_is_new() {
    run(|env, node| async move {
        let mut connection = node.connect(0);
        connection.create_topic("t", 2, &[]).await;
        let mut waiting = node.connect(1);
        waiting
            .send(fetch_request("t", &[0, 1], 0, 60_000), &[])
            .await;
        env.sleep(Duration::from_secs(1)).await;
        let before = env.now();
        for broker in &node.brokers {
            broker.drain().await;
        }
        let (_, response, _) = waiting.receive().await;
        assert!(env.now().since(before) < Duration::from_millis(100));
        assert!(matches!(response, Response::Fetch(_)), "{response:?}");
        let refused = connection.produce("t", 0, batch(&["late"])).await;
        assert_eq!(code(&refused.status), Some(ErrorCode::ShuttingDown));
        let refused = connection.create_topic("u", 1, &[]).await;
        assert_eq!(code(&refused.status), Some(ErrorCode::ShuttingDown));
        node.stop().await;
    });
}

#[test]
fn any_bytes_get_an_answer_and_break_nothing() {
    run(|env, node| async move {
        let mut admin = node.connect(0);
        admin.create_topic("t", 1, &[]).await;
        for _ in 0..3_000 {
            let mut connection = node.connect((env.random_u64() % 2) as usize);
            let length = (env.random_u64() % 120) as usize;
            let mut payload: Vec<u8> = (0..length).map(|_| env.random_u64() as u8).collect();
            // Half of them get past the first gate: a kind that exists and a length that fits.
            if length >= 6 && env.random_u64() % 2 == 0 {
                payload[0] = 0;
                payload[1] = (env.random_u64() % 17) as u8;
                let body = (env.random_u64() % (length as u64 - 5)) as u32;
                payload[2..6].copy_from_slice(&body.to_be_bytes());
            }
            let format = Format::ALL[(env.random_u64() % 2) as usize];
            let header = FrameHeader {
                length: length as u32 + 5,
                format,
                correlation: 9,
            };
            let goes_on = connection
                .send_raw(header, BytesMut::from(&payload[..]))
                .await;
            if !goes_on {
                let (correlation, response, _) = connection.receive().await;
                assert_eq!(correlation, 9);
                assert!(matches!(response, Response::Error(_)), "{response:?}");
            }
        }
        assert_eq!(admin.produce("t", 0, batch(&["fine"])).await.base_offset, 0);
        assert!(node.brokers.iter().all(|broker| broker.env.panics() == 0));
        node.stop().await;
    });
}

#[test]
fn what_a_deleted_topic_left_behind_is_removed_at_the_next_start_and_nothing_else() {
    let simulation = Simulation::new(1);
    let exists = |path: &str| {
        let path = path.to_owned();
        simulation.run(move |env| async move { env.list_directory(path.as_ref()).await.is_ok() })
    };
    let make = |path: &str| {
        let path = path.to_owned();
        simulation.run(move |env| async move {
            env.create_directory(path.as_ref()).await.expect("made");
        });
    };
    let start_and_stop = |create: Option<&'static str>| {
        simulation.run(move |env| async move {
            let node = Node::start(&env, 2).await;
            if let Some(topic) = create {
                let created = node.connect(0).create_topic(topic, 2, &[]).await;
                assert_eq!(created.status, Status::ok());
                node.connect(0).produce(topic, 1, batch(&["kept"])).await;
            }
            env.sleep(Duration::from_secs(1)).await;
            node.stop().await;
        });
    };
    make("/data/ghost/0");
    start_and_stop(None);
    assert!(
        exists("/data/ghost/0"),
        "a controller without a past removes nothing"
    );
    start_and_stop(Some("t"));
    make("/data/t/0");
    make("/data/t/7");
    make("/data/notes/old");
    make("/data/lost+found/0");
    start_and_stop(None);
    assert!(!exists("/data/ghost/0") && !exists("/data/t/7"));
    assert!(exists("/data/t/0") && exists("/data/notes/old") && exists("/data/lost+found/0"));
    simulation.run(|env| async move {
        let node = Node::start(&env, 2).await;
        let request = fetch_request("t", &[1], 0, 0);
        let (_, attached) = node.connect(0).fetch(request).await;
        assert_eq!(values(attached), ["kept"]);
        node.stop().await;
    });
}

/// What is known of a topic from the answers: whether it is there. Nothing, while a command on it
/// was not answered.
type Known = Rc<RefCell<BTreeMap<String, Option<bool>>>>;

#[test]
fn topics_survive_power_loss_at_any_moment_of_making_and_deleting_them() {
    for seed in 0..60 {
        let simulation = Simulation::new(seed);
        let known = Known::default();
        let mut crashes = 0;
        for life in 0..4_u64 {
            simulation.restart(BROKER);
            simulation.crash_after_steps(BROKER, 200 + (seed * 7919 + life * 104_729) % 3_000);
            let known = Rc::clone(&known);
            let ended = simulation.try_run(BROKER, move |env| async move {
                let node = Node::start(&env, 2).await;
                let mut connection = node.connect((life % 2) as usize);
                for n in 0..400 {
                    make_or_delete(&node, &mut connection, n % 3, &known).await;
                }
            });
            crashes += u32::from(ended == Err(StopReason::Crashed));
        }
        assert_eq!(crashes, 4, "every life ended in the middle");
        simulation.restart(BROKER);
        let known = known.borrow().clone();
        simulation.run(move |env| async move { check_topics(&env, &known).await });
    }
}

async fn make_or_delete(node: &Node, connection: &mut Connection, n: u32, known: &Known) {
    let name = format!("t{n}");
    let is_there = node.brokers[0].topic(&name).is_ok();
    let told = known.borrow_mut().insert(name.clone(), None).flatten();
    assert!(told.is_none_or(|told| told == is_there), "{name}: {told:?}");
    let status = match is_there {
        true => connection.delete_topic(&name).await,
        false => connection.create_topic(&name, 3, &[]).await.status,
    };
    assert_eq!(status, Status::ok());
    known.borrow_mut().insert(name.clone(), Some(!is_there));
    if !is_there {
        let placed = connection.produce(&name, n, batch(&["x"])).await;
        assert_eq!((placed.status, placed.base_offset), (Status::ok(), 0));
    }
}

async fn check_topics(env: &SimulatedEnv, known: &BTreeMap<String, Option<bool>>) {
    let node = Node::start(env, 2).await;
    let mut connection = node.connect(0);
    for (name, told) in known {
        let is_there = node.brokers.iter().map(|broker| broker.topic(name).is_ok());
        let is_there: Vec<bool> = is_there.collect();
        assert_eq!(is_there[0], is_there[1], "the shards agree about {name}");
        assert!(
            told.is_none_or(|told| told == is_there[0]),
            "{name}: {told:?}"
        );
        if is_there[0] {
            assert_eq!(connection.delete_topic(name).await, Status::ok());
        }
        let created = connection.create_topic(name, 3, &[]).await;
        assert_eq!(created.status, Status::ok());
        for partition in 0..3 {
            let placed = connection.produce(name, partition, batch(&["y"])).await;
            assert_eq!((placed.status, placed.base_offset), (Status::ok(), 0));
        }
    }
    node.stop().await;
}
