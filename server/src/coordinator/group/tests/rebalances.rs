//! Joining, assigning, and what brings a new round.

use super::*;
use crate::coordinator::api::{GroupState, JoinGroup};

const UNKNOWN_MEMBER_ID: i16 = 25;
const ILLEGAL_GENERATION: i16 = 22;
const REBALANCE_IN_PROGRESS: i16 = 27;

#[test]
fn one_member_leads_and_is_told_all() {
    let mut driver = Driver::new();
    let token = driver.join(&consumer(""), "a");
    let joined = driver.joined(token);
    assert_eq!(joined.member_id, "a");
    let group = joined.outcome.expect("it is in");
    assert_eq!((group.generation, group.leader.as_str()), (1, "a"));
    assert_eq!(group.protocol, "range");
    assert_eq!(group.members.len(), 1);
    assert_eq!(driver.written, 0, "nothing stands yet");
    let token = driver.sync(identity("a", 1), &[("a", "all of it")]);
    assert_eq!(driver.assignment(token), "all of it");
    assert_eq!(driver.written, 1);
    assert_eq!(driver.group.state(), GroupState::Stable);
}

#[test]
fn followers_wait_for_the_leader() {
    let mut driver = Driver::new();
    let patient = JoinGroup {
        initial_delay_ms: 100,
        ..consumer("")
    };
    let a = driver.join(&patient, "a");
    let b = driver.join(&patient, "b");
    assert!(driver.waits(a) && driver.waits(b));
    driver.pass(500);
    let (a, b) = (driver.is_in(a), driver.is_in(b));
    assert_eq!(a.members.len() + b.members.len(), 2, "only the leader");
    assert_eq!(a.leader, "a");
    let follower = driver.sync(identity("b", 1), &[]);
    assert!(driver.waits(follower));
    let leader = driver.sync(identity("a", 1), &[("b", "half"), ("a", "rest")]);
    assert_eq!(driver.assignment(follower), "half");
    assert_eq!(driver.assignment(leader), "rest");
}

#[test]
fn a_new_member_brings_a_new_round_and_the_old_hear_of_it() {
    let mut driver = Driver::settled(&["a"]);
    assert_eq!(driver.heartbeat("a", 1), 0);
    let b = driver.join(&consumer(""), "b");
    assert!(driver.waits(b));
    assert_eq!(driver.heartbeat("a", 1), REBALANCE_IN_PROGRESS);
    let a = driver.join(&consumer("a"), "");
    assert_eq!(driver.is_in(a).generation, 2);
    assert_eq!(driver.is_in(b).generation, 2);
    assert_eq!(driver.heartbeat("a", 1), ILLEGAL_GENERATION);
    assert_eq!(driver.heartbeat("a", 2), 0);
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    let mut driver = Driver::settled(&["a", "b"]);
    let c = driver.join(&consumer(""), "c");
    let a = driver.join(&consumer("a"), "");
    for _ in 0..7 {
        // Still there, but it never joins.
        driver.heartbeat("b", 1);
        driver.pass(9_000);
    }
    assert_eq!(driver.is_in(a).generation, 2);
    assert_eq!(driver.is_in(c).generation, 2);
    assert_eq!(driver.heartbeat("b", 1), UNKNOWN_MEMBER_ID);
}

#[test]
fn who_does_not_ask_for_its_assignment_is_out() {
    let mut driver = Driver::new();
    let patient = JoinGroup {
        initial_delay_ms: 10,
        ..consumer("")
    };
    driver.join(&patient, "a");
    driver.join(&patient, "b");
    driver.pass(100);
    let a = driver.sync(identity("b", 1), &[]);
    for _ in 0..7 {
        driver.heartbeat("a", 1);
        driver.pass(9_000);
    }
    assert_eq!(driver.refused(a) as i16, REBALANCE_IN_PROGRESS);
    assert_eq!(driver.heartbeat("a", 1), UNKNOWN_MEMBER_ID);
    let again = driver.join(&consumer("b"), "");
    assert_eq!(driver.is_in(again).leader, "b");
}

#[test]
fn a_sync_of_the_wrong_time_is_refused() {
    let mut driver = Driver::settled(&["a"]);
    let old = driver.sync(identity("a", 0), &[]);
    assert_eq!(driver.refused(old) as i16, ILLEGAL_GENERATION);
    let stranger = driver.sync(identity("x", 1), &[]);
    assert_eq!(driver.refused(stranger) as i16, UNKNOWN_MEMBER_ID);
    driver.join(&consumer(""), "b");
    let early = driver.sync(identity("a", 1), &[]);
    assert_eq!(driver.refused(early) as i16, REBALANCE_IN_PROGRESS);
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    let mut driver = Driver::settled(&["a", "b"]);
    let follower = driver.join(&consumer("b"), "");
    assert_eq!(driver.is_in(follower).generation, 1, "nothing has changed");
    let again = driver.sync(identity("b", 1), &[]);
    assert_eq!(driver.assignment(again), "b");
    let leader = driver.join(&consumer("a"), "");
    assert!(
        driver.waits(leader),
        "a leader that joins wants a new round"
    );
}

