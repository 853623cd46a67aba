//! The world of a run: nodes with a replica each, their disks and clocks, the network between them,
//! clients, an operator, a membership that guesses who is alive, and the faults of a plan. It drives
//! the cores exactly as a broker would, and asks the oracles after each step. It never looks into a
//! core to decide what happens next, except where a broker could look, too.
//!
//! | file | what it is |
//! |---|---|
//! | `node` | a node: clock, disk faults, the replica |
//! | `effects` | carrying out what a core wants done |
//! | `faults` | the plan's faults, and what of them a group can survive |
//! | `clients` | proposals and reads |
//! | `operator` | changes of membership, transfers, retention |
//! | `membership` | hints |
//! | `healing` | what must come true when the faults are over |

mod clients;
mod effects;
mod faults;
mod healing;
mod membership;
mod node;
mod operator;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::{Effect, Index, Input, NodeId, Proposal, ReplicaId, Role, Term, Token};
use simulation::{
    Events, LinkModel, Network, Outcome, Plan, Scenario, Seed, Time, Timed, Violation, hash_of,
};

use crate::check::{Broken, History, Rule, Seen, check_step, hold};
use crate::log::Log;
use crate::profile::Profile;
use crate::replica::{Packet, Process, Received, Replica, Surroundings, View};
use clients::{Call, Client};
use healing::Milestone;
pub(crate) use operator::actions;
use node::Node;

/// How many lines of what happened last a traced run keeps.
const TRACE_LINES: usize = 100_000;

/// What happens next somewhere.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message reaches a node.
    Arrive(Box<Packet>),
    /// A disk is done with a write, or could not do it.
    Written { node: usize, run: u64, number: u64, fails: bool },
    /// A deadline is reached, unless it was moved.
    Timer { node: usize, run: u64, number: u64 },
    /// Entries that a follower lacks are in memory.
    SpanRead { node: usize, run: u64, to: ReplicaId, first: Index },
    /// Somebody calls a node.
    Call { node: usize, call: Call },
    /// A client makes its next call.
    Client(usize),
    /// A fault of the plan begins, or ends.
    FaultBegins(usize),
    FaultEnds(usize),
    /// A process that stopped by itself is started again.
    Restart { node: usize },
    /// Membership looks who answers.
    Look,
    /// A moment at which something must have come true.
    Milestone(Milestone),
}

/// A run.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) profile: Profile,
    pub(crate) nodes: Vec<Node>,
    pub(crate) history: History,
    seed: Seed,
    ends: Time,
    events: Events<Event>,
    network: Network,
    faults: Vec<Timed>,
    clients: Vec<Client>,
    /// Whether clients still call.
    open: bool,
    /// Durable logs that were lost, by damage or with a whole disk.
    lost: BTreeMap<ReplicaId, Vec<Log>>,
    /// Replicas whose disk is gone for ever.
    retired: BTreeSet<ReplicaId>,
    /// Replicas that any configuration has ever named.
    named: BTreeSet<ReplicaId>,
    next_token: u64,
    next_value: u64,
    /// The proposal that is being handed in.
    proposing: Option<Proposal>,
    healing: healing::Healing,
    dying: Vec<usize>,
    effects: Vec<Effect>,
    trace: Option<VecDeque<String>>,
}

impl World {
    /// The world of a scenario; `profile` is what its seed draws, or what an experiment wants.
    pub(crate) fn new(scenario: &Scenario, plan: &Plan, profile: Profile) -> World {
        let seed = Seed(scenario.seed);
        let nodes = (0..scenario.nodes).map(|node| Node::new(seed, node, &profile));
        let ends = scenario.ends();
        let heal = scenario.faults_end().max(plan.ends());
        let mut world = World {
            now: Time::ZERO,
            nodes: nodes.collect(),
            history: History::default(),
            seed: seed.derive("world", &[]),
            ends,
            events: Events::new(),
            network: Network::new(seed, scenario.nodes, profile.link.clone()),
            faults: plan.faults.clone(),
            clients: (0..profile.load.clients).map(|client| Client::new(seed, client)).collect(),
            open: true,
            lost: BTreeMap::new(),
            retired: BTreeSet::new(),
            named: BTreeSet::new(),
            next_token: 0,
            next_value: 0,
            proposing: None,
            healing: healing::Healing::new(heal, ends, &profile.settings),
            dying: Vec::new(),
            effects: Vec::new(),
            trace: None,
            profile,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for (number, timed) in self.faults.iter().enumerate() {
            self.events.push(timed.at, Event::FaultBegins(number));
            self.events.push(timed.ends(), Event::FaultEnds(number));
        }
        for (milestone, at) in self.healing.milestones() {
            self.events.push(at, Event::Milestone(milestone));
        }
        self.events.push(Time::ZERO + self.profile.detection, Event::Look);
        for client in 0..self.clients.len() {
            let at = self.now + self.clients[client].pause(self.profile.load.every);
            self.events.push(at, Event::Client(client));
        }
        let voters: Vec<ReplicaId> = (0..self.profile.voters).map(|node| replica_id(node, 0)).collect();
        self.named.extend(&voters);
        for (node, id) in voters.iter().enumerate() {
            self.nodes[node].replica = Some(Replica::new(*id, &voters));
            self.nodes[node].next_incarnation = 1;
        }
    }

    /// Keeps the last lines of what happens.
    pub(crate) fn keep_trace(&mut self) {
        self.trace = Some(VecDeque::new());
    }

    pub(crate) fn trace_lines(&self) -> impl Iterator<Item = &str> {
        self.trace.iter().flatten().map(String::as_str)
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_LINES {
                trace.pop_front();
            }
            trace.push_back(format!("{} {}", self.now, line()));
        }
    }

