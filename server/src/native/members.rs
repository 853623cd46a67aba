//! Members of consumer groups: joining, what each is to read, and who they are. Native consumers and
//! Kafka's may share a group, so what a member tells of itself, and what it is assigned, is kept in
//! the form of Kafka's consumer protocol.
//!
//! A join and a sync wait for the other members, each in a task of its own as every native request,
//! and answers come in any order: nothing waits behind them. Of the connection they take a place
//! among the requests under way, and no time.

use bytes::Bytes;
use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{PartitionIndex, TopicName};
use millrace_wire::kafka::consumer_protocol::{Assignment, Subscription, TopicPartitions};
use millrace_wire::native::messages::*;

use super::groups::{identity, unexpected};
use super::session::Session;
use crate::coordinator::api::{
    self, Assignor, CONSUMER_PROTOCOL_TYPE, GroupAnswer, GroupDescription, GroupRequest,
};
use crate::coordinator::assignor::Protocol;

impl<E: Env> Session<E> {
    pub(super) async fn join_group(&self, request: JoinGroupRequest) -> JoinGroupResponse {
        let group = request.group.clone();
        let member_id = request.member_id.clone();
        let refused = |error: WireError| JoinGroupResponse {
            status: error.into(),
            member_id: member_id.clone(),
            generation: -1,
            ..JoinGroupResponse::default()
        };
        let join = match self.join(request) {
            Ok(join) => join,
            Err(error) => return refused(error),
        };
        let joined = match self.group(group, GroupRequest::Join(join)).await {
            Ok(GroupAnswer::Join(joined)) => joined,
            other => return refused(unexpected(other)),
        };
        match joined.outcome {
            Ok(group) => JoinGroupResponse {
                status: Status::ok(),
                member_id: joined.member_id,
                generation: group.generation,
                assignor: group.protocol,
                leader: group.leader,
            },
            Err(error) => JoinGroupResponse {
                member_id: joined.member_id,
                ..refused(error)
            },
        }
    }

    fn join(&self, request: JoinGroupRequest) -> Result<api::JoinGroup, WireError> {
        if request.assignors.is_empty() {
            return Err(WireError::new(
                ErrorCode::InconsistentGroupProtocol,
                format!(
                    "a member names an assignor at least; there are {}",
                    assignors()
                ),
            ));
        }
        let metadata = subscription(&request)?;
        let protocols = request.assignors.into_iter().map(|assignor| {
            if Protocol::from_name(&assignor).is_some() {
                return Ok((assignor, metadata.clone()));
            }
            let assignor = assignor.chars().take(SHOWN_CHARS).collect::<String>();
            Err(WireError::new(
                ErrorCode::InconsistentGroupProtocol,
                format!(
                    "there is no assignor '{assignor}'; there are {}",
                    assignors()
                ),
            ))
        });
        Ok(api::JoinGroup {
            protocols: protocols.collect::<Result<_, WireError>>()?,
            member_id: request.member_id,
            instance_id: request.instance_id,
            client_id: self.peer.client_id.clone(),
            client_host: self.peer.host.clone(),
            protocol_type: CONSUMER_PROTOCOL_TYPE.to_owned(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            initial_delay_ms: self.broker.group_settings().native_initial_delay_ms,
            needs_member_id: true,
            can_skip_assignment: true,
            assignor: Assignor::Coordinator,
        })
    }

    pub(super) async fn sync_group(&self, request: SyncGroupRequest) -> SyncGroupResponse {
        let sync = GroupRequest::Sync(api::SyncGroup {
            member: identity(request.member),
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.to_owned()),
            protocol: Some(request.assignor).filter(|assignor| !assignor.is_empty()),
            assignments: Vec::new(),
        });
        let synced = match self.group(request.group, sync).await {
            Ok(GroupAnswer::Sync(synced)) => assigned(&synced.assignment)
                .map(|assignment| (synced.protocol, assignment))
                .map_err(|reason| unreadable(&reason)),
            other => Err(unexpected(other)),
        };
        match synced {
            Ok((assignor, assignment)) => SyncGroupResponse {
                status: Status::ok(),
                assignor,
                assignment,
            },
            Err(error) => SyncGroupResponse {
                status: error.into(),
                ..SyncGroupResponse::default()
            },
        }
    }

    pub(super) async fn describe_group(
        &self,
        request: DescribeGroupRequest,
    ) -> DescribeGroupResponse {
        let described = match self.broker.group_coordinator(&request.group).await {
            Ok(shard) => match self.group(request.group, GroupRequest::Describe).await {
                Ok(GroupAnswer::Describe(description)) => Ok((shard, description)),
                other => Err(unexpected(other)),
            },
            Err(error) => Err(error),
        };
        match described {
            Ok((shard, description)) => DescribeGroupResponse {
                coordinator_node: self.broker.node.node_id,
                coordinator_shard: shard.0,
                ..described_group(description)
            },
            Err(error) => DescribeGroupResponse {
                status: error.into(),
                ..DescribeGroupResponse::default()
            },
        }
    }
}

fn assignors() -> String {
    Protocol::ALL.map(Protocol::name).join(", ")
}

/// How much of a name that means nothing is repeated.
const SHOWN_CHARS: usize = 40;

