//! Which connections there are, which are wanted, and what is under way on each.
//!
//! A client wants *one connection to each shard that leads a partition it uses*. The first one goes
//! to a bootstrap address and lands on any shard; it serves for that one. The others name the shard
//! they want in their handshake. When that is refused (the connection stays on another shard), or
//! cannot be had for now, requests for the shard's partitions go over whatever connection there is
//! to its node, which forwards them; the wanted one is tried again later.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use millrace_wire::ids::{NodeId, ShardId};

use super::metadata::Place;
use super::random::{Backoff, Random};
use super::requests::Pending;
use super::time::Time;
use crate::ClientError;

/// How long a shard that did not take a connection is left alone. Its requests are forwarded
/// meanwhile, so nothing but a little time is lost.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// A connection's number. It is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// Any shard of any node.
    Any,
    /// One shard of one node.
    Shard(Place),
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Dialling,
    Handshaking,
    Ready(Ready),
}

/// What the handshake said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) place: Place,
    pub(crate) max_frame_bytes: u32,
    pub(crate) max_in_flight: usize,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) target: Target,
    pub(crate) address: String,
    pub(crate) state: State,
    /// Frames given to the face, and of these written to the socket.
    pub(crate) sent: u64,
    pub(crate) written: u64,
    next_correlation: u32,
    /// Frame number and correlation id of requests that get no answer.
    to_be_written: VecDeque<(u64, u32)>,
    /// Requests without an answer, by correlation id.
    pub(crate) unanswered: BTreeMap<u32, Pending>,
    /// Produce requests among them, by producer.
    pub(crate) produces: BTreeMap<super::ProducerId, usize>,
}

impl Connection {
    pub(crate) fn ready(&self) -> Option<Ready> {
        match self.state {
            State::Ready(ready) => Some(ready),
            _ => None,
        }
    }

    /// The request that was sent last is answered by being written.
    pub(crate) fn await_writing(&mut self) {
        self.to_be_written
            .push_back((self.sent, self.next_correlation));
    }

    /// A request whose writing was awaited and is done.
    pub(crate) fn take_written(&mut self) -> Option<(u32, Pending)> {
        let (frame, correlation) = *self.to_be_written.front()?;
        if frame > self.written {
            return None;
        }
        self.to_be_written.pop_front();
        Some((correlation, self.unanswered.remove(&correlation)?))
    }

    pub(crate) fn next_correlation(&mut self) -> u32 {
        self.next_correlation = self.next_correlation.wrapping_add(1);
        self.next_correlation
    }
}

/// How dialling a target has gone.
#[derive(Debug, Default)]
struct Dial {
    failures: u32,
    not_before: Time,
    under_way: bool,
}

/// What to do about a target.
pub(crate) enum Want {
    /// It is being dialled, or it is too early to try again.
    Wait,
    /// Dial it: the connection with this number, to this address.
    Dial(ConnectionId, String),
}

#[derive(Debug)]
pub(crate) struct Connections {
    bootstrap: Vec<String>,
    backoff: Backoff,
    next_id: u64,
    next_bootstrap: usize,
    all: BTreeMap<ConnectionId, Connection>,
    serving: BTreeMap<Place, ConnectionId>,
    dials: BTreeMap<Target, Dial>,
    /// Why connecting failed last, for whoever waits for a connection in vain.
    pub(crate) last_failure: Option<ClientError>,
}

impl Connections {
    pub(crate) fn new(bootstrap: Vec<String>, backoff: Backoff) -> Connections {
        Connections {
            bootstrap,
            backoff,
            next_id: 0,
            next_bootstrap: 0,
            all: BTreeMap::new(),
            serving: BTreeMap::new(),
            dials: BTreeMap::new(),
            last_failure: None,
        }
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.all.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.all.get_mut(&id)
    }

    /// A connection that is ready, whichever.
    pub(crate) fn any(&self) -> Option<ConnectionId> {
        self.serving.values().next().copied()
    }

    /// How many connections are ready.
    pub(crate) fn count(&self) -> usize {
        self.serving.len()
    }

    /// The connection served by this shard.
    pub(crate) fn serving(&self, place: Place) -> Option<ConnectionId> {
        self.serving.get(&place).copied()
    }

    /// A connection to this node, whichever shard serves it.
    pub(crate) fn of_node(&self, node: NodeId) -> Option<ConnectionId> {
        let first = Place {
            node,
            shard: ShardId(0),
        };
        let (place, id) = self.serving.range(first..).next()?;
        (place.node == node).then_some(*id)
    }

