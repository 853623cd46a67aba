//! What is asked of a group's coordinator and what it answers: plain data, since a request may reach
//! another shard than the one that coordinates its group. Kafka's requests and the native ones are
//! both turned into these.

use bytes::Bytes;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, PartitionIndex, TopicName};

/// A request to a group's coordinator.
#[derive(Clone, Debug)]
pub struct GroupCall {
    /// The group's name.
    pub group: String,
    /// What it is about.
    pub request: GroupRequest,
}

/// The longest name of a group, a protocol or a protocol type, in bytes: what every version of Kafka's
/// answers has room for. Older ones count a text's bytes in 15 bits, and are told what was named in
/// newer ones, or natively.
pub const MAX_NAME_BYTES: usize = i16::MAX as usize;

/// The longest name that a member has, lasting or given by its client, in bytes. Ids are made of these
/// and have to find room in every version.
pub const MAX_MEMBER_NAME_BYTES: usize = 1024;

impl GroupCall {
    /// Whether its names can be told to everybody who may ask for them.
    pub fn check(&self) -> Result<(), WireError> {
        let check = |code, what: &str, name: &str, most: usize| match name.len() {
            bytes if bytes > most => Err(WireError::new(
                code,
                format!(
                    "{what} has at most {most} bytes, this one has {bytes}; choose a shorter one"
                ),
            )),
            _ => Ok(()),
        };
        let group = ErrorCode::InvalidGroupId;
        check(group, "a group's name", &self.group, MAX_NAME_BYTES)?;
        let GroupRequest::Join(join) = &self.request else {
            return Ok(());
        };
        if self.group.is_empty() {
            let message = "a group with members has a name; give one";
            return Err(WireError::new(group, message));
        }
        let invalid = ErrorCode::InvalidRequest;
        let lasting = join.instance_id.as_deref().unwrap_or_default();
        check(invalid, "an instance id", lasting, MAX_MEMBER_NAME_BYTES)?;
        check(
            invalid,
            "a client id",
            &join.client_id,
            MAX_MEMBER_NAME_BYTES,
        )?;
        let protocols = join.protocols.iter().map(|(name, _)| name);
        protocols.chain([&join.protocol_type]).try_for_each(|name| {
            let inconsistent = ErrorCode::InconsistentGroupProtocol;
            check(inconsistent, "a protocol's name", name, MAX_NAME_BYTES)
        })
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum GroupRequest {
    /// Become a member, or stay one through a rebalance.
    Join(JoinGroup),
    /// Hand out the assignment, or wait for one's own.
    Sync(SyncGroup),
    /// Still here.
    Heartbeat(MemberIdentity),
    /// Be a member no longer.
    Leave(Vec<LeavingMember>),
    /// Note how far the group has come.
    CommitOffsets(CommitOffsets),
    /// Tell how far the group has come.
    FetchOffsets(FetchOffsets),
    /// Tell everything about the group.
    Describe,
    /// Forget the group, which must have no members.
    Delete,
    /// Forget offsets of topics that nobody in the group is subscribed to.
    DeleteOffsets(Vec<(TopicName, PartitionIndex)>),
}

/// The answer, in the form of the request.
#[derive(Clone, Debug)]
pub enum GroupAnswer {
    /// To [`GroupRequest::Join`].
    Join(Joined),
    /// To [`GroupRequest::Sync`].
    Sync(Synced),
    /// To [`GroupRequest::Heartbeat`], if all is well.
    Heartbeat,
    /// To [`GroupRequest::Leave`]: for each member, whether it left.
    Leave(Vec<Result<(), WireError>>),
    /// To [`GroupRequest::CommitOffsets`]: for each offset, whether it is noted, durably.
    CommitOffsets(Vec<Result<(), WireError>>),
    /// To [`GroupRequest::FetchOffsets`]: the offsets that are known. What was asked for and is not
    /// here was never committed.
    FetchOffsets(Vec<CommittedOffset>),
    /// To [`GroupRequest::Describe`].
    Describe(GroupDescription),
    /// To [`GroupRequest::Delete`].
    Delete,
    /// To [`GroupRequest::DeleteOffsets`]: for each, whether it is gone.
    DeleteOffsets(Vec<Result<(), WireError>>),
}

/// Who shares out the partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// The member that the coordinator names leader, as Kafka's clients do.
    Leader,
    /// The coordinator, whenever the leader is a member that joined with this: native consumers
    /// need no assignor. The protocols must be those of
    /// [`super::assignor`], their metadata Kafka's `ConsumerProtocolSubscription`, and so such members
    /// and Kafka's share a group.
    Coordinator,
}

/// The protocol type of consumers, Kafka's and native ones.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// A request to become a member.
#[derive(Clone, Debug)]
pub struct JoinGroup {
    /// The member's id; empty: it has none yet.
    pub member_id: String,
    /// Its lasting name, if it has one (static membership, KIP-345).
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What kind of group this is: `consumer`, `connect`, ….
    pub protocol_type: String,
    /// Its protocols, the preferred one first, each with what it tells whoever assigns.
    pub protocols: Vec<(String, Bytes)>,
    /// It is gone when nothing was heard of it for so long, ms.
    pub session_timeout_ms: u32,
    /// How long a rebalance waits for it to join again, ms.
    pub rebalance_timeout_ms: u32,
    /// How long the first rebalance of an empty group waits for more members, ms.
    pub initial_delay_ms: u32,
    /// Whether a new member is first told its id and has to come again with it (KIP-394).
    pub needs_member_id: bool,
    /// Whether the leader understands that it need not assign (KIP-814).
    pub can_skip_assignment: bool,
    /// Who shares out the partitions.
    pub assignor: Assignor,
}

/// How joining went.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The member's id from now on; given even where joining failed with `MemberIdRequired`.
    pub member_id: String,
    /// The group as it is now, or why the member is not in it.
    pub outcome: Result<JoinedGroup, WireError>,
}

