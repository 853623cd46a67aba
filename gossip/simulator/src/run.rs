//! One run: its settings, its plan, its phases, and what came of it.

use std::time::Duration;

use gossip::planted::Planted;
use simulation::{Fault, Outcome, Plan, Scenario, Seed, Simulator, Time, hash_of};

use crate::check::Checker;
use crate::operations::{Step, draw, steps};
use crate::settings::{Phases, START, config, network};
use crate::world::{Making, Stall, Start, World};

/// What is wrong on purpose, to prove that the rules find it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A wrong rule in every node.
    Node(Planted),
    /// A driver that does not raise the boot epoch before a start.
    BootEpochReused,
}

/// Worlds of members, checked at each step.
///
/// Gossip keeps nothing on a disk but the boot epoch, so faults of disks change nothing here except
/// the crashes that come with them.
#[derive(Clone, Debug, Default)]
pub struct GossipSimulator {
    /// What is wrong on purpose.
    pub flaw: Option<Flaw>,
}

/// How often all views are looked at.
const SAMPLE: Duration = Duration::from_millis(250);

/// The largest cluster of a drawn run.
const MOST_NODES: u64 = 8;

impl Simulator for GossipSimulator {
    fn name(&self) -> &'static str {
        "gossip"
    }

    fn version(&self) -> u32 {
        1
    }

    fn nodes(&self, seed: Seed) -> usize {
        2 + seed.draws("nodes", &[]).below(MOST_NODES - 1) as usize
    }

    fn plan(&self, scenario: &Scenario) -> Plan {
        let seed = Seed(scenario.seed);
        let healed = Phases::of(scenario, &config(seed)).healed;
        let from = Time::ZERO + START;
        let mut plan = Plan::draw(seed, scenario.mix, scenario.nodes, from, healed.max(from));
        for operation in draw(seed, scenario.mix, scenario.nodes, from, healed) {
            plan.add(operation);
        }
        plan
    }

    fn run(&self, scenario: &Scenario, plan: &Plan) -> Outcome {
        Run::new(self, scenario, plan).whole(plan)
    }
}

struct Run<'a> {
    scenario: &'a Scenario,
    phases: Phases,
    world: World<Checker>,
}

impl<'a> Run<'a> {
    fn new(simulator: &GossipSimulator, scenario: &'a Scenario, plan: &Plan) -> Run<'a> {
        let seed = Seed(scenario.seed);
        let config = config(seed);
        let phases = Phases::of(scenario, &config);
        let replayed = plan.faults.iter().any(|timed| {
            matches!(&timed.fault, Fault::Custom { name, .. } if name.starts_with("replay"))
        });
        let harmless = |fault: &Fault| matches!(fault, Fault::Custom { .. } | Fault::Skew { .. });
        let faultless = plan.faults.iter().all(|timed| harmless(&timed.fault));
        let leaves = plan.faults.iter().any(
            |timed| matches!(&timed.fault, Fault::Custom { name, .. } if name.starts_with("leave")),
        );
        let making = Making {
            seed,
            nodes: scenario.nodes,
            config,
            link: network(),
            stall: match seed.draws("stall", &[]).below(3) {
                0 => Stall::Messages,
                1 => Stall::Process {
                    timers_first: false,
                },
                _ => Stall::Process { timers_first: true },
            },
            reuse_boot: simulator.flaw == Some(Flaw::BootEpochReused),
            planted: match simulator.flaw {
                Some(Flaw::Node(bug)) => Some(bug),
                _ => None,
            },
            recorded: if replayed { 512 } else { 0 },
        };
        let mut checker = Checker::new(scenario.nodes, faultless && !leaves);
        checker.healed = phases.healed;
        checker.probes_watched_from = phases.converged;
        Run {
            scenario,
            phases,
            world: World::new(making, checker),
        }
    }

    fn whole(mut self, plan: &Plan) -> Outcome {
        let world = &mut self.world;
        let mut draws = Seed(self.scenario.seed).draws("starts", &[]);
        for host in 0..self.scenario.nodes {
            world.run_until(Time::ZERO + START / 4 * host as u32 / self.scenario.nodes as u32);
            world.start(host, Start::Kept);
        }
        let mut timeline = Vec::new();
        for (number, timed) in plan.faults.iter().enumerate() {
            for (after, step) in steps(timed, self.scenario.nodes) {
                timeline.push((timed.at + after, number, step));
            }
        }
        timeline.sort_by_key(|(at, ..)| *at);
        for (at, number, step) in timeline {
            self.sampled_until(at);
            self.step(number, plan, step);
        }
        // A run too short for its phases only checks what holds at each step.
        if self.phases.healed > Time::ZERO + START {
            self.sampled_until(self.phases.converged);
            Checker::converged(&mut self.world);
            self.sampled_until(self.phases.killed);
            let killed = draws.below(self.scenario.nodes as u64) as usize;
            Checker::kill(&mut self.world, killed);
            self.sampled_until(self.phases.detected);
            Checker::detected(&mut self.world);
        }
        self.sampled_until(self.scenario.ends());
        self.outcome()
    }

    fn step(&mut self, number: usize, plan: &Plan, step: Step) {
        if self.world.watch.violation.is_none() {
            self.world.step(number as u64, &plan.faults[number], step);
        }
    }

    /// Lets time pass, looking at all views now and then; stands still once a rule is broken.
    fn sampled_until(&mut self, until: Time) {
        while self.world.now < until && self.world.watch.violation.is_none() {
            let next = (self.world.now + SAMPLE).min(until);
            self.world.run_until(next);
            Checker::sample(&mut self.world);
        }
    }

    fn outcome(self) -> Outcome {
        let nodes: Vec<_> = self
            .world
            .hosts
            .iter()
            .map(|host| host.node.as_ref())
            .collect();
        Outcome {
            seed: self.scenario.seed,
            events: self.world.happened(),
            state_hash: hash_of(&(nodes, self.world.now)),
            violation: self.world.watch.violation,
        }
    }
}
