//! The plan's faults come true.

use std::time::Duration;

use raft::{Configuration, Index, Message, Reads, ReplicaId};
use simulation::{DiskFault, Fault};
use smallvec::SmallVec;

use super::{Event, World};
use crate::check::{Broken, is_quorum};
use crate::replica::Packet;

/// How long a request may be under way: longer than anybody stands still. When the faults are over,
/// which is before the operator stops, nobody does any more.
const UNDER_WAY: Duration = Duration::from_secs(20);

impl World {
    pub(super) fn fault_begins(&mut self, number: usize) -> Result<(), Broken> {
        let timed = self.faults[number].clone();
        self.tell(|| timed.to_string());
        if self.network.begin(&timed.fault, timed.ends()) {
            return Ok(());
        }
        match timed.fault {
            Fault::Crash { node } => self.down(node),
            Fault::Wipe { node } => {
                self.down(node);
                self.wipe(node);
            }
            Fault::Pause { node } => self.nodes[node].paused += 1,
            Fault::Skew {
                node, drift_ppm, ..
            } => self.set_drift(node, drift_ppm),
            Fault::Disk { node, fault } => match fault {
                DiskFault::Slow { mean } => self.nodes[node].slow.push(mean),
                DiskFault::FailSync => self.nodes[node].failing += 1,
                DiskFault::TornOnCrash => self.nodes[node].tearing += 1,
                DiskFault::Damage => self.damage(node, number),
            },
            Fault::Custom { name, node, amount } => self.operate(&name, node, amount)?,
            Fault::Cut { .. }
            | Fault::Isolate { .. }
            | Fault::Partition { .. }
            | Fault::Clog { .. }
            | Fault::Network { .. } => unreachable!("the network took it"),
        }
        Ok(())
    }

    pub(super) fn fault_ends(&mut self, number: usize) -> Result<(), Broken> {
        let fault = self.faults[number].fault.clone();
        self.tell(|| format!("over: {fault}"));
        match fault {
            Fault::Crash { node } | Fault::Wipe { node } => self.up(node),
            Fault::Pause { node } => {
                self.nodes[node].paused -= 1;
                self.resume(node)
            }
            Fault::Skew { node, .. } => {
                let usual = self.nodes[node].drift_ppm;
                self.set_drift(node, usual);
                Ok(())
            }
            Fault::Disk { node, fault } => {
                let node = &mut self.nodes[node];
                match fault {
                    DiskFault::Slow { mean } => {
                        let place = node.slow.iter().position(|slow| *slow == mean);
                        node.slow.remove(place.expect("what ends has begun"));
                    }
                    DiskFault::FailSync => node.failing -= 1,
                    DiskFault::TornOnCrash => node.tearing -= 1,
                    DiskFault::Damage => {}
                }
                Ok(())
            }
            fault => {
                self.network.end(&fault);
                Ok(())
            }
        }
    }

    /// The node goes down: its process dies, and what was not durable may be gone.
    pub(super) fn down(&mut self, node: usize) {
        self.nodes[node].down += 1;
        self.crash(node);
    }

    fn crash(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        state.stalled.clear();
        state.unheard = None;
        let torn = state.tearing > 0;
        let mut draws = self.seed.draws("crash", &[node as u64, state.run]);
        state.run += 1;
        if let Some(replica) = &mut state.replica
            && replica.process.take().is_some()
        {
            replica.disk.crash(&mut draws, torn);
        }
    }

    /// A process ends itself, as it must when a write has failed; something starts it again.
    pub(super) fn stop(&mut self, node: usize) -> Result<(), Broken> {
        self.down(node);
        let run = self.nodes[node].run;
        let mut draws = self.seed.draws("restart", &[node as u64, run]);
        let after = draws.between(Duration::from_millis(10), Duration::from_millis(500));
        self.events.push(self.now + after, Event::Restart { node });
        Ok(())
    }

    /// A reason to be down is gone.
    pub(super) fn up(&mut self, node: usize) -> Result<(), Broken> {
        self.nodes[node].down -= 1;
        if self.nodes[node].down == 0 {
            return self.start(node);
        }
        Ok(())
    }

    /// A process that stood still goes on. What has come meanwhile is there all at once, and it may
    /// well look at its clients before it looks at the clock.
    fn resume(&mut self, node: usize) -> Result<(), Broken> {
        if self.nodes[node].paused > 0 {
            return Ok(());
        }
        let mut stalled = std::mem::take(&mut self.nodes[node].stalled);
        let run = self.nodes[node].run;
        let mut draws = self.seed.draws("resume", &[node as u64, run, self.now.0]);
        match draws.below(3) {
            0 => {}
            1 => draws.shuffle(&mut stalled),
            _ => stalled.sort_by_key(|event| !matches!(event, Event::Call { .. })),
        }
        for event in stalled {
            self.handle(event)?;
        }
        self.hear_of_disk(node)
    }

    fn set_drift(&mut self, node: usize, drift_ppm: i32) {
        let now = self.now;
        let state = &mut self.nodes[node];
        state.clock.set_drift(now, drift_ppm);
        if let Some(process) = state.process_mut() {
            process.timer = None;
        }
        self.set_timer(node);
    }

