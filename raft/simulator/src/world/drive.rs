//! What reaches a process (messages, its disk, its clock) is handed to the core, and after each step
//! the core is looked over.

use std::time::Duration;

use raft::{CommitRule, Configuration, Index, Input, ReplicaId, Role, Term};

use super::{Event, World};
use crate::check::{Broken, Holder, Rule, Seen, check_membership, check_step, hold};
use crate::replica::{Packet, Process, Received, Surroundings, View};

/// Messages to replicas that are gone, at most: the first ones.
const MOST_STRAYS: usize = 64;

impl World {
    /// Whether a process runs there and is not held up.
    pub(super) fn is_awake(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.paused == 0 && node.process().is_some()
    }

    /// What reaches a process that stands still waits there.
    pub(super) fn stall(&mut self, node: usize, event: Event) {
        if self.nodes[node].process().is_some() {
            self.nodes[node].stalled.push(event);
        }
    }

    pub(super) fn arrive(&mut self, packet: Box<Packet>) -> Result<(), Broken> {
        let node = packet.message.to.node.0 as usize;
        if !self.is_awake(node) {
            self.goes_astray(&packet);
            self.stall(node, Event::Arrive(packet));
            return Ok(());
        }
        let id = self.nodes[node].id();
        if id != Some(packet.message.to) {
            return self.arrive_late(node, *packet);
        }
        let Packet { message, entries } = *packet;
        self.tell(|| {
            format!(
                "{} <- {}: {} {:?}",
                message.to, message.from, message.term, message.body
            )
        });
        let (first, configurations, snapshot) = match &message.body {
            raft::Body::Append {
                previous,
                configurations,
                ..
            } => (previous.index.next(), configurations.clone(), None),
            raft::Body::Snapshot { configuration, .. } => {
                (Index(0), Vec::new(), Some(configuration.clone()))
            }
            _ => (Index(0), Vec::new(), None),
        };
        let received = Received {
            first,
            entries,
            configurations,
            snapshot,
            transfer: matches!(message.body, raft::Body::Vote { transfer: true, .. }),
        };
        if matches!(message.body, raft::Body::PreVote { .. }) {
            self.stumble(node, &message);
            if !self.is_awake(node) {
                return Ok(());
            }
        }
        let (from, term) = (message.from, message.term);
        let leads = matches!(
            message.body,
            raft::Body::Append { .. } | raft::Body::Heartbeat { .. } | raft::Body::Snapshot { .. }
        );
        self.step(node, Input::Message(message), Some(&received))?;
        if leads {
            self.follows(node, from, term);
        }
        Ok(())
    }

    /// A replica has taken what a leader says: if it follows it, it owes it something from here on.
    fn follows(&mut self, node: usize, leader: ReplicaId, term: Term) {
        let now = self.now;
        let Some(replica) = &mut self.nodes[node].replica else {
            return;
        };
        let group = replica.process.as_ref().map(|process| &process.group);
        if group.is_some_and(|group| group.term() == term && group.leader() == Some(leader)) {
            replica.faith.heard(now);
        }
    }

    /// A message to a replica that is gone, or to one whose place another has taken: it counts for
    /// nothing.
    fn arrive_late(&mut self, node: usize, packet: Packet) -> Result<(), Broken> {
        let message = packet.message;
        self.tell(|| format!("n{node}: {} is gone: {message:?}", message.to));
        let local = self.nodes[node].clock.read(self.now);
        let process = self.nodes[node].process_mut().expect("it is awake");
        let before = process.group.clone();
        let view = View {
            log: &process.log,
            residency: &process.residency,
        };
        let mut effects = Vec::new();
        let told = message.clone();
        process.group.step(
            local,
            Input::Message(message),
            &view,
            &mut process.random,
            &mut effects,
        );
        let ignored = effects.is_empty() && process.group == before;
        hold(Rule::EarlierIsFenced, ignored, || {
            format!(
                "{} takes {told:?}, and does {effects:?}",
                process.group.id()
            )
        })
    }

    /// What nobody takes may lie somewhere until there is another replica in the place of the one that
    /// it is for.
    fn goes_astray(&mut self, packet: &Packet) {
        let to = packet.message.to;
        let id = self.nodes[to.node.0 as usize].id();
        if id != Some(to) && self.strays.len() < MOST_STRAYS {
            self.strays.push(packet.clone());
        }
    }

