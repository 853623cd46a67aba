//! What cannot be read must never look like what is not there: not to a read, not to a search, and
//! not to retention.

use std::rc::Rc;

use millrace_wire::ids::Offset;

use super::{Random, SETTINGS, directory, empty, entries, entry, make_data_directory, open};
use crate::env::Env;
use crate::env::simulated::{DiskFaults, NodeId, Simulation};
use crate::segment::format::{ENTRY_HEADER_BYTES, FIRST_ENTRY};
use crate::segment::{SegmentEnd, SegmentEntry, SegmentError, SegmentSettings};

const NODE: NodeId = NodeId(0);

/// Writes all entries in one go, and tells where they end.
fn write(simulation: &Simulation, all: &[SegmentEntry], settings: SegmentSettings) -> SegmentEnd {
    let all = all.to_vec();
    simulation.run(move |env| async move {
        make_data_directory(env.clone()).await;
        let segments = open(&env, empty(), 8);
        segments.write(&all, true, settings).await.expect("a write")
    })
}

/// Flips a bit in the header of an entry of the segment that begins with `all[first]`.
fn damage_header(simulation: &Simulation, all: &[SegmentEntry], first: usize, number: usize) {
    let before: u64 = all[first..number]
        .iter()
        .map(|entry| entry.header().entry_bytes())
        .sum();
    let at = FIRST_ENTRY + before;
    let path = directory().join(format!("{:020}.log", all[first].base_offset.0));
    simulation
        .flip_bits(NODE, &path, at..at + ENTRY_HEADER_BYTES as u64)
        .expect("there is something to flip");
}

#[test]
fn damage_in_the_last_segment_is_told_to_searches_and_makes_it_no_older() {
    let simulation = Simulation::new(1);
    let all = Rc::new(entries(300, 1_000));
    let settings = SegmentSettings {
        index_interval_bytes: 1 << 20,
        ..SETTINGS
    };
    let end = write(&simulation, &all, settings);
    simulation.restart(NODE);
    damage_header(&simulation, &all, 0, 100);
    simulation.run(move |env| async move {
        let segments = open(&env, end, 8);
        let before = segments.find_by_timestamp(Offset(0), 1_090).await;
        assert_eq!(before.unwrap().unwrap().base_offset, Offset(90));
        let beyond = |timestamp| segments.find_by_timestamp(Offset(0), timestamp);
        let told = beyond(1_250).await;
        assert!(matches!(told, Err(SegmentError::Damaged(_))), "{told:?}");
        let newest = segments.max_timestamp(Offset(0)).await;
        assert!(
            matches!(newest, Err(SegmentError::Damaged(_))),
            "{newest:?}"
        );
        let summaries = segments.summaries().await.expect("summaries");
        assert!(summaries[0].max_timestamp >= Some(1_299), "{summaries:?}");
        // What comes later does not hide it.
        let now = env.wall_clock_ms();
        let more: Vec<_> = (301..400)
            .map(|index| {
                let number = index as i64 - 1;
                entry(index, number, 1, 1_000, now + number)
            })
            .collect();
        segments
            .write(&more, true, SETTINGS)
            .await
            .expect("a write");
        let told = beyond(1_250).await;
        assert!(matches!(told, Err(SegmentError::Damaged(_))), "{told:?}");
        let later = beyond(now + 350).await.expect("no damage there");
        assert_eq!(later.expect("it is there").base_offset, Offset(350));
    });
}

