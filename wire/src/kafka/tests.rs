//! The hand-written codec against the library, an independent one; the guard against bytes of all
//! kinds.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{self, RequestKind, ResponseKind, TopicName};
use kafka_protocol::protocol::{Decodable, StrBytes};
use proptest::prelude::*;

use super::control::{self, decode_request, write_request, write_response};
use super::*;

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

/// A request as a client writes it: its payload, and where the body begins.
fn payload(key: ApiKey, version: i16, request: &RequestKind) -> (Bytes, usize) {
    let mut out = BytesMut::new();
    write_request(key, version, 7, "tests", request, &mut out).expect("the version can say it");
    let payload = out.freeze().slice(4..);
    let head = RequestHead::parse(&payload).expect("a head");
    assert_eq!((head.api_key, head.api_version), (key.number(), version));
    assert_eq!((head.correlation, head.client_id), (7, Some("tests")));
    let body_at = head.body_at;
    (payload, body_at)
}

/// A topic's name, and its partitions with their records.
type TopicData = (String, Vec<(i32, Option<Vec<u8>>)>);

fn batches() -> impl Strategy<Value = Vec<TopicData>> {
    let records = prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    let partitions = prop::collection::vec((any::<i32>(), records), 0..4);
    prop::collection::vec(("[a-z._-]{0,20}", partitions), 0..4)
}

proptest! {
    #[test]
    fn produce_requests_are_read_as_the_library_writes_them(
        version in 3..=9_i16,
        acks in any::<i16>(),
        timeout_ms in any::<i32>(),
        transaction in prop::option::of("[a-z]{0,9}"),
        topics in batches(),
    ) {
        let data = topics.iter().map(|(topic, partitions)| {
            let partitions = partitions.iter().map(|(index, records)| {
                PartitionProduceData::default()
                    .with_index(*index)
                    .with_records(records.clone().map(Bytes::from))
            });
            TopicProduceData::default()
                .with_name(name(topic))
                .with_partition_data(partitions.collect())
        });
        let id = transaction.clone().map(|id| messages::TransactionalId(StrBytes::from_string(id)));
        let request = messages::ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(timeout_ms)
            .with_transactional_id(id)
            .with_topic_data(data.collect());
        let (payload, body_at) = payload(ApiKey::Produce, version, &request.into());
        let body = &payload[body_at..];
        let read = ProduceRequest::parse(body, version).expect("it can be read");
        prop_assert_eq!((read.acks(), read.timeout_ms()), (acks, timeout_ms));
        prop_assert_eq!(read.transactional_id(), transaction.as_deref());
        let mut last = 0;
        let mut seen = Vec::new();
        for topic in read.topics() {
            let mut partitions = Vec::new();
            for partition in topic.partitions() {
                prop_assert!(partition.records.start >= last);
                last = partition.records.end;
                partitions.push((partition.index, body[partition.records].to_vec()));
            }
            seen.push((topic.name.to_owned(), partitions));
        }
        let sent: Vec<_> = topics
            .into_iter()
            .map(|(topic, partitions)| {
                let records = |(index, records): (i32, Option<Vec<u8>>)| {
                    (index, records.unwrap_or_default())
                };
                (topic, partitions.into_iter().map(records).collect::<Vec<_>>())
            })
            .collect();
        prop_assert_eq!(seen, sent);
        for end in 0..body.len() {
            prop_assert!(ProduceRequest::parse(&body[..end], version).is_err());
        }
    }

    #[test]
    fn fetch_requests_are_read_as_the_library_writes_them(
        version in 4..=12_i16,
        numbers in any::<[i32; 5]>(),
        topics in prop::collection::vec(
            ("[a-z]{0,9}", prop::collection::vec(any::<(i32, i32, i64, i32, i64, i32)>(), 0..4)), 0..4),
        forgotten in prop::collection::vec(
            ("[a-z]{0,9}", prop::collection::vec(any::<i32>(), 0..4)), 0..3),
        rack in "[a-z]{0,5}",
    ) {
        let wanted = topics.iter().map(|(topic, partitions)| {
            let partitions = partitions.iter().map(|(index, epoch, offset, last, start, bytes)| {
                FetchPartition::default()
                    .with_partition(*index)
                    .with_current_leader_epoch(if version >= 9 { *epoch } else { -1 })
                    .with_fetch_offset(*offset)
                    .with_last_fetched_epoch(if version >= 12 { *last } else { -1 })
                    .with_log_start_offset(if version >= 5 { *start } else { -1 })
                    .with_partition_max_bytes(*bytes)
            });
            FetchTopic::default().with_topic(name(topic)).with_partitions(partitions.collect())
        });
        let [max_wait_ms, min_bytes, max_bytes, session_id, session_epoch] = numbers;
        let mut request = messages::FetchRequest::default()
            .with_max_wait_ms(max_wait_ms)
            .with_min_bytes(min_bytes)
            .with_max_bytes(max_bytes)
            .with_isolation_level(1)
            .with_topics(wanted.collect());
        if version >= 7 {
            let forgotten = forgotten.iter().map(|(topic, partitions)| {
                ForgottenTopic::default().with_topic(name(topic)).with_partitions(partitions.clone())
            });
            request = request
                .with_session_id(session_id)
                .with_session_epoch(session_epoch)
                .with_forgotten_topics_data(forgotten.collect());
        }
        if version >= 11 {
            request = request.with_rack_id(StrBytes::from_string(rack.clone()));
        }
        let (payload, body_at) = payload(ApiKey::Fetch, version, &request.into());
        let body = &payload[body_at..];
        let read = FetchRequest::parse(body, version).expect("it can be read");
        prop_assert_eq!(
            (read.max_wait_ms, read.min_bytes, read.max_bytes),
            (max_wait_ms, min_bytes, max_bytes)
        );
        prop_assert!(read.read_committed);
        if version >= 7 {
            prop_assert_eq!((read.session_id, read.session_epoch), (session_id, session_epoch));
            let seen: Vec<_> = read
                .forgotten()
                .map(|topic| (topic.name.to_owned(), topic.partitions().collect::<Vec<_>>()))
                .collect();
            prop_assert_eq!(seen, forgotten);
        }
        if version >= 11 {
            prop_assert_eq!(read.rack.unwrap_or_default(), rack);
        }
        let seen: Vec<_> = read
            .topics()
            .map(|topic| {
                let partitions = topic.partitions().map(|p| (p.partition, p.offset, p.max_bytes));
                (topic.name.to_owned(), partitions.collect::<Vec<_>>())
            })
            .collect();
        let sent: Vec<_> = topics
            .into_iter()
            .map(|(topic, partitions)| {
                let partitions = partitions.into_iter().map(|(i, _, offset, _, _, b)| (i, offset, b));
                (topic, partitions.collect::<Vec<_>>())
            })
            .collect();
        prop_assert_eq!(seen, sent);
        for end in 0..body.len() {
            prop_assert!(FetchRequest::parse(&body[..end], version).is_err());
        }
    }

    /// What the guard lets through the library reads; nothing makes either panic.
    #[test]
    fn no_bytes_do_harm(
        which in any::<prop::sample::Index>(),
        version in 0..13_i16,
        body in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), any::<u8>()], 0..80),
    ) {
        let place = which.index(SERVED.len() + DECLINED.len());
        let (key, _) = *SERVED.iter().chain(DECLINED).nth(place).expect("within both");
        let _ = RequestHead::parse(&body);
        let _ = ProduceRequest::parse(&body, version);
        let _ = FetchRequest::parse(&body, version);
        if let Err(DecodeError::Content(refusal)) =
            decode_request(key, version, Bytes::from(body))
        {
            // Null where its version has no null is the one thing that the table does not know.
            prop_assert!(refusal.contains("null") || refusal.contains("None") || refusal.contains("decode"), "{}", refusal);
        }
    }
}

