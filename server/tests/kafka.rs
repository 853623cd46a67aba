//! The Kafka face of a real broker: every served request in every version, answers in the order of
//! requests, fetch sessions, what may not be produced, and streams cut anywhere.

mod kafka_client;
mod process;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_client::samples::{create, fetch, sample};
use kafka_client::stream::Stream;
use kafka_client::{KafkaClient, batch, produce, text, topic_name};
use millrace_wire::batch::{Compression, Records, split_batches};
use millrace_wire::kafka::control::messages as m;
use millrace_wire::kafka::control::messages::create_topics_request::CreatableTopicConfig;
use millrace_wire::kafka::control::{RequestKind, ResponseKind, StrBytes, write_request};
use millrace_wire::kafka::{ApiKey, DECLINED, SERVED};
use process::Broker;

fn broker() -> (tempfile::TempDir, Broker) {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &["--shards", "2"]);
    (data, broker)
}

macro_rules! expect {
    ($response:expr, $kind:ident) => {
        match $response {
            ResponseKind::$kind(response) => response,
            other => panic!("{other:?}"),
        }
    };
}

/// Values of the batches of one partition.
fn values(records: &Option<Bytes>) -> Vec<String> {
    let batches = split_batches(records.clone().unwrap_or_default());
    let records = batches.flat_map(|batch| {
        let batch = batch.expect("a whole batch");
        let records: Vec<_> = Records::decode(&batch, 1 << 20).expect("records").collect();
        records
    });
    let value = |value: Option<Bytes>| String::from_utf8(value.expect("a value").to_vec());
    records
        .map(|record| value(record.expect("a record").value).expect("text"))
        .collect()
}

#[test]
fn every_served_request_is_answered_in_every_version() {
    let (_data, broker) = broker();
    let mut client = KafkaClient::connect(broker.address);
    client.ask(ApiKey::CreateTopics, 5, create("here", 2));
    for (key, versions) in SERVED {
        for version in versions.min..=versions.max {
            if *key == ApiKey::Produce && version < 3 {
                // The library does not write these; a test of its own does.
                continue;
            }
            let response = client.ask(*key, version, sample(*key, version));
            let told = format!("{response:?}");
            assert!(told.len() > 20, "{key:?} {version}: {told}");
        }
    }
    let versions = expect!(
        client.ask(ApiKey::ApiVersions, 3, sample(ApiKey::ApiVersions, 3)),
        ApiVersions
    );
    assert_eq!(versions.api_keys.len(), SERVED.len());
}

#[test]
fn every_coordinator_is_this_broker() {
    let (_data, broker) = broker();
    let mut client = KafkaClient::connect(broker.address);
    let metadata = m::MetadataRequest::default();
    let metadata = expect!(client.ask(ApiKey::Metadata, 9, metadata), Metadata);
    let this = &metadata.brokers[0];
    for version in 0..=5 {
        let request = sample(ApiKey::FindCoordinator, version);
        let answer = client.ask(ApiKey::FindCoordinator, version, request);
        let answer = expect!(answer, FindCoordinator);
        let one = |code, node, host: &StrBytes, port| {
            assert_eq!((code, node), (0, this.node_id), "version {version}");
            assert_eq!((host, port), (&this.host, this.port));
        };
        if version < 4 {
            one(answer.error_code, answer.node_id, &answer.host, answer.port);
            continue;
        }
        let keys = answer.coordinators.iter().map(|found| found.key.as_str());
        assert_eq!(keys.collect::<Vec<_>>(), ["a", "b"], "each once");
        for found in &answer.coordinators {
            one(found.error_code, found.node_id, &found.host, found.port);
        }
    }
    let share = m::FindCoordinatorRequest::default()
        .with_key(text("a"))
        .with_key_type(2);
    let answer = client.ask(ApiKey::FindCoordinator, 3, share);
    let answer = expect!(answer, FindCoordinator);
    assert_eq!((answer.error_code, answer.node_id), (42, m::BrokerId(-1)));
}

