//! Some nodes, wires that can be cut, and time that jumps from one deadline to the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use crate::config::{Config, ms};
use crate::fact::Status;
use crate::identity::{BootEpoch, NodeId};
use crate::interface::{CheckedRecord, Effect, Event, Input, Seed, StreamId};
use crate::keys::{Key, KeyId, KeyRing};
use crate::node::Node;
use crate::random::testing::Sequence;
use crate::record::testing::record;
use crate::time::Time;

/// What is under way to a node.
#[derive(Clone, Debug)]
enum Parcel {
    Datagram { from: SocketAddr, bytes: Vec<u8> },
    Bytes { stream: StreamId, bytes: Vec<u8> },
    Writable(StreamId),
    Ended(StreamId),
}

/// The wires that do not work.
#[derive(Clone, Default, Debug)]
pub(super) struct Cuts {
    pub(super) datagrams: BTreeSet<(u32, u32)>,
    pub(super) streams: BTreeSet<(u32, u32)>,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) nodes: BTreeMap<u32, Node>,
    randoms: BTreeMap<u32, Sequence>,
    pub(super) cuts: Cuts,
    queue: VecDeque<(u32, Parcel)>,
    /// Each end of a stream, with its other end.
    ends: BTreeMap<(u32, StreamId), (u32, StreamId)>,
    accepted: u64,
    pub(super) events: Vec<(u32, Event)>,
    pub(super) resolves: Vec<(u32, String)>,
    /// Every datagram that was sent, with its sender and receiver.
    pub(super) sent: Vec<(u32, u32, Vec<u8>)>,
    pub(super) longest_piece: usize,
}

/// Quick settings, so that tests are short.
pub(super) fn quick() -> Config {
    let mut config = Config::new("test");
    config.ping_interval_ms = 100;
    config.ping_timeout_ms = 50;
    config.gossip_interval_ms = 20;
    config.sync_interval_ms = 2_000;
    config.rejoin_interval_ms = 1_000;
    config.join_retry_ms = 100;
    config.stream_timeout_ms = 1_000;
    config
}

pub(super) fn key(byte: u8) -> Key {
    Key::new(vec![byte; 32]).unwrap()
}

pub(super) fn ring() -> KeyRing {
    KeyRing::new(KeyId(1), key(1))
}

pub(super) fn address(node: u32) -> SocketAddr {
    record(node).gossip
}

fn number(address: SocketAddr) -> u32 {
    match address.ip() {
        std::net::IpAddr::V4(ip) => u32::from(ip) & 0xff_ffff,
        std::net::IpAddr::V6(_) => panic!("tests use IPv4"),
    }
}

impl World {
    /// A world with nodes 1 to `nodes`, who do not know each other.
    pub(super) fn apart(nodes: u32, config: &Config) -> World {
        let mut world = World {
            now: Time::ZERO,
            nodes: BTreeMap::new(),
            randoms: BTreeMap::new(),
            cuts: Cuts::default(),
            queue: VecDeque::new(),
            ends: BTreeMap::new(),
            accepted: 0,
            events: Vec::new(),
            resolves: Vec::new(),
            sent: Vec::new(),
            longest_piece: 0,
        };
        for node in 1..=nodes {
            world.start(node, 1, config);
        }
        world
    }

    /// The same, after all have joined through node 1 and the world has calmed down.
    pub(super) fn joined(nodes: u32, config: &Config) -> World {
        let mut world = World::apart(nodes, config);
        for node in 2..=nodes {
            world.join(node, 1);
        }
        world.run_ms(3_000);
        for node in 1..=nodes {
            assert_eq!(world.sees(node).len() as u32, nodes - 1, "node {node}");
        }
        world.events.clear();
        world.sent.clear();
        world
    }

    pub(super) fn start(&mut self, node: u32, boot: u32, config: &Config) {
        let mut random = Sequence(u64::from(node) << 32 | u64::from(boot));
        let state = Node::new(
            config.clone(),
            NodeId(node),
            BootEpoch(boot),
            CheckedRecord::new(record(node)).unwrap(),
            ring(),
            self.now,
            &mut random,
        );
        self.nodes.insert(node, state.unwrap());
        self.randoms.insert(node, random);
    }

    pub(super) fn kill(&mut self, node: u32) {
        self.nodes.remove(&node);
    }

    pub(super) fn join(&mut self, node: u32, seed: u32) {
        self.input(node, Input::Join(vec![Seed::Address(address(seed))]));
    }

