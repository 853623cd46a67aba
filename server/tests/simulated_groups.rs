//! Consumer groups and idempotent producers in one simulation: a broker whose power goes away again and
//! again, clients that crash, stand still and come back, and a network that loses what it carries.
//! Nothing may be doubled, lost or reordered, no committed offset go back, no partition have two owners
//! in one generation; and when things calm down every partition has one, and the group comes to its end.
//!
//! `MILLRACE_SEEDS` says how many worlds to try, `MILLRACE_SEED` which one alone.

mod group_world;
mod node;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use group_world::{BROKER, Bug, PARTITIONS, TOPIC, World, members, producers, read_all};
use millrace_shard::env::simulated::{DiskFaults, SimulatedEnv, Simulation};
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::journal::planted;
use node::Node;

/// Longer than anything takes that things may have to wait for after they have calmed down: sessions
/// end, rebalances are over, the rest is read.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);
/// Seeds within which a planted bug must be found.
const FOUND_WITHIN: u64 = 150;

async fn keep_running(env: SimulatedEnv, world: Rc<World>) {
    let node = Rc::new(Node::start(&env, 2).await);
    let mut connection = node.connect(0);
    // It is there already in every life but the first.
    connection
        .create_topic(TOPIC, PARTITIONS, &[("segment.bytes", "16384")])
        .await;
    world.open(node);
}

fn start_broker(simulation: &Simulation, world: &Rc<World>) {
    let env = simulation.restart(BROKER);
    let running = keep_running(env.clone(), Rc::clone(world));
    drop(env.spawn(Queue::Requests, "node", OnPanic::StopProcess, running));
}

/// Lets the broker live for a while, and ends that in some way.
fn one_life(simulation: &Simulation, world: &World) {
    // A start may be cut off, too.
    let span = match world.below(4) {
        0 => world.below(20),
        _ => world.below(8_000),
    };
    simulation.run_for(Duration::from_millis(10 + span));
    if world.below(4) > 0 {
        world.aim();
        let until = simulation.now().plus(Duration::from_secs(4));
        while simulation.stopped(BROKER).is_none() && simulation.now() < until {
            simulation.run_for(Duration::from_millis(10));
        }
    }
    if simulation.stopped(BROKER).is_none() {
        match world.below(3) {
            0 => simulation.kill(BROKER),
            _ => simulation.crash(BROKER),
        }
    }
    world.close();
    world.ledger.count("power cuts");
}

/// Whether everything is as it should be before the time is up.
fn settles(simulation: &Simulation, world: &World) {
    world.calm_down();
    simulation.set_faults(BROKER, DiskFaults::default());
    let until = simulation.now().plus(SETTLES_WITHIN);
    loop {
        simulation.run_for(Duration::from_millis(100));
        let unsettled = match world.ledger.producers.get() {
            0 => world.ledger.unsettled(),
            left => Some(format!("{left} producers are not done")),
        };
        match unsettled {
            None => return,
            Some(_) if world.ledger.has_violations() => return,
            Some(why) if simulation.now() >= until => {
                return world.ledger.violation(format!("it does not settle: {why}"));
            }
            Some(_) => {}
        }
    }
}

/// What went wrong in one world, and what happened in it.
fn run(seed: u64, bug: Option<Bug>) -> (Vec<String>, BTreeMap<&'static str, u64>) {
    planted::plant(match bug {
        Some(Bug::WindowForgotten) => Some(planted::Bug::ProducersForgotten),
        Some(Bug::DuplicateInFlight) => Some(planted::Bug::DuplicateInFlightAppended),
        _ => None,
    });
    let simulation = Rc::new(Simulation::new(seed));
    simulation.add_node(DiskFaults::default());
    simulation.set_faults(BROKER, node::often_slow());
    let world = World::new(&simulation, bug);
    producers(&world);
    members(&world);
    for _ in 0..world.plan.failures {
        start_broker(&simulation, &world);
        one_life(&simulation, &world);
    }
    start_broker(&simulation, &world);
    settles(&simulation, &world);
    simulation.kill(group_world::CLIENTS);
    simulation.crash(BROKER);
    world.close();
    let env = simulation.restart(BROKER);
    let log = simulation
        .try_run(BROKER, move |_| read_all(env))
        .unwrap_or_else(|reason| panic!("seed {seed}: {reason:?}"));
    planted::plant(None);
    (world.ledger.judge(&log), world.ledger.counts())
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    match number("MILLRACE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MILLRACE_SEEDS").unwrap_or(300),
    }
}

#[test]
fn groups_and_producers_survive_whatever_happens_to_the_broker() {
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds() {
        let (violations, counts) = run(seed, None);
        assert!(
            violations.is_empty(),
            "seed {seed} (MILLRACE_SEED={seed} for it alone): {violations:#?}"
        );
        for (what, times) in counts {
            *happened.entry(what).or_default() += times;
        }
    }
    println!("{happened:#?}");
    if seeds().end - seeds().start >= 100 {
        for what in [
            "batches sent again",
            "commits refused",
            "members forgotten",
            "members replaced",
            "members that crashed",
            "members that left",
            "members that stood still",
            "producers crashed",
        ] {
            assert!(happened.contains_key(what), "{what}: never");
        }
    }
}

/// A bug is found, and told for what it is.
#[track_caller]
fn must_be_found(bug: Bug, complaint: &str) {
    let found = (0..FOUND_WITHIN).find(|seed| {
        let (violations, _) = run(*seed, Some(bug));
        violations.iter().any(|what| what.contains(complaint))
    });
    let seed = found.unwrap_or_else(|| panic!("{bug:?} is not found in {FOUND_WITHIN} seeds"));
    println!("{bug:?}: found by seed {seed}");
}

#[test]
fn a_window_that_is_forgotten_at_a_start_is_found() {
    must_be_found(Bug::WindowForgotten, "doubled, lost or out of order");
}

#[test]
fn a_duplicate_in_flight_that_is_appended_is_found() {
    must_be_found(Bug::DuplicateInFlight, "doubled, lost or out of order");
}

#[test]
fn a_commit_that_is_answered_before_it_is_durable_is_found() {
    must_be_found(Bug::CommitAnsweredEarly, "had been committed");
}

#[test]
fn a_commit_of_a_stale_generation_is_found() {
    must_be_found(Bug::StaleGeneration, "was taken, though");
}

#[test]
fn two_owners_are_found() {
    must_be_found(Bug::GivenToAll, "belongs to");
}

#[test]
fn a_partition_that_nobody_owns_is_found() {
    must_be_found(Bug::GivenToNobody, "who reads what");
}
