//! Timers: what is due when, and the order in which it is done.

use super::datagrams::Destination;
use super::{Node, Presence, Turn};
use crate::config::ms;
use crate::fact::Status;
use crate::identity::NodeId;
use crate::interface::Event;
use crate::planted::Planted;
use crate::random::choose;
use crate::time::{Time, nanos};

impl Node {
    /// When the node next wants [`Input::Tick`](crate::Input::Tick), which may be in the past;
    /// never, once it has left.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let leaving = match self.presence {
            Presence::Gone => return None,
            Presence::Leaving(until) => Some(until),
            Presence::Here => None,
        };
        let probe = self.probe.as_ref();
        let forget = ms(self.config.forget_after_ms);
        [
            leaving,
            Some(self.timers.period),
            Some(self.timers.sync),
            Some(self.timers.rejoin),
            self.has_gossip(self.timers.gossip)
                .then_some(self.timers.gossip),
            probe.and_then(|probe| probe.asks_at),
            self.relays.deadline(),
            self.suspicion_deadline(),
            self.streams.deadline(),
            self.joining.deadline(),
            self.members.longest_gone().map(|since| since.after(forget)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does all that is due.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        while let Some(relay) = self.relays.nack_due(now) {
            self.send_nack(turn, &relay);
        }
        self.relays.expire(now);
        if let Some(probe) = &self.probe {
            let ends_at = probe.ends_at;
            if probe.asks_at.is_some_and(|at| at <= now) {
                self.ask_others(turn);
            }
            if ends_at <= now {
                self.probe_failed(turn);
            }
        }
        if self.timers.period <= now {
            self.begin_period(turn);
        }
        if !self.has(Planted::SuspicionNeverEnds) {
            while let Some((node, incarnation)) = self.suspicions.expired(now) {
                self.bury(turn, node, incarnation);
            }
        }
        if self.timers.gossip <= now {
            if self.has_gossip(now) {
                self.gossip(turn);
            } else {
                self.align_gossip(now);
            }
        }
        self.sync_if_due(turn);
        self.rejoin_if_due(turn);
        self.join_if_due(turn);
        self.expire_streams(turn);
        self.reap(turn);
        self.finish_leaving(turn);
    }

    fn suspicion_deadline(&self) -> Option<Time> {
        if self.has(Planted::SuspicionNeverEnds) {
            return None;
        }
        self.suspicions.deadline()
    }

    fn has_gossip(&self, at: Time) -> bool {
        !self.updates.is_empty()
            || !self.entry_updates.is_empty()
            || (self.config.lifeguard.buddy && at < self.timers.dead_hear_until)
    }

    /// Brings the gossip timer, which stands still while there is nothing to send, onto the next
    /// point of its grid.
    pub(super) fn align_gossip(&mut self, now: Time) {
        let interval = nanos(ms(self.config.gossip_interval_ms)).max(1);
        let behind = now.0.saturating_sub(self.timers.gossip.0);
        if behind > 0 {
            let steps = behind.div_ceil(interval);
            self.timers.gossip.0 = self
                .timers
                .gossip
                .0
                .saturating_add(steps.saturating_mul(interval));
        }
    }

    /// Sends what is queued to some members, chosen at random; the failed ones too for a while.
    fn gossip(&mut self, turn: &mut Turn<'_>) {
        let interval = ms(self.config.gossip_interval_ms);
        self.timers.gossip = self.timers.gossip.after(interval);
        self.align_gossip(turn.now);
        let chosen = self.gossip_targets(turn);
        for node in chosen {
            let told = self.config.lifeguard.buddy
                && self
                    .members
                    .get(node)
                    .is_some_and(|member| member.status == Status::Dead);
            if self.updates.is_empty() && self.entry_updates.is_empty() && !told {
                continue;
            }
            if let Some(address) = self.address(node) {
                self.send(turn, Destination { node, address }, None, &[]);
            }
        }
    }

    /// Whom to gossip to: anybody, with equal chances. Whoever does not trust us yet gets the
    /// updates with the answer to its challenge; to pass it over would leave those that came last
    /// without news.
    fn gossip_targets(&self, turn: &mut Turn<'_>) -> Vec<NodeId> {
        let to_dead = ms(self.config.gossip_to_dead_ms);
        let now = turn.now;
        let fanout = self.config.gossip_fanout;
        choose(turn.random, self.round_robin.all(), fanout, |node| {
            let member = self.members.get(node);
            member.is_some_and(|member| match member.status {
                Status::Alive | Status::Suspect => true,
                Status::Dead => now.since(member.since) < to_dead,
                Status::Left => false,
            })
        })
    }

    /// Forgets who has been gone for long.
    fn reap(&mut self, turn: &mut Turn<'_>) {
        let forget = nanos(ms(self.config.forget_after_ms));
        let Some(before) = turn.now.0.checked_sub(forget) else {
            return;
        };
        if self
            .members
            .longest_gone()
            .is_none_or(|since| since > Time(before))
        {
            return;
        }
        for node in self.members.reap(Time(before)) {
            self.round_robin.remove(node);
            self.updates.drop_subject(node);
            self.auth.forget(node);
            turn.event(Event::Forgotten { node });
        }
    }

    fn finish_leaving(&mut self, turn: &mut Turn<'_>) {
        if let Presence::Leaving(until) = self.presence
            && (until <= turn.now || self.members.live() == 0)
        {
            self.presence = Presence::Gone;
            turn.event(Event::LeaveDone);
        }
    }
}
