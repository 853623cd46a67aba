//! The world: hosts with a node each, the network between them, and time. It carries out what the
//! nodes want and what faults do; it judges nothing. Whoever watches it does.

mod faults;
mod host;
mod streams;

use std::net::SocketAddr;

use gossip::{Effect, Entry, Input, KeyRing, Node, Seed as JoinSeed};
use simulation::{Events, LinkModel, Network, Seed, Time};

pub(crate) use host::{Host, key_ring};
use host::{Inbox, Randomness};
use streams::{Connections, Piece};

/// Somebody who sees all that happens.
pub(crate) trait Watch {
    /// A life of a node began.
    fn started(&mut self, now: Time, host: usize, node: &Node, start: Start);
    /// A life ended.
    fn stopped(&mut self, now: Time, host: usize);
    /// A node took something in.
    fn handled(&mut self, now: Time, host: usize, before: &Before, taken: &Taken, node: &Node);
    /// A node told its sink something.
    fn event(&mut self, now: Time, host: usize, event: &gossip::Event);
    /// A node sent a datagram.
    fn sent(&mut self, now: Time, host: usize, bytes: &[u8]);
}

/// How a life begins.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// With what the last one kept.
    Kept,
    /// With an empty disk.
    Wiped,
}

/// What a node was like before it took something in.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Before {
    pub(crate) probing: Option<(gossip::NodeId, gossip::Time)>,
    pub(crate) accepted: u64,
    pub(crate) accusations: u64,
    pub(crate) incarnation: gossip::Incarnation,
}

/// What a node took in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    Tick,
    Datagram {
        /// Whom it was sent to.
        meant_for: usize,
        sent_at: Time,
        bytes: Vec<u8>,
    },
    Other,
}

/// A datagram under way.
#[derive(Clone, Debug)]
struct Datagram {
    from: usize,
    meant_for: usize,
    sent_at: Time,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Happening {
    Tick(usize),
    Datagram {
        to: usize,
        datagram: Datagram,
    },
    Stream {
        connection: u64,
        side: usize,
        piece: Piece,
    },
}

/// What it means that a host stands still.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stall {
    /// Its process does not run: timers are late, what comes waits.
    Process {
        /// Whether the node sees its late timers before the datagrams that waited: the harder case.
        timers_first: bool,
    },
    /// It neither sends nor receives while its timers go on, as in Lifeguard's experiments
    /// (section 5).
    Messages,
}

/// How a world is made.
#[derive(Clone, Debug)]
pub(crate) struct Making {
    pub(crate) seed: Seed,
    pub(crate) nodes: usize,
    pub(crate) config: gossip::Config,
    pub(crate) link: LinkModel,
    pub(crate) stall: Stall,
    /// Whether a restarted node begins with the boot epoch that it had: a bug of the driver.
    pub(crate) reuse_boot: bool,
    pub(crate) planted: Option<gossip::planted::Planted>,
    /// How many datagrams are kept for replay.
    pub(crate) recorded: usize,
}

/// The world.
pub(crate) struct World<W> {
    pub(crate) now: Time,
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    pub(crate) watch: W,
    making: Making,
    events: Events<Happening>,
    connections: Connections,
    recorded: std::collections::VecDeque<Datagram>,
}

/// The gossip address of a host.
pub(crate) fn address(host: usize) -> SocketAddr {
    let [_, a, b, c] = (host as u32).to_be_bytes();
    ([10, a, b, c], 7946).into()
}

fn host_of(address: SocketAddr) -> Option<usize> {
    match address {
        SocketAddr::V4(address) => Some((u32::from(*address.ip()) & 0xff_ffff) as usize),
        SocketAddr::V6(_) => None,
    }
}

/// The id of the node on a host; its number and one, so that they are not taken for each other.
pub(crate) fn node_id(host: usize) -> gossip::NodeId {
    gossip::NodeId(host as u32 + 1)
}

/// The host of a node.
pub(crate) fn host_of_node(node: gossip::NodeId) -> usize {
    node.0 as usize - 1
}

