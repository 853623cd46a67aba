//! Frames and native messages.

use std::fmt::Debug;

use bytes::{BufMut, Bytes, BytesMut};
use millrace_wire::frame::{
    FRAME_HEADER_BYTES, Format, FrameHeader, MAX_FRAME_BYTES, PAYLOAD_HEADER_BYTES,
};
use millrace_wire::native::messages::*;
use millrace_wire::native::{
    ERROR_KIND, Kind, RESPONSE_BIT, Request, RequestPayload, Response, decode_request,
    decode_response, encode_request, encode_response,
};

use crate::allocation::bounded;
use crate::{Seed, groups};

pub(crate) const RKYV: Format = Format::Rkyv;
pub(crate) const PROTOBUF: Format = Format::Protobuf;

/// The most that reading a message may hold, for each byte of it: an empty element of a protobuf
/// list takes two bytes and becomes a struct, in a list that doubles as it grows.
const HELD_FOR_EACH_BYTE: usize = 160;

/// And whatever the input, for an error's message and the like.
const HELD_AT_LEAST: usize = 16 * 1024;

pub(crate) fn frame_header(bytes: &[u8]) {
    let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return;
    };
    let limit = rest
        .first_chunk()
        .map_or(MAX_FRAME_BYTES, |limit| u32::from_be_bytes(*limit));
    if let Ok(parsed) = FrameHeader::parse(header, limit) {
        assert_eq!(&parsed.to_bytes(), header);
        assert!(parsed.length <= limit.min(MAX_FRAME_BYTES));
        assert!(parsed.payload_bytes() >= PAYLOAD_HEADER_BYTES);
    }
}

pub(crate) fn frame_header_seeds() -> Vec<Seed> {
    let header = |format, payload| {
        let header = FrameHeader::for_payload(format, 0x0102_0304, payload).expect("it fits");
        header.to_bytes().to_vec()
    };
    vec![
        ("rkyv", header(RKYV, 6)),
        ("protobuf", header(PROTOBUF, 1 << 20)),
    ]
}

pub(crate) fn request_rkyv(bytes: &[u8]) {
    request(RKYV, bytes);
}

pub(crate) fn request_protobuf(bytes: &[u8]) {
    request(PROTOBUF, bytes);
}

pub(crate) fn response_rkyv(bytes: &[u8]) {
    response(RKYV, bytes);
}

pub(crate) fn response_protobuf(bytes: &[u8]) {
    response(PROTOBUF, bytes);
}

/// The bytes are a payload. What mutations do to its lengths would mostly hide the body, so the
/// body is tried a second time behind a header that fits it.
fn request(format: Format, bytes: &[u8]) {
    request_payload(format, bytes);
    if let Some((kind, body)) = kind_and_body(bytes) {
        let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
        request_payload(format, &with_header(kind as u16, body));
    }
}

fn request_payload(format: Format, bytes: &[u8]) {
    let limit = HELD_AT_LEAST + HELD_FOR_EACH_BYTE * bytes.len();
    let decoded = bounded(limit, || decode_request(format, BytesMut::from(bytes)));
    views_agree(
        format,
        bytes,
        decoded.as_ref().ok().map(|(request, _)| request),
    );
    let Ok((request, attachments)) = decoded else {
        return;
    };
    assert_eq!(request.attachment_bytes(), attachments.len() as u64);

    let mut frame = BytesMut::new();
    encode_request(format, 1, &request, &mut frame, attachments.len()).expect("it was decoded");
    frame.extend_from_slice(&attachments);
    let again = decode_request(format, frame.split_off(FRAME_HEADER_BYTES));
    stable((request, attachments), again.expect("it was encoded"));
}

