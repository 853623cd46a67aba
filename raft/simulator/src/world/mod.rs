//! The world of a run: nodes with a replica each, their disks and clocks, the network between them,
//! clients, an operator, a membership that guesses who is alive, and the faults of a plan. It drives
//! the cores exactly as a broker would, and asks the oracles after each step. It never looks into a
//! core to decide what happens next, except where a broker could look, too.
//!
//! | file | what it is |
//! |---|---|
//! | `node` | a node: clock, disk faults, the replica |
//! | `drive` | what reaches a process, and handing it to the core |
//! | `effects` | carrying out what a core wants done |
//! | `faults` | the plan's faults, and what of them a group can survive |
//! | `clients` | proposals and reads |
//! | `operator` | changes of membership, transfers, retention |
//! | `membership` | hints |
//! | `experiment` | what experiments do to a world |
//! | `healing` | what must come true when the faults are over |

mod clients;
mod drive;
mod effects;
mod experiment;
mod faults;
mod healing;
mod membership;
mod node;
mod operator;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::{Configuration, Effect, Index, NodeId, Proposal, ReplicaId, Role, Term, Token};
use simulation::{Events, Network, Outcome, Plan, Scenario, Seed, Time, Timed, Violation, hash_of};

use crate::check::{Broken, History};
use crate::log::Log;
use crate::profile::Profile;
use crate::replica::{Packet, Replica};
use clients::{Call, Client};
use healing::Milestone;
use node::Node;
pub(crate) use operator::actions;

/// How many lines of what happened last a traced run keeps.
const TRACE_LINES: usize = 100_000;

/// What happens next somewhere.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message reaches a node.
    Arrive(Box<Packet>),
    /// A disk is done with a write, or could not do it.
    Written {
        node: usize,
        run: u64,
        number: u64,
        fails: bool,
    },
    /// A deadline is reached, unless it was moved.
    Timer {
        node: usize,
        run: u64,
        number: u64,
    },
    /// Entries that a follower lacks are in memory.
    SpanRead {
        node: usize,
        run: u64,
        to: ReplicaId,
        first: Index,
    },
    /// Somebody calls a node.
    Call {
        node: usize,
        call: Call,
    },
    /// A client makes its next call.
    Client(usize),
    /// A fault of the plan begins, or ends.
    FaultBegins(usize),
    FaultEnds(usize),
    /// A process that stopped by itself is started again.
    Restart {
        node: usize,
    },
    /// A node that was deaf hears the others again.
    Hears {
        node: usize,
    },
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
    /// The memberships that the operator asked for, and when.
    asked_for: Vec<(Time, Configuration)>,
    /// Replicas that any configuration has ever named.
    named: BTreeSet<ReplicaId>,
    next_token: u64,
    next_value: u64,
    /// The proposal that is being handed in.
    proposing: Option<Proposal>,
    /// The read that is being handed in.
    asking: Option<Token>,
    /// Messages to replicas that are gone: they may come to those that are made in their place.
    strays: Vec<Packet>,
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
            clients: (0..profile.load.clients)
                .map(|client| Client::new(seed, client))
                .collect(),
            open: true,
            lost: BTreeMap::new(),
            retired: BTreeSet::new(),
            asked_for: Vec::new(),
            named: BTreeSet::new(),
            next_token: 0,
            next_value: 0,
            proposing: None,
            asking: None,
            strays: Vec::new(),
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
        self.events
            .push(Time::ZERO + self.profile.detection, Event::Look);
        for client in 0..self.clients.len() {
            let at = self.now + self.clients[client].pause(self.profile.load.every);
            self.events.push(at, Event::Client(client));
        }
        let voters: Vec<ReplicaId> = (0..self.profile.voters)
            .map(|node| replica_id(node, 0))
            .collect();
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
        let violation = broken.err().map(|broken| self.violation(broken));
        Outcome {
            seed,
            events: self.events.processed(),
            state_hash: self.state_hash(),
            violation,
        }
    }

    /// What was broken, for whoever runs worlds.
    pub(crate) fn violation(&self, broken: Broken) -> Violation {
        Violation {
            at: self.now,
            rule: broken.rule.to_string(),
            detail: broken.detail,
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
        let replicas: Vec<u64> = self
            .nodes
            .iter()
            .map(|node| hash_of(&node.replica))
            .collect();
        let sent = self.network.total_traffic();
        hash_of(&(
            replicas,
            hash_of(&self.history),
            sent,
            self.events.processed(),
            self.next_value,
        ))
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Arrive(packet) => self.arrive(packet),
            Event::Written {
                node,
                run,
                number,
                fails,
            } => self.written(node, run, number, fails),
            Event::Timer { node, run, number } => self.timer(node, run, number),
            Event::SpanRead {
                node,
                run,
                to,
                first,
            } => self.span_read(node, run, to, first),
            Event::Call { node, call } => self.called(node, call),
            Event::Client(client) => self.client_calls(client),
            Event::FaultBegins(number) => self.fault_begins(number),
            Event::FaultEnds(number) => self.fault_ends(number),
            Event::Restart { node } => self.up(node),
            Event::Hears { node } => self.hears(node),
            Event::Look => self.look(),
            Event::Milestone(milestone) => self.milestone(milestone),
        }
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
}

pub(crate) fn replica_id(node: usize, incarnation: u32) -> ReplicaId {
    ReplicaId {
        node: NodeId(u32::try_from(node).expect("few nodes")),
        incarnation,
    }
}
