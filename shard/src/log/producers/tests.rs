//! The rules one by one, and all of them against a model that remembers everything.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOW_MS: i64 = 1_000_000;

fn numbered(id: i64, epoch: i16, first: i32, records: u32) -> Numbered {
    Numbered {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        first,
        last: last_sequence(first, records),
    }
}

fn record(producers: &mut Producers, batch: Numbered, base: i64) {
    record_at(producers, batch, base, NOW_MS);
}

fn record_at(producers: &mut Producers, batch: Numbered, base: i64, now_ms: i64) {
    let limit = PRODUCERS_PER_PARTITION;
    producers.record(batch, Offset(base), base + 7, Sequence(3), now_ms, limit);
}

/// Where a batch that is sent again was put the first time.
fn original(producers: &Producers, batch: Numbered) -> Option<i64> {
    match producers.check(&batch) {
        Ok(Verdict::Duplicate(known)) => Some(known.base_offset.0),
        _ => None,
    }
}

fn reloaded(producers: &Producers, now_ms: i64, unused_ms: u64, piece_bytes: usize) -> Producers {
    let mut back = Producers::default();
    producers.encode(now_ms, unused_ms, piece_bytes, |piece| {
        assert!(piece.len() <= piece_bytes.max(PRODUCER_BYTES + 5 * BATCH_BYTES));
        back.take_in(piece, now_ms).expect("it is sound");
    });
    back
}

/// As it is after a restart: groups are of one run.
fn without_groups(producers: &Producers) -> Producers {
    let mut producers = producers.clone();
    for producer in producers.known.values_mut() {
        producer
            .batches
            .iter_mut()
            .for_each(|batch| batch.group = Sequence(0));
    }
    producers
}

#[test]
fn the_last_five_batches_are_told_from_new_ones() {
    let mut producers = Producers::default();
    for n in 0..7 {
        let batch = numbered(1, 0, n * 3, 3);
        assert_eq!(producers.check(&batch), Ok(Verdict::Append));
        record(&mut producers, batch, i64::from(n) * 10);
    }
    for n in 2..7 {
        assert_eq!(
            original(&producers, numbered(1, 0, n * 3, 3)),
            Some(i64::from(n) * 10)
        );
    }
    let expected = Err(Refusal::OutOfOrder { expected: 21 });
    for (first, records, why) in [
        (3, 3, "older than the five"),
        (6, 2, "another length"),
        (24, 3, "a gap"),
        (20, 3, "overlaps"),
    ] {
        let batch = numbered(1, 0, first, records);
        assert_eq!(producers.check(&batch), expected, "{why}");
    }
    let known = match producers.check(&numbered(1, 0, 18, 3)) {
        Ok(Verdict::Duplicate(known)) => known,
        other => panic!("{other:?}"),
    };
    assert_eq!((known.max_timestamp, known.group), (67, Sequence(3)));
    assert_eq!(producers.check(&numbered(1, 0, 21, 1)), Ok(Verdict::Append));
}

#[test]
fn sequence_numbers_begin_again_after_the_largest() {
    let mut producers = Producers::default();
    let across = numbered(1, 0, i32::MAX - 1, 4);
    assert_eq!(across.last, 1);
    record(&mut producers, across, 50);
    assert_eq!(original(&producers, across), Some(50));
    assert_eq!(producers.check(&numbered(1, 0, 2, 1)), Ok(Verdict::Append));
    let up_to = numbered(2, 0, i32::MAX, 1);
    record(&mut producers, up_to, 60);
    assert_eq!(producers.check(&numbered(2, 0, 0, 9)), Ok(Verdict::Append));
    // The batch takes offsets 50 to 53.
    producers.cut(Offset(54));
    assert_eq!(original(&producers, across), Some(50));
    producers.cut(Offset(53));
    assert!(producers.is_empty());
}

#[test]
fn a_higher_epoch_begins_at_zero_and_fences_the_lower() {
    let mut producers = Producers::default();
    record(&mut producers, numbered(1, 3, 40, 2), 0);
    let current = ProducerEpoch(3);
    assert_eq!(
        producers.check(&numbered(1, 2, 42, 1)),
        Err(Refusal::Fenced { current })
    );
    assert_eq!(
        producers.check(&numbered(1, 4, 42, 1)),
        Err(Refusal::OutOfOrder { expected: 0 })
    );
    let anew = numbered(1, 4, 0, 2);
    assert_eq!(producers.check(&anew), Ok(Verdict::Append));
    record(&mut producers, anew, 2);
    assert_eq!(original(&producers, anew), Some(2));
    let current = ProducerEpoch(4);
    assert_eq!(
        producers.check(&numbered(1, 3, 40, 2)),
        Err(Refusal::Fenced { current }),
        "what the earlier life sent is no duplicate"
    );
}

