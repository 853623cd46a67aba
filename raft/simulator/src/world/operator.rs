//! The operator: changes of membership, transfers of leadership, retention. Part of the plan, so that
//! a failure shrinks to those that it needs. Like a good one, it never asks for a membership that
//! has no quorum of whole disks; all else it leaves to the group to refuse.

use raft::{Change, Configuration, Index, Input, ReplicaId, Role};
use simulation::{Draws, Fault, Scenario, Seed, Time, Timed};

use super::clients::{Call, OPERATOR};
use super::{World, replica_id};
use crate::check::{Broken, is_quorum};
use crate::disk::Record;
use crate::replica::Replica;

/// What a plan's own faults are called, and how many there may be in a minute.
const ACTIONS: [(&str, [u64; 4]); 4] = [
    ("change", [0, 4, 12, 40]),
    ("transfer", [0, 2, 6, 30]),
    ("retention", [0, 5, 20, 60]),
    ("wrong hint", [0, 0, 5, 40]),
];

/// What the operator does in a run, and the lies of membership.
pub(crate) fn actions(scenario: &Scenario) -> Vec<Timed> {
    let seed = Seed(scenario.seed);
    let until = scenario.faults_end().since(Time::ZERO);
    let mut actions = Vec::new();
    for (number, (name, rates)) in ACTIONS.iter().enumerate() {
        let mut draws = seed.draws("operator", &[number as u64]);
        let in_a_minute = rates[draws.below(rates.len() as u64) as usize];
        let count = (in_a_minute as f64 * until.as_secs_f64() / 60.0) as u64;
        for action in 0..count {
            let mut draws = seed.draws("action", &[number as u64, action]);
            actions.push(Timed {
                at: Time::ZERO + draws.between(std::time::Duration::ZERO, until),
                lasts: std::time::Duration::ZERO,
                fault: Fault::Custom {
                    name: (*name).to_owned(),
                    node: draws.below(scenario.nodes as u64) as usize,
                    amount: draws.next_u64(),
                },
            });
        }
    }
    actions
}

impl World {
    /// One of the plan's own faults. Everything about it is drawn from its amount.
    pub(super) fn operate(&mut self, name: &str, node: usize, amount: u64) -> Result<(), Broken> {
        let mut draws = self.seed.draws("operation", &[amount]);
        match name {
            "change" => self.ask_for_change(node, &mut draws),
            "transfer" => self.ask_for_transfer(node, &mut draws),
            "retention" => self.retain(node, &mut draws),
            "wrong hint" => {
                let peer = draws.below(self.nodes.len() as u64) as usize;
                if peer == node || !self.is_awake(node) {
                    return Ok(());
                }
                let process = self.nodes[node].process().expect("it is awake");
                let silent = process.silent[peer];
                self.guess(node, peer, !silent)
            }
            // A plan from a file may name what this simulator does not know.
            other => panic!("there is no action '{other}'"),
        }
    }

    /// Who leads, as far as the operator knows; now and then it asks somebody else.
    fn addressee(&self, node: usize, draws: &mut Draws) -> usize {
        let astray = draws.chance(0.1);
        self.leader()
            .filter(|_| !astray)
            .map_or(node, |(leader, _)| leader)
    }

    fn ask_for_transfer(&mut self, node: usize, draws: &mut Draws) -> Result<(), Broken> {
        let to = self.addressee(node, draws);
        let target = draws.below(self.nodes.len() as u64) as usize;
        let Some(id) = self.nodes[target].id() else {
            return Ok(());
        };
        self.called(to, Call::Operate(Input::Transfer(id)))
    }

    /// The log of a node begins later from now on: at most after what is visible, and durable there.
    fn retain(&mut self, node: usize, draws: &mut Draws) -> Result<(), Broken> {
        let Some(process) = self.nodes[node].process_mut() else {
            return Ok(());
        };
        let start = process.log.start();
        let most = process.group.visible().min(process.group.durable()).next();
        // A log that has just begun anew is not durable up to its start yet.
        let Some(room) = most.next().0.checked_sub(start.0).filter(|room| *room > 0) else {
            return Ok(());
        };
        let start = Index(start.0 + draws.below(room));
        process.log.move_start(start);
        self.tell(|| format!("n{node}: the log begins at {start}"));
        self.write(node, Record::Start(start), None)?;
        self.step(node, Input::LogStartMoved(start), None)
    }

