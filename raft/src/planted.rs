//! Bugs on request: a test plants one to see that the simulator's oracles catch it. Without the
//! feature `planted-bugs` every question is answered with a constant no.

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A vote is given without being written down.
    VoteNotPersisted,
    /// A leader counts entries of earlier terms (Raft paper, figure 8).
    CommitsEarlierTerms,
    /// A follower answers before its disk does.
    AcknowledgesBeforeDurable,
    /// A leader counts itself before its own disk has answered.
    CountsItselfBeforeDurable,
    /// An append cuts whatever is behind it, matching or not.
    LateAppendTruncates,
    /// A leader answers reads without asking whether it still leads.
    ReadsWithoutAsking,
    /// A leader accepts reads before an entry of its term is committed.
    ReadsBeforeOwnTerm,
    /// A damaged replica votes.
    DamagedVotes,
    /// A change of membership goes straight to the new voters.
    NotJoint,
    /// A learner's copy counts as if it had a vote.
    LearnerCounted,
    /// A membership that is cut from the log stays in force.
    ConfigurationNotReverted,
    /// Between two memberships, only the incoming voters elect.
    OutgoingDoNotElect,
    /// A leader goes on relying on its lease when it has told another replica to run.
    LeaseOutlivesTransfer,
    /// Under a lease, a replica that has just started votes at once.
    NoWaitAfterRestart,
    /// A vote is given although a leader was heard a moment ago.
    Faithless,
    /// What was said to an earlier incarnation is taken for said to this one.
    NotFenced,
    /// A leader falls quiet although a follower lacks entries.
    QuietTooEarly,
}

#[cfg(any(test, feature = "planted-bugs"))]
std::thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug on this thread, or none.
#[cfg(any(test, feature = "planted-bugs"))]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

#[cfg(any(test, feature = "planted-bugs"))]
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(not(any(test, feature = "planted-bugs")))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
