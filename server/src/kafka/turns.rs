//! Requests that are begun one after the other, each when the one before it is answered. Kafka does so
//! with all requests of a connection, and where one changes what the next finds (a member commits, and
//! leaves) its clients count on it.

use std::cell::Cell;
use std::rc::Rc;

use millrace_shard::local::Event;

/// One connection's turns. Their number is bounded by the requests under way, each of which has one.
#[derive(Default)]
pub(super) struct Turns {
    next: Cell<u64>,
    line: Rc<Line>,
}

#[derive(Default)]
struct Line {
    /// Whose turn it is.
    current: Cell<u64>,
    passed: Event,
}

/// A place in line. Whoever is done drops it.
pub(super) struct Turn {
    number: u64,
    line: Rc<Line>,
}

impl Turns {
    /// The next place in line.
    pub(super) fn take(&self) -> Turn {
        let number = self.next.get();
        self.next.set(number + 1);
        Turn {
            number,
            line: Rc::clone(&self.line),
        }
    }
}

impl Turn {
    /// Waits for everybody before it.
    pub(super) async fn come(&self) {
        let has_come = || self.line.current.get() >= self.number;
        self.line.passed.wait_until(has_come).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let current = self.line.current.get();
        self.line.current.set(current.max(self.number + 1));
        self.line.passed.notify();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn each_waits_for_those_before_it() {
        let turns = Turns::default();
        let (first, second, third) = (turns.take(), turns.take(), turns.take());
        assert!(first.come().now_or_never().is_some());
        {
            let mut waits = pin!(second.come());
            assert!(waits.as_mut().now_or_never().is_none());
            assert!(third.come().now_or_never().is_none());
            drop(first);
            assert!(waits.now_or_never().is_some());
        }
        assert!(third.come().now_or_never().is_none());
        drop(second);
        assert!(third.come().now_or_never().is_some());
    }
}
