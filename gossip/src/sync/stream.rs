//! One stream's phases.

use super::frame::{Frame, MAX_FRAME_BYTES, Place, Wanted, cut};
use crate::auth::Authenticator;
use crate::codec::{Item, Messages};
use crate::identity::{Life, NodeId};
use crate::lww::{PartitionId, RangeId};
use crate::random::Random;
use crate::refusal::Refusal;
use crate::time::Time;

/// What a stream was opened for.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Errand {
    /// To see whether the probed member lives though it answers no datagram.
    Ping { sequence: u32 },
    /// To exchange the full state.
    Sync,
}

/// How far a sender is: what it sent last of each kind.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Cursor {
    Myself,
    Members(Option<NodeId>),
    Leaders(Option<PartitionId>),
    Owners(Option<RangeId>),
}

#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    AwaitHello,
    AwaitWelcome,
    AwaitConfirm,
    /// The other side's state comes.
    Receive,
    /// This side's state goes.
    Send(Cursor),
}

/// Who this node is at the moment.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) life: Life,
}

/// What a frame leads to, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Send this.
    Reply(Vec<u8>),
    /// The probed member answered.
    Pinged { peer: NodeId, sequence: u32 },
    /// Take over a part of the other's state.
    State { peer: NodeId, items: Vec<Item> },
    /// Begin to send this side's state.
    SendState,
    /// Both states are exchanged.
    Exchanged { peer: NodeId },
    /// Close the stream.
    Close,
}

/// One stream, at either end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Stream {
    errand: Errand,
    opener: bool,
    phase: Phase,
    /// Who is at the other end: who should be, then who is.
    peer: Option<NodeId>,
    peer_life: Option<Life>,
    buffer: Vec<u8>,
    /// The next frame's place in each direction.
    incoming: Place,
    outgoing: Place,
    /// This side's nonce, until it is part of the places.
    nonce: u64,
    ends_at: Time,
}

impl Stream {
    /// Opens one: the stream and its first bytes.
    pub(crate) fn open(
        errand: Errand,
        me: Identity,
        peer: Option<NodeId>,
        auth: &Authenticator,
        random: &mut dyn Random,
        ends_at: Time,
    ) -> (Stream, Vec<u8>) {
        let nonce = random.next_u64();
        let mut stream = Stream::new(errand, true, Phase::AwaitWelcome, ends_at);
        stream.peer = peer;
        let hello = Frame::Hello {
            wanted: match errand {
                Errand::Ping { .. } => Wanted::Ping,
                Errand::Sync => Wanted::Sync,
            },
            source: me.node,
            destination: peer,
            life: me.life,
            nonce,
        };
        let bytes = stream.seal(&hello, auth);
        for place in [&mut stream.incoming, &mut stream.outgoing] {
            place.opener_nonce = nonce;
            place.opener = me.node.0;
        }
        (stream, bytes)
    }

    /// Accepts one.
    pub(crate) fn accept(ends_at: Time) -> Stream {
        Stream::new(Errand::Sync, false, Phase::AwaitHello, ends_at)
    }

    fn new(errand: Errand, opener: bool, phase: Phase, ends_at: Time) -> Stream {
        let place = |from_opener| Place {
            from_opener,
            ..Place::default()
        };
        Stream {
            errand,
            opener,
            phase,
            peer: None,
            peer_life: None,
            buffer: Vec::new(),
            incoming: place(!opener),
            outgoing: place(opener),
            nonce: 0,
            ends_at,
        }
    }

    pub(crate) fn ends_at(&self) -> Time {
        self.ends_at
    }

    fn seal(&mut self, frame: &Frame<'_>, auth: &Authenticator) -> Vec<u8> {
        let bytes = frame.seal(auth.codes(), &self.outgoing);
        self.outgoing.index += 1;
        bytes
    }