#[test]
fn who_is_unknown_may_go_on_anywhere() {
    let mut producers = Producers::default();
    let later = numbered(9, 5, 1_234, 2);
    assert_eq!(producers.check(&later), Ok(Verdict::Append));
    record_at(&mut producers, later, 0, 1_000);
    record_at(&mut producers, numbered(8, 0, 0, 1), 2, 1_500);
    producers.expire(1_999, 1_000);
    assert_eq!(producers.len(), 2);
    producers.expire(2_000, 1_000);
    assert_eq!(original(&producers, later), None);
    assert_eq!(
        producers.check(&numbered(9, 0, 77, 1)),
        Ok(Verdict::Append),
        "an epoch is forgotten too"
    );
    assert_eq!(original(&producers, numbered(8, 0, 0, 1)), Some(2));
    producers.expire(2_500, 1_000);
    assert!(producers.is_empty());
}

#[test]
fn a_batch_that_was_cut_off_is_no_duplicate() {
    let mut producers = Producers::default();
    for n in 0..4 {
        record(&mut producers, numbered(1, 0, n, 1), 10 + i64::from(n));
    }
    record(&mut producers, numbered(2, 0, 0, 3), 14);
    producers.cut(Offset(12));
    assert_eq!(original(&producers, numbered(1, 0, 1, 1)), Some(11));
    assert_eq!(producers.check(&numbered(1, 0, 2, 1)), Ok(Verdict::Append));
    assert_eq!(producers.check(&numbered(2, 0, 0, 3)), Ok(Verdict::Append));
    assert_eq!(producers.len(), 1);
}

#[test]
fn the_longest_unused_make_room() {
    let mut producers = Producers::default();
    let most = i64::try_from(PRODUCERS_PER_PARTITION).expect("small");
    for id in 0..most {
        // The later, the longer unused.
        record_at(&mut producers, numbered(id, 0, 0, 1), id, 2 * most - id);
    }
    assert_eq!(producers.len(), PRODUCERS_PER_PARTITION);
    record_at(&mut producers, numbered(most, 0, 0, 1), most, 3 * most);
    assert!(producers.len() < PRODUCERS_PER_PARTITION);
    assert_eq!(original(&producers, numbered(0, 0, 0, 1)), Some(0));
    assert_eq!(original(&producers, numbered(most - 1, 0, 0, 1)), None);
    assert_eq!(original(&producers, numbered(most, 0, 0, 1)), Some(most));
    // With no room at all one takes the other's place.
    let mut few = Producers::default();
    for id in 0..3 {
        let batch = numbered(id, 0, 0, 1);
        few.record(batch, Offset(id), 0, Sequence(0), id, 1);
        assert_eq!((few.len(), original(&few, batch)), (1, Some(id)));
    }
}

#[test]
fn a_snapshot_that_makes_no_sense_is_refused() {
    let mut producers = Producers::default();
    record(&mut producers, numbered(1, 0, 0, 1), 5);
    let mut bytes = Vec::new();
    producers.encode(NOW_MS, u64::MAX, 1_000, |piece| bytes.extend(piece));
    assert_eq!(bytes.len(), PRODUCER_BYTES + BATCH_BYTES);
    for len in 1..bytes.len() {
        let mut back = Producers::default();
        assert_eq!(back.take_in(&bytes[..len], NOW_MS), Err(BadSnapshot));
    }
    for (at, byte) in [(7, 0x80), (9, 0x80), (18, 0), (18, 6), (22, 0x80)] {
        let mut bad = bytes.clone();
        bad[at] = byte;
        let mut back = Producers::default();
        assert_eq!(back.take_in(&bad, NOW_MS), Err(BadSnapshot), "{at}");
    }
}

#[test]
fn a_clock_that_went_back_keeps_nobody_for_ever() {
    let mut producers = Producers::default();
    record_at(&mut producers, numbered(1, 0, 0, 1), 0, i64::MAX - 5);
    let mut back = reloaded(&producers, NOW_MS, u64::MAX, 1_000);
    back.expire(NOW_MS + 1_000, 1_000);
    assert!(back.is_empty());
}

/// Everything that was ever appended, and nothing clever.
#[derive(Clone, Default)]
struct Naive {
    log: Vec<(Numbered, Offset)>,
}

