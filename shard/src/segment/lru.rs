//! A map bounded by weight that lets go of what was used longest ago.

use std::collections::BTreeMap;
use std::hash::Hash;

use hashbrown::HashMap;

/// At most so much weight of values, the least recently used out first. The newest value stays even
/// if it is heavier than the whole.
pub(super) struct Lru<K, V> {
    limit: usize,
    total: usize,
    clock: u64,
    values: HashMap<K, Held<V>>,
    by_use: BTreeMap<u64, K>,
}

struct Held<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Lru<K, V> {
    pub(super) fn new(limit: usize) -> Lru<K, V> {
        Lru {
            limit,
            total: 0,
            clock: 0,
            values: HashMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    /// The value, now the most recently used.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        let held = self.values.get_mut(key)?;
        self.clock += 1;
        self.by_use.remove(&held.used);
        held.used = self.clock;
        self.by_use.insert(held.used, *key);
        Some(held.value.clone())
    }

    /// Puts a value in. What went out for it is returned, to be dropped where that can do no harm:
    /// preferably values for which `idle` holds, else any.
    #[must_use]
    pub(super) fn insert(
        &mut self,
        key: K,
        value: V,
        weight: usize,
        idle: impl Fn(&V) -> bool,
    ) -> Vec<V> {
        let mut out: Vec<V> = self.remove(&key).into_iter().collect();
        while self.total + weight > self.limit && !self.by_use.is_empty() {
            let longest_idle = self
                .by_use
                .values()
                .find(|key| idle(&self.values[*key].value));
            let Some(&victim) = longest_idle.or_else(|| self.by_use.values().next()) else {
                break;
            };
            out.extend(self.remove(&victim));
        }
        self.clock += 1;
        self.by_use.insert(self.clock, key);
        self.total += weight;
        self.values.insert(
            key,
            Held {
                value,
                weight,
                used: self.clock,
            },
        );
        out
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let held = self.values.remove(key)?;
        self.by_use.remove(&held.used);
        self.total -= held.weight;
        Some(held.value)
    }

    /// Takes out all values for which `out` holds.
    #[must_use]
    pub(super) fn remove_all(&mut self, out: impl Fn(&K, &V) -> bool) -> Vec<V> {
        let keys: Vec<K> = self
            .values
            .iter()
            .filter(|(key, held)| out(key, &held.value))
            .map(|(key, _)| *key)
            .collect();
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Lru;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = Lru::new(3);
        for key in 0..3 {
            assert!(lru.insert(key, key * 10, 1, |_| true).is_empty());
        }
        assert_eq!(lru.get(&0), Some(0));
        assert_eq!(lru.insert(3, 30, 1, |_| true), [10]);
        assert_eq!(lru.insert(4, 40, 2, |_| true), [20, 0]);
        assert_eq!(lru.len(), 2);
    }

    #[test]
    fn what_is_in_use_goes_last() {
        let mut lru = Lru::new(2);
        let _ = lru.insert(1, "busy", 1, |_| true);
        let _ = lru.insert(2, "idle", 1, |_| true);
        let idle = |value: &&str| *value == "idle";
        assert_eq!(lru.insert(3, "busy", 1, idle), ["idle"]);
        assert_eq!(lru.insert(4, "busy", 1, idle), ["busy"]);
        assert_eq!(lru.get(&1), None);
    }

    #[test]
    fn one_value_heavier_than_the_whole_is_held_alone() {
        let mut lru = Lru::new(2);
        let _ = lru.insert(1, 'a', 1, |_| true);
        assert_eq!(lru.insert(2, 'b', 5, |_| true), ['a']);
        assert_eq!(lru.get(&2), Some('b'));
        assert_eq!(lru.insert(3, 'c', 1, |_| true), ['b']);
        assert_eq!(lru.remove_all(|_, _| true), ['c']);
    }
}
