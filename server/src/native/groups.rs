//! Consumer groups: from messages to what a coordinator is asked, and back. How a member joins and
//! what it reads is in `members`.

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, PartitionIndex, TopicName};
use millrace_wire::native::messages::*;

use super::session::Session;
use crate::coordinator::api::{
    self, CommittedOffset, GroupAnswer, GroupCall, GroupRequest, MemberIdentity,
};

/// Partitions of a request, by topic, each with what is known of its answer already: success where
/// the coordinator has yet to be heard.
type Outcomes = Vec<(String, Vec<(u32, Result<(), WireError>)>)>;

impl<E: Env> Session<E> {
    pub(super) async fn heartbeat(&self, request: HeartbeatRequest) -> HeartbeatResponse {
        let member = identity(request.member);
        let answer = self.group(request.group, GroupRequest::Heartbeat(member));
        let status = match answer.await {
            Ok(GroupAnswer::Heartbeat) => Status::ok(),
            other => unexpected(other).into(),
        };
        HeartbeatResponse { status }
    }

    pub(super) async fn leave_group(&self, request: LeaveGroupRequest) -> LeaveGroupResponse {
        let leaving = request.members.iter().map(|member| api::LeavingMember {
            member_id: member.member_id.clone(),
            instance_id: member.instance_id.clone(),
        });
        let leave = GroupRequest::Leave(leaving.collect());
        match self.group(request.group, leave).await {
            Ok(GroupAnswer::Leave(outcomes)) => {
                let members = request.members.into_iter().zip(outcomes);
                let members = members.map(|(member, outcome)| LeaveResult {
                    member_id: member.member_id,
                    instance_id: member.instance_id,
                    status: outcome.into(),
                });
                LeaveGroupResponse {
                    status: Status::ok(),
                    members: members.collect(),
                }
            }
            other => LeaveGroupResponse {
                status: unexpected(other).into(),
                members: Vec::new(),
            },
        }
    }

    pub(super) async fn commit_offsets(
        &self,
        request: CommitOffsetsRequest,
    ) -> CommitOffsetsResponse {
        let (mut offsets, mut outcomes) = (Vec::new(), Outcomes::new());
        for topic in request.topics {
            let entry = self.broker.topic(&topic.name);
            let mut known = Vec::with_capacity(topic.partitions.len());
            for commit in topic.partitions {
                let found = entry.as_ref().map_err(Clone::clone);
                let found = found.and_then(|entry| {
                    let id = entry.partition(commit.partition)?;
                    Ok((entry.topic.name.clone(), id.partition))
                });
                let outcome = found.map(|(topic, partition)| {
                    offsets.push(CommittedOffset {
                        topic,
                        partition,
                        offset: Offset(commit.offset),
                        leader_epoch: commit.leader_epoch,
                        metadata: commit.metadata,
                    });
                });
                known.push((commit.partition, outcome));
            }
            outcomes.push((topic.name, known));
        }
        let member = request.member.map(identity);
        let commit = GroupRequest::CommitOffsets(api::CommitOffsets { member, offsets });
        match self.group(request.group, commit).await {
            Ok(GroupAnswer::CommitOffsets(told)) => CommitOffsetsResponse {
                status: Status::ok(),
                topics: results(outcomes, told),
            },
            other => CommitOffsetsResponse {
                status: unexpected(other).into(),
                topics: Vec::new(),
            },
        }
    }

    pub(super) async fn fetch_offsets(&self, request: FetchOffsetsRequest) -> FetchOffsetsResponse {
        let wanted = request.partitions.map(|wanted| named(wanted.topics));
        let fetch = GroupRequest::FetchOffsets(api::FetchOffsets {
            member: request.member.map(identity),
            partitions: wanted.as_ref().map(|(names, _)| names.clone()),
        });
        match self.group(request.group, fetch).await {
            Ok(GroupAnswer::FetchOffsets(known)) => FetchOffsetsResponse {
                status: Status::ok(),
                topics: match wanted {
                    None => all_committed(known),
                    Some((_, outcomes)) => committed(outcomes, known),
                },
            },
            other => FetchOffsetsResponse {
                status: unexpected(other).into(),
                topics: Vec::new(),
            },
        }
    }

    pub(super) async fn list_groups(&self) -> ListGroupsResponse {
        match self.broker.list_groups().await {
            Ok(mut groups) => {
                groups.sort_by(|one, other| one.group.cmp(&other.group));
                let groups = groups.into_iter().map(|listed| GroupListing {
                    group: listed.group,
                    protocol_type: listed.protocol_type,
                    state: listed.state.name().to_owned(),
                });
                ListGroupsResponse {
                    status: Status::ok(),
                    groups: groups.collect(),
                }
            }
            Err(error) => ListGroupsResponse {
                status: error.into(),
                groups: Vec::new(),
            },
        }
    }

    pub(super) async fn delete_group(&self, request: DeleteGroupRequest) -> DeleteGroupResponse {
        let status = match self.group(request.group, GroupRequest::Delete).await {
            Ok(GroupAnswer::Delete) => Status::ok(),
            other => unexpected(other).into(),
        };
        DeleteGroupResponse { status }
    }

