//! Last-writer-wins maps: what the cluster tells itself about who leads and who owns.
//!
//! Gossip carries them beside membership. They are hints: they route a request and wake a group,
//! and never grant anything. "Last" is decided by the term or epoch that the decision itself
//! carries, never by a clock. Should two values carry the same one, which no correct owner of the
//! decision produces, the greater value wins, so that all nodes still agree.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::identity::NodeId;
use crate::time::Time;

/// A partition, by its topic's id.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId {
    /// The topic's UUID.
    pub topic: u128,
    /// The partition's number within it.
    pub partition: u32,
}

/// Who leads a partition. Ordered by term.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Leadership {
    /// The leader's term.
    pub term: u64,
    /// The leader.
    pub leader: NodeId,
    /// The shard of that node which hosts the replica.
    pub shard: u16,
}

/// A range of a key space that is divided among nodes, by the number its divider gave it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RangeId(pub u64);

/// Who owns a range. Ordered by epoch.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ownership {
    /// The assignment's epoch.
    pub epoch: u64,
    /// The owner.
    pub owner: NodeId,
}

/// One entry of either map.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Entry {
    /// A partition's leader.
    Leader(PartitionId, Leadership),
    /// A range's owner.
    Owner(RangeId, Ownership),
}

/// A map in which the greatest value of a key stays. The order of merging does not matter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LwwMap<K, V> {
    values: BTreeMap<K, V>,
    /// What was forgotten, up to which value, and until when that is remembered.
    forgotten: BTreeMap<K, (V, Time)>,
    max_entries: usize,
}

/// What a merge did.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Merged {
    /// The value is news and was taken.
    Taken,
    /// What is known is as new or newer.
    Known,
    /// The map is full.
    Full,
}

impl<K: Copy + Ord, V: Copy + Ord> LwwMap<K, V> {
    pub(crate) fn new(max_entries: usize) -> LwwMap<K, V> {
        LwwMap {
            values: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            max_entries,
        }
    }

    pub(crate) fn merge(&mut self, key: K, value: V) -> Merged {
        if self
            .forgotten
            .get(&key)
            .is_some_and(|(last, _)| value <= *last)
        {
            return Merged::Known;
        }
        match self.values.get(&key) {
            Some(known) if *known >= value => Merged::Known,
            None if self.values.len() >= self.max_entries => Merged::Full,
            _ => {
                self.values.insert(key, value);
                Merged::Taken
            }
        }
    }

    /// Drops a key whose subject is gone. For `remember_for`, peers that have not yet forgotten it
    /// cannot bring the same value back.
    pub(crate) fn forget(&mut self, key: K, now: Time, remember_for: Duration) {
        self.forgotten.retain(|_, (_, until)| *until > now);
        if let Some(value) = self.values.remove(&key) {
            if self.forgotten.len() >= self.max_entries {
                self.forgotten.pop_first();
            }
            self.forgotten.insert(key, (value, now.after(remember_for)));
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: K) -> Option<V> {
        self.values.get(&key).copied()
    }

    /// All entries, by key.
    pub fn iter(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.values.iter().map(|(key, value)| (*key, *value))
    }

    /// The entries whose keys come after `last`, or all.
    pub(crate) fn after(&self, last: Option<K>) -> impl Iterator<Item = (K, V)> + '_ {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = last.map_or(Unbounded, Excluded);
        self.values
            .range((from, Unbounded))
            .map(|(key, value)| (*key, *value))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LwwMap, Merged, Ownership, RangeId};
    use crate::config::ms;
    use crate::identity::NodeId;
    use crate::time::Time;

    fn owned(epoch: u64, owner: u32) -> Ownership {
        Ownership {
            epoch,
            owner: NodeId(owner),
        }
    }

    #[test]
    fn the_later_epoch_wins_whatever_comes_first() {
        let mut map = LwwMap::new(10);
        assert_eq!(map.merge(RangeId(1), owned(5, 1)), Merged::Taken);
        assert_eq!(map.merge(RangeId(1), owned(4, 2)), Merged::Known);
        assert_eq!(map.merge(RangeId(1), owned(6, 3)), Merged::Taken);
        assert_eq!(map.get(RangeId(1)), Some(owned(6, 3)));
    }

    #[test]
    fn what_was_forgotten_comes_back_only_with_something_newer() {
        let mut map = LwwMap::new(10);
        map.merge(RangeId(1), owned(5, 1));
        map.forget(RangeId(1), Time::ZERO, ms(1_000));
        assert_eq!(map.merge(RangeId(1), owned(5, 1)), Merged::Known);
        assert!(map.is_empty());
        assert_eq!(map.merge(RangeId(1), owned(6, 1)), Merged::Taken);
    }

    #[test]
    fn a_full_map_takes_no_new_key_but_news_of_old_ones() {
        let mut map = LwwMap::new(1);
        map.merge(RangeId(1), owned(1, 1));
        assert_eq!(map.merge(RangeId(2), owned(1, 1)), Merged::Full);
        assert_eq!(map.merge(RangeId(1), owned(2, 1)), Merged::Taken);
        assert_eq!(map.len(), 1);
    }

    proptest! {
        #[test]
        fn maps_agree_in_whatever_order_they_merge(
            writes in prop::collection::vec((0_u64..5, 0_u64..6, 0_u32..4), 0..40),
            cut in 0_usize..40,
        ) {
            let merge = |writes: &[(u64, u64, u32)]| {
                let mut map = LwwMap::new(100);
                for (key, epoch, owner) in writes {
                    map.merge(RangeId(*key), owned(*epoch, *owner));
                }
                map
            };
            let mut turned = writes.clone();
            turned.rotate_left(cut.min(writes.len()));
            turned.reverse();
            prop_assert_eq!(merge(&writes), merge(&turned));
        }
    }
}
