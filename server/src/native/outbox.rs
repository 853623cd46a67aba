//! What waits to be sent on one connection. Its length is bounded by the requests under way, since
//! every response holds its request's place until it was sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use bytes::Bytes;
use millrace_shard::local::{Event, Permit};

/// A response, ready to be sent.
#[derive(Default)]
pub struct Outgoing {
    /// The frame in pieces, to be sent one after the other.
    pub pieces: Vec<Bytes>,
    /// What is held until it was sent: the request's place, and memory.
    pub held: Vec<Permit>,
}

impl Outgoing {
    /// Bytes of the frame.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

/// What a connection is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Send what comes.
    Open,
    /// Send what is there, and then close.
    Closing,
    /// Close at once.
    Aborted,
}

/// Responses on their way to the one task that sends them.
pub struct Outbox {
    queue: RefCell<VecDeque<Outgoing>>,
    state: Cell<State>,
    /// Something waits to be sent, or the end has come.
    filled: Event,
    /// The end has come.
    ended: Event,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox {
            queue: RefCell::default(),
            state: Cell::new(State::Open),
            filled: Event::new(),
            ended: Event::new(),
        }
    }
}

impl Outbox {
    /// Adds a response. After the end it is dropped, and what it holds is given back.
    pub fn push(&self, outgoing: Outgoing) {
        if self.state.get() == State::Open {
            self.queue.borrow_mut().push_back(outgoing);
            self.filled.notify();
        }
    }

    /// Nothing more will be added; what is there is still sent.
    pub fn close(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Closing);
        }
        self.filled.notify();
        self.ended.notify();
    }

    /// Nothing more will be sent.
    pub fn abort(&self) {
        self.state.set(State::Aborted);
        let dropped = std::mem::take(&mut *self.queue.borrow_mut());
        drop(dropped);
        self.filled.notify();
        self.ended.notify();
    }

    /// Whether the connection takes no more requests.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.get() != State::Open
    }

    /// Ready when the connection takes no more requests.
    pub async fn closed(&self) {
        self.ended.wait_until(|| self.is_closed()).await;
    }

    /// Ready when nothing more may be sent.
    pub async fn aborted(&self) {
        self.ended
            .wait_until(|| self.state.get() == State::Aborted)
            .await;
    }

    /// Everything that waits, as soon as something does; nothing when the end has come.
    pub async fn take_all(&self) -> Option<VecDeque<Outgoing>> {
        self.filled
            .wait_until(|| !self.queue.borrow().is_empty() || self.is_closed())
            .await;
        let taken = std::mem::take(&mut *self.queue.borrow_mut());
        (!taken.is_empty()).then_some(taken)
    }
}
