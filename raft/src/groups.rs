//! Many groups on one shard: which of them is due next. Ten thousand that are quiet cost nothing, and
//! those that are not have one timer together.

use std::collections::{BTreeMap, BTreeSet};

use crate::group::Group;
use crate::input::{Effect, Input, LogView, Random};
use crate::types::{GroupId, Time};

/// The groups of one shard, with their deadlines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Groups {
    groups: BTreeMap<GroupId, Group>,
    /// Every group that wants to be called, by when.
    deadlines: BTreeSet<(Time, GroupId)>,
}

impl Groups {
    /// None yet.
    #[must_use]
    pub fn new() -> Groups {
        Groups::default()
    }

    /// Takes a group in.
    ///
    /// # Panics
    /// If there is one of this name.
    pub fn insert(&mut self, id: GroupId, group: Group) {
        let deadline = group.deadline();
        let before = self.groups.insert(id, group);
        assert!(before.is_none(), "a group has a name of its own");
        self.deadlines.extend(deadline.map(|at| (at, id)));
    }

    /// Lets a group go.
    pub fn remove(&mut self, id: GroupId) -> Option<Group> {
        let group = self.groups.remove(&id)?;
        if let Some(at) = group.deadline() {
            self.deadlines.remove(&(at, id));
        }
        Some(group)
    }

    /// A group.
    #[must_use]
    pub fn get(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().map(|(id, group)| (*id, group))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// When a group next wants a [`Tick`](Input::Tick): one timer for all. Heartbeats of all groups
    /// fall on the same moments, so that those to one node can travel together.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A group that is due. It stays due until it is given its tick.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<GroupId> {
        let first = self.deadlines.first();
        first.filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// [`Group::step`] of one of them. Does nothing if it is gone.
    pub fn step(
        &mut self,
        id: GroupId,
        now: Time,
        input: Input,
        log: &dyn LogView,
        random: &mut dyn Random,
        effects: &mut Vec<Effect>,
    ) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let before = group.deadline();
        group.step(now, input, log, random, effects);
        let after = group.deadline();
        if before != after {
            if let Some(at) = before {
                self.deadlines.remove(&(at, id));
            }
            self.deadlines.extend(after.map(|at| (at, id)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Cut, Recovered};
    use crate::settings::Settings;
    use crate::types::{Index, NodeId, ReplicaId};

    struct Nothing;

    impl LogView for Nothing {
        fn cut(&self, _: Index, _: Index, _: u64) -> Cut {
            Cut::NotResident
        }
    }

    struct Counting(u64);

    impl Random for Counting {
        fn next(&mut self) -> u64 {
            self.0 += 1_000_003;
            self.0
        }
    }

    fn replica(node: u32) -> ReplicaId {
        ReplicaId {
            node: NodeId(node),
            incarnation: 0,
        }
    }

    #[test]
    fn groups_are_called_in_the_order_of_their_deadlines() {
        let random = &mut Counting(1);
        let mut groups = Groups::new();
        let voters = [replica(1), replica(2), replica(3)];
        for id in 0..100 {
            let recovered = Recovered::empty(&voters);
            let group = Group::new(voters[0], Settings::default(), recovered, Time(id), random);
            groups.insert(GroupId(id), group);
        }
        let (mut last, mut called) = (Time(0), 0);
        while called < 1_000 {
            let now = groups
                .deadline()
                .expect("nobody leads them, so they go on asking");
            assert!(now >= last);
            let id = groups.due(now).expect("the one whose deadline it is");
            assert_eq!(groups.get(id).and_then(Group::deadline), Some(now));
            groups.step(id, now, Input::Tick, &Nothing, random, &mut Vec::new());
            (last, called) = (now, called + 1);
        }
        assert_eq!(
            groups.due(Time(last.0 - 1)),
            None,
            "everybody has had its turn"
        );
        for id in 0..100 {
            assert!(groups.remove(GroupId(id)).is_some());
        }
        assert_eq!((groups.deadline(), groups.is_empty()), (None, true));
    }

    #[test]
    fn a_replica_of_no_group_yet_waits_to_be_told() {
        let mut groups = Groups::new();
        let random = &mut Counting(1);
        let recovered = Recovered::empty(&[]);
        let group = Group::new(replica(9), Settings::default(), recovered, Time(0), random);
        groups.insert(GroupId(1), group);
        let mut effects = Vec::new();
        while let Some(now) = groups.deadline().filter(|at| *at < Time(60_000_000_000)) {
            groups.step(GroupId(1), now, Input::Tick, &Nothing, random, &mut effects);
        }
        assert_eq!(effects, [], "it asks nobody");
    }
}
