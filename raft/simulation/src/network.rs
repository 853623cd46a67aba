//! The network: what becomes of a message on a directed link.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::draw::{Draws, Seed};
use crate::faults::Fault;
use crate::hash::{GOLDEN, mix};
use crate::time::{Time, as_nanoseconds, nanoseconds};

/// A node of the simulated world: nodes are numbered from 0.
pub type Node = usize;

/// When a routed message arrives: never, once, or twice if it is duplicated.
pub type Arrivals = SmallVec<[Time; 2]>;

/// How a link treats messages. Shares are from 0 to 1; one outside that range never or always
/// happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkModel {
    /// What every message takes at least.
    #[serde(rename = "delay_min_ns", with = "as_nanoseconds")]
    pub delay_min: Duration,
    /// The mean of what it takes above that: an exponential part, drawn per message.
    #[serde(rename = "delay_mean_ns", with = "as_nanoseconds")]
    pub delay_mean: Duration,
    /// The share of messages that are lost.
    pub loss: f64,
    /// The share of the others that arrive twice, each copy with a delay of its own.
    pub duplication: f64,
    /// The share of arrivals that get an extra delay, so that later messages overtake them.
    pub reordering: f64,
    /// The longest such extra delay: it is drawn evenly up to this.
    #[serde(rename = "reordering_delay_ns", with = "as_nanoseconds")]
    pub reordering_delay: Duration,
}

impl LinkModel {
    /// A network that delivers each message once, after exactly `delay`.
    #[must_use]
    pub fn perfect(delay: Duration) -> Self {
        Self {
            delay_min: delay,
            delay_mean: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            reordering_delay: Duration::ZERO,
        }
    }

    /// Whether every share is a number from 0 to 1.
    pub(crate) fn is_sound(&self) -> bool {
        [self.loss, self.duplication, self.reordering]
            .iter()
            .all(|share| (0.0..=1.0).contains(share))
    }
}

/// What one node gave to the network since the beginning.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Traffic {
    /// Messages and pieces of streams handed over.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that never arrive, on cut links too; and pieces of streams that were reset.
    pub lost: u64,
    /// Messages that arrive twice.
    pub duplicated: u64,
}

/// The network between `nodes` nodes, one directed link for each pair; a node's link to itself is
/// as any other.
///
/// Each message's fate is drawn from a key of its own, `hash(seed, from, to, number on the link)`.
/// So a cut, another model or a second draw for one message does not move the fate of the next.
/// Datagrams ([`route`](Self::route)) and streams ([`route_stream`](Self::route_stream)) on the same
/// link share its cuts and clogs, not its numbers.
///
/// A link is cut if [`cut`](Self::cut) says so or a fault that lasts does
/// ([`begin`](Self::begin)): two faults that overlap on a link do not end each other.
#[derive(Clone, Debug)]
pub struct Network {
    nodes: usize,
    datagram_key: u64,
    stream_key: u64,
    model: LinkModel,
    rates: Rates,
    links: Vec<Link>,
    sent: Vec<Traffic>,
    lasting: Vec<Fault>,
}

/// State of a directed link. `cut` is by hand, `severed` by the faults that last.
#[derive(Clone, Debug, Default)]
struct Link {
    datagrams: u64,
    pieces: u64,
    clogged_until: Time,
    stream_arrived: Time,
    cut: bool,
    severed: bool,
}

/// A [`LinkModel`] as integers, so that a message costs no conversions.
#[derive(Copy, Clone, Debug)]
struct Rates {
    delay_min_ns: u64,
    delay_mean_ns: u64,
    loss: Share,
    duplication: Share,
    reordering: Share,
    reordering_delay_ns: u64,
}

/// A probability as the number of 2^53 equal parts that it covers.
#[derive(Copy, Clone, Debug)]
struct Share(u64);

impl Share {
    fn new(share: f64) -> Self {
        // The conversion stops at 0 and at the greatest number, and makes 0 of what is no number.
        Self((share * (1u64 << 53) as f64) as u64)
    }

    #[inline]
    fn hits(self, draws: &mut Draws) -> bool {
        self.0 > 0 && (draws.next_u64() >> 11) < self.0
    }
}

impl Rates {
    fn new(model: &LinkModel) -> Self {
        Self {
            delay_min_ns: nanoseconds(model.delay_min),
            delay_mean_ns: nanoseconds(model.delay_mean),
            loss: Share::new(model.loss),
            duplication: Share::new(model.duplication),
            reordering: Share::new(model.reordering),
            reordering_delay_ns: nanoseconds(model.reordering_delay),
        }
    }

    #[inline]
    fn delay_ns(&self, draws: &mut Draws) -> u64 {
        if self.delay_mean_ns == 0 {
            return self.delay_min_ns;
        }
        self.delay_min_ns
            .saturating_add(draws.exponential_ns(self.delay_mean_ns))
    }

