//! Kafka's requests, of every kind and version that is read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use millrace_wire::kafka::control::messages as m;
use millrace_wire::kafka::control::{RequestKind, StrBytes, decode_request, write_request};
use millrace_wire::kafka::{ApiKey, FetchRequest, ProduceRequest, RequestHead};

use crate::Seed;
use crate::allocation::bounded;

/// An owned message takes a multiple of its bytes: a structure of three bytes on the wire has a
/// hundred in memory.
const MOST_FOR_EACH_BYTE: usize = 256;
const MOST_BESIDES: usize = 16 * 1024;

pub(crate) fn request(payload: &[u8]) {
    let Ok(head) = RequestHead::parse(payload) else {
        return;
    };
    assert!(head.body_at <= payload.len());
    let (Some(key), version) = (ApiKey::from_number(head.api_key), head.api_version) else {
        return;
    };
    if !key.is_read(version) {
        return;
    }
    let body = &payload[head.body_at..];
    match key {
        ApiKey::Produce => bounded(0, || produce(body, version)),
        ApiKey::Fetch => bounded(0, || fetch(body, version)),
        _ => {
            let most = MOST_BESIDES + MOST_FOR_EACH_BYTE * body.len();
            let body = Bytes::copy_from_slice(body);
            bounded(most, || drop(decode_request(key, version, body)));
        }
    }
}

fn produce(body: &[u8], version: i16) {
    let Ok(request) = ProduceRequest::parse(body, version) else {
        return;
    };
    let mut cut = 0;
    for topic in request.topics() {
        for partition in topic.partitions() {
            assert!(partition.records.start >= cut && partition.records.end <= body.len());
            cut = partition.records.end;
        }
    }
}

fn fetch(body: &[u8], version: i16) {
    let Ok(request) = FetchRequest::parse(body, version) else {
        return;
    };
    let wanted: usize = request
        .topics()
        .map(|topic| topic.partitions().count())
        .sum();
    let forgotten = request.forgotten().map(|topic| topic.partitions().count());
    assert!(wanted + forgotten.sum::<usize>() <= body.len());
}

fn name(name: &'static str) -> m::TopicName {
    m::TopicName(StrBytes::from_static_str(name))
}

fn seed(file: &'static str, key: ApiKey, version: i16, request: impl Into<RequestKind>) -> Seed {
    let mut out = BytesMut::new();
    write_request(key, version, 7, "seed", &request.into(), &mut out).expect("the version says it");
    (file, out[4..].to_vec())
}

/// Requests of real clients, from the recordings that the broker's tests replay: each client's first of
/// every kind and version.
fn recorded_seeds() -> Vec<Seed> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../server/tests/kafka_clients/recordings");
    let files = fs::read_dir(&folder).expect("the recordings are there");
    let files = files.map(|file| file.expect("a file").path());
    let recordings = files.filter(|file| file.extension().is_some_and(|end| end == "bin"));
    let mut seeds = BTreeMap::new();
    for file in recordings {
        let client = file.file_stem().expect("a name").to_string_lossy();
        let recording = fs::read(&file).expect("a recording");
        for connection in with_lengths(&recording) {
            for request in with_lengths(connection) {
                let head = RequestHead::parse(request).expect("a request's head");
                let key = ApiKey::from_number(head.api_key).expect("a known request");
                let name = format!("{client}_{}_{}", key.name(), head.api_version);
                seeds.entry(name).or_insert_with(|| request.to_vec());
            }
        }
    }
    // Names live as long as the program, as those in this file do.
    let named = |(name, bytes): (String, Vec<u8>)| (&*name.leak(), bytes);
    seeds.into_iter().map(named).collect()
}

