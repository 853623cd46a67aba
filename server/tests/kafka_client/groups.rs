//! Members of consumer groups, step by step, and what is asked about groups from outside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::messages::join_group_request::JoinGroupRequestProtocol;
use millrace_wire::kafka::control::messages::leave_group_request::MemberIdentity;
use millrace_wire::kafka::control::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millrace_wire::kafka::control::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millrace_wire::kafka::control::messages::sync_group_request::SyncGroupRequestAssignment;
use millrace_wire::kafka::control::messages::{self as m, GroupId};
use millrace_wire::kafka::control::{ResponseKind, StrBytes};

use super::{KafkaClient, text, topic_name};
use crate::expect;

// Kafka's errors.
pub const OFFSET_METADATA_TOO_LARGE: i16 = 12;
pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
pub const NOT_COORDINATOR: i16 = 16;
pub const ILLEGAL_GENERATION: i16 = 22;
pub const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
pub const INVALID_GROUP_ID: i16 = 24;
pub const UNKNOWN_MEMBER_ID: i16 = 25;
pub const INVALID_SESSION_TIMEOUT: i16 = 26;
pub const REBALANCE_IN_PROGRESS: i16 = 27;
pub const NON_EMPTY_GROUP: i16 = 68;
pub const GROUP_ID_NOT_FOUND: i16 = 69;
pub const MEMBER_ID_REQUIRED: i16 = 79;
pub const FENCED_INSTANCE_ID: i16 = 82;
pub const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;

/// In place of an offset that was never committed.
pub const NEVER: i64 = -1;

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The version of JoinGroup that members join with unless told.
const JOIN_VERSION: i16 = 9;
const SYNC_VERSION: i16 = 5;

pub fn group_id(name: &str) -> GroupId {
    GroupId(text(name))
}

