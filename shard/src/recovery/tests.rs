//! What a journal gives back, and the states that it leads to, case by case.

use bytes::Bytes;
use millrace_wire::ids::{LogIndex, Offset, PartitionId, PartitionIndex, Term, TopicId};

use super::{PASSED_OVER, Replay, nothing};
use crate::journal::{DamagedGroup, LostEntry, OwnedEntry, Sequence};
use crate::log::StartState;
use crate::segment::SegmentEnd;

const PARTITION: PartitionId = PartitionId {
    topic: TopicId(7),
    partition: PartitionIndex(0),
};

/// A journal whose checkpoint knows the partition, with nothing in it.
fn journal() -> Replay {
    Replay::new(vec![nothing(PARTITION)], Sequence(1))
}

fn append(index: u64, base: i64, records: u32) -> OwnedEntry {
    OwnedEntry::Append {
        partition: PARTITION,
        index: LogIndex(index),
        term: Term(1),
        base_offset: Offset(base),
        record_count: records,
        batch: Bytes::from(vec![index as u8; 70]),
    }
}

fn safe(next_offset: i64, next_index: u64) -> OwnedEntry {
    OwnedEntry::SegmentSafe {
        partition: PARTITION,
        safe: SegmentEnd {
            segment_base: Offset::ZERO,
            position: 8_192,
            next_offset: Offset(next_offset),
            next_index: LogIndex(next_index),
            term: Term(1),
        },
    }
}

fn accepted(log_end: i64) -> OwnedEntry {
    OwnedEntry::LossAccepted {
        partition: PARTITION,
        log_end: Offset(log_end),
    }
}

fn lost(sequence: u64, entries: Option<Vec<LostEntry>>) -> DamagedGroup {
    DamagedGroup {
        sequence: Sequence(sequence),
        last: Sequence(sequence),
        lost: entries,
    }
}

fn lost_batch(index: u64, log_end: i64) -> LostEntry {
    LostEntry {
        partition: PARTITION,
        index: LogIndex(index),
        log_end: Offset(log_end),
    }
}

fn end_of(replay: Replay) -> StartState {
    let mut rebuilt = replay.finish();
    rebuilt.partitions.remove(&PARTITION).expect("it is known")
}

fn bases(state: &StartState) -> Vec<i64> {
    state.tail.iter().map(|batch| batch.base_offset.0).collect()
}

#[test]
fn batches_after_a_gap_count_when_segments_hold_what_is_missing() {
    let mut replay = journal();
    replay.damage(&lost(2, Some(vec![lost_batch(1, 3)])));
    replay.apply(Sequence(3), append(2, 3, 2));
    replay.apply(Sequence(4), append(3, 5, 1));
    replay.apply(Sequence(5), safe(3, 2));
    let state = end_of(replay);
    assert_eq!((state.damaged, state.end()), (None, Offset(6)));
    assert_eq!(bases(&state), [3, 5]);
    assert_eq!(state.last_index, LogIndex(3));
}

#[test]
fn what_came_after_an_accepted_loss_counts_and_not_what_was_given_up() {
    // An earlier start did not see that segments hold the offsets to 3.
    let mut known = nothing(PARTITION);
    let OwnedEntry::SegmentSafe { safe, .. } = safe(3, 2) else {
        unreachable!()
    };
    (known.safe, known.log_end) = (safe, Offset(5));
    known.damaged = Some(Offset(3));
    let mut replay = Replay::new(vec![known], Sequence(10));
    replay.apply(Sequence(3), append(2, 3, 2));
    replay.apply(Sequence(11), append(9, 3, 2));
    replay.apply(Sequence(11), accepted(5));
    replay.apply(Sequence(12), append(10, 5, 1));
    let state = end_of(replay);
    assert_eq!((state.damaged, state.end()), (None, Offset(6)));
    assert_eq!(bases(&state), [3, 5]);
    assert_eq!(state.tail[0].index, LogIndex(9));
}

#[test]
fn a_log_goes_on_beyond_every_offset_that_was_given_out() {
    // What is lost says how far it reached.
    let mut replay = journal();
    replay.apply(Sequence(2), append(1, 0, 4));
    replay.damage(&lost(3, Some(vec![lost_batch(2, 9)])));
    let state = end_of(replay);
    assert_eq!((state.damaged, state.claimed), (Some(Offset(4)), Offset(9)));
    // What comes later says so too.
    let mut replay = journal();
    replay.apply(Sequence(2), append(1, 0, 4));
    replay.damage(&lost(3, None));
    replay.apply(Sequence(4), append(5, 20, 2));
    let state = end_of(replay);
    assert_eq!(
        (state.damaged, state.claimed),
        (Some(Offset(4)), Offset(22))
    );
    // Nothing does.
    let mut replay = journal();
    replay.apply(Sequence(2), append(1, 0, 4));
    replay.damage(&lost(3, None));
    let state = end_of(replay);
    assert_eq!(state.damaged, Some(Offset(4)));
    assert_eq!(state.claimed, Offset(4).advance(PASSED_OVER));
    // A batch at the end of the log proves that nothing of it was lost.
    let mut replay = journal();
    replay.apply(Sequence(2), append(1, 0, 4));
    replay.damage(&lost(3, None));
    replay.apply(Sequence(4), append(2, 4, 1));
    let state = end_of(replay);
    assert_eq!((state.damaged, state.claimed), (None, Offset(5)));
}

#[test]
fn a_lost_batch_without_records_is_damage_and_takes_nothing_with_it() {
    let mut replay = journal();
    replay.apply(Sequence(2), append(1, 0, 4));
    replay.damage(&lost(3, Some(vec![lost_batch(2, 9)])));
    replay.apply(Sequence(4), accepted(9));
    let state = end_of(replay);
    assert_eq!((state.damaged, state.claimed), (Some(Offset(4)), Offset(9)));
    assert_eq!(bases(&state), [0]);
}

#[test]
fn a_partition_whose_creation_was_lost_is_known_by_its_segments() {
    let mut replay = Replay::new(Vec::new(), Sequence(1));
    replay.damage(&lost(2, None));
    replay.apply(Sequence(3), safe(30, 5));
    let rebuilt = replay.finish();
    assert!(rebuilt.partitions_may_be_missing);
    let state = &rebuilt.partitions[&PARTITION];
    assert_eq!(state.safe.next_offset, Offset(30));
    // Whether more was lost than is in segments, nothing tells.
    assert_eq!(state.damaged, Some(Offset(30)));
    assert!(state.claimed > Offset(30));
}
