//! A slot for one value, from one task to another.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Slot<T> {
    value: Option<T>,
    sender_gone: bool,
    receiver_gone: bool,
    waiting: Option<Waker>,
}

/// The sender went away without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side went away without an answer")]
pub struct SenderDropped;

/// Makes a slot for one value.
pub fn oneshot<T>() -> (OneshotSender<T>, OneshotReceiver<T>) {
    let slot = Rc::new(RefCell::new(Slot {
        value: None,
        sender_gone: false,
        receiver_gone: false,
        waiting: None,
    }));
    (
        OneshotSender {
            slot: Rc::clone(&slot),
        },
        OneshotReceiver { slot },
    )
}

/// The side that fills the slot. Dropping it tells the receiver that nothing will come.
pub struct OneshotSender<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> OneshotSender<T> {
    /// Fills the slot. Gives the value back if nobody waits for it any more.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut slot = self.slot.borrow_mut();
        if slot.receiver_gone {
            return Err(value);
        }
        slot.value = Some(value);
        Ok(())
        // Dropping `self` wakes the receiver.
    }

    /// Whether the receiver has gone away.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.slot.borrow().receiver_gone
    }
}

impl<T> Drop for OneshotSender<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut slot = self.slot.borrow_mut();
            slot.sender_gone = true;
            slot.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

/// The side that waits for the value.
#[must_use = "a receiver does nothing unless awaited"]
pub struct OneshotReceiver<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Future for OneshotReceiver<T> {
    type Output = Result<T, SenderDropped>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.slot.borrow_mut();
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Ok(value));
        }
        if slot.sender_gone {
            return Poll::Ready(Err(SenderDropped));
        }
        slot.waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for OneshotReceiver<T> {
    fn drop(&mut self) {
        let leftover = {
            let mut slot = self.slot.borrow_mut();
            slot.receiver_gone = true;
            (slot.value.take(), slot.waiting.take())
        };
        drop(leftover);
    }
}
