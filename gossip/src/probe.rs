//! Probing: whose turn it is, the probe that is under way, and the probes made for others (SWIM
//! sections 3.1 and 4.3).
//!
//! Targets come round robin from a shuffled list. That bounds the time until a member is probed
//! again by any other one: at most `2 N - 1` periods among `N` members, when it came first in one
//! round and comes last in the next.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::identity::NodeId;
use crate::random::{Random, index, shuffle};
use crate::time::Time;

/// The shuffled list and the place in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct RoundRobin {
    order: Vec<NodeId>,
    next: usize,
}

impl RoundRobin {
    /// Adds a member at a random place.
    pub(crate) fn insert(&mut self, node: NodeId, random: &mut dyn Random) {
        let place = index(random, self.order.len() + 1);
        self.order.insert(place, node);
        // Whoever was probed in this round stays probed.
        if place < self.next {
            self.next += 1;
        }
    }

    pub(crate) fn remove(&mut self, node: NodeId) {
        if let Some(place) = self.order.iter().position(|other| *other == node) {
            self.order.remove(place);
            if place < self.next {
                self.next -= 1;
            }
        }
    }

    /// All members, in no meaningful order.
    pub(crate) fn all(&self) -> &[NodeId] {
        &self.order
    }

    /// The next member that is `suitable`, if any is.
    pub(crate) fn next(
        &mut self,
        random: &mut dyn Random,
        suitable: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        for _ in 0..2 {
            while let Some(node) = self.order.get(self.next).copied() {
                self.next += 1;
                if suitable(node) {
                    return Some(node);
                }
            }
            shuffle(random, &mut self.order);
            self.next = 0;
        }
        None
    }
}

/// What has come of asking a relay.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Relayed {
    /// Nothing yet.
    Asked,
    /// It said that it had no answer in time.
    Nack,
}

/// The probe of this period.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Probe {
    pub(crate) target: NodeId,
    pub(crate) sequence: u32,
    pub(crate) started: Time,
    /// When others are asked; none once they have been.
    pub(crate) asks_at: Option<Time>,
    /// When it has failed.
    pub(crate) ends_at: Time,
    pub(crate) relays: BTreeMap<NodeId, Relayed>,
}

impl Probe {
    pub(crate) fn missed_nacks(&self) -> u32 {
        let silent = self
            .relays
            .values()
            .filter(|relayed| **relayed == Relayed::Asked);
        silent.count() as u32
    }
}

/// A probe made for another member.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Relay {
    pub(crate) origin: NodeId,
    pub(crate) origin_address: SocketAddr,
    pub(crate) origin_sequence: u32,
    pub(crate) target: NodeId,
    pub(crate) target_address: SocketAddr,
    /// When the origin is told that there was no answer; none if it has been or does not want it.
    pub(crate) nack_at: Option<Time>,
    pub(crate) expires_at: Time,
}

/// The most probes made for others at once; more are refused, which their origins take for a
/// missed nack.
pub(crate) const MAX_RELAYS: usize = 1_024;

/// The probes made for others, by the number of our own ping.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Relays {
    all: BTreeMap<u32, Relay>,
}

impl Relays {
    /// Whether there was room.
    pub(crate) fn insert(&mut self, sequence: u32, relay: Relay) -> bool {
        if self.all.len() >= MAX_RELAYS {
            return false;
        }
        self.all.insert(sequence, relay);
        true
    }

    /// Takes the one whose ping of that number was answered by `source`.
    pub(crate) fn answered(&mut self, sequence: u32, source: NodeId) -> Option<Relay> {
        if self.all.get(&sequence)?.target != source {
            return None;
        }
        self.all.remove(&sequence)
    }