#[test]
fn produce_responses_are_read_by_the_library_as_they_were_written() {
    for version in 3..=9 {
        let mut out = BytesMut::new();
        let mut writer = ProduceResponseWriter::begin(&mut out, version, 9, 2);
        writer.topic("a", 2);
        let partition = |index, error_message| ProducedPartition {
            index,
            error_code: 3,
            base_offset: 4,
            append_time_ms: 5,
            log_start: 6,
            error_message,
        };
        writer.partition(partition(0, None));
        writer.partition(partition(1, Some("no")));
        writer.topic("b", 0);
        writer.finish(10);
        let length = u32::from_be_bytes(out[..4].try_into().expect("four"));
        assert_eq!(length as usize, out.len() - 4);
        let payload = out.freeze().slice(4..);
        let (correlation, response) = control::read_response(ApiKey::Produce, version, payload)
            .expect("the library reads it");
        let ResponseKind::Produce(response) = response else {
            panic!("{response:?}");
        };
        assert_eq!((correlation, response.throttle_time_ms), (9, 10));
        let first = &response.responses[0];
        assert_eq!(
            (first.name.as_str(), first.partition_responses.len()),
            ("a", 2)
        );
        let second = &first.partition_responses[1];
        assert_eq!(
            (second.index, second.error_code, second.base_offset),
            (1, 3, 4)
        );
        assert_eq!(second.log_append_time_ms, 5);
        if version >= 8 {
            assert_eq!(second.error_message.as_deref(), Some("no"));
        }
        assert_eq!(response.responses[1].name.as_str(), "b");
    }
}

#[derive(Default)]
struct Pieces {
    pieces: Vec<Bytes>,
    small: BytesMut,
}