    /// A replica was made on a node: what was on its way to an earlier one comes soon.
    pub(super) fn deliver_strays(&mut self, node: usize) {
        let timeout = self.profile.settings.election_timeout;
        let mut draws = self.seed.draws("strays", &[node as u64, self.now.0]);
        for packet in std::mem::take(&mut self.strays) {
            if packet.message.to.node.0 as usize == node {
                let at = self.now + draws.between(Duration::ZERO, timeout * 4);
                self.events.push(at, Event::Arrive(Box::new(packet)));
            } else {
                self.strays.push(packet);
            }
        }
    }

    pub(super) fn written(
        &mut self,
        node: usize,
        run: u64,
        number: u64,
        fails: bool,
    ) -> Result<(), Broken> {
        if self.nodes[node].run != run {
            return Ok(());
        }
        if fails {
            if self.nodes[node].paused > 0 {
                self.stall(
                    node,
                    Event::Written {
                        node,
                        run,
                        number,
                        fails,
                    },
                );
                return Ok(());
            }
            let replica = self.nodes[node].replica.as_ref();
            let io = replica.and_then(|replica| replica.disk.io_of(number));
            self.tell(|| format!("n{node}: a write fails"));
            return match io {
                Some(io) => self.step(node, Input::Failed(io), None),
                None => self.stop(node),
            };
        }
        let replica = self.nodes[node].replica.as_mut();
        let durable = replica.and_then(|replica| replica.disk.complete(number));
        if let Some(io) = durable {
            let node_state = &mut self.nodes[node];
            node_state.unheard = Some(io);
            if node_state.paused == 0 {
                self.hear_of_disk(node)?;
            }
        }
        Ok(())
    }

    /// The process is told what is durable, and sends what waited for it.
    pub(super) fn hear_of_disk(&mut self, node: usize) -> Result<(), Broken> {
        let Some(io) = self.nodes[node].unheard.take() else {
            return Ok(());
        };
        let Some(process) = self.nodes[node].process_mut() else {
            return Ok(());
        };
        process.durable = io;
        let mut ready = Vec::new();
        let mut place = 0;
        while place < process.outbox.len() {
            if process.outbox[place].0 <= io {
                ready.push(process.outbox.remove(place).1);
            } else {
                place += 1;
            }
        }
        for packet in ready {
            self.depart(node, packet)?;
        }
        self.step(node, Input::Durable(io), None)
    }

    pub(super) fn timer(&mut self, node: usize, run: u64, number: u64) -> Result<(), Broken> {
        let current = self.nodes[node]
            .process()
            .map(|process| process.timer_number);
        if self.nodes[node].run != run || current != Some(number) {
            return Ok(());
        }
        if self.nodes[node].paused > 0 {
            self.stall(node, Event::Timer { node, run, number });
            return Ok(());
        }
        let local = self.nodes[node].clock.read(self.now);
        let process = self.nodes[node].process_mut().expect("it was looked at");
        process.timer = None;
        if process
            .group
            .deadline()
            .is_some_and(|deadline| deadline <= local)
        {
            self.tell(|| format!("n{node}: tick"));
            self.step(node, Input::Tick, None)?;
            let deadline = self.nodes[node]
                .process()
                .and_then(|process| process.group.deadline());
            hold(
                Rule::DeadlinesMove,
                deadline.is_none_or(|deadline| deadline > local),
                || format!("n{node} ticked at {local:?}, and wants to at {deadline:?}"),
            )
        } else {
            self.set_timer(node);
            Ok(())
        }
    }

    /// Makes sure that a tick comes when the core wants one.
    pub(super) fn set_timer(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let Some(process) = state
            .replica
            .as_mut()
            .and_then(|replica| replica.process.as_mut())
        else {
            return;
        };
        let Some(deadline) = process.group.deadline() else {
            return;
        };
        if process.timer.is_some_and(|timer| timer <= deadline) {
            return;
        }
        process.timer = Some(deadline);
        process.timer_number += 1;
        let number = process.timer_number;
        let late = state.timer_draws.exponential(self.profile.timer_late);
        let at = state.clock.when(deadline).max(self.now) + late;
        self.events.push(
            at,
            Event::Timer {
                node,
                run: state.run,
                number,
            },
        );
    }

    pub(super) fn span_read(
        &mut self,
        node: usize,
        run: u64,
        to: ReplicaId,
        first: Index,
    ) -> Result<(), Broken> {
        if self.nodes[node].run != run {
            return Ok(());
        }
        if !self.is_awake(node) {
            self.stall(
                node,
                Event::SpanRead {
                    node,
                    run,
                    to,
                    first,
                },
            );
            return Ok(());
        }
        if let Some(process) = self.nodes[node].process_mut() {
            process.residency.read(to, first);
        }
        self.step(node, Input::SpanReady(to), None)
    }

