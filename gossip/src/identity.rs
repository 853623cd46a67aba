//! Who a member is, and which of its lives and claims is meant.

use std::fmt;

/// A node's number, unique in its cluster for as long as the node's data directory lives.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// Which start of a node this is.
///
/// The driver keeps it on disk and raises it, durably, before each start; it must never be used
/// twice. A node that lost it may begin at one again: it learns its earlier lives from the others
/// and raises the epoch above them ([`Event::BootEpochRaised`](crate::Event::BootEpochRaised)).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BootEpoch(pub u32);

impl BootEpoch {
    /// The next one, if there is one.
    #[must_use]
    pub fn next(self) -> Option<BootEpoch> {
        self.0.checked_add(1).map(BootEpoch)
    }
}

/// One run of a node, as authentication tells them apart: the boot epoch, and a number drawn at
/// the start. The latter matters to a node that lost its disk and counts its epochs anew: what was
/// recorded of an earlier life with the same epoch is not taken for this one's.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Life {
    pub(crate) boot: BootEpoch,
    pub(crate) nonce: u32,
}

/// Orders what is claimed of one node: `boot epoch << 32 | counter`.
///
/// Only its owner raises it, to refute or to publish a new record; that is what lets an "alive"
/// win over a "suspect" (SWIM section 4.2). A restarted node supersedes all it ever said, because
/// its boot epoch is greater.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The first of a life.
    #[must_use]
    pub fn first(boot: BootEpoch) -> Incarnation {
        Incarnation(u64::from(boot.0) << 32)
    }

    /// As it is sent.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// From what was received.
    #[must_use]
    pub fn from_bits(bits: u64) -> Incarnation {
        Incarnation(bits)
    }

    /// The life that it belongs to.
    #[must_use]
    pub fn boot(self) -> BootEpoch {
        BootEpoch((self.0 >> 32) as u32)
    }

    /// How often it was raised in that life.
    #[must_use]
    pub fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The next one of the same life; none when the counter is used up.
    #[must_use]
    pub fn next_in_life(self) -> Option<Incarnation> {
        self.counter().checked_add(1)?;
        Some(Incarnation(self.0 + 1))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.boot().0, self.counter())
    }
}

#[cfg(test)]
mod tests {
    use super::{BootEpoch, Incarnation};

    #[test]
    fn a_later_life_supersedes_every_claim_of_an_earlier_one() {
        let mut last = Incarnation::first(BootEpoch(3));
        for _ in 0..1_000 {
            last = last.next_in_life().unwrap();
        }
        assert!(Incarnation::first(BootEpoch(4)) > last);
        assert_eq!((last.boot(), last.counter()), (BootEpoch(3), 1_000));
    }

    #[test]
    fn the_counter_does_not_run_over_into_the_next_life() {
        let last = Incarnation::from_bits(7 << 32 | u64::from(u32::MAX));
        assert_eq!(last.next_in_life(), None);
        assert_eq!(BootEpoch(u32::MAX).next(), None);
    }
}
