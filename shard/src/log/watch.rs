//! Waiting for new data without polling. A fetch registers its [`Event`] with each partition it is
//! interested in, *then* reads, then waits: whatever becomes visible after the registration wakes it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use millrace_wire::ids::Offset;

use crate::local::Event;

/// Who waits for one partition.
#[derive(Default)]
pub(crate) struct Watchers {
    waiting: RefCell<Vec<Watcher>>,
    next: Cell<u64>,
}

struct Watcher {
    number: u64,
    beyond: Offset,
    event: Rc<Event>,
}

impl Watchers {
    /// Registers `event`, to be notified whenever the high watermark is beyond `beyond`.
    pub(crate) fn add(self: &Rc<Self>, beyond: Offset, event: &Rc<Event>) -> Registration {
        let number = self.next.get();
        self.next.set(number + 1);
        self.waiting.borrow_mut().push(Watcher {
            number,
            beyond,
            event: Rc::clone(event),
        });
        Registration {
            watchers: Rc::downgrade(self),
            number,
        }
    }

    /// Wakes those for whom `visible` is far enough; how many that were.
    pub(crate) fn advanced(&self, visible: Offset) -> u64 {
        let mut woken = 0;
        // A notification only marks tasks as runnable, it runs none, so the borrow is safe.
        for watcher in self.waiting.borrow().iter() {
            if visible > watcher.beyond {
                watcher.event.notify();
                woken += 1;
            }
        }
        woken
    }

    /// Wakes everybody: the partition's status changed.
    pub(crate) fn changed(&self) {
        for watcher in self.waiting.borrow().iter() {
            watcher.event.notify();
        }
    }
}

/// A watch on one partition; dropping it ends the watch.
#[must_use = "the watch ends as soon as this is dropped"]
pub struct Registration {
    watchers: Weak<Watchers>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(watchers) = self.watchers.upgrade() else {
            return;
        };
        let mut waiting = watchers.waiting.borrow_mut();
        if let Some(place) = waiting
            .iter()
            .position(|watcher| watcher.number == self.number)
        {
            waiting.swap_remove(place);
            if waiting.is_empty() {
                // An idle partition keeps no memory for a crowd that has left.
                *waiting = Vec::new();
            }
        }
    }
}
