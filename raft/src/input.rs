//! What a group is told, and what it wants done: its whole interface with the world.

use crate::configuration::Configuration;
use crate::message::Message;
use crate::types::{Index, Io, Position, ReplicaId, Span, Term, Token};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed: the deadline was reached, or might have been.
    Tick,
    /// A message came. If it carries spans, the driver keeps their bytes at hand for the `Append`
    /// effect that may follow at once.
    Message(Message),
    /// Somebody wants entries appended.
    Propose(Proposal),
    /// Every write up to this one is durable.
    Durable(Io),
    /// A write failed. The group is dead from here on: the process must stop and recover, for what a
    /// disk holds after a failed sync nobody knows (Rebello et al., ATC 2020).
    Failed(Io),
    /// What was not resident for this replica now is, or could not be read: the answer that every
    /// [`Effect::ReadSpan`] gets.
    SpanReady(ReplicaId),
    /// The snapshot for this replica could not be sent: it is tried again later.
    SnapshotFailed(ReplicaId),
    /// Retention has moved the log's start to here, at most one after what is visible and durable on
    /// this replica.
    LogStartMoved(Index),
    /// Somebody wants to read what was committed until now.
    ReadBarrier(Token),
    /// Leadership is wanted elsewhere.
    Transfer(ReplicaId),
    /// Another membership is wanted.
    Change(Change),
    /// Membership thinks that this replica's node is dead, or back. A hint: it wakes a quiet group.
    Hint(ReplicaId, Hint),
}

/// Entries to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// The caller's name for it.
    pub token: Token,
    /// How many entries, at least one.
    pub entries: u32,
    /// Their bytes.
    pub bytes: u64,
    /// When the caller will call it done: this decides whether it may be refused for want of in-sync
    /// replicas.
    pub acks: Acks,
}

/// What a proposal's caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acks {
    /// The leader's disk, or nothing (Kafka's `acks` 1 and 0).
    Leader,
    /// Visibility (Kafka's `acks=all`).
    All,
}

/// Another membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The caller's name for it.
    pub token: Token,
    /// Those that shall vote. A learner among them must have caught up.
    pub voters: Vec<ReplicaId>,
    /// Those that shall follow without a vote.
    pub learners: Vec<ReplicaId>,
}

/// What membership thinks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// It does not answer.
    Silent,
    /// It answers again.
    Alive,
}

/// Something to be done, in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Write this term and vote.
    PersistVote {
        /// The write's number.
        io: Io,
        /// The term.
        term: Term,
        /// Who has its vote.
        vote: Option<ReplicaId>,
    },
    /// Append these entries to the log.
    Append {
        /// The write's number.
        io: Io,
        /// Which.
        span: Span,
        /// What they are.
        content: Content,
    },
    /// Remove all entries after this one.
    Truncate {
        /// The write's number.
        io: Io,
        /// The last entry that stays.
        last: Index,
    },
    /// Drop the whole log; the next entry has this index. What the snapshot message carried beside it
    /// takes the place of what the driver had.
    Reset {
        /// The write's number.
        io: Io,
        /// Where the log begins.
        start: Index,
        /// The term of the entry before that.
        previous_term: Term,
    },
    /// Send this, attaching the bytes of its spans, but not before that write is durable.
    Send {
        /// What.
        message: Message,
        /// The write that the message speaks of, if it is not yet durable.
        after: Option<Io>,
    },
    /// Entries for this replica are not resident: read them from here on, then say `SpanReady`.
    ReadSpan {
        /// For whom.
        to: ReplicaId,
        /// From where.
        first: Index,
    },
    /// What is committed has grown to here.
    Committed(Index),
    /// What consumers may see has grown to here.
    Visible(Index),
    /// A read that was waiting may be answered from anything at least as new as this.
    ReadReady {
        /// Whose.
        token: Token,
        /// What must be there.
        index: Index,
    },
    /// This replica's part has changed.
    RoleChanged {
        /// Its part.
        role: Role,
        /// In this term.
        term: Term,
        /// The leader, if it is known.
        leader: Option<ReplicaId>,
    },
    /// From here on (it is appended, not yet committed) this membership counts.
    ConfigurationInForce {
        /// Its entry.
        index: Index,
        /// Who.
        configuration: Configuration,
    },
    /// The replicas that are in sync, as a leader sees them, have changed.
    InSync(Vec<ReplicaId>),
    /// A membership change is complete.
    Changed(Token),
    /// Not done: a proposal, a read, a change.
    Rejected {
        /// Whose.
        token: Token,
        /// Why.
        reason: Rejection,
    },
    /// A transfer that was asked for was given up, or refused.
    TransferFailed {
        /// To whom.
        to: ReplicaId,
        /// Why.
        reason: Rejection,
    },
    /// A damaged log has been mended from the leader's: the replica votes again.
    Repaired,
    /// Stop the process.
    Fatal(Fatal),
}

