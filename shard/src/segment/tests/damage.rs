//! Flipped bits, lost files and failing disks: told, never served, and read around.

use std::cell::RefCell;
use std::rc::Rc;

use millrace_wire::ids::Offset;

use super::{Random, SETTINGS, empty, entries, entry, make_data_directory, open};
use crate::env::simulated::{DiskFaults, NodeId, SimulatedEnv, Simulation, StopReason};
use crate::env::{Env, File, OpenOptions};
use crate::segment::{SegmentEnd, SegmentEntry, SegmentError, SegmentSettings, Segments};

const NODE: NodeId = NodeId(0);

/// Makes a few segments of entries and tells where they end.
fn prepare(simulation: &Simulation, all: &[SegmentEntry], settings: SegmentSettings) -> SegmentEnd {
    let all = all.to_vec();
    simulation.run(move |env| async move {
        make_data_directory(env.clone()).await;
        let segments = open(&env, empty(), 8);
        for chunk in all.chunks(40) {
            segments
                .write(chunk, true, settings)
                .await
                .expect("a write");
        }
        segments.end()
    })
}

fn assorted(random: &mut Random) -> Vec<SegmentEntry> {
    let mut offset = 0;
    (1..=400)
        .map(|index| {
            let records = 1 + random.below(3) as u32;
            let bytes = 20 + random.below(1_500) as usize;
            let entry = entry(
                index,
                offset,
                records,
                bytes,
                10_000 + offset + random.below(50) as i64,
            );
            offset += i64::from(records);
            entry
        })
        .collect()
}

/// Reads everything from the start on, around damage. Returns the batches' numbers, and the ranges
/// of offsets that could not be read.
async fn read_around(
    segments: &Segments<SimulatedEnv>,
    all: &[SegmentEntry],
) -> (Vec<usize>, Vec<(Offset, Offset)>) {
    let (mut at, mut read, mut lost) = (Offset(0), Vec::new(), Vec::new());
    while at < segments.end().next_offset {
        match segments.read(at, 20_000, true).await {
            Ok(batches) => {
                assert!(!batches.is_empty(), "nothing at {at}");
                for batch in batches {
                    let number = all.partition_point(|entry| entry.next_offset() <= at);
                    assert!(
                        batch == all[number].batch,
                        "wrong bytes were served for offset {at}"
                    );
                    read.push(number);
                    at = all[number].next_offset();
                }
            }
            Err(SegmentError::Damaged(damage)) => {
                let next = damage.next_readable.expect("a way on");
                assert!(damage.from >= at && next > at, "{damage}");
                lost.push((damage.from, next));
                at = next;
            }
            Err(error) => panic!("{error}"),
        }
    }
    (read, lost)
}

#[test]
fn flipped_bits_are_told_and_everything_else_is_read() {
    let (mut in_batches, mut in_index) = (0, 0);
    for seed in 0..300 {
        let mut random = Random(seed);
        let all = Rc::new(assorted(&mut random));
        let settings = SegmentSettings {
            segment_bytes: 100_000,
            ..SETTINGS
        };
        let simulation = Simulation::new(seed);
        let end = prepare(&simulation, &all, settings);
        simulation.restart(NODE);
        let suffix = if random.chance(50) { ".log" } else { ".index" };
        let (path, at) = simulation
            .flip_at_rest(NODE, |path, _| path.ends_with(suffix))
            .expect("there is something to flip");
        let told = simulation.run(move |env| async move {
            let segments = open(&env, end, 8);
            let (read, lost) = read_around(&segments, &all).await;
            for (number, entry) in all.iter().enumerate() {
                let is_lost = lost
                    .iter()
                    .any(|(from, next)| entry.base_offset < *next && *from < entry.next_offset());
                assert!(
                    is_lost || read.contains(&number),
                    "{path} at {at}: batch {number} is neither read nor told"
                );
            }
            // A damaged header hides what lies up to the next place in the index.
            let bytes: u64 = (0..all.len())
                .filter(|number| !read.contains(number))
                .map(|number| all[number].header().entry_bytes())
                .sum();
            assert!(
                bytes <= 3 * u64::from(SETTINGS.index_interval_bytes),
                "{path} at {at}: {bytes} bytes were lost to one bit"
            );
            let counters = &segments.files.counters;
            assert!(lost.is_empty() || counters.damages.get() > 0);
            assert!(
                path.ends_with(".log") || lost.is_empty(),
                "an index costs no batches"
            );
            (u64::from(!lost.is_empty()), counters.index_rebuilds.get())
        });
        in_batches += told.0;
        in_index += told.1;
    }
    assert!(
        in_batches > 80 && in_index > 30,
        "{in_batches} flips hit batches, {in_index} an index"
    );
}

