//! Who votes: one set of voters, or two while the group changes from one to the other (joint
//! consensus, Raft paper, section 6; thesis, section 4.3).

use std::collections::BTreeSet;
use std::fmt;

use crate::planted::{self, Bug};
use crate::types::{Index, ReplicaId};

/// A membership. In force on a replica as soon as it is appended there, and until it is truncated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    voters: BTreeSet<ReplicaId>,
    /// Those that voted before, while both sets must agree.
    outgoing: Option<BTreeSet<ReplicaId>>,
    learners: BTreeSet<ReplicaId>,
}

impl Configuration {
    /// These voters and nobody else.
    ///
    /// # Panics
    /// Without a voter: such a group could never decide anything.
    #[must_use]
    pub fn of(voters: &[ReplicaId]) -> Configuration {
        let made = Configuration::new(voters, &[]);
        made.expect("a group has at least one voter, and none twice")
    }

    /// These voters and learners; none if there is no voter, or a replica or a node is named twice.
    #[must_use]
    pub fn new(voters: &[ReplicaId], learners: &[ReplicaId]) -> Option<Configuration> {
        let all: BTreeSet<_> = voters.iter().chain(learners).map(|id| id.node).collect();
        let distinct = all.len() == voters.len() + learners.len();
        (distinct && !voters.is_empty()).then(|| Configuration {
            voters: voters.iter().copied().collect(),
            outgoing: None,
            learners: learners.iter().copied().collect(),
        })
    }

    /// As it was stored or sent, by [`Configuration::parts`].
    #[must_use]
    pub fn from_parts(
        voters: &[ReplicaId],
        outgoing: Option<&[ReplicaId]>,
        learners: &[ReplicaId],
    ) -> Option<Configuration> {
        let mut made = Configuration::new(voters, learners)?;
        if let Some(outgoing) = outgoing {
            let outgoing: BTreeSet<_> = outgoing.iter().copied().collect();
            if outgoing.is_empty() {
                return None;
            }
            made.outgoing = Some(outgoing);
        }
        Some(made)
    }

    /// The incoming voters, the outgoing ones while there are any, and the learners.
    #[must_use]
    pub fn parts(&self) -> (Vec<ReplicaId>, Option<Vec<ReplicaId>>, Vec<ReplicaId>) {
        let list = |set: &BTreeSet<ReplicaId>| set.iter().copied().collect();
        (
            list(&self.voters),
            self.outgoing.as_ref().map(list),
            list(&self.learners),
        )
    }

    /// The voters that remain when a change is over.
    pub fn voters(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.voters.iter().copied()
    }

    /// The learners.
    pub fn learners(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.learners.iter().copied()
    }

    /// Everybody whom a leader sends to, itself included, in order.
    #[must_use]
    pub fn members(&self) -> BTreeSet<ReplicaId> {
        let outgoing = self.outgoing.iter().flatten();
        let all = self.voters.iter().chain(outgoing).chain(&self.learners);
        all.copied().collect()
    }

    /// Whether it has a vote, in either set.
    #[must_use]
    pub fn is_voter(&self, replica: ReplicaId) -> bool {
        let outgoing = self.outgoing.as_ref();
        self.voters.contains(&replica) || outgoing.is_some_and(|set| set.contains(&replica))
    }

