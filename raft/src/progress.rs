//! What a leader knows of one follower, and how much it may send to it (Raft paper, section 5.3; the
//! three states are etcd's).

use std::collections::VecDeque;
use std::time::Duration;

use crate::message::{Cure, Damage, Round};
use crate::settings::Settings;
use crate::types::{Index, Time};

/// How entries are sent to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    /// Where the logs agree is being found out, one question at a time.
    Probe {
        /// The first entry that is not known to be there.
        next: Index,
        /// When it was asked, if it was.
        asked: Option<Time>,
        /// It was asked before without an answer: entries are not sent along again.
        again: bool,
    },
    /// One message after the other, without waiting for answers.
    Replicate {
        /// The next entry to send.
        next: Index,
        /// What is under way.
        in_flight: InFlight,
    },
    /// It needs what is not kept any more: it begins anew at the log's start.
    Snapshot {
        /// The start that it was told.
        start: Index,
        /// When it is told again.
        again_at: Time,
    },
}

/// Messages with entries that were sent and not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct InFlight {
    /// The last entry and the bytes of each.
    messages: VecDeque<(Index, u64)>,
    bytes: u64,
    /// When something was last heard of them, or the first of them was sent.
    since: Time,
}

impl InFlight {
    pub(crate) fn is_full(&self, settings: &Settings) -> bool {
        self.messages.len() >= settings.in_flight_messages || self.bytes >= settings.in_flight_bytes
    }

    /// Bytes that the next message may have; a longer one goes alone.
    pub(crate) fn room(&self, settings: &Settings) -> u64 {
        let room = settings.in_flight_bytes.saturating_sub(self.bytes);
        room.min(settings.message_bytes)
    }

    pub(crate) fn fits(&self, bytes: u64, settings: &Settings) -> bool {
        self.messages.is_empty() || self.bytes + bytes <= settings.in_flight_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn push(&mut self, last: Index, bytes: u64, now: Time) {
        if self.messages.is_empty() {
            self.since = now;
        }
        self.bytes += bytes;
        self.messages.push_back((last, bytes));
    }

    fn answered(&mut self, matched: Index, now: Time) {
        while self
            .messages
            .front()
            .is_some_and(|(last, _)| *last <= matched)
        {
            let (_, bytes) = self.messages.pop_front().expect("there is one");
            self.bytes -= bytes;
            self.since = now;
        }
    }
}

/// A follower, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    /// Up to here it has, durably, what the leader has.
    pub(crate) matched: Index,
    pub(crate) flow: Flow,
    /// When it last said anything.
    pub(crate) heard: Time,
    /// When it was last sent entries, or asked about them.
    pub(crate) sent: Time,
    /// When it last answered that.
    pub(crate) answered: Time,
    /// The latest round that it has answered.
    pub(crate) round: Round,
    /// When it last had all that the leader had then.
    pub(crate) caught_up: Time,
    /// When it last answered, and the end of the leader's log then: having that much later on means
    /// that it was caught up then, however quickly the log has grown since (as Kafka counts it).
    mark: (Time, Index),
    /// When all that was under way was last sent again because something was missing there.
    began_anew: Option<Time>,
    /// Its log is damaged: what it needs to be whole, and it counts for nothing before.
    pub(crate) cure: Option<Cure>,
    /// Entries for it are being read.
    pub(crate) reading: bool,
    /// Membership thinks that its node is dead.
    pub(crate) silent: bool,
}

impl Progress {
    /// A follower of which nothing is known yet.
    pub(crate) fn new(last: Index, now: Time) -> Progress {
        Progress {
            matched: Index(0),
            flow: Flow::Probe {
                next: last.next(),
                asked: None,
                again: false,
            },
            heard: now,
            sent: Time(0),
            answered: Time(0),
            round: Round(0),
            caught_up: now,
            mark: (now, last),
            began_anew: None,
            cure: None,
            reading: false,
            silent: false,
        }
    }

    /// It has everything up to `matched`; the leader's log ends at `last`.
    pub(crate) fn has(&mut self, matched: Index, last: Index, now: Time) {
        self.matched = self.matched.max(matched);
        if self.matched >= last {
            self.caught_up = now;
        } else if self.matched >= self.mark.1 {
            self.caught_up = self.caught_up.max(self.mark.0);
        }
        if self.matched >= self.mark.1 {
            self.mark = (now, last);
        }
        match &mut self.flow {
            Flow::Replicate { next, in_flight } => {
                in_flight.answered(self.matched, now);
                *next = (*next).max(self.matched.next());
            }
            Flow::Snapshot { start, .. } if matched.next() < *start => {}
            // An answer to an earlier question says nothing of the one that is open.
            Flow::Probe { next, .. } if matched.next() < *next && matched < self.matched => {}
            Flow::Probe { .. } | Flow::Snapshot { .. } => {
                self.flow = Flow::Replicate {
                    next: self.matched.next(),
                    in_flight: InFlight::default(),
                };
            }
        }
    }

