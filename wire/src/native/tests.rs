//! Every message, in both formats: whatever it holds survives, both agree, and nothing that is cut
//! off or garbled does harm.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::codec::{Message, decode_body, encode_body};
use super::messages::*;
use super::*;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, MAX_FRAME_BYTES, PAYLOAD_HEADER_BYTES};

/// A type with a strategy for all its values. `messages!` writes it for each message.
pub(super) trait Any: Debug + Sized + 'static {
    fn any() -> BoxedStrategy<Self>;
}

macro_rules! any_from_proptest {
    ($($type:ty),*) => {
        $(impl Any for $type {
            fn any() -> BoxedStrategy<$type> {
                any::<$type>().boxed()
            }
        })*
    };
}

any_from_proptest!(bool, i8, i16, i32, u16, u32, u64, i64);

impl Any for String {
    fn any() -> BoxedStrategy<String> {
        // Short ones are stored inline by rkyv, long ones are not.
        prop_oneof![".{0,4}", "[a-zA-Z0-9._-]{1,40}"].boxed()
    }
}

impl<T: Any> Any for Vec<T> {
    fn any() -> BoxedStrategy<Vec<T>> {
        vec(T::any(), 0..4).boxed()
    }
}

impl<T: Any> Any for Option<T> {
    fn any() -> BoxedStrategy<Option<T>> {
        proptest::option::of(T::any()).boxed()
    }
}

/// Encodes in both formats and expects both to return the message.
fn survives<M: Message + Debug + PartialEq>(message: &M) -> Result<(), TestCaseError> {
    for format in Format::ALL {
        let mut body = BytesMut::new();
        encode_body(format, message, &mut body).unwrap();
        prop_assert_eq!(
            &decode_body::<M>(format, &body).unwrap(),
            message,
            "{:?}",
            format
        );
    }
    Ok(())
}

macro_rules! messages_survive {
    ($($name:ident => $message:ty;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(#[test]
            fn $name(message in <$message>::any()) {
                survives(&message)?;
            })*
        }
    };
}

messages_survive! {
    status => Status;
    handshake_request => HandshakeRequest;
    handshake_response => HandshakeResponse;
    ping_request => PingRequest;
    ping_response => PingResponse;
    metadata_request => MetadataRequest;
    metadata_response => MetadataResponse;
    create_topic_request => CreateTopicRequest;
    create_topic_response => CreateTopicResponse;
    delete_topic_request => DeleteTopicRequest;
    delete_topic_response => DeleteTopicResponse;
    describe_topic_request => DescribeTopicRequest;
    describe_topic_response => DescribeTopicResponse;
    list_topics_request => ListTopicsRequest;
    list_topics_response => ListTopicsResponse;
    alter_topic_config_request => AlterTopicConfigRequest;
    alter_topic_config_response => AlterTopicConfigResponse;
    create_partitions_request => CreatePartitionsRequest;
    create_partitions_response => CreatePartitionsResponse;
    produce_request => ProduceRequest;
    produce_response => ProduceResponse;
    fetch_request => FetchRequest;
    fetch_response => FetchResponse;
    list_offsets_request => ListOffsetsRequest;
    list_offsets_response => ListOffsetsResponse;
    delete_records_request => DeleteRecordsRequest;
    delete_records_response => DeleteRecordsResponse;
    repair_partition_request => RepairPartitionRequest;
    repair_partition_response => RepairPartitionResponse;
    init_producer_request => InitProducerRequest;
    init_producer_response => InitProducerResponse;
    stats_request => StatsRequest;
    stats_response => StatsResponse;
    join_group_request => JoinGroupRequest;
    join_group_response => JoinGroupResponse;
    sync_group_request => SyncGroupRequest;
    sync_group_response => SyncGroupResponse;
    heartbeat_request => HeartbeatRequest;
    heartbeat_response => HeartbeatResponse;
    leave_group_request => LeaveGroupRequest;
    leave_group_response => LeaveGroupResponse;
    commit_offsets_request => CommitOffsetsRequest;
    commit_offsets_response => CommitOffsetsResponse;
    fetch_offsets_request => FetchOffsetsRequest;
    fetch_offsets_response => FetchOffsetsResponse;
    list_groups_request => ListGroupsRequest;
    list_groups_response => ListGroupsResponse;
    describe_group_request => DescribeGroupRequest;
    describe_group_response => DescribeGroupResponse;
    delete_group_request => DeleteGroupRequest;
    delete_group_response => DeleteGroupResponse;
    delete_offsets_request => DeleteOffsetsRequest;
    delete_offsets_response => DeleteOffsetsResponse;
}

