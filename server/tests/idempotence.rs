//! Idempotent producers against a real broker, on both of its faces: what is sent again is stored
//! once and answered with its first offset, over kills and other numbers of shards too.

mod kafka_client;
mod process;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_client::samples::create;
use kafka_client::{KafkaClient, batch, produce, text};
use millrace_wire::batch::{BatchProducer, Compression, set_batch_producer};
use millrace_wire::error::ErrorCode;
use millrace_wire::ids::{ProducerEpoch, ProducerId};
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::ResponseKind;
use millrace_wire::kafka::control::messages::create_topics_request::CreatableTopicConfig;
use process::Broker;

const OUT_OF_ORDER: i16 = ErrorCode::OutOfOrderSequenceNumber as i16;
const INVALID_EPOCH: i16 = ErrorCode::InvalidProducerEpoch as i16;

/// A batch of a producer: of as many records as there are values.
fn sent(id: i64, epoch: i16, base_sequence: i32, values: &[&str]) -> Bytes {
    let mut bytes = BytesMut::from(&batch(values, Compression::None)[..]);
    let producer = BatchProducer {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        base_sequence,
    };
    set_batch_producer(&mut bytes, producer);
    bytes.freeze()
}

/// What a produce request with one batch was told: an error or 0, an offset, when it was appended.
#[track_caller]
fn told(response: ResponseKind) -> (i16, i64, i64) {
    let ResponseKind::Produce(produced) = response else {
        panic!("{response:?}")
    };
    let partition = &produced.responses[0].partition_responses[0];
    (
        partition.error_code,
        partition.base_offset,
        partition.log_append_time_ms,
    )
}

#[track_caller]
fn put(client: &mut KafkaClient, partition: i32, batch: Bytes) -> (i16, i64) {
    let request = produce("t", partition, -1, batch);
    let (error, offset, _) = told(client.ask(ApiKey::Produce, 9, request));
    (error, offset)
}

fn values(broker: &Broker, partition: u32) -> Vec<String> {
    let mut client = broker.connect();
    client.handshake(None);
    client.fetch_all("t", partition)
}

fn duplicates(broker: &Broker) -> u64 {
    let mut client = broker.connect();
    client.handshake(None);
    client.counter("duplicate_batches")
}

fn with_topic(shards: &str) -> (tempfile::TempDir, Broker, KafkaClient) {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &["--shards", shards]);
    let mut client = KafkaClient::connect(broker.address);
    client.ask(ApiKey::CreateTopics, 5, create("t", 4));
    (data, broker, client)
}

#[test]
fn what_is_sent_again_is_stored_once() {
    let (_data, broker, mut client) = with_topic("1");
    for n in 0..7 {
        let batch = sent(5, 0, n * 2, &["a", "b"]);
        assert_eq!(put(&mut client, 0, batch), (0, i64::from(n) * 2));
    }
    for n in 2..7 {
        let batch = sent(5, 0, n * 2, &["a", "b"]);
        assert_eq!(put(&mut client, 0, batch), (0, i64::from(n) * 2));
    }
    assert_eq!(duplicates(&broker), 5);
    for (sequence, why) in [(2, "older than five"), (16, "a gap"), (13, "an overlap")] {
        let refused = put(&mut client, 0, sent(5, 0, sequence, &["x", "y"]));
        assert_eq!(refused, (OUT_OF_ORDER, -1), "{why}");
    }
    // Other producers and other partitions have sequences of their own.
    assert_eq!(put(&mut client, 0, sent(6, 0, 0, &["c"])), (0, 14));
    assert_eq!(put(&mut client, 1, sent(5, 0, 0, &["d"])), (0, 0));
    // Nothing is known of this one: it goes on where it was.
    assert_eq!(put(&mut client, 0, sent(7, 3, 1_000, &["e"])), (0, 15));
    assert_eq!(put(&mut client, 0, sent(5, 0, 14, &["f"])), (0, 16));
    let stored = values(&broker, 0);
    assert_eq!(stored.len(), 17, "{stored:?}");
    assert_eq!(stored[14..], ["c", "e", "f"]);
}