    pub(crate) fn is_ready(&self, id: ConnectionId) -> bool {
        self.all
            .get(&id)
            .is_some_and(|connection| connection.ready().is_some())
    }

    /// Whether the target has failed since it was last served: do not wait for it.
    pub(crate) fn has_failed(&self, target: Target) -> bool {
        self.dials
            .get(&target)
            .is_some_and(|dial| dial.failures > 0)
    }

    /// When the next attempt for this target may be made, if that is in the future.
    pub(crate) fn not_before(&self, target: Target, now: Time) -> Option<Time> {
        let dial = self.dials.get(&target)?;
        (!dial.under_way && dial.not_before > now).then_some(dial.not_before)
    }

    /// Begins to dial, if it is time. `address` is the shard's node's; bootstrap addresses are
    /// taken in turn for [`Target::Any`].
    pub(crate) fn want(&mut self, now: Time, target: Target, address: Option<&str>) -> Want {
        let dial = self.dials.entry(target).or_default();
        if dial.under_way || dial.not_before > now {
            return Want::Wait;
        }
        let address = match (target, address) {
            (Target::Shard(_), Some(address)) => address.to_string(),
            (Target::Shard(_), None) => return Want::Wait,
            (Target::Any, _) => {
                let turn = self.next_bootstrap % self.bootstrap.len().max(1);
                self.next_bootstrap = turn + 1;
                match self.bootstrap.get(turn) {
                    Some(address) => address.clone(),
                    None => return Want::Wait,
                }
            }
        };
        dial.under_way = true;
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        let connection = Connection {
            target,
            address: address.clone(),
            state: State::Dialling,
            sent: 0,
            written: 0,
            next_correlation: 0,
            to_be_written: VecDeque::new(),
            unanswered: BTreeMap::new(),
            produces: BTreeMap::new(),
        };
        self.all.insert(id, connection);
        Want::Dial(id, address)
    }

    /// The handshake succeeded. Tells whether the connection is kept: where another one is already
    /// served by the same shard, it is not. Either way a wanted shard that did not take it counts
    /// as failed for a while.
    pub(crate) fn establish(&mut self, now: Time, id: ConnectionId, ready: Ready) -> bool {
        let Some(connection) = self.all.get_mut(&id) else {
            return false;
        };
        connection.state = State::Ready(ready);
        let target = connection.target;
        self.last_failure = None;
        match target {
            Target::Shard(wanted) if wanted != ready.place => {
                let dial = self.dials.entry(target).or_default();
                dial.under_way = false;
                dial.failures += 1;
                dial.not_before = now.plus(REFUSED_PAUSE);
            }
            _ => {
                self.dials.remove(&target);
            }
        }
        self.dials.remove(&Target::Shard(ready.place));
        let kept = *self.serving.entry(ready.place).or_insert(id) == id;
        if !kept {
            self.all.remove(&id);
        }
        kept
    }

    /// The connection is gone, or could not be made. Gives it back with what was under way.
    pub(crate) fn remove(
        &mut self,
        now: Time,
        id: ConnectionId,
        random: &mut Random,
    ) -> Option<Connection> {
        let connection = self.all.remove(&id)?;
        match connection.state {
            State::Ready(ready) => {
                if self.serving.get(&ready.place) == Some(&id) {
                    self.serving.remove(&ready.place);
                }
            }
            _ => self.postpone(now, connection.target, random),
        }
        Some(connection)
    }

    /// Whether every bootstrap address has been tried since the last success.
    pub(crate) fn round_failed(&self) -> bool {
        self.dials
            .get(&Target::Any)
            .is_some_and(|dial| dial.failures as usize >= self.bootstrap.len())
    }

    /// An attempt failed: the next one comes later. The bootstrap addresses are tried one after the
    /// other without a pause, and the pause comes after a whole round.
    fn postpone(&mut self, now: Time, target: Target, random: &mut Random) {
        let round = match target {
            Target::Any => self.bootstrap.len().max(1) as u32,
            Target::Shard(_) => 1,
        };
        let dial = self.dials.entry(target).or_default();
        dial.under_way = false;
        dial.failures += 1;
        if dial.failures.is_multiple_of(round) {
            dial.not_before = now.plus(self.backoff.pause(dial.failures / round, random));
        }
    }
}
