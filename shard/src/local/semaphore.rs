//! A counted allowance: so many operations, or so many bytes, at once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Hands out permits in the order in which they are asked for. A request for more than the
/// whole is served once everything is free (it then holds everything), so that nothing oversize
/// waits for ever. Cheap to clone; clones share the permits.
#[derive(Clone)]
pub struct Semaphore {
    state: Rc<RefCell<State>>,
}

struct State {
    capacity: u64,
    available: u64,
    /// Opened for good: everybody gets what they ask for. Used when what was bounded is gone.
    open: bool,
    next_ticket: u64,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    ticket: u64,
    amount: u64,
    waker: Option<Waker>,
}

impl State {
    /// Whether the first in line, or a newcomer when nobody waits, may take `amount`.
    fn fits(&self, amount: u64) -> bool {
        self.open || amount <= self.available
    }

    fn take(&mut self, amount: u64) {
        self.available = self.available.saturating_sub(amount);
    }

    /// The waker of the first in line if it could go on now.
    fn next_waker(&mut self) -> Option<Waker> {
        let amount = self.waiting.front()?.amount;
        if !self.fits(amount) {
            return None;
        }
        self.waiting.front_mut()?.waker.take()
    }
}

impl Semaphore {
    /// A semaphore of `capacity` permits.
    #[must_use]
    pub fn new(capacity: u64) -> Semaphore {
        let state = State {
            capacity,
            available: capacity,
            open: false,
            next_ticket: 0,
            waiting: VecDeque::new(),
        };
        Semaphore {
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// Takes `amount` permits (at most the whole), waiting for its turn.
    pub fn acquire(&self, amount: u64) -> Acquire {
        let amount = amount.min(self.capacity());
        Acquire {
            semaphore: self.clone(),
            amount,
            ticket: None,
        }
    }

    /// Takes `amount` permits (at most the whole) if they are free and nobody waits.
    #[must_use]
    pub fn try_acquire(&self, amount: u64) -> Option<Permit> {
        let mut state = self.state.borrow_mut();
        let amount = amount.min(state.capacity);
        if !state.waiting.is_empty() || !state.fits(amount) {
            return None;
        }
        state.take(amount);
        drop(state);
        Some(Permit {
            semaphore: self.clone(),
            amount,
        })
    }

    /// Permits in all.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.state.borrow().capacity
    }

    /// Permits that are free now.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.state.borrow().available
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.borrow().waiting.len()
    }

    /// From now on everybody gets what they ask for.
    pub(super) fn open(&self) {
        let mut wakers = Vec::new();
        let mut state = self.state.borrow_mut();
        state.open = true;
        wakers.extend(
            state
                .waiting
                .iter_mut()
                .filter_map(|waiting| waiting.waker.take()),
        );
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn give_back(&self, amount: u64) {
        let mut state = self.state.borrow_mut();
        state.available = (state.available + amount).min(state.capacity);
        let waker = state.next_waker();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Waiting for permits. Dropping it gives up the place in line.
#[must_use = "permits are not taken unless this is awaited"]
pub struct Acquire {
    semaphore: Semaphore,
    amount: u64,
    ticket: Option<u64>,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let semaphore = self.semaphore.clone();
        let mut state = semaphore.state.borrow_mut();
        let first = match (self.ticket, state.waiting.front()) {
            (_, None) => true,
            (Some(ticket), Some(front)) => front.ticket == ticket,
            (None, Some(_)) => false,
        };
        if (first || state.open) && state.fits(self.amount) {
            state.take(self.amount);
            if let Some(ticket) = self.ticket.take() {
                state.waiting.retain(|waiting| waiting.ticket != ticket);
            }
            // What is left may be enough for the next in line.
            let waker = state.next_waker();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return Poll::Ready(Permit {
                semaphore,
                amount: self.amount,
            });
        }
        let waker = Some(context.waker().clone());
        match self.ticket {
            Some(ticket) => {
                let own = state
                    .waiting
                    .iter_mut()
                    .find(|waiting| waiting.ticket == ticket);
                own.expect("a ticket stays in line until it is served")
                    .waker = waker;
            }
            None => {
                let ticket = state.next_ticket;
                state.next_ticket += 1;
                state.waiting.push_back(Waiting {
                    ticket,
                    amount: self.amount,
                    waker,
                });
                self.ticket = Some(ticket);
            }
        }
        Poll::Pending
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.semaphore.state.borrow_mut();
        let place = state
            .waiting
            .iter()
            .position(|waiting| waiting.ticket == ticket);
        let own = place.and_then(|place| state.waiting.remove(place));
        // Whoever comes next may fit where this one did not, or had its wake-up.
        let waker = state.next_waker();
        drop(state);
        drop(own);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Permits held; dropping them gives them back.
#[must_use = "permits are given back as soon as this is dropped"]
pub struct Permit {
    semaphore: Semaphore,
    amount: u64,
}

impl Permit {
    /// How many permits this is. Less than what was asked for if that was more than the whole.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes up to `amount` permits off into a permit of their own.
    pub fn split(&mut self, amount: u64) -> Permit {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Permit {
            semaphore: self.semaphore.clone(),
            amount,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.semaphore.give_back(self.amount);
        }
    }
}
