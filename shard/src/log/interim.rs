//! A journal that keeps nothing, with the signatures of the real one, until that is there.
#![allow(missing_docs, dead_code)]
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

use crate::journal::{Entry, JournalError, JournalOwner, Sequence};
use crate::local::Event;

pub struct JournalClosed;
pub struct Journal<E, T> {
    tokens: RefCell<Vec<T>>,
    event: Event,
    closed: Cell<bool>,
    sequence: Cell<u64>,
    env: PhantomData<E>,
}

impl<E, T: 'static> Journal<E, T> {
    pub fn start(_owner: Rc<dyn JournalOwner>) -> Result<Rc<Self>, JournalError> {
        Ok(Rc::new(Journal {
            tokens: RefCell::default(),
            event: Event::new(),
            closed: Cell::new(false),
            sequence: Cell::new(0),
            env: PhantomData,
        }))
    }
    pub fn append(&self, _entry: Entry<'_>, token: T) -> Result<Sequence, JournalClosed> {
        if self.closed.get() {
            return Err(JournalClosed);
        }
        self.sequence.set(self.sequence.get() + 1);
        self.tokens.borrow_mut().push(token);
        self.event.notify();
        Ok(Sequence(self.sequence.get()))
    }
    pub async fn room(&self, _bytes: usize) {}
    pub async fn next_durable(&self) -> Option<Vec<T>> {
        self.event
            .wait_until(|| !self.tokens.borrow().is_empty() || self.closed.get())
            .await;
        let tokens = std::mem::take(&mut *self.tokens.borrow_mut());
        (!tokens.is_empty()).then_some(tokens)
    }
    pub async fn next_flush_below(&self) -> Option<Sequence> {
        self.event.wait_until(|| self.closed.get()).await;
        None
    }
    pub fn note_safe(&self) {}
    pub async fn close(&self) {
        self.closed.set(true);
        self.event.notify();
    }
}