/// A request of two topics and three batches of 3, 0 and 4 bytes, with its frame.
fn produce_frame(format: Format) -> (ProduceRequest, BytesMut) {
    let partition = |partition, batch_bytes| ProducePartition {
        partition,
        batch_bytes,
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![
            ProduceTopic {
                name: "orders".into(),
                partitions: vec![partition(2, 3)],
            },
            ProduceTopic {
                name: "a-name-too-long-to-be-inline".into(),
                partitions: vec![partition(0, 0), partition(1, 4)],
            },
        ],
    };
    let mut frame = BytesMut::new();
    encode_request(format, 7, &request.clone().into(), &mut frame, 7).unwrap();
    frame.extend_from_slice(b"abcdefg");
    (request, frame)
}

fn payload(mut frame: BytesMut) -> (FrameHeader, BytesMut) {
    let header = frame.split_to(FRAME_HEADER_BYTES);
    let header = header[..].try_into().unwrap();
    let header = FrameHeader::parse(&header, MAX_FRAME_BYTES).unwrap();
    assert_eq!(header.payload_bytes(), frame.len());
    (header, frame)
}

#[test]
fn a_produce_request_is_read_in_place_and_its_batches_are_mutable() {
    for format in Format::ALL {
        let (request, frame) = produce_frame(format);
        let frame_at = frame.as_ptr() as usize;
        let frame_bytes = frame.len();
        let (header, payload) = payload(frame);
        assert_eq!((header.format, header.correlation), (format, 7));

        let mut payload = RequestPayload::split(format, payload).unwrap();
        assert_eq!(payload.decode().unwrap(), Request::Produce(request));
        let mut attachments = std::mem::take(&mut payload.attachments);
        // Taken away, the lengths no longer add up.
        assert_eq!(
            payload.produce().unwrap_err(),
            DecodeError::Attachments {
                named: 7,
                attached: 0
            }
        );
        payload.attachments = attachments.split_off(0);

        let view = payload.produce().unwrap();
        assert_eq!((view.acks(), view.timeout_ms()), (-1, 30_000));
        let entries: Vec<_> = view.entries().collect();
        let entry = |partition, batch_bytes| ProduceEntry {
            partition,
            batch_bytes,
        };
        assert_eq!(entries[0], ("orders", entry(2, 3)));
        assert_eq!(entries[1], ("a-name-too-long-to-be-inline", entry(0, 0)));
        assert_eq!(entries[2].1, entry(1, 4));
        assert_eq!(view.topics().count(), 2);

        let mut batches = payload.attachments.split();
        let mut first = batches.split_to(3);
        let address = first.as_ptr() as usize;
        assert!(
            (frame_at..frame_at + frame_bytes).contains(&address),
            "no copy was made"
        );
        first[0] = b'A';
        assert_eq!((&first[..], &batches[..]), (&b"Abc"[..], &b"defg"[..]));
    }
}

#[test]
fn a_fetch_request_is_read_in_place() {
    for format in Format::ALL {
        let partitions = vec![
            FetchPartition {
                partition: 1,
                offset: 99,
                max_bytes: 1 << 20
            };
            2
        ];
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 50 << 20,
            topics: vec![FetchTopic {
                name: "orders".into(),
                partitions,
            }],
        };
        let mut frame = BytesMut::new();
        encode_request(format, 1, &request.clone().into(), &mut frame, 0).unwrap();
        let payload = RequestPayload::split(format, payload(frame).1).unwrap();
        let view = payload.fetch().unwrap();
        assert_eq!(
            (view.max_wait_ms(), view.min_bytes(), view.max_bytes()),
            (500, 1, 50 << 20)
        );
        let entry = FetchEntry {
            partition: 1,
            offset: 99,
            max_bytes: 1 << 20,
        };
        assert_eq!(view.entries().collect::<Vec<_>>(), [("orders", entry); 2]);
        assert_eq!(payload.decode().unwrap(), request.into());
        assert!(matches!(
            payload.produce(),
            Err(DecodeError::WrongKind { .. })
        ));
    }
}