/// Pieces that each have four bytes of length before them.
fn with_lengths(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (piece, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

pub(crate) fn request_seeds() -> Vec<Seed> {
    let mut seeds = served_seeds();
    seeds.extend(group_seeds());
    seeds.extend(declined_seeds());
    seeds.extend(recorded_seeds());
    seeds
}

fn group() -> m::GroupId {
    m::GroupId(StrBytes::from_static_str("group"))
}

fn group_seeds() -> Vec<Seed> {
    let mut seeds = membership_seeds();
    seeds.extend(group_offset_seeds());
    seeds.push(seed(
        "describe_groups_5",
        ApiKey::DescribeGroups,
        5,
        m::DescribeGroupsRequest::default().with_groups(vec![group()]),
    ));
    seeds.push(seed(
        "list_groups_5",
        ApiKey::ListGroups,
        5,
        m::ListGroupsRequest::default()
            .with_states_filter(vec![StrBytes::from_static_str("Stable")])
            .with_types_filter(vec![StrBytes::from_static_str("classic")]),
    ));
    seeds.push(seed(
        "delete_groups_2",
        ApiKey::DeleteGroups,
        2,
        m::DeleteGroupsRequest::default().with_groups_names(vec![group()]),
    ));
    seeds
}

fn membership_seeds() -> Vec<Seed> {
    let text = StrBytes::from_static_str;
    let protocol = m::join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"metadata"));
    let join = m::JoinGroupRequest::default()
        .with_group_id(group())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol; 2]);
    let heartbeat = m::HeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text("member"));
    let leaving = m::leave_group_request::MemberIdentity::default().with_member_id(text("member"));
    let assigned = m::sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(text("member"))
        .with_assignment(Bytes::from_static(b"assignment"));
    let sync = m::SyncGroupRequest::default()
        .with_group_id(group())
        .with_assignments(vec![assigned; 2]);
    vec![
        seed("join_group_0", ApiKey::JoinGroup, 0, join.clone()),
        seed("join_group_5", ApiKey::JoinGroup, 5, join.clone()),
        seed("join_group_9", ApiKey::JoinGroup, 9, join),
        seed("heartbeat_0", ApiKey::Heartbeat, 0, heartbeat.clone()),
        seed("heartbeat_4", ApiKey::Heartbeat, 4, heartbeat),
        seed(
            "leave_group_2",
            ApiKey::LeaveGroup,
            2,
            m::LeaveGroupRequest::default().with_member_id(text("member")),
        ),
        seed(
            "leave_group_5",
            ApiKey::LeaveGroup,
            5,
            m::LeaveGroupRequest::default().with_members(vec![leaving; 2]),
        ),
        seed("sync_group_0", ApiKey::SyncGroup, 0, sync.clone()),
        seed("sync_group_5", ApiKey::SyncGroup, 5, sync),
    ]
}

fn group_offset_seeds() -> Vec<Seed> {
    let committed = m::offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![Default::default()]);
    let commit = m::OffsetCommitRequest::default().with_topics(vec![committed]);
    let fetched = m::offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(group())
        .with_topics(Some(vec![Default::default()]));
    let wanted = m::offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(name("orders"))
        .with_partition_indexes(vec![0, 1]);
    let deleted = m::offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![Default::default()]);
    vec![
        seed("offset_commit_2", ApiKey::OffsetCommit, 2, commit.clone()),
        seed("offset_commit_9", ApiKey::OffsetCommit, 9, commit),
        seed(
            "offset_fetch_7",
            ApiKey::OffsetFetch,
            7,
            m::OffsetFetchRequest::default()
                .with_group_id(group())
                .with_topics(Some(vec![wanted])),
        ),
        seed(
            "offset_fetch_9",
            ApiKey::OffsetFetch,
            9,
            m::OffsetFetchRequest::default().with_groups(vec![fetched]),
        ),
        seed(
            "offset_delete_0",
            ApiKey::OffsetDelete,
            0,
            m::OffsetDeleteRequest::default()
                .with_group_id(group())
                .with_topics(vec![deleted]),
        ),
    ]
}

fn declined_seeds() -> Vec<Seed> {
    let in_transaction = m::txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![Default::default()]);
    let in_transaction = m::TxnOffsetCommitRequest::default().with_topics(vec![in_transaction]);
    let added = m::add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![0, 1]);
    let added = m::AddPartitionsToTxnRequest::default().with_v3_and_below_topics(vec![added]);
    vec![
        seed(
            "add_partitions_to_txn_3",
            ApiKey::AddPartitionsToTxn,
            3,
            added,
        ),
        seed(
            "txn_offset_commit_3",
            ApiKey::TxnOffsetCommit,
            3,
            in_transaction,
        ),
    ]
}

