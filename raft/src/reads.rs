//! Reads that must see all that was committed before them: a leader first makes sure that it still
//! is one (thesis, section 6.4).

use std::collections::VecDeque;
use std::time::Duration;

use crate::group::{Group, Part, Turn};
use crate::input::{Effect, Rejection};
use crate::message::Round;
use crate::planted::{self, Bug};
use crate::settings::Reads;
use crate::types::{Index, Time, Token};

/// Rounds whose beginnings are remembered, for the lease.
const MOST_ROUNDS: usize = 16;

/// A leader's reads and rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    /// The latest round that was begun.
    round: Round,
    /// When each of the last rounds began.
    begun: VecDeque<(Round, Time)>,
    /// The latest that everybody was asked in, not only those who had been told nothing else, and when.
    asked: Option<(Round, Time)>,
    /// The latest that a majority has answered.
    answered: Round,
    /// When that one began: up to a timeout after that, nobody else can have been elected.
    lease_from: Option<Time>,
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    token: Token,
    /// A majority must answer this one: it began after the read came.
    round: Round,
    /// What was committed then.
    index: Index,
}

impl Reading {
    pub(crate) fn round(&self) -> Round {
        self.round
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn begin_round(&mut self, now: Time) -> Round {
        self.round = Round(self.round.0 + 1);
        if self.begun.len() == MOST_ROUNDS {
            self.begun.pop_front();
        }
        self.begun.push_back((self.round, now));
        self.round
    }

    /// Everybody is asked in this round.
    pub(crate) fn asked(&mut self, round: Round, now: Time) {
        self.asked = Some((round, now));
    }

    /// Whether answers to a round are to be expected still.
    fn asks(&self, now: Time, patience: Duration) -> bool {
        self.asked
            .is_some_and(|(round, at)| round > self.answered && now.since(at) < patience)
    }

    pub(crate) fn abandoned(&self) -> impl Iterator<Item = Token> + '_ {
        self.waiting.iter().map(|waiting| waiting.token)
    }

    pub(crate) fn revoke_lease(&mut self) {
        self.lease_from = None;
        self.begun.clear();
    }
}

impl Group {
    /// `Input::ReadBarrier`.
    pub(crate) fn read_barrier(&mut self, turn: &mut Turn<'_>, token: Token) {
        let reason = match &self.part {
            Part::Leader(leader)
                if leader.serves(&self.log) || planted::is(Bug::ReadsBeforeOwnTerm) =>
            {
                None
            }
            Part::Leader(_) => Some(Rejection::NotServing),
            _ => Some(self.not_leader()),
        };
        if let Some(reason) = reason {
            self.reject(turn, token, reason);
            return;
        }
        self.wake(turn);
        let index = self.log.marks().commit;
        if self.holds_lease(turn.now) || planted::is(Bug::ReadsWithoutAsking) {
            turn.effects.push(Effect::ReadReady { token, index });
            return;
        }
        let patience = self.settings.resend_after;
        let Some(leader) = self.leading() else {
            return;
        };
        // A round that is under way began before this read and says nothing for it; while it lasts,
        // reads gather for the next one.
        let (asks, round) = (
            leader.reading.asks(turn.now, patience),
            Round(leader.reading.round.0 + 1),
        );
        leader.reading.waiting.push_back(Waiting {
            token,
            round,
            index,
        });
        if !asks {
            self.say_alive(turn);
        }
    }

    fn holds_lease(&self, now: Time) -> bool {
        let (Part::Leader(leader), Reads::Lease { drift_ppm }) = (&self.part, self.settings.reads)
        else {
            return false;
        };
        let timeout = u64::try_from(self.settings.election_timeout.as_nanos()).unwrap_or(u64::MAX);
        // Both clocks may be off, each in its direction.
        let off = timeout / 1_000_000 * u64::from(drift_ppm) * 2;
        let lease = Duration::from_nanos(timeout.saturating_sub(off));
        let alone = leader.peers.is_empty();
        alone
            || leader
                .reading
                .lease_from
                .is_some_and(|from| now.since(from) < lease)
    }

    /// Somebody has answered a round: perhaps a majority has.
    pub(crate) fn round_answered(&mut self, turn: &mut Turn<'_>) {
        let (Part::Leader(leader), Some(configuration)) = (&self.part, self.configuration()) else {
            return;
        };
        let own = leader.reading.round;
        let answered = configuration.reached(|voter| {
            if voter == self.me {
                return own;
            }
            leader.peers.get(&voter).map_or(Round(0), |peer| peer.round)
        });
        let patience = self.settings.resend_after;
        let Some(leader) = self.leading() else {
            return;
        };
        let reading = &mut leader.reading;
        if answered <= reading.answered {
            return;
        }
        reading.answered = answered;
        while let Some((round, began)) = reading.begun.front().copied() {
            if round > answered {
                break;
            }
            if leader.transfer.is_none() || planted::is(Bug::LeaseOutlivesTransfer) {
                reading.lease_from = Some(began);
            }
            reading.begun.pop_front();
        }
        while reading
            .waiting
            .front()
            .is_some_and(|first| first.round <= answered)
        {
            let Waiting { token, index, .. } = reading.waiting.pop_front().expect("there is one");
            turn.effects.push(Effect::ReadReady { token, index });
        }
        if !reading.waiting.is_empty() && !reading.asks(turn.now, patience) {
            self.say_alive(turn);
        }
    }
}