    /// It says whether its log is damaged; the leader's log ends at `last`. What was known of it before
    /// the damage is forgotten.
    pub(crate) fn note_damage(&mut self, damage: Option<Damage>, last: Index) {
        match (damage, self.cure) {
            (None, _) => self.cure = None,
            (Some(damage), Some(cure)) if cure.damage == damage => {}
            (Some(damage), _) => {
                self.cure = Some(Cure {
                    damage,
                    through: last,
                });
                self.matched = Index(0);
                self.probe(last.next(), false);
            }
        }
    }

    /// Whether what is under way to it may be sent again because something is missing there, though
    /// nothing differs. It may be lost, or have been overtaken: to begin anew for each message that
    /// came too early would be a storm.
    pub(crate) fn may_begin_anew(&mut self, now: Time, resend_after: Duration) -> bool {
        let lately = |then| now.since(then) < resend_after;
        if matches!(self.flow, Flow::Replicate { .. }) && self.began_anew.is_some_and(lately) {
            return false;
        }
        self.began_anew = Some(now);
        true
    }

    /// Whether what it says of its log at this place answers what it was asked.
    pub(crate) fn asked_at(&self, at: Index) -> bool {
        match &self.flow {
            Flow::Probe { next, asked, .. } => match asked {
                Some(_) => next.previous() == at,
                // Nothing is open: what it said of its own accord, with its damage, is welcome.
                None => at < *next,
            },
            Flow::Replicate { next, .. } => at < *next,
            Flow::Snapshot { .. } => false,
        }
    }

    /// Asks again from here on.
    pub(crate) fn probe(&mut self, next: Index, again: bool) {
        let next = next.max(self.matched.next());
        self.flow = Flow::Probe {
            next,
            asked: None,
            again,
        };
    }

    /// When what is under way counts as lost.
    pub(crate) fn resend_at(&self, resend_after: Duration) -> Option<Time> {
        match &self.flow {
            Flow::Probe { asked, .. } => asked.map(|asked| asked.after(resend_after)),
            Flow::Replicate { in_flight, .. } if in_flight.is_empty() => None,
            Flow::Replicate { in_flight, .. } => Some(in_flight.since.after(resend_after)),
            Flow::Snapshot { again_at, .. } => Some(*again_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicating(next: u64) -> Progress {
        let mut progress = Progress::new(Index(next - 1), Time(0));
        progress.has(Index(next - 1), Index(next - 1), Time(0));
        progress
    }

    #[test]
    fn what_is_under_way_is_bounded_by_number_and_bytes() {
        let settings = Settings {
            in_flight_messages: 2,
            in_flight_bytes: 100,
            message_bytes: 80,
            ..Settings::default()
        };
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.room(&settings), 80);
        in_flight.push(Index(1), 60, Time(1));
        assert_eq!(in_flight.room(&settings), 40);
        in_flight.push(Index(2), 10, Time(2));
        assert!(in_flight.is_full(&settings), "two messages");
        in_flight.answered(Index(1), Time(3));
        assert!(!in_flight.is_full(&settings));
        in_flight.push(Index(3), 500, Time(3));
        in_flight.answered(Index(2), Time(4));
        assert!(in_flight.is_full(&settings), "one long one goes alone");
        in_flight.answered(Index(3), Time(5));
        assert!(in_flight.is_empty());
        assert_eq!(in_flight.bytes, 0);
    }

    #[test]
    fn a_follower_that_keeps_up_with_a_growing_log_is_caught_up() {
        let mut progress = replicating(11);
        progress.has(Index(10), Index(10), Time(5));
        for round in 1..10u64 {
            // At each answer the log is ten entries further than it was when they were sent.
            progress.has(
                Index(10 + round * 10),
                Index(20 + round * 10),
                Time(5 + round),
            );
        }
        assert_eq!(
            progress.caught_up,
            Time(13),
            "as of the answer before the last"
        );
    }

    #[test]
    fn a_late_answer_does_not_end_a_probe() {
        let mut progress = replicating(11);
        progress.probe(Index(11), true);
        progress.has(Index(5), Index(20), Time(1));
        assert!(matches!(progress.flow, Flow::Probe { .. }));
        progress.has(Index(10), Index(20), Time(1));
        assert!(matches!(
            progress.flow,
            Flow::Replicate {
                next: Index(11),
                ..
            }
        ));
    }

    #[test]
    fn what_is_not_answered_counts_as_lost_after_a_while() {
        let wait = Duration::from_nanos(100);
        let mut progress = replicating(11);
        assert_eq!(progress.resend_at(wait), None);
        let Flow::Replicate { in_flight, .. } = &mut progress.flow else {
            panic!("it replicates");
        };
        in_flight.push(Index(11), 1, Time(7));
        in_flight.push(Index(12), 1, Time(50));
        assert_eq!(progress.resend_at(wait), Some(Time(107)));
        progress.has(Index(11), Index(12), Time(90));
        assert_eq!(progress.resend_at(wait), Some(Time(190)));
    }
}