#[test]
fn a_search_by_time_finds_the_right_batch_or_tells_damage() {
    for seed in 0..100 {
        let mut random = Random(seed);
        let all = Rc::new(assorted(&mut random));
        let settings = SegmentSettings {
            segment_bytes: 100_000,
            ..SETTINGS
        };
        let simulation = Simulation::new(seed);
        let end = prepare(&simulation, &all, settings);
        simulation.restart(NODE);
        // Not the blocks that only summarise: how a segment without them is searched, the test of
        // reading shows, and here they would have to be told apart.
        let _ = simulation.flip_at_rest(NODE, |path, _| path.ends_with(".index"));
        let _ = simulation.flip_bits(
            NODE,
            &super::directory().join("00000000000000000000.log"),
            4_096..60_000,
        );
        let timestamps: Vec<i64> = (0..20).map(|_| 10_000 + random.below(900) as i64).collect();
        simulation.run(move |env| async move {
            let segments = open(&env, end, 8);
            for timestamp in timestamps {
                let expected = all.iter().find(|entry| entry.max_timestamp >= timestamp);
                match segments.find_by_timestamp(Offset(0), timestamp).await {
                    Ok(found) => assert_eq!(
                        found.map(|found| found.batch),
                        expected.map(|entry| entry.batch.clone())
                    ),
                    Err(SegmentError::Damaged(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
}

#[test]
fn a_lost_seal_costs_nothing() {
    let simulation = Simulation::new(1);
    let all = Rc::new(entries(300, 1_000));
    let end = prepare(
        &simulation,
        &all,
        SegmentSettings {
            segment_bytes: 64_000,
            ..SETTINGS
        },
    );
    simulation.restart(NODE);
    for (path, len) in simulation.files(NODE) {
        if path.ends_with(".log") && !path.contains(&format!("{:020}", end.segment_base.0)) {
            simulation.flip_bits(NODE, path.as_ref(), len - 4_096..len - 4_000);
            simulation.flip_bits(NODE, path.as_ref(), 0..4_096);
        }
    }
    simulation.run(move |env| async move {
        let segments = open(&env, end, 8);
        let (read, lost) = read_around(&segments, &all).await;
        assert_eq!((read.len(), lost.len()), (300, 0));
        assert!(segments.files.counters.damages.get() > 1);
        let summaries = segments.summaries().await.expect("summaries");
        assert!(
            summaries
                .windows(2)
                .all(|pair| pair[0].next_offset == pair[1].base_offset)
        );
    });
}

#[test]
fn a_missing_file_is_told_and_read_around() {
    let simulation = Simulation::new(2);
    let all = Rc::new(entries(300, 1_000));
    simulation.run(move |env| async move {
        make_data_directory(env.clone()).await;
        let segments = open(&env, empty(), 8);
        let settings = SegmentSettings {
            segment_bytes: 64_000,
            ..SETTINGS
        };
        let end = segments.write(&all, true, settings).await.expect("a write");
        let summaries = segments.summaries().await.expect("summaries");
        let (lost, next) = (summaries[1].base_offset, summaries[2].base_offset);
        env.remove_file(&segments.data_path(lost))
            .await
            .expect("a removal");
        // Gone when the broker starts:
        let again = open(&env, end, 8);
        let (_, told) = read_around(&again, &all).await;
        assert_eq!(told, [(lost, next)]);
        // Gone while it runs:
        segments.files.forget((super::PARTITION, lost));
        let (_, told) = read_around(&segments, &all).await;
        assert_eq!(told, [(lost, next)]);
    });
}

#[test]
fn a_failed_write_or_sync_stops_the_node_and_is_never_acknowledged() {
    for faults in [
        DiskFaults {
            write_error: 1.0,
            ..DiskFaults::default()
        },
        DiskFaults {
            sync_error: 1.0,
            ..DiskFaults::default()
        },
    ] {
        let simulation = Simulation::new(3);
        let end = prepare(&simulation, &entries(10, 100), SETTINGS);
        simulation.set_faults(NODE, faults);
        let segments = open(&simulation.env(NODE), end, 8);
        let (answer, written) = (Rc::new(RefCell::new(None)), segments.clone());
        let given = answer.clone();
        let result = simulation.try_run(NODE, |_| async move {
            let more: Vec<_> = (11..40)
                .map(|at| entry(at, at as i64 - 1, 1, 500, 5))
                .collect();
            let result = written.write(&more, true, SETTINGS).await;
            *given.borrow_mut() = Some(result);
        });
        assert!(
            matches!(result, Ok(()) | Err(StopReason::Fatal(_))),
            "{result:?}"
        );
        assert!(matches!(
            simulation.stopped(NODE),
            Some(StopReason::Fatal(_))
        ));
        assert!(!matches!(*answer.borrow(), Some(Ok(_))));
        assert_eq!(segments.end(), end);
    }
}

#[test]
fn a_bad_sector_is_told_as_damage() {
    let simulation = Simulation::new(4);
    let end = prepare(&simulation, &entries(10, 100), SETTINGS);
    let segments = open(&simulation.env(NODE), end, 8);
    let warm = segments.clone();
    simulation.run(|_| async move { warm.read(Offset(0), 1, true).await.expect("a read") });
    simulation.set_faults(
        NODE,
        DiskFaults {
            read_error: 1.0,
            ..DiskFaults::default()
        },
    );
    let error = simulation.run(|_| async move { segments.read(Offset(0), 1, true).await });
    assert!(matches!(error, Err(SegmentError::Damaged(_))), "{error:?}");
}

#[test]
fn zeros_among_entries_are_damage_not_the_end() {
    let simulation = Simulation::new(5);
    let all = Rc::new(entries(100, 1_000));
    let end = prepare(&simulation, &all, SETTINGS);
    simulation.run(move |env| async move {
        let options = OpenOptions {
            write: true,
            create: false,
            data_sync: true,
        };
        let path = super::directory().join("00000000000000000000.log");
        let file = env.open(&path, options).await.expect("the segment");
        file.write_at(env.allocate(4_096), 40_960)
            .await
            .expect("a write");
        let segments = open(&env, end, 8);
        let (read, lost) = read_around(&segments, &all).await;
        assert!(!lost.is_empty() && read.len() > 85, "{lost:?}");
        assert!(
            lost.windows(2).all(|pair| pair[0].1 == pair[1].0),
            "{lost:?}"
        );
    });
}
