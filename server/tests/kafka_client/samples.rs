//! Requests that say something, for tests that want one of each kind.

use millrace_wire::batch::Compression;
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::RequestKind;
use millrace_wire::kafka::control::messages as m;
use millrace_wire::kafka::control::messages::create_topics_request::CreatableTopic;
use millrace_wire::kafka::control::messages::fetch_request::{FetchPartition, FetchTopic};
use millrace_wire::kafka::control::messages::metadata_request::MetadataRequestTopic;

use super::{batch, produce, text, topic_name};

const LATEST: i64 = -1;

/// Makes one topic.
pub fn create(name: &str, partitions: i32) -> m::CreateTopicsRequest {
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    m::CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000)
}

/// Fetches from partitions of one topic, each from an offset, outside of any session.
pub fn fetch(topic: &str, partitions: &[(i32, i64)], max_wait_ms: i32) -> m::FetchRequest {
    let partitions = partitions.iter().map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(partitions.collect());
    m::FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic])
}

/// A request that asks for something.
pub fn sample(key: ApiKey, version: i16) -> RequestKind {
    let resource = |kind: i8, name: &str| {
        m::describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    };
    match key {
        ApiKey::Produce => produce("here", 0, -1, batch(&["sample"], Compression::None)).into(),
        ApiKey::Fetch => fetch("here", &[(0, 0), (1, 0), (9, 0)], 0).into(),
        ApiKey::ListOffsets => {
            let partition = |number| {
                m::list_offsets_request::ListOffsetsPartition::default()
                    .with_partition_index(number)
                    .with_timestamp(LATEST)
            };
            let topic = m::list_offsets_request::ListOffsetsTopic::default()
                .with_name(topic_name("here"))
                .with_partitions(vec![partition(0), partition(9)]);
            m::ListOffsetsRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        ApiKey::Metadata => {
            let wanted = |name| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            m::MetadataRequest::default()
                .with_topics(Some(vec![wanted("here"), wanted("no/name")]))
                .with_allow_auto_topic_creation(true)
                .into()
        }
        ApiKey::ApiVersions => {
            let request = m::ApiVersionsRequest::default();
            match version {
                3.. => request
                    .with_client_software_name(text("test"))
                    .with_client_software_version(text("1.0"))
                    .into(),
                _ => request.into(),
            }
        }
        ApiKey::CreateTopics => create("here", 2).into(),
        ApiKey::DeleteTopics if version >= 6 => {
            let topic = m::delete_topics_request::DeleteTopicState::default()
                .with_name(Some(topic_name("nowhere")));
            m::DeleteTopicsRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        ApiKey::DeleteTopics => m::DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name("nowhere")])
            .into(),
        ApiKey::DeleteRecords => {
            let partition = m::delete_records_request::DeleteRecordsPartition::default()
                .with_partition_index(1)
                .with_offset(0);
            let topic = m::delete_records_request::DeleteRecordsTopic::default()
                .with_name(topic_name("here"))
                .with_partitions(vec![partition]);
            m::DeleteRecordsRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = m::offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
                .with_leader_epoch(1);
            let topic = m::offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                .with_topic(topic_name("here"))
                .with_partitions(vec![partition]);
            m::OffsetForLeaderEpochRequest::default()
                .with_replica_id(m::BrokerId(-2))
                .with_topics(vec![topic])
                .into()
        }
        ApiKey::DescribeConfigs => m::DescribeConfigsRequest::default()
            .with_resources(vec![
                resource(2, "here"),
                resource(4, "0"),
                resource(2, "nowhere"),
            ])
            .with_include_synonyms(true)
            .with_include_documentation(version >= 3)
            .into(),
        ApiKey::AlterConfigs => {
            let resource = m::alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("here"));
            m::AlterConfigsRequest::default()
                .with_resources(vec![resource])
                .into()
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = m::incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("1000000")));
            let resource = m::incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("here"))
                .with_configs(vec![config]);
            m::IncrementalAlterConfigsRequest::default()
                .with_resources(vec![resource])
                .into()
        }
        ApiKey::DescribeLogDirs => m::DescribeLogDirsRequest::default()
            .with_topics(None)
            .into(),
        ApiKey::CreatePartitions => {
            let topic = m::create_partitions_request::CreatePartitionsTopic::default()
                .with_name(topic_name("here"))
                .with_count(1);
            m::CreatePartitionsRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        ApiKey::DescribeTopicPartitions => {
            let wanted = |name| {
                m::describe_topic_partitions_request::TopicRequest::default()
                    .with_name(topic_name(name))
            };
            m::DescribeTopicPartitionsRequest::default()
                .with_topics(vec![wanted("here"), wanted("nowhere")])
                .into()
        }
        ApiKey::ElectLeaders => {
            let topic = m::elect_leaders_request::TopicPartitions::default()
                .with_topic(topic_name("here"))
                .with_partitions(vec![0, 9]);
            m::ElectLeadersRequest::default()
                .with_topic_partitions(Some(vec![topic]))
                .into()
        }
        ApiKey::AlterPartitionReassignments => {
            let partition =
                m::alter_partition_reassignments_request::ReassignablePartition::default()
                    .with_replicas(Some(vec![m::BrokerId(7)]));
            let topic = m::alter_partition_reassignments_request::ReassignableTopic::default()
                .with_name(topic_name("here"))
                .with_partitions(vec![partition]);
            m::AlterPartitionReassignmentsRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        ApiKey::ListPartitionReassignments => m::ListPartitionReassignmentsRequest::default()
            .with_topics(None)
            .into(),
        ApiKey::FindCoordinator if version >= 4 => m::FindCoordinatorRequest::default()
            .with_coordinator_keys(vec![text("a"), text("b"), text("a")])
            .into(),
        ApiKey::FindCoordinator => m::FindCoordinatorRequest::default()
            .with_key(text("a"))
            .into(),
        ApiKey::InitProducerId => m::InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .into(),
        ApiKey::DescribeCluster => m::DescribeClusterRequest::default().into(),
        other => group_sample(other, version),
    }
}

