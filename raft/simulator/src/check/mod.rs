//! The oracles: what must hold at each step of a run, whatever happens to it, and what must hold
//! when the faults are over. They know all nodes at once, which no replica does, and they believe
//! none of them: what a replica says is held against what its disk has.
//!
//! | file | what it watches |
//! |---|---|
//! | `history` | what was ever in a log, led, voted for, committed, acknowledged |
//! | `departure` | a message may leave: what it promises is on the disk |
//! | `faith` | who has heard a leader votes for no other for a while |
//! | `flow` | what is under way to a follower stays within the limits |
//! | `step` | one replica's own numbers after each step |
//!
//! None of them keeps anything that grows with the square of the run, and each step costs a few
//! comparisons.

mod departure;
mod faith;
mod flow;
mod history;
mod step;

use std::fmt;

pub(crate) use departure::{Promises, Sender, check_departure};
pub(crate) use faith::Faith;
pub(crate) use flow::{Flows, Load};
pub(crate) use history::{History, Holder, is_quorum};
pub(crate) use step::{Seen, check_membership, check_outline, check_step};

/// What can be broken. In the words of violations and regression files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Two replicas lead in one term (Raft paper, figure 3: election safety).
    OneLeaderPerTerm,
    /// A replica votes for two candidates in one term.
    OneVotePerTerm,
    /// A leader is elected without the votes of a quorum of its membership.
    ElectedByQuorum,
    /// A replica votes while the leader that it has heard may rely on it not to (thesis, section
    /// 4.2.3).
    FaithfulToLeader,
    /// A leader answers a read by its lease though it has told another replica to run.
    LeaseEndsWithTransfer,
    /// A replica does something about a message to an earlier incarnation.
    EarlierIsFenced,
    /// A leader is quiet though a follower that is not held for dead lacks entries.
    QuietHasAll,
    /// Two logs have an entry of the same index and term, but differ up to there (log matching).
    LogsMatch,
    /// A new leader lacks what was committed in an earlier term (leader completeness).
    LeaderIsComplete,
    /// What was committed becomes something else, or is cut (state machine safety).
    CommittedStays,
    /// A leader commits what a quorum of the configuration does not have durably.
    CommitIsDurable,
    /// A leader commits by counting an entry of another term (Raft paper, figure 8).
    CommitIsOwnTerm,
    /// A message promises what the disk does not have yet.
    DurableBeforeSent,
    /// A term, a vote or an acknowledged entry is forgotten over a restart.
    PromiseKept,
    /// What was acknowledged to the leader of the present term is cut.
    AcknowledgedStays,
    /// A replica whose log is damaged votes or leads.
    DamagedIsPassive,
    /// Commit, visibility or term goes back within a run.
    WatermarksGrow,
    /// Visible beyond committed, committed beyond the log, durable beyond the disk.
    WatermarksInOrder,
    /// A replica's outline of its log is not its log.
    OutlineIsLog,
    /// A client was told that its proposal is done, and it is not there.
    AcknowledgedIsThere,
    /// A read does not see what was acknowledged before it began.
    ReadsAreFresh,
    /// More is under way to a follower than the settings allow.
    InFlightIsBounded,
    /// A leader collects more uncommitted bytes than the settings allow.
    UncommittedIsBounded,
    /// Visible, though a replica that is in sync does not have it; or accepted for `acks=all` with too
    /// few in sync.
    InSyncHasIt,
    /// Voters change without both sets having to agree.
    ChangesAreJoint,
    /// The core's effects contradict each other or the interface.
    EffectsMakeSense,
    /// A tick leaves the deadline where it was.
    DeadlinesMove,
    /// After the faults are over, no leader serves in time.
    ServesAfterHealing,
    /// After the faults are over, some replica lacks entries, or disagrees on what is committed.
    ConvergesAfterHealing,
    /// Terms still grow long after the faults are over.
    TermsRest,
    /// A group that has nothing to do sends messages.
    QuietIsQuiet,
}

impl Rule {
    /// What should have held.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Rule::OneLeaderPerTerm => "a term has one leader",
            Rule::OneVotePerTerm => "a replica has one vote in a term",
            Rule::ElectedByQuorum => "a leader has the votes of a quorum",
            Rule::FaithfulToLeader => "who has just heard a leader votes for no other",
            Rule::LeaseEndsWithTransfer => "a lease ends when another is told to run",
            Rule::EarlierIsFenced => "what was said to an earlier incarnation counts for nothing",
            Rule::QuietHasAll => "a leader is quiet only when all followers have everything",
            Rule::LogsMatch => "logs that share an entry are equal up to it",
            Rule::LeaderIsComplete => "a leader has all that was committed before its term",
            Rule::CommittedStays => "what is committed stays",
            Rule::CommitIsDurable => "what is committed is durable at a quorum",
            Rule::CommitIsOwnTerm => "a leader counts entries of its own term only",
            Rule::DurableBeforeSent => "what a message promises is durable before it leaves",
            Rule::PromiseKept => "a restart forgets no promise",
            Rule::AcknowledgedStays => "what was acknowledged to this term's leader stays",
            Rule::DamagedIsPassive => "a damaged replica neither votes nor leads",
            Rule::WatermarksGrow => "watermarks only grow",
            Rule::WatermarksInOrder => "visible, committed, durable and last are in order",
            Rule::OutlineIsLog => "what the core knows of its log is so",
            Rule::AcknowledgedIsThere => "what a client was told is done is there",
            Rule::ReadsAreFresh => "a read sees what was acknowledged before it",
            Rule::InFlightIsBounded => "what is under way to a follower is bounded",
            Rule::UncommittedIsBounded => "what is uncommitted at a leader is bounded",
            Rule::InSyncHasIt => "what is visible is at every replica in sync",
            Rule::ChangesAreJoint => "voters change by joint consensus",
            Rule::EffectsMakeSense => "effects make sense one after the other",
            Rule::DeadlinesMove => "a tick moves the deadline",
            Rule::ServesAfterHealing => "a leader serves soon after the faults are over",
            Rule::ConvergesAfterHealing => "all logs become equal after the faults are over",
            Rule::TermsRest => "terms stop growing after the faults are over",
            Rule::QuietIsQuiet => "a quiet group sends nothing",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.words())
    }
}

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    pub(crate) detail: String,
}

/// Fails with the rule unless it holds. What is told is only made then.
pub(crate) fn hold(rule: Rule, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds {
        return Ok(());
    }
    Err(Broken {
        rule,
        detail: detail(),
    })
}