#[test]
fn other_subscriptions_bring_a_new_round() {
    let mut driver = Driver::settled(&["a", "b"]);
    let mut join = consumer("b");
    join.protocols = vec![("range".into(), "t u".into())];
    let b = driver.join(&join, "");
    assert!(driver.waits(b));
    let a = driver.join(&consumer("a"), "");
    assert_eq!(driver.is_in(a).generation, 2);
    assert_eq!(driver.is_in(b).generation, 2);
}

#[test]
fn the_protocol_is_one_that_all_know_and_most_prefer() {
    let mut driver = Driver::new();
    let with = |protocols: &[&str]| JoinGroup {
        initial_delay_ms: 10,
        protocols: protocols
            .iter()
            .map(|name| ((*name).to_owned(), "t".into()))
            .collect(),
        ..consumer("")
    };
    let first = driver.join(&with(&["x", "y", "z"]), "a");
    driver.join(&with(&["z", "y", "x"]), "b");
    driver.join(&with(&["w", "z", "y"]), "c");
    driver.pass(100);
    // All know y and z; two prefer z.
    assert_eq!(driver.is_in(first).protocol, "z");
    let stranger = driver.join(&with(&["v"]), "d");
    assert_eq!(
        driver.refused(stranger),
        ErrorCode::InconsistentGroupProtocol
    );
    let connect = JoinGroup {
        protocol_type: "connect".into(),
        ..with(&["y"])
    };
    let other = driver.join(&connect, "e");
    assert_eq!(driver.refused(other), ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn a_group_of_another_type_is_a_group() {
    let mut driver = Driver::new();
    let connect = JoinGroup {
        protocol_type: "connect".into(),
        protocols: vec![("sessioned".into(), "anything".into())],
        ..consumer("")
    };
    let token = driver.join(&connect, "w");
    assert_eq!(driver.is_in(token).protocol_type, "connect");
}

#[test]
fn a_new_member_is_told_its_id_first_if_it_can_be() {
    let mut driver = Driver::new();
    let join = JoinGroup {
        needs_member_id: true,
        ..consumer("")
    };
    let token = driver.join(&join, "a");
    let told = driver.joined(token);
    assert_eq!(told.member_id, "a");
    assert_eq!(
        told.outcome.expect_err("not yet").code,
        ErrorCode::MemberIdRequired
    );
    let token = driver.join(&consumer("a"), "");
    assert_eq!(driver.is_in(token).leader, "a");
    driver.sync(identity("a", 1), &[("a", "all of it")]);
    // Another one is told its id and never comes: the round waits for it, but not for ever.
    let token = driver.join(&join, "b");
    assert_eq!(driver.refused(token), ErrorCode::MemberIdRequired);
    let token = driver.join(&consumer("a"), "");
    assert!(driver.waits(token));
    driver.pass(u64::from(SESSION_MS));
    assert_eq!(driver.is_in(token).generation, 2);
    let late = driver.join(&consumer("b"), "");
    assert_eq!(driver.refused(late) as i16, UNKNOWN_MEMBER_ID);
}

#[test]
fn the_first_round_waits_for_more_but_not_for_ever() {
    let mut driver = Driver::new();
    let join = JoinGroup {
        initial_delay_ms: 3_000,
        rebalance_timeout_ms: 8_000,
        ..consumer("")
    };
    let first = driver.join(&join, "m0");
    driver.pass(2_900);
    assert!(driver.waits(first));
    for n in 1..20 {
        driver.join(&join, &format!("m{n}"));
        driver.pass(500);
    }
    // 8 s after the first, whoever comes.
    assert_eq!(driver.is_in(first).members.len(), 12);
}

#[test]
fn where_the_coordinator_assigns_nobody_waits_for_a_leader() {
    let mut driver = Driver::new();
    let a = driver.join(&native(""), "a");
    let joined = driver.is_in(a);
    assert!(joined.members.is_empty());
    assert_eq!(driver.group.state(), GroupState::Stable);
    assert_eq!(driver.written, 1);
    let sync = driver.sync(identity("a", 1), &[]);
    assert_eq!(driver.assignment(sync), "range/0: t");
    // One that could lead itself follows here.
    let b = driver.join(&consumer(""), "b");
    let a = driver.join(&native("a"), "");
    assert!(driver.is_in(b).members.is_empty());
    assert_eq!(driver.is_in(a).leader, "a");
    let sync = driver.sync(identity("b", 2), &[("b", "something else")]);
    assert_eq!(driver.assignment(sync), "range/1: t");
}

#[test]
fn where_the_coordinator_assigns_new_partitions_are_shared_out() {
    let mut driver = Driver::new();
    driver.join(&native(""), "a");
    let effects = driver
        .group
        .topics_changed(&|topic| topic == "u", &Words, driver.now);
    driver.take(effects);
    assert_eq!(driver.heartbeat("a", 1), 0);
    let effects = driver
        .group
        .topics_changed(&|topic| topic == "t", &Words, driver.now);
    driver.take(effects);
    assert_eq!(driver.heartbeat("a", 1), REBALANCE_IN_PROGRESS);
}

#[test]
fn a_full_group_takes_no_more() {
    let mut driver = Driver::settled(&["a", "b"]);
    driver.rules.max_size = 2;
    let token = driver.join(&consumer(""), "c");
    assert_eq!(driver.refused(token), ErrorCode::GroupMaxSizeReached);
    assert_eq!(driver.heartbeat("a", 1), 0, "the others are left alone");
}
