//! The client's own decisions against the broker's, in one simulation: a producer that wants every
//! record stored, a consumer that reads along, and a broker whose power goes away again and again.
//! Nothing acknowledged may be lost or move, and nothing may be read that is not there for good. Of an
//! idempotent producer nothing may be there twice.

mod node;
mod simulated_client;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use millrace_server::coordinator::settings::GroupSettings;
use millrace_shard::env::simulated::{NodeId, SimulatedEnv, Simulation};
use millrace_shard::env::{Env, OnPanic, Queue};
use node::{Bug, Log, Node, see};
use simulated_client::{Driver, Network, Observed, PARTITIONS, RECORDS};

const BROKER: NodeId = NodeId(0);
const CLIENT: NodeId = NodeId(1);

async fn keep_running(env: SimulatedEnv, network: Rc<Network>, bug: Option<Bug>) {
    let node = Rc::new(Node::start_with(&env, 2, bug, GroupSettings::default()).await);
    let mut connection = node.connect(0);
    // It is there already in every life but the first.
    connection
        .create_topic("t", PARTITIONS, &[("segment.bytes", "16384")])
        .await;
    network.door.borrow_mut().replace(node);
}

/// Everything that is in the log in the end.
async fn read_all(env: SimulatedEnv) -> Log {
    let node = Node::start(&env, 2).await;
    let mut connection = node.connect(1);
    let mut log = Log::new();
    for partition in 0..PARTITIONS {
        let mut offset = 0;
        loop {
            let request = node::fetch_request("t", &[partition], offset, 0);
            let (response, attached) = connection.fetch(request).await;
            if response.topics.is_empty() {
                break;
            }
            assert_eq!(response.topics[0].partitions[0].status.code, 0);
            see(&mut log, partition, offset, attached).expect("read once");
            offset = log.range((partition, 0)..(partition + 1, 0)).count() as i64;
        }
    }
    node.stop().await;
    log
}

/// Whether the client's producer is idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Producing {
    Idempotent,
    Plain,
}

/// A client's work beside a broker whose power goes away `failures` times, perhaps one with a bug.
/// What went wrong, if anything did.
fn one_life_after_another(
    seed: u64,
    producing: Producing,
    failures: u32,
    bug: Option<Bug>,
) -> Vec<String> {
    let simulation = Simulation::new(seed);
    simulation.add_node(Default::default());
    simulation.set_faults(BROKER, node::often_slow());
    let network = Rc::new(Network::default());
    let observed = Rc::new(Observed::default());
    let client = simulation.env(CLIENT);
    let driver = Driver::new(
        client.clone(),
        Rc::clone(&network),
        Rc::clone(&observed),
        producing == Producing::Idempotent,
        seed ^ 0xc0de,
    );
    drop(client.spawn(
        Queue::Requests,
        "client",
        OnPanic::StopProcess,
        driver.run(),
    ));
    let (mut lives, mut cuts) = (0, 0);
    while !observed.done.get() {
        let env = simulation.restart(BROKER);
        let running = keep_running(env.clone(), Rc::clone(&network), bug);
        drop(env.spawn(Queue::Requests, "node", OnPanic::StopProcess, running));
        // Power fails a while after the start; in the end it holds.
        let holds = lives >= failures;
        let span = match holds {
            true => 120_000,
            false => 3 + client.random_u64() % 150,
        };
        let until = simulation.now().plus(Duration::from_millis(span));
        while !observed.done.get() && simulation.now() < until {
            simulation.run_for(Duration::from_millis(5));
            assert_eq!(simulation.stopped(CLIENT), None, "the client stopped");
            assert_eq!(simulation.stopped(BROKER), None, "the broker stopped");
        }
        assert!(
            !holds || observed.done.get(),
            "it did not recover within {span} ms"
        );
        if !observed.done.get() {
            cuts += 1;
            if client.random_u64().is_multiple_of(4) {
                simulation.kill(BROKER);
            } else {
                simulation.crash(BROKER);
            }
            network.cut();
        }
        lives += 1;
    }
    // Whatever the last answers were, the power goes once more.
    simulation.run_for(Duration::from_millis(client.random_u64() % 20));
    simulation.crash(BROKER);
    network.cut();
    simulation.kill(CLIENT);
    let env = simulation.restart(BROKER);
    let log = simulation
        .try_run(BROKER, move |_| read_all(env))
        .unwrap_or_else(|reason| panic!("seed {seed}: {reason:?}"));
    let copies = match producing {
        Producing::Idempotent => 0,
        Producing::Plain => cuts,
    };
    check(&log, &observed, copies)
}