#[test]
fn a_later_epoch_takes_over() {
    let (_data, broker, mut client) = with_topic("1");
    assert_eq!(put(&mut client, 0, sent(5, 1, 0, &["a"])), (0, 0));
    let early = put(&mut client, 0, sent(5, 2, 1, &["x"]));
    assert_eq!(early, (OUT_OF_ORDER, -1));
    assert_eq!(put(&mut client, 0, sent(5, 2, 0, &["b"])), (0, 1));
    for sequence in [0, 1] {
        let late = put(&mut client, 0, sent(5, 1, sequence, &["a"]));
        assert_eq!(late, (INVALID_EPOCH, -1));
    }
    assert_eq!(put(&mut client, 0, sent(5, 2, 0, &["b"])), (0, 1));
    // Sequence numbers begin again after the largest.
    let max = i32::MAX;
    assert_eq!(put(&mut client, 0, sent(8, 0, max, &["c"])), (0, 2));
    assert_eq!(put(&mut client, 0, sent(8, 0, 0, &["d"])), (0, 3));
    assert_eq!(put(&mut client, 0, sent(8, 0, max, &["c"])), (0, 2));
    // What no producer sends, and what is not served yet.
    assert_ne!(put(&mut client, 0, sent(5, -1, 0, &["x"])).0, 0);
    assert_ne!(put(&mut client, 0, sent(5, 2, -1, &["x"])).0, 0);
    let mut transactional = BytesMut::from(&sent(5, 2, 1, &["x"])[..]);
    transactional[22] |= 1 << 4;
    set_batch_producer(
        &mut transactional,
        BatchProducer {
            id: ProducerId(5),
            epoch: ProducerEpoch(2),
            base_sequence: 1,
        },
    );
    let refused = put(&mut client, 0, transactional.freeze());
    assert_eq!(refused.0, ErrorCode::UnsupportedVersion as i16);
    assert_eq!(values(&broker, 0), ["a", "b", "c", "d"]);
}

#[test]
fn a_duplicate_of_what_is_on_its_way_joins_it() {
    let (_data, broker, mut first) = with_topic("2");
    let mut second = KafkaClient::connect(broker.address);
    let rounds = 60;
    for round in 0..rounds {
        for partition in 0..4 {
            let request = || {
                let batch = sent(9, 0, round * 2, &["one", "two"]);
                produce("t", partition, -1, batch)
            };
            first.send(ApiKey::Produce, 9, request());
            second.send(ApiKey::Produce, 9, request());
            first.send(ApiKey::Produce, 9, request());
        }
        for (client, answers) in [(&mut first, 8), (&mut second, 4)] {
            for _ in 0..answers {
                let (_, response) = client.receive(ApiKey::Produce, 9);
                let (error, offset, _) = told(response);
                assert_eq!((error, offset), (0, i64::from(round) * 2));
            }
        }
    }
    for partition in 0..4 {
        let stored = values(&broker, partition);
        assert_eq!(stored.len(), 2 * rounds as usize);
    }
}

#[test]
fn several_partitions_in_a_request_are_answered_when_the_last_is_durable() {
    let (_data, broker, mut client) = with_topic("1");
    assert_eq!(put(&mut client, 1, sent(3, 0, 0, &["old"])), (0, 0));
    for round in 0..50 {
        let mut request = produce("t", 0, -1, sent(3, 0, round, &["new"]));
        let again = produce("t", 1, -1, sent(3, 0, 0, &["old"]));
        let again = again.topic_data[0].partition_data[0].clone();
        request.topic_data[0].partition_data.push(again);
        let ResponseKind::Produce(answer) = client.ask(ApiKey::Produce, 9, request) else {
            panic!()
        };
        let partitions = &answer.responses[0].partition_responses;
        let told: Vec<_> = partitions
            .iter()
            .map(|p| (p.error_code, p.base_offset))
            .collect();
        assert_eq!(told, [(0, i64::from(round)), (0, 0)]);
        // Whoever has the answer can read it.
        assert_eq!(values(&broker, 0).len(), round as usize + 1);
    }
    assert_eq!(values(&broker, 1), ["old"]);
}

