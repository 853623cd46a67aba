//! How far a shard's journal has been taken in: groups become durable in order, so one number says
//! of every append whether it is safe, and whoever waits for one is told once per group, however
//! many of its batches were in it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::error::StorageError;
use crate::journal::Sequence;
use crate::local::Event;

/// The last group whose batches are durable and visible, and who waits for which. Groups that
/// somebody waits for are at most those between an append and the disk.
pub(crate) struct Settled {
    through: Cell<Sequence>,
    /// Nothing more will settle.
    over: Cell<bool>,
    /// In the order of the groups.
    waiting: RefCell<VecDeque<(Sequence, Vec<Rc<Event>>)>>,
}

impl Settled {
    pub(crate) fn new() -> Settled {
        Settled {
            through: Cell::new(Sequence(0)),
            over: Cell::new(false),
            waiting: RefCell::default(),
        }
    }

    /// Everything up to this group is durable and visible.
    pub(crate) fn advance(&self, through: Sequence) {
        assert!(
            through > self.through.get(),
            "groups become durable in order, each once"
        );
        self.through.set(through);
        let mut waiting = self.waiting.borrow_mut();
        while waiting.front().is_some_and(|(group, _)| *group <= through) {
            let (_, events) = waiting.pop_front().expect("it was looked at just now");
            // A notification only marks tasks as runnable, it runs none, so the borrow is safe.
            events.iter().for_each(|event| event.notify());
        }
    }

    /// The journal has closed: what has not settled never will.
    pub(crate) fn end(&self) {
        self.over.set(true);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        let events = waiting.iter().flat_map(|(_, events)| events);
        events.for_each(|event| event.notify());
    }

    fn outcome(&self, group: Sequence) -> Option<Result<(), StorageError>> {
        if group <= self.through.get() {
            return Some(Ok(()));
        }
        // The journal goes away without an answer only when the shard closes or stops.
        self.over.get().then_some(Err(StorageError::ShuttingDown))
    }

    fn watch(&self, group: Sequence, event: &Rc<Event>) {
        if self.outcome(group).is_some() {
            event.notify();
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        // Nearly always the last group, or the one before it.
        let place = waiting.iter().rposition(|(other, _)| *other <= group);
        match place {
            Some(place) if waiting[place].0 == group => {
                waiting[place].1.push(Rc::clone(event));
            }
            place => {
                let place = place.map_or(0, |place| place + 1);
                waiting.insert(place, (group, vec![Rc::clone(event)]));
            }
        }
    }
}

/// Tells when an append is durable and visible. Dropping it takes nothing back.
#[derive(Clone)]
#[must_use = "the records are not safe until this says so"]
pub struct Durable {
    settled: Rc<Settled>,
    group: Sequence,
}

impl Durable {
    pub(crate) fn new(settled: Rc<Settled>, group: Sequence) -> Durable {
        Durable { settled, group }
    }

    /// How it went, if that is decided.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), StorageError>> {
        self.settled.outcome(self.group)
    }

    /// Whether it is decided later than another one of the same shard, and not together with it.
    #[must_use]
    pub fn is_after(&self, other: &Durable) -> bool {
        self.group > other.group
    }

    /// Notifies `event`, once, when it is decided. Appends of one shard are decided in the order in
    /// which they got their places (a duplicate with its original), so that whoever has many under
    /// way watches one at a time.
    pub fn watch(&self, event: &Rc<Event>) {
        self.settled.watch(self.group, event);
    }

    /// Waits until it is decided.
    pub async fn wait(self) -> Result<(), StorageError> {
        let event = Rc::new(Event::new());
        loop {
            let decided = event.listen();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            self.watch(&event);
            decided.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_once_and_in_order() {
        let settled = Rc::new(Settled::new());
        let events: Vec<_> = (0..4).map(|_| Rc::new(Event::new())).collect();
        let listeners: Vec<_> = events.iter().map(|event| event.listen()).collect();
        for (event, group) in events.iter().zip([7, 5, 6, 7]) {
            Durable::new(Rc::clone(&settled), Sequence(group)).watch(event);
        }
        let order: Vec<_> = settled
            .waiting
            .borrow()
            .iter()
            .map(|(g, e)| (g.0, e.len()))
            .collect();
        assert_eq!(order, [(5, 1), (6, 1), (7, 2)]);
        settled.advance(Sequence(6));
        let told: Vec<_> = listeners
            .iter()
            .map(|listener| listener.is_notified())
            .collect();
        assert_eq!(told, [false, true, true, false]);
        let durable = Durable::new(Rc::clone(&settled), Sequence(7));
        assert!(durable.outcome().is_none());
        settled.end();
        assert!(matches!(
            durable.outcome(),
            Some(Err(StorageError::ShuttingDown))
        ));
        assert!(listeners.iter().all(|listener| listener.is_notified()));
        assert!(matches!(
            Durable::new(settled, Sequence(6)).outcome(),
            Some(Ok(()))
        ));
    }
}
