//! Passing on: the queue of updates that ride on packets, each a bounded number of times, those
//! sent least often first (SWIM section 4.1).
//!
//! An update of a subject replaces the queued one of the same subject, so the queue never holds
//! what is already overtaken, and never more than there are subjects.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// One queued update.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Update {
    bytes: Vec<u8>,
    sent: u32,
    /// When it was queued, as a count: among those sent equally often, the newest goes first.
    stamp: u64,
}

/// After how many updates that do not fit the search for one that does is given up.
const MOST_MISFITS: usize = 8;

/// The queue of one kind of subjects.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Dissemination<K: Ord> {
    updates: BTreeMap<K, Update>,
    order: BTreeSet<(u32, Reverse<u64>, K)>,
    stamps: u64,
}

impl<K: Copy + Ord> Dissemination<K> {
    pub(crate) fn new() -> Dissemination<K> {
        Dissemination {
            updates: BTreeMap::new(),
            order: BTreeSet::new(),
            stamps: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.updates.is_empty()
    }

    /// Whether something is queued of a subject.
    pub(crate) fn holds(&self, subject: K) -> bool {
        self.updates.contains_key(&subject)
    }

    /// Queues an update, in place of one of the same subject.
    pub(crate) fn queue(&mut self, subject: K, bytes: Vec<u8>) {
        self.drop_subject(subject);
        self.stamps += 1;
        let update = Update {
            bytes,
            sent: 0,
            stamp: self.stamps,
        };
        self.order.insert((0, Reverse(update.stamp), subject));
        self.updates.insert(subject, update);
    }

    /// Takes back what is queued of a subject.
    pub(crate) fn drop_subject(&mut self, subject: K) {
        if let Some(old) = self.updates.remove(&subject) {
            self.order.remove(&(old.sent, Reverse(old.stamp), subject));
        }
    }

    /// Appends updates to `packet` up to `most_bytes` in all, except of `skipped`. Each that was
    /// then sent `most_times` leaves the queue.
    pub(crate) fn fill(
        &mut self,
        packet: &mut Vec<u8>,
        most_bytes: usize,
        most_times: u32,
        skipped: Option<K>,
    ) {
        let mut sent = Vec::new();
        let mut misfits = 0;
        for place in &self.order {
            let subject = place.2;
            let Some(update) = self.updates.get(&subject) else {
                continue;
            };
            if Some(subject) == skipped {
                continue;
            }
            if packet.len() + update.bytes.len() > most_bytes {
                misfits += 1;
                if misfits >= MOST_MISFITS {
                    break;
                }
                continue;
            }
            packet.extend_from_slice(&update.bytes);
            sent.push(*place);
        }
        for place in sent {
            self.count(place, most_times);
        }
    }

    fn count(&mut self, place: (u32, Reverse<u64>, K), most_times: u32) {
        self.order.remove(&place);
        let (sent, stamp, subject) = place;
        if sent + 1 >= most_times {
            self.updates.remove(&subject);
        } else if let Some(update) = self.updates.get_mut(&subject) {
            update.sent = sent + 1;
            self.order.insert((sent + 1, stamp, subject));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.updates.len(), self.order.len());
        self.updates.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Dissemination;

    fn filled(queue: &mut Dissemination<u32>, most_bytes: usize, most_times: u32) -> Vec<u8> {
        let mut packet = Vec::new();
        queue.fill(&mut packet, most_bytes, most_times, None);
        packet
    }

    #[test]
    fn each_update_is_sent_a_bounded_number_of_times() {
        let mut queue = Dissemination::new();
        queue.queue(1, vec![1]);
        let sent = (0..20)
            .filter(|_| !filled(&mut queue, 100, 8).is_empty())
            .count();
        assert_eq!(sent, 8);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_newer_update_of_a_subject_replaces_the_queued_one() {
        let mut queue = Dissemination::new();
        queue.queue(1, vec![1]);
        filled(&mut queue, 100, 3);
        queue.queue(1, vec![2]);
        let sent: Vec<_> = (0..4).map(|_| filled(&mut queue, 100, 3)).collect();
        assert_eq!(sent, [vec![2], vec![2], vec![2], vec![]]);
        queue.queue(1, vec![3]);
        queue.drop_subject(1);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_was_sent_least_goes_first_and_the_newest_before_older() {
        let mut queue = Dissemination::new();
        queue.queue(1, vec![1]);
        assert_eq!(filled(&mut queue, 1, 9), [1]);
        queue.queue(2, vec![2]);
        queue.queue(3, vec![3]);
        assert_eq!(filled(&mut queue, 3, 9), [3, 2, 1]);
        assert_eq!(filled(&mut queue, 2, 9), [3, 2]);
        assert_eq!(filled(&mut queue, 1, 9), [3], "all had two turns");
    }

    #[test]
    fn an_update_that_does_not_fit_does_not_hold_up_smaller_ones() {
        let mut queue = Dissemination::new();
        queue.queue(1, vec![1]);
        queue.queue(2, vec![2; 50]);
        assert_eq!(filled(&mut queue, 10, 9), [1]);
        assert_eq!(queue.len(), 2);
    }
}
