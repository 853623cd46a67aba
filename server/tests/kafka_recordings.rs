//! What real Kafka clients sent in a session, sent again: whole, in two parts cut at every byte, and
//! cut off at every byte. `kafka_clients/recordings/README.md` says how the recordings are made.

mod kafka_client;
mod process;

use std::fs;
use std::path::PathBuf;

use kafka_client::stream::Stream;
use millrace_wire::kafka::control::ResponseKind;
use process::{Broker, Client};

/// Where the recorded clients' records go; there before they come (`recorder.py`).
const KEPT: &str = "recorded-kept";
/// What they make and delete.
const MADE: &str = "recorded-made";
const PARTITIONS: u32 = 2;
const SHARDS: u16 = 2;

macro_rules! recordings {
    ($($test:ident: $file:literal;)*) => {
        const FILES: &[&str] = &[$($file),*];

        $(
            #[test]
            fn $test() {
                replay($file);
            }
        )*
    };
}

recordings! {
    aiokafka: "aiokafka.bin";
    confluent_kafka: "confluent-kafka.bin";
    kafka_python: "kafka-python.bin";
    kafkajs: "kafkajs.bin";
    kcat: "kcat.bin";
    platformatic_kafka: "platformatic-kafka.bin";
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kafka_clients/recordings")
}

#[test]
fn every_recording_has_its_test() {
    let files = fs::read_dir(folder()).expect("the recordings are there");
    let names = files.map(|file| file.expect("a file").file_name().into_string());
    let mut names: Vec<_> = names.map(|name| name.expect("a plain name")).collect();
    names.retain(|name| name.ends_with(".bin"));
    names.sort();
    assert_eq!(names, FILES);
}

fn replay(file: &str) {
    let recording = fs::read(folder().join(file)).expect("the recording is there");
    let streams = Stream::recorded(&recording);
    let data = tempfile::tempdir().expect("a directory");
    let shards = SHARDS.to_string();
    let broker = Broker::start(data.path(), &["--shards", &shards]);
    let mut witnesses: Vec<_> = (0..SHARDS).map(|shard| enter(&broker, shard)).collect();
    for stream in &streams {
        // Its own requests find what they found then, and not what other replays have left.
        begin_anew(&mut witnesses[0]);
        for stream in &streams {
            let answers = stream.whole(broker.address);
            answers.iter().for_each(must_have_stored);
        }
        stream.in_two_parts(broker.address);
        stream.begun_in_two_parts(broker.address, &mut witnesses);
        stream.truncated(broker.address);
        broker.must_have_let_go(witnesses.len() as u64);
    }
    broker.must_serve("after");
    drop(witnesses);
    let (status, _) = broker.stop();
    assert!(status.success(), "{status}");
}

/// A native connection that is served by this shard.
fn enter(broker: &Broker, shard: u16) -> Client {
    let mut client = broker.connect();
    assert_eq!(client.handshake(Some(shard)).shard, shard);
    client
}

/// What was produced then is as good today: the topic for it is there.
fn must_have_stored(answer: &ResponseKind) {
    if let ResponseKind::Produce(produced) = answer {
        let topics = produced.responses.iter();
        let mut partitions = topics.flat_map(|topic| &topic.partition_responses);
        assert!(partitions.all(|it| it.error_code == 0), "{produced:?}");
    }
}

fn begin_anew(client: &mut Client) {
    client.delete_topic(MADE);
    client.delete_topic(KEPT);
    client.create_topic(KEPT, PARTITIONS);
}