    /// A leader that has just handed over hears nothing of its successor for a while: the moment at
    /// which it must not rely on its lease any more. Only in runs that have faults, and before they end.
    pub(super) fn deafen(&mut self, node: usize) {
        let timeout = self.profile.settings.election_timeout;
        let mut draws = self.seed.draws("deaf", &[node as u64, self.now.0]);
        let until = self.now + draws.between(timeout / 4, timeout);
        if self.faults.is_empty() || until > self.healing.healed() || !draws.chance(0.5) {
            return;
        }
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.network.cut(other, node);
        }
        self.events.push(until, Event::Hears { node });
    }

    /// A replica that has just heard a leader, and is asked whether it would have another one, is
    /// restarted, and asked once more: the moment at which it must know that it has slept. Only where
    /// leaders rely on leases, in runs that have faults, and before they end.
    pub(super) fn stumble(&mut self, node: usize, question: &Message) {
        let timeout = self.profile.settings.election_timeout;
        let mut draws = self.seed.draws("stumble", &[node as u64, self.now.0]);
        let restarts = self.now + draws.between(timeout / 100, timeout / 4);
        let asked = restarts + draws.between(Duration::ZERO, timeout / 4);
        let leases = matches!(self.profile.settings.reads, Reads::Lease { .. });
        let process = self.nodes[node].process();
        let follows = process.is_some_and(|it| it.group.leader().is_some() && it.leads().is_none());
        let may = leases && follows && !self.faults.is_empty() && asked <= self.healing.healed();
        if !may || !draws.chance(0.2) {
            return;
        }
        self.tell(|| format!("n{node} stumbles"));
        self.down(node);
        self.events.push(restarts, Event::Restart { node });
        let packet = Packet {
            message: question.clone(),
            entries: SmallVec::new(),
        };
        self.events.push(asked, Event::Arrive(Box::new(packet)));
    }

    pub(super) fn hears(&mut self, node: usize) -> Result<(), Broken> {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.network.heal(other, node);
        }
        Ok(())
    }

    /// The node's disk is empty from now on, if the group can survive that. The process is down.
    fn wipe(&mut self, node: usize) {
        let Some(id) = self.nodes[node].id() else {
            return;
        };
        if self.survives_without(id) {
            self.retire(node);
        }
    }

    /// A replica is gone for ever: its disk was lost, or it was removed from the group and deleted.
    pub(super) fn retire(&mut self, node: usize) {
        if let Some(replica) = self.nodes[node].replica.take() {
            let had = replica.disk.image().log.clone();
            self.lost.entry(replica.id).or_default().push(had);
            self.retired.insert(replica.id);
            self.nodes[node].run += 1;
            self.nodes[node].stalled.clear();
            self.nodes[node].unheard = None;
            self.tell(|| format!("{} is gone", replica.id));
        }
    }

    /// Something on the disk goes bad, if the group can survive that.
    fn damage(&mut self, node: usize, number: usize) {
        let Some(id) = self.nodes[node].id() else {
            return;
        };
        if !self.survives_without(id) {
            return;
        }
        let mut draws = self.seed.draws("damage", &[number as u64]);
        if let Some(replica) = &mut self.nodes[node].replica {
            replica.disk.rot(&mut draws);
        }
    }

    /// Whether every membership that counts somewhere would still have a quorum of whole disks.
    fn survives_without(&self, id: ReplicaId) -> bool {
        let memberships = self.memberships_in_force();
        memberships
            .iter()
            .all(|it| is_quorum(it, |voter| voter != id && self.is_whole(voter)))
    }

    /// Whether a replica has all that it ever had.
    pub(super) fn is_whole(&self, id: ReplicaId) -> bool {
        let replica = self.nodes[id.node.0 as usize].replica.as_ref();
        let replica = replica.filter(|replica| replica.id == id);
        replica.is_some_and(|replica| !replica.disk.is_damaged())
    }

    /// The last membership that is committed, all after it that are in some log, and those that were
    /// asked for so lately that the request, or a message of a leader that took it, may be under way.
    pub(super) fn memberships_in_force(&self) -> Vec<&Configuration> {
        let mut committed: Option<(Index, &Configuration)> = None;
        let mut all: Vec<(Index, &Configuration)> = Vec::new();
        for node in &self.nodes {
            let Some(replica) = &node.replica else {
                continue;
            };
            let process = replica.process.as_ref().map(|process| &process.log);
            for log in process.into_iter().chain([&replica.disk.image().log]) {
                for (index, configuration) in log.configurations() {
                    let base = self.history.committed_at(*index);
                    let is_before = *index < log.start();
                    let is_committed = is_before || (base.is_some() && log.at(*index) == base);
                    if is_committed && committed.is_none_or(|(latest, _)| latest < *index) {
                        committed = Some((*index, configuration));
                    }
                    all.push((*index, configuration));
                }
            }
        }
        let since = committed.map_or(Index(0), |(index, _)| index);
        let later = all.into_iter().filter(|(index, _)| *index > since);
        let asked_for = self.asked_for.iter().rev();
        let under_way = asked_for.take_while(|(at, _)| self.open && *at + UNDER_WAY > self.now);
        committed
            .into_iter()
            .chain(later)
            .map(|(_, configuration)| configuration)
            .chain(under_way.map(|(_, configuration)| configuration))
            .collect()
    }
}
