//! A node: what outlives its processes.

use std::collections::BTreeMap;
use std::time::Duration;

use raft::{Index, Io, ReplicaId};
use simulation::{Draws, Seed};

use super::Event;
use crate::check::Holder;
use crate::clock::Clock;
use crate::log::Log;
use crate::profile::Profile;
use crate::replica::{Process, Replica};

/// A machine with a disk and a clock.
pub(crate) struct Node {
    pub(crate) clock: Clock,
    pub(crate) replica: Option<Replica>,
    /// Of the next replica that is made here.
    pub(crate) next_incarnation: u32,
    /// Reasons for which it is down: it is up when none is left.
    pub(crate) down: u32,
    /// Reasons for which its process stands still.
    pub(crate) paused: u32,
    /// What reached its process meanwhile.
    pub(crate) stalled: Vec<Event>,
    /// What its disk has done that the process has not heard of.
    pub(crate) unheard: Option<Io>,
    /// Delays of its disk by faults that last.
    pub(crate) slow: Vec<Duration>,
    /// Faults that last and make its syncs fail, or its writes tear.
    pub(crate) failing: u32,
    pub(crate) tearing: u32,
    /// Counts starts: what an earlier process asked for means nothing to a later one.
    pub(crate) run: u64,
    /// Its clock's usual drift.
    pub(crate) drift_ppm: i32,
    pub(crate) disk_draws: Draws,
    pub(crate) timer_draws: Draws,
}

impl Node {
    pub(crate) fn new(seed: Seed, node: usize, profile: &Profile) -> Node {
        let mut clock = seed.draws("clock", &[node as u64]);
        let begins_ns = clock.below(1_000_000_000_000);
        let drift_ppm = clock.below(2 * profile.drift_ppm + 1) as i32 - profile.drift_ppm as i32;
        Node {
            clock: Clock::new(begins_ns, drift_ppm),
            replica: None,
            next_incarnation: 0,
            down: 0,
            paused: 0,
            stalled: Vec::new(),
            unheard: None,
            slow: Vec::new(),
            failing: 0,
            tearing: 0,
            run: 0,
            drift_ppm,
            disk_draws: seed.draws("disk", &[node as u64]),
            timer_draws: seed.draws("timer", &[node as u64]),
        }
    }

    pub(crate) fn process(&self) -> Option<&Process> {
        self.replica.as_ref()?.process.as_ref()
    }

    pub(crate) fn process_mut(&mut self) -> Option<&mut Process> {
        self.replica.as_mut()?.process.as_mut()
    }

    /// The id of its replica, whether that runs or not.
    pub(crate) fn id(&self) -> Option<ReplicaId> {
        self.replica.as_ref().map(|replica| replica.id)
    }

    /// How long the write that begins now takes.
    pub(crate) fn write_takes(&mut self, profile: &Profile) -> Duration {
        let mut takes = profile.disk_min + self.disk_draws.exponential(profile.disk_mean);
        for mean in &self.slow {
            takes += self.disk_draws.exponential(*mean);
        }
        takes
    }
}

/// Every durable log there is or was.
pub(crate) struct Copies<'a> {
    pub(crate) nodes: &'a [Node],
    pub(crate) lost: &'a BTreeMap<ReplicaId, Vec<Log>>,
}

impl Holder for Copies<'_> {
    fn holds(&self, id: ReplicaId, index: Index, chain: u64) -> bool {
        let replica = self.nodes[id.node.0 as usize].replica.as_ref();
        let present = replica.filter(|replica| replica.id == id);
        let present = present.map(|replica| &replica.disk.image().log);
        let lost = self.lost.get(&id).into_iter().flatten();
        // What retention has dropped was there before.
        let holds = |log: &Log| match log.at(index) {
            Some(base) => base.chain == chain,
            None => index < log.start(),
        };
        present.into_iter().chain(lost).any(holds)
    }
}