    /// Takes bytes in; [`Stream::step`] then makes use of them.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Uses the next complete frame. None if there is no more.
    pub(crate) fn step(
        &mut self,
        me: Identity,
        auth: &mut Authenticator,
        random: &mut dyn Random,
    ) -> Result<Option<Vec<Step>>, Refusal> {
        let Some(bytes) = cut(&mut self.buffer)? else {
            assert!(self.buffer.len() <= MAX_FRAME_BYTES + 4);
            return Ok(None);
        };
        let frame = Frame::open(&bytes, auth.codes(), &self.incoming)?;
        self.incoming.index += 1;
        let steps = match (self.phase, frame) {
            (
                Phase::AwaitHello,
                Frame::Hello {
                    wanted,
                    source,
                    destination,
                    life,
                    nonce,
                },
            ) => {
                if destination.is_some_and(|node| node != me.node) {
                    return Err(Refusal::Destination);
                }
                if source == me.node {
                    return Err(Refusal::OwnPacket);
                }
                self.peer_life = Some(life);
                self.welcome(me, source, nonce, wanted, auth, random)
            }
            (
                Phase::AwaitWelcome,
                Frame::Welcome {
                    source,
                    life,
                    sent,
                    nonce,
                },
            ) => {
                if source == me.node {
                    return Err(Refusal::OwnPacket);
                }
                if self.peer.is_some_and(|meant| meant != source) {
                    return Err(Refusal::Destination);
                }
                auth.trust(source, life, sent);
                self.welcomed(source, nonce, auth)
            }
            (Phase::AwaitConfirm, Frame::Confirm { sent }) => {
                if let (Some(peer), Some(life)) = (self.peer, self.peer_life) {
                    auth.trust(peer, life, sent);
                }
                self.phase = Phase::Send(Cursor::Myself);
                vec![Step::SendState]
            }
            (Phase::Receive, Frame::Chunk { last, items }) => self.chunk(last, items)?,
            _ => return Err(Refusal::OutOfTurn),
        };
        Ok(Some(steps))
    }

    fn welcome(
        &mut self,
        me: Identity,
        opener: NodeId,
        opener_nonce: u64,
        wanted: Wanted,
        auth: &mut Authenticator,
        random: &mut dyn Random,
    ) -> Vec<Step> {
        for place in [&mut self.incoming, &mut self.outgoing] {
            place.opener_nonce = opener_nonce;
            place.opener = opener.0;
        }
        self.peer = Some(opener);
        self.phase = Phase::AwaitConfirm;
        self.nonce = random.next_u64();
        let welcome = Frame::Welcome {
            source: me.node,
            life: me.life,
            sent: auth.sent(opener),
            nonce: self.nonce,
        };
        let reply = Step::Reply(self.seal(&welcome, auth));
        self.settle(self.nonce, me.node);
        match wanted {
            Wanted::Ping => vec![reply, Step::Close],
            Wanted::Sync => vec![reply],
        }
    }

    /// From now on both nonces and both ends are part of each frame's place.
    fn settle(&mut self, acceptor_nonce: u64, acceptor: NodeId) {
        for place in [&mut self.incoming, &mut self.outgoing] {
            place.acceptor_nonce = acceptor_nonce;
            place.acceptor = acceptor.0;
        }
    }

    fn welcomed(&mut self, peer: NodeId, nonce: u64, auth: &mut Authenticator) -> Vec<Step> {
        self.peer = Some(peer);
        self.settle(nonce, peer);
        if let Errand::Ping { sequence } = self.errand {
            return vec![Step::Pinged { peer, sequence }, Step::Close];
        }
        self.phase = Phase::Receive;
        let confirm = Frame::Confirm {
            sent: auth.sent(peer),
        };
        vec![Step::Reply(self.seal(&confirm, auth))]
    }

    fn chunk(&mut self, last: bool, items: &[u8]) -> Result<Vec<Step>, Refusal> {
        let items = Messages::read_items(items)?;
        let Some(peer) = self.peer else {
            return Err(Refusal::OutOfTurn);
        };
        let mut steps = vec![Step::State { peer, items }];
        if last && self.opener {
            self.phase = Phase::Send(Cursor::Myself);
            steps.push(Step::SendState);
        } else if last {
            steps.extend([Step::Exchanged { peer }, Step::Close]);
        }
        Ok(steps)
    }

    /// Where sending stands, if it is this side's turn.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        match self.phase {
            Phase::Send(cursor) => Some(cursor),
            _ => None,
        }
    }

    /// Makes a chunk of `items`, after which sending stands at `next`, or is done.
    pub(crate) fn send_chunk(
        &mut self,
        items: &[u8],
        next: Option<Cursor>,
        auth: &Authenticator,
    ) -> Vec<Step> {
        let last = next.is_none();
        let chunk = Frame::Chunk { last, items };
        let mut steps = vec![Step::Reply(self.seal(&chunk, auth))];
        match (next, self.opener, self.peer) {
            (Some(cursor), ..) => self.phase = Phase::Send(cursor),
            (None, true, Some(peer)) => {
                steps.extend([Step::Exchanged { peer }, Step::Close]);
            }
            (None, ..) => self.phase = Phase::Receive,
        }
        steps
    }
}

#[cfg(test)]
mod tests;