    pub(super) async fn delete_offsets(
        &self,
        request: DeleteOffsetsRequest,
    ) -> DeleteOffsetsResponse {
        let (names, outcomes) = named(request.topics);
        let delete = GroupRequest::DeleteOffsets(names);
        match self.group(request.group, delete).await {
            Ok(GroupAnswer::DeleteOffsets(told)) => DeleteOffsetsResponse {
                status: Status::ok(),
                topics: results(outcomes, told),
            },
            other => DeleteOffsetsResponse {
                status: unexpected(other).into(),
                topics: Vec::new(),
            },
        }
    }

    pub(super) async fn group(
        &self,
        group: String,
        request: GroupRequest,
    ) -> Result<GroupAnswer, WireError> {
        self.broker.group(GroupCall { group, request }).await
    }
}

pub(super) fn identity(member: GroupMember) -> MemberIdentity {
    MemberIdentity {
        member_id: member.member_id,
        instance_id: member.instance_id,
        generation: member.generation,
    }
}

/// Why an answer is not the one that was expected: it is an error, or a mistake of ours.
pub(super) fn unexpected(answer: Result<GroupAnswer, WireError>) -> WireError {
    match answer {
        Err(error) => error,
        Ok(other) => {
            tracing::error!(?other, "a group's coordinator answered another question");
            WireError::new(
                ErrorCode::Unknown,
                "the group's coordinator answered another question; please report this",
            )
        }
    }
}

/// The partitions that can be asked for; a topic's name that cannot be one is answered here. Topics
/// need not exist: what a group knows of one that is gone can still be seen, and be forgotten.
fn named(topics: Vec<GroupTopic>) -> (Vec<(TopicName, PartitionIndex)>, Outcomes) {
    let (mut names, mut outcomes) = (Vec::new(), Outcomes::new());
    for topic in topics {
        let name = topic.name.parse::<TopicName>();
        let name = name.map_err(|error| WireError::new(ErrorCode::InvalidTopic, error.to_string()));
        let known = topic.partitions.into_iter().map(|number| {
            let outcome = name.as_ref().map_err(Clone::clone);
            let named = outcome.map(|name| names.push((name.clone(), PartitionIndex(number))));
            (number, named)
        });
        let known = known.collect();
        outcomes.push((topic.name, known));
    }
    (names, outcomes)
}

/// Puts the coordinator's answers where the questions were.
fn results(outcomes: Outcomes, told: Vec<Result<(), WireError>>) -> Vec<GroupTopicResult> {
    let mut told = told.into_iter();
    let mut next = || told.next().unwrap_or_else(|| Err(left_out()));
    let topics = outcomes.into_iter().map(|(name, known)| {
        let partitions = known.into_iter().map(|(partition, known)| {
            let status = known.and_then(|()| next()).into();
            GroupPartitionResult { partition, status }
        });
        let partitions = partitions.collect();
        GroupTopicResult { name, partitions }
    });
    topics.collect()
}

fn left_out() -> WireError {
    WireError::new(
        ErrorCode::Unknown,
        "the group's coordinator left a partition out; please report this",
    )
}

/// The offsets that were asked for, in the order of the question.
fn committed(outcomes: Outcomes, known: Vec<CommittedOffset>) -> Vec<CommittedTopic> {
    let by_place = known.into_iter().map(|offset| {
        let place = (offset.topic.to_string(), offset.partition.0);
        (place, offset)
    });
    let by_place: hashbrown::HashMap<_, _> = by_place.collect();
    let topics = outcomes.into_iter().map(|(name, asked)| {
        let partitions = asked.into_iter().map(|(number, outcome)| match outcome {
            Err(error) => never_committed(number, error.into()),
            // Who asks twice is answered twice.
            Ok(()) => match by_place.get(&(name.clone(), number)) {
                Some(offset) => committed_partition(offset.clone()),
                None => never_committed(number, Status::ok()),
            },
        });
        let partitions = partitions.collect();
        CommittedTopic { name, partitions }
    });
    topics.collect()
}

/// All offsets of a group, by topic.
fn all_committed(mut known: Vec<CommittedOffset>) -> Vec<CommittedTopic> {
    known.sort_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
    let mut topics: Vec<CommittedTopic> = Vec::new();
    for offset in known {
        let name = offset.topic.as_str();
        if topics.last().is_none_or(|last| last.name != name) {
            topics.push(CommittedTopic {
                name: name.to_owned(),
                partitions: Vec::new(),
            });
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(committed_partition(offset));
        }
    }
    topics
}

fn committed_partition(offset: CommittedOffset) -> CommittedPartition {
    CommittedPartition {
        partition: offset.partition.0,
        status: Status::ok(),
        offset: offset.offset.0,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata,
    }
}

fn never_committed(partition: u32, status: Status) -> CommittedPartition {
    CommittedPartition {
        partition,
        status,
        offset: -1,
        leader_epoch: -1,
        metadata: String::new(),
    }
}
