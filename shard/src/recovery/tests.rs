//! What a journal gives back, and the states that it leads to, case by case.

use bytes::Bytes;
use millrace_wire::batch::{BatchProducer, empty_batch, set_base_offset, set_batch_producer};
use millrace_wire::ids::{
    LogIndex, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, Term, TopicId,
};

use super::{PASSED_OVER, Replay, nothing};
use crate::journal::{DamagedGroup, LostEntry, OwnedEntry, PartitionCheckpoint, Sequence};
use crate::log::{Numbered, Producers, StartState};
use crate::segment::SegmentEnd;

const PARTITION: PartitionId = PartitionId {
    topic: TopicId(7),
    partition: PartitionIndex(0),
};

/// Wall clock of the recovery.
const NOW_MS: i64 = 1_000_000;

/// A journal whose checkpoint knows the partition, with nothing in it.
fn journal() -> Replay {
    Replay::new(vec![nothing(PARTITION)], Sequence(1), NOW_MS)
}

fn append(index: u64, base: i64, records: u32) -> OwnedEntry {
    OwnedEntry::Append {
        partition: PARTITION,
        index: LogIndex(index),
        term: Term(1),
        base_offset: Offset(base),
        record_count: records,
        idempotent: false,
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
        of_producers: false,
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
fn an_index_that_was_given_is_not_given_again() {
    // Segments may hold what the journal lost: indices in them must go up.
    let mut known = nothing(PARTITION);
    known.last_index = LogIndex(4);
    let mut replay = Replay::new(vec![known], Sequence(0), NOW_MS);
    assert_eq!(end_of(replay).last_index, LogIndex(4));

    replay = journal();
    replay.apply(Sequence(1), append(1, 0, 3));
    replay.damage(&lost(2, Some(vec![lost_batch(2, 5)])));
    replay.apply(Sequence(3), append(3, 5, 2));
    let state = end_of(replay);
    assert_eq!(state.damaged, Some(Offset(3)));
    assert_eq!((state.end(), state.last_index), (Offset(3), LogIndex(3)));

    replay = journal();
    replay.apply(Sequence(1), append(1, 0, 3));
    replay.damage(&lost(2, None));
    assert!(end_of(replay).last_index > LogIndex(1_000_000));
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
    let mut replay = Replay::new(vec![known], Sequence(10), NOW_MS);
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
    let mut replay = Replay::new(Vec::new(), Sequence(1), NOW_MS);
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

/// A batch of producer 1 that begins with this sequence number.
fn sent(sequence: i32, records: u32) -> Bytes {
    let mut batch = empty_batch(records);
    let producer = BatchProducer {
        id: ProducerId(1),
        epoch: ProducerEpoch(0),
        base_sequence: sequence,
    };
    set_batch_producer(&mut batch, producer);
    batch.freeze()
}

fn append_sent(index: u64, base: i64, sequence: i32, records: u32) -> OwnedEntry {
    let mut batch = sent(sequence, records).to_vec();
    set_base_offset(&mut batch, Offset(base));
    OwnedEntry::Append {
        partition: PARTITION,
        index: LogIndex(index),
        term: Term(1),
        base_offset: Offset(base),
        record_count: records,
        idempotent: true,
        batch: batch.into(),
    }
}

fn lost_sent(index: u64, log_end: i64) -> LostEntry {
    LostEntry {
        of_producers: true,
        ..lost_batch(index, log_end)
    }
}

/// What becomes of a batch that is sent again: its first offset, or "next", or "refused".
fn told(producers: &Producers, sequence: i32, records: u32) -> String {
    let numbered = Numbered::of(&sent(sequence, records), records);
    let numbered = numbered.expect("good numbers").expect("a producer's");
    match producers.check(&numbered) {
        Ok(verdict) => match verdict.duplicate_at() {
            Some(offset) => offset.to_string(),
            None => "next".to_owned(),
        },
        Err(_) => "refused".to_owned(),
    }
}

fn snapshot(batches: &[(i64, i32, u32)]) -> Vec<u8> {
    let mut producers = Producers::default();
    for (base, sequence, records) in batches {
        let numbered = Numbered::of(&sent(*sequence, *records), *records);
        let numbered = numbered.expect("good numbers").expect("a producer's");
        producers.replay(numbered, Offset(*base), -1, NOW_MS);
    }
    let mut bytes = Vec::new();
    producers.encode(NOW_MS, u64::MAX, usize::MAX, |piece| bytes.extend(piece));
    bytes
}

/// A checkpoint of a log that ends at `log_end`, all of it in segments up to `safe_end`.
fn known(safe_end: i64, next_index: u64, log_end: i64) -> PartitionCheckpoint {
    let OwnedEntry::SegmentSafe { safe, .. } = safe(safe_end, next_index) else {
        unreachable!()
    };
    PartitionCheckpoint {
        safe,
        log_end: Offset(log_end),
        ..nothing(PARTITION)
    }
}

#[test]
fn producers_are_what_the_checkpoint_says_and_what_came_since() {
    let mut replay = Replay::new(vec![known(2, 2, 6)], Sequence(10), NOW_MS);
    replay.take_in(PARTITION, &snapshot(&[(0, 0, 2), (2, 2, 1), (3, 3, 3)]));
    // In the checkpoint, and given for what segments do not hold.
    replay.apply(Sequence(8), append_sent(2, 2, 2, 1));
    replay.apply(Sequence(9), append_sent(3, 3, 3, 3));
    replay.apply(Sequence(11), append_sent(4, 6, 6, 1));
    replay.apply(Sequence(12), append(5, 7, 2));
    replay.apply(Sequence(13), append_sent(6, 9, 7, 2));
    let state = end_of(replay);
    assert_eq!((state.damaged, state.end()), (None, Offset(11)));
    let producers = &state.producers;
    let again = [(0, 2), (2, 1), (3, 3), (6, 1), (7, 2)];
    let offsets = again.map(|(sequence, records)| told(producers, sequence, records));
    assert_eq!(offsets, ["0", "2", "3", "6", "9"]);
    assert_eq!(told(producers, 9, 1), "next");
    assert_eq!(told(producers, 8, 1), "refused");
}

#[test]
fn a_partition_whose_window_has_a_hole_does_not_serve() {
    let mut replay = journal();
    replay.damage(&lost(2, Some(vec![lost_sent(1, 3)])));
    replay.apply(Sequence(3), append(2, 3, 2));
    replay.apply(Sequence(5), safe(3, 2));
    let state = end_of(replay);
    // All its records are there, and it goes on at its end once that is accepted.
    assert_eq!((state.damaged, state.claimed), (Some(Offset(5)), Offset(5)));
    // Nothing is known of the group: the batches after the hole do not prove that it held none.
    let mut replay = journal();
    replay.damage(&lost(2, None));
    replay.apply(Sequence(3), safe(3, 2));
    replay.apply(Sequence(4), append_sent(2, 3, 9, 2));
    assert_eq!(end_of(replay).damaged, Some(Offset(5)));
    // They do where there is no hole.
    let mut replay = journal();
    replay.apply(Sequence(2), append_sent(1, 0, 0, 3));
    replay.damage(&lost(3, None));
    replay.apply(Sequence(4), safe(3, 2));
    replay.apply(Sequence(5), append_sent(2, 3, 3, 2));
    let state = end_of(replay);
    assert_eq!(state.damaged, None);
    assert_eq!(told(&state.producers, 0, 3), "0");
    // A part of a snapshot is lost, or not one.
    let mut replay = journal();
    let entry = LostEntry {
        index: LogIndex(0),
        ..lost_sent(0, 0)
    };
    replay.damage(&lost(2, Some(vec![entry])));
    replay.apply(Sequence(3), append(1, 0, 1));
    assert_eq!(end_of(replay).damaged, Some(Offset(1)));
    let mut replay = journal();
    let snapshot = Bytes::from_static(b"nonsense");
    replay.apply(
        Sequence(2),
        OwnedEntry::Producers {
            partition: PARTITION,
            snapshot,
        },
    );
    assert_eq!(end_of(replay).damaged, Some(Offset::ZERO));
}

#[test]
fn a_batch_given_up_with_a_loss_is_no_duplicate() {
    // A gap, then a repair that cuts at 3 and passes over to 9.
    let mut before = known(0, 1, 9);
    before.damaged = Some(Offset(3));
    let mut replay = Replay::new(vec![before], Sequence(10), NOW_MS);
    replay.take_in(PARTITION, &snapshot(&[(0, 0, 3), (5, 5, 4)]));
    replay.apply(Sequence(9), append_sent(1, 0, 0, 3));
    replay.apply(Sequence(11), append(3, 3, 6));
    replay.apply(Sequence(11), accepted(9));
    let state = end_of(replay);
    assert_eq!((state.damaged, state.end()), (None, Offset(9)));
    let producers = &state.producers;
    assert_eq!(told(producers, 0, 3), "0");
    assert_eq!(told(producers, 3, 2), "next");
    assert_eq!(told(producers, 5, 4), "refused");
    // Accepted without anything to pass over.
    let mut replay = journal();
    replay.damage(&lost(2, Some(vec![lost_sent(1, 3)])));
    replay.apply(Sequence(3), safe(3, 2));
    replay.apply(Sequence(4), accepted(3));
    let state = end_of(replay);
    assert_eq!((state.damaged, state.end()), (None, Offset(3)));
}