/// A group that has been joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedGroup {
    /// The group's generation.
    pub generation: i32,
    /// What kind of group it is.
    pub protocol_type: String,
    /// The protocol that all members understand and most prefer.
    pub protocol: String,
    /// The leader's member id.
    pub leader: String,
    /// Whether the assignment stands already and the leader need not make one (KIP-814).
    pub skip_assignment: bool,
    /// All members, for the leader that has to assign; empty for all others.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its lasting name.
    pub instance_id: Option<String>,
    /// What it told for the protocol that was chosen.
    pub metadata: Bytes,
}

/// Names a member of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberIdentity {
    /// Its id.
    pub member_id: String,
    /// Its lasting name.
    pub instance_id: Option<String>,
    /// The generation it is in.
    pub generation: i32,
}

/// A request for an assignment, or with them.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// Who asks.
    pub member: MemberIdentity,
    /// The protocol type that the member believes in, if it says so.
    pub protocol_type: Option<String>,
    /// The protocol that it believes in, if it says so.
    pub protocol: Option<String>,
    /// From the leader: what each member gets, by member id.
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// What kind of group it is.
    pub protocol_type: String,
    /// The chosen protocol.
    pub protocol: String,
    /// What the member gets.
    pub assignment: Bytes,
}

/// Who leaves: by id, or by lasting name (then the id is empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingMember {
    /// The member's id; empty where only its lasting name is known.
    pub member_id: String,
    /// Its lasting name.
    pub instance_id: Option<String>,
}

/// A request to note offsets.
#[derive(Clone, Debug)]
pub struct CommitOffsets {
    /// Who commits; none: somebody who is in no group but uses its name for its offsets.
    pub member: Option<MemberIdentity>,
    /// The offsets.
    pub offsets: Vec<CommittedOffset>,
}

/// An offset that a group has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The next record to be read.
    pub offset: Offset,
    /// Leader epoch of the last record that was read, -1 if it is not known.
    pub leader_epoch: i32,
    /// A text of the client's.
    pub metadata: String,
}

/// Which offsets to tell.
#[derive(Clone, Debug)]
pub struct FetchOffsets {
    /// Who asks, if it wants its membership checked (KIP-447, OffsetFetch 9).
    pub member: Option<MemberIdentity>,
    /// Which; all that are known when absent.
    pub partitions: Option<Vec<(TopicName, PartitionIndex)>>,
}

/// Where a group stands, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// It has no members; it may have offsets.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// All have joined; the leader is assigning.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
    /// There is no such group.
    Dead,
}

impl GroupState {
    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

/// Everything about a group but its offsets. Of a group that does not exist: [`GroupState::Dead`],
/// and everything else empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Where it stands.
    pub state: GroupState,
    /// What kind of group it is; empty: offsets only.
    pub protocol_type: String,
    /// The chosen protocol, while the group is stable; empty otherwise.
    pub protocol: String,
    /// The generation.
    pub generation: i32,
    /// The members, in the order in which they came.
    pub members: Vec<MemberDescription>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its lasting name.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it told for the chosen protocol.
    pub metadata: Bytes,
    /// What it has been assigned.
    pub assignment: Bytes,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its name.
    pub group: String,
    /// What kind of group it is; empty: offsets only.
    pub protocol_type: String,
    /// Where it stands.
    pub state: GroupState,
}
