//! Local health: how much a node trusts its own view (Lifeguard section 4.1).
//!
//! A node whose probes go unanswered, whose relays do not even say that they failed, or that must
//! refute what is said of it, is probably the slow one itself. It then probes less often and waits
//! longer, and so accuses fewer others.

use std::time::Duration;

/// What speaks for or against a node's own health.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Sign {
    /// A probe was answered.
    ProbeAnswered,
    /// A probe stayed unanswered, and so many relays did not even say that they had failed.
    ProbeFailed {
        /// Relays that were asked and sent neither an acknowledgement nor a nack.
        missed_nacks: u32,
    },
    /// Others believed this node to be suspect or dead.
    HadToRefute,
}

/// The local health counter: zero is healthy.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Awareness {
    score: u32,
    max: u32,
}

impl Awareness {
    /// A healthy one. With `max` zero it never changes, which is plain SWIM.
    pub(crate) fn new(max: u32) -> Awareness {
        Awareness { score: 0, max }
    }

    pub(crate) fn score(&self) -> u32 {
        self.score
    }

    pub(crate) fn note(&mut self, sign: Sign) {
        self.score = match sign {
            Sign::ProbeAnswered => self.score.saturating_sub(1),
            Sign::ProbeFailed { missed_nacks } => self.score.saturating_add(1 + missed_nacks),
            Sign::HadToRefute => self.score.saturating_add(1),
        }
        .min(self.max);
    }

    /// `span`, as much longer as health is bad.
    pub(crate) fn scale(&self, span: Duration) -> Duration {
        span * (self.score + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Awareness, Sign};
    use std::time::Duration;

    #[test]
    fn failures_slow_a_node_down_and_answers_speed_it_up_again() {
        let mut health = Awareness::new(7);
        health.note(Sign::ProbeFailed { missed_nacks: 2 });
        health.note(Sign::HadToRefute);
        assert_eq!(health.scale(Duration::from_secs(1)), Duration::from_secs(5));
        for _ in 0..9 {
            health.note(Sign::ProbeFailed { missed_nacks: 3 });
        }
        assert_eq!(health.score(), 7, "bounded");
        for _ in 0..9 {
            health.note(Sign::ProbeAnswered);
        }
        assert_eq!(health.score(), 0);
    }

    #[test]
    fn plain_swim_has_no_health() {
        let mut health = Awareness::new(0);
        health.note(Sign::ProbeFailed { missed_nacks: 3 });
        assert_eq!(health.scale(Duration::from_secs(1)), Duration::from_secs(1));
    }
}
