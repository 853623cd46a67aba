//! Datagrams: filling and sending them, and making use of those that come.

use std::net::SocketAddr;

use super::{Node, Turn};
use crate::auth::Opened;
use crate::codec::{
    HEADER_BYTES, MAX_CHALLENGE_BYTES, MAX_MESSAGE_BYTES, MAX_PACKET_BYTES, Message, Messages,
};
use crate::fact::{Claim, Fact, Status};
use crate::identity::NodeId;
use crate::interface::Effect;
use crate::keys::CODE_BYTES;
use crate::planted::Planted;
use crate::refusal::Refusal;
use crate::time::Time;

/// What a packet may hold below its code.
const ROOM: usize = MAX_PACKET_BYTES - CODE_BYTES;

// A claim with the largest record fits beside what answers and asks.
const _: () = assert!(HEADER_BYTES + MAX_CHALLENGE_BYTES + 256 + MAX_MESSAGE_BYTES <= ROOM);

/// Who a packet goes to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Destination {
    pub(super) node: NodeId,
    pub(super) address: SocketAddr,
}

impl Node {
    /// Sends a packet: an answer to a challenge, messages, and as many updates as fit.
    pub(super) fn send(
        &mut self,
        turn: &mut Turn<'_>,
        to: Destination,
        answer: Option<u64>,
        messages: &[Message],
    ) {
        let mut packet = Vec::with_capacity(256);
        self.head(turn, &mut packet, to, answer, messages);
        // Updates would be dropped by whoever does not trust us, yet count as sent.
        if self.auth.is_trusted_by(to.node) {
            self.piggyback(&mut packet, to.node);
        }
        self.seal_and_send(turn, to, packet);
    }

    /// Sends a packet without updates, to whoever has not proved to be who it says.
    fn send_bare(
        &mut self,
        turn: &mut Turn<'_>,
        to: Destination,
        answer: Option<u64>,
        messages: &[Message],
    ) {
        let mut packet = Vec::with_capacity(96);
        self.head(turn, &mut packet, to, answer, messages);
        self.seal_and_send(turn, to, packet);
    }

    fn head(
        &mut self,
        turn: &mut Turn<'_>,
        packet: &mut Vec<u8>,
        to: Destination,
        answer: Option<u64>,
        messages: &[Message],
    ) {
        let header = self.auth.header(to.node, answer, turn.now, turn.random);
        header.write(packet);
        for message in messages {
            message.write(packet);
        }
    }

    fn seal_and_send(&mut self, turn: &mut Turn<'_>, to: Destination, mut packet: Vec<u8>) {
        assert!(packet.len() <= ROOM || self.has(Planted::UnboundedPackets));
        self.auth.seal(&mut packet);
        self.counters.datagrams_sent += 1;
        self.counters.datagram_bytes_sent += packet.len() as u64;
        turn.effects.push(Effect::Send {
            to: to.address,
            bytes: packet,
        });
    }

    /// Fills the rest of a packet with updates: first what concerns its receiver (the Buddy
    /// System), then members, then entries of the maps.
    fn piggyback(&mut self, packet: &mut Vec<u8>, to: NodeId) {
        let most_times = self.config.most_transmissions(self.alive());
        let mut told = None;
        if self.config.lifeguard.buddy
            && let Some(fact) = self.held_against(to)
        {
            Message::Fact(fact).write(packet);
            told = Some(to);
        }
        let room = if self.has(Planted::UnboundedPackets) {
            usize::MAX
        } else {
            ROOM
        };
        self.updates.fill(packet, room, most_times, told);
        self.entry_updates.fill(packet, room, most_times, None);
    }

    /// The claim that a member should refute, if there is one.
    fn held_against(&self, node: NodeId) -> Option<Fact> {
        let member = self.members.get(node)?;
        let claim = match member.status {
            Status::Suspect => Claim::Suspect { by: self.me },
            Status::Dead => Claim::Dead { by: self.me },
            Status::Alive | Status::Left => return None,
        };
        Some(Fact {
            node,
            incarnation: member.incarnation,
            claim,
        })
    }

    /// Makes use of a datagram.
    pub(super) fn datagram(&mut self, turn: &mut Turn<'_>, from: SocketAddr, bytes: &[u8]) {
        match self.auth.open(bytes, turn.now, turn.random) {
            Err(reason) => self.counters.refuse(reason),
            Ok(Opened::Stranger { header }) => {
                self.counters.refuse(Refusal::Stranger);
                let to = Destination {
                    node: header.source,
                    address: from,
                };
                // It is asked to prove itself, and given the proof that it asked for: two nodes
                // that are strangers to each other would otherwise wait for each other for ever.
                let repeated = match header.challenge {
                    Some(_) => self.unanswered(header.source),
                    None => Vec::new(),
                };
                self.send_bare(turn, to, header.challenge, &repeated);
            }
            Ok(Opened::Trusted {
                header,
                messages,
                answered,
            }) => match Messages::read(messages) {
                Err(malformed) => self.counters.refuse(malformed.into()),
                Ok(messages) => {
                    self.counters.datagrams_accepted += 1;
                    let peer = Destination {
                        node: header.source,
                        address: from,
                    };
                    if self.has(Planted::SuspectExtendsItself) {
                        self.suspicions.restart(peer.node, turn.now);
                    }
                    if let Some(issued) = answered {
                        self.proved(peer.node, issued);
                    }
                    self.messages(turn, peer, messages, header.challenge);
                }
            },
        }
    }

    /// A peer answered a challenge: if that was issued after the probe of it began, it is as good
    /// as an acknowledgement.
    fn proved(&mut self, peer: NodeId, issued: Time) {
        if let Some(probe) = &self.probe
            && probe.target == peer
            && probe.started <= issued
        {
            self.probe_answered();
        }
    }

    fn messages(
        &mut self,
        turn: &mut Turn<'_>,
        peer: Destination,
        messages: Vec<Message>,
        challenge: Option<u64>,
    ) {
        let mut replies = Vec::new();
        let mut accused = false;
        for message in messages {
            match message {
                Message::Ping { sequence } => replies.push(Message::Ack { sequence }),
                Message::PingRequest {
                    sequence,
                    target,
                    address,
                    wait_ms,
                    nack,
                } => {
                    let target = Destination {
                        node: target,
                        address,
                    };
                    self.ping_request(turn, peer, sequence, target, (wait_ms, nack));
                }
                Message::Ack { sequence } => self.ack(turn, peer.node, sequence),
                Message::Nack { sequence } => self.nack(peer.node, sequence),
                Message::Fact(fact) => {
                    accused |= fact.node == self.me && fact.status() != Status::Alive;
                    self.fact(turn, fact);
                }
                Message::Entry(entry) => self.entry(turn, entry, false),
            }
        }
        // Whoever accuses this node hears its refutation, which heads the queue, at once: gossip
        // might miss it until the suspicion is over.
        let refutes = accused && self.config.lifeguard.buddy && self.is_here();
        if challenge.is_some() {
            // Whatever we sent it before was not used, because it did not trust us.
            replies.extend(self.unanswered(peer.node));
        }
        if challenge.is_some() || !replies.is_empty() || refutes {
            replies.truncate(MOST_REPLIES);
            self.send(turn, peer, challenge, &replies);
        }
    }
}

/// The most direct messages in one packet. A packet of ours never causes more; one that does is
/// answered in part.
const MOST_REPLIES: usize = 8;