    /// The probes of `target` that are under way.
    pub(crate) fn towards(&self, target: NodeId) -> impl Iterator<Item = (u32, &Relay)> + '_ {
        self.all
            .iter()
            .filter(move |(_, relay)| relay.target == target)
            .map(|(sequence, relay)| (*sequence, relay))
    }

    /// One whose origin is to be told now that there was no answer.
    pub(crate) fn nack_due(&mut self, now: Time) -> Option<Relay> {
        let relay = self
            .all
            .values_mut()
            .find(|relay| relay.nack_at.is_some_and(|at| at <= now))?;
        relay.nack_at = None;
        Some(relay.clone())
    }

    pub(crate) fn expire(&mut self, now: Time) {
        self.all.retain(|_, relay| relay.expires_at > now);
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.all
            .values()
            .map(|relay| relay.nack_at.unwrap_or(relay.expires_at))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{MAX_RELAYS, Relay, Relays, RoundRobin};
    use crate::identity::NodeId;
    use crate::random::testing::Sequence;
    use crate::time::Time;

    #[test]
    fn every_member_is_probed_again_within_two_rounds_less_one() {
        let mut random = Sequence(1);
        for members in 1..12_u32 {
            let mut list = RoundRobin::default();
            for node in 0..members {
                list.insert(NodeId(node), &mut random);
            }
            let mut last = BTreeMap::new();
            for period in 0..2_000_u32 {
                let node = list.next(&mut random, |_| true).unwrap();
                let since = period - last.insert(node, period).unwrap_or(period);
                assert!(since < 2 * members, "{since} among {members}");
            }
            assert_eq!(last.len() as u32, members);
        }
    }

    #[test]
    fn joining_and_leaving_members_do_not_make_others_miss_their_turn() {
        let mut random = Sequence(2);
        let mut list = RoundRobin::default();
        for node in 0..10 {
            list.insert(NodeId(node), &mut random);
        }
        let mut since = 0;
        for step in 0..2_000_u32 {
            if step % 3 == 0 {
                list.insert(NodeId(100 + step), &mut random);
            } else if step % 3 == 1 {
                list.remove(NodeId(100 + step - 1));
            }
            let probed = list.next(&mut random, |_| true);
            since = if probed == Some(NodeId(0)) {
                0
            } else {
                since + 1
            };
            assert!(since < 2 * 11);
        }
    }

    #[test]
    fn unsuitable_members_are_passed_over_and_none_is_found_among_them_alone() {
        let mut random = Sequence(3);
        let mut list = RoundRobin::default();
        assert_eq!(list.next(&mut random, |_| true), None);
        for node in 0..10 {
            list.insert(NodeId(node), &mut random);
        }
        for _ in 0..30 {
            let node = list.next(&mut random, |node| node.0 > 7).unwrap();
            assert!(node.0 > 7);
        }
        assert_eq!(list.next(&mut random, |_| false), None);
    }

    #[test]
    fn relays_are_bounded_and_answered_by_their_target_alone() {
        let relay = Relay {
            origin: NodeId(1),
            origin_address: ([10, 0, 0, 1], 1).into(),
            origin_sequence: 5,
            target: NodeId(2),
            target_address: ([10, 0, 0, 2], 1).into(),
            nack_at: Some(Time(10)),
            expires_at: Time(20),
        };
        let mut relays = Relays::default();
        for sequence in 0..=MAX_RELAYS as u32 {
            let room = relays.insert(sequence, relay.clone());
            assert_eq!(room, sequence < MAX_RELAYS as u32);
        }
        assert_eq!(relays.answered(7, NodeId(3)), None);
        assert_eq!(relays.answered(7, NodeId(2)), Some(relay));
        assert_eq!(relays.answered(7, NodeId(2)), None);
        assert_eq!(relays.deadline(), Some(Time(10)));
        assert!(relays.nack_due(Time(9)).is_none());
        while relays.nack_due(Time(10)).is_some() {}
        assert_eq!(relays.deadline(), Some(Time(20)));
        relays.expire(Time(20));
        assert_eq!(relays.deadline(), None);
    }
}
