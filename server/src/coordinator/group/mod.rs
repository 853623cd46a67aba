//! One group: who its members are, which generation they are in, and how far they have come. A state
//! machine without I/O and without a clock: a request goes in with the time, what is to be answered
//! and what is to be written down comes out as [`Effects`]. Whoever runs it writes first and answers
//! then.
//!
//! The rules are those of Kafka's classic groups, which its clients depend on in every detail:
//! a rebalance gathers all members ([`Phase::Preparing`]), chooses a protocol and a leader, waits for
//! the leader's assignment ([`Phase::Completing`]) and hands it out ([`Phase::Stable`]). Each round is
//! a generation, and what a member of an older one asks for is refused. Where the leader is a native
//! consumer the assignment is made here, and the round is over as soon as all have joined.

mod join;
mod leave;
mod member;
mod offsets;
mod stored;
mod sync;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use millrace_shard::env::Instant;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{PartitionIndex, TopicName};

use super::api::{
    Assignor, CONSUMER_PROTOCOL_TYPE, GroupAnswer, GroupDescription, GroupState, Joined,
    JoinedGroup, JoinedMember, ListedGroup, MemberIdentity,
};
use super::assignor::Protocol;
use super::record::OffsetValue;
use member::Member;
use timers::Timers;

/// Names a request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// The time of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: for timeouts.
    pub instant: Instant,
    /// Wall clock, ms since 1970: for what is kept for days.
    pub wall_ms: i64,
}

/// What bounds a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRules {
    /// The shortest session timeout that a member may ask for, ms.
    pub min_session_timeout_ms: u32,
    /// The longest, ms.
    pub max_session_timeout_ms: u32,
    /// The most members.
    pub max_size: usize,
    /// How long offsets are kept once nobody uses them.
    pub offsets_retention: Duration,
    /// The longest text that goes with an offset, in bytes.
    pub offset_metadata_max_bytes: usize,
}

/// Knows what members subscribe to, and how partitions are shared out.
pub trait Assign {
    /// What each of these members gets, by its id.
    fn assign(&self, protocol: Protocol, members: &[JoinedMember]) -> Vec<(String, Bytes)>;
    /// The topics that a member's metadata names; none if it cannot be read.
    fn topics(&self, metadata: &Bytes) -> Vec<TopicName>;
}

/// What follows from an input.
#[derive(Debug, Default)]
pub struct Effects {
    /// The group's members and generation are to be written down.
    pub group_changed: bool,
    /// Offsets that are to be written down; none in place of a value: it is gone.
    pub offsets: Vec<(TopicName, PartitionIndex, Option<OffsetValue>)>,
    /// The group is to be forgotten altogether.
    pub forgotten: bool,
    /// What is to be answered, once all of that is durable.
    pub answers: Vec<(Token, Result<GroupAnswer, WireError>)>,
}

impl Effects {
    fn answer(&mut self, token: Token, answer: GroupAnswer) {
        self.answers.push((token, Ok(answer)));
    }

    fn refuse(&mut self, token: Token, error: WireError) {
        self.answers.push((token, Err(error)));
    }

    fn join(&mut self, token: Token, id: &str, joined: JoinedGroup) {
        self.answer_join(token, id, Ok(joined));
    }

    fn refuse_join(&mut self, token: Token, id: &str, error: WireError) {
        self.answer_join(token, id, Err(error));
    }

    fn answer_join(&mut self, token: Token, id: &str, outcome: Result<JoinedGroup, WireError>) {
        let member_id = id.to_owned();
        self.answer(token, GroupAnswer::Join(Joined { member_id, outcome }));
    }
}

/// Where a group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// No members, since then (ms since 1970).
    Empty { since_ms: i64 },
    /// Members join; it is over when all have, or at this moment.
    Preparing {
        until: Instant,
        initial: Option<InitialDelay>,
    },
    /// The leader is assigning; who has not asked for its assignment by then is out.
    Completing { until: Instant },
    /// Everybody has an assignment.
    Stable,
}

/// The first rebalance of an empty group waits for more members, a while after each that comes, but
/// not for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InitialDelay {
    step: Duration,
    last: Instant,
    somebody_came: bool,
}

/// A group.
pub struct Group {
    name: Rc<str>,
    phase: Phase,
    generation: i32,
    /// Empty: it was never joined, it only has offsets.
    protocol_type: String,
    /// The protocol of this generation.
    protocol: String,
    leader: Option<Rc<str>>,
    members: HashMap<Rc<str>, Member>,
    next_order: u64,
    /// How many members have a join request waiting.
    joining: usize,
    /// Members by their lasting names.
    instances: HashMap<String, Rc<str>>,
    /// Ids that were given out and have not come back yet.
    pending: HashSet<Rc<str>>,
    timers: Timers,
    offsets: HashMap<TopicName, BTreeMap<PartitionIndex, OffsetValue>>,
}

