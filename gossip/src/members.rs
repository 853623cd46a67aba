//! The table of members: the standing claim about each other node, its record, and since when.
//!
//! It decides nothing but which claim stands; what follows from a change (suspicions, events,
//! passing on) is the node's. The node itself is not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fact::{Claim, Fact, Status};
use crate::identity::{Incarnation, NodeId};
use crate::record::NodeRecord;
use crate::time::Time;

/// A member as this node sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    /// The greatest incarnation that anything was claimed of.
    pub incarnation: Incarnation,
    /// What is claimed of it.
    pub status: Status,
    /// Since when that has been so, on this node's clock.
    pub since: Time,
    /// Its last known record.
    pub record: Arc<NodeRecord>,
    /// The incarnation that published the record. It lags behind `incarnation` when a claim about
    /// a newer one came before that one's record.
    pub record_incarnation: Incarnation,
}

/// What a claim did to the table.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Applied {
    /// A claim that is as good or better stands.
    Stale,
    /// The member is not known, and only its own word could introduce it.
    Unknown,
    /// There are too many members.
    Full,
    /// The same suspicion, by another accuser perhaps.
    Confirmation,
    /// It stands now.
    Changed {
        /// What stood before; none if the member was not known.
        before: Option<Status>,
        /// Whether there is a new record, or a new life.
        news: bool,
    },
}

/// The table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Members {
    all: BTreeMap<NodeId, Member>,
    live: usize,
    /// Who is dead or left, by since when.
    gone: BTreeSet<(Time, NodeId)>,
    max: usize,
}

impl Members {
    pub(crate) fn new(max: usize) -> Members {
        Members {
            all: BTreeMap::new(),
            live: 0,
            gone: BTreeSet::new(),
            max,
        }
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Member> {
        self.all.get(&node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> + '_ {
        self.all.iter().map(|(node, member)| (*node, member))
    }

    /// The members whose ids come after `last`, or all.
    pub(crate) fn after(
        &self,
        last: Option<NodeId>,
    ) -> impl Iterator<Item = (NodeId, &Member)> + '_ {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = last.map_or(Unbounded, Excluded);
        self.all
            .range((from, Unbounded))
            .map(|(node, member)| (*node, member))
    }

    /// How many are alive or suspect.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    pub(crate) fn is_live(&self, node: NodeId) -> bool {
        self.all
            .get(&node)
            .is_some_and(|member| member.status.is_live())
    }

    /// Takes a claim, if it stands against what is known.
    pub(crate) fn apply(&mut self, fact: &Fact, now: Time) -> Applied {
        match &fact.claim {
            Claim::Alive(record) => self.apply_alive(fact, record, now),
            Claim::Suspect { .. } | Claim::Dead { .. } | Claim::Left => self.apply_claim(fact, now),
        }
    }

    fn apply_alive(&mut self, fact: &Fact, record: &Arc<NodeRecord>, now: Time) -> Applied {
        let Some(member) = self.all.get_mut(&fact.node) else {
            if self.all.len() >= self.max {
                return Applied::Full;
            }
            self.insert(fact, record, now);
            return Applied::Changed {
                before: None,
                news: true,
            };
        };
        let before = member.status;
        let mut news = fact.incarnation.boot() > member.incarnation.boot();
        if fact.incarnation > member.record_incarnation {
            news |= member.record != *record;
            member.record = Arc::clone(record);
            member.record_incarnation = fact.incarnation;
        }
        if fact.incarnation > member.incarnation {
            member.incarnation = fact.incarnation;
            self.set_status(fact.node, Status::Alive, now);
        } else if !news {
            return Applied::Stale;
        }
        Applied::Changed {
            before: Some(before),
            news,
        }
    }

    fn insert(&mut self, fact: &Fact, record: &Arc<NodeRecord>, now: Time) {
        self.live += 1;
        self.all.insert(
            fact.node,
            Member {
                incarnation: fact.incarnation,
                status: Status::Alive,
                since: now,
                record: Arc::clone(record),
                record_incarnation: fact.incarnation,
            },
        );
    }

    fn apply_claim(&mut self, fact: &Fact, now: Time) -> Applied {
        let Some(member) = self.all.get_mut(&fact.node) else {
            return Applied::Unknown;
        };
        let standing = (member.incarnation, member.status);
        let claimed = (fact.incarnation, fact.status());
        if claimed == standing && member.status == Status::Suspect {
            return Applied::Confirmation;
        }
        if claimed <= standing {
            return Applied::Stale;
        }
        member.incarnation = fact.incarnation;
        let before = Some(member.status);
        self.set_status(fact.node, fact.status(), now);
        Applied::Changed {
            before,
            news: false,
        }
    }

    fn set_status(&mut self, node: NodeId, status: Status, now: Time) {
        if let Some(member) = self.all.get_mut(&node) {
            self.live -= usize::from(member.status.is_live());
            self.live += usize::from(status.is_live());
            if member.status != status {
                self.gone.remove(&(member.since, node));
                member.since = now;
                if !status.is_live() {
                    self.gone.insert((now, node));
                }
            }
            member.status = status;
        }
    }