#[test]
fn a_segment_cut_short_by_damage_to_its_seal_and_a_batch_is_told() {
    for is_last in [false, true] {
        let simulation = Simulation::new(2);
        let all = Rc::new(entries(300, 1_000));
        let settings = SegmentSettings {
            segment_bytes: 64_000,
            ..SETTINGS
        };
        let written = write(&simulation, &all, settings);
        let (bases, end) = simulation.run(move |env| async move {
            let segments = open(&env, written, 8);
            let end = segments.roll().await.expect("a roll");
            let summaries = segments.summaries().await.expect("summaries");
            let bases: Vec<_> = summaries
                .iter()
                .map(|segment| segment.base_offset)
                .collect();
            (bases, end)
        });
        simulation.restart(NODE);
        let hit = if is_last { bases.len() - 1 } else { 1 };
        let first = bases[hit].0 as usize;
        damage_header(&simulation, &all, first, first + 10);
        let name = format!("{:020}.log", bases[hit].0);
        let (path, len) = simulation
            .files(NODE)
            .into_iter()
            .find(|(path, _)| path.ends_with(&name))
            .expect("the segment");
        simulation.flip_bits(NODE, path.as_ref(), len - 4_096..len - 4_000);
        simulation.run(move |env| async move {
            let segments = open(&env, end, 8);
            let before = segments.read(Offset(first as i64), 1, true).await;
            assert_eq!(before.expect("it is whole").len(), 1);
            let beyond = Offset(first as i64 + 20);
            let read = segments.read(beyond, 1, true).await;
            let Err(SegmentError::Damaged(damage)) = read else {
                panic!("{read:?}");
            };
            assert!(damage.next_readable > Some(beyond), "{damage}");
            let found = segments
                .find_by_timestamp(Offset(0), 1_000 + beyond.0)
                .await;
            assert!(matches!(found, Err(SegmentError::Damaged(_))), "{found:?}");
            let newest = segments.summaries().await.expect("summaries")[hit].max_timestamp;
            assert!(newest >= Some(1_000 + beyond.0), "{newest:?}");
        });
    }
}

#[test]
fn with_a_disk_that_fails_to_read_now_and_then_an_answer_is_right_or_an_error() {
    let (mut right, mut failed) = (0, 0);
    for seed in 0..60 {
        let mut random = Random(seed);
        let all = Rc::new(entries(300, 1_000));
        let settings = SegmentSettings {
            segment_bytes: if random.chance(50) { 64_000 } else { 1 << 30 },
            ..SETTINGS
        };
        let simulation = Simulation::new(seed);
        let end = write(&simulation, &all, settings);
        simulation.restart(NODE);
        simulation.set_faults(
            NODE,
            DiskFaults {
                read_error: 0.1,
                ..DiskFaults::default()
            },
        );
        let questions: Vec<u64> = (0..60).map(|_| random.below(310)).collect();
        let expected = Rc::clone(&all);
        let (segments, told) = simulation.run(move |env| async move {
            let segments = open(&env, end, 2);
            let mut told = (0, 0);
            for number in questions {
                let found = segments
                    .find_by_timestamp(Offset(0), 1_000 + number as i64)
                    .await;
                match found {
                    Ok(found) => {
                        let wanted = expected.get(number as usize).map(|entry| &entry.batch);
                        let found = found.map(|found| found.batch);
                        assert_eq!(found.as_ref(), wanted, "at {number}");
                        told.0 += 1;
                    }
                    Err(_) => told.1 += 1,
                }
                let mut at = number.min(299) as usize;
                for _ in 0..4 {
                    let read = segments.read(Offset(at as i64), 20_000, true).await;
                    let Ok(batches) = read else {
                        told.1 += 1;
                        break;
                    };
                    assert!(!batches.is_empty() || at >= 300, "nothing at {at}");
                    for batch in batches {
                        assert_eq!(batch, expected[at].batch, "at {at}");
                        at += 1;
                    }
                    told.0 += 1;
                }
            }
            (segments, told)
        });
        (right, failed) = (right + told.0, failed + told.1);
        // What it could not read for a while was not taken for lost.
        simulation.set_faults(NODE, DiskFaults::default());
        simulation.run(move |env| async move {
            for segments in [segments, open(&env, end, 8)] {
                for number in (0..300).step_by(7) {
                    let found = segments.find_by_timestamp(Offset(0), 1_000 + number).await;
                    let found = found.expect("the disk is well again").expect("it is there");
                    assert_eq!(found.batch, all[number as usize].batch);
                }
                let past = segments.find_by_timestamp(Offset(0), 2_000).await;
                assert_eq!(past.expect("the disk is well again"), None);
            }
        });
    }
    assert!(right > 4_000 && failed > 400, "{right}, {failed}");
}
