//! Raft groups in simulated worlds (`raft-simulator`): two thousand minutes of them, all that once went
//! wrong again, and the oracles put to the test by planted bugs. `MILLRACE_SIMULATION_SEEDS` names
//! other seeds; a failure prints its seed, and `scripts/simulate raft` repeats it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use raft::planted::Bug;
use raft_simulator::{BUGS, RaftSimulator, Rule, broken_by};
use simulation::{
    Mix, Outcome, Regression, Scenario, Seed, Simulator, run_once, run_seeds, run_twice,
    seeds_from_environment,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Mixes take turns over the seeds.
fn scenario(seed: u64) -> Scenario {
    let mix = Mix::ALL[(seed % Mix::ALL.len() as u64) as usize];
    Scenario {
        seed,
        nodes: RaftSimulator::default().nodes(Seed(seed)),
        mix,
        length: MINUTE,
    }
}

fn run(simulator: &RaftSimulator, scenario: &Scenario) -> Outcome {
    run_once(simulator, scenario, &simulator.plan(scenario))
}

/// Tells what the violation alone does not: in which mix.
fn run_with_mix(scenario: &Scenario) -> Outcome {
    let mut outcome = run(&RaftSimulator::default(), scenario);
    if let Some(violation) = &mut outcome.violation {
        let (seed, mix) = (scenario.seed, scenario.mix);
        let end = seed + 1;
        violation.detail +=
            &format!("; again: scripts/simulate raft --seeds {seed}..{end} --mix {mix}");
    }
    outcome
}

#[test]
fn every_rule_holds_in_two_thousand_minutes() {
    let seeds = seeds_from_environment(2_040);
    let summary = run_seeds(seeds, 2, &|_| {}, |seed| run_with_mix(&scenario(seed)));
    println!(
        "{} runs, {} events, {:.0} events a second and core, slowest {:?}",
        summary.runs,
        summary.events,
        summary.events_per_second_and_core(),
        summary.slowest
    );
    summary.assert_no_violation();
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let simulator = RaftSimulator::default();
    let mut states = BTreeSet::new();
    for seed in 0..24 {
        let scenario = scenario(seed);
        let outcome = run_twice(&simulator, &scenario, &simulator.plan(&scenario));
        assert_eq!(outcome.violation, None, "seed {seed}");
        states.insert(outcome.state_hash);
    }
    assert_eq!(states.len(), 24, "other seeds give other runs");
}

#[test]
fn what_once_went_wrong_does_not_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let regressions = Regression::read_directory(&folder).expect("regressions that can be read");
    assert!(
        !regressions.is_empty(),
        "there are regressions in {}",
        folder.display()
    );
    let simulator = RaftSimulator::default();
    for (path, regression) in regressions {
        assert_eq!(regression.simulator, simulator.name(), "{}", path.display());
        let outcome = run_once(&simulator, &regression.scenario(), &regression.plan);
        assert_eq!(
            outcome.violation,
            None,
            "{}: {}",
            path.display(),
            regression.note
        );
    }
}

/// How many seeds it may take until a planted bug is noticed.
fn patience(bug: Bug) -> u64 {
    match bug {
        Bug::ReadsWithoutAsking => 1_200,
        Bug::CommitsEarlierTerms
        | Bug::LateAppendTruncates
        | Bug::ReadsBeforeOwnTerm
        | Bug::ConfigurationNotReverted
        | Bug::OutgoingDoNotElect
        | Bug::NoWaitAfterRestart
        | Bug::QuietTooEarly => 600,
        _ => 60,
    }
}

#[test]
fn every_planted_bug_is_noticed() {
    for bug in BUGS {
        let simulator = RaftSimulator { bug: Some(bug) };
        let mut found = None;
        for seed in 0..patience(bug) {
            let outcome = run(&simulator, &scenario(seed));
            if let Some(violation) = outcome.violation {
                found = Some((seed, violation));
                break;
            }
        }
        let (seed, violation) = found.unwrap_or_else(|| panic!("{bug:?} is not noticed"));
        println!(
            "{bug:?}: seed {seed}, at {}: {}",
            violation.at, violation.rule
        );
        let expected: Vec<&str> = broken_by(bug).iter().map(|rule| rule.words()).collect();
        assert!(
            expected.contains(&violation.rule.as_str()),
            "{bug:?}: {violation:?}"
        );
    }
}

#[test]
fn rules_are_told_apart_by_their_words() {
    let words: BTreeSet<&str> = BUGS
        .iter()
        .flat_map(|bug| broken_by(*bug))
        .map(|rule| rule.words())
        .collect();
    assert!(words.len() >= 12, "{words:?}");
    assert_eq!(Rule::QuietIsQuiet.to_string(), Rule::QuietIsQuiet.words());
}