impl Sink for Pieces {
    fn small(&mut self) -> &mut BytesMut {
        &mut self.small
    }

    fn splice(&mut self, batch: Bytes) {
        self.pieces.push(self.small.split().freeze());
        self.pieces.push(batch);
    }
}

#[test]
fn fetch_responses_are_read_by_the_library_as_they_were_written() {
    let batch = Bytes::from_static(b"a batch");
    for version in 4..=12 {
        let partition = |partition, batches| FetchedPartition {
            partition,
            error_code: 1,
            high_watermark: 2,
            last_stable_offset: 3,
            log_start: 4,
            batches,
            ..FetchedPartition::default()
        };
        let response = FetchResponse {
            throttle_ms: 0,
            error_code: 0,
            session_id: 8,
            topics: vec![FetchedTopic {
                name: "t".into(),
                partitions: vec![
                    partition(0, vec![batch.clone(), batch.clone()]),
                    partition(1, Vec::new()),
                ],
            }],
        };
        let mut sink = Pieces::default();
        write_fetch_response(version, 9, &response, &mut sink);
        assert_eq!(sink.pieces[1].as_ptr(), batch.as_ptr(), "it was not copied");
        sink.pieces.push(sink.small.freeze());
        let out: Vec<u8> = sink.pieces.concat();
        let length = u32::from_be_bytes(out[..4].try_into().expect("four"));
        assert_eq!(length as usize, out.len() - 4);
        let payload = Bytes::from(out).slice(4..);
        let (correlation, response) =
            control::read_response(ApiKey::Fetch, version, payload).expect("the library reads it");
        let ResponseKind::Fetch(response) = response else {
            panic!("{response:?}");
        };
        assert_eq!(correlation, 9);
        let partitions = &response.responses[0].partitions;
        assert_eq!(partitions.len(), 2);
        assert_eq!(
            partitions[0].records.as_deref(),
            Some(&b"a batcha batch"[..])
        );
        assert_eq!(
            (
                partitions[1].high_watermark,
                partitions[1].last_stable_offset
            ),
            (2, 3)
        );
        if version >= 7 {
            assert_eq!(response.session_id, 8);
        }
    }
}

