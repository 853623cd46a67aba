//! The bugs that can be planted in the core, and which rule must notice each: the test of the
//! oracles themselves.

use std::str::FromStr;

use raft::planted::Bug;
use thiserror::Error;

use crate::Rule;

/// All of them.
pub const BUGS: [Bug; 17] = [
    Bug::VoteNotPersisted,
    Bug::CommitsEarlierTerms,
    Bug::AcknowledgesBeforeDurable,
    Bug::CountsItselfBeforeDurable,
    Bug::LateAppendTruncates,
    Bug::ReadsWithoutAsking,
    Bug::ReadsBeforeOwnTerm,
    Bug::DamagedVotes,
    Bug::NotJoint,
    Bug::LearnerCounted,
    Bug::ConfigurationNotReverted,
    Bug::OutgoingDoNotElect,
    Bug::LeaseOutlivesTransfer,
    Bug::NoWaitAfterRestart,
    Bug::Faithless,
    Bug::NotFenced,
    Bug::QuietTooEarly,
];

/// The rules that a bug breaks. The first of them that a run comes to is what it reports.
#[must_use]
pub fn broken_by(bug: Bug) -> &'static [Rule] {
    match bug {
        Bug::VoteNotPersisted => &[Rule::DurableBeforeSent],
        Bug::CommitsEarlierTerms => &[Rule::CommitIsOwnTerm],
        Bug::AcknowledgesBeforeDurable => &[Rule::DurableBeforeSent],
        Bug::CountsItselfBeforeDurable => &[Rule::CommitIsDurable],
        // Whatever comes of it first: what is cut was acknowledged, or committed, or the whole log.
        Bug::LateAppendTruncates => &[
            Rule::AcknowledgedStays,
            Rule::CommittedStays,
            Rule::CommitIsDurable,
            Rule::DurableBeforeSent,
            Rule::InSyncHasIt,
            Rule::EffectsMakeSense,
        ],
        Bug::ReadsWithoutAsking => &[Rule::ReadsAreFresh, Rule::LeaseEndsWithTransfer],
        Bug::ReadsBeforeOwnTerm => &[Rule::ReadsAreFresh],
        Bug::DamagedVotes => &[Rule::DamagedIsPassive],
        Bug::NotJoint => &[Rule::ChangesAreJoint],
        Bug::LearnerCounted => &[Rule::CommitIsDurable],
        Bug::ConfigurationNotReverted => &[Rule::OutlineIsLog, Rule::ChangesAreJoint],
        Bug::OutgoingDoNotElect => &[Rule::ElectedByQuorum],
        Bug::LeaseOutlivesTransfer => &[Rule::LeaseEndsWithTransfer, Rule::ReadsAreFresh],
        Bug::NoWaitAfterRestart | Bug::Faithless => &[Rule::FaithfulToLeader],
        Bug::NotFenced => &[Rule::EarlierIsFenced],
        Bug::QuietTooEarly => &[Rule::QuietHasAll],
    }
}

/// A bug by its name in the code, for the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BugName(pub Bug);

/// No bug has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no bug '{0}' can be planted; these can: {known}", known = names())]
pub struct UnknownBug(String);

impl FromStr for BugName {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<BugName, UnknownBug> {
        let named = BUGS.into_iter().find(|bug| format!("{bug:?}") == name);
        named
            .map(BugName)
            .ok_or_else(|| UnknownBug(name.to_owned()))
    }
}

fn names() -> String {
    BUGS.map(|bug| format!("{bug:?}")).join(", ")
}