    /// Removes whoever has been dead or gone since before `before`.
    pub(crate) fn reap(&mut self, before: Time) -> Vec<NodeId> {
        let mut reaped = Vec::new();
        while let Some((since, node)) = self.gone.first().copied()
            && since <= before
        {
            self.gone.pop_first();
            self.all.remove(&node);
            reaped.push(node);
        }
        reaped
    }

    /// Since when the one that has been dead or gone the longest has been so.
    pub(crate) fn longest_gone(&self) -> Option<Time> {
        self.gone.first().map(|(since, _)| *since)
    }

    /// Who has been dead or gone, the longest first.
    pub(crate) fn gone(&self) -> impl Iterator<Item = (NodeId, &Member)> + '_ {
        self.gone
            .iter()
            .filter_map(|(_, node)| Some((*node, self.all.get(node)?)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{Applied, Members};
    use crate::fact::{Claim, Fact, Status};
    use crate::identity::{BootEpoch, Incarnation, NodeId};
    use crate::record::testing::record;
    use crate::time::Time;

    const NODE: NodeId = NodeId(1);

    fn incarnation(counter: u64) -> Incarnation {
        Incarnation::from_bits(Incarnation::first(BootEpoch(1)).to_bits() + counter)
    }

    fn fact(counter: u64, claim: Claim) -> Fact {
        Fact {
            node: NODE,
            incarnation: incarnation(counter),
            claim,
        }
    }

    /// Each incarnation has a record of its own.
    fn alive(counter: u64) -> Fact {
        fact(counter, Claim::Alive(Arc::new(record(counter as u32 + 1))))
    }

    fn suspect(counter: u64) -> Fact {
        fact(counter, Claim::Suspect { by: NodeId(2) })
    }

    fn dead(counter: u64) -> Fact {
        fact(counter, Claim::Dead { by: NodeId(2) })
    }

    fn changed(before: Status, news: bool) -> Applied {
        Applied::Changed {
            before: Some(before),
            news,
        }
    }

    #[test]
    fn alive_needs_a_greater_incarnation_and_suspect_and_dead_an_equal_one() {
        let mut members = Members::new(10);
        let mut apply = |fact: Fact| members.apply(&fact, Time::ZERO);
        assert_eq!(apply(suspect(3)), Applied::Unknown);
        apply(alive(3));
        assert_eq!(apply(alive(3)), Applied::Stale);
        assert_eq!(apply(suspect(2)), Applied::Stale);
        assert_eq!(apply(suspect(3)), changed(Status::Alive, false));
        assert_eq!(apply(suspect(3)), Applied::Confirmation);
        assert_eq!(apply(alive(3)), Applied::Stale);
        assert_eq!(apply(alive(4)), changed(Status::Suspect, true));
        assert_eq!(apply(dead(3)), Applied::Stale);
        assert_eq!(apply(dead(4)), changed(Status::Alive, false));
        assert_eq!(apply(suspect(4)), Applied::Stale, "dead stands");
        assert_eq!(apply(alive(4)), Applied::Stale);
        assert_eq!(apply(fact(4, Claim::Left)), changed(Status::Dead, false));
        assert_eq!(apply(alive(5)), changed(Status::Left, true));
    }

    #[test]
    fn a_record_that_comes_after_a_claim_about_it_is_taken() {
        let mut members = Members::new(10);
        members.apply(&alive(0), Time::ZERO);
        members.apply(&suspect(2), Time::ZERO);
        let applied = members.apply(&alive(2), Time::ZERO);
        assert_eq!(applied, changed(Status::Suspect, true));
        let member = members.get(NODE).unwrap();
        assert_eq!(member.status, Status::Suspect, "but it is still suspect");
        assert_eq!(*member.record, record(3));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_dead() {
        let mut members = Members::new(2);
        for node in 1..4 {
            let mut introduced = alive(0);
            introduced.node = NodeId(node);
            let applied = members.apply(&introduced, Time::ZERO);
            assert_eq!(applied == Applied::Full, node == 3);
        }
        assert_eq!(members.live(), 2);
        members.apply(&dead(0), Time(5));
        assert_eq!(members.live(), 1);
        assert_eq!(members.longest_gone(), Some(Time(5)));
        assert!(members.reap(Time(4)).is_empty());
        assert_eq!(members.reap(Time(5)), [NODE]);
        assert!(members.get(NODE).is_none());
    }

    proptest! {
        #[test]
        fn the_order_of_hearing_does_not_matter(
            claims in prop::collection::vec((0_u64..4, 0_u8..4), 1..20),
            seed in any::<u64>(),
        ) {
            let facts: Vec<Fact> = claims
                .iter()
                .map(|(counter, kind)| match kind {
                    0 => alive(*counter),
                    1 => suspect(*counter),
                    2 => dead(*counter),
                    _ => fact(*counter, Claim::Left),
                })
                .collect();
            let hear = |facts: &[Fact]| {
                let mut members = Members::new(10);
                members.apply(&alive(0), Time::ZERO);
                for fact in facts {
                    members.apply(fact, Time::ZERO);
                }
                members
            };
            let mut turned = facts.clone();
            crate::random::shuffle(&mut crate::random::testing::Sequence(seed), &mut turned);
            prop_assert_eq!(hear(&facts), hear(&turned));
        }
    }
}