#[test]
fn what_is_not_served_is_answered_or_the_connection_ends() {
    let (_data, broker) = broker();
    let mut client = KafkaClient::connect(broker.address);
    // A version that nobody knows: in the oldest form (KIP-511).
    client
        .write(&[0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff, 0])
        .expect("sent");
    let answer = client.receive_bytes().expect("an answer");
    assert_eq!(answer[..6], [0, 0, 0, 5, 0, 35]);
    // A kind whose time has not come.
    let heartbeat =
        m::ConsumerGroupHeartbeatRequest::default().with_group_id(m::GroupId(text("group")));
    let heartbeat = client.ask(ApiKey::ConsumerGroupHeartbeat, 0, heartbeat);
    let heartbeat = expect!(heartbeat, ConsumerGroupHeartbeat);
    assert_eq!(heartbeat.error_code, 35);
    // Kafka's oldest form of Produce: an answer for the partition.
    let old = b"\0\0\x005\0\0\0\x02\0\0\0\x09\0\x01c\xff\xff\0\0\0\x0a\0\0\0\x01\0\x04here\0\0\0\x01\0\0\0\x03\0\0\0\x09123456789";
    let mut old = old.to_vec();
    let length = u32::try_from(old.len() - 4).expect("short").to_be_bytes();
    old[..4].copy_from_slice(&length);
    client.write(&old).expect("sent");
    let answer = client.receive_bytes().expect("an answer");
    let code_at = 4 + 4 + 6 + 4 + 4;
    assert_eq!(answer[code_at..code_at + 2], 35_i16.to_be_bytes());
    // What is no request at all.
    client
        .write(&[0, 0, 0, 10, 0x7f, 0xff, 0, 1, 0, 0, 0, 5, 0xff, 0xff])
        .expect("sent");
    assert!(client.is_closed());
    broker.must_answer();
}

/// A request for transactions, and the errors in its answer, each with what it is about.
fn declined(client: &mut KafkaClient, key: ApiKey, version: i16) -> Vec<(String, i16)> {
    let numbered = |name: &m::TopicName, number: i32| format!("{}/{number}", name.as_str());
    match key {
        ApiKey::TxnOffsetCommit => {
            let partition = m::txn_offset_commit_request::TxnOffsetCommitRequestPartition::default;
            let topic = m::txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![partition(), partition().with_partition_index(7)]);
            let request =
                m::TxnOffsetCommitRequest::default().with_topics(vec![topic.clone(), topic]);
            let topics = expect!(client.ask(key, version, request), TxnOffsetCommit).topics;
            let told = topics.iter().flat_map(|topic| {
                let partitions = topic.partitions.iter();
                partitions.map(|p| (numbered(&topic.name, p.partition_index), p.error_code))
            });
            told.collect()
        }
        ApiKey::AddPartitionsToTxn => {
            let topic = m::add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![0, 7]);
            let request = m::AddPartitionsToTxnRequest::default()
                .with_v3_and_below_topics(vec![topic.clone(), topic]);
            let answer = expect!(client.ask(key, version, request), AddPartitionsToTxn);
            let topics = answer.results_by_topic_v3_and_below;
            let told = topics.iter().flat_map(|topic| {
                let partitions = topic.results_by_partition.iter();
                partitions.map(|p| {
                    let name = numbered(&topic.name, p.partition_index);
                    (name, p.partition_error_code)
                })
            });
            told.collect()
        }
        other => panic!("{other:?} has no sample"),
    }
}

#[test]
fn what_has_an_error_for_each_item_is_refused_item_by_item() {
    let (_data, broker) = broker();
    let mut client = KafkaClient::connect(broker.address);
    let items = ["t/0", "t/7", "t/0", "t/7"];
    for (key, versions) in DECLINED {
        assert!(SERVED.iter().all(|(served, _)| served != key), "{key:?}");
        for version in versions.min..=versions.max {
            let told = declined(&mut client, *key, version);
            let expected = items.map(|item| (item.to_owned(), 35));
            assert_eq!(told, expected, "{key:?} {version}");
        }
    }
    // A count that cannot be ends the connection before anything is allocated by it: two billion groups.
    client
        .write(&[
            0, 0, 0, 14, 0, 42, 0, 0, 0, 0, 0, 5, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff,
        ])
        .expect("sent");
    assert!(client.is_closed());
    broker.must_answer();
}

#[test]
fn answers_come_in_the_order_of_requests_though_a_fetch_waits() {
    let (_data, broker) = broker();
    let mut client = KafkaClient::connect(broker.address);
    client.ask(ApiKey::CreateTopics, 5, create("order", 2));
    let began = Instant::now();
    let first = client.send(ApiKey::Fetch, 11, fetch("order", &[(0, 0)], 400));
    let second = client.send(
        ApiKey::Produce,
        7,
        produce("order", 1, -1, batch(&["a"], Compression::Lz4)),
    );
    let third = client.send(ApiKey::Metadata, 9, m::MetadataRequest::default());
    assert_eq!(client.receive(ApiKey::Fetch, 11).0, first);
    assert!(began.elapsed() >= Duration::from_millis(350), "it waited");
    assert_eq!(client.receive(ApiKey::Produce, 7).0, second);
    assert_eq!(client.receive(ApiKey::Metadata, 9).0, third);
    // The batch was taken while the fetch waited: it is there at once.
    let read = expect!(
        client.ask(ApiKey::Fetch, 11, fetch("order", &[(1, 0)], 0)),
        Fetch
    );
    assert_eq!(values(&read.responses[0].partitions[0].records), ["a"]);
}

