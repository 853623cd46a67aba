//! Messages of consumer groups, as seeds for the targets of `frames`.

use millrace_wire::error::ErrorCode;
use millrace_wire::native::messages::*;
use millrace_wire::native::{Request, Response};

fn member() -> GroupMember {
    GroupMember {
        member_id: "fuzz-8f1d2c3b".into(),
        instance_id: Some("shelf-3".into()),
        generation: 7,
    }
}

fn topics() -> Vec<GroupTopic> {
    let topic = |name: &str, partitions| GroupTopic {
        name: name.into(),
        partitions,
    };
    vec![
        topic("short", vec![0]),
        topic("a-topic-with-a-longer-name", vec![1, 2]),
    ]
}

fn results() -> Vec<GroupTopicResult> {
    let partitions = vec![GroupPartitionResult {
        partition: 1,
        status: Status::failed(ErrorCode::UnknownTopicOrPartition, "there is none"),
    }];
    vec![GroupTopicResult {
        name: "short".into(),
        partitions,
    }]
}

/// One of each request, with something in every list.
pub(crate) fn requests() -> Vec<(&'static str, Request)> {
    let group = || "readers".to_owned();
    let join = JoinGroupRequest {
        group: group(),
        member_id: String::new(),
        instance_id: Some("shelf-3".into()),
        topics: vec!["short".into(), "a-topic-with-a-longer-name".into()],
        owned: topics(),
        owned_generation: 6,
        assignors: vec!["cooperative-sticky".into(), "range".into()],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
    };
    let sync = SyncGroupRequest {
        group: group(),
        member: member(),
        assignor: "cooperative-sticky".into(),
    };
    let heartbeat = HeartbeatRequest {
        group: group(),
        member: member(),
    };
    let leave = LeaveGroupRequest {
        group: group(),
        members: vec![LeavingMember {
            member_id: "fuzz-8f1d2c3b".into(),
            instance_id: None,
        }],
    };
    let commit = CommitOffsetsRequest {
        group: group(),
        member: Some(member()),
        topics: vec![CommitTopic {
            name: "short".into(),
            partitions: vec![CommitPartition {
                partition: 0,
                offset: 1 << 40,
                leader_epoch: -1,
                metadata: "by the fuzzer".into(),
            }],
        }],
    };
    let fetch = |partitions| FetchOffsetsRequest {
        group: group(),
        member: None,
        partitions,
    };
    let some = PartitionList { topics: topics() };
    vec![
        ("join_group", join.into()),
        ("sync_group", sync.into()),
        ("heartbeat", heartbeat.into()),
        ("leave_group", leave.into()),
        ("commit_offsets", commit.into()),
        ("fetch_offsets", fetch(Some(some)).into()),
        ("fetch_offsets_all", fetch(None).into()),
        ("list_groups", ListGroupsRequest {}.into()),
        (
            "describe_group",
            DescribeGroupRequest { group: group() }.into(),
        ),
        ("delete_group", DeleteGroupRequest { group: group() }.into()),
        (
            "delete_offsets",
            DeleteOffsetsRequest {
                group: group(),
                topics: topics(),
            }
            .into(),
        ),
    ]
}

/// The responses whose shape differs.
pub(crate) fn responses() -> Vec<(&'static str, Response)> {
    let join = JoinGroupResponse {
        status: Status::ok(),
        member_id: "fuzz-8f1d2c3b".into(),
        generation: 7,
        assignor: "cooperative-sticky".into(),
        leader: "fuzz-8f1d2c3b".into(),
    };
    let sync = SyncGroupResponse {
        status: Status::ok(),
        assignor: "cooperative-sticky".into(),
        assignment: topics(),
    };
    let leave = LeaveGroupResponse {
        status: Status::ok(),
        members: vec![LeaveResult {
            member_id: "fuzz-8f1d2c3b".into(),
            instance_id: Some("shelf-3".into()),
            status: Status::failed(ErrorCode::UnknownMemberId, "there is none"),
        }],
    };
    let commit = CommitOffsetsResponse {
        status: Status::ok(),
        topics: results(),
    };
    let fetched = FetchOffsetsResponse {
        status: Status::ok(),
        topics: vec![CommittedTopic {
            name: "short".into(),
            partitions: vec![CommittedPartition {
                partition: 0,
                offset: 1 << 40,
                leader_epoch: 3,
                ..CommittedPartition::default()
            }],
        }],
    };
    let listed = ListGroupsResponse {
        status: Status::ok(),
        groups: vec![GroupListing {
            group: "readers".into(),
            protocol_type: "consumer".into(),
            state: "Stable".into(),
        }],
    };
    let described = DescribeGroupResponse {
        state: "Stable".into(),
        members: vec![MemberDescription {
            topics: vec!["short".into()],
            assignment: topics(),
            ..MemberDescription::default()
        }],
        ..DescribeGroupResponse::default()
    };
    vec![
        ("join_group", join.into()),
        ("sync_group", sync.into()),
        ("leave_group", leave.into()),
        ("commit_offsets", commit.into()),
        ("fetch_offsets", fetched.into()),
        ("list_groups", listed.into()),
        ("describe_group", described.into()),
    ]
}