/// A view shows what the owned message holds, and is refused when that is.
fn views_agree(format: Format, bytes: &[u8], decoded: Option<&Request>) {
    let Ok(payload) = RequestPayload::split(format, BytesMut::from(bytes)) else {
        assert!(decoded.is_none());
        return;
    };
    match payload.kind {
        Kind::Produce => {
            let view = payload.produce();
            assert_eq!(view.is_ok(), decoded.is_some());
            let (Ok(view), Some(Request::Produce(owned))) = (view, decoded) else {
                return;
            };
            let lengths = owned.topics.iter().flat_map(|topic| {
                let each = topic.partitions.iter();
                each.map(|it| (topic.name.as_str(), it.partition, it.batch_bytes))
            });
            let viewed = view
                .entries()
                .map(|(name, it)| (name, it.partition, it.batch_bytes));
            assert!(viewed.eq(lengths));
            assert_eq!(
                (view.acks(), view.timeout_ms()),
                (owned.acks, owned.timeout_ms)
            );
        }
        Kind::Fetch => {
            let view = payload.fetch();
            assert_eq!(view.is_ok(), decoded.is_some());
            let (Ok(view), Some(Request::Fetch(owned))) = (view, decoded) else {
                return;
            };
            let offsets = owned.topics.iter().flat_map(|topic| {
                let each = topic.partitions.iter();
                each.map(|it| (topic.name.as_str(), it.partition, it.offset, it.max_bytes))
            });
            let viewed = view.entries();
            assert!(
                viewed
                    .map(|(name, it)| (name, it.partition, it.offset, it.max_bytes))
                    .eq(offsets)
            );
        }
        _ => assert!(payload.produce().is_err() && payload.fetch().is_err()),
    }
}

fn response(format: Format, bytes: &[u8]) {
    response_payload(format, bytes);
    if let Some((kind, body)) = kind_and_body(bytes) {
        let kind = match Kind::ALL.get(usize::from(kind) % (Kind::ALL.len() + 1)) {
            Some(kind) => *kind as u16 | RESPONSE_BIT,
            None => ERROR_KIND,
        };
        response_payload(format, &with_header(kind, body));
    }
}

fn response_payload(format: Format, bytes: &[u8]) {
    let limit = HELD_AT_LEAST + HELD_FOR_EACH_BYTE * bytes.len();
    let decoded = bounded(limit, || {
        decode_response(format, Bytes::copy_from_slice(bytes))
    });
    let Ok((response, attachments)) = decoded else {
        return;
    };
    assert_eq!(response.attachment_bytes(), attachments.len() as u64);

    let mut frame = BytesMut::new();
    encode_response(format, 1, &response, &mut frame, attachments.len()).expect("it was decoded");
    frame.extend_from_slice(&attachments);
    let again = decode_response(format, frame.split_off(FRAME_HEADER_BYTES).freeze());
    stable((response, attachments), again.expect("it was encoded"));
}

fn stable<T: PartialEq + Debug>(first: T, second: T) {
    assert_eq!(first, second, "decoded, encoded and decoded again");
}

/// The low byte of a payload's kind, and what follows its header.
fn kind_and_body(payload: &[u8]) -> Option<(u8, &[u8])> {
    let (header, body) = payload.split_at_checked(PAYLOAD_HEADER_BYTES)?;
    Some((header[1].wrapping_sub(1), body))
}

fn with_header(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(PAYLOAD_HEADER_BYTES + body.len());
    payload.put_u16(kind);
    payload.put_u32(body.len() as u32);
    payload.put_slice(body);
    payload
}

fn names() -> [String; 2] {
    ["short".to_owned(), "a-topic-with-a-longer-name".to_owned()]
}

fn entries() -> Vec<ConfigEntry> {
    let entry = |name: &str, is_set| ConfigEntry {
        name: name.into(),
        value: "604800000".into(),
        is_set,
    };
    vec![entry("retention.ms", true), entry("segment.bytes", false)]
}

