//! Waiting on one thread: an [`Event`], a [`oneshot`] slot, a bounded [`queue`] and a
//! [`Semaphore`]. They serve any executor, so the same code waits in production and in a
//! simulation. Every one lives on the shard that made it (nothing here is `Send`), takes no lock,
//! never blocks, and is safe to cancel: a wait that is dropped has taken nothing and loses nobody
//! else's wake-up.

mod event;
mod oneshot;
mod queue;
mod semaphore;

pub use event::{Event, Listener};
pub use oneshot::{OneshotReceiver, OneshotSender, SenderDropped, oneshot};
pub use queue::{Closed, Receiver, Sender, TrySendError, queue};
pub use semaphore::{Acquire, Permit, Semaphore};

/// A [`Semaphore`] whose permits are bytes.
pub type Budget = Semaphore;

#[cfg(test)]
mod tests;
