//! Which faults a run has, and when: drawn once, before the run, into a list.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::draw::{Draws, Seed};
use crate::faults::{DiskFault, Fault, Node, Timed};
use crate::network::LinkModel;
use crate::time::Time;

/// The largest drawn drift of a monotonic clock, either way: twice what NTP assumes of a clock at
/// its worst (RFC 5905: 500 ppm). What relies on bounded drift must allow for it on both sides.
pub const MAX_DRIFT_PPM: i32 = 1_000;

/// The largest drawn step of a wall clock, either way.
pub const MAX_OFFSET: Duration = Duration::from_secs(2);

/// The shortest drawn fault.
const SHORTEST: Duration = Duration::from_millis(1);

/// The faults of one run, in the order of their beginnings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The faults.
    pub faults: Vec<Timed>,
}

/// Which kinds of faults a run may have.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// None at all: what should hold without any trouble, and the throughput of the simulator.
    Calm,
    /// Cuts, isolated nodes, partitions, clogs, a worse network.
    Network,
    /// Crashes, lost disks, processes that stand still.
    Crashes,
    /// Slow, failing, tearing and damaged disks; and crashes, without which a tear shows nothing.
    Disks,
    /// Clocks that step and drift, processes that stand still.
    Clocks,
    /// Everything.
    Hostile,
}

/// The name of a mix that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no mix '{0}': it is one of calm, network, crashes, disks, clocks, hostile")]
pub struct UnknownMix(String);

impl Mix {
    /// All mixes, the mildest first.
    pub const ALL: [Self; 6] = [
        Self::Calm,
        Self::Network,
        Self::Crashes,
        Self::Disks,
        Self::Clocks,
        Self::Hostile,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Network => "network",
            Self::Crashes => "crashes",
            Self::Disks => "disks",
            Self::Clocks => "clocks",
            Self::Hostile => "hostile",
        }
    }

    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Calm => &[],
            Self::Network => &[
                Kind::Cut,
                Kind::Isolate,
                Kind::Partition,
                Kind::Clog,
                Kind::Network,
            ],
            Self::Crashes => &[Kind::Crash, Kind::Wipe, Kind::Pause],
            Self::Disks => &[
                Kind::Crash,
                Kind::Slow,
                Kind::FailSync,
                Kind::Damage,
                Kind::TornOnCrash,
            ],
            Self::Clocks => &[Kind::Pause, Kind::Skew],
            Self::Hostile => &[
                Kind::Cut,
                Kind::Isolate,
                Kind::Partition,
                Kind::Clog,
                Kind::Network,
                Kind::Crash,
                Kind::Wipe,
                Kind::Pause,
                Kind::Skew,
                Kind::Slow,
                Kind::FailSync,
                Kind::Damage,
                Kind::TornOnCrash,
            ],
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Mix {
    type Err = UnknownMix;

    fn from_str(name: &str) -> Result<Self, UnknownMix> {
        Self::ALL
            .into_iter()
            .find(|mix| mix.name() == name)
            .ok_or_else(|| UnknownMix(name.to_owned()))
    }
}

/// The kinds of faults that are drawn. The numbers are part of the keys of draws: a new kind gets a
/// new one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Kind {
    Cut = 0,
    Isolate = 1,
    Partition = 2,
    Clog = 3,
    Network = 4,
    Crash = 5,
    Wipe = 6,
    Pause = 7,
    Skew = 8,
    Slow = 9,
    FailSync = 10,
    Damage = 11,
    TornOnCrash = 12,
}