/// What the member tells of itself, whatever the assignor.
fn subscription(request: &JoinGroupRequest) -> Result<Bytes, WireError> {
    let owned = request.owned.iter().map(|topic| TopicPartitions {
        topic: &topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|p| PartitionIndex(*p))
            .collect(),
    });
    let subscription = Subscription {
        topics: request.topics.iter().map(String::as_str).collect(),
        owned: owned.collect(),
        generation: Some(request.owned_generation).filter(|generation| *generation >= 0),
        ..Subscription::default()
    };
    let owned_names = subscription.owned.iter().map(|owned| owned.topic);
    for name in subscription.topics.iter().copied().chain(owned_names) {
        // A topic need not exist, but its name must be one.
        if let Err(error) = name.parse::<TopicName>() {
            return Err(WireError::new(ErrorCode::InvalidTopic, error.to_string()));
        }
    }
    Ok(subscription.to_bytes())
}

/// A member's partitions. Kafka's leaders may leave a member out, which then has none.
fn assigned(bytes: &[u8]) -> Result<Vec<GroupTopic>, String> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let assignment = Assignment::parse(bytes).map_err(|error| error.to_string())?;
    let topics = assignment.topics.into_iter().map(|topic| GroupTopic {
        name: topic.topic.to_owned(),
        partitions: topic.partitions.into_iter().map(|p| p.0).collect(),
    });
    Ok(topics.collect())
}

fn unreadable(reason: &str) -> WireError {
    WireError::new(
        ErrorCode::InconsistentGroupProtocol,
        format!(
            "the group's leader assigned something that is no assignment of a consumer ({reason}); \
             its members must all be consumers"
        ),
    )
}

fn described_group(description: GroupDescription) -> DescribeGroupResponse {
    let of_consumers = description.protocol_type == CONSUMER_PROTOCOL_TYPE;
    let members = description.members.into_iter().map(|member| {
        let (mut topics, mut assignment) = (Vec::new(), Vec::new());
        if of_consumers {
            // What cannot be read is some other software's, and is not shown.
            if let Ok(subscription) = Subscription::parse(&member.metadata) {
                topics = subscription.topics.into_iter().map(str::to_owned).collect();
            }
            assignment = assigned(&member.assignment).unwrap_or_default();
        }
        MemberDescription {
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            topics,
            assignment,
        }
    });
    DescribeGroupResponse {
        status: Status::ok(),
        state: description.state.name().to_owned(),
        members: members.collect(),
        protocol_type: description.protocol_type,
        protocol: description.protocol,
        generation: description.generation,
        ..DescribeGroupResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::api::{self, GroupState};

    fn topic(name: &str, partitions: &[u32]) -> GroupTopic {
        GroupTopic {
            name: name.into(),
            partitions: partitions.to_vec(),
        }
    }

    #[test]
    fn a_subscription_is_what_kafka_members_would_send() {
        let mut request = JoinGroupRequest {
            topics: vec!["a".into(), "b".into()],
            owned: vec![topic("a", &[3, 4])],
            owned_generation: 6,
            ..JoinGroupRequest::default()
        };
        let bytes = subscription(&request).expect("good names");
        let read = Subscription::parse(&bytes).expect("it was written here");
        assert_eq!((read.topics, read.generation), (vec!["a", "b"], Some(6)));
        assert_eq!(read.owned[0].topic, "a");
        assert_eq!(
            read.owned[0].partitions,
            [PartitionIndex(3), PartitionIndex(4)]
        );
        request.owned_generation = -1;
        let bytes = subscription(&request).expect("good names");
        let read = Subscription::parse(&bytes).expect("it was written here");
        assert_eq!(read.generation, None);
        // Longer than a Kafka string can be.
        request.owned[0].name = "x".repeat(40_000);
        let refused = subscription(&request).expect_err("no topic has this name");
        assert_eq!(refused.code, ErrorCode::InvalidTopic);
    }

    #[test]
    fn members_are_described_as_far_as_they_can_be_read() {
        let subscription = Subscription {
            topics: vec!["a"],
            ..Subscription::default()
        };
        let assignment = Assignment {
            topics: vec![TopicPartitions {
                topic: "a",
                partitions: vec![PartitionIndex(1)],
            }],
            ..Assignment::default()
        };
        let member = |metadata: Bytes, assignment: Bytes| api::MemberDescription {
            member_id: "m".into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            metadata,
            assignment,
        };
        let mut description = GroupDescription {
            state: GroupState::Stable,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            generation: 2,
            members: vec![
                member(subscription.to_bytes(), assignment.to_bytes()),
                member(Bytes::from_static(b"?"), Bytes::from_static(b"??")),
                member(Bytes::new(), Bytes::new()),
            ],
        };
        let described = described_group(description.clone());
        assert_eq!((&*described.state, described.generation), ("Stable", 2));
        assert_eq!(described.members[0].topics, ["a"]);
        assert_eq!(described.members[0].assignment, [topic("a", &[1])]);
        for unread in &described.members[1..] {
            assert!(unread.topics.is_empty() && unread.assignment.is_empty());
        }
        description.protocol_type = "connect".into();
        let described = described_group(description);
        assert!(described.members[0].topics.is_empty(), "it is none of ours");
    }
}
