//! Streams: opening and accepting them, and filling them with this node's state.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Node, Turn};
use crate::codec::{Item, MAX_MESSAGE_BYTES};
use crate::config::ms;
use crate::fact::Status;
use crate::identity::NodeId;
use crate::interface::{Effect, StreamId};
use crate::lww::Entry;
use crate::random::{below, choose};
use crate::refusal::Refusal;
use crate::sync::{Cursor, Errand, MAX_CHUNK_BYTES, Step, Stream};
use crate::time::{Time, nanos};

/// The open streams, by name.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Streams {
    all: BTreeMap<StreamId, Stream>,
    opened: u64,
}

impl Streams {
    pub(super) fn remove(&mut self, stream: StreamId) {
        self.all.remove(&stream);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.all.values().map(Stream::ends_at).min()
    }

    pub(super) fn all(&self) -> BTreeMap<StreamId, Time> {
        let ends = |(id, stream): (&StreamId, &Stream)| (*id, stream.ends_at());
        self.all.iter().map(ends).collect()
    }

    fn count(&self, opened: bool) -> usize {
        let of_side = |id: &&StreamId| matches!(id, StreamId::Opened(_)) == opened;
        self.all.keys().filter(of_side).count()
    }
}

/// What comes next in a full state.
enum Next {
    /// An item, and where sending stands after it.
    Item(Item, Cursor),
    /// Nothing more of this kind; the next kind begins there.
    Kind(Cursor),
    End,
}

impl Node {
    /// Opens a stream, unless there are too many.
    pub(super) fn open_stream(
        &mut self,
        turn: &mut Turn<'_>,
        errand: Errand,
        peer: Option<NodeId>,
        to: SocketAddr,
    ) {
        if self.streams.count(true) >= self.config.max_streams {
            self.counters.refuse(Refusal::TooManyStreams);
            return;
        }
        let ends_at = turn.now.after(ms(self.config.stream_timeout_ms));
        let me = self.identity();
        let (state, hello) = Stream::open(errand, me, peer, &self.auth, turn.random, ends_at);
        self.streams.opened += 1;
        self.counters.streams_opened += 1;
        let stream = StreamId::Opened(self.streams.opened);
        self.streams.all.insert(stream, state);
        turn.effects.push(Effect::OpenStream { stream, to });
        self.send_stream(turn, stream, hello);
    }

    fn send_stream(&mut self, turn: &mut Turn<'_>, stream: StreamId, bytes: Vec<u8>) {
        self.counters.stream_bytes_sent += bytes.len() as u64;
        turn.effects.push(Effect::SendStream { stream, bytes });
    }

    fn close_stream(&mut self, turn: &mut Turn<'_>, stream: StreamId) {
        self.streams.remove(stream);
        turn.effects.push(Effect::CloseStream(stream));
    }

    /// Makes use of what came on a stream; its first bytes open the accepting side.
    pub(super) fn stream_bytes(&mut self, turn: &mut Turn<'_>, id: StreamId, bytes: &[u8]) {
        if !self.streams.all.contains_key(&id) {
            if matches!(id, StreamId::Opened(_)) {
                return; // Closed here while they were on their way.
            }
            if self.streams.count(false) >= self.config.max_streams {
                self.counters.refuse(Refusal::TooManyStreams);
                turn.effects.push(Effect::CloseStream(id));
                return;
            }
            let ends_at = turn.now.after(ms(self.config.stream_timeout_ms));
            self.streams.all.insert(id, Stream::accept(ends_at));
        }
        if let Some(stream) = self.streams.all.get_mut(&id) {
            stream.receive(bytes);
        }
        loop {
            let me = self.identity();
            let Some(stream) = self.streams.all.get_mut(&id) else {
                return;
            };
            match stream.step(me, &mut self.auth, turn.random) {
                Ok(None) => return,
                Ok(Some(steps)) => self.steps(turn, id, steps),
                Err(reason) => {
                    self.counters.refuse(reason);
                    self.close_stream(turn, id);
                    return;
                }
            }
        }
    }

