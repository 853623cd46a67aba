//! Deadlines of requests that wait for this shard's journal. They have no timer each: a connection
//! has one guard at most, which sleeps until the earliest deadline and lives for as long as a request
//! may take.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, select};
use millrace_shard::env::{Env, Instant, OnPanic, Queue};
use millrace_shard::local::Event;

use super::outbox::Outbox;

/// A connection whose requests have deadlines.
pub(crate) trait Overdue: 'static {
    /// Its guard.
    fn guard(&self) -> &DeadlineGuard;

    /// Where its answers go.
    fn outbox(&self) -> &Rc<Outbox>;

    /// Answers what has not been decided by `now` and should have been.
    fn answer_overdue(&self, now: Instant);

    /// The next deadline of a request that is not decided.
    fn next_deadline(&self) -> Option<Instant>;
}

/// When the guard of a connection is to look again.
pub(crate) struct DeadlineGuard {
    /// Until when it sleeps, if there is one.
    until: Cell<Option<Instant>>,
    /// It is to wake sooner.
    changed: Event,
}

impl Default for DeadlineGuard {
    fn default() -> DeadlineGuard {
        DeadlineGuard {
            until: Cell::new(None),
            changed: Event::new(),
        }
    }
}

/// Sees to it that `connection` is looked after by `deadline`.
pub(crate) fn guard<E: Env, C: Overdue>(env: &E, connection: &Rc<C>, deadline: Instant) {
    let guard = connection.guard();
    match guard.until.get() {
        None => {
            guard.until.set(Some(deadline));
            begin(env, connection);
        }
        Some(until) if deadline < until => {
            guard.until.set(Some(deadline));
            guard.changed.notify();
        }
        Some(_) => {}
    }
}

fn begin<E: Env, C: Overdue>(env: &E, connection: &Rc<C>) {
    let (weak, outbox) = (Rc::downgrade(connection), Rc::clone(connection.outbox()));
    let own = env.clone();
    let task = async move {
        while let Some(connection) = weak.upgrade() {
            let changed = connection.guard().changed.listen();
            let Some(until) = look(&*connection, own.now()) else {
                return;
            };
            drop(connection);
            let sleep = pin!(own.sleep(until.since(own.now())));
            let woken = select(sleep, changed);
            if let Either::Right(_) = select(woken, pin!(outbox.closed())).await {
                return;
            }
        }
    };
    drop(env.spawn(Queue::Requests, "produce timeouts", OnPanic::EndTask, task));
}

/// Answers what is overdue; until when to sleep then, if there is anything to guard.
fn look<C: Overdue>(connection: &C, now: Instant) -> Option<Instant> {
    let until = connection.guard().until.get()?;
    if until > now {
        return Some(until);
    }
    connection.answer_overdue(now);
    let next = connection.next_deadline();
    connection.guard().until.set(next);
    next
}