    /// Who a node holds for alive or suspect.
    pub(super) fn sees(&self, node: u32) -> Vec<u32> {
        self.nodes[&node]
            .members()
            .filter(|(_, member)| member.status.is_live())
            .map(|(id, _)| id.0)
            .collect()
    }

    pub(super) fn status(&self, node: u32, of: u32) -> Option<Status> {
        self.nodes[&node]
            .member(NodeId(of))
            .map(|member| member.status)
    }

    pub(super) fn cut_both(&mut self, a: u32, b: u32) {
        for pair in [(a, b), (b, a)] {
            self.cuts.datagrams.insert(pair);
            self.cuts.streams.insert(pair);
        }
    }

    /// Whether `node` heard of such an event.
    pub(super) fn heard(&self, node: u32, matches: impl Fn(&Event) -> bool) -> bool {
        self.events
            .iter()
            .any(|(at, event)| *at == node && matches(event))
    }

    pub(super) fn input(&mut self, node: u32, input: Input<'_>) {
        if let Some(state) = self.nodes.get_mut(&node) {
            let random = self.randoms.get_mut(&node).unwrap();
            let effects = state.handle(self.now, input, random);
            for effect in effects {
                self.effect(node, effect);
            }
        }
    }

    fn effect(&mut self, node: u32, effect: Effect) {
        match effect {
            Effect::Event(event) => self.events.push((node, event)),
            Effect::Resolve { name, .. } => self.resolves.push((node, name)),
            Effect::Send { to, bytes } => {
                let to = number(to);
                self.sent.push((node, to, bytes.clone()));
                if !self.cuts.datagrams.contains(&(node, to)) {
                    let from = address(node);
                    self.queue.push_back((to, Parcel::Datagram { from, bytes }));
                }
            }
            Effect::OpenStream { stream, to } => {
                let to = number(to);
                let cut = self.cuts.streams.contains(&(node, to));
                if cut || !self.nodes.contains_key(&to) {
                    self.queue.push_back((node, Parcel::Ended(stream)));
                    return;
                }
                self.accepted += 1;
                let accepted = StreamId::Accepted(self.accepted);
                self.ends.insert((node, stream), (to, accepted));
                self.ends.insert((to, accepted), (node, stream));
            }
            Effect::SendStream { stream, bytes } => {
                self.longest_piece = self.longest_piece.max(bytes.len());
                if let Some((to, end)) = self.ends.get(&(node, stream)).copied() {
                    // Cut in the middle, to prove that it does not matter.
                    let (first, second) = bytes.split_at(bytes.len() / 2);
                    for half in [first, second] {
                        let bytes = half.to_vec();
                        self.queue
                            .push_back((to, Parcel::Bytes { stream: end, bytes }));
                    }
                    self.queue.push_back((node, Parcel::Writable(stream)));
                }
            }
            Effect::CloseStream(stream) => {
                if let Some((to, end)) = self.ends.remove(&(node, stream)) {
                    self.ends.remove(&(to, end));
                    self.queue.push_back((to, Parcel::Ended(end)));
                }
            }
        }
    }

    fn deliver(&mut self) {
        while let Some((to, parcel)) = self.queue.pop_front() {
            match parcel {
                Parcel::Datagram { from, bytes } => self.input(
                    to,
                    Input::Datagram {
                        from,
                        bytes: &bytes,
                    },
                ),
                Parcel::Bytes { stream, bytes } => self.input(
                    to,
                    Input::StreamBytes {
                        stream,
                        bytes: &bytes,
                    },
                ),
                Parcel::Writable(stream) => self.input(to, Input::StreamWritable(stream)),
                Parcel::Ended(stream) => self.input(to, Input::StreamEnded(stream)),
            }
        }
    }

    /// Lets so much time pass.
    pub(super) fn run_ms(&mut self, span_ms: u64) {
        let end = self.now.after(ms(span_ms));
        self.deliver();
        while let Some((at, node)) = self.next() {
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            self.input(node, Input::Tick);
            let next = self.nodes[&node].deadline();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a tick does what is due"
            );
            self.deliver();
        }
        self.now = end;
    }

    fn next(&self) -> Option<(Time, u32)> {
        self.nodes
            .iter()
            .filter_map(|(id, node)| Some((node.deadline()?, *id)))
            .min()
    }

    /// Lets time pass until something is so; how long that took.
    pub(super) fn until(&mut self, most_ms: u64, so: impl Fn(&World) -> bool) -> Option<u64> {
        (0..=most_ms / 10).find_map(|step| {
            if so(self) {
                return Some(step * 10);
            }
            self.run_ms(10);
            None
        })
    }
}