/// One of each request but those of groups, with something in every list.
fn requests() -> Vec<(&'static str, Request)> {
    let [short, long] = names();
    let name = || long.clone();
    let place = TopicPartition {
        topic: name(),
        partition: 3,
    };
    let produce = |partition, batch_bytes| ProducePartition {
        partition,
        batch_bytes,
    };
    let fetch = |partition| FetchPartition {
        partition,
        offset: 1 << 40,
        max_bytes: 1 << 20,
    };
    vec![
        (
            "handshake",
            HandshakeRequest {
                min_version: 1,
                max_version: 1,
                client_id: "fuzz".into(),
                client_software: "millrace-client 0.1.0".into(),
                wanted_shard: Some(1),
                wanted_partition: Some(place),
            }
            .into(),
        ),
        ("ping", PingRequest {}.into()),
        ("metadata_all", MetadataRequest { topics: None }.into()),
        (
            "metadata",
            MetadataRequest {
                topics: Some(names().to_vec()),
            }
            .into(),
        ),
        (
            "create_topic",
            CreateTopicRequest {
                name: name(),
                partitions: 12,
                configs: entries(),
                validate_only: true,
            }
            .into(),
        ),
        ("delete_topic", DeleteTopicRequest { name: name() }.into()),
        (
            "describe_topic",
            DescribeTopicRequest {
                name: short.clone(),
            }
            .into(),
        ),
        ("list_topics", ListTopicsRequest {}.into()),
        (
            "alter_topic_config",
            AlterTopicConfigRequest {
                name: name(),
                set: entries(),
                unset: vec!["cleanup.policy".into()],
                validate_only: false,
            }
            .into(),
        ),
        (
            "create_partitions",
            CreatePartitionsRequest {
                name: name(),
                total_partitions: 64,
                validate_only: false,
            }
            .into(),
        ),
        (
            "produce",
            ProduceRequest {
                acks: -1,
                timeout_ms: 30_000,
                topics: vec![
                    ProduceTopic {
                        name: short.clone(),
                        partitions: vec![produce(0, 3)],
                    },
                    ProduceTopic {
                        name: name(),
                        partitions: vec![produce(1, 0), produce(2, 2)],
                    },
                ],
            }
            .into(),
        ),
        (
            "fetch",
            FetchRequest {
                max_wait_ms: 500,
                min_bytes: 1,
                max_bytes: 50 << 20,
                topics: vec![
                    FetchTopic {
                        name: short.clone(),
                        partitions: vec![fetch(0)],
                    },
                    FetchTopic {
                        name: name(),
                        partitions: vec![fetch(1), fetch(2)],
                    },
                ],
            }
            .into(),
        ),
        (
            "list_offsets",
            ListOffsetsRequest {
                topics: vec![ListOffsetsTopic {
                    name: name(),
                    partitions: vec![ListOffsetsPartition {
                        partition: 0,
                        timestamp: -2,
                    }],
                }],
            }
            .into(),
        ),
        (
            "delete_records",
            DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: name(),
                    partitions: vec![DeleteRecordsPartition {
                        partition: 0,
                        before_offset: -1,
                    }],
                }],
            }
            .into(),
        ),
        (
            "repair_partition",
            RepairPartitionRequest {
                topic: name(),
                partition: 1,
                accept_data_loss: true,
            }
            .into(),
        ),
        ("stats", StatsRequest {}.into()),
        ("init_producer", InitProducerRequest {}.into()),
    ]
}

