//! Answers in the order of their requests. Each request gets a place when it comes; whoever works it
//! out fills the place, and the connection's sender takes what is ready from the front. Requests run
//! concurrently all the same.
//!
//! Produce requests that this shard's journal alone decides need nobody to fill their places: the
//! sender sees for itself when they are decided.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use millrace_shard::env::{Env, Instant};
use millrace_shard::local::Event;

use super::produce::Produced;
use crate::broker::UnderWay;
use crate::session::Held;
use crate::session::guard::DeadlineGuard;
use crate::session::outbox::Outgoing;

/// One connection's places.
pub(super) struct Replies<E: Env> {
    places: RefCell<VecDeque<Place<E>>>,
    /// The number of the first of them.
    first: Cell<u64>,
    pub(super) guard: DeadlineGuard,
}

/// What is told to whoever works a request out: where its answer goes.
#[derive(Clone, Copy)]
pub(super) struct PlaceNumber(u64);

struct Place<E: Env> {
    answer: Answer<E>,
    held: Held,
    /// Counts the request until it is answered.
    _under_way: UnderWay<E>,
}

enum Answer<E: Env> {
    /// Somebody works on it.
    Awaited,
    /// Here it is.
    Ready(Outgoing),
    /// It is what this shard's journal decides.
    Produced(Produced<E>),
}

impl<E: Env> Answer<E> {
    fn is_ready(&self) -> bool {
        match self {
            Answer::Awaited => false,
            Answer::Ready(_) => true,
            Answer::Produced(produced) => produced.is_decided(),
        }
    }
}

impl<E: Env> Default for Replies<E> {
    fn default() -> Replies<E> {
        Replies {
            places: RefCell::default(),
            first: Cell::new(0),
            guard: DeadlineGuard::default(),
        }
    }
}

impl<E: Env> Replies<E> {
    /// Gives a request its place; somebody fills it.
    pub(super) fn await_answer(&self, held: Held, under_way: UnderWay<E>) -> PlaceNumber {
        let mut places = self.places.borrow_mut();
        let number = self.first.get() + places.len() as u64;
        places.push_back(Place {
            answer: Answer::Awaited,
            held,
            _under_way: under_way,
        });
        PlaceNumber(number)
    }

    /// Gives a produce request that is being made durable its place. `ready` hears when it is decided.
    pub(super) fn await_journal(
        &self,
        produced: Produced<E>,
        held: Held,
        under_way: UnderWay<E>,
        ready: &Rc<Event>,
    ) {
        let mut places = self.places.borrow_mut();
        if places.is_empty() {
            produced.batches.watch(ready);
        }
        places.push_back(Place {
            answer: Answer::Produced(produced),
            held,
            _under_way: under_way,
        });
    }

    /// Puts an answer in its place.
    pub(super) fn fill(&self, number: PlaceNumber, answer: Outgoing) {
        let mut places = self.places.borrow_mut();
        let place = usize::try_from(number.0 - self.first.get()).unwrap_or(usize::MAX);
        if let Some(place) = places.get_mut(place) {
            place.answer = Answer::Ready(answer);
        }
    }

    /// Takes what is ready, from the front.
    pub(super) fn collect(&self, into: &mut Outgoing, ready: &Rc<Event>) {
        let mut places = self.places.borrow_mut();
        let mut collected = false;
        while places.front().is_some_and(|place| place.answer.is_ready()) {
            let place = places.pop_front().expect("it was looked at just now");
            self.first.set(self.first.get() + 1);
            collected = true;
            match place.answer {
                Answer::Awaited => unreachable!("it is ready"),
                Answer::Ready(answer) => into.append(answer),
                Answer::Produced(produced) => produced.write(into.small()),
            }
            into.hold(place.held.place);
        }
        if collected
            && let Some(Place {
                answer: Answer::Produced(first),
                ..
            }) = places.front()
        {
            first.batches.watch(ready);
        }
    }

    /// Lets go of what has not been decided by `now` and should have been.
    pub(super) fn give_up(&self, now: Instant) {
        for place in self.places.borrow_mut().iter_mut() {
            if let Answer::Produced(produced) = &mut place.answer
                && produced.batches.deadline <= now
            {
                produced.overdue = true;
            }
        }
    }

    /// The next deadline of a request that is not decided.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let places = self.places.borrow();
        let deadlines = places.iter().filter_map(|place| match &place.answer {
            Answer::Produced(produced) if !produced.is_decided() => Some(produced.batches.deadline),
            _ => None,
        });
        deadlines.min()
    }
}
