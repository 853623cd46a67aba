//! The watermarks of one partition replica. They only grow and keep their order; both are asserted
//! at every change, because everything a client is told rests on them.

use std::cell::Cell;

use millrace_wire::ids::Offset;

/// How far a partition has come. Every field is an end: the first offset that is *not* yet so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset that is retained.
    pub log_start: Offset,
    /// Readable by consumers: the high watermark.
    pub visible: Offset,
    /// Durable at a quorum.
    pub committed: Offset,
    /// On this node's disk.
    pub durable: Offset,
    /// In memory.
    pub appended: Offset,
}

impl Watermarks {
    /// A log that begins at `log_start` and holds everything up to `end`, all of it readable.
    #[must_use]
    pub fn settled(log_start: Offset, end: Offset) -> Watermarks {
        Watermarks {
            log_start,
            visible: end,
            committed: end,
            durable: end,
            appended: end,
        }
    }

    fn in_order(&self) -> bool {
        self.log_start <= self.visible
            && self.visible <= self.committed
            && self.committed <= self.durable
            && self.durable <= self.appended
    }

    fn not_behind(&self, earlier: &Watermarks) -> bool {
        self.log_start >= earlier.log_start
            && self.visible >= earlier.visible
            && self.committed >= earlier.committed
            && self.durable >= earlier.durable
            && self.appended >= earlier.appended
    }
}

/// The watermarks as a partition keeps them.
#[derive(Debug)]
pub(crate) struct Marks(Cell<Watermarks>);

impl Marks {
    pub(crate) fn new(start: Watermarks) -> Marks {
        assert!(start.in_order(), "watermarks out of order: {start:?}");
        Marks(Cell::new(start))
    }

    pub(crate) fn get(&self) -> Watermarks {
        self.0.get()
    }

    /// Changes them. Panics if one of them shrank or they lost their order.
    pub(crate) fn raise(&self, change: impl FnOnce(&mut Watermarks)) {
        let before = self.0.get();
        let mut after = before;
        change(&mut after);
        assert!(
            after.in_order() && after.not_behind(&before),
            "watermarks may only grow, in their order: {before:?} to {after:?}"
        );
        self.0.set(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_grow_in_order() {
        let marks = Marks::new(Watermarks::settled(Offset(3), Offset(5)));
        marks.raise(|w| w.appended = Offset(8));
        marks.raise(|w| w.durable = Offset(8));
        marks.raise(|w| w.committed = Offset(7));
        marks.raise(|w| w.visible = Offset(6));
        assert_eq!(marks.get().visible, Offset(6));
        assert_eq!(marks.get().appended, Offset(8));
    }

    #[test]
    #[should_panic(expected = "watermarks may only grow")]
    fn a_mark_that_shrinks_is_a_bug() {
        let marks = Marks::new(Watermarks::settled(Offset(3), Offset(5)));
        marks.raise(|w| w.visible = Offset(4));
    }

    #[test]
    #[should_panic(expected = "watermarks may only grow")]
    fn visible_before_durable_is_a_bug() {
        let marks = Marks::new(Watermarks::settled(Offset(0), Offset(0)));
        marks.raise(|w| w.appended = Offset(4));
        marks.raise(|w| w.visible = Offset(4));
    }
}
