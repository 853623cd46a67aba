//! Offsets: who may commit them, and how long they are kept.

use millrace_wire::ids::PartitionIndex;

use super::*;
use crate::coordinator::api::CommitOffsets;

const UNKNOWN_MEMBER_ID: i16 = 25;
const ILLEGAL_GENERATION: i16 = 22;
const REBALANCE_IN_PROGRESS: i16 = 27;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[test]
fn members_commit_and_anybody_reads() {
    let mut driver = Driver::settled(&["a"]);
    assert_eq!(driver.committed(), None);
    assert_eq!(driver.commit(Some(identity("a", 1)), 5), 0);
    assert_eq!(driver.last.offsets.len(), 1);
    assert_eq!(driver.committed(), Some(5));
    assert_eq!(driver.commit(Some(identity("a", 0)), 6), ILLEGAL_GENERATION);
    assert_eq!(driver.commit(Some(identity("z", 1)), 6), UNKNOWN_MEMBER_ID);
    assert_eq!(
        driver.commit(None, 6),
        UNKNOWN_MEMBER_ID,
        "not past its members"
    );
    assert_eq!(driver.committed(), Some(5));
}

#[test]
fn while_members_join_commits_go_on_and_while_the_leader_assigns_they_do_not() {
    let mut driver = Driver::settled(&["a"]);
    driver.join(&consumer(""), "b");
    assert_eq!(driver.commit(Some(identity("a", 1)), 5), 0);
    driver.join(&consumer("a"), "");
    assert_eq!(driver.commit(Some(identity("a", 1)), 6), ILLEGAL_GENERATION);
    assert_eq!(
        driver.commit(Some(identity("a", 2)), 6),
        REBALANCE_IN_PROGRESS
    );
    assert_eq!(driver.committed(), Some(5));
}

#[test]
fn a_group_without_members_is_only_a_name_for_offsets() {
    let mut driver = Driver::new();
    assert_eq!(driver.commit(Some(identity("a", 3)), 1), ILLEGAL_GENERATION);
    assert!(driver.group.is_nothing());
    assert_eq!(driver.commit(None, 1), 0);
    assert_eq!(driver.committed(), Some(1));
    assert!(!driver.group.is_nothing());
}

#[test]
fn a_text_too_long_is_refused_alone() {
    let mut driver = Driver::new();
    driver.rules.offset_metadata_max_bytes = 1;
    assert_eq!(driver.commit(None, 1), 0);
    driver.rules.offset_metadata_max_bytes = 0;
    assert_eq!(
        driver.commit(None, 2),
        ErrorCode::OffsetMetadataTooLarge as i16
    );
    assert_eq!(driver.committed(), Some(1));
}

fn expire(driver: &mut Driver) -> bool {
    let effects = driver
        .group
        .expire_offsets(&driver.rules, &Words, driver.now);
    driver.take(effects);
    driver.last.forgotten
}

#[test]
fn offsets_go_a_week_after_the_last_member() {
    let mut driver = Driver::settled(&["a"]);
    driver.commit(Some(identity("a", 1)), 5);
    for _ in 0..30 {
        // As often as its session asks for would take long; it is in, that is what counts.
        driver.now.wall_ms += DAY_MS as i64;
        assert!(!expire(&mut driver));
    }
    assert_eq!(driver.committed(), Some(5));
    driver.leave("a", None);
    driver.now.wall_ms += 6 * DAY_MS as i64;
    assert!(!expire(&mut driver));
    assert_eq!(driver.committed(), Some(5));
    driver.now.wall_ms += DAY_MS as i64;
    assert!(expire(&mut driver));
    assert_eq!(driver.committed(), None);
}

#[test]
fn offsets_of_a_topic_that_is_no_longer_read_go_too() {
    let mut driver = Driver::settled(&["a"]);
    let token = driver.token();
    let commit = CommitOffsets {
        member: Some(identity("a", 1)),
        offsets: ["t", "old"]
            .map(|name| crate::coordinator::api::CommittedOffset {
                topic: topic(name),
                partition: PartitionIndex(0),
                offset: millrace_wire::ids::Offset(3),
                leader_epoch: -1,
                metadata: String::new(),
            })
            .to_vec(),
    };
    let effects = driver
        .group
        .commit(token, commit, &driver.rules, driver.now);
    driver.take(effects);
    driver.now.wall_ms += 8 * DAY_MS as i64;
    assert!(!expire(&mut driver));
    assert_eq!(driver.last.offsets.len(), 1);
    assert_eq!(driver.last.offsets[0].0, topic("old"));
    assert_eq!(driver.committed(), Some(3));
}

#[test]
fn only_a_group_without_members_is_deleted() {
    let mut driver = Driver::settled(&["a"]);
    driver.commit(Some(identity("a", 1)), 5);
    let token = driver.token();
    let effects = driver.group.delete(token);
    driver.take(effects);
    assert_eq!(driver.refused(token), ErrorCode::NonEmptyGroup);
    driver.leave("a", None);
    let token = driver.token();
    let effects = driver.group.delete(token);
    driver.take(effects);
    assert!(driver.last.forgotten);
    assert_eq!(driver.last.offsets.len(), 1);
    assert!(driver.answer(token).expect("answered").is_ok());
}

#[test]
fn offsets_that_are_being_read_are_not_deleted() {
    let mut driver = Driver::settled(&["a"]);
    driver.commit(Some(identity("a", 1)), 5);
    let partitions = [
        (topic("t"), PartitionIndex(0)),
        (topic("u"), PartitionIndex(0)),
    ];
    let token = driver.token();
    let effects = driver.group.delete_offsets(token, &partitions, &Words);
    driver.take(effects);
    let outcomes = match driver.answer(token) {
        Some(Ok(crate::coordinator::api::GroupAnswer::DeleteOffsets(outcomes))) => outcomes,
        other => panic!("{other:?}"),
    };
    let codes: Vec<i16> = outcomes.iter().map(code).collect();
    assert_eq!(codes, [ErrorCode::GroupSubscribedToTopic as i16, 0]);
    driver.leave("a", None);
    let token = driver.token();
    let effects = driver.group.delete_offsets(token, &partitions, &Words);
    driver.take(effects);
    assert_eq!(driver.committed(), None);
}

#[test]
fn what_was_noted_of_a_deleted_topic_goes_with_it() {
    let mut driver = Driver::new();
    driver.commit(None, 5);
    let effects = driver.group.topic_deleted(&topic("t"));
    driver.take(effects);
    assert_eq!(driver.committed(), None);
    assert_eq!(driver.last.offsets.len(), 0);
}