    fn ask_for_change(&mut self, node: usize, draws: &mut Draws) -> Result<(), Broken> {
        let to = self.addressee(node, draws);
        let Some(process) = self.nodes[to].process() else {
            return Ok(());
        };
        let Some(present) = process.group.configuration().cloned() else {
            return Ok(());
        };
        let Some((voters, learners)) = self.wanted(&present, draws) else {
            return Ok(());
        };
        let Some(wanted) = Configuration::new(&voters, &learners) else {
            return Ok(());
        };
        if !is_quorum(&wanted, |voter| self.is_whole(voter)) {
            return Ok(());
        }
        self.asked_for.push((self.now, wanted));
        let change = Change {
            token: self.token(OPERATOR),
            voters,
            learners,
        };
        self.called(to, Call::Operate(Input::Change(change)))
    }

    /// Another membership than this one.
    fn wanted(
        &mut self,
        present: &Configuration,
        draws: &mut Draws,
    ) -> Option<(Vec<ReplicaId>, Vec<ReplicaId>)> {
        let (mut voters, _, mut learners) = present.parts();
        let gone = |id: &ReplicaId| self.retired.contains(id);
        if voters.iter().chain(&learners).any(gone) {
            // First of all, those that are dead leave.
            voters.retain(|id| !self.retired.contains(id));
            learners.retain(|id| !self.retired.contains(id));
            return Some((voters, learners));
        }
        match draws.below(7) {
            0 | 1 => {
                let joins = self.candidate(present, draws)?;
                learners.push(joins);
            }
            2 => {
                let joins = self.candidate(present, draws)?;
                if draws.chance(0.5) {
                    voters.remove(draws.below(voters.len() as u64) as usize);
                }
                voters.push(joins);
            }
            3 | 4 => {
                let promoted = *draws.pick(&learners)?;
                learners.retain(|id| *id != promoted);
                if draws.chance(0.5) {
                    voters.remove(draws.below(voters.len() as u64) as usize);
                }
                voters.push(promoted);
            }
            5 => {
                let leaves = draws.below(voters.len() as u64) as usize;
                let leaves = voters.remove(leaves);
                if draws.chance(0.3) {
                    learners.push(leaves);
                }
            }
            _ => {
                let leaves = *draws.pick(&learners)?;
                learners.retain(|id| *id != leaves);
            }
        }
        Some((voters, learners))
    }

    /// A replica that can join, on a node that has none in the group. It is made first if need be. One
    /// that was named by a membership before is deleted, and another one made in its place.
    fn candidate(&mut self, present: &Configuration, draws: &mut Draws) -> Option<ReplicaId> {
        let taken: Vec<usize> = present
            .members()
            .iter()
            .map(|id| id.node.0 as usize)
            .collect();
        let free = |node: &usize| !taken.contains(node) && self.nodes[*node].down == 0;
        let free: Vec<usize> = (0..self.nodes.len()).filter(free).collect();
        let node = *draws.pick(&free)?;
        if let Some(id) = self.nodes[node].id() {
            if !self.named.contains(&id) {
                return Some(id);
            }
            if !self.is_out(id) {
                return None;
            }
            self.retire(node);
        }
        let state = &mut self.nodes[node];
        let id = replica_id(node, state.next_incarnation);
        state.next_incarnation += 1;
        state.replica = Some(Replica::new(id, &[]));
        // It cannot break anything yet: it knows nobody.
        self.start(node).ok()?;
        self.deliver_strays(node);
        Some(id)
    }

    /// Whether no membership that may still count names it.
    fn is_out(&self, id: ReplicaId) -> bool {
        self.memberships_in_force()
            .iter()
            .all(|it| !it.members().contains(&id))
    }

    /// Replicas that have left the group are deleted some time later.
    pub(super) fn sweep(&mut self) {
        for node in 0..self.nodes.len() {
            let Some(id) = self.nodes[node].id() else {
                continue;
            };
            let leads = self.nodes[node]
                .process()
                .is_some_and(|it| it.group.role() == Role::Leader);
            let mut draws = self.seed.draws("sweep", &[node as u64, self.now.0]);
            let soon = draws.chance(0.1) || !self.open;
            if soon && !leads && self.named.contains(&id) && self.is_out(id) {
                self.retire(node);
            }
        }
    }
}