#[test]
fn responses_survive_with_their_attachments() {
    for format in Format::ALL {
        let result = FetchPartitionResult {
            records_bytes: 5,
            ..Default::default()
        };
        let topic = FetchTopicResult {
            name: "t".into(),
            partitions: vec![result],
        };
        let fetch = Response::Fetch(FetchResponse {
            topics: vec![topic],
        });
        let error = Response::Error(Status::failed(crate::error::ErrorCode::Overloaded, "later"));
        for (response, attached) in [(fetch, &b"batch"[..]), (error, b"")] {
            let mut out = BytesMut::from("what was there before");
            let before = out.len();
            encode_response(format, 9, &response, &mut out, attached.len()).unwrap();
            out.extend_from_slice(attached);
            let (_, payload) = payload(out.split_off(before));
            let (decoded, attachments) = decode_response(format, payload.freeze()).unwrap();
            assert_eq!(decoded, response);
            assert_eq!(&attachments[..], attached);
        }
    }
}

#[test]
fn lengths_that_do_not_add_up_are_refused() {
    for format in Format::ALL {
        let (request, frame) = produce_frame(format);
        let whole = payload(frame).1;
        for end in 0..whole.len() {
            let cut = BytesMut::from(&whole[..end]);
            assert!(
                decode_request(format, cut).is_err(),
                "{format:?} cut at {end}"
            );
        }
        let mut longer = whole.clone();
        longer.extend_from_slice(b"!");
        assert_eq!(
            decode_request(format, longer).unwrap_err(),
            DecodeError::Attachments {
                named: 7,
                attached: 8
            }
        );
        let ping = Request::Ping(PingRequest {});
        let mut frame = BytesMut::new();
        encode_request(format, 1, &ping, &mut frame, 0).unwrap();
        frame.extend_from_slice(b"!");
        let with_tail = frame.split_off(FRAME_HEADER_BYTES);
        assert!(matches!(
            decode_request(format, with_tail),
            Err(DecodeError::Attachments {
                named: 0,
                attached: 1
            })
        ));

        let mut out = BytesMut::from("kept");
        let refused = encode_request(format, 1, &request.into(), &mut out, 8).unwrap_err();
        assert_eq!(
            refused,
            EncodeError::Attachments {
                named: 7,
                attached: 8
            }
        );
        assert_eq!(&out[..], b"kept");
    }
}

#[test]
fn unknown_kinds_and_oversized_bodies_are_refused() {
    let parse = |kind: u16, claimed: u32, body: usize| {
        let mut payload = BytesMut::from(&kind.to_be_bytes()[..]);
        payload.extend_from_slice(&claimed.to_be_bytes());
        payload.resize(PAYLOAD_HEADER_BYTES + body, 0);
        RequestPayload::split(Format::Rkyv, payload).map(|payload| payload.kind)
    };
    assert_eq!(parse(2, 0, 0), Ok(Kind::Ping));
    assert_eq!(parse(0, 0, 0), Err(DecodeError::UnknownKind(0)));
    assert_eq!(parse(19, 0, 0), Err(DecodeError::UnknownKind(19)));
    assert_eq!(parse(0x8002, 0, 0), Err(DecodeError::UnknownKind(0x8002)));
    assert_eq!(
        parse(2, 1, 0),
        Err(DecodeError::BodyLength {
            claimed: 1,
            remaining: 0
        })
    );
    let over = MAX_REQUEST_BODY_BYTES + 1;
    assert_eq!(
        parse(2, over as u32, over),
        Err(DecodeError::BodyTooLarge {
            bytes: over as u32,
            limit: MAX_REQUEST_BODY_BYTES
        })
    );
    let response = Bytes::from_static(&[0, 2, 0, 0, 0, 0]);
    assert_eq!(
        decode_response(Format::Rkyv, response).unwrap_err(),
        DecodeError::UnknownKind(2),
        "a request is no response"
    );
}

#[test]
fn protobuf_numbers_out_of_range_are_refused_by_name() {
    // acks = 200, as sint32 in field 1.
    let refused = decode_body::<ProduceRequest>(Format::Protobuf, &[0x08, 0x90, 0x03]);
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("acks is 200"), "{message}");
}

#[test]
fn an_rkyv_string_that_is_not_utf8_is_refused() {
    let mut body = BytesMut::new();
    let request = DeleteTopicRequest {
        name: "a-name-too-long-to-be-inline".into(),
    };
    encode_body(Format::Rkyv, &request, &mut body).unwrap();
    body[3] = 0xff;
    assert!(decode_body::<DeleteTopicRequest>(Format::Rkyv, &body).is_err());
}

#[test]
fn kinds_and_versions() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_number(*kind as u16), Some(*kind));
    }
    assert_eq!(negotiate_version(1, 9), Some(1));
    assert_eq!(negotiate_version(2, 9), None);
    assert_eq!(negotiate_version(0, 0), None);
    assert_eq!(negotiate_version(5, 1), None, "an empty range");
}