/// Holds what is stored in the end against what the client saw.
fn check(log: &Log, observed: &Observed, copies: usize) -> Vec<String> {
    let mut violations = observed.violations.borrow().clone();
    let acknowledged = observed.acknowledged.borrow();
    if acknowledged.len() as u64 != RECORDS {
        violations.push(format!("{} records acknowledged", acknowledged.len()));
    }
    for (what, seen) in [
        ("acknowledged", &acknowledged),
        ("read", &observed.consumed.borrow()),
    ] {
        for (place, value) in seen
            .iter()
            .filter(|(place, value)| log.get(place) != Some(value))
        {
            let now = log.get(place);
            violations.push(format!("{what} at {place:?}: {value}, now there: {now:?}"));
        }
    }
    for partition in 0..PARTITIONS {
        check_order(log, partition, copies, &mut violations);
    }
    violations
}

/// Offsets are dense and values in the order in which they were produced. Where the producer is not
/// idempotent a batch of unknown fate is sent again, so a value may come once more for each time that
/// connections were cut: `copies` times; but never a new one before those that were produced earlier.
fn check_order(log: &Log, partition: u32, copies: usize, violations: &mut Vec<String>) {
    let mut times: BTreeMap<&String, usize> = BTreeMap::new();
    let mut newest: Option<&String> = None;
    let range = (partition, 0)..(partition + 1, 0);
    for (expected, ((_, offset), value)) in (0..).zip(log.range(range)) {
        if *offset != expected {
            violations.push(format!("{partition}/{expected} is missing"));
            return;
        }
        if !value.starts_with(&format!("{partition}:")) {
            violations.push(format!("{value} is in partition {partition}"));
        }
        let seen = times.entry(value).or_default();
        *seen += 1;
        if *seen > 1 + copies {
            violations.push(format!(
                "{value} is there {seen} times, of which {copies} may be copies"
            ));
        }
        if *seen == 1 {
            if newest.is_some_and(|newest| newest > value) {
                violations.push(format!("{value} is behind {newest:?}: reordered"));
            }
            newest = Some(value);
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_read_was_not_there_for_good() {
    for producing in [Producing::Idempotent, Producing::Plain] {
        for seed in 0..100 {
            let violations = one_life_after_another(seed, producing, 6, None);
            assert!(
                violations.is_empty(),
                "{producing:?}, seed {seed}: {violations:#?}"
            );
        }
    }
}

/// Without this nobody would know whether the test above can fail.
#[test]
fn bugs_between_the_shards_are_seen() {
    let (idempotent, plain) = (Producing::Idempotent, Producing::Plain);
    for (bug, producing, failures, expected) in [
        (Bug::AcknowledgedEarly, plain, 6, "acknowledged at"),
        (Bug::AcknowledgedEarly, idempotent, 6, "acknowledged at"),
        (Bug::Lost, plain, 0, "acknowledged at"),
        // Of an idempotent producer the owner takes the second for what it is.
        (Bug::Twice, plain, 0, "2 times, of which 0 may be copies"),
        (Bug::Misplaced, plain, 0, "is in partition"),
    ] {
        let run = |seed| one_life_after_another(seed, producing, failures, Some(bug));
        let (seed, seen) = (0..50)
            .map(|seed| (seed, run(seed)))
            .find(|(_, violations)| !violations.is_empty())
            .unwrap_or_else(|| panic!("{bug:?} was not seen"));
        println!("{bug:?} was seen with seed {seed}");
        assert!(
            seen.iter().any(|violation| violation.contains(expected)),
            "{bug:?}: {seen:#?}"
        );
    }
}

#[test]
fn the_order_of_a_log_is_judged() {
    let judge = |values: &[&str], cuts| {
        let log = (0..).zip(values);
        let log = log.map(|(offset, value)| ((0, offset), format!("0:{value}")));
        let mut violations = Vec::new();
        check_order(&log.collect(), 0, cuts, &mut violations);
        violations.join("; ")
    };
    assert_eq!(judge(&["1", "2", "3"], 0), "");
    assert_eq!(judge(&["1", "2", "1", "2", "3"], 1), "");
    assert!(judge(&["1", "2", "1", "2", "3"], 0).contains("2 times, of which 0"));
    assert!(judge(&["1", "3", "2"], 5).contains("reordered"));
}