/// A request about a group that does not exist, by a member that it would not have.
fn group_sample(key: ApiKey, version: i16) -> RequestKind {
    let group = || m::GroupId(text("no group"));
    match key {
        ApiKey::JoinGroup => {
            let protocol = m::join_group_request::JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata("metadata".into());
            m::JoinGroupRequest::default()
                .with_group_id(group())
                .with_session_timeout_ms(10_000)
                .with_member_id(text("nobody"))
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol])
                .into()
        }
        ApiKey::SyncGroup => {
            let assigned = m::sync_group_request::SyncGroupRequestAssignment::default()
                .with_member_id(text("nobody"))
                .with_assignment("assignment".into());
            m::SyncGroupRequest::default()
                .with_group_id(group())
                .with_member_id(text("nobody"))
                .with_assignments(vec![assigned])
                .into()
        }
        ApiKey::Heartbeat => m::HeartbeatRequest::default()
            .with_group_id(group())
            .with_member_id(text("nobody"))
            .into(),
        ApiKey::LeaveGroup if version < 3 => m::LeaveGroupRequest::default()
            .with_group_id(group())
            .with_member_id(text("nobody"))
            .into(),
        ApiKey::LeaveGroup => {
            let member = m::leave_group_request::MemberIdentity::default();
            m::LeaveGroupRequest::default()
                .with_group_id(group())
                .with_members(vec![member.with_member_id(text("nobody"))])
                .into()
        }
        ApiKey::DescribeGroups => m::DescribeGroupsRequest::default()
            .with_groups(vec![group()])
            .into(),
        ApiKey::ListGroups => m::ListGroupsRequest::default().into(),
        ApiKey::DeleteGroups => m::DeleteGroupsRequest::default()
            .with_groups_names(vec![group()])
            .into(),
        _ => group_offset_sample(key, version),
    }
}

fn group_offset_sample(key: ApiKey, version: i16) -> RequestKind {
    let group = || m::GroupId(text("no group"));
    match key {
        ApiKey::OffsetCommit => {
            let partition = m::offset_commit_request::OffsetCommitRequestPartition::default()
                .with_committed_offset(3);
            let topic = m::offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(topic_name("here"))
                .with_partitions(vec![partition.clone(), partition.with_partition_index(9)]);
            m::OffsetCommitRequest::default()
                .with_group_id(group())
                .with_topics(vec![topic])
                .into()
        }
        ApiKey::OffsetFetch if version < 8 => {
            let topic = m::offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(topic_name("here"))
                .with_partition_indexes(vec![0, 9]);
            m::OffsetFetchRequest::default()
                .with_group_id(group())
                .with_topics(Some(vec![topic]))
                .into()
        }
        ApiKey::OffsetFetch => {
            let wanted = m::offset_fetch_request::OffsetFetchRequestGroup::default()
                .with_group_id(group())
                .with_topics(None);
            m::OffsetFetchRequest::default()
                .with_groups(vec![wanted])
                .into()
        }
        ApiKey::OffsetDelete => {
            let topic = m::offset_delete_request::OffsetDeleteRequestTopic::default()
                .with_name(topic_name("here"))
                .with_partitions(vec![Default::default()]);
            m::OffsetDeleteRequest::default()
                .with_group_id(group())
                .with_topics(vec![topic])
                .into()
        }
        other => panic!("{other:?} has no sample"),
    }
}
