//! Requests that arrive whole and ask for what cannot be: names that are none, batches that are not
//! what they say, more than the limits. Each gets a typed error, and unless the frame itself is
//! wrong the connection goes on.

mod process;

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use millrace_wire::batch::{BatchBuilder, Compression};
use millrace_wire::error::ErrorCode;
use millrace_wire::native::messages::*;
use millrace_wire::native::{Request, Response};
use process::{Broker, Client, batch, produce_request};

fn code(status: &Status) -> Option<ErrorCode> {
    ErrorCode::from_number(status.code)
}

/// The status that an answer gives, to the whole request or to its only partition.
fn status(response: Response) -> Status {
    match response {
        Response::CreateTopic(response) => response.status,
        Response::DeleteTopic(response) => response.status,
        Response::DescribeTopic(response) => response.status,
        Response::AlterTopicConfig(response) => response.status,
        Response::CreatePartitions(response) => response.status,
        Response::Metadata(response) => response.topics[0].status.clone(),
        Response::Produce(response) => response.topics[0].partitions[0].status.clone(),
        Response::Fetch(response) => response.topics[0].partitions[0].status.clone(),
        Response::ListOffsets(response) => response.topics[0].partitions[0].status.clone(),
        Response::DeleteRecords(response) => response.topics[0].partitions[0].status.clone(),
        Response::Error(status) => status,
        other => panic!("{other:?}"),
    }
}

/// Every request that names a topic.
fn requests_about(name: &str) -> Vec<Request> {
    let name = || name.to_owned();
    let fetch = FetchPartition {
        partition: 0,
        offset: 0,
        max_bytes: 1 << 20,
    };
    let earliest = ListOffsetsPartition {
        partition: 0,
        timestamp: -2,
    };
    let all = DeleteRecordsPartition {
        partition: 0,
        before_offset: -1,
    };
    vec![
        CreateTopicRequest {
            name: name(),
            partitions: 1,
            ..Default::default()
        }
        .into(),
        DeleteTopicRequest { name: name() }.into(),
        DescribeTopicRequest { name: name() }.into(),
        AlterTopicConfigRequest {
            name: name(),
            ..Default::default()
        }
        .into(),
        CreatePartitionsRequest {
            name: name(),
            total_partitions: 5,
            validate_only: false,
        }
        .into(),
        MetadataRequest {
            topics: Some(vec![name()]),
        }
        .into(),
        FetchRequest {
            max_wait_ms: 60_000,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                name: name(),
                partitions: vec![fetch],
            }],
        }
        .into(),
        ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: name(),
                partitions: vec![earliest],
            }],
        }
        .into(),
        DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: name(),
                partitions: vec![all],
            }],
        }
        .into(),
    ]
}

fn names_in(directory: &Path) -> BTreeSet<std::ffi::OsString> {
    let entries = std::fs::read_dir(directory).expect("it is there");
    entries
        .map(|entry| entry.expect("readable").file_name())
        .collect()
}

#[test]
fn names_that_are_none_are_refused_by_every_request_and_touch_no_file() {
    let above = tempfile::tempdir().expect("a directory");
    let data = above.path().join("data");
    let broker = Broker::start(&data, &[]);
    let mut client = broker.connect();
    client.handshake(None);
    client.create_topic("real", 1);
    client.produce("real", 0, &batch(&["kept"]));
    let before = (names_in(above.path()), names_in(&data));
    let long = "x".repeat(250);
    let endless = "x".repeat(100_000);
    for name in [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "../real",
        "../../etc/passwd",
        "/etc/passwd",
        "real/0",
        "real/",
        "a\\b",
        "a\0b",
        "a\nb",
        "a\u{1b}[2J",
        "\u{7f}",
        "@journal",
        "@node",
        "@lock",
        "@trash",
        "__controller",
        "é",
        "\u{202e}",
        &long,
        &endless,
    ] {
        for request in requests_about(name) {
            let asked = format!("{request:.60?}");
            let status = status(client.ask(request, &[]).0);
            let refused = [ErrorCode::InvalidTopic, ErrorCode::UnknownTopicOrPartition];
            assert!(
                code(&status).is_some_and(|code| refused.contains(&code)),
                "{asked}: {status:?}"
            );
            let said = &status.message;
            assert!(!said.is_empty() && said.len() < 600, "{asked}: {said}");
            assert!(!said.contains(char::is_control), "{asked}: {said:?}");
        }
        let produced = client.produce(name, 0, &batch(&["x"]));
        assert_ne!(produced.status, Status::ok(), "{name:.60?}");
    }
    assert_eq!((names_in(above.path()), names_in(&data)), before);
    assert_eq!(client.fetch_all("real", 0), ["kept"]);
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), step)
    });
    !crc
}

/// A batch with other bytes at one place and a checksum that is right again.
fn with(good: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = good.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&batch[21..]).to_be_bytes();
    batch[17..21].copy_from_slice(&crc);
    batch.into()
}

fn bomb(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    let zeros = vec![0; 80 << 20];
    builder.push(0, None, Some(&zeros), &[]).expect("fits");
    let bomb = Bytes::from(builder.build().expect("has a record"));
    assert!(bomb.len() < 1 << 20, "small on the wire");
    bomb
}

