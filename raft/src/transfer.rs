//! Handing leadership over: no more proposals, the other catches up, then it is told to run at once
//! (thesis, section 3.10).

use crate::group::{Group, Part, Turn};
use crate::input::{Effect, Rejection};
use crate::message::Body;
use crate::planted::{self, Bug};
use crate::types::{ReplicaId, Time};

/// A transfer under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    to: ReplicaId,
    /// When it is given up.
    pub(crate) until: Time,
    /// The other was told to run: from here on it may be elected at any moment.
    told: bool,
}

impl Group {
    /// `Input::Transfer`.
    pub(crate) fn transfer(&mut self, turn: &mut Turn<'_>, to: ReplicaId) {
        let reason = match &self.part {
            Part::Leader(leader) if leader.transfer.is_some() => Some(Rejection::Transferring),
            Part::Leader(leader) if !leader.serves(&self.log) => Some(Rejection::NotServing),
            Part::Leader(_) if to == self.me => return,
            Part::Leader(leader) => {
                let voter = self.configuration().is_some_and(|it| it.is_voter(to));
                let whole = leader
                    .peers
                    .get(&to)
                    .is_some_and(|peer| peer.cure.is_none());
                (!voter || !whole).then_some(Rejection::NotVoter(to))
            }
            _ => Some(self.not_leader()),
        };
        if let Some(reason) = reason {
            turn.effects.push(Effect::TransferFailed { to, reason });
            return;
        }
        self.wake(turn);
        let until = turn.now.after(self.settings.election_timeout);
        if let Some(leader) = self.leading() {
            leader.transfer = Some(Transfer {
                to,
                until,
                told: false,
            });
        }
        self.hand_over(turn);
    }

    /// Tells the other to run, if it has everything.
    pub(crate) fn hand_over(&mut self, turn: &mut Turn<'_>) {
        let last = self.log.last().index;
        let Some(leader) = self.leading() else {
            return;
        };
        let Some(transfer) = &mut leader.transfer else {
            return;
        };
        let to = transfer.to;
        let ready = leader
            .peers
            .get(&to)
            .is_some_and(|peer| peer.matched == last);
        if !ready || std::mem::replace(&mut transfer.told, true) {
            return;
        }
        // It will be elected without waiting for anybody's patience to end.
        if !planted::is(Bug::LeaseOutlivesTransfer) {
            leader.reading.revoke_lease();
        }
        self.send(turn, to, Body::TimeoutNow, None);
    }

    pub(crate) fn give_up_transfer(&mut self, turn: &mut Turn<'_>) {
        let over = |leader: &mut crate::lead::Leader| {
            leader
                .transfer
                .take_if(|transfer| turn.now >= transfer.until)
        };
        let Some(Transfer { to, told, .. }) = self.leading().and_then(over) else {
            return;
        };
        turn.effects.push(Effect::TransferFailed {
            to,
            reason: Rejection::TimedOut,
        });
        if told {
            // It may still run, and win: this leader does not go on as if nothing could happen.
            self.become_follower(turn, None);
        }
    }
}
