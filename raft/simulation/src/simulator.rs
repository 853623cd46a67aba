//! What a simulator is to the kernel's command line and its tests.

use std::time::Duration;

use crate::draw::Seed;
use crate::panics::guarded;
use crate::plan::{Mix, Plan};
use crate::runner::{Outcome, Violation};
use crate::time::Time;

/// All that determines a run, besides its plan of faults and the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The seed that everything is drawn from.
    pub seed: u64,
    /// How many nodes the world has.
    pub nodes: usize,
    /// Which faults are drawn.
    pub mix: Mix,
    /// How much virtual time the run covers.
    pub length: Duration,
}

impl Scenario {
    /// The end of the run.
    #[must_use]
    pub fn ends(&self) -> Time {
        Time::ZERO + self.length
    }

    /// When drawn faults are over: three quarters into the run. The rest is for the world to
    /// converge in.
    #[must_use]
    pub fn faults_end(&self) -> Time {
        Time::ZERO + self.length / 4 * 3
    }

    /// The faults that the seed and the mix give.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan::draw(
            Seed(self.seed),
            self.mix,
            self.nodes,
            Time::ZERO,
            self.faults_end(),
        )
    }
}

/// A simulated world that checks itself.
pub trait Simulator: Sync {
    /// Its name on the command line and in regression files, such as `raft`.
    fn name(&self) -> &'static str;

    /// Raised when the same seed comes to mean another run: a regression file of an older version
    /// still runs, but may no longer show what it was kept for.
    fn version(&self) -> u32;

    /// How many nodes the run of a seed has if nobody says: fixed, or drawn from the seed.
    fn nodes(&self, seed: Seed) -> usize;

    /// The faults of a run: what the seed and the mix give, unless the simulator adds its own.
    fn plan(&self, scenario: &Scenario) -> Plan {
        scenario.plan()
    }

    /// Runs the scenario with exactly the faults of the plan. Equal arguments give equal outcomes.
    fn run(&self, scenario: &Scenario, plan: &Plan) -> Outcome;
}

/// Runs twice what should be the same run and compares: a difference is a violation, and so is a
/// panic. The events of both runs count.
#[must_use]
pub fn run_twice(simulator: &dyn Simulator, scenario: &Scenario, plan: &Plan) -> Outcome {
    let first = run_once(simulator, scenario, plan);
    let second = run_once(simulator, scenario, plan);
    let events = first.events + second.events;
    let violation = if first == second {
        first.violation
    } else {
        Some(Violation {
            at: scenario.ends(),
            rule: "the same seed gives the same run".to_owned(),
            detail: format!("first {first:?}, then {second:?}"),
        })
    };
    Outcome {
        events,
        violation,
        ..first
    }
}

/// Runs once; a panic is a violation.
#[must_use]
pub fn run_once(simulator: &dyn Simulator, scenario: &Scenario, plan: &Plan) -> Outcome {
    guarded(|| simulator.run(scenario, plan))
        .unwrap_or_else(|message| Outcome::panicked(scenario.seed, message))
}
