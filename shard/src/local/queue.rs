//! A bounded queue between tasks of one shard: many senders, one receiver.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::semaphore::{Permit, Semaphore};

struct Shared<T> {
    /// Each item holds the permit that makes the queue bounded.
    items: VecDeque<(T, Permit)>,
    senders: usize,
    receiver_gone: bool,
    /// A sender said that nothing more will come.
    closed: bool,
    waiting: Option<Waker>,
}

/// The receiver went away or the queue was closed; the value comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is closed")]
pub struct Closed<T>(pub T);

/// Why a value was not queued at once; the value comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// The queue is full at the moment.
    #[error("the queue is full")]
    Full(T),
    /// The receiver went away or the queue was closed.
    #[error("the queue is closed")]
    Closed(T),
}

/// Makes a queue that holds at most `capacity` items, at least one.
#[must_use]
pub fn queue<T>(capacity: u32) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(RefCell::new(Shared {
        items: VecDeque::new(),
        senders: 1,
        receiver_gone: false,
        closed: false,
        waiting: None,
    }));
    let room = Semaphore::new(u64::from(capacity.max(1)));
    (
        Sender {
            shared: Rc::clone(&shared),
            room: room.clone(),
        },
        Receiver { shared, room },
    )
}

/// Puts items in; clone it for more senders.
pub struct Sender<T> {
    shared: Rc<RefCell<Shared<T>>>,
    room: Semaphore,
}

impl<T> Sender<T> {
    /// Queues `value`, waiting for room. Senders get room in the order in which they came. If this
    /// future is dropped before it completes, the value has not been queued.
    pub async fn send(&self, value: T) -> Result<(), Closed<T>> {
        let permit = self.room.acquire(1).await;
        self.put(value, permit)
    }

    /// Queues `value` if there is room now and nobody waits for it.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if self.is_closed() {
            return Err(TrySendError::Closed(value));
        }
        match self.room.try_acquire(1) {
            Some(permit) => self
                .put(value, permit)
                .map_err(|Closed(value)| TrySendError::Closed(value)),
            None => Err(TrySendError::Full(value)),
        }
    }

    /// Whether the receiver has gone away or a sender has closed the queue.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let shared = self.shared.borrow();
        shared.receiver_gone || shared.closed
    }

    /// Ends the queue for all senders: the receiver gets what is queued, then nothing.
    pub fn close(&self) {
        let waiting = {
            let mut shared = self.shared.borrow_mut();
            shared.closed = true;
            shared.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
        // Senders that wait for room learn that it is over.
        self.room.open();
    }

    fn put(&self, value: T, permit: Permit) -> Result<(), Closed<T>> {
        let waiting = {
            let mut shared = self.shared.borrow_mut();
            if shared.receiver_gone || shared.closed {
                return Err(Closed(value));
            }
            shared.items.push_back((value, permit));
            shared.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.borrow_mut().senders += 1;
        Sender {
            shared: Rc::clone(&self.shared),
            room: self.room.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut shared = self.shared.borrow_mut();
            shared.senders -= 1;
            if shared.senders == 0 {
                shared.waiting.take()
            } else {
                None
            }
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

/// Takes items out.
pub struct Receiver<T> {
    shared: Rc<RefCell<Shared<T>>>,
    room: Semaphore,
}

impl<T> Receiver<T> {
    /// The next item; none when every sender has gone and the queue is empty. Dropping this future
    /// takes nothing.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| {
            let mut shared = self.shared.borrow_mut();
            if let Some((value, permit)) = shared.items.pop_front() {
                drop(shared);
                drop(permit);
                return Poll::Ready(Some(value));
            }
            if shared.senders == 0 || shared.closed {
                return Poll::Ready(None);
            }
            shared.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The next item, if there is one now.
    pub fn try_recv(&mut self) -> Option<T> {
        let item = self.shared.borrow_mut().items.pop_front();
        item.map(|(value, _permit)| value)
    }

    /// How many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.borrow().items.len()
    }

    /// Whether no item waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let leftover = {
            let mut shared = self.shared.borrow_mut();
            shared.receiver_gone = true;
            (std::mem::take(&mut shared.items), shared.waiting.take())
        };
        drop(leftover);
        // Senders that wait for room must learn that none will be needed.
        self.room.open();
    }
}
