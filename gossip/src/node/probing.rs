//! Probing: one member each period, with the help of others when it does not answer, and the same
//! for others.

use std::net::SocketAddr;

use super::datagrams::Destination;
use super::{Node, Turn};
use crate::awareness::Sign;
use crate::codec::Message;
use crate::config::ms;
use crate::fact::Status;
use crate::identity::NodeId;
use crate::planted::Planted;
use crate::probe::{Probe, Relay, Relayed};
use crate::random::{choose, index};
use crate::refusal::Refusal;
use crate::sync::Errand;

/// The longest that a relay waits for others, milliseconds.
const MAX_RELAY_WAIT_MS: u32 = 60_000;

impl Node {
    /// Begins the next period.
    pub(super) fn begin_period(&mut self, turn: &mut Turn<'_>) {
        let interval = self.awareness.scale(ms(self.config.ping_interval_ms));
        self.timers.period = turn.now.after(interval);
        if !self.is_here() {
            return;
        }
        let Some(target) = self.next_target(turn) else {
            return;
        };
        let Some(address) = self.address(target) else {
            return;
        };
        let timeout = self.awareness.scale(ms(self.config.ping_timeout_ms));
        let sequence = self.next_ping();
        self.counters.probes += 1;
        self.auth.renew_challenge(target);
        self.probe = Some(Probe {
            target,
            sequence,
            started: turn.now,
            asks_at: Some(turn.now.after(timeout)),
            ends_at: self.timers.period,
            relays: Default::default(),
        });
        let to = Destination {
            node: target,
            address,
        };
        self.send(turn, to, None, &[Message::Ping { sequence }]);
    }

    fn next_target(&mut self, turn: &mut Turn<'_>) -> Option<NodeId> {
        let members = &self.members;
        if self.planted == Some(Planted::RandomTargets) {
            let all = self.round_robin.all();
            let live: Vec<_> = all.iter().filter(|node| members.is_live(**node)).collect();
            return match live.len() {
                0 => None,
                count => Some(*live[index(turn.random, count)]),
            };
        }
        self.round_robin
            .next(turn.random, |node| members.is_live(node))
    }