impl Group {
    /// A group that nothing is known of.
    #[must_use]
    pub fn new(name: Rc<str>, now: Now) -> Group {
        Group {
            name,
            phase: Phase::Empty {
                since_ms: now.wall_ms,
            },
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: None,
            members: HashMap::new(),
            next_order: 0,
            joining: 0,
            instances: HashMap::new(),
            pending: HashSet::new(),
            timers: Timers::default(),
            offsets: HashMap::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty { .. } => GroupState::Empty,
            Phase::Preparing { .. } => GroupState::PreparingRebalance,
            Phase::Completing { .. } => GroupState::CompletingRebalance,
            Phase::Stable => GroupState::Stable,
        }
    }

    /// Whether nothing would be lost if it were forgotten.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(self.phase, Phase::Empty { .. })
            && self.generation == 0
            && self.pending.is_empty()
            && self.offsets.is_empty()
    }

    /// It as it stands in a list.
    #[must_use]
    pub fn listed(&self) -> ListedGroup {
        ListedGroup {
            group: self.name.to_string(),
            protocol_type: self.protocol_type.clone(),
            state: self.state(),
        }
    }

    /// Everything about it but its offsets.
    #[must_use]
    pub fn description(&self) -> GroupDescription {
        let protocol = match self.phase {
            Phase::Stable => self.protocol.clone(),
            _ => String::new(),
        };
        let members = self.in_order();
        let members = members.iter().map(|member| member.description(&protocol));
        GroupDescription {
            state: self.state(),
            protocol_type: self.protocol_type.clone(),
            members: members.collect(),
            protocol,
            generation: self.generation,
        }
    }

    /// The members in the order in which they came.
    fn in_order(&self) -> Vec<&Member> {
        let mut members: Vec<&Member> = self.members.values().collect();
        members.sort_unstable_by_key(|member| member.order);
        members
    }

    /// Every topic that a member is subscribed to, if the group is one of consumers.
    fn subscribed(&self, assign: &dyn Assign) -> HashSet<TopicName> {
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE {
            return HashSet::new();
        }
        let told = self.members.values().flat_map(|member| &member.protocols);
        told.flat_map(|(_, metadata)| assign.topics(metadata))
            .collect()
    }

    /// How the coordinator makes the assignments of this generation, if it does.
    fn own_protocol(&self) -> Option<Protocol> {
        let leader = self.members.get(self.leader.as_ref()?)?;
        let is_asked = leader.assignor == Assignor::Coordinator
            && self.protocol_type == CONSUMER_PROTOCOL_TYPE;
        Protocol::from_name(&self.protocol).filter(|_| is_asked)
    }

    fn assigns_here(&self) -> bool {
        self.own_protocol().is_some()
    }

    /// Finds a member by what it says of itself.
    fn check_member(&self, member: &MemberIdentity) -> Result<Rc<str>, WireError> {
        let id = self.find_member(&member.member_id, member.instance_id.as_deref())?;
        if member.generation != self.generation {
            return Err(WireError::new(
                ErrorCode::IllegalGeneration,
                format!(
                    "group '{}' is in generation {}, not {}; join again",
                    self.name, self.generation, member.generation
                ),
            ));
        }
        Ok(id)
    }

    /// Finds a member by its id; who has a lasting name must be the one that it now belongs to.
    fn find_member(&self, id: &str, instance_id: Option<&str>) -> Result<Rc<str>, WireError> {
        if let Some(instance_id) = instance_id {
            match self.instances.get(instance_id) {
                Some(current) if **current != *id => return Err(self.fenced(instance_id)),
                Some(_) => {}
                None => return Err(self.unknown_member(id)),
            }
        }
        match self.members.get(id) {
            Some(member) => Ok(Rc::clone(&member.id)),
            None => Err(self.unknown_member(id)),
        }
    }

    fn unknown_member(&self, id: &str) -> WireError {
        WireError::new(
            ErrorCode::UnknownMemberId,
            format!(
                "group '{}' has no member '{id}' (any more); join again as a new one",
                self.name
            ),
        )
    }

    fn fenced(&self, instance_id: &str) -> WireError {
        WireError::new(
            ErrorCode::FencedInstanceId,
            format!(
                "another member of group '{}' has taken over the instance id '{instance_id}'; give each running member its own",
                self.name
            ),
        )
    }

    fn rebalancing(&self) -> WireError {
        WireError::new(
            ErrorCode::RebalanceInProgress,
            format!(
                "group '{}' is sharing its partitions out anew; join again",
                self.name
            ),
        )
    }
}
