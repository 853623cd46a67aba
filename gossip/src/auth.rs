//! Whom to believe: authentication codes, replay windows and challenges.
//!
//! A datagram carries a code over the cluster's name and the whole packet: key id, source,
//! destination, the source's life, a sequence number and all that follows. That proves that
//! a holder of the key once sent it to this node. That it was sent *now* is proven by the window:
//! each sequence number of a sender's life is taken once, and none that lies [`WINDOW`] or
//! more below the highest taken. No clocks are compared.
//!
//! A life (a boot epoch and a number drawn at the start) that is not the one being tracked, be it
//! unknown, older or newer, may come from a recording. Its sender is *challenged*: only a packet that brings back a fresh random number is
//! taken, with all that is in it, and all lower numbers of that life are refused from then on.
//! A challenge rides on whatever is sent to a peer that is not trusted yet.

use std::collections::BTreeMap;

use crate::codec::{Header, Reader, Write};
use crate::identity::{BootEpoch, Life, NodeId};
use crate::keys::{CODE_BYTES, Codes, Domain, KeyRing};
use crate::planted::Planted;
use crate::random::Random;
use crate::refusal::Refusal;
use crate::time::Time;

/// How far below the highest sequence number one is still taken.
pub const WINDOW: u64 = 1_024;
const WORDS: usize = (WINDOW / 64) as usize;

/// Which numbers of a sender's life have been taken.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Window {
    life: Life,
    highest: u64,
    /// Number `n` has bit `n % WINDOW`.
    taken: [u64; WORDS],
}

impl Window {
    /// A window that takes only what comes after `highest`.
    fn beginning_after(life: Life, highest: u64) -> Window {
        Window {
            life,
            highest,
            taken: [u64::MAX; WORDS],
        }
    }

    fn place(sequence: u64) -> (usize, u64) {
        let bit = sequence % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Takes a number, once.
    fn take(&mut self, sequence: u64) -> bool {
        if sequence > self.highest {
            // Numbers that are passed over may still come: their places are freed.
            let passed = (sequence - self.highest).min(WINDOW);
            for freed in (sequence - passed + 1)..=sequence {
                let (word, bit) = Window::place(freed);
                self.taken[word] &= !bit;
            }
            self.highest = sequence;
        } else if self.highest - sequence >= WINDOW {
            return false;
        }
        let (word, bit) = Window::place(sequence);
        let fresh = self.taken[word] & bit == 0;
        self.taken[word] |= bit;
        fresh
    }
}

/// A challenge that has not been answered.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
struct Challenge {
    nonce: u64,
    issued: Time,
}

/// What is kept of one peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Peer {
    /// The last number sent to it.
    sent: u64,
    window: Option<Window>,
    /// The one before it. A stream of an earlier life may end after a later one proved itself; when
    /// that is tracked again, what was taken of it must not be taken anew.
    former: Option<Window>,
    challenge: Option<Challenge>,
    /// Whether it seems to trust us: it did not challenge us, or was answered.
    trusts_us: bool,
}

impl Peer {
    /// Tracks a life that proved itself, from its number after `sequence` on; or from where it was,
    /// if it was tracked before.
    fn track(&mut self, life: Life, sequence: u64) {
        if self
            .window
            .as_ref()
            .is_some_and(|window| window.life == life)
        {
            return;
        }
        let known = self.former.take().filter(|former| former.life == life);
        let window = known.unwrap_or_else(|| Window::beginning_after(life, sequence));
        self.former = self.window.replace(window);
    }
}

/// What an authentic datagram turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Opened<'a> {
    /// Fresh: use it.
    Trusted {
        header: Header,
        messages: &'a [u8],
        /// If it answered a challenge: when that one was issued.
        answered: Option<Time>,
    },
    /// From a life that is not trusted yet: send a challenge, use nothing of it but its own
    /// challenge.
    Stranger { header: Header },
}

/// A node's keys and what it knows of its peers' numbers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Authenticator {
    me: NodeId,
    life: Life,
    codes: Codes,
    peers: BTreeMap<NodeId, Peer>,
    max_peers: usize,
    /// Numbers to peers that are not remembered begin after this one, so that forgetting a peer
    /// never makes its window refuse us.
    floor: u64,
    planted: Option<Planted>,
}

impl Authenticator {
    pub(crate) fn new(me: NodeId, life: Life, codes: Codes, max_peers: usize) -> Authenticator {
        Authenticator {
            me,
            life,
            codes,
            peers: BTreeMap::new(),
            max_peers,
            floor: 0,
            planted: None,
        }
    }

    /// See [`Node::plant`](crate::Node::plant).
    pub(crate) fn plant(&mut self, bug: Planted) {
        self.planted = Some(bug);
    }

    pub(crate) fn life(&self) -> Life {
        self.life
    }

    pub(crate) fn codes(&self) -> &Codes {
        &self.codes
    }

    pub(crate) fn use_keys(&mut self, ring: KeyRing) {
        self.codes = self.codes.with_ring(ring);
    }

    /// Goes on as another life. Peers will challenge it; what is known of them stays.
    pub(crate) fn use_boot(&mut self, boot: BootEpoch) {
        self.life.boot = boot;
    }

    /// Drops what is kept of a peer. It is a stranger afterwards.
    pub(crate) fn forget(&mut self, peer: NodeId) {
        if let Some(peer) = self.peers.remove(&peer) {
            self.floor = self.floor.max(peer.sent);
        }
    }