    /// Whether a change is half done.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.outgoing.is_some()
    }

    /// Whether a younger replica has taken this one's place on its node.
    #[must_use]
    pub fn has_replaced(&self, replica: ReplicaId) -> bool {
        let younger =
            |id: &ReplicaId| id.node == replica.node && id.incarnation > replica.incarnation;
        !self.members().contains(&replica) && self.members().iter().any(younger)
    }

    /// The first half of a change to `next`: both sets of voters count.
    ///
    /// # Panics
    /// If this one is half done itself.
    #[must_use]
    pub fn towards(&self, next: &Configuration) -> Configuration {
        assert!(!self.is_joint(), "one change at a time");
        if self.voters == next.voters {
            return next.clone();
        }
        Configuration {
            outgoing: Some(self.voters.clone()),
            ..next.clone()
        }
    }

    /// The second half: the outgoing voters are gone.
    #[must_use]
    pub fn settled(&self) -> Configuration {
        Configuration {
            outgoing: None,
            ..self.clone()
        }
    }

    /// Whether those of whom `has` is true are a majority of the voters: of both sets, while there
    /// are two.
    pub fn is_quorum(&self, mut has: impl FnMut(ReplicaId) -> bool) -> bool {
        let mut majority = |set: &BTreeSet<ReplicaId>| {
            let counted = set.iter().chain(self.planted_voters());
            let having = counted.filter(|replica| has(**replica)).count();
            having > set.len() / 2
        };
        majority(&self.voters) && self.outgoing.as_ref().is_none_or(majority)
    }

    /// The greatest value that a majority has reached, of both sets while there are two, if each
    /// voter has reached what `value` says.
    pub fn reached<T: Ord>(&self, mut value: impl FnMut(ReplicaId) -> T) -> T {
        let mut reached = |set: &BTreeSet<ReplicaId>| {
            let counted = set.iter().chain(self.planted_voters());
            let mut values: Vec<T> = counted.map(|replica| value(*replica)).collect();
            values.sort_unstable();
            // Of an even number, one more than half is a majority: the lower of the two in the middle.
            values.swap_remove(values.len() - 1 - set.len() / 2)
        };
        let incoming = reached(&self.voters);
        match &self.outgoing {
            Some(outgoing) => incoming.min(reached(outgoing)),
            None => incoming,
        }
    }

    /// Nobody, but for a planted bug.
    fn planted_voters(&self) -> impl Iterator<Item = &ReplicaId> {
        let wrong = planted::is(Bug::LearnerCounted).then_some(&self.learners);
        wrong.into_iter().flatten()
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |set: &BTreeSet<ReplicaId>| {
            let names: Vec<String> = set.iter().map(ReplicaId::to_string).collect();
            names.join(" ")
        };
        if let Some(outgoing) = &self.outgoing {
            write!(out, "({}) -> ", list(outgoing))?;
        }
        write!(out, "({})", list(&self.voters))?;
        match self.learners.is_empty() {
            true => Ok(()),
            false => write!(out, " + ({})", list(&self.learners)),
        }
    }
}

/// The memberships of a log: the one in force, and those that a truncation would bring back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct History(Vec<(Index, Configuration)>);

impl History {
    pub(crate) fn new(entries: Vec<(Index, Configuration)>) -> History {
        let in_order = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        assert!(in_order, "memberships are in the order of their indexes");
        History(entries)
    }

    /// The latest, and where it is; none on a replica that is no member of anything yet.
    pub(crate) fn latest(&self) -> Option<&(Index, Configuration)> {
        self.0.last()
    }

    pub(crate) fn append(&mut self, index: Index, configuration: Configuration) {
        let follows = self.0.last().is_none_or(|(last, _)| *last < index);
        let follows = follows || planted::is(Bug::ConfigurationNotReverted);
        assert!(follows, "a membership is appended once");
        self.0.push((index, configuration));
    }

    /// The log ends at `last` now; tells whether that brought an older membership back.
    pub(crate) fn truncate(&mut self, last: Index) -> bool {
        let before = self.0.len();
        self.0
            .retain(|(index, _)| *index <= last || planted::is(Bug::ConfigurationNotReverted));
        self.0.len() < before
    }

    /// The log begins at `start` now: of those before it, the latest is enough.
    pub(crate) fn compact(&mut self, start: Index) {
        let before = self.0.partition_point(|(index, _)| *index < start);
        self.0.drain(..before.saturating_sub(1));
    }

    /// The one in force at what is committed, and all later ones.
    pub(crate) fn undecided(&self, commit: Index) -> &[(Index, Configuration)] {
        let committed = self.0.partition_point(|(index, _)| *index <= commit);
        &self.0[committed.saturating_sub(1)..]
    }

    /// The one in force just before `start`.
    pub(crate) fn before(&self, start: Index) -> Option<&(Index, Configuration)> {
        self.0.iter().rev().find(|(index, _)| *index < start)
    }

    /// Those from `first` to `last`.
    pub(crate) fn between(&self, first: Index, last: Index) -> Vec<(Index, Configuration)> {
        let inside = self
            .0
            .iter()
            .filter(|(index, _)| (first..=last).contains(index));
        inside.cloned().collect()
    }
}
