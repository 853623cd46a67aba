//! Changing who votes while the group works (joint consensus, Raft paper, section 6; thesis,
//! section 4.3). A membership counts as soon as it is appended, and no longer when it is cut.

use crate::configuration::Configuration;
use crate::group::{Group, Part, Turn};
use crate::input::{Change, Content, Effect, Rejection};
use crate::planted::{self, Bug};
use crate::types::Time;

impl Group {
    /// `Input::Change`.
    pub(crate) fn change(&mut self, turn: &mut Turn<'_>, change: Change) {
        let token = change.token;
        let next = match self.may_change(turn.now, &change) {
            Ok(next) => next,
            Err(reason) => {
                self.reject(turn, token, reason);
                return;
            }
        };
        self.wake(turn);
        if let Some(leader) = self.leading() {
            leader.change = Some(token);
        }
        self.enact(turn, next);
    }

    /// The membership to append first.
    fn may_change(&self, now: Time, change: &Change) -> Result<Configuration, Rejection> {
        let Part::Leader(leader) = &self.part else {
            return Err(self.not_leader());
        };
        // That something of this term is committed is what makes a change safe at all (Ongaro's
        // correction of 2015 to the change by single steps).
        let (Some((index, now_in_force)), true) = (self.history.latest(), leader.serves(&self.log))
        else {
            return Err(Rejection::NotServing);
        };
        if leader.transfer.is_some() {
            return Err(Rejection::Transferring);
        }
        if now_in_force.is_joint() || *index > self.log.marks().commit {
            return Err(Rejection::ChangeUnderWay);
        }
        let next = Configuration::new(&change.voters, &change.learners);
        let next = next.ok_or(Rejection::InvalidMembership)?;
        for voter in next.voters().filter(|voter| !now_in_force.is_voter(*voter)) {
            let peer = leader.peers.get(&voter).filter(|peer| peer.cure.is_none());
            let caught_up = peer.is_some_and(|peer| {
                let has_durable = peer.matched >= self.log.durable();
                let lately = now.since(peer.caught_up) <= self.settings.election_timeout;
                has_durable || (peer.matched.0 > 0 && lately)
            });
            if !caught_up {
                return Err(Rejection::NotCaughtUp(voter));
            }
        }
        Ok(match planted::is(Bug::NotJoint) {
            true => next,
            false => now_in_force.towards(&next),
        })
    }

    fn enact(&mut self, turn: &mut Turn<'_>, configuration: Configuration) {
        self.append(turn, 1, 0, Content::Configuration(configuration));
        self.tell_configuration(turn);
        self.know_members(turn);
        self.send_to_all(turn);
        self.advance(turn);
    }

    /// Something was committed: perhaps the membership in force.
    pub(crate) fn membership_committed(&mut self, turn: &mut Turn<'_>) {
        let Some((index, configuration)) = self.history.latest().cloned() else {
            return;
        };
        if index > self.log.marks().commit || !matches!(self.part, Part::Leader(_)) {
            return;
        }
        if configuration.is_joint() {
            self.enact(turn, configuration.settled());
            return;
        }
        if let Some(token) = self.leading().and_then(|leader| leader.change.take()) {
            turn.effects.push(Effect::Changed(token));
        }
        if !configuration.is_voter(self.me) {
            // It has led its own removal to the end; the others learn of the commit from it.
            self.say_alive(turn);
            self.become_follower(turn, None);
        }
    }
}