/// What appended entries are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A proposal's.
    Proposal(Token),
    /// A new leader's first entry, which carries nothing (Raft paper, section 8).
    NoOp,
    /// A membership.
    Configuration(Configuration),
    /// Those of the message just handed in; configurations among them are named there.
    Received,
}

/// A replica's part in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It follows, or looks for whom to follow.
    Follower,
    /// It asks whether it would be elected.
    PreCandidate,
    /// It asks to be elected.
    Candidate,
    /// It was elected, but nothing of its term is committed: it may not serve yet.
    Elected,
    /// It leads.
    Leader,
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejection {
    /// Another one leads.
    #[error("this replica does not lead; ask {}", .leader.map_or("again when one is elected".to_owned(), |leader| leader.to_string()))]
    NotLeader {
        /// Who, if known.
        leader: Option<ReplicaId>,
    },
    /// It was elected a moment ago.
    #[error("the leader is not ready to serve yet: nothing of its term is committed; try again")]
    NotServing,
    /// Leadership is on its way elsewhere.
    #[error("leadership is being transferred; try again in a moment")]
    Transferring,
    /// Too much is not yet committed.
    #[error("too many bytes wait for being committed; try again when some are")]
    Full,
    /// Too few replicas are in sync.
    #[error("too few replicas are in sync for acks=all; wait for them, or produce with acks=1")]
    NotEnoughReplicas,
    /// Leadership was lost while it waited; it may or may not be done.
    #[error("leadership was lost in the meantime; look whether it was done before trying again")]
    LeadershipLost,
    /// Another change is under way.
    #[error("another membership change is under way; wait for its end")]
    ChangeUnderWay,
    /// A learner that shall vote is too far behind.
    #[error("{0} has not caught up; wait until it has")]
    NotCaughtUp(ReplicaId),
    /// Nobody would vote, or somebody twice.
    #[error("a membership names at least one voter, and nobody twice")]
    InvalidMembership,
    /// It does not vote, so it cannot lead.
    #[error("{0} is not a voter of this group")]
    NotVoter(ReplicaId),
    /// It did not take over within an election timeout.
    #[error("it did not take over in time")]
    TimedOut,
}

/// Why a group cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fatal {
    /// A write failed.
    #[error("write {} failed: restart, so that what the disk really holds is found out", .0.0)]
    WriteFailed(Io),
}

/// What the core may ask about the entries that it has: answered from memory alone.
pub trait LogView {
    /// The longest span of one term from `first` on, at most to `last` and of at most so many bytes
    /// (but at least one entry, however long that is).
    fn cut(&self, first: Index, last: Index, most_bytes: u64) -> Cut;
}

/// A piece of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Here.
    Span(Span),
    /// It must be read from the disk first.
    NotResident,
}

/// Where a core gets its chance from: injected, so that a run can be repeated.
pub trait Random {
    /// Any number.
    fn next(&mut self) -> u64;
}

/// What a replica begins with: what its disk holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// The greatest term that it knew: of its votes, or of its log's last entry.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<ReplicaId>,
    /// The first index that is kept.
    pub log_start: Index,
    /// The term of the entry before that; 0 if there was none.
    pub previous_term: Term,
    /// The last entry of each term in the log, in order: all of them durable.
    pub term_ends: Vec<Position>,
    /// What was known to be committed, and at least the entry before the log's start.
    pub commit: Index,
    /// The memberships in the log, with their indexes, in order; the first may lie before the log's
    /// start. None: a replica that is not yet a member of anything.
    pub configurations: Vec<(Index, Configuration)>,
    /// Whether acknowledged entries may be missing at its end.
    pub condition: Condition,
}

/// Whether a disk still holds what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// All of it.
    Sound,
    /// Something after the recovered end was lost or is unreadable (Alagappan et al., FAST 2018): the
    /// replica follows, but neither votes nor leads until it is repaired.
    Damaged,
}

impl Recovered {
    /// A replica whose disk is empty, in a group that begins with these voters. A replica that joins
    /// a group which is there already begins without any.
    #[must_use]
    pub fn empty(voters: &[ReplicaId]) -> Recovered {
        let configurations = match voters {
            [] => Vec::new(),
            voters => vec![(Index(0), Configuration::of(voters))],
        };
        Recovered {
            term: Term(0),
            vote: None,
            log_start: Index(1),
            previous_term: Term(0),
            term_ends: Vec::new(),
            commit: Index(0),
            configurations,
            condition: Condition::Sound,
        }
    }
}
