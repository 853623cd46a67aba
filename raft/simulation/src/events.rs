//! What will happen, in the order of its time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

/// A heap of events keyed by (time, sequence): events of the same time come out in the order in
/// which they went in, so that a run is the same however the heap is built.
///
/// The heap moves keys of 24 bytes only; the events themselves lie still in a slab, whose places
/// are used again. A run in its steady state allocates nothing here.
#[derive(Clone, Debug)]
pub struct Events<E> {
    heap: BinaryHeap<Reverse<Key>>,
    slab: Vec<Option<E>>,
    free: Vec<u32>,
    sequence: u64,
    now: Time,
    processed: u64,
}

#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    at: Time,
    sequence: u64,
    slot: u32,
}

impl<E> Events<E> {
    /// An empty heap at the beginning of time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            slab: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            now: Time::ZERO,
            processed: 0,
        }
    }

    /// Adds an event.
    ///
    /// # Panics
    ///
    /// If `at` is before the event that came out last: time does not run backwards. A deadline
    /// that has passed is pushed at the current time.
    pub fn push(&mut self, at: Time, event: E) {
        assert!(at >= self.now, "an event at {at} pushed at {}", self.now);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slab[slot as usize] = Some(event);
                slot
            }
            None => {
                let slot = u32::try_from(self.slab.len()).expect("below four billion events");
                self.slab.push(Some(event));
                slot
            }
        };
        self.heap.push(Reverse(Key {
            at,
            sequence: self.sequence,
            slot,
        }));
        self.sequence += 1;
    }

    /// Takes out the earliest event, of equal times the one that was pushed first.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        let Reverse(key) = self.heap.pop()?;
        let event = self.slab[key.slot as usize]
            .take()
            .expect("a key has its event");
        self.free.push(key.slot);
        self.now = key.at;
        self.processed += 1;
        Some((key.at, event))
    }

    /// When the next event is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(key)| key.at)
    }

    /// The time of the event that came out last.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// How many events wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// How many have come out since the beginning: the count that throughput is measured in.
    #[must_use]
    pub fn processed(&self) -> u64 {
        self.processed
    }
}

impl<E> Default for Events<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_times_come_out_as_they_went_in() {
        let mut events = Events::new();
        for number in 0..1_000 {
            events.push(Time(number % 3), number);
        }
        let mut last = (Time::ZERO, None);
        while let Some((at, number)) = events.pop() {
            assert_eq!(at, Time(number % 3));
            assert!((at, Some(number)) > last);
            last = (at, Some(number));
        }
        assert_eq!(events.processed(), 1_000);
        assert!(events.is_empty());
    }

    #[test]
    #[should_panic(expected = "an event at 0.000000 s pushed at 0.001000 s")]
    fn time_does_not_run_backwards() {
        let mut events = Events::new();
        events.push(Time(1_000_000), ());
        events.pop();
        events.push(Time(1), ());
    }

    #[test]
    fn places_are_used_again() {
        let mut events = Events::new();
        for time in 0..10_000 {
            events.push(Time(time), time);
            events.push(Time(time + 1), time);
            events.pop();
            events.pop();
        }
        assert_eq!(events.slab.len(), 2);
    }

    proptest! {
        /// Pushes and pops in any order give what a sorted list gives.
        #[test]
        fn as_a_sorted_list(steps in prop::collection::vec(prop::option::of(0u64..20), 0..200)) {
            let mut events = Events::new();
            let mut list: Vec<(Time, usize)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Some(later) => {
                        let at = Time(events.now().0 + later);
                        events.push(at, number);
                        list.push((at, number));
                        list.sort_unstable();
                    }
                    None => {
                        let expected = (!list.is_empty()).then(|| list.remove(0));
                        prop_assert_eq!(events.next_at(), expected.map(|(at, _)| at));
                        prop_assert_eq!(events.pop(), expected);
                    }
                }
                prop_assert_eq!(events.len(), list.len());
            }
        }
    }
}
