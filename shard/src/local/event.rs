//! An event that many tasks may wait for at once.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;

/// Wakes everybody who listens. Listen first, then look at the condition, then wait: whatever
/// changes after `listen` is not missed.
///
/// ```
/// # use millrace_shard::local::Event;
/// # use std::cell::Cell;
/// # async fn example(ready: &Cell<bool>, changed: &Event) {
/// loop {
///     let listener = changed.listen();
///     if ready.get() {
///         break;
///     }
///     listener.await;
/// }
/// # }
/// ```
#[derive(Default)]
pub struct Event {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// How often the event has been notified. A listener is done when it differs from the count
    /// that the listener saw first.
    notified: Cell<u64>,
    next_listener: Cell<u64>,
    /// Those that have been polled and wait, by listener number.
    /// Mostly one: then it costs no memory of its own.
    waiting: RefCell<SmallVec<[(u64, Waker); 1]>>,
}

impl Event {
    /// An event that nobody has notified yet.
    #[must_use]
    pub fn new() -> Event {
        Event::default()
    }

    /// Begins to listen: the listener completes at the first [`Event::notify`] after this call.
    pub fn listen(&self) -> Listener {
        let number = self.inner.next_listener.get();
        self.inner.next_listener.set(number + 1);
        Listener {
            event: Rc::clone(&self.inner),
            seen: self.inner.notified.get(),
            number,
            registered: false,
        }
    }

    /// Wakes every present listener.
    pub fn notify(&self) {
        self.inner.notified.set(self.inner.notified.get() + 1);
        // Taken out first: a waker may run code that listens again.
        let waiting = std::mem::take(&mut *self.inner.waiting.borrow_mut());
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    /// Waits until `condition` holds, looking again at each notification.
    pub async fn wait_until(&self, mut condition: impl FnMut() -> bool) {
        loop {
            let listener = self.listen();
            if condition() {
                return;
            }
            listener.await;
        }
    }

    /// How many tasks wait at this moment.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.waiting.borrow().len()
    }
}

/// One wait for an [`Event`].
#[must_use = "a listener does nothing unless awaited"]
pub struct Listener {
    event: Rc<Inner>,
    seen: u64,
    number: u64,
    registered: bool,
}

impl Listener {
    /// Whether the event has been notified since.
    #[must_use]
    pub fn is_notified(&self) -> bool {
        self.event.notified.get() != self.seen
    }
}

impl Future for Listener {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_notified() {
            self.registered = false;
            return Poll::Ready(());
        }
        let number = self.number;
        let known = self.registered;
        let mut waiting = self.event.waiting.borrow_mut();
        match waiting
            .iter_mut()
            .find(|(other, _)| known && *other == number)
        {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => waiting.push((number, context.waker().clone())),
        }
        drop(waiting);
        self.registered = true;
        Poll::Pending
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.registered {
            let removed = {
                let mut waiting = self.event.waiting.borrow_mut();
                let place = waiting
                    .iter()
                    .position(|(number, _)| *number == self.number);
                place.map(|place| waiting.swap_remove(place))
            };
            // Dropped only now: dropping the last waker of a task may run code that listens.
            drop(removed);
        }
    }
}