/// What a consumer that is subscribed to one topic says of itself (`ConsumerProtocolSubscription`,
/// version 0).
pub fn subscribed(topic: &str) -> Bytes {
    let length = u16::try_from(topic.len()).expect("a short name");
    let mut bytes = vec![0, 0, 0, 0, 0, 1];
    bytes.extend(length.to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

/// A member, with a connection of its own.
pub struct Member {
    pub client: KafkaClient,
    group: String,
    /// Its id; empty before it has one.
    pub id: String,
    pub instance: Option<String>,
    /// The generation it has joined.
    pub generation: i32,
    pub protocol_type: String,
    pub protocols: Vec<(String, Bytes)>,
    /// The one that was chosen.
    pub protocol: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
}

impl Member {
    /// A consumer that assigns by range.
    pub fn new(address: SocketAddr, group: &str) -> Member {
        Member {
            client: KafkaClient::connect(address),
            group: group.to_owned(),
            id: String::new(),
            instance: None,
            generation: -1,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), subscribed("here"))],
            protocol: String::new(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 60_000,
        }
    }

    /// With a lasting name.
    pub fn lasting(address: SocketAddr, group: &str, instance: &str) -> Member {
        Member {
            instance: Some(instance.to_owned()),
            ..Member::new(address, group)
        }
    }

    /// With these protocols, each with its name for metadata.
    pub fn with_protocols(mut self, names: &[&str]) -> Member {
        let names = names.iter().map(|name| (*name).to_owned());
        self.protocols = names.map(|name| (name.clone(), name.into())).collect();
        self
    }

    /// Sends a request to join; the answer may be long in coming.
    pub fn send_join(&mut self) {
        self.send_join_of(JOIN_VERSION);
    }

    pub fn send_join_of(&mut self, version: i16) {
        let protocols = self.protocols.iter().map(|(name, metadata)| {
            JoinGroupRequestProtocol::default()
                .with_name(text(name))
                .with_metadata(metadata.clone())
        });
        let mut join = m::JoinGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_member_id(text(&self.id))
            .with_session_timeout_ms(self.session_timeout_ms)
            .with_protocol_type(text(&self.protocol_type))
            .with_protocols(protocols.collect());
        // Versions without these leave them out.
        join.rebalance_timeout_ms = self.rebalance_timeout_ms;
        join.group_instance_id = self.instance.as_deref().map(text);
        self.client.send(ApiKey::JoinGroup, version, join);
    }

    /// The answer, of which it keeps its id and the generation.
    #[track_caller]
    pub fn receive_join(&mut self) -> m::JoinGroupResponse {
        self.receive_join_of(JOIN_VERSION)
    }

    #[track_caller]
    pub fn receive_join_of(&mut self, version: i16) -> m::JoinGroupResponse {
        let (_, answer) = self.client.receive(ApiKey::JoinGroup, version);
        let joined = expect!(answer, JoinGroup);
        if joined.error_code == 0 || joined.error_code == MEMBER_ID_REQUIRED {
            self.id = joined.member_id.to_string();
        }
        if joined.error_code == 0 {
            self.generation = joined.generation_id;
            let protocol = joined.protocol_name.as_ref();
            self.protocol = protocol.expect("a protocol was chosen").to_string();
        }
        joined
    }

    #[track_caller]
    pub fn join(&mut self) -> m::JoinGroupResponse {
        self.send_join();
        self.receive_join()
    }

    /// Gets itself an id, if it has none: a member without a lasting name has to.
    #[track_caller]
    pub fn get_id(&mut self) {
        let told = self.join();
        assert_eq!(told.error_code, MEMBER_ID_REQUIRED, "{told:?}");
        assert!(!self.id.is_empty());
    }

    /// Joins a group in which nobody has to be waited for.
    #[track_caller]
    pub fn enter(&mut self) -> m::JoinGroupResponse {
        if self.instance.is_none() && self.id.is_empty() {
            self.get_id();
        }
        let joined = self.join();
        assert_eq!(joined.error_code, 0, "{joined:?}");
        joined
    }

    pub fn send_sync(&mut self, assignments: &[(&str, &str)]) {
        let assignments = assignments.iter().map(|(member, assigned)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::copy_from_slice(assigned.as_bytes()))
        });
        let sync = m::SyncGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_protocol_type(Some(text(&self.protocol_type)))
            .with_protocol_name(Some(text(&self.protocol)))
            .with_assignments(assignments.collect());
        self.client.send(ApiKey::SyncGroup, SYNC_VERSION, sync);
    }

    #[track_caller]
    pub fn receive_sync(&mut self) -> m::SyncGroupResponse {
        let (_, answer) = self.client.receive(ApiKey::SyncGroup, SYNC_VERSION);
        expect!(answer, SyncGroup)
    }

    #[track_caller]
    pub fn sync(&mut self, assignments: &[(&str, &str)]) -> m::SyncGroupResponse {
        self.send_sync(assignments);
        self.receive_sync()
    }

    /// What it is assigned, without a word about others: as a follower, or as whoever asks again.
    #[track_caller]
    pub fn assignment(&mut self) -> String {
        let synced = self.sync(&[]);
        assert_eq!(synced.error_code, 0, "{synced:?}");
        assigned(&synced)
    }

    /// Is the only member of its group and assigns itself everything.
    #[track_caller]
    pub fn settle_alone(&mut self) {
        let joined = self.enter();
        assert_eq!(joined.leader, joined.member_id, "{joined:?}");
        let id = self.id.clone();
        let synced = self.sync(&[(&id, "all")]);
        assert_eq!((synced.error_code, &*assigned(&synced)), (0, "all"));
    }

    #[track_caller]
    pub fn heartbeat(&mut self) -> i16 {
        let request = m::HeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text));
        let answer = self.client.ask(ApiKey::Heartbeat, 4, request);
        expect!(answer, Heartbeat).error_code
    }

    /// Waits until it is told that the group shares out anew. Until then all is well.
    #[track_caller]
    pub fn must_be_called_back(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.heartbeat() {
                REBALANCE_IN_PROGRESS => return,
                0 => assert!(Instant::now() < end, "nobody called it back"),
                other => panic!("its heartbeat was answered with {other}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A request to commit one offset of a topic, as this member.
    pub fn commit_request(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> m::OffsetCommitRequest {
        commit_request(&self.group, topic, &[(partition, offset)])
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
    }

    #[track_caller]
    pub fn commit(&mut self, topic: &str, partition: i32, offset: i64) -> i16 {
        let request = self.commit_request(topic, partition, offset);
        commit(&mut self.client, 9, request)[0]
    }

    pub fn leave_request(&self) -> m::LeaveGroupRequest {
        let member = MemberIdentity::default()
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text));
        m::LeaveGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_members(vec![member])
    }

    #[track_caller]
    pub fn leave(&mut self) -> i16 {
        let request = self.leave_request();
        let answer = expect!(self.client.ask(ApiKey::LeaveGroup, 5, request), LeaveGroup);
        assert_eq!((answer.error_code, answer.members.len()), (0, 1));
        answer.members[0].error_code
    }
}

/// Has two members in one group: the first leads. Gives what the leader was told to assign.
#[track_caller]
pub fn settle_both(first: &mut Member, second: &mut Member) -> m::JoinGroupResponse {
    first.settle_alone();
    if second.instance.is_none() {
        second.get_id();
    }
    second.send_join();
    first.must_be_called_back();
    let leading = first.join();
    let following = second.receive_join();
    assert_eq!((leading.error_code, following.error_code), (0, 0));
    share_out(first, second);
    leading
}

/// The first, which leads, assigns `one` to itself and `other` to the second.
#[track_caller]
pub fn share_out(first: &mut Member, second: &mut Member) {
    // The follower's question may come before or after the leader's answer.
    second.send_sync(&[]);
    let (one, other) = (first.id.clone(), second.id.clone());
    let synced = first.sync(&[(&one, "one"), (&other, "other")]);
    assert_eq!((synced.error_code, &*assigned(&synced)), (0, "one"));
    let synced = second.receive_sync();
    assert_eq!((synced.error_code, &*assigned(&synced)), (0, "other"));
}

pub fn assigned(synced: &m::SyncGroupResponse) -> String {
    String::from_utf8(synced.assignment.to_vec()).expect("text, in these tests")
}

/// A commit by somebody who is in no group.
pub fn commit_request(group: &str, topic: &str, offsets: &[(i32, i64)]) -> m::OffsetCommitRequest {
    let partitions = offsets.iter().map(|(partition, offset)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(partitions.collect());
    m::OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// The errors, in the order of the request.
#[track_caller]
pub fn commit(client: &mut KafkaClient, version: i16, request: m::OffsetCommitRequest) -> Vec<i16> {
    let answer = expect!(
        client.ask(ApiKey::OffsetCommit, version, request),
        OffsetCommit
    );
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

/// What is told of a committed offset: partition, offset, leader epoch, metadata, error.
pub type Committed = (i32, i64, i32, String, i16);

/// A group's offsets, by topic, and its error.
pub type Fetched = (i16, Vec<(String, Vec<Committed>)>);

/// Fetches offsets of some partitions, or of all there are, in this version's form.
#[track_caller]
pub fn fetch(
    client: &mut KafkaClient,
    version: i16,
    group: &str,
    topics: Option<&[(&str, &[i32])]>,
) -> Fetched {
    let metadata = |text: Option<StrBytes>| text.expect("never null").to_string();
    if version < 8 {
        let topics = topics.map(|topics| {
            let topics = topics.iter().map(|(name, partitions)| {
                OffsetFetchRequestTopic::default()
                    .with_name(topic_name(name))
                    .with_partition_indexes(partitions.to_vec())
            });
            topics.collect()
        });
        let request = m::OffsetFetchRequest::default()
            .with_group_id(group_id(group))
            .with_topics(topics);
        let answer = expect!(
            client.ask(ApiKey::OffsetFetch, version, request),
            OffsetFetch
        );
        let topics = answer.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|told| {
                (
                    told.partition_index,
                    told.committed_offset,
                    told.committed_leader_epoch,
                    metadata(told.metadata),
                    told.error_code,
                )
            });
            (topic.name.to_string(), partitions.collect())
        });
        return (answer.error_code, topics.collect());
    }
    let topics = topics.map(|topics| {
        let topics = topics.iter().map(|(name, partitions)| {
            OffsetFetchRequestTopics::default()
                .with_name(topic_name(name))
                .with_partition_indexes(partitions.to_vec())
        });
        topics.collect()
    });
    let wanted = OffsetFetchRequestGroup::default()
        .with_group_id(group_id(group))
        .with_member_epoch(-1)
        .with_topics(topics);
    let request = m::OffsetFetchRequest::default()
        .with_groups(vec![wanted])
        .with_require_stable(true);
    let answer = expect!(
        client.ask(ApiKey::OffsetFetch, version, request),
        OffsetFetch
    );
    let group = answer.groups.into_iter().next().expect("the group");
    let topics = group.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|told| {
            (
                told.partition_index,
                told.committed_offset,
                told.committed_leader_epoch,
                metadata(told.metadata),
                told.error_code,
            )
        });
        (topic.name.to_string(), partitions.collect())
    });
    (group.error_code, topics.collect())
}

