//! The raft core, model checked: every state that three replicas can come to within a small bound is
//! visited, and the rules of Raft hold in each. Where the simulator (`raft/simulator`) lives through
//! millions of random bad days, this leaves nothing out, but of a small world. What lives here is the
//! world and its rules; the core is the one that the broker runs, and nothing here knows how it works.
//!
//! # How the model is made
//!
//! - **A state** ([`cluster::State`]) is three replicas, the messages under way, what is left of the
//!   bound, and what the rules must remember: who led in each term, and what was committed. A replica
//!   ([`node::Node`]) is a running [`raft::Group`] with its log, what its disk holds, the writes under
//!   way to that disk, and the messages that wait for them.
//! - **What can happen** ([`node::Stimulus`]): a message arrives, a disk completes all that
//!   is being written (together, as a journal's sync does), a replica's clock reaches its deadline, somebody proposes an entry to a replica that
//!   leads, or a replica crashes and starts again. At a crash the disk may hold any number of the
//!   writes under way, in their order. Any of these may come next, whenever it is possible at all.
//! - **Messages** arrive at most once for each time that they are sent, and one that is sent again while
//!   it is still the last one under way is not there twice. One that is lost is one that never arrives. They may be late
//!   without end. With [`Links::AnyOrder`] they overtake each other at will; with [`Links::InOrder`]
//!   those from one replica to another do not, which is what a connection makes of them and which
//!   leaves room for a larger bound. A message that is bound to a write leaves when that is durable.
//! - **Time**: each replica has a clock of its own. It stands still but when the replica ticks, and
//!   then moves to the replica's deadline. So any replica may find its leader silent at any moment, for
//!   as often as the bound has timeouts; a follower of a living leader must have timed out itself before
//!   it helps to elect another, and a leader does not learn of its successor before a message tells it.
//!   Without `beats` in the bound leaders never tick, and their heartbeats are all lost.
//! - **The bound** ([`Bound`]): nobody tries for a term beyond it, and what it counts may happen so
//!   often. Nothing else ends the exploration: neither a number of states nor a depth.
//!
//! # What makes it small enough
//!
//! - Replicas are alike until they act: the first to act is called n0, the next n1. A run in which
//!   others come first is one of these with other names, for nothing in the core depends on them.
//! - Messages that can change nothing any more are left out of the state ([`letters`] says why each).
//! - A message that would change nothing and be answered with nothing is not delivered: a state with
//!   fewer messages can do nothing that one with more cannot.
//! - Replica states and messages are kept once, by number, and what a replica does in one state about
//!   one stimulus is worked out once ([`tables`]). This changes no state, only the time it takes.
//!
//! States are told apart by hashes of 64 bits, as `stateright` does it: with twenty million states the
//! chance that two have the same one, and that something is missed by it, is about one in 100,000.
//!
//! # How to run it
//!
//! `cargo test -p raft --test model` explores the everyday bounds; `-- --nocapture` tells how many states
//! they have. They take about three quarters of a minute on two idle cores and half a gigabyte, the
//! larger ones as much again:
//! `cargo test -p raft --test model -- --ignored --nocapture --test-threads 1`. A broken rule is told with
//! the way to it that the search found, which for a planted bug is the shortest.

mod cluster;
mod letters;
mod log;
mod node;
mod rules;
mod tables;

use std::time::Instant;

use raft::planted::Bug;
use raft_simulator::broken_by;
use stateright::{Checker, Model, Path};

use crate::cluster::{Action, Bound, Cluster, EVERY_RULE, Links, Milestone, State};
use crate::rules::Breach;

/// What the project promises to check: three replicas, two terms, two proposals, one crash.
const PROMISED: Bound = Bound {
    terms: 2,
    timeouts: 2,
    beats: 0,
    proposals: 2,
    crashes: 1,
    links: Links::InOrder,
};

/// The way to a breach, one thing that happens a line.
fn tell(path: Path<State, Action>) -> String {
    let actions = path.into_actions();
    let lines = actions.iter().map(|action| format!("  {action:?}\n"));
    lines.collect()
}

