//! Members that go, of their own will or not, and those that come back.

use super::*;
use crate::coordinator::api::{GroupState, JoinGroup};

const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const FENCED_INSTANCE_ID: i16 = 82;

#[test]
fn who_is_not_heard_of_is_out() {
    let mut driver = Driver::settled(&["a", "b"]);
    for _ in 0..5 {
        driver.pass(u64::from(SESSION_MS) - 1_000);
        assert_eq!(driver.heartbeat("a", 1), 0);
        assert_eq!(driver.heartbeat("b", 1), 0);
    }
    driver.pass(u64::from(SESSION_MS) - 1_000);
    assert_eq!(driver.heartbeat("a", 1), 0);
    driver.pass(1_000);
    assert_eq!(driver.heartbeat("a", 1), REBALANCE_IN_PROGRESS);
    assert_eq!(driver.heartbeat("b", 1), UNKNOWN_MEMBER_ID);
    let a = driver.join(&consumer("a"), "");
    assert_eq!(driver.is_in(a).members.len(), 1);
}

#[test]
fn the_last_one_leaves_an_empty_group() {
    let mut driver = Driver::settled(&["a", "b"]);
    assert_eq!(driver.leave("b", None), 0);
    assert_eq!(driver.leave("b", None), UNKNOWN_MEMBER_ID);
    assert_eq!(driver.leave("a", None), 0);
    assert_eq!(driver.group.state(), GroupState::Empty);
    assert_eq!(driver.group.value().generation, 2);
    assert!(driver.group.value().members.is_empty());
    assert!(driver.last.group_changed);
}

#[test]
fn who_waits_for_the_others_is_not_late() {
    let mut driver = Driver::settled(&["a", "b"]);
    let a = driver.join(
        &JoinGroup {
            protocols: vec![("range".into(), "u".into())],
            ..consumer("a")
        },
        "",
    );
    for _ in 0..5 {
        driver.pass(u64::from(SESSION_MS) - 1);
        driver.heartbeat("b", 1);
    }
    let b = driver.join(&consumer("b"), "");
    assert_eq!(driver.is_in(a).generation, 2);
    assert_eq!(driver.is_in(b).generation, 2);
}

#[test]
fn leaving_while_others_wait_lets_them_go_on() {
    let mut driver = Driver::settled(&["a", "b"]);
    let c = driver.join(&consumer(""), "c");
    let a = driver.join(&consumer("a"), "");
    assert!(driver.waits(c));
    assert_eq!(driver.leave("b", None), 0);
    assert_eq!(driver.is_in(a).generation, 2);
    assert_eq!(driver.is_in(c).generation, 2);
}

fn static_pair() -> Driver {
    let mut driver = Driver::new();
    let patient = |instance: &str| JoinGroup {
        initial_delay_ms: 10,
        ..fixed(instance)
    };
    driver.join(&patient("one"), "one-1");
    driver.join(&patient("two"), "two-1");
    driver.pass(50);
    driver.sync(identity("two-1", 1), &[]);
    driver.sync(identity("one-1", 1), &[("one-1", "p0"), ("two-1", "p1")]);
    driver
}

#[test]
fn a_static_member_comes_back_and_nobody_notices() {
    let mut driver = static_pair();
    let written = driver.written;
    let back = driver.join(&fixed("two"), "two-2");
    let joined = driver.joined(back);
    assert_eq!(joined.member_id, "two-2");
    assert_eq!(joined.outcome.expect("it is in").generation, 1);
    assert_eq!(driver.written, written + 1, "its new id is written down");
    assert_eq!(driver.heartbeat("one-1", 1), 0);
    let sync = driver.sync(identity("two-2", 1), &[]);
    assert_eq!(driver.assignment(sync), "p1");
    // Its former self is fenced where it shows its lasting name, and unknown where it does not.
    let token = driver.token();
    let zombie = crate::coordinator::api::MemberIdentity {
        instance_id: Some("two".into()),
        ..identity("two-1", 1)
    };
    let effects = driver.group.heartbeat(token, &zombie, driver.now);
    driver.take(effects);
    assert_eq!(driver.refused(token) as i16, FENCED_INSTANCE_ID);
    assert_eq!(driver.heartbeat("two-1", 1), UNKNOWN_MEMBER_ID);
}