    #[inline]
    fn datagram_delay_ns(&self, draws: &mut Draws) -> u64 {
        let delay_ns = self.delay_ns(draws);
        if self.reordering.hits(draws) {
            return delay_ns.saturating_add(draws.up_to(self.reordering_delay_ns));
        }
        delay_ns
    }

    /// A lost piece is sent again after two mean delays, then after twice that, and so on. No more
    /// than six times: a link that loses everything slows a stream down, only a cut ends it.
    #[inline]
    fn stream_delay_ns(&self, draws: &mut Draws) -> u64 {
        let mut delay_ns = self.delay_ns(draws);
        let mut again_ns = self.delay_min_ns.saturating_add(self.delay_mean_ns);
        for _ in 0..6 {
            if !self.loss.hits(draws) {
                break;
            }
            again_ns = again_ns.saturating_mul(2);
            delay_ns = delay_ns.saturating_add(again_ns);
        }
        delay_ns
    }
}

impl Network {
    /// A network in which every link works and follows `model`.
    #[must_use]
    pub fn new(seed: Seed, nodes: usize, model: LinkModel) -> Self {
        Self {
            nodes,
            datagram_key: seed.derive("network datagrams", &[]).0,
            stream_key: seed.derive("network streams", &[]).0,
            rates: Rates::new(&model),
            model,
            links: vec![Link::default(); nodes * nodes],
            sent: vec![Traffic::default(); nodes],
            lasting: Vec::new(),
        }
    }

    /// Sends a datagram of `bytes` at `now`: when it arrives, if it does. It may be lost,
    /// duplicated and overtaken. On a clogged link it waits for the end of the clog first.
    #[inline]
    pub fn route(&mut self, now: Time, from: Node, to: Node, bytes: usize) -> Arrivals {
        let rates = self.rates;
        let index = self.index(from, to);
        let link = &mut self.links[index];
        let mut draws = message_draws(self.datagram_key, from, to, link.datagrams);
        link.datagrams += 1;
        let traffic = &mut self.sent[from];
        traffic.messages += 1;
        traffic.bytes += bytes as u64;
        let mut arrivals = Arrivals::new();
        if link.cut || link.severed || rates.loss.hits(&mut draws) {
            traffic.lost += 1;
            return arrivals;
        }
        let departs = now.max(link.clogged_until);
        let duplicated = rates.duplication.hits(&mut draws);
        arrivals.push(after(departs, rates.datagram_delay_ns(&mut draws)));
        if duplicated {
            traffic.duplicated += 1;
            arrivals.push(after(departs, rates.datagram_delay_ns(&mut draws)));
        }
        arrivals
    }

    /// Sends a piece of the stream from `from` to `to` at `now`: when it arrives, or none if the
    /// link is cut, which resets the connection. Pieces never overtake one another: those that
    /// arrive at the same time do so in the order of the calls, which [`Events`](crate::Events)
    /// keeps. Loss delays a piece and those behind it; nothing is duplicated.
    ///
    /// What was on its way when a link is cut still arrives; a simulator that wants a reset to
    /// swallow it numbers its connections and drops what belongs to an earlier one.
    #[inline]
    pub fn route_stream(&mut self, now: Time, from: Node, to: Node, bytes: usize) -> Option<Time> {
        let rates = self.rates;
        let index = self.index(from, to);
        let link = &mut self.links[index];
        let mut draws = message_draws(self.stream_key, from, to, link.pieces);
        link.pieces += 1;
        let traffic = &mut self.sent[from];
        traffic.messages += 1;
        traffic.bytes += bytes as u64;
        if link.cut || link.severed {
            traffic.lost += 1;
            return None;
        }
        let departs = now.max(link.clogged_until);
        let arrival = after(departs, rates.stream_delay_ns(&mut draws));
        link.stream_arrived = link.stream_arrived.max(arrival);
        Some(link.stream_arrived)
    }

    /// Makes every link follow `model` from now on. While a fault of kind [`Fault::Network`] lasts,
    /// that fault's model is followed instead.
    pub fn set_model(&mut self, model: LinkModel) {
        self.model = model;
        self.settle();
    }

    /// Cuts the link one way. Cutting a cut link changes nothing.
    pub fn cut(&mut self, from: Node, to: Node) {
        let index = self.index(from, to);
        self.links[index].cut = true;
    }

    /// Undoes [`cut`](Self::cut) and [`clog`](Self::clog) one way; a fault that lasts goes on.
    pub fn heal(&mut self, from: Node, to: Node) {
        let index = self.index(from, to);
        self.links[index].cut = false;
        self.links[index].clogged_until = Time::ZERO;
    }

    /// Makes every link work again and ends every fault that lasts, a worse model too.
    pub fn heal_all(&mut self) {
        for link in &mut self.links {
            link.cut = false;
            link.clogged_until = Time::ZERO;
        }
        self.lasting.clear();
        self.settle();
    }

