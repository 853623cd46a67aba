//! Time as data: moments that the caller passes in, and deadlines that it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A moment: the time passed since an arbitrary origin that the caller chose. It must not go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

impl Time {
    /// The moment `after` from this one.
    #[must_use]
    pub fn plus(self, after: Duration) -> Time {
        Time(self.0.saturating_add(after))
    }

    /// Time passed since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Deadlines by name. Setting one again moves it.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    by_time: BTreeSet<(Time, K)>,
    by_name: BTreeMap<K, Time>,
}

impl<K: Copy + Ord> Timers<K> {
    pub(crate) fn new() -> Timers<K> {
        Timers {
            by_time: BTreeSet::new(),
            by_name: BTreeMap::new(),
        }
    }

    pub(crate) fn set(&mut self, name: K, at: Time) {
        if let Some(old) = self.by_name.insert(name, at) {
            self.by_time.remove(&(old, name));
        }
        self.by_time.insert((at, name));
    }

    /// Sets a deadline unless an earlier one of this name stands.
    pub(crate) fn set_by(&mut self, name: K, at: Time) {
        if self
            .by_name
            .get(&name)
            .is_none_or(|standing| *standing > at)
        {
            self.set(name, at);
        }
    }

    pub(crate) fn cancel(&mut self, name: K) {
        if let Some(old) = self.by_name.remove(&name) {
            self.by_time.remove(&(old, name));
        }
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest deadline that is due.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<K> {
        let (at, name) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_name.remove(&name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    #[test]
    fn deadlines_fall_due_in_order_and_only_once() {
        let mut timers = Timers::new();
        timers.set('b', at(20));
        timers.set('a', at(10));
        timers.set('b', at(5));
        timers.set_by('a', at(30));
        timers.set('c', at(7));
        timers.cancel('c');
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.take_due(at(4)), None);
        assert_eq!(timers.take_due(at(10)), Some('b'));
        assert_eq!(timers.take_due(at(10)), Some('a'));
        assert_eq!(timers.take_due(at(100)), None);
        assert_eq!(timers.next(), None);
    }
}