    pub(super) fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.members.get(node).map(|member| member.record.gossip)
    }

    /// The target has not answered in time: asks others, and tries a stream.
    pub(super) fn ask_others(&mut self, turn: &mut Turn<'_>) {
        let Some(probe) = &mut self.probe else {
            return;
        };
        probe.asks_at = None;
        let (target, sequence) = (probe.target, probe.sequence);
        let wait_ms = probe.ends_at.since(turn.now).as_millis();
        let Some(address) = self.address(target) else {
            return;
        };
        let members = &self.members;
        let relays = choose(
            turn.random,
            self.round_robin.all(),
            self.config.indirect_probes,
            |node| {
                let status = members.get(node).map(|member| member.status);
                node != target && status == Some(Status::Alive)
            },
        );
        let request = Message::PingRequest {
            sequence,
            target,
            address,
            wait_ms: u32::try_from(wait_ms).unwrap_or(MAX_RELAY_WAIT_MS),
            nack: self.config.lifeguard.local_health,
        };
        for relay in relays {
            let Some(address) = self.address(relay) else {
                continue;
            };
            if let Some(probe) = &mut self.probe {
                probe.relays.insert(relay, Relayed::Asked);
            }
            let to = Destination {
                node: relay,
                address,
            };
            self.send(turn, to, None, std::slice::from_ref(&request));
        }
        let errand = Errand::Ping { sequence };
        self.open_stream(turn, errand, Some(target), address);
    }

    /// The period is over without an answer.
    pub(super) fn probe_failed(&mut self, turn: &mut Turn<'_>) {
        let Some(probe) = self.probe.take() else {
            return;
        };
        if !self.members.is_live(probe.target) {
            return;
        }
        self.counters.probes_failed += 1;
        self.awareness.note(Sign::ProbeFailed {
            missed_nacks: probe.missed_nacks(),
        });
        self.accuse(turn, probe.target);
    }

    pub(super) fn probe_answered(&mut self) {
        if self.probe.take().is_some() {
            self.awareness.note(Sign::ProbeAnswered);
        }
    }

    /// An acknowledgement counts for the probe whose number it carries, from its target or from one
    /// that was asked; for nothing else, however late or early it comes.
    pub(super) fn ack(&mut self, turn: &mut Turn<'_>, source: NodeId, sequence: u32) {
        if let Some(probe) = &self.probe {
            let asked = source == probe.target || probe.relays.contains_key(&source);
            if self.has(Planted::AnyAckCounts) || (probe.sequence == sequence && asked) {
                self.probe_answered();
                return;
            }
        }
        if let Some(relay) = self.relays.answered(sequence, source) {
            let to = Destination {
                node: relay.origin,
                address: relay.origin_address,
            };
            let ack = Message::Ack {
                sequence: relay.origin_sequence,
            };
            self.send(turn, to, None, &[ack]);
        }
    }

    pub(super) fn nack(&mut self, source: NodeId, sequence: u32) {
        if let Some(probe) = &mut self.probe
            && probe.sequence == sequence
            && let Some(relayed) = probe.relays.get_mut(&source)
        {
            *relayed = Relayed::Nack;
        }
    }

    /// The target answered on a stream.
    pub(super) fn pinged(&mut self, peer: NodeId, sequence: u32) {
        if let Some(probe) = &self.probe
            && probe.target == peer
            && probe.sequence == sequence
        {
            self.counters.probes_answered_by_stream += 1;
            self.probe_answered();
        }
    }

    /// Probes a member for another one.
    pub(super) fn ping_request(
        &mut self,
        turn: &mut Turn<'_>,
        origin: Destination,
        origin_sequence: u32,
        target: Destination,
        (wait_ms, nack): (u32, bool),
    ) {
        if target.node == self.me {
            let ack = Message::Ack {
                sequence: origin_sequence,
            };
            self.send(turn, origin, None, &[ack]);
            return;
        }
        let wait = ms(wait_ms.min(MAX_RELAY_WAIT_MS).into());
        let sequence = self.next_ping();
        let relay = Relay {
            origin: origin.node,
            origin_address: origin.address,
            origin_sequence,
            target: target.node,
            target_address: target.address,
            nack_at: nack.then(|| turn.now.after(wait * 4 / 5)),
            expires_at: turn.now.after(wait),
        };
        if self.relays.insert(sequence, relay) {
            self.send(turn, target, None, &[Message::Ping { sequence }]);
        } else {
            self.counters.refuse(Refusal::Full);
        }
    }

    /// Tells an origin that its target has not answered so far.
    pub(super) fn send_nack(&mut self, turn: &mut Turn<'_>, relay: &Relay) {
        let to = Destination {
            node: relay.origin,
            address: relay.origin_address,
        };
        let nack = Message::Nack {
            sequence: relay.origin_sequence,
        };
        self.send(turn, to, None, &[nack]);
    }

    /// What was asked of a peer and not answered: sent again when it turns out that it did not
    /// trust us.
    pub(super) fn unanswered(&self, peer: NodeId) -> Vec<Message> {
        let mut again = Vec::new();
        if let Some(probe) = &self.probe {
            let (target, sequence) = (probe.target, probe.sequence);
            if target == peer {
                again.push(Message::Ping { sequence });
            }
            if probe.relays.get(&peer) == Some(&Relayed::Asked)
                && let Some(address) = self.address(target)
            {
                let left_ms = probe.ends_at.since(self.now).as_millis();
                again.push(Message::PingRequest {
                    sequence,
                    target,
                    address,
                    wait_ms: u32::try_from(left_ms).unwrap_or(MAX_RELAY_WAIT_MS),
                    nack: self.config.lifeguard.local_health,
                });
            }
        }
        let relayed = self.relays.towards(peer);
        again.extend(relayed.map(|(sequence, _)| Message::Ping { sequence }));
        again.truncate(4);
        again
    }
}