fn served_seeds() -> Vec<Seed> {
    let partition = m::produce_request::PartitionProduceData::default()
        .with_records(Some(Bytes::from_static(b"any bytes")));
    let data = m::produce_request::TopicProduceData::default()
        .with_name(name("orders"))
        .with_partition_data(vec![partition.clone(), partition.with_index(1)]);
    let produce = m::ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(vec![data]);
    let wanted = m::fetch_request::FetchTopic::default()
        .with_topic(name("orders"))
        .with_partitions(vec![m::fetch_request::FetchPartition::default(); 2]);
    let fetch = m::FetchRequest::default().with_topics(vec![wanted]);
    let topic = m::create_topics_request::CreatableTopic::default()
        .with_name(name("orders"))
        .with_configs(vec![
            m::create_topics_request::CreatableTopicConfig::default(),
        ])
        .with_assignments(vec![
            m::create_topics_request::CreatableReplicaAssignment::default()
                .with_broker_ids(vec![m::BrokerId(1)]),
        ]);
    let create = m::CreateTopicsRequest::default().with_topics(vec![topic]);
    let offsets = m::list_offsets_request::ListOffsetsTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![Default::default()]);
    let offsets = m::ListOffsetsRequest::default().with_topics(vec![offsets]);
    let resource = m::describe_configs_request::DescribeConfigsResource::default()
        .with_configuration_keys(Some(vec![StrBytes::from_static_str("retention.ms")]));
    let configs = m::DescribeConfigsRequest::default().with_resources(vec![resource]);
    let metadata = m::MetadataRequest::default().with_topics(Some(vec![
        m::metadata_request::MetadataRequestTopic::default().with_name(Some(name("orders"))),
    ]));
    let grown = m::create_partitions_request::CreatePartitionsTopic::default()
        .with_assignments(Some(vec![Default::default()]));
    let moved = m::alter_partition_reassignments_request::ReassignableTopic::default()
        .with_partitions(vec![Default::default()]);
    vec![
        seed("produce_3", ApiKey::Produce, 3, produce.clone()),
        seed("produce_9", ApiKey::Produce, 9, produce),
        seed("fetch_4", ApiKey::Fetch, 4, fetch.clone()),
        seed("fetch_12", ApiKey::Fetch, 12, fetch),
        seed("list_offsets_1", ApiKey::ListOffsets, 1, offsets.clone()),
        seed("list_offsets_7", ApiKey::ListOffsets, 7, offsets),
        seed("metadata_1", ApiKey::Metadata, 1, metadata.clone()),
        seed("metadata_12", ApiKey::Metadata, 12, metadata),
        seed(
            "find_coordinator_4",
            ApiKey::FindCoordinator,
            4,
            m::FindCoordinatorRequest::default()
                .with_coordinator_keys(vec![StrBytes::from_static_str("group")]),
        ),
        seed(
            "api_versions_3",
            ApiKey::ApiVersions,
            3,
            m::ApiVersionsRequest::default(),
        ),
        seed(
            "init_producer_id_0",
            ApiKey::InitProducerId,
            0,
            m::InitProducerIdRequest::default(),
        ),
        seed(
            "init_producer_id_4",
            ApiKey::InitProducerId,
            4,
            m::InitProducerIdRequest::default()
                .with_transactional_id(Some(m::TransactionalId(StrBytes::from_static_str("once"))))
                .with_producer_id(m::ProducerId(7)),
        ),
        seed("create_topics_2", ApiKey::CreateTopics, 2, create.clone()),
        seed("create_topics_7", ApiKey::CreateTopics, 7, create),
        seed(
            "delete_topics_1",
            ApiKey::DeleteTopics,
            1,
            m::DeleteTopicsRequest::default().with_topic_names(vec![name("orders")]),
        ),
        seed(
            "delete_topics_6",
            ApiKey::DeleteTopics,
            6,
            m::DeleteTopicsRequest::default().with_topics(vec![Default::default()]),
        ),
        seed(
            "delete_records_2",
            ApiKey::DeleteRecords,
            2,
            m::DeleteRecordsRequest::default().with_topics(vec![Default::default()]),
        ),
        seed(
            "leader_epoch_4",
            ApiKey::OffsetForLeaderEpoch,
            4,
            m::OffsetForLeaderEpochRequest::default().with_topics(vec![Default::default()]),
        ),
        seed("describe_configs_4", ApiKey::DescribeConfigs, 4, configs),
        seed(
            "alter_configs_2",
            ApiKey::AlterConfigs,
            2,
            m::AlterConfigsRequest::default().with_resources(vec![Default::default()]),
        ),
        seed(
            "incremental_alter_configs_1",
            ApiKey::IncrementalAlterConfigs,
            1,
            m::IncrementalAlterConfigsRequest::default().with_resources(vec![Default::default()]),
        ),
        seed(
            "describe_log_dirs_4",
            ApiKey::DescribeLogDirs,
            4,
            m::DescribeLogDirsRequest::default().with_topics(Some(vec![Default::default()])),
        ),
        seed(
            "create_partitions_3",
            ApiKey::CreatePartitions,
            3,
            m::CreatePartitionsRequest::default().with_topics(vec![grown]),
        ),
        seed(
            "elect_leaders_2",
            ApiKey::ElectLeaders,
            2,
            m::ElectLeadersRequest::default().with_topic_partitions(Some(vec![Default::default()])),
        ),
        seed(
            "describe_topic_partitions_0",
            ApiKey::DescribeTopicPartitions,
            0,
            m::DescribeTopicPartitionsRequest::default()
                .with_topics(vec![Default::default()])
                .with_cursor(Some(Default::default())),
        ),
        seed(
            "alter_reassignments_0",
            ApiKey::AlterPartitionReassignments,
            0,
            m::AlterPartitionReassignmentsRequest::default().with_topics(vec![moved]),
        ),
        seed(
            "list_reassignments_0",
            ApiKey::ListPartitionReassignments,
            0,
            m::ListPartitionReassignmentsRequest::default()
                .with_topics(Some(vec![Default::default()])),
        ),
        seed(
            "describe_cluster_1",
            ApiKey::DescribeCluster,
            1,
            m::DescribeClusterRequest::default(),
        ),
    ]
}