/// The responses whose shape differs: the rest hold a status and numbers.
fn responses() -> Vec<(&'static str, Response)> {
    let [short, long] = names();
    let failed = || Status {
        code: 3,
        message: "no topic has this name; create it first".into(),
    };
    let produced = ProducePartitionResult {
        partition: 1,
        status: failed(),
        base_offset: 42,
        append_time_ms: -1,
        log_start: 0,
    };
    let fetched = |records_bytes, status| FetchPartitionResult {
        partition: 1,
        status,
        high_watermark: 42,
        log_start: 0,
        records_bytes,
    };
    let description = PartitionDescription {
        status: failed(),
        log_end: 9,
        ..Default::default()
    };
    vec![
        (
            "handshake",
            HandshakeResponse {
                version: 1,
                cluster_id: "0123456789abcdef0123456789abcdef".into(),
                broker_version: "0.1.0".into(),
                ..Default::default()
            }
            .into(),
        ),
        (
            "metadata",
            MetadataResponse {
                revision: 7,
                nodes: vec![NodeInfo {
                    host: "localhost".into(),
                    ..Default::default()
                }],
                topics: vec![TopicMetadata {
                    status: failed(),
                    name: long.clone(),
                    topic_id: String::new(),
                    partitions: vec![PartitionMetadata::default(); 2],
                }],
            }
            .into(),
        ),
        (
            "describe_topic",
            DescribeTopicResponse {
                name: long.clone(),
                configs: entries(),
                partitions: vec![description; 2],
                ..Default::default()
            }
            .into(),
        ),
        (
            "produce",
            ProduceResponse {
                topics: vec![ProduceTopicResult {
                    name: short.clone(),
                    partitions: vec![produced],
                }],
            }
            .into(),
        ),
        (
            "fetch",
            FetchResponse {
                topics: vec![FetchTopicResult {
                    name: short,
                    partitions: vec![fetched(0, failed()), fetched(5, Status::ok())],
                }],
            }
            .into(),
        ),
        (
            "stats",
            StatsResponse {
                shards: vec![ShardStats {
                    shard: 0,
                    counters: vec![Counter {
                        name: "produced_bytes".into(),
                        value: 1,
                    }],
                    stages: vec![StageLatency {
                        stage: "send".into(),
                        ..Default::default()
                    }],
                }],
            }
            .into(),
        ),
        ("error", Response::Error(failed())),
    ]
}

pub(crate) fn request_seeds(format: Format) -> Vec<Seed> {
    let seed = |(name, request): (&'static str, Request)| {
        let attached = request.attachment_bytes() as usize;
        let mut frame = BytesMut::new();
        encode_request(format, 1, &request, &mut frame, attached).expect("it is small");
        frame.put_bytes(b'x', attached);
        (name, frame[FRAME_HEADER_BYTES..].to_vec())
    };
    let all = requests().into_iter().chain(groups::requests());
    all.map(seed).collect()
}

pub(crate) fn response_seeds(format: Format) -> Vec<Seed> {
    let seed = |(name, response): (&'static str, Response)| {
        let attached = response.attachment_bytes() as usize;
        let mut frame = BytesMut::new();
        encode_response(format, 1, &response, &mut frame, attached).expect("it is small");
        frame.put_bytes(b'x', attached);
        (name, frame[FRAME_HEADER_BYTES..].to_vec())
    };
    let all = responses().into_iter().chain(groups::responses());
    all.map(seed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worst that protobuf can do: lists of as many empty elements as fit, of the largest type.
    #[test]
    fn empty_elements_hold_what_the_limits_say() {
        let elements = |kind: u16, field: u8, count: usize| {
            let body: Vec<u8> = [field << 3 | 2, 0].repeat(count);
            with_header(kind, &body)
        };
        // Right after the list has doubled.
        let count = (1 << 18) + 1;
        let bytes = elements(Kind::CreateTopic as u16, 3, count);
        let payload = BytesMut::from(&bytes[..]);
        let (request, _) = bounded(60 * bytes.len(), || decode_request(PROTOBUF, payload)).unwrap();
        assert!(matches!(request, Request::CreateTopic(topic) if topic.configs.len() == count));

        let bytes = elements(Kind::DescribeGroup as u16 | RESPONSE_BIT, 8, count);
        let limit = HELD_FOR_EACH_BYTE * bytes.len();
        let decoded = bounded(limit, || decode_response(PROTOBUF, Bytes::from(bytes)));
        assert!(decoded.is_ok());
    }
}