#[test]
fn the_last_batches_are_known_after_stops_and_kills_and_with_other_numbers_of_shards() {
    let data = tempfile::tempdir().expect("a directory");
    // Small files, so that the journal begins many and forgets the batches themselves.
    let set = [
        "--set",
        "journal.file_bytes=1MiB",
        "--set",
        "journal.max_files=4",
        "--set",
        "storage.flush_bytes=64KiB",
    ];
    let filler = "x".repeat(40_000);
    let runs = [
        ("2", false),
        ("2", true),
        ("1", false),
        ("2", false),
        ("1", true),
    ];
    let mut next = 0;
    let mut appended = [0_i64; 4];
    let mut recent: Vec<(i32, [i64; 4])> = Vec::new();
    for (round, (shards, clean)) in runs.into_iter().enumerate() {
        let broker = Broker::start(data.path(), &[&["--shards", shards], &set[..]].concat());
        let mut client = KafkaClient::connect(broker.address);
        if round == 0 {
            client.ask(ApiKey::CreateTopics, 5, create("t", 4));
        }
        for (sequence, offsets) in &recent {
            for partition in 0..4 {
                let again = sent(11, 0, *sequence, &["a", "b", "c"]);
                let told = put(&mut client, partition, again);
                assert_eq!(told, (0, offsets[partition as usize]), "round {round}");
            }
        }
        for step in 0..40 {
            let mut offsets = [0; 4];
            for partition in 0..4 {
                let place = &mut appended[partition as usize];
                let batch = sent(11, 0, next, &["a", "b", "c"]);
                assert_eq!(put(&mut client, partition, batch), (0, *place));
                offsets[partition as usize] = *place;
                *place += 3;
                if step < 20 {
                    let plain = kafka_client::batch(&[&filler], Compression::None);
                    assert_eq!(put(&mut client, partition, plain), (0, *place));
                    *place += 1;
                }
            }
            recent.push((next, offsets));
            next += 3;
        }
        recent.drain(..recent.len() - 5);
        drop(client);
        if clean {
            assert_eq!(broker.stop().0.code(), Some(0));
        } else {
            broker.kill();
        }
    }
    let broker = Broker::start(data.path(), &["--shards", "2"]);
    let mut client = KafkaClient::connect(broker.address);
    let gap = put(&mut client, 0, sent(11, 0, next + 1, &["x"]));
    assert_eq!(gap, (OUT_OF_ORDER, -1));
    for partition in 0..4 {
        let told = put(&mut client, partition, sent(11, 0, next, &["last"]));
        assert_eq!(told, (0, appended[partition as usize]));
    }
}

#[test]
fn a_duplicate_has_the_time_at_which_it_was_appended() {
    let (_data, _broker, mut client) = with_topic("1");
    let stamped = CreatableTopicConfig::default()
        .with_name(text("message.timestamp.type"))
        .with_value(Some(text("LogAppendTime")));
    let mut wanted = create("stamped", 1);
    wanted.topics[0].configs = vec![stamped];
    client.ask(ApiKey::CreateTopics, 5, wanted);
    let mut ask = |topic: &str, sequence| {
        let request = produce(topic, 0, -1, sent(1, 0, sequence, &["a"]));
        told(client.ask(ApiKey::Produce, 9, request))
    };
    let first = ask("stamped", 0);
    assert!(first.2 > 1_000_000, "{first:?}");
    let now_ms = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.expect("after 1970").as_millis()
    };
    while now_ms() <= first.2.unsigned_abs().into() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ask("stamped", 0), first);
    assert_eq!(ask("t", 0), (0, 0, -1));
    assert_eq!(ask("t", 0), (0, 0, -1));
}

#[test]
fn the_native_protocol_keeps_the_same_rules() {
    let (_data, broker, mut kafka) = with_topic("2");
    let mut client = broker.connect();
    client.handshake(None);
    for partition in 0..4 {
        let first = sent(21, 0, 0, &["a", "b"]);
        for _ in 0..2 {
            let placed = client.produce("t", partition, &first);
            assert_eq!((placed.status.code, placed.base_offset), (0, 0));
        }
        let gap = client.produce("t", partition, &sent(21, 0, 3, &["x"]));
        assert_eq!(gap.status.code, OUT_OF_ORDER);
        let message = &gap.status.message;
        assert!(message.contains("2 comes next"), "{message}");
        // Whichever way it comes.
        let number = i32::try_from(partition).expect("small");
        assert_eq!(put(&mut kafka, number, first), (0, 0));
        assert_eq!(values(&broker, partition), ["a", "b"]);
    }
}
