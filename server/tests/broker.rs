//! The broker without sockets: two shards, requests as frames, virtual time. What is asked of topics
//! themselves is in `topics.rs`.

mod node;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_shard::env::Env;
use millrace_shard::env::simulated::{DiskFaults, Simulation};
use millrace_wire::batch::{Compression, DEFAULT_MAX_UNCOMPRESSED_BYTES, Records, split_batches};
use millrace_wire::error::ErrorCode;
use millrace_wire::frame::{Format, FrameHeader};
use millrace_wire::native::Response;
use millrace_wire::native::messages::*;
use node::{
    Node, batch, code, fetch_request, one_result, produce_request, run_two_shards as run, values,
};

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
fn requests_behind_one_another_have_the_same_time_to_become_durable() {
    let second = Duration::from_secs(1);
    let faults = DiskFaults {
        write_latency: second..=second,
        ..DiskFaults::default()
    };
    Simulation::with_faults(1, faults).run(|env| async move {
        let node = Node::start(&env, 1).await;
        let mut connection = node.connect(0);
        connection.create_topic("t", 1, &[]).await;
        let sent = env.now();
        let batch = batch(&["slow"]);
        for _ in 0..10 {
            let request = ProduceRequest {
                timeout_ms: 300,
                ..produce_request("t", 0, &batch, -1)
            };
            connection.send(request, std::slice::from_ref(&batch)).await;
        }
        for _ in 0..10 {
            let (_, response, _) = connection.receive().await;
            let result = one_result(response);
            assert_eq!(code(&result.status), Some(ErrorCode::RequestTimedOut));
        }
        let waited = env.now().since(sent);
        assert!(waited < Duration::from_millis(400), "{waited:?}");
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