impl Naive {
    fn check(&self, batch: &Numbered) -> Result<Option<Offset>, ()> {
        let of_producer = self.log.iter().filter(|(known, _)| known.id == batch.id);
        let Some(epoch) = of_producer.clone().map(|(known, _)| known.epoch).max() else {
            return Ok(None);
        };
        if batch.epoch < epoch {
            return Err(());
        }
        let of_epoch: Vec<_> = of_producer
            .filter(|(known, _)| known.epoch == batch.epoch)
            .collect();
        let Some((last, _)) = of_epoch.last() else {
            return if batch.first == 0 { Ok(None) } else { Err(()) };
        };
        let recent = &of_epoch[of_epoch.len().saturating_sub(5)..];
        if let Some((_, at)) = recent.iter().find(|(known, _)| known == batch) {
            return Ok(Some(*at));
        }
        let next = (i64::from(last.last) + 1) % (1 << 31);
        if i64::from(batch.first) == next {
            Ok(None)
        } else {
            Err(())
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The next batch of a producer.
    Next { id: i64, records: u32 },
    /// Any batch at all.
    Any(Numbered),
    /// One of the last that were sent.
    Again { back: usize },
    /// A snapshot is taken, and a start replays some of what it has already.
    Restart { again: usize, piece_bytes: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let first = prop_oneof![0..6, (i32::MAX - 3)..=i32::MAX];
    let any = (0..3_i64, 0..3_i16, first, 1..4_u32);
    let step = prop_oneof![
        4 => (0..3_i64, 1..4_u32).prop_map(|(id, records)| Step::Next { id, records }),
        2 => any.prop_map(|(id, epoch, first, records)| Step::Any(numbered(id, epoch, first, records))),
        3 => (0..9_usize).prop_map(|back| Step::Again { back }),
        1 => (0..9_usize, 1..400_usize)
            .prop_map(|(again, piece_bytes)| Step::Restart { again, piece_bytes }),
    ];
    proptest::collection::vec(step, 1..80)
}

fn next_of(naive: &Naive, id: i64, records: u32) -> Numbered {
    let last = naive.log.iter().rfind(|(known, _)| known.id.0 == id);
    last.map_or(numbered(id, 0, i32::MAX - 4, records), |(last, _)| {
        numbered(id, last.epoch.0, next_sequence(last.last), records)
    })
}

proptest! {
    #[test]
    fn it_decides_as_one_who_remembers_everything(steps in steps()) {
        let (mut producers, mut naive) = (Producers::default(), Naive::default());
        let mut sent: Vec<Numbered> = Vec::new();
        let mut end = Offset::ZERO;
        for step in steps {
            let batch = match step {
                Step::Next { id, records } => next_of(&naive, id, records),
                Step::Any(batch) => batch,
                Step::Again { back } => match sent.iter().rev().nth(back) {
                    Some(batch) => *batch,
                    None => continue,
                },
                Step::Restart { again, piece_bytes } => {
                    let mut back = reloaded(&producers, NOW_MS, u64::MAX, piece_bytes);
                    let from = naive.log.len().saturating_sub(again);
                    for (batch, base) in &naive.log[from..] {
                        back.replay(*batch, *base, base.0 + 7, NOW_MS);
                    }
                    prop_assert_eq!(&back, &without_groups(&producers));
                    producers = back;
                    continue;
                }
            };
            sent.push(batch);
            let verdict = producers.check(&batch);
            match naive.check(&batch) {
                Ok(None) => {
                    prop_assert_eq!(verdict, Ok(Verdict::Append));
                    record(&mut producers, batch, end.0);
                    naive.log.push((batch, end));
                    end = producers.known[&batch.id].batches().last().expect("it was put there").next_offset();
                }
                Ok(Some(at)) => prop_assert!(
                    matches!(verdict, Ok(Verdict::Duplicate(known)) if known.base_offset == at),
                    "{:?}", verdict
                ),
                Err(()) => prop_assert!(verdict.is_err(), "{:?}", verdict),
            }
        }
        // The log alone leads to the same.
        let mut replayed = Producers::default();
        for (batch, base) in &naive.log {
            replayed.replay(*batch, *base, base.0 + 7, NOW_MS);
        }
        prop_assert_eq!(replayed, without_groups(&producers));
        let ids: BTreeMap<_, _> = naive.log.iter().map(|(batch, _)| (batch.id, ())).collect();
        prop_assert_eq!(producers.len(), ids.len());
    }
}