#[test]
fn a_static_leader_comes_back_and_does_not_assign() {
    let mut driver = static_pair();
    let back = driver.join(&fixed("one"), "one-2");
    let joined = driver.is_in(back);
    assert_eq!(joined.leader, "one-1", "so it takes itself for a follower");
    assert!(joined.members.is_empty());
    let modern = JoinGroup {
        can_skip_assignment: true,
        ..fixed("one")
    };
    let back = driver.join(&modern, "one-3");
    let joined = driver.is_in(back);
    assert_eq!(
        (joined.leader.as_str(), joined.skip_assignment),
        ("one-3", true)
    );
    assert_eq!(joined.members.len(), 2);
    let sync = driver.sync(identity("one-3", 1), &[]);
    assert_eq!(driver.assignment(sync), "p0");
}

#[test]
fn a_static_member_with_other_topics_brings_a_new_round() {
    let mut driver = static_pair();
    let other = JoinGroup {
        protocols: vec![("range".into(), "u".into())],
        ..fixed("two")
    };
    let back = driver.join(&other, "two-2");
    assert!(driver.waits(back));
    assert_eq!(driver.heartbeat("one-1", 1), REBALANCE_IN_PROGRESS);
}

#[test]
fn a_static_member_that_stays_away_is_out_in_the_end() {
    let mut driver = static_pair();
    driver.pass(u64::from(SESSION_MS) - 10);
    assert_eq!(driver.heartbeat("one-1", 1), 0);
    driver.pass(10);
    assert_eq!(driver.heartbeat("one-1", 1), REBALANCE_IN_PROGRESS);
    assert_eq!(driver.leave("", Some("two")), UNKNOWN_MEMBER_ID);
    assert_eq!(driver.leave("", Some("one")), 0, "by its lasting name");
    assert_eq!(driver.group.state(), GroupState::Empty);
}

#[test]
fn two_of_one_instance_fence_each_other() {
    let mut driver = static_pair();
    driver.join(&consumer(""), "c");
    let waiting = driver.join(
        &JoinGroup {
            member_id: "two-1".into(),
            ..fixed("two")
        },
        "",
    );
    let second = driver.join(&fixed("two"), "two-2");
    assert_eq!(driver.refused(waiting) as i16, FENCED_INSTANCE_ID);
    assert!(driver.waits(second));
}

#[test]
fn what_was_written_down_is_back_after_a_restart() {
    let mut before = static_pair();
    before.commit(Some(identity("one-1", 1)), 7);
    let mut after = Driver::new();
    after.group.load(before.group.value(), after.now);
    for (topic, partition, value) in before.group.offset_values() {
        let value = Some(value.clone());
        after.group.load_offset(topic.clone(), partition, value);
    }
    after.group.loaded(after.now);
    assert_eq!(after.group.value(), before.group.value());
    assert_eq!(after.group.state(), GroupState::Stable);
    assert_eq!(after.heartbeat("one-1", 1), 0);
    assert_eq!(after.committed(), Some(7));
    let back = after.join(&fixed("two"), "two-9");
    assert_eq!(after.is_in(back).generation, 1);
    after.pass(u64::from(SESSION_MS));
    assert_eq!(
        after.heartbeat("one-1", 1),
        UNKNOWN_MEMBER_ID,
        "sessions go on"
    );
}

#[test]
fn a_session_timeout_out_of_bounds_is_refused() {
    let mut driver = Driver::new();
    for session_timeout_ms in [0, 5_999, 1_800_001] {
        let join = JoinGroup {
            session_timeout_ms,
            ..consumer("")
        };
        let token = driver.join(&join, "a");
        assert_eq!(driver.refused(token), ErrorCode::InvalidSessionTimeout);
    }
    assert!(driver.group.is_nothing());
}