    /// Runs to the end, or to the first rule that is broken.
    pub(crate) fn run(&mut self, seed: u64) -> Outcome {
        let broken = self.run_until(self.ends).and_then(|()| self.check_end());
        let violation = broken.err().map(|broken| Violation {
            at: self.now,
            rule: broken.rule.to_string(),
            detail: broken.detail,
        });
        Outcome {
            seed,
            events: self.events.processed(),
            state_hash: self.state_hash(),
            violation,
        }
    }

    /// Handles everything that happens until then.
    pub(crate) fn run_until(&mut self, until: Time) -> Result<(), Broken> {
        if self.now == Time::ZERO {
            for node in 0..self.profile.voters {
                self.start(node)?;
            }
        }
        while self.events.next_at().is_some_and(|at| at <= until) {
            let (at, event) = self.events.pop().expect("there is one");
            self.now = at;
            self.handle(event)?;
        }
        self.now = until;
        Ok(())
    }

    fn state_hash(&self) -> u64 {
        let replicas: Vec<u64> = self.nodes.iter().map(|node| hash_of(&node.replica)).collect();
        let sent = self.network.total_traffic();
        hash_of(&(replicas, hash_of(&self.history), sent, self.events.processed(), self.next_value))
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Arrive(packet) => self.arrive(packet),
            Event::Written { node, run, number, fails } => self.written(node, run, number, fails),
            Event::Timer { node, run, number } => self.timer(node, run, number),
            Event::SpanRead { node, run, to, first } => self.span_read(node, run, to, first),
            Event::Call { node, call } => self.called(node, call),
            Event::Client(client) => self.client_calls(client),
            Event::FaultBegins(number) => self.fault_begins(number),
            Event::FaultEnds(number) => self.fault_ends(number),
            Event::Restart { node } => self.up(node),
            Event::Look => self.look(),
            Event::Milestone(milestone) => self.milestone(milestone),
        }
    }

    /// Whether a process runs there and is not held up.
    fn is_awake(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.paused == 0 && node.process().is_some()
    }

    /// What reaches a process that stands still waits there.
    fn stall(&mut self, node: usize, event: Event) {
        if self.nodes[node].process().is_some() {
            self.nodes[node].stalled.push(event);
        }
    }

    fn arrive(&mut self, packet: Box<Packet>) -> Result<(), Broken> {
        let node = packet.message.to.node.0 as usize;
        if !self.is_awake(node) {
            self.stall(node, Event::Arrive(packet));
            return Ok(());
        }
        let Packet { message, entries } = *packet;
        self.tell(|| format!("{} <- {}: {} {:?}", message.to, message.from, message.term, message.body));
        let (first, configurations, snapshot) = match &message.body {
            raft::Body::Append { previous, configurations, .. } => {
                (previous.index.next(), configurations.clone(), None)
            }
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
        };
        self.step(node, Input::Message(message), Some(&received))
    }

    fn written(&mut self, node: usize, run: u64, number: u64, fails: bool) -> Result<(), Broken> {
        if self.nodes[node].run != run {
            return Ok(());
        }
        if fails {
            if self.nodes[node].paused > 0 {
                self.stall(node, Event::Written { node, run, number, fails });
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
    fn hear_of_disk(&mut self, node: usize) -> Result<(), Broken> {
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

    fn timer(&mut self, node: usize, run: u64, number: u64) -> Result<(), Broken> {
        let current = self.nodes[node].process().map(|process| process.timer_number);
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
        if process.group.deadline().is_some_and(|deadline| deadline <= local) {
            self.tell(|| format!("n{node}: tick"));
            self.step(node, Input::Tick, None)?;
            let deadline = self.nodes[node].process().and_then(|process| process.group.deadline());
            hold(Rule::DeadlinesMove, deadline.is_none_or(|deadline| deadline > local), || {
                format!("n{node} ticked at {local:?}, and wants to at {deadline:?}")
            })
        } else {
            self.set_timer(node);
            Ok(())
        }
    }

    /// Makes sure that a tick comes when the core wants one.
    fn set_timer(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let Some(process) = state.replica.as_mut().and_then(|replica| replica.process.as_mut()) else {
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
        self.events.push(at, Event::Timer { node, run: state.run, number });
    }

    fn span_read(&mut self, node: usize, run: u64, to: ReplicaId, first: Index) -> Result<(), Broken> {
        if self.nodes[node].run != run {
            return Ok(());
        }
        if !self.is_awake(node) {
            self.stall(node, Event::SpanRead { node, run, to, first });
            return Ok(());
        }
        if let Some(process) = self.nodes[node].process_mut() {
            process.residency.read(to, first);
        }
        self.step(node, Input::SpanReady(to), None)
    }

    /// Hands an input to a core and carries out what it wants done.
    fn step(&mut self, node: usize, input: Input, received: Option<&Received>) -> Result<(), Broken> {
        let state = &mut self.nodes[node];
        let local = state.clock.read(self.now);
        let Some(process) = state.replica.as_mut().and_then(|replica| replica.process.as_mut()) else {
            return Ok(());
        };
        let mut effects = std::mem::take(&mut self.effects);
        let view = View {
            log: &process.log,
            residency: &process.residency,
        };
        process.group.step(local, input, &view, &mut process.random, &mut effects);
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

    fn after_step(&mut self, node: usize) -> Result<(), Broken> {
        let Some(replica) = &mut self.nodes[node].replica else {
            return Ok(());
        };
        let Some(process) = &mut replica.process else {
            return Ok(());
        };
        let before = process.seen;
        process.seen = check_step(&process.group, before, &process.log, replica.disk.image())?;
        if !process.waiting.durable.is_empty() {
            self.answer_durable(node)?;
        }
        self.check_in_sync(node, before)?;
        self.set_timer(node);
        Ok(())
    }

    /// What has become visible at a leader that waits for all replicas in sync is at all of them.
    fn check_in_sync(&self, node: usize, before: Seen) -> Result<(), Broken> {
        let Some(process) = self.nodes[node].process() else {
            return Ok(());
        };
        let index = process.group.visible();
        let waits = self.profile.settings.commit_rule == raft::CommitRule::InSync;
        if !waits || process.group.role() != Role::Leader || index <= before.visible() {
            return Ok(());
        }
        let chain = process.log.at(index).unwrap_or_default().chain;
        let copies = self.copies();
        let configuration = process.group.configuration();
        for replica in process.group.in_sync() {
            let votes = configuration.is_some_and(|configuration| configuration.is_voter(replica));
            let has = crate::check::Holder::holds(&copies, replica, index, chain);
            hold(Rule::InSyncHasIt, !votes || has, || {
                format!("{index} is visible at n{node}; {replica}, in sync, does not have it")
            })?;
        }
        Ok(())
    }

    /// Starts the process of a node that has a replica.
    fn start(&mut self, node: usize) -> Result<(), Broken> {
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
        let process = Process::start(replica.id, &mut replica.disk, settings, local, draws, around);
        replica.promises.check_recovery(replica.id, replica.disk.image())?;
        let (term, vote) = (process.group.term(), process.group.vote());
        self.history.recovered(replica.id, term, vote)?;
        let id = replica.id;
        let condition = process.group.condition();
        let last = process.group.last();
        replica.process = Some(process);
        self.tell(|| format!("{id} starts, {condition:?}, in {term} with {last}"));
        self.after_step(node)
    }

    /// The node that leads in the greatest term, as far as those who lead know.
    pub(crate) fn leader(&self) -> Option<(usize, Term)> {
        let terms = self.nodes.iter().enumerate().filter_map(|(number, node)| {
            let process = node.process()?;
            (process.group.role() == Role::Leader).then(|| (number, process.group.term()))
        });
        terms.max_by_key(|(_, term)| *term)
    }

    fn copies(&self) -> node::Copies<'_> {
        node::Copies {
            nodes: &self.nodes,
            lost: &self.lost,
        }
    }

    fn token(&mut self, client: u64) -> Token {
        self.next_token += 1;
        Token(self.next_token * clients::MOST + client)
    }

    /// The network of the world, for experiments.
    pub(crate) fn set_link(&mut self, model: LinkModel) {
        self.network.set_model(model);
    }
}

pub(crate) fn replica_id(node: usize, incarnation: u32) -> ReplicaId {
    ReplicaId {
        node: NodeId(u32::try_from(node).expect("few nodes")),
        incarnation,
    }
}