#[test]
fn many_requests_at_once_are_stored_in_their_order() {
    let (_data, broker) = broker();
    let mut client = KafkaClient::connect(broker.address);
    client.ask(ApiKey::CreateTopics, 5, create("many", 2));
    let sent: Vec<String> = (0..200).map(|number| format!("v{number}")).collect();
    for (number, value) in sent.iter().enumerate() {
        let batch = batch(&[value], Compression::None);
        client.send(
            ApiKey::Produce,
            9,
            produce("many", (number % 2) as i32, -1, batch),
        );
    }
    for number in 0..sent.len() {
        let produced = expect!(client.receive(ApiKey::Produce, 9).1, Produce);
        let partition = &produced.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0);
        assert_eq!(partition.base_offset, number as i64 / 2);
    }
    let read = expect!(
        client.ask(ApiKey::Fetch, 12, fetch("many", &[(0, 0), (1, 99)], 0)),
        Fetch
    );
    let even: Vec<_> = sent.iter().step_by(2).cloned().collect();
    assert_eq!(values(&read.responses[0].partitions[0].records), even);
    assert_eq!(values(&read.responses[0].partitions[1].records), ["v199"]);
}

#[test]
fn a_fetch_session_tells_only_what_is_new() {
    let (_data, broker) = broker();
    let mut client = KafkaClient::connect(broker.address);
    client.ask(ApiKey::CreateTopics, 5, create("session", 3));
    let begin = fetch("session", &[(0, 0), (1, 0), (2, 0)], 0).with_session_epoch(0);
    let begun = expect!(client.ask(ApiKey::Fetch, 7, begin), Fetch);
    assert_eq!(begun.responses[0].partitions.len(), 3);
    let id = begun.session_id;
    assert_ne!(id, 0);
    let go_on = |epoch: i32| {
        m::FetchRequest::default()
            .with_max_wait_ms(0)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_id(id)
            .with_session_epoch(epoch)
    };
    let quiet = expect!(client.ask(ApiKey::Fetch, 7, go_on(1)), Fetch);
    assert_eq!((quiet.session_id, quiet.responses.len()), (id, 0));
    client.ask(
        ApiKey::Produce,
        7,
        produce("session", 1, -1, batch(&["b"], Compression::Zstd)),
    );
    let news = expect!(client.ask(ApiKey::Fetch, 7, go_on(2)), Fetch);
    assert_eq!(news.responses[0].partitions.len(), 1);
    assert_eq!(values(&news.responses[0].partitions[0].records), ["b"]);
    let wrong = expect!(client.ask(ApiKey::Fetch, 7, go_on(2)), Fetch);
    assert_eq!(wrong.error_code, 71);
    // Another connection knows nothing of it.
    let mut other = KafkaClient::connect(broker.address);
    let unknown = expect!(other.ask(ApiKey::Fetch, 7, go_on(3)), Fetch);
    assert_eq!(unknown.error_code, 70);
    let forget = m::fetch_request::ForgottenTopic::default()
        .with_topic(topic_name("session"))
        .with_partitions(vec![1]);
    let forgetful = go_on(3).with_forgotten_topics_data(vec![forget]);
    let after = expect!(client.ask(ApiKey::Fetch, 7, forgetful), Fetch);
    assert_eq!((after.error_code, after.responses.len()), (0, 0));
}