    fn steps(&mut self, turn: &mut Turn<'_>, id: StreamId, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Reply(bytes) => self.send_stream(turn, id, bytes),
                Step::Pinged { peer, sequence } => self.pinged(peer, sequence),
                Step::State { peer, items } => {
                    for item in items {
                        self.item(turn, peer, item);
                    }
                }
                Step::SendState => self.send_state(turn, id),
                Step::Exchanged { peer } => {
                    self.counters.syncs_completed += 1;
                    // Who came to us may be as alone as we are: only our own way in counts.
                    if matches!(id, StreamId::Opened(_)) {
                        self.joined(turn, peer);
                    }
                }
                Step::Close => self.close_stream(turn, id),
            }
        }
    }

    /// Sends the next chunk of this node's state, if it is its turn.
    pub(super) fn send_state(&mut self, turn: &mut Turn<'_>, id: StreamId) {
        let Some(cursor) = self.streams.all.get(&id).and_then(Stream::cursor) else {
            return;
        };
        let (items, next) = self.chunk(cursor);
        if let Some(stream) = self.streams.all.get_mut(&id) {
            let steps = stream.send_chunk(&items, next, &self.auth);
            self.steps(turn, id, steps);
        }
    }

    /// A chunk of this node's state from `cursor` on, and where it ends, if not at the end of all.
    fn chunk(&self, mut cursor: Cursor) -> (Vec<u8>, Option<Cursor>) {
        let mut items = Vec::new();
        while items.len() + MAX_MESSAGE_BYTES <= MAX_CHUNK_BYTES {
            match self.next_item(cursor) {
                Next::Item(item, after) => {
                    item.write(&mut items);
                    cursor = after;
                }
                Next::Kind(first) => cursor = first,
                Next::End => return (items, None),
            }
        }
        (items, Some(cursor))
    }

    /// What comes at `cursor`.
    fn next_item(&self, cursor: Cursor) -> Next {
        match cursor {
            Cursor::Myself => Next::Item(self.own_item(), Cursor::Members(None)),
            Cursor::Members(last) => match self.members.after(last).next() {
                Some((node, member)) => {
                    let item = Item::Member {
                        node,
                        incarnation: member.incarnation,
                        status: member.status,
                        record_incarnation: member.record_incarnation,
                        record: member.record.clone(),
                    };
                    Next::Item(item, Cursor::Members(Some(node)))
                }
                None => Next::Kind(Cursor::Leaders(None)),
            },
            Cursor::Leaders(last) => match self.leaders.after(last).next() {
                Some((id, led)) => {
                    let item = Item::Entry(Entry::Leader(id, led));
                    Next::Item(item, Cursor::Leaders(Some(id)))
                }
                None => Next::Kind(Cursor::Owners(None)),
            },
            Cursor::Owners(last) => match self.owners.after(last).next() {
                Some((id, owned)) => {
                    let item = Item::Entry(Entry::Owner(id, owned));
                    Next::Item(item, Cursor::Owners(Some(id)))
                }
                None => Next::End,
            },
        }
    }

    fn own_item(&self) -> Item {
        Item::Member {
            node: self.me,
            incarnation: self.incarnation,
            status: if self.is_here() {
                Status::Alive
            } else {
                Status::Left
            },
            record_incarnation: self.incarnation,
            record: self.record.clone(),
        }
    }

    /// Exchanges the full state with a random member.
    pub(super) fn sync_if_due(&mut self, turn: &mut Turn<'_>) {
        if self.timers.sync > turn.now {
            return;
        }
        // A little earlier or later each time, so that members do not fall into step.
        let interval = nanos(self.config.sync_interval(self.alive()));
        let spread = below(turn.random, interval / 4 + 1);
        self.timers.sync = Time(
            turn.now
                .0
                .saturating_add(interval - interval / 8)
                .saturating_add(spread),
        );
        if !self.is_here() {
            return;
        }
        let members = &self.members;
        let partner = choose(turn.random, self.round_robin.all(), 1, |node| {
            members.is_live(node)
        });
        for node in partner {
            if let Some(address) = self.address(node) {
                self.open_stream(turn, Errand::Sync, Some(node), address);
            }
        }
    }

    pub(super) fn expire_streams(&mut self, turn: &mut Turn<'_>) {
        let expired: Vec<_> = self
            .streams
            .all
            .iter()
            .filter(|(_, stream)| stream.ends_at() <= turn.now)
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.close_stream(turn, id);
        }
    }
}
