//! What groups ask of their coordinators, in Millrace's own protocol alone.

use bytes::BytesMut;
use millrace_wire::error::ErrorCode;
use millrace_wire::native::messages::*;
use millrace_wire::native::{Request, Response};

use super::native::encode;
use super::{GroupOutcome, Outcome, Place};

/// A member that is not heard of for so long is gone, ms. Nobody goes in a run, and joining may keep
/// a member from being heard for some seconds.
const SESSION_TIMEOUT_MS: u32 = 60_000;

/// How the members' partitions are shared out.
const ASSIGNOR: &str = "range";

/// Writes requests.
#[derive(Default)]
pub struct Writer {
    scratch: BytesMut,
}

impl Writer {
    /// Adds a request to `out`.
    pub fn write(&mut self, correlation: u32, request: &Request, out: &mut Vec<u8>) {
        self.scratch.clear();
        encode(correlation, request, &mut self.scratch, 0);
        out.extend_from_slice(&self.scratch);
    }
}

/// Becomes a member, or stays one.
#[must_use]
pub fn join(group: &str, member_id: &str, topics: &[String]) -> Request {
    Request::JoinGroup(JoinGroupRequest {
        group: group.to_owned(),
        member_id: member_id.to_owned(),
        instance_id: None,
        topics: topics.to_vec(),
        owned: Vec::new(),
        owned_generation: -1,
        assignors: vec![ASSIGNOR.to_owned()],
        session_timeout_ms: SESSION_TIMEOUT_MS,
        rebalance_timeout_ms: SESSION_TIMEOUT_MS,
    })
}

/// Asks for a member's partitions.
#[must_use]
pub fn sync(group: &str, member_id: &str, generation: i32) -> Request {
    Request::SyncGroup(SyncGroupRequest {
        group: group.to_owned(),
        member: member(member_id, generation),
        assignor: String::new(),
    })
}

/// Says that a member is there.
#[must_use]
pub fn heartbeat(group: &str, member_id: &str, generation: i32) -> Request {
    Request::Heartbeat(HeartbeatRequest {
        group: group.to_owned(),
        member: member(member_id, generation),
    })
}

/// Ends memberships.
#[must_use]
pub fn leave(group: &str, member_ids: &[&str]) -> Request {
    let members = member_ids.iter().map(|id| LeavingMember {
        member_id: (*id).to_owned(),
        instance_id: None,
    });
    Request::LeaveGroup(LeaveGroupRequest {
        group: group.to_owned(),
        members: members.collect(),
    })
}

/// Forgets a group.
#[must_use]
pub fn delete(group: &str) -> Request {
    Request::DeleteGroup(DeleteGroupRequest {
        group: group.to_owned(),
    })
}

/// Notes how far a group without members has come: to the same offset in all of these partitions.
#[must_use]
pub fn commit(group: &str, topics: &[String], places: &[Place], offset: i64) -> Request {
    let mut commits: Vec<CommitTopic> = Vec::with_capacity(topics.len());
    for place in places {
        let name = &topics[usize::from(place.topic)];
        if commits.last().is_none_or(|last| last.name != *name) {
            commits.push(CommitTopic {
                name: name.clone(),
                partitions: Vec::new(),
            });
        }
        let topic = commits.last_mut().expect("there is one now");
        topic.partitions.push(CommitPartition {
            partition: place.partition,
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        });
    }
    Request::CommitOffsets(CommitOffsetsRequest {
        group: group.to_owned(),
        member: None,
        topics: commits,
    })
}

fn member(member_id: &str, generation: i32) -> GroupMember {
    GroupMember {
        member_id: member_id.to_owned(),
        instance_id: None,
        generation,
    }
}

/// What an answer says.
pub(super) fn outcome(response: Response) -> Outcome {
    match response {
        Response::JoinGroup(joined) if joined.status.code == 0 => {
            Outcome::Group(GroupOutcome::Joined {
                id: joined.member_id,
                generation: joined.generation,
            })
        }
        Response::JoinGroup(joined) if is(&joined.status, ErrorCode::MemberIdRequired) => {
            Outcome::Group(GroupOutcome::IdGiven(joined.member_id))
        }
        Response::JoinGroup(joined) => done(joined.status),
        Response::SyncGroup(synced) => done(synced.status),
        Response::Heartbeat(heard) => done(heard.status),
        Response::LeaveGroup(left) => done(left.status),
        Response::DeleteGroup(deleted) => done(deleted.status),
        Response::CommitOffsets(committed) => {
            let partitions = committed
                .topics
                .into_iter()
                .flat_map(|topic| topic.partitions);
            let statuses = std::iter::once(committed.status)
                .chain(partitions.map(|partition| partition.status));
            let mut failed = statuses.filter(|status| status.code != 0);
            done(failed.next().unwrap_or_default())
        }
        other => Outcome::Failed(format!("an unexpected {:?} answer", other.kind())),
    }
}

fn done(status: Status) -> Outcome {
    match status.code {
        0 => Outcome::Group(GroupOutcome::Done),
        _ if is(&status, ErrorCode::RebalanceInProgress) => {
            Outcome::Group(GroupOutcome::Rebalancing)
        }
        _ if is(&status, ErrorCode::CoordinatorLoadInProgress) => {
            Outcome::Group(GroupOutcome::NotYet)
        }
        _ => Outcome::Failed(status.message),
    }
}

fn is(status: &Status, code: ErrorCode) -> bool {
    ErrorCode::from_number(status.code) == Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(topic: u16, partition: u32) -> Place {
        Place {
            topic,
            partition,
            shard: 0,
        }
    }

    fn failed(code: ErrorCode) -> Status {
        Status {
            code: code as i16,
            message: "why".to_owned(),
        }
    }

    #[test]
    fn a_commit_names_every_partition_once() {
        let topics = ["a".to_owned(), "b".to_owned()];
        let places = [place(0, 0), place(0, 1), place(1, 0)];
        let Request::CommitOffsets(commit) = commit("g", &topics, &places, 7) else {
            panic!("it is a commit");
        };
        let named = commit.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|commit| (&*topic.name, commit.partition, commit.offset))
        });
        let named: Vec<_> = named.collect();
        assert_eq!(named, [("a", 0, 7), ("a", 1, 7), ("b", 0, 7)]);
    }

    #[test]
    fn one_partition_that_is_refused_fails_a_commit() {
        let partition = |status| GroupPartitionResult {
            partition: 0,
            status,
        };
        let told = |second| {
            let committed = CommitOffsetsResponse {
                status: Status::ok(),
                topics: vec![GroupTopicResult {
                    name: "a".to_owned(),
                    partitions: vec![partition(Status::ok()), partition(second)],
                }],
            };
            outcome(committed.into())
        };
        assert!(told(Status::ok()).failure().is_none());
        let refused = told(failed(ErrorCode::UnknownTopicOrPartition));
        assert_eq!(refused.failure(), Some("why"));
    }

    #[test]
    fn a_rebalance_is_told_from_a_failure() {
        let heard = |code| {
            let status = failed(code);
            outcome(HeartbeatResponse { status }.into())
        };
        assert!(matches!(
            heard(ErrorCode::RebalanceInProgress),
            Outcome::Group(GroupOutcome::Rebalancing)
        ));
        assert!(matches!(
            heard(ErrorCode::CoordinatorLoadInProgress),
            Outcome::Group(GroupOutcome::NotYet)
        ));
        assert_eq!(heard(ErrorCode::UnknownMemberId).failure(), Some("why"));
    }
}