#[test]
fn a_consumer_hears_of_places_that_are_not_there() {
    let (_data, broker) = broker();
    let mut client = KafkaClient::connect(broker.address);
    client.ask(ApiKey::CreateTopics, 5, create("places", 1));
    let code = |client: &mut KafkaClient, request: m::FetchRequest| {
        let read = expect!(client.ask(ApiKey::Fetch, 11, request), Fetch);
        read.responses[0].partitions[0].error_code
    };
    assert_eq!(code(&mut client, fetch("places", &[(0, 1)], 0)), 1);
    assert_eq!(code(&mut client, fetch("places", &[(5, 0)], 0)), 3);
    assert_eq!(code(&mut client, fetch("nowhere", &[(0, 0)], 0)), 3);
    for (epoch, expected) in [(0, 74), (1, 0), (2, 75)] {
        let mut request = fetch("places", &[(0, 0)], 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(code(&mut client, request), expected, "epoch {epoch}");
    }
}

#[test]
fn what_may_not_be_produced_is_refused_for_its_partition() {
    let (_data, broker) = broker();
    let mut client = KafkaClient::connect(broker.address);
    let config = |name: &str, value: &str| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    };
    let mut wanted = create("strict", 1);
    wanted.topics[0].configs = vec![
        config("max.message.bytes", "200"),
        config("min.insync.replicas", "2"),
    ];
    let made = expect!(client.ask(ApiKey::CreateTopics, 7, wanted), CreateTopics);
    assert_eq!(made.topics[0].error_code, 0, "{made:?}");
    let code = |client: &mut KafkaClient, version, request: m::ProduceRequest| {
        let answer = expect!(client.ask(ApiKey::Produce, version, request), Produce);
        answer.responses[0].partition_responses[0].error_code
    };
    let good = || batch(&["good"], Compression::None);
    assert_eq!(code(&mut client, 9, produce("strict", 0, -1, good())), 19);
    assert_eq!(code(&mut client, 9, produce("strict", 0, 1, good())), 0);
    assert_eq!(code(&mut client, 9, produce("strict", 3, 1, good())), 3);
    assert_eq!(code(&mut client, 9, produce("strict", 0, 7, good())), 21);
    let large = "x".repeat(300);
    let large = batch(&[&large], Compression::None);
    assert_eq!(code(&mut client, 9, produce("strict", 0, 1, large)), 10);
    let mut broken = BytesMut::from(&good()[..]);
    broken[70] ^= 1;
    assert_eq!(
        code(&mut client, 9, produce("strict", 0, 1, broken.freeze())),
        2
    );
    assert_eq!(
        code(&mut client, 9, produce("strict", 0, 1, Bytes::new())),
        2
    );
    let zstd = batch(&["zstd"], Compression::Zstd);
    assert_eq!(
        code(&mut client, 6, produce("strict", 0, 1, zstd.clone())),
        76
    );
    assert_eq!(code(&mut client, 7, produce("strict", 0, 1, zstd)), 0);
    // With acks=0 the only answer to a failure is the end of the connection.
    client.send(ApiKey::Produce, 9, produce("nowhere", 0, 0, good()));
    assert!(client.is_closed());
    let mut client = KafkaClient::connect(broker.address);
    client.send(ApiKey::Produce, 9, produce("strict", 0, 0, good()));
    let read = expect!(
        client.ask(ApiKey::Fetch, 11, fetch("strict", &[(0, 2)], 5_000)),
        Fetch
    );
    assert_eq!(values(&read.responses[0].partitions[0].records), ["good"]);
}

#[test]
fn a_session_of_requests_cut_at_every_byte_harms_nothing() {
    let (_data, broker) = broker();
    let mut bytes = BytesMut::new();
    let mut number = 0;
    let mut add = |key: ApiKey, version, request: RequestKind| {
        number += 1;
        write_request(key, version, number, "cut", &request, &mut bytes).expect("it fits");
    };
    add(ApiKey::ApiVersions, 3, sample(ApiKey::ApiVersions, 3));
    add(ApiKey::Metadata, 9, sample(ApiKey::Metadata, 9));
    add(ApiKey::CreateTopics, 7, create("here", 2).into());
    add(ApiKey::Produce, 9, sample(ApiKey::Produce, 9));
    add(ApiKey::Fetch, 12, sample(ApiKey::Fetch, 12));
    add(ApiKey::ListOffsets, 7, sample(ApiKey::ListOffsets, 7));
    add(
        ApiKey::DescribeConfigs,
        4,
        sample(ApiKey::DescribeConfigs, 4),
    );
    let stream = Stream::parse(&bytes);
    stream.whole(broker.address);
    stream.in_two_parts(broker.address);
    stream.truncated(broker.address);
    broker.must_have_let_go(0);
    broker.must_serve("after");
}

#[test]
fn a_large_request_cut_at_every_byte_harms_nothing() {
    let (_data, broker) = broker();
    let mut bytes = BytesMut::new();
    // Long enough to be read into memory of its own; the name that a client gives itself does it.
    let name = "n".repeat(17_000);
    let request = sample(ApiKey::ApiVersions, 0);
    write_request(ApiKey::ApiVersions, 0, 1, &name, &request, &mut bytes).expect("it fits");
    Stream::parse(&bytes).in_two_parts(broker.address);
    broker.must_have_let_go(0);
}