impl<W: Watch> World<W> {
    /// A world whose hosts are down.
    pub(crate) fn new(making: Making, watch: W) -> World<W> {
        World {
            now: Time::ZERO,
            hosts: (0..making.nodes)
                .map(|host| Host::new(making.seed, host))
                .collect(),
            network: Network::new(making.seed, making.nodes, making.link.clone()),
            watch,
            events: Events::new(),
            connections: Connections::default(),
            recorded: std::collections::VecDeque::new(),
            making,
        }
    }

    pub(crate) fn config(&self) -> &gossip::Config {
        &self.making.config
    }

    /// How many things have happened.
    pub(crate) fn happened(&self) -> u64 {
        self.events.processed()
    }

    /// Begins a life on a host and lets it join through all others.
    pub(crate) fn start(&mut self, host: usize, start: Start) {
        let state = &mut self.hosts[host];
        if state.node.is_some() {
            return;
        }
        match start {
            Start::Wiped => state.boot = 1,
            Start::Kept if self.making.reuse_boot => state.boot = state.boot.max(1),
            Start::Kept => state.boot += 1,
        }
        let local = state.clock.local(self.now);
        let mut random = Randomness(state.random.clone());
        let node = Node::new(
            self.making.config.clone(),
            node_id(host),
            gossip::BootEpoch(state.boot),
            state.record(host),
            state.ring(),
            local,
            &mut random,
        );
        let mut node = node.expect("the settings were checked");
        if let Some(bug) = self.making.planted {
            node.plant(bug);
        }
        state.random = random.0;
        self.watch.started(self.now, host, &node, start);
        state.node = Some(node);
        state.tick_at = None;
        self.join_again(host);
    }

    /// Lets a host join through all others.
    pub(crate) fn join_again(&mut self, host: usize) {
        let seeds = (0..self.making.nodes).filter(|seed| *seed != host);
        let seeds = seeds.map(|seed| JoinSeed::Address(address(seed))).collect();
        self.input(host, Input::Join(seeds), &Taken::Other);
    }

    /// Ends a host's life at once.
    pub(crate) fn crash(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        if state.node.take().is_some() {
            state.life += 1;
            state.inbox = Inbox::default();
            state.outbox.clear();
            state.tick_at = None;
            self.watch.stopped(self.now, host);
            self.reset_streams_of(host);
        }
    }

    /// Lets time pass until `until`.
    pub(crate) fn run_until(&mut self, until: Time) {
        while self.events.next_at().is_some_and(|at| at <= until) {
            if let Some((at, happening)) = self.events.pop() {
                self.now = at;
                self.happen(happening);
            }
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick(host) => self.tick(host),
            Happening::Datagram { to, datagram } => self.deliver(to, datagram),
            Happening::Stream {
                connection,
                side,
                piece,
            } => self.stream_piece(connection, side, piece),
        }
    }

    fn tick(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let frozen = state.is_paused() && self.making.stall != Stall::Messages;
        if state.tick_at != Some(self.now) || frozen {
            return;
        }
        state.tick_at = None;
        self.tick_if_due(host);
    }

    fn tick_if_due(&mut self, host: usize) {
        let state = &self.hosts[host];
        let local = state.clock.local(self.now);
        let due = state.node.as_ref().and_then(Node::deadline);
        if due.is_some_and(|at| at <= local) {
            self.input(host, Input::Tick, &Taken::Tick);
        } else {
            self.schedule(host);
        }
    }

    fn deliver(&mut self, to: usize, datagram: Datagram) {
        let state = &mut self.hosts[to];
        if state.is_paused() {
            state.inbox.datagram(datagram);
            return;
        }
        self.take_datagram(to, datagram);
    }

    fn take_datagram(&mut self, to: usize, datagram: Datagram) {
        let taken = Taken::Datagram {
            meant_for: datagram.meant_for,
            sent_at: datagram.sent_at,
            bytes: datagram.bytes,
        };
        if let Taken::Datagram { bytes, .. } = &taken {
            let from = address(datagram.from);
            self.input(to, Input::Datagram { from, bytes }, &taken);
        }
    }

