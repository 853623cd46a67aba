//! Raft groups in a simulated world of bad networks, disks and clocks, checked at each step: the
//! proof of the crate `raft` (DESIGN, section 12). A run is one group of two to seven replicas for a
//! simulated minute; what it meets is drawn from a seed, and the same seed gives the same run. Only
//! tests and the program `simulate-raft` use it; nothing of it is ever part of a broker, and it does
//! no I/O of its own.
//!
//! ```
//! use raft_simulator::RaftSimulator;
//! use simulation::{Mix, Scenario, Simulator};
//!
//! let simulator = RaftSimulator::default();
//! let scenario = Scenario {
//!     seed: 7,
//!     nodes: 3,
//!     mix: Mix::Crashes,
//!     length: std::time::Duration::from_secs(20),
//! };
//! let outcome = simulator.run(&scenario, &simulator.plan(&scenario));
//! assert_eq!(outcome.violation, None);
//! ```

mod bugs;
mod check;
mod clock;
mod disk;
mod log;
mod profile;
mod replica;
mod world;

use raft::planted::{self, Bug};
use simulation::{Mix, Outcome, Plan, Scenario, Seed, Simulator};

pub use bugs::{BUGS, BugName, UnknownBug, broken_by};
pub use check::Rule;
use profile::Profile;
use world::World;

/// Runs groups.
#[derive(Clone, Copy, Debug, Default)]
pub struct RaftSimulator {
    /// A bug that the core shall have, to see whether the oracles notice.
    pub bug: Option<Bug>,
}

impl Simulator for RaftSimulator {
    fn name(&self) -> &'static str {
        "raft"
    }

    fn version(&self) -> u32 {
        1
    }

    /// Mostly three and five; now and then two, four and seven.
    fn nodes(&self, seed: Seed) -> usize {
        const NODES: [usize; 12] = [3, 3, 3, 3, 5, 5, 5, 5, 2, 4, 4, 7];
        NODES[seed.draws("nodes", &[]).below(NODES.len() as u64) as usize]
    }

    fn plan(&self, scenario: &Scenario) -> Plan {
        let mut plan = scenario.plan();
        if scenario.mix != Mix::Calm {
            for action in world::actions(scenario) {
                plan.add(action);
            }
        }
        plan
    }

    fn run(&self, scenario: &Scenario, plan: &Plan) -> Outcome {
        let _planted = Planted::new(self.bug);
        World::new(scenario, plan, profile_of(scenario)).run(scenario.seed)
    }
}

impl RaftSimulator {
    /// Runs, and tells what happened: one line for each thing, the last hundred thousand of them.
    #[must_use]
    pub fn explain(&self, scenario: &Scenario, plan: &Plan) -> (Outcome, Vec<String>) {
        let _planted = Planted::new(self.bug);
        let mut world = World::new(scenario, plan, profile_of(scenario));
        world.keep_trace();
        let outcome = world.run(scenario.seed);
        let mut lines: Vec<String> = world.trace_lines().map(str::to_owned).collect();
        lines.push(world.parts());
        (outcome, lines)
    }
}

fn profile_of(scenario: &Scenario) -> Profile {
    Profile::draw(Seed(scenario.seed), scenario.nodes)
}

/// A bug that this thread's cores have until this is dropped, by a panic as well.
struct Planted;

impl Planted {
    fn new(bug: Option<Bug>) -> Planted {
        planted::plant(bug);
        Planted
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        planted::plant(None);
    }
}