    /// Holds back what is sent one way until `until`; then it goes on its way, all at once.
    pub fn clog(&mut self, from: Node, to: Node, until: Time) {
        let index = self.index(from, to);
        let link = &mut self.links[index];
        link.clogged_until = link.clogged_until.max(until);
    }

    /// Whether nothing passes from `from` to `to`.
    #[must_use]
    pub fn is_cut(&self, from: Node, to: Node) -> bool {
        let link = &self.links[self.index(from, to)];
        link.cut || link.severed
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&mut self, node: Node) {
        for other in (0..self.nodes).filter(|&other| other != node) {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// Cuts all links between nodes of different groups. The nodes that no group names form one
    /// more group.
    pub fn partition(&mut self, groups: &[Vec<Node>]) {
        for (from, to) in separated(groups, self.nodes) {
            self.cut(from, to);
        }
    }

    /// Begins a fault of the network that lasts until [`end`](Self::end); a clog ends by itself at
    /// `until`. False, and nothing happens, for faults of nodes, disks and clocks.
    pub fn begin(&mut self, fault: &Fault, until: Time) -> bool {
        match fault {
            Fault::Clog { from, to } => self.clog(*from, *to, until),
            Fault::Cut { .. }
            | Fault::Isolate { .. }
            | Fault::Partition { .. }
            | Fault::Network { .. } => {
                self.lasting.push(fault.clone());
                self.settle();
            }
            Fault::Crash { .. }
            | Fault::Wipe { .. }
            | Fault::Pause { .. }
            | Fault::Skew { .. }
            | Fault::Disk { .. }
            | Fault::Custom { .. } => return false,
        }
        true
    }

    /// Ends a fault that [`begin`](Self::begin) began; other faults on the same links go on. A
    /// fault that does not last, or was ended by [`heal_all`](Self::heal_all), changes nothing.
    pub fn end(&mut self, fault: &Fault) {
        if let Some(index) = self.lasting.iter().position(|lasting| lasting == fault) {
            self.lasting.remove(index);
            self.settle();
        }
    }

    /// What `node` has sent since the beginning.
    #[must_use]
    pub fn traffic(&self, node: Node) -> Traffic {
        self.sent[node]
    }

    /// What all nodes have sent since the beginning.
    #[must_use]
    pub fn total_traffic(&self) -> Traffic {
        self.sent
            .iter()
            .fold(Traffic::default(), |sum, one| Traffic {
                messages: sum.messages + one.messages,
                bytes: sum.bytes + one.bytes,
                lost: sum.lost + one.lost,
                duplicated: sum.duplicated + one.duplicated,
            })
    }

    /// Works out the model and the severed links from the faults that last.
    fn settle(&mut self) {
        for link in &mut self.links {
            link.severed = false;
        }
        self.rates = Rates::new(&self.model);
        for fault in std::mem::take(&mut self.lasting) {
            match &fault {
                Fault::Cut { from, to } => self.sever(*from, *to),
                Fault::Isolate { node } => {
                    for other in (0..self.nodes).filter(|other| other != node) {
                        self.sever(*node, other);
                        self.sever(other, *node);
                    }
                }
                Fault::Partition { groups } => {
                    for (from, to) in separated(groups, self.nodes) {
                        self.sever(from, to);
                    }
                }
                Fault::Network { model } => self.rates = Rates::new(model),
                other => unreachable!("{other} does not last on the network"),
            }
            self.lasting.push(fault);
        }
    }

    fn sever(&mut self, from: Node, to: Node) {
        let index = self.index(from, to);
        self.links[index].severed = true;
    }

    #[inline]
    fn index(&self, from: Node, to: Node) -> usize {
        assert!(
            from < self.nodes && to < self.nodes,
            "link {from} to {to} in a world of {} nodes",
            self.nodes
        );
        from * self.nodes + to
    }
}

/// The draws of one message, apart from those of every other.
#[inline]
fn message_draws(key: u64, from: Node, to: Node, number: u64) -> Draws {
    let link = mix(key.wrapping_add(((from as u64) << 32 | to as u64).wrapping_mul(GOLDEN)));
    Draws::from_key(mix(link.wrapping_add(number.wrapping_mul(GOLDEN))))
}

#[inline]
fn after(time: Time, delay_ns: u64) -> Time {
    Time(time.0.saturating_add(delay_ns))
}

/// The directed pairs of nodes that a partition into `groups` separates.
fn separated(groups: &[Vec<Node>], nodes: usize) -> Vec<(Node, Node)> {
    let mut group_of = vec![groups.len(); nodes];
    for (number, group) in groups.iter().enumerate() {
        for &node in group {
            group_of[node] = number;
        }
    }
    (0..nodes)
        .flat_map(|from| (0..nodes).map(move |to| (from, to)))
        .filter(|&(from, to)| group_of[from] != group_of[to])
        .collect()
}

#[cfg(test)]
mod tests;