#[test]
fn bombs_and_broken_batches_are_refused_and_the_connection_goes_on() {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &["--shards", "1"]);
    let mut client = broker.connect();
    client.handshake(None);
    client.create_topic("t", 1);
    let good = batch(&["a", "b", "c"]);
    let crc = good[17..21].to_vec();
    assert_eq!(
        with(&good, 21, &good[21..23]),
        good,
        "the checksum is right"
    );
    for (what, wrong, expected) in [
        (
            "CRC",
            Bytes::from([&good[..17], &[!crc[0]], &good[18..]].concat()),
            ErrorCode::CorruptMessage,
        ),
        (
            "a flipped bit",
            Bytes::from([&good[..65], &[good[65] ^ 1], &good[66..]].concat()),
            ErrorCode::CorruptMessage,
        ),
        (
            "count too large",
            with(&good, 57, &1_000_000_u32.to_be_bytes()),
            ErrorCode::InvalidRecord,
        ),
        (
            "count too small",
            with(&good, 57, &1_u32.to_be_bytes()),
            ErrorCode::InvalidRecord,
        ),
        (
            "no count",
            with(&good, 57, &0_u32.to_be_bytes()),
            ErrorCode::InvalidRecord,
        ),
        (
            "a negative count",
            with(&good, 57, &[0xff; 4]),
            ErrorCode::InvalidRecord,
        ),
        (
            "last offset",
            with(&good, 23, &7_u32.to_be_bytes()),
            ErrorCode::InvalidRecord,
        ),
        (
            "base offset",
            with(&good, 0, &9_u64.to_be_bytes()),
            ErrorCode::InvalidRecord,
        ),
        (
            "a negative base offset",
            with(&good, 0, &[0xff; 8]),
            ErrorCode::InvalidRecord,
        ),
        (
            "length",
            with(&good, 8, &u32::MAX.to_be_bytes()),
            ErrorCode::CorruptMessage,
        ),
        (
            "a cut",
            good.slice(..good.len() - 1),
            ErrorCode::CorruptMessage,
        ),
        ("nothing", Bytes::new(), ErrorCode::CorruptMessage),
        (
            "a bomb in zstd",
            bomb(Compression::Zstd),
            ErrorCode::MessageTooLarge,
        ),
        (
            "a bomb in lz4",
            bomb(Compression::Lz4),
            ErrorCode::MessageTooLarge,
        ),
    ] {
        let status = client.produce("t", 0, &wrong).status;
        assert_eq!(code(&status), Some(expected), "{what}: {}", status.message);
    }
    let before = broker.peak_memory();
    let bomb = bomb(Compression::Zstd);
    for _ in 0..20 {
        let request = produce_request("t", 0, &bomb);
        client.send(request, std::slice::from_ref(&bomb));
    }
    for _ in 0..20 {
        let (_, response, _) = client.try_receive().expect("an answer");
        assert_eq!(code(&status(response)), Some(ErrorCode::MessageTooLarge));
    }
    let grown = broker.peak_memory() - before;
    assert!(grown < 80 << 20, "{grown} bytes for twenty bombs");
    assert_eq!(client.produce("t", 0, &good).base_offset, 0);
    assert_eq!(client.fetch_all("t", 0), ["a", "b", "c"]);
}

#[test]
fn more_than_the_limits_is_refused() {
    let data = tempfile::tempdir().expect("a directory");
    let limits = ["--shards", "1", "--set", "network.max_in_flight=8"];
    let broker = Broker::start(data.path(), &limits);
    let mut client = broker.connect();
    assert_eq!(client.handshake(None).max_in_flight, 8);
    client.create_topic("t", 1);
    let create = |partitions| CreateTopicRequest {
        name: "wide".into(),
        partitions,
        ..Default::default()
    };
    for partitions in [10_001, u32::MAX] {
        let status = status(client.ask(create(partitions), &[]).0);
        assert_eq!(
            code(&status),
            Some(ErrorCode::InvalidPartitions),
            "{status:?}"
        );
    }
    let large = batch(&[&"x".repeat(2 << 20)]);
    let status = client.produce("t", 0, &large).status;
    assert_eq!(code(&status), Some(ErrorCode::MessageTooLarge));

    // More requests at once than the broker takes: they wait in the socket, and each is answered.
    let sent: BTreeSet<u32> = (0..300).map(|_| client.send(PingRequest {}, &[])).collect();
    let answered = (0..300).map(|_| client.try_receive().expect("an answer").0);
    assert_eq!(answered.collect::<BTreeSet<u32>>(), sent);
    too_long_a_body(&broker);
    broker.must_serve("after");
}

/// A request whose body alone is longer than any may be, in a frame that is not too long.
fn too_long_a_body(broker: &Broker) {
    let mut client: Client = broker.connect();
    client.handshake(None);
    let body = vec![0; (1 << 20) + 1];
    let mut frame = Vec::new();
    frame.extend_from_slice(&(body.len() as u32 + 11).to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 0, 9, 0, 3]);
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(&body);
    client.write(&frame).expect("open");
    let (correlation, response, _) = client.try_receive().expect("an answer");
    let status = status(response);
    assert_eq!(
        (correlation, code(&status)),
        (9, Some(ErrorCode::FrameTooLarge)),
        "{status:?}"
    );
    // Where it ends is known, so what follows can be read.
    let pong = client.ask(PingRequest {}, &[]).0;
    assert!(matches!(pong, Response::Ping(_)), "{pong:?}");
}
