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
use crate::random::{below, choose, shuffle};
use crate::sync::Errand;
use crate::time::{Time, nanos};

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
            match seed {
                Seed::Address(address) => self.try_address(turn, address),
                Seed::Name { name, port } => {
                    self.joining.resolving.insert(name.clone());
                    turn.effects.push(Effect::Resolve { name, port });
                }
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
        let own = self.record.gossip;
        let chosen = choose(turn.random, addresses, SEEDS_AT_ONCE, |address| {
            address != own
        });
        for address in chosen {
            self.try_address(turn, address);
        }
    }

    /// A full exchange has worked, whoever began it.
    pub(super) fn joined(&mut self, turn: &mut Turn<'_>, through: NodeId) {
        if self.joining.next.take().is_some() {
            self.joining.attempts = 0;
            self.joining.resolving.clear();
            turn.event(Event::JoinSucceeded { through });
        }
    }

    /// Tries a failed member, or the seeds when nobody else is left.
    ///
    /// The chance is the share of failed among live ones, so that a cluster together tries each
    /// failed member about once in an interval, however large it is.
    pub(super) fn rejoin_if_due(&mut self, turn: &mut Turn<'_>) {
        if self.timers.rejoin > turn.now {
            return;
        }
        let interval = nanos(ms(self.config.rejoin_interval_ms));
        let spread = below(turn.random, interval / 4 + 1);
        self.timers.rejoin = Time(turn.now.0.saturating_add(interval - interval / 8 + spread));
        if !self.is_here() || self.has(Planted::NoRejoin) {
            return;
        }
        let dead: Vec<NodeId> = self
            .members
            .gone()
            .filter(|(_, member)| member.status == Status::Dead)
            .map(|(node, _)| node)
            .collect();
        if below(turn.random, self.alive() as u64) < dead.len() as u64 {
            for node in choose(turn.random, &dead, 1, |_| true) {
                if let Some(address) = self.address(node) {
                    self.open_stream(turn, Errand::Sync, Some(node), address);
                }
            }
        }
        if self.members.live() == 0 && self.joining.next.is_none() {
            self.try_seeds(turn);
        }
    }
}