/// One committed offset.
#[track_caller]
pub fn offset(client: &mut KafkaClient, group: &str, topic: &str, partition: i32) -> i64 {
    let (error, topics) = fetch(client, 9, group, Some(&[(topic, &[partition])]));
    assert_eq!(error, 0);
    let (_, partitions) = &topics[0];
    assert_eq!(partitions[0].4, 0);
    partitions[0].1
}

#[track_caller]
pub fn describe(
    client: &mut KafkaClient,
    version: i16,
    group: &str,
) -> m::describe_groups_response::DescribedGroup {
    let request = m::DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let answer = client.ask(ApiKey::DescribeGroups, version, request);
    let mut groups = expect!(answer, DescribeGroups).groups;
    assert_eq!(groups.len(), 1);
    groups.remove(0)
}

/// Names of the groups that are listed, sorted.
#[track_caller]
pub fn list(client: &mut KafkaClient, states: &[&str], types: &[&str]) -> Vec<String> {
    let texts = |texts: &[&str]| texts.iter().map(|it| text(it)).collect();
    let request = m::ListGroupsRequest::default()
        .with_states_filter(texts(states))
        .with_types_filter(texts(types));
    let answer = expect!(client.ask(ApiKey::ListGroups, 5, request), ListGroups);
    assert_eq!(answer.error_code, 0);
    let names = answer.groups.iter().map(|group| group.group_id.to_string());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[track_caller]
pub fn delete(client: &mut KafkaClient, group: &str) -> i16 {
    let request = m::DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    let answer = expect!(client.ask(ApiKey::DeleteGroups, 2, request), DeleteGroups);
    assert_eq!(answer.results.len(), 1);
    answer.results[0].error_code
}

/// The error of the whole, and of each partition.
#[track_caller]
pub fn delete_offsets(
    client: &mut KafkaClient,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> (i16, Vec<i16>) {
    let partitions = partitions.iter().map(|number| {
        m::offset_delete_request::OffsetDeleteRequestPartition::default()
            .with_partition_index(*number)
    });
    let topic = m::offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(partitions.collect());
    let request = m::OffsetDeleteRequest::default()
        .with_group_id(group_id(group))
        .with_topics(vec![topic]);
    let answer = expect!(client.ask(ApiKey::OffsetDelete, 0, request), OffsetDelete);
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let codes = partitions.map(|partition| partition.error_code).collect();
    (answer.error_code, codes)
}
