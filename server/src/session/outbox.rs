//! What waits to be sent on one connection. Its length is bounded by the requests under way, since
//! every response holds its request's place until it was sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use millrace_shard::local::{Event, Permit};
use millrace_wire::kafka::Sink;

/// Memory for small responses that a connection keeps between two rounds.
const KEPT_BYTES: usize = 16 * 1024;

/// Responses ready to be sent, one behind the other.
#[derive(Default)]
pub struct Outgoing {
    pieces: VecDeque<Bytes>,
    /// What follows the pieces: small responses are written side by side and sent as one piece.
    written: BytesMut,
    /// What is held until all of it was sent: the requests' places, and memory.
    held: Vec<Permit>,
}

impl Outgoing {
    /// Where small responses are written, behind everything that was added before.
    pub fn small(&mut self) -> &mut BytesMut {
        &mut self.written
    }

    /// Adds bytes as they are.
    pub fn splice(&mut self, piece: Bytes) {
        self.end_piece();
        self.pieces.push_back(piece);
    }

    /// Adds everything of another one, and what it holds.
    pub fn append(&mut self, mut other: Outgoing) {
        self.end_piece();
        other.end_piece();
        self.pieces.append(&mut other.pieces);
        self.held.append(&mut other.held);
    }

    /// Holds something until all of this was sent.
    pub fn hold(&mut self, permit: Permit) {
        self.held.push(permit);
    }

    /// Everything in pieces, to be sent one after the other.
    pub fn pieces(&mut self) -> &mut VecDeque<Bytes> {
        self.end_piece();
        &mut self.pieces
    }

    /// Gives back what is held, and forgets what is left.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.held.clear();
        self.written.clear();
        if self.written.capacity() > KEPT_BYTES {
            self.written = BytesMut::new();
        }
    }

    fn end_piece(&mut self) {
        if !self.written.is_empty() {
            self.pieces.push_back(self.written.split().freeze());
        }
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.written.is_empty()
    }
}

impl Sink for Outgoing {
    fn small(&mut self) -> &mut BytesMut {
        Outgoing::small(self)
    }

    fn splice(&mut self, batch: Bytes) {
        Outgoing::splice(self, batch);
    }
}

/// Answers that become ready without anybody pushing them.
pub trait Answers {
    /// Adds those that are ready. Whoever holds answers back notifies the outbox
    /// ([`Outbox::filled`]) when there may be more.
    fn collect(&self, into: &mut Outgoing);
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
    waiting: RefCell<Outgoing>,
    answers: RefCell<Option<Weak<dyn Answers>>>,
    state: Cell<State>,
    /// Something waits to be sent, or the end has come.
    filled: Rc<Event>,
    /// The end has come.
    ended: Event,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox {
            waiting: RefCell::default(),
            answers: RefCell::default(),
            state: Cell::new(State::Open),
            filled: Rc::default(),
            ended: Event::new(),
        }
    }
}

impl Outbox {
    /// Lets `add` add responses. After the end there is no adding, and what `add` holds is given
    /// back.
    pub fn add(&self, add: impl FnOnce(&mut Outgoing)) {
        if self.state.get() == State::Open {
            add(&mut self.waiting.borrow_mut());
            self.filled.notify();
        }
    }

    /// Takes answers from here, too.
    pub fn take_from(&self, answers: Weak<dyn Answers>) {
        *self.answers.borrow_mut() = Some(answers);
    }

    /// Notify this when there may be answers to collect.
    #[must_use]
    pub fn filled(&self) -> &Rc<Event> {
        &self.filled
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
        let dropped = std::mem::take(&mut *self.waiting.borrow_mut());
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

    /// Takes everything that waits, as soon as something does, in exchange for what `emptied` was
    /// and its memory. False when the end has come and nothing is left.
    pub async fn take_all(&self, emptied: &mut Outgoing) -> bool {
        emptied.clear();
        self.filled
            .wait_until(|| {
                self.collect();
                !self.waiting.borrow().is_empty() || self.is_closed()
            })
            .await;
        std::mem::swap(&mut *self.waiting.borrow_mut(), emptied);
        !emptied.is_empty()
    }

    fn collect(&self) {
        if self.state.get() != State::Open {
            return;
        }
        let answers = self.answers.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(answers) = answers {
            answers.collect(&mut self.waiting.borrow_mut());
        }
    }
}