impl Plan {
    /// Draws the faults of a run of `nodes` nodes between `from` and `until`. Every fault is over
    /// at `until`: after it the world is whole and must converge.
    ///
    /// How often each kind happens and how long it lasts are drawn per seed ("swarm testing",
    /// Groce et al., ISSTA 2012): some runs have no fault at all, some have one kind only, some have
    /// many at once. Each fault has draws of its own, so that the faults of one kind are the same
    /// whatever other kinds the mix has.
    ///
    /// What a cluster cannot survive is not drawn: lost disks and damage hit less than half of the
    /// nodes, the same ones in the whole run. All other faults hit any node, all at once too.
    #[must_use]
    pub fn draw(seed: Seed, mix: Mix, nodes: usize, from: Time, until: Time) -> Self {
        let world = World {
            nodes,
            victims: victims(seed, nodes),
            from,
            until,
        };
        let mut faults = Vec::new();
        let spared = seed.draws("calm run", &[]).below(16) == 0;
        if spared || world.until.since(world.from) <= SHORTEST {
            return Self::default();
        }
        for &kind in mix.kinds() {
            let mut rate_draws = seed.draws("fault rate", &[kind as u64]);
            let rate = Rate::draw(&mut rate_draws);
            let count = rate.count(&mut rate_draws, until.since(from));
            for number in 0..count {
                let mut draws = seed.draws("fault", &[kind as u64, number]);
                faults.extend(world.draw(kind, &rate, &mut draws));
            }
        }
        // A stable sort: faults of the same time stay in the order of kinds and numbers.
        faults.sort_by_key(|timed| timed.at);
        Self { faults }
    }

    /// When the last fault is over.
    #[must_use]
    pub fn ends(&self) -> Time {
        self.faults
            .iter()
            .map(Timed::ends)
            .max()
            .unwrap_or(Time::ZERO)
    }

    /// Adds a fault, after those that begin no later.
    pub fn add(&mut self, timed: Timed) {
        let index = self
            .faults
            .partition_point(|present| present.at <= timed.at);
        self.faults.insert(index, timed);
    }
}

/// The nodes whose disks a run may lose or damage: the largest minority.
fn victims(seed: Seed, nodes: usize) -> Vec<Node> {
    let mut order: Vec<Node> = (0..nodes).collect();
    seed.draws("victims", &[]).shuffle(&mut order);
    order.truncate(nodes.saturating_sub(1) / 2);
    order
}

/// How often a kind of fault happens in this run, and how long it lasts.
struct Rate {
    per_minute: u64,
    mean: Duration,
}

impl Rate {
    fn draw(draws: &mut Draws) -> Self {
        const PER_MINUTE: [u64; 8] = [0, 0, 0, 1, 2, 4, 8, 16];
        const MEAN_MS: [u64; 6] = [20, 100, 300, 1_000, 2_000, 5_000];
        let per_minute = PER_MINUTE[draws.below(PER_MINUTE.len() as u64) as usize];
        let mean_ms = MEAN_MS[draws.below(MEAN_MS.len() as u64) as usize];
        Self {
            per_minute,
            mean: Duration::from_millis(mean_ms),
        }
    }

    /// The expected number for the span; what is left of a whole one is drawn.
    fn count(&self, draws: &mut Draws, span: Duration) -> u64 {
        let expected = self.per_minute as f64 * span.as_secs_f64() / 60.0;
        expected as u64 + u64::from(draws.chance(expected.fract()))
    }
}

/// What the faults of a run are drawn for.
struct World {
    nodes: usize,
    victims: Vec<Node>,
    from: Time,
    until: Time,
}

impl World {
    /// One fault of the kind; none if the world is too small for it.
    fn draw(&self, kind: Kind, rate: &Rate, draws: &mut Draws) -> Option<Timed> {
        let latest = self.until.since(self.from) - SHORTEST;
        let at = self.from + draws.between(Duration::ZERO, latest);
        let lasts = (SHORTEST + draws.exponential(rate.mean)).min(self.until.since(at));
        let fault = self.fault(kind, draws)?;
        Some(Timed { at, lasts, fault })
    }