    /// Hands something to a node, if it runs, and carries out what it wants.
    pub(crate) fn input(&mut self, host: usize, input: Input<'_>, taken: &Taken) {
        let state = &mut self.hosts[host];
        let local = state.clock.local(self.now);
        let Some(node) = &mut state.node else {
            return;
        };
        let before = Before {
            probing: node.probing(),
            accepted: node.counters().datagrams_accepted,
            accusations: node.counters().accusations,
            incarnation: node.incarnation(),
        };
        let mut random = Randomness(state.random.clone());
        let effects = node.handle(local, input, &mut random);
        state.random = random.0;
        if *taken == Taken::Tick {
            let next = node.deadline();
            assert!(
                next.is_none_or(|next| next > local),
                "a tick does all that is due"
            );
        }
        self.watch.handled(self.now, host, &before, taken, node);
        for effect in effects {
            self.effect(host, effect);
        }
        self.schedule(host);
    }

    fn effect(&mut self, host: usize, effect: Effect) {
        let state = &mut self.hosts[host];
        let held_back = state.is_paused() && self.making.stall == Stall::Messages;
        match effect {
            Effect::Send { .. }
            | Effect::OpenStream { .. }
            | Effect::SendStream { .. }
            | Effect::CloseStream(_)
                if held_back =>
            {
                state.outbox.push(effect);
            }
            Effect::Send { to, bytes } => {
                self.watch.sent(self.now, host, &bytes);
                if let Some(to) = host_of(to).filter(|to| *to < self.hosts.len()) {
                    self.send(host, to, bytes);
                }
            }
            Effect::OpenStream { stream, to } => self.open(host, stream, host_of(to)),
            Effect::SendStream { stream, bytes } => self.send_stream(host, stream, bytes),
            Effect::CloseStream(stream) => self.close(host, stream),
            // Seeds are given by address here; nothing has to be resolved.
            Effect::Resolve { .. } => {}
            Effect::Event(event) => {
                if let gossip::Event::BootEpochRaised(boot) = event {
                    self.hosts[host].boot = boot.0;
                }
                self.watch.event(self.now, host, &event);
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        let datagram = Datagram {
            from,
            meant_for: to,
            sent_at: self.now,
            bytes,
        };
        if self.making.recorded > 0 {
            if self.recorded.len() >= self.making.recorded {
                self.recorded.pop_front();
            }
            self.recorded.push_back(datagram.clone());
        }
        let arrivals = self.network.route(self.now, from, to, datagram.bytes.len());
        if let Some((last, earlier)) = arrivals.split_last() {
            for at in earlier {
                let datagram = datagram.clone();
                self.events.push(*at, Happening::Datagram { to, datagram });
            }
            self.events
                .push(*last, Happening::Datagram { to, datagram });
        }
    }

    /// Sees to it that a node is called at its deadline, at the latest. One that is called earlier
    /// than need be only looks at its deadline again.
    fn schedule(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let Some(deadline) = state.node.as_ref().and_then(Node::deadline) else {
            return;
        };
        let at = state.clock.real(deadline).max(self.now);
        if state.tick_at.is_none_or(|scheduled| at < scheduled) {
            state.tick_at = Some(at);
            self.events.push(at, Happening::Tick(host));
        }
    }

    /// Somebody sends recorded datagrams again: to whom they were sent, or to another one.
    pub(crate) fn replay(&mut self, number: u64, amount: u64) {
        let mut draws = self.making.seed.draws("replay", &[number]);
        for _ in 0..amount {
            let length = self.recorded.len() as u64;
            let index = draws.below(length) as usize;
            let Some(datagram) = self.recorded.get(index).cloned() else {
                return;
            };
            let to = if draws.chance(0.2) {
                draws.below(self.hosts.len() as u64) as usize
            } else {
                datagram.meant_for
            };
            self.events
                .push(self.now, Happening::Datagram { to, datagram });
        }
    }

    pub(crate) fn publish(&mut self, host: usize, entry: Entry) {
        self.input(host, Input::Publish(entry), &Taken::Other);
    }

    pub(crate) fn use_ring(&mut self, host: usize, stage: usize) {
        self.hosts[host].ring_stage = stage;
        let ring: KeyRing = key_ring(stage);
        self.input(host, Input::UseKeys(ring), &Taken::Other);
    }
}
