//! What replicas say to each other. Encoding it, and attaching the bytes of spans to it, is the
//! driver's.

use crate::configuration::Configuration;
use crate::types::{Index, Position, ReplicaId, Span, Term};

/// From one replica to another. It may be lost, late, doubled and out of order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who says it.
    pub from: ReplicaId,
    /// To whom.
    pub to: ReplicaId,
    /// The sender's term; in a pre-vote (and in a pre-vote that is granted) the term that the
    /// candidate would have.
    pub term: Term,
    /// What.
    pub body: Body,
}

/// A leader's numbered question "am I still?": whoever answers with a number had not left this
/// leader when that round began (thesis, section 6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u64);

/// Names one run of a replica whose log is damaged, so that nothing said before it is taken for
/// something said in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Damage(pub u64);

/// How a damaged replica becomes whole (DESIGN, section 5): the leader says how far its log reached
/// when it learned of the damage. Whatever the replica had acknowledged and lost lies before that, so
/// having that much, it may vote again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cure {
    /// Which damage.
    pub damage: Damage,
    /// The last entry that the replica must have.
    pub through: Index,
}

/// What a leader knows to be safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watermarks {
    /// The last committed entry: durable at a majority.
    pub commit: Index,
    /// The last entry that consumers may see: never above `commit`, and below it where the group
    /// waits for all in-sync replicas.
    pub visible: Index,
}

/// The kinds of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Would I get your vote? Changes nothing where it arrives (thesis, section 9.6; KIP-996).
    PreVote {
        /// The end of the candidate's log.
        last: Position,
    },
    /// The answer.
    PreVoteReply {
        /// Whether.
        granted: bool,
    },
    /// Your vote, please (Raft paper, section 5.2).
    Vote {
        /// The end of the candidate's log.
        last: Position,
        /// The leader itself asked for this election: it is no reason to refuse that there is one
        /// (thesis, section 3.10).
        transfer: bool,
    },
    /// The answer.
    VoteReply {
        /// Whether.
        granted: bool,
    },
    /// Entries that follow `previous` (Raft paper, section 5.3). Without any: a question whether the
    /// logs agree there.
    Append {
        /// What must be there already.
        previous: Position,
        /// Consecutive, each of one term; the driver attaches their bytes.
        spans: Vec<Span>,
        /// The configurations among these entries; with the first entry of all also the one that the
        /// group was founded with, at index 0, for a replica that has none.
        configurations: Vec<(Index, Configuration)>,
        /// What is safe.
        watermarks: Watermarks,
        /// The round that an answer counts for.
        round: Round,
        /// For a damaged replica.
        cure: Option<Cure>,
    },
    /// The answer: entries are there and durable.
    Appended {
        /// The log agrees with the leader's up to here, durably.
        matched: Index,
        /// The round of the question.
        round: Round,
        /// Entries that were acknowledged before may be missing behind that.
        damage: Option<Damage>,
    },
    /// The answer: the logs do not agree at `previous`.
    Diverged {
        /// Where that was asked.
        at: Index,
        /// Where the last terms of the log end, the latest first: the leader finds in them where the
        /// logs part, in one round trip (KIP-101, KIP-595).
        ends: Vec<Position>,
        /// The round of the question.
        round: Round,
        /// Entries that were acknowledged before may be missing.
        damage: Option<Damage>,
    },
    /// I lead; nothing else is new.
    Heartbeat {
        /// What is safe.
        watermarks: Watermarks,
        /// Where the leader knows the receiver's log to agree with its own: no watermark above that
        /// counts.
        matched: Index,
        /// The round that an answer counts for.
        round: Round,
        /// Nothing will be said until something happens: do not miss me.
        quiesce: bool,
        /// For a damaged replica.
        cure: Option<Cure>,
    },
    /// The answer.
    HeartbeatReply {
        /// The round of the question.
        round: Round,
        /// Entries that were acknowledged before may be missing.
        damage: Option<Damage>,
    },
    /// The log that follows begins at `start`; what was before it is not kept any more (KIP-630). The
    /// driver attaches what else belongs to that place (producers' and transactions' state).
    Snapshot {
        /// The first index that the leader still has.
        start: Index,
        /// The term of the entry before it.
        previous_term: Term,
        /// The configuration in force there, and the index it has.
        configuration: (Index, Configuration),
        /// The round that an answer counts for.
        round: Round,
    },
    /// You are up to date: begin an election at once, and win (thesis, section 3.10).
    TimeoutNow,
    /// I hear no leader, and cannot become one: let the one that there is say so, or somebody begin an
    /// election.
    Lost,
    /// Your term is over: mine, which this message has, is greater.
    Stale,
}