    fn fault(&self, kind: Kind, draws: &mut Draws) -> Option<Fault> {
        let disk = |node, fault| Fault::Disk { node, fault };
        Some(match kind {
            Kind::Cut => {
                let (from, to) = self.pair(draws)?;
                Fault::Cut { from, to }
            }
            Kind::Clog => {
                let (from, to) = self.pair(draws)?;
                Fault::Clog { from, to }
            }
            Kind::Isolate => Fault::Isolate {
                node: self.node(draws)?,
            },
            Kind::Partition => Fault::Partition {
                groups: self.groups(draws)?,
            },
            Kind::Network => Fault::Network {
                model: worse_network(draws),
            },
            Kind::Crash => Fault::Crash {
                node: self.node(draws)?,
            },
            Kind::Wipe => Fault::Wipe {
                node: *draws.pick(&self.victims)?,
            },
            Kind::Pause => Fault::Pause {
                node: self.node(draws)?,
            },
            Kind::Skew => self.skew(draws)?,
            Kind::Slow => {
                let mean_ms = 1u64 << draws.below(9);
                let mean = Duration::from_millis(mean_ms);
                disk(self.node(draws)?, DiskFault::Slow { mean })
            }
            Kind::FailSync => disk(self.node(draws)?, DiskFault::FailSync),
            Kind::Damage => disk(*draws.pick(&self.victims)?, DiskFault::Damage),
            Kind::TornOnCrash => disk(self.node(draws)?, DiskFault::TornOnCrash),
        })
    }

    fn node(&self, draws: &mut Draws) -> Option<Node> {
        (self.nodes > 0).then(|| draws.below(self.nodes as u64) as Node)
    }

    /// Two different nodes.
    fn pair(&self, draws: &mut Draws) -> Option<(Node, Node)> {
        if self.nodes < 2 {
            return None;
        }
        let from = draws.below(self.nodes as u64) as Node;
        let step = 1 + draws.below(self.nodes as u64 - 1) as Node;
        Some((from, (from + step) % self.nodes))
    }

    /// Every node in one of two groups, now and then of three; none of them empty.
    fn groups(&self, draws: &mut Draws) -> Option<Vec<Vec<Node>>> {
        if self.nodes < 2 {
            return None;
        }
        let count = if self.nodes > 2 && draws.chance(0.25) {
            3
        } else {
            2
        };
        let mut order: Vec<Node> = (0..self.nodes).collect();
        draws.shuffle(&mut order);
        let mut groups: Vec<Vec<Node>> = vec![Vec::new(); count];
        for (index, node) in order.into_iter().enumerate() {
            let group = if index < count {
                index
            } else {
                draws.below(count as u64) as usize
            };
            groups[group].push(node);
        }
        for group in &mut groups {
            group.sort_unstable();
        }
        Some(groups)
    }

    fn skew(&self, draws: &mut Draws) -> Option<Fault> {
        let node = self.node(draws)?;
        let most_ns = MAX_OFFSET.as_nanos() as u64;
        let offset_ns = draws.up_to(2 * most_ns) as i64 - most_ns as i64;
        let drift_ppm = draws.up_to(2 * MAX_DRIFT_PPM as u64) as i32 - MAX_DRIFT_PPM;
        Some(Fault::Skew {
            node,
            offset_ns,
            drift_ppm,
        })
    }
}

/// Shares in whole per cent and delays in whole microseconds: short in a file, and read back
/// exactly.
fn worse_network(draws: &mut Draws) -> LinkModel {
    let microseconds = |draws: &mut Draws, powers: u64| {
        let scale = 64u64 << draws.below(powers);
        Duration::from_micros(scale + draws.below(scale))
    };
    LinkModel {
        delay_min: microseconds(draws, 8),
        delay_mean: microseconds(draws, 10),
        loss: draws.up_to(30) as f64 / 100.0,
        duplication: draws.up_to(50) as f64 / 100.0,
        reordering: draws.up_to(50) as f64 / 100.0,
        reordering_delay: microseconds(draws, 14),
    }
}

#[cfg(test)]
mod tests;