    /// Hands an input to a core and carries out what it wants done.
    pub(super) fn step(
        &mut self,
        node: usize,
        input: Input,
        received: Option<&Received>,
    ) -> Result<(), Broken> {
        let state = &mut self.nodes[node];
        let local = state.clock.read(self.now);
        let Some(process) = state
            .replica
            .as_mut()
            .and_then(|replica| replica.process.as_mut())
        else {
            return Ok(());
        };
        let mut effects = std::mem::take(&mut self.effects);
        let view = View {
            log: &process.log,
            residency: &process.residency,
        };
        process
            .group
            .step(local, input, &view, &mut process.random, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(node, effect, received)?;
        }
        self.effects = effects;
        if self.dying.contains(&node) {
            self.dying.clear();
            return self.stop(node);
        }
        self.after_step(node)
    }

    pub(super) fn after_step(&mut self, node: usize) -> Result<(), Broken> {
        let Some(replica) = &mut self.nodes[node].replica else {
            return Ok(());
        };
        let Some(process) = &mut replica.process else {
            return Ok(());
        };
        let before = process.seen;
        process.seen = check_step(&process.group, before, &process.log, replica.disk.image())?;
        if std::mem::take(&mut process.membership_changed) {
            check_membership(&process.group, &process.log)?;
        }
        if !process.waiting.durable.is_empty() {
            self.answer_durable(node)?;
        }
        self.check_in_sync(node, before)?;
        self.check_falls_quiet(node)?;
        self.set_timer(node);
        Ok(())
    }

    /// What has become visible at a leader that waits for all replicas in sync is at all of them.
    pub(super) fn check_in_sync(&self, node: usize, before: Seen) -> Result<(), Broken> {
        let Some(process) = self.nodes[node].process() else {
            return Ok(());
        };
        let index = process.group.visible();
        let waits = self.profile.settings.commit_rule == CommitRule::InSync;
        if !waits || process.group.role() != Role::Leader || index <= before.visible() {
            return Ok(());
        }
        let chain = process.log.at(index).unwrap_or_default().chain;
        let copies = self.copies();
        let configuration = process.group.configuration();
        for replica in process.group.in_sync() {
            let votes = configuration.is_some_and(|configuration| configuration.is_voter(replica));
            let has = copies.holds(replica, index, chain);
            hold(Rule::InSyncHasIt, !votes || has, || {
                format!("{index} is visible at n{node}; {replica}, in sync, does not have it")
            })?;
        }
        Ok(())
    }

    /// A quiet leader says nothing to anybody, so nobody may need anything: whoever is not held for
    /// dead has, or had and lost, the whole log.
    fn check_falls_quiet(&self, node: usize) -> Result<(), Broken> {
        let Some(process) = self.nodes[node].process() else {
            return Ok(());
        };
        if process.leads().is_none() || !process.group.is_quiet() {
            return Ok(());
        }
        let (me, last) = (process.group.id(), process.log.last_index());
        let chain = process.log.end().chain;
        let copies = self.copies();
        let members = process.group.configuration().map(Configuration::members);
        for member in members.into_iter().flatten().filter(|id| *id != me) {
            let silent = process.silent[member.node.0 as usize];
            let has = copies.holds(member, last, chain);
            hold(Rule::QuietHasAll, silent || has, || {
                format!("{me} is quiet, and {member} does not have {last}")
            })?;
        }
        Ok(())
    }

    /// Starts the process of a node that has a replica.
    pub(super) fn start(&mut self, node: usize) -> Result<(), Broken> {
        let around = Surroundings {
            nodes: self.nodes.len(),
            resident: self.profile.resident,
        };
        let state = &mut self.nodes[node];
        state.run += 1;
        let draws = self.seed.draws("core", &[node as u64, state.run]);
        let local = state.clock.read(self.now);
        let Some(replica) = &mut state.replica else {
            return Ok(());
        };
        if replica.disk.is_damaged() {
            let had = replica.disk.image().log.clone();
            self.lost.entry(replica.id).or_default().push(had);
            replica.promises.forget_entries();
        }
        let settings = &self.profile.settings;
        let process = Process::start(
            replica.id,
            &mut replica.disk,
            settings,
            local,
            draws,
            around,
        );
        replica
            .promises
            .check_recovery(replica.id, replica.disk.image())?;
        let (term, vote) = (process.group.term(), process.group.vote());
        self.history.recovered(replica.id, term, vote)?;
        replica.faith.restarted(term, settings);
        let id = replica.id;
        let condition = process.group.condition();
        let last = process.group.last();
        replica.process = Some(process);
        self.tell(|| format!("{id} starts, {condition:?}, in {term} with {last}"));
        self.after_step(node)
    }
}