    /// The record of a peer; makes room by dropping another one if there are too many.
    fn peer(&mut self, id: NodeId) -> &mut Peer {
        if self.peers.len() >= self.max_peers && !self.peers.contains_key(&id) {
            let strange = self
                .peers
                .iter()
                .find(|(_, peer)| peer.window.is_none())
                .or(self.peers.iter().next());
            if let Some(dropped) = strange.map(|(id, _)| *id) {
                self.forget(dropped);
            }
        }
        let sent = self.floor;
        self.peers.entry(id).or_insert(Peer {
            sent,
            ..Peer::default()
        })
    }

    /// The header of the next datagram to `to`. If `to` is not trusted yet, it carries a challenge.
    pub(crate) fn header(
        &mut self,
        to: NodeId,
        answer: Option<u64>,
        now: Time,
        random: &mut dyn Random,
    ) -> Header {
        let (key, source, life) = (self.codes.primary(), self.me, self.life);
        let peer = self.peer(to);
        peer.sent += 1;
        peer.trusts_us |= answer.is_some();
        let challenge = match (&peer.window, peer.challenge) {
            (Some(_), pending) => pending,
            (None, Some(pending)) => Some(pending),
            (None, None) => Some(Challenge {
                nonce: random.next_u64(),
                issued: now,
            }),
        };
        peer.challenge = challenge;
        Header {
            key,
            source,
            destination: to,
            life,
            sequence: peer.sent,
            challenge: challenge.map(|challenge| challenge.nonce),
            answer,
        }
    }

    /// The number that the next datagram to `to` will exceed.
    pub(crate) fn sent(&mut self, to: NodeId) -> u64 {
        self.peer(to).sent
    }

    /// Whether a peer will use what it is sent. One that does not trust us yet asks for proof
    /// instead, and drops the rest.
    pub(crate) fn is_trusted_by(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.trusts_us)
    }

    /// Puts the code under a packet.
    pub(crate) fn seal(&self, packet: &mut Vec<u8>) {
        let code = self.codes.seal(Domain::Datagram, &[packet]);
        packet.put(&code);
    }

    /// Throws away the challenge to a peer that is not trusted, so that an answer proves that it
    /// lives after this moment.
    pub(crate) fn renew_challenge(&mut self, of: NodeId) {
        if let Some(peer) = self.peers.get_mut(&of)
            && peer.window.is_none()
        {
            peer.challenge = None;
        }
    }

    /// Checks a datagram, in the order: form, destination, code, freshness.
    pub(crate) fn open<'a>(
        &mut self,
        packet: &'a [u8],
        now: Time,
        random: &mut dyn Random,
    ) -> Result<Opened<'a>, Refusal> {
        if packet.len() > crate::codec::MAX_PACKET_BYTES {
            return Err(Refusal::TooLong);
        }
        let split = packet.len().checked_sub(CODE_BYTES);
        let (signed, code) = packet.split_at(split.ok_or(Refusal::Malformed)?);
        let mut reader = Reader::new(signed);
        let header = Header::read(&mut reader)?;
        let any = self.planted == Some(Planted::AnyDestination);
        if header.destination != self.me && !any {
            return Err(Refusal::Destination);
        }
        if header.source == self.me {
            return Err(Refusal::OwnPacket);
        }
        match self
            .codes
            .verify(header.key, Domain::Datagram, &[signed], code)
        {
            None => return Err(Refusal::UnknownKey),
            Some(false) => return Err(Refusal::Code),
            Some(true) => {}
        }
        self.check_fresh(header, reader.rest(), now, random)
    }

    fn check_fresh<'a>(
        &mut self,
        header: Header,
        messages: &'a [u8],
        now: Time,
        random: &mut dyn Random,
    ) -> Result<Opened<'a>, Refusal> {
        let planted = self.planted;
        let peer = self.peer(header.source);
        if let Some(window) = &mut peer.window
            && window.life == header.life
        {
            if !window.take(header.sequence) && planted != Some(Planted::ReplayAccepted) {
                return Err(Refusal::Replay);
            }
            // The challenge was for another life, which was a recording.
            if peer
                .challenge
                .is_some_and(|asked| header.answer == Some(asked.nonce))
            {
                peer.challenge = None;
            }
            peer.trusts_us = header.challenge.is_none();
            return Ok(Opened::Trusted {
                header,
                messages,
                answered: None,
            });
        }
        if let Some(challenge) = peer.challenge
            && header.answer == Some(challenge.nonce)
        {
            peer.challenge = None;
            peer.trusts_us = header.challenge.is_none();
            // An answer to a fresh challenge is no repetition, whatever its number.
            peer.track(header.life, header.sequence);
            if let Some(window) = &mut peer.window {
                window.take(header.sequence);
            }
            return Ok(Opened::Trusted {
                header,
                messages,
                answered: Some(challenge.issued),
            });
        }
        if planted == Some(Planted::StrangersTrusted) {
            peer.window = Some(Window::beginning_after(header.life, header.sequence));
            return Ok(Opened::Trusted {
                header,
                messages,
                answered: None,
            });
        }
        // The number of an answered challenge is spent, so a new one is drawn for each life; one
        // that is pending serves all packets of that life that are under way.
        peer.challenge.get_or_insert_with(|| Challenge {
            nonce: random.next_u64(),
            issued: now,
        });
        Ok(Opened::Stranger { header })
    }

    /// Trusts a life that proved itself on a stream, from its number `sequence` on.
    pub(crate) fn trust(&mut self, peer: NodeId, life: Life, sequence: u64) {
        let peer = self.peer(peer);
        peer.challenge = None;
        peer.trusts_us = true;
        peer.track(life, sequence);
    }
}

#[cfg(test)]
mod tests;