#[test]
fn every_control_request_passes_the_guard_and_comes_back() {
    let nothing = |key: ApiKey, version: i16| -> RequestKind {
        match key {
            ApiKey::ListOffsets => messages::ListOffsetsRequest::default().into(),
            ApiKey::Metadata => messages::MetadataRequest::default()
                .with_topics(Some(Vec::new()))
                .into(),
            ApiKey::FindCoordinator => match version {
                0..=3 => messages::FindCoordinatorRequest::default(),
                _ => messages::FindCoordinatorRequest::default()
                    .with_coordinator_keys(vec![StrBytes::from_static_str("a"); 2]),
            }
            .into(),
            ApiKey::ApiVersions => messages::ApiVersionsRequest::default().into(),
            ApiKey::CreateTopics => messages::CreateTopicsRequest::default().into(),
            ApiKey::DeleteTopics => messages::DeleteTopicsRequest::default().into(),
            ApiKey::DeleteRecords => messages::DeleteRecordsRequest::default().into(),
            ApiKey::OffsetForLeaderEpoch => messages::OffsetForLeaderEpochRequest::default().into(),
            ApiKey::DescribeConfigs => messages::DescribeConfigsRequest::default().into(),
            ApiKey::AlterConfigs => messages::AlterConfigsRequest::default().into(),
            ApiKey::DescribeLogDirs => messages::DescribeLogDirsRequest::default().into(),
            ApiKey::CreatePartitions => messages::CreatePartitionsRequest::default().into(),
            ApiKey::ElectLeaders => messages::ElectLeadersRequest::default().into(),
            ApiKey::IncrementalAlterConfigs => {
                messages::IncrementalAlterConfigsRequest::default().into()
            }
            ApiKey::AlterPartitionReassignments => {
                messages::AlterPartitionReassignmentsRequest::default().into()
            }
            ApiKey::ListPartitionReassignments => {
                messages::ListPartitionReassignmentsRequest::default().into()
            }
            ApiKey::DescribeCluster => messages::DescribeClusterRequest::default().into(),
            ApiKey::DescribeTopicPartitions => messages::DescribeTopicPartitionsRequest::default()
                .with_topics(vec![Default::default(); 2])
                .with_cursor(Some(Default::default()))
                .into(),
            ApiKey::InitProducerId => messages::InitProducerIdRequest::default().into(),
            ApiKey::OffsetCommit => messages::OffsetCommitRequest::default()
                .with_topics(vec![
                    messages::offset_commit_request::OffsetCommitRequestTopic::default()
                        .with_partitions(vec![Default::default(); 2]),
                ])
                .into(),
            ApiKey::OffsetFetch => match version {
                0..=7 => messages::OffsetFetchRequest::default().with_topics(Some(vec![
                    messages::offset_fetch_request::OffsetFetchRequestTopic::default()
                        .with_partition_indexes(vec![3, 4]),
                ])),
                _ => {
                    messages::OffsetFetchRequest::default().with_groups(vec![Default::default(); 2])
                }
            }
            .into(),
            ApiKey::JoinGroup => messages::JoinGroupRequest::default()
                .with_protocols(vec![
                    messages::join_group_request::JoinGroupRequestProtocol::default()
                        .with_metadata(Bytes::from_static(b"metadata"));
                    2
                ])
                .into(),
            ApiKey::Heartbeat => messages::HeartbeatRequest::default().into(),
            ApiKey::LeaveGroup => match version {
                0..=2 => messages::LeaveGroupRequest::default(),
                _ => {
                    messages::LeaveGroupRequest::default().with_members(vec![Default::default(); 2])
                }
            }
            .into(),
            ApiKey::SyncGroup => messages::SyncGroupRequest::default()
                .with_assignments(vec![
                    messages::sync_group_request::SyncGroupRequestAssignment::default()
                        .with_assignment(Bytes::from_static(b"assignment"));
                    2
                ])
                .into(),
            ApiKey::ListGroups => {
                let filter = |since| match version {
                    _ if version < since => Vec::new(),
                    _ => vec![StrBytes::from_static_str("some"); 2],
                };
                messages::ListGroupsRequest::default()
                    .with_states_filter(filter(4))
                    .with_types_filter(filter(5))
                    .into()
            }
            ApiKey::OffsetDelete => messages::OffsetDeleteRequest::default()
                .with_topics(vec![
                    messages::offset_delete_request::OffsetDeleteRequestTopic::default()
                        .with_partitions(vec![Default::default(); 2]),
                ])
                .into(),
            ApiKey::DescribeGroups => messages::DescribeGroupsRequest::default()
                .with_groups(vec![Default::default(); 2])
                .into(),
            ApiKey::AddPartitionsToTxn => messages::AddPartitionsToTxnRequest::default()
                .with_v3_and_below_topics(vec![
                    messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                        .with_partitions(vec![3, 4]),
                ])
                .into(),
            ApiKey::TxnOffsetCommit => messages::TxnOffsetCommitRequest::default()
                .with_topics(vec![
                    messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
                        .with_partitions(vec![Default::default(); 2]),
                ])
                .into(),
            ApiKey::DeleteGroups => messages::DeleteGroupsRequest::default()
                .with_groups_names(vec![Default::default(); 2])
                .into(),
            other => panic!("{other:?} is no control request"),
        }
    };
    for (key, versions) in SERVED.iter().chain(DECLINED) {
        if matches!(key, ApiKey::Produce | ApiKey::Fetch) {
            continue;
        }
        for version in versions.min..=versions.max {
            let request = nothing(*key, version);
            let (payload, body_at) = payload(*key, version, &request);
            let body = payload.slice(body_at..);
            decode_request(*key, version, body.clone()).expect("its own bytes");
            // Some clients leave bytes behind it.
            let mut longer = BytesMut::from(&body[..]);
            longer.extend_from_slice(&[0; 3]);
            let read = decode_request(*key, version, longer.freeze()).expect("it is all there");
            assert_eq!(
                read,
                decode_request(*key, version, body).expect("its own bytes")
            );
        }
    }
}

#[test]
fn a_count_that_cannot_be_is_refused_before_anything_is_allocated() {
    // Two billion topics, in twelve bytes.
    let body = Bytes::from_static(&[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let refused = decode_request(ApiKey::ListOffsets, 1, body);
    assert!(
        matches!(refused, Err(DecodeError::Ends { .. })),
        "{refused:?}"
    );
    // Two billion members that leave, and a protocol with two billion bytes of metadata.
    let leaving = Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    let joining = Bytes::from_static(&[
        0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x7f, 0xff, 0xff, 0xff,
    ]);
    let bodies = [
        (ApiKey::LeaveGroup, 3, leaving),
        (ApiKey::JoinGroup, 0, joining),
    ];
    for (key, version, body) in bodies {
        let refused = decode_request(key, version, body);
        assert!(
            matches!(refused, Err(DecodeError::Ends { .. })),
            "{key:?}: {refused:?}"
        );
    }
}

#[test]
fn a_response_to_api_versions_never_has_a_flexible_head() {
    for version in 0..=4 {
        let response = messages::ApiVersionsResponse::default().into();
        let mut out = BytesMut::new();
        write_response(ApiKey::ApiVersions, version, 3, &response, &mut out).expect("written");
        let mut body = out.freeze().slice(8..);
        messages::ApiVersionsResponse::decode(&mut body, version).expect("right behind the number");
        assert!(body.is_empty());
    }
}
