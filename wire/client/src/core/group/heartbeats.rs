//! When heartbeats are sent.
//!
//! A member hears of a rebalance with a heartbeat's answer, and one rebalance is often followed by
//! another at once: what a cooperative member has given up goes to others in a second one, and members
//! that start together come one after the other. So there are a few more heartbeats soon after a
//! generation has begun, quickly at first and then ever more slowly.

use std::time::Duration;

use super::Pauses;
use crate::core::time::Time;

/// How long after it was given its partitions a member asks for the first time whether they are to be
/// shared out anew. The others take about this long to give up what they have to.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Most heartbeats of one generation that come before their time.
const MOST_EARLY: u32 = 5;

#[derive(Debug)]
pub(super) struct Heartbeats {
    interval: Duration,
    /// When one has to be sent.
    regular_at: Time,
    early: Option<Early>,
    failures: u32,
}

/// A heartbeat before its time.
#[derive(Clone, Copy, Debug)]
struct Early {
    at: Time,
    /// Until the one after it.
    pause: Duration,
    /// How many may follow.
    left: u32,
}

impl Heartbeats {
    pub(super) fn new(session_timeout: Duration) -> Heartbeats {
        Heartbeats {
            interval: session_timeout / 3,
            regular_at: Time::default(),
            early: None,
            failures: 0,
        }
    }

    /// When the next is due.
    pub(super) fn due(&self) -> Time {
        match self.early {
            Some(early) if self.failures == 0 => early.at.min(self.regular_at),
            _ => self.regular_at,
        }
    }

    /// The member was given its partitions in a new generation, for which it asked then.
    pub(super) fn hasten(&mut self, asked: Time) {
        self.failures = 0;
        self.regular_at = asked.plus(self.interval);
        self.early = Some(Early {
            at: asked.plus(FIRST_PAUSE),
            pause: FIRST_PAUSE * 2,
            left: MOST_EARLY - 1,
        });
    }

    /// The member joins again: the answer to that tells of the next generation.
    pub(super) fn calm_down(&mut self) {
        self.early = None;
    }

    /// The next answer settles something.
    pub(super) fn at_once(&mut self, now: Time) {
        self.regular_at = now;
    }

    pub(super) fn sent(&mut self, now: Time) {
        self.regular_at = now.plus(self.interval);
        let follows = self.early.filter(|early| early.left > 0);
        self.early = follows.map(|early| Early {
            at: now.plus(early.pause),
            pause: early.pause * 2,
            left: early.left - 1,
        });
    }

    pub(super) fn answered(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failed(&mut self, now: Time, pauses: Pauses<'_>) {
        self.failures += 1;
        let pause = pauses(self.failures).min(self.interval);
        self.regular_at = now.plus(pause);
    }
}