/// Visits every state within the bound. At least so many there must be, and these milestones among
/// them: a model in which nothing happens breaks no rule.
fn explore(bound: Bound, at_least: usize, milestones: &[Milestone]) {
    let begun = Instant::now();
    let cluster = Cluster::new(bound, None);
    let checker = cluster.checker().threads(2).spawn_dfs().join();
    let states = checker.unique_state_count();
    let (locals, letters) = checker.model().sizes();
    println!(
        "{bound:?}: {states} states, {} transitions, at most {} deep; {locals} states of a replica, {letters} messages; {:?}",
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed()
    );
    if let Some(path) = checker.discovery(EVERY_RULE) {
        let breach = path.last_state().breach();
        panic!("{bound:?}: {breach:?} after\n{}", tell(path));
    }
    assert!(checker.is_done(), "every state was visited");
    assert!(states >= at_least, "only {states} states");
    let reached = checker.model().reached();
    let missed = milestones.iter().filter(|it| !reached.contains(it));
    assert_eq!(missed.count(), 0, "{reached:?} of {milestones:?}");
}

#[test]
fn rules_hold_in_every_state_of_the_promised_bound() {
    explore(PROMISED, 10_000_000, &Milestone::ALL);
}

#[test]
fn rules_hold_whatever_overtakes_what() {
    let bound = Bound {
        proposals: 1,
        crashes: 0,
        links: Links::AnyOrder,
        ..PROMISED
    };
    let milestones = [
        Milestone::SecondTerm,
        Milestone::AllCommitted,
        Milestone::CommittedBySuccessor,
        Milestone::Truncation,
        Milestone::TwoLeaders,
    ];
    explore(bound, 500_000, &milestones);
}

#[test]
fn rules_hold_whatever_overtakes_what_and_a_crash() {
    let bound = Bound {
        proposals: 0,
        links: Links::AnyOrder,
        ..PROMISED
    };
    let milestones = [
        Milestone::SecondTerm,
        Milestone::CommittedBySuccessor,
        Milestone::Truncation,
        Milestone::LeaderCrash,
        Milestone::TwoLeaders,
    ];
    explore(bound, 1_000_000, &milestones);
}

#[test]
#[ignore = "another minute on two cores; see the head of this file"]
fn rules_hold_with_a_proposal_and_a_crash_in_any_order() {
    let bound = Bound {
        proposals: 1,
        links: Links::AnyOrder,
        ..PROMISED
    };
    explore(bound, 5_000_000, &Milestone::ALL);
}

#[test]
#[ignore = "another minute on two cores; see the head of this file"]
fn rules_hold_with_one_more_timeout() {
    let bound = Bound {
        timeouts: 3,
        proposals: 0,
        ..PROMISED
    };
    let milestones = [
        Milestone::SecondTerm,
        Milestone::CommittedBySuccessor,
        Milestone::Truncation,
        Milestone::LeaderCrash,
        Milestone::TwoLeaders,
    ];
    explore(bound, 5_000_000, &milestones);
}

/// Within this bound the bug must be found, and must break one of the rules that the simulator expects
/// of it. The search goes by breadth on one thread, so the way that is told is a shortest one.
fn find(bug: Bug, bound: Bound) {
    let cluster = Cluster::new(bound, Some(bug));
    let checker = cluster.checker().threads(1).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path = checker.discovery(EVERY_RULE);
    let path = path.unwrap_or_else(|| panic!("{bug:?} is not found in {states} states"));
    let breach = path.last_state().breach();
    println!(
        "{bug:?}: {breach:?} in {states} states, after\n{}",
        tell(path)
    );
    let Some(Breach::Rule(rule)) = breach else {
        panic!(
            "{bug:?}: {breach:?} is not one of the rules {:?}",
            broken_by(bug)
        );
    };
    assert!(broken_by(bug).contains(&rule), "{bug:?} breaks {rule:?}");
}

#[test]
fn a_vote_that_is_not_written_is_found() {
    find(Bug::VoteNotPersisted, PROMISED);
}

#[test]
fn an_acknowledgement_before_the_disk_is_found() {
    find(Bug::AcknowledgesBeforeDurable, PROMISED);
}

#[test]
fn a_leader_that_counts_itself_too_early_is_found() {
    find(Bug::CountsItselfBeforeDurable, PROMISED);
}

#[test]
fn a_leader_that_commits_by_an_earlier_term_is_found() {
    let bound = Bound {
        proposals: 0,
        crashes: 0,
        ..PROMISED
    };
    find(Bug::CommitsEarlierTerms, bound);
}

#[test]
fn a_late_append_that_cuts_is_found() {
    let bound = Bound {
        timeouts: 1,
        crashes: 0,
        links: Links::AnyOrder,
        ..PROMISED
    };
    find(Bug::LateAppendTruncates, bound);
}
