//! Log lines that a stranger can cause, at a bounded rate.

use std::cell::Cell;
use std::time::Duration;

use millrace_shard::env::Instant;

/// At most this many lines of one kind in a [`PERIOD`].
const LINES: u32 = 10;
/// See [`LINES`].
const PERIOD: Duration = Duration::from_secs(1);

/// Decides whether a line of one kind may be logged now.
#[derive(Debug, Default)]
pub(super) struct Gate {
    began: Cell<Instant>,
    lines: Cell<u32>,
    held_back: Cell<u64>,
}

impl Gate {
    /// Whether to log now, and if so how many lines were held back since the last one.
    pub(super) fn open(&self, now: Instant) -> Option<u64> {
        if now.since(self.began.get()) >= PERIOD {
            self.began.set(now);
            self.lines.set(0);
        }
        if self.lines.get() >= LINES {
            self.held_back.set(self.held_back.get() + 1);
            return None;
        }
        self.lines.set(self.lines.get() + 1);
        Some(self.held_back.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let gate = Gate::default();
        let start = Instant(5_000_000_000);
        let logged = (0..1000).filter(|_| gate.open(start).is_some()).count();
        assert_eq!(logged, LINES as usize);
        assert_eq!(gate.open(start.plus(PERIOD)), Some(1000 - u64::from(LINES)));
        assert_eq!(gate.open(start.plus(PERIOD)), Some(0));
    }
}
