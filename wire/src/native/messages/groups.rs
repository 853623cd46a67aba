//! Consumer groups: who is a member, who reads which partitions, and how far the group has come. The
//! members may be Kafka's clients as well as native ones; the broker shares the partitions out.

use rkyv::{Archive, Deserialize, Serialize};

use super::{Field, Message, OutOfRange, Status, schema};

messages! {
    /// Some partitions of one topic.
    pub struct GroupTopic {
        /// Topic name.
        pub name: String,
        /// Partition numbers.
        pub partitions: Vec<u32>,
    }
    /// Partitions by topic, where naming none is not the same as naming nothing.
    pub struct PartitionList {
        /// By topic.
        pub topics: Vec<GroupTopic>,
    }
    /// A member of a generation.
    pub struct GroupMember {
        /// Its id, as joining gave it.
        pub member_id: String,
        /// Its lasting name, if it has one.
        pub instance_id: Option<String>,
        /// The generation it is in.
        pub generation: i32,
    }

    /// Becomes a member of a group, or stays one through a rebalance. Answered when all members have
    /// joined, or the rebalance has waited long enough for them.
    pub struct JoinGroupRequest {
        /// The group's name.
        pub group: String,
        /// The member's id; empty: it has none yet.
        pub member_id: String,
        /// Its lasting name: a member that joins under it takes over what the one before it read.
        pub instance_id: Option<String>,
        /// The topics it wants to read.
        pub topics: Vec<String>,
        /// What it reads now.
        pub owned: Vec<GroupTopic>,
        /// The generation in which it got that; -1 if it reads nothing.
        pub owned_generation: i32,
        /// Ways to share out partitions that it can live with, the preferred one first: `range`,
        /// `roundrobin`, `cooperative-sticky`.
        pub assignors: Vec<String>,
        /// It is gone when nothing was heard of it for so long.
        pub session_timeout_ms: u32,
        /// How long a rebalance waits for it to join again.
        pub rebalance_timeout_ms: u32,
    }
    /// The generation that has begun, or why the member is not in it.
    pub struct JoinGroupResponse {
        /// Success or failure; with `MemberIdRequired` the member joins again with the id given here.
        pub status: Status,
        /// The member's id from now on.
        pub member_id: String,
        /// The generation.
        pub generation: i32,
        /// How the partitions are shared out.
        pub assignor: String,
        /// The member that leads the group.
        pub leader: String,
    }

    /// Asks for the member's partitions, which the broker shares out (or, in a group that one of
    /// Kafka's clients leads, that client).
    pub struct SyncGroupRequest {
        /// The group's name.
        pub group: String,
        /// Who asks.
        pub member: GroupMember,
        /// The assignor that joining told; empty: it is not compared.
        pub assignor: String,
    }
    /// What the member is to read.
    pub struct SyncGroupResponse {
        /// Success or failure.
        pub status: Status,
        /// How the partitions were shared out.
        pub assignor: String,
        /// Its partitions, by topic.
        pub assignment: Vec<GroupTopic>,
    }

    /// The member is still there.
    pub struct HeartbeatRequest {
        /// The group's name.
        pub group: String,
        /// Who is there.
        pub member: GroupMember,
    }
    /// Whether it is still a member, and whether it has to join again.
    pub struct HeartbeatResponse {
        /// Success; `RebalanceInProgress`: it is a member and joins again; or a failure.
        pub status: Status,
    }

    /// Ends memberships.
    pub struct LeaveGroupRequest {
        /// The group's name.
        pub group: String,
        /// Who leaves.
        pub members: Vec<LeavingMember>,
    }
    /// A member that leaves: by its id, or by its lasting name alone.
    pub struct LeavingMember {
        /// Its id; empty where only its lasting name is known.
        pub member_id: String,
        /// Its lasting name, if it has one.
        pub instance_id: Option<String>,
    }
    /// Who has left.
    pub struct LeaveGroupResponse {
        /// Success or failure of the whole.
        pub status: Status,
        /// For each member of the request, in order.
        pub members: Vec<LeaveResult>,
    }
    /// How leaving went.
    pub struct LeaveResult {
        /// The member's id, as asked.
        pub member_id: String,
        /// Its lasting name, as asked.
        pub instance_id: Option<String>,
        /// Success or failure.
        pub status: Status,
    }

    /// Notes how far a group has come.
    pub struct CommitOffsetsRequest {
        /// The group's name.
        pub group: String,
        /// The member that commits; absent: somebody who is in no group but keeps offsets under its
        /// name, which works while the group has no members.
        pub member: Option<GroupMember>,
        /// By topic.
        pub topics: Vec<CommitTopic>,
    }
    /// One topic's offsets.
    pub struct CommitTopic {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<CommitPartition>,
    }
    /// How far one partition was read.
    pub struct CommitPartition {
        /// Partition number.
        pub partition: u32,
        /// The next record to be read.
        pub offset: i64,
        /// Leader epoch of the last record that was read; -1 if it is not known.
        pub leader_epoch: i32,
        /// A text that is kept with it.
        pub metadata: String,
    }
    /// Which offsets are noted, durably.
    pub struct CommitOffsetsResponse {
        /// Failure of the whole, in which case no partition is listed.
        pub status: Status,
        /// By topic, as the request was.
        pub topics: Vec<GroupTopicResult>,
    }
    /// What became of one topic's partitions.
    pub struct GroupTopicResult {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<GroupPartitionResult>,
    }
    /// What became of one partition.
    pub struct GroupPartitionResult {
        /// Partition number.
        pub partition: u32,
        /// Success or failure.
        pub status: Status,
    }

    /// Asks how far a group has come.
    pub struct FetchOffsetsRequest {
        /// The group's name.
        pub group: String,
        /// The member that asks, if its membership is to be checked.
        pub member: Option<GroupMember>,
        /// Which partitions; absent: all that have an offset.
        pub partitions: Option<PartitionList>,
    }
    /// How far a group has come.
    pub struct FetchOffsetsResponse {
        /// Failure of the whole, in which case no partition is listed.
        pub status: Status,
        /// By topic.
        pub topics: Vec<CommittedTopic>,
    }
    /// One topic's offsets.
    pub struct CommittedTopic {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<CommittedPartition>,
    }
    /// How far one partition was read.
    pub struct CommittedPartition {
        /// Partition number.
        pub partition: u32,
        /// Success or failure; that nothing was committed is no failure.
        pub status: Status,
        /// The next record to be read; -1 where none was committed.
        pub offset: i64,
        /// Leader epoch of the last record that was read; -1 if it is not known.
        pub leader_epoch: i32,
        /// The text that is kept with it.
        pub metadata: String,
    }

    /// Every group.
    pub struct ListGroupsRequest {}
    /// Every group, sorted by name.
    pub struct ListGroupsResponse {
        /// Success or failure.
        pub status: Status,
        /// The groups.
        pub groups: Vec<GroupListing>,
    }
    /// One group in a listing.
    pub struct GroupListing {
        /// Its name.
        pub group: String,
        /// What its members speak among themselves: `consumer` for consumers; empty: it only keeps
        /// offsets.
        pub protocol_type: String,
        /// Where it stands, in Kafka's words: `Empty`, `PreparingRebalance`, `CompletingRebalance`,
        /// `Stable`.
        pub state: String,
    }

    /// Asks for everything about a group but its offsets.
    pub struct DescribeGroupRequest {
        /// The group's name.
        pub group: String,
    }
    /// Everything about a group but its offsets.
    pub struct DescribeGroupResponse {
        /// Success or failure.
        pub status: Status,
        /// Where it stands, as in a listing; `Dead`: there is no such group.
        pub state: String,
        /// What its members speak among themselves, as in a listing.
        pub protocol_type: String,
        /// The protocol that they agreed on (for consumers an assignor); empty unless stable.
        pub protocol: String,
        /// The generation.
        pub generation: i32,
        /// The node that coordinates it.
        pub coordinator_node: u32,
        /// The shard of that node.
        pub coordinator_shard: u16,
        /// The members, in the order in which they came.
        pub members: Vec<MemberDescription>,
    }
    /// A member of a group.
    pub struct MemberDescription {
        /// Its id.
        pub member_id: String,
        /// Its lasting name, if it has one.
        pub instance_id: Option<String>,
        /// The client's name for itself.
        pub client_id: String,
        /// Where it connects from.
        pub client_host: String,
        /// The topics it wants to read; empty where that is not known, as in groups that are not of
        /// consumers.
        pub topics: Vec<String>,
        /// What it is to read; likewise.
        pub assignment: Vec<GroupTopic>,
    }

    /// Forgets a group and its offsets. It must have no members.
    pub struct DeleteGroupRequest {
        /// The group's name.
        pub group: String,
    }
    /// Done.
    pub struct DeleteGroupResponse {
        /// Success or failure.
        pub status: Status,
    }

    /// Forgets offsets of topics that no member of the group wants to read.
    pub struct DeleteOffsetsRequest {
        /// The group's name.
        pub group: String,
        /// Which, by topic.
        pub topics: Vec<GroupTopic>,
    }
    /// Which are gone.
    pub struct DeleteOffsetsResponse {
        /// Failure of the whole, in which case no partition is listed.
        pub status: Status,
        /// By topic, as the request was.
        pub topics: Vec<GroupTopicResult>,
    }
}
