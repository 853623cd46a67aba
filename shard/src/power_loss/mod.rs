//! Power loss, simulated: seeded runs of the whole storage of a node (several shards, journals,
//! segments, recovery, relayout, retention) over a disk that forgets, tears, flips, fails, fills up
//! and dawdles, held against an oracle that knows what was promised.
//!
//! | file | what it is |
//! |---|---|
//! | `draws` | what a seed decides |
//! | `model` | the oracle: what was handed in, and what of it may never be missing |
//! | `client` | operations, each answer held against the model |
//! | `producer` | idempotent producers, who send again what may have got there |
//! | `run` | the lives of a node, and their ends |
//! | `check` | what a controller does after a start, and the look at every record |
//!
//! `MILLRACE_SEEDS=10000` says how many seeds run, `MILLRACE_SEED=7` runs one of them alone.

mod check;
mod client;
mod draws;
mod model;
mod producer;
mod run;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use run::run_seed;

use crate::journal::planted::{self, Bug};

/// Seeds of an everyday test run.
const SEEDS: u64 = 1_000;

/// A run ends after so many failing seeds.
const FAILURES_SHOWN: usize = 10;

/// Seeds within which a planted bug must be found.
const SEEDS_WITH_BUG: u64 = 400;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

/// Whether one seed was asked for: it tells what it does.
fn is_alone() -> bool {
    variable("MILLRACE_SEED").is_some()
}

/// Runs a seed; what went wrong, if anything did.
fn outcome(seed: u64) -> Result<BTreeMap<&'static str, u64>, String> {
    catch_unwind(AssertUnwindSafe(|| run_seed(seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default())
    })
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails() {
    let seeds = match variable("MILLRACE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("MILLRACE_SEEDS").unwrap_or(SEEDS),
    };
    let many = seeds.end - seeds.start >= SEEDS;
    let mut counts = BTreeMap::new();
    let mut failures = Vec::new();
    for seed in seeds {
        match outcome(seed) {
            Ok(more) => more.into_iter().for_each(|(what, count)| *counts.entry(what).or_insert(0) += count),
            Err(what) => failures.push(format!(
                "seed {seed}: {what}\n    again: MILLRACE_SEED={seed} cargo test -p millrace-shard --lib power_loss::nothing"
            )),
        }
        if failures.len() >= FAILURES_SHOWN {
            break;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{counts:#?}");
    if many {
        for what in EXPECTED {
            assert!(
                counts.get(what).is_some_and(|count| *count > 0),
                "no seed had {what}: {counts:?}"
            );
        }
    }
}

/// What must have happened in a thousand seeds, or they prove little.
const EXPECTED: &[&str] = &[
    "acknowledged",
    "batches of idempotent producers",
    "batches out of order",
    "corruption told",
    "damaged partitions",
    "deletions",
    "duplicates answered",
    "duplicates of an earlier life",
    "duplicates on their way",
    "flips in a journal",
    "flips in a segment",
    "lives that came to their end",
    "power lost in the middle",
    "reads after a start",
    "relayouts",
    "refusals for a full disk",
    "removals",
    "searches",
    "stops for a failed write",
    "wake-ups",
];

/// Plants a bug and runs seeds until one of them finds it.
fn is_found(bug: Bug) -> bool {
    planted::plant(Some(bug));
    let found = (0..SEEDS_WITH_BUG).find_map(|seed| outcome(seed).err().map(|what| (seed, what)));
    planted::plant(None);
    if let Some((seed, what)) = &found {
        println!("{bug:?}: found by seed {seed}: {what}");
    }
    found.is_some()
}

#[test]
fn acknowledging_before_the_write_is_found() {
    assert!(is_found(Bug::ReleasedBeforeWritten));
}

#[test]
fn taking_damage_for_a_torn_end_is_found() {
    assert!(is_found(Bug::EveryBadGroupIsTorn));
}

#[test]
fn producers_forgotten_at_a_start_are_found() {
    assert!(is_found(Bug::ProducersForgotten));
}

#[test]
fn appending_again_what_is_on_its_way_is_found() {
    assert!(is_found(Bug::DuplicateInFlightAppended));
}

#[test]
fn a_seed_is_the_same_every_time() {
    for seed in 0..5 {
        assert_eq!(outcome(seed), outcome(seed), "seed {seed}");
    }
}
