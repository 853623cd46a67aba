//! Joining through seeds, and finding back after a partition.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Node, Turn};
use crate::config::ms;
use crate::fact::Status;
use crate::identity::NodeId;
use crate::interface::{Effect, Event, Seed};
use crate::planted::Planted;
use crate::random::{below, choose, index, shuffle};
use crate::sync::Errand;
use crate::time::{Time, nanos};

/// Somebody who should be in the cluster and is not.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Missing {
    Member(NodeId, SocketAddr),
    Seed(Seed),
}

/// How many seeds are tried at once.
const SEEDS_AT_ONCE: usize = 3;

/// What is known of the way in.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Joining {
    seeds: Vec<Seed>,
    /// When it is tried next; none once it worked.
    next: Option<Time>,
    attempts: u32,
    /// Names whose addresses are waited for.
    resolving: BTreeSet<String>,
}

impl Joining {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.next
    }
}

impl Node {
    pub(super) fn join(&mut self, turn: &mut Turn<'_>, seeds: Vec<Seed>) {
        if !self.is_here() {
            return;
        }
        if self.has(Planted::JoinResetsIncarnation) {
            self.incarnation = crate::identity::Incarnation::first(self.incarnation.boot());
        }
        self.joining = Joining {
            seeds,
            next: Some(turn.now),
            ..Joining::default()
        };
        self.join_if_due(turn);
    }

    pub(super) fn join_if_due(&mut self, turn: &mut Turn<'_>) {
        if self.joining.next.is_none_or(|at| at > turn.now) || !self.is_here() {
            return;
        }
        self.joining.next = Some(turn.now.after(self.retry_after()));
        self.joining.attempts = self.joining.attempts.saturating_add(1);
        self.try_seeds(turn);
    }

    /// Twice as long after each attempt, up to the interval of rejoining.
    fn retry_after(&self) -> Duration {
        let first = self.config.join_retry_ms;
        let most = self.config.rejoin_interval_ms.max(first);
        ms(first
            .saturating_mul(1 << self.joining.attempts.min(16))
            .min(most))
    }

    fn try_seeds(&mut self, turn: &mut Turn<'_>) {
        let mut seeds = self.joining.seeds.clone();
        shuffle(turn.random, &mut seeds);
        for seed in seeds.into_iter().take(SEEDS_AT_ONCE) {
            self.try_seed(turn, seed);
        }
    }

    fn try_seed(&mut self, turn: &mut Turn<'_>, seed: Seed) {
        match seed {
            Seed::Address(address) => self.try_address(turn, address),
            Seed::Name { name, port } => {
                self.joining.resolving.insert(name.clone());
                turn.effects.push(Effect::Resolve { name, port });
            }
        }
    }

    fn try_address(&mut self, turn: &mut Turn<'_>, address: SocketAddr) {
        if address != self.record.gossip {
            self.open_stream(turn, Errand::Sync, None, address);
        }
    }

    pub(super) fn resolved(&mut self, turn: &mut Turn<'_>, name: &str, addresses: &[SocketAddr]) {
        if !self.joining.resolving.remove(name) || !self.is_here() {
            return;
        }
        let known = self.known_addresses();
        let chosen = choose(turn.random, addresses, SEEDS_AT_ONCE, |address| {
            !known.contains(&address)
        });
        for address in chosen {
            self.try_address(turn, address);
        }
    }

    /// A full exchange that this node began has worked.
    pub(super) fn joined(&mut self, turn: &mut Turn<'_>, through: NodeId) {
        if self.joining.next.take().is_some() {
            self.joining.attempts = 0;
            turn.event(Event::JoinSucceeded { through });
        }
    }

    /// Tries to reach somebody who belongs to the cluster and is not in it: a failed member, or a
    /// seed that no member's record names. The first heals partitions, the second the islands that
    /// nodes form which joined through each other before either reached the rest.
    ///
    /// The chance is the number of the missing by that of the living, so that a cluster together
    /// tries each about once in an interval, however large it is, and a lonely node always tries.
    pub(super) fn rejoin_if_due(&mut self, turn: &mut Turn<'_>) {
        if self.timers.rejoin > turn.now {
            return;
        }
        let interval = nanos(ms(self.config.rejoin_interval_ms));
        let spread = below(turn.random, interval / 4 + 1);
        let next = turn.now.0.saturating_add(interval - interval / 8 + spread);
        self.timers.rejoin = Time(next);
        if !self.is_here() || self.has(Planted::NoRejoin) {
            return;
        }
        let mut missing = self.missing();
        if below(turn.random, self.alive() as u64) < missing.len() as u64 {
            let chosen = index(turn.random, missing.len());
            match missing.swap_remove(chosen) {
                Missing::Member(node, address) => {
                    self.open_stream(turn, Errand::Sync, Some(node), address);
                }
                Missing::Seed(seed) => self.try_seed(turn, seed),
            }
        }
    }

    fn missing(&self) -> Vec<Missing> {
        let failed = self
            .members
            .gone()
            .filter(|(_, member)| member.status == Status::Dead)
            .map(|(node, member)| Missing::Member(node, member.record.gossip));
        let mut missing: Vec<Missing> = failed.collect();
        // Seeds are looked for once the first way in was found; until then they are tried anyway.
        if self.joining.next.is_none() && !self.joining.seeds.is_empty() {
            let known = self.known_addresses();
            let strange = self.joining.seeds.iter().filter(|seed| match seed {
                Seed::Address(address) => !known.contains(address),
                Seed::Name { .. } => true,
            });
            missing.extend(strange.cloned().map(Missing::Seed));
        }
        missing
    }

    fn known_addresses(&self) -> BTreeSet<SocketAddr> {
        let mut known: BTreeSet<SocketAddr> = self
            .members
            .iter()
            .map(|(_, member)| member.record.gossip)
            .collect();
        known.insert(self.record.gossip);
        known
    }
}
