//! Whole clusters in simulated worlds: many seeds of a minute each, the planted bugs that the rules
//! must find, and the runs that once failed.
//!
//! `MILLRACE_SIMULATION_SEEDS` says which seeds: a number of them, or two ends such as 5000..6000.

use std::path::Path;
use std::time::Duration;

use gossip::planted::Planted;
use gossip_simulator::{Flaw, GossipSimulator};
use simulation::regression::Regression;
use simulation::{
    Mix, Scenario, Seed, Simulator, run_once, run_seeds, run_twice, seeds_from_environment, shrink,
};

const MINUTE: Duration = Duration::from_secs(60);

fn scenario(simulator: &GossipSimulator, seed: u64, mix: Mix) -> Scenario {
    Scenario {
        seed,
        nodes: simulator.nodes(Seed(seed)),
        mix,
        length: MINUTE,
    }
}

/// Every mix in turn, the hostile one as often as the others together.
fn mix_of(seed: u64) -> Mix {
    if seed.is_multiple_of(2) {
        return Mix::Hostile;
    }
    Mix::ALL[(seed / 2) as usize % Mix::ALL.len()]
}

#[test]
fn no_seed_breaks_a_rule() {
    let simulator = GossipSimulator::default();
    let seeds = seeds_from_environment(1_000);
    let summary = run_seeds(seeds, 2, &|_| {}, |seed| {
        let scenario = scenario(&simulator, seed, mix_of(seed));
        run_once(&simulator, &scenario, &simulator.plan(&scenario))
    });
    summary.assert_no_violation();
    assert!(summary.events > summary.runs * 1_000, "{summary:?}");
}

#[test]
fn the_same_seed_gives_the_same_final_state() {
    let simulator = GossipSimulator::default();
    let mut hashes = Vec::new();
    for seed in 0..20 {
        let scenario = scenario(&simulator, seed, Mix::Hostile);
        let outcome = run_twice(&simulator, &scenario, &simulator.plan(&scenario));
        assert_eq!(outcome.violation, None);
        hashes.push(outcome.state_hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 20, "other seeds, other states");
}

/// The rule that a flaw breaks first, within so many seeds.
fn caught(flaw: Flaw, most_seeds: u64) -> Option<(Scenario, String)> {
    let simulator = GossipSimulator { flaw: Some(flaw) };
    (0..most_seeds).find_map(|seed| {
        let scenario = scenario(&simulator, seed, Mix::Hostile);
        let outcome = run_once(&simulator, &scenario, &simulator.plan(&scenario));
        Some((scenario, outcome.violation?.rule))
    })
}

#[test]
fn every_planted_bug_is_caught() {
    let mut flaws: Vec<Flaw> = Planted::ALL.into_iter().map(Flaw::Node).collect();
    flaws.push(Flaw::BootEpochReused);
    let mut missed = Vec::new();
    for flaw in flaws {
        match caught(flaw, 200) {
            Some((scenario, rule)) => println!("{flaw:?}: seed {}, \"{rule}\"", scenario.seed),
            None => missed.push(flaw),
        }
    }
    assert!(missed.is_empty(), "not caught within 200 seeds: {missed:?}");
}

#[test]
fn a_failure_shrinks_to_the_faults_that_it_needs() {
    let flaw = Flaw::Node(Planted::StrangersTrusted);
    let simulator = GossipSimulator { flaw: Some(flaw) };
    let Some((scenario, rule)) = caught(flaw, 200) else {
        panic!("the bug is caught");
    };
    let plan = simulator.plan(&scenario);
    let fails = |plan: &simulation::Plan| {
        let outcome = run_once(&simulator, &scenario, plan);
        outcome.violation.is_some_and(|broken| broken.rule == rule)
    };
    let small = shrink(&plan, fails);
    assert!(fails(&small));
    assert!(small.faults.len() <= 5, "{small:?}");
    assert!(small.faults.len() < plan.faults.len());
    // Without the bug the same faults do no harm.
    let sound = GossipSimulator::default();
    assert_eq!(run_once(&sound, &scenario, &small).violation, None);
}

#[test]
fn what_once_failed_holds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let simulator = GossipSimulator::default();
    let files = Regression::read_directory(&directory).unwrap();
    assert!(!files.is_empty());
    for (path, regression) in files {
        assert_eq!(regression.simulator, simulator.name());
        let outcome = run_once(&simulator, &regression.scenario(), &regression.plan);
        assert_eq!(outcome.violation, None, "{}", path.display());
    }
}
