//! Single rules, one test each.

use millrace_wire::ids::{LogIndex, Offset};

use super::{PARTITION, SETTINGS, directory, empty, entries, entry, make_data_directory, open};
use crate::env::simulated::{SimulatedEnv, Simulation};
use crate::env::{Env, File, OpenOptions};
use crate::segment::{FileCache, SegmentEnd, SegmentError, SegmentSettings, Segments};

async fn contents(env: &SimulatedEnv, base: i64, bytes: u64) -> Vec<u8> {
    let path = directory().join(format!("{base:020}.log"));
    let file = env
        .open(&path, OpenOptions::default())
        .await
        .expect("the segment");
    file.read_at(0, bytes as usize).await.expect("a read")
}

#[test]
fn a_block_that_holds_safe_bytes_is_never_written_again() {
    let simulation = Simulation::new(1);
    simulation.run(|env| async move {
        make_data_directory(env.clone()).await;
        let all = entries(60, 700);
        let mut end = empty();
        for upto in [7, 20, 21, 40, 60] {
            // A new life each time: what was safe must be enough to go on from.
            let segments = open(&env, end, 4);
            let before_bytes = end.position.next_multiple_of(4_096);
            let before = if end.position > 0 {
                contents(&env, 0, before_bytes).await
            } else {
                Vec::new()
            };
            let from = end.next_offset.0 as usize;
            end = segments
                .write(&all[from..upto], upto == 60, SETTINGS)
                .await
                .expect("a write");
            if !before.is_empty() {
                assert!(
                    contents(&env, 0, before_bytes).await == before,
                    "a safe block changed"
                );
            }
        }
        assert_eq!(end.next_offset, Offset(60));
        let segments = open(&env, end, 4);
        let read = segments
            .read(Offset(0), 1 << 20, true)
            .await
            .expect("a read");
        assert!(read.iter().eq(all.iter().map(|entry| &entry.batch)));
    });
}

#[test]
fn what_does_not_fill_a_block_stays_with_the_caller_until_a_pad() {
    let simulation = Simulation::new(2);
    simulation.run(|env| async move {
        make_data_directory(env.clone()).await;
        let segments = open(&env, empty(), 4);
        let all = entries(3, 100);
        let end = segments
            .write(&all, false, SETTINGS)
            .await
            .expect("a write");
        assert_eq!((end.position, end.next_offset), (4_096, Offset(0)));
        assert!(
            segments
                .read(Offset(0), 1_000, true)
                .await
                .expect("a read")
                .is_empty()
        );
        let end = segments.write(&all, true, SETTINGS).await.expect("a write");
        assert_eq!(
            (end.position, end.next_offset, end.next_index),
            (8_192, Offset(3), LogIndex(4))
        );
        assert_eq!(
            segments
                .read(Offset(1), 1_000, true)
                .await
                .expect("a read")
                .len(),
            2
        );
        // The same again is passed over.
        assert_eq!(
            segments.write(&all, true, SETTINGS).await.expect("a write"),
            end
        );
    });
}

#[test]
fn an_entry_that_the_journal_lost_is_not_continued_with_another() {
    let simulation = Simulation::new(3);
    simulation.run(|env| async move {
        make_data_directory(env.clone()).await;
        let segments = open(&env, empty(), 4);
        let all = entries(10, 1_000);
        let end = segments
            .write(&all, false, SETTINGS)
            .await
            .expect("a write");
        assert_ne!(end.position % 4_096, 0);
        let next = end.next_offset.0;
        let other = entry(end.next_index.0, next, 1, 1_000, 77_777);
        for lives in [open(&env, end, 4), segments] {
            let after = lives
                .write(std::slice::from_ref(&other), true, SETTINGS)
                .await
                .expect("a write");
            assert_eq!(after.segment_base, end.next_offset);
            let read = lives
                .read(Offset(next - 1), 10_000, true)
                .await
                .expect("a read");
            assert_eq!(
                read,
                [all[next as usize - 1].batch.clone(), other.batch.clone()]
            );
        }
    });
}

#[test]
fn a_gap_in_the_offsets_is_read_across() {
    let simulation = Simulation::new(4);
    simulation.run(|env| async move {
        make_data_directory(env.clone()).await;
        let segments = open(
            &env,
            SegmentEnd::empty(Offset(5), LogIndex(3), Default::default()),
            4,
        );
        let (first, second) = (entry(3, 20, 2, 100, 1), entry(9, 40, 1, 100, 2));
        segments
            .write(std::slice::from_ref(&first), true, SETTINGS)
            .await
            .expect("a write");
        segments.roll().await.expect("a roll");
        let end = segments
            .write(std::slice::from_ref(&second), true, SETTINGS)
            .await
            .expect("a write");
        assert_eq!(end.segment_base, Offset(40));
        for segments in [open(&env, end, 4), segments] {
            for from in [5, 20, 21, 22, 39, 40] {
                let read = segments
                    .read(Offset(from), 10_000, true)
                    .await
                    .expect("a read");
                let expected = if from < 22 {
                    vec![first.batch.clone(), second.batch.clone()]
                } else {
                    vec![second.batch.clone()]
                };
                assert_eq!(read, expected, "from {from}");
            }
        }
    });
}

#[test]
fn what_was_removed_is_said_to_be_trimmed() {
    let simulation = Simulation::new(5);
    simulation.run(|env| async move {
        make_data_directory(env.clone()).await;
        let segments = open(&env, empty(), 4);
        let settings = SegmentSettings {
            segment_bytes: 64_000,
            ..SETTINGS
        };
        let end = segments
            .write(&entries(200, 1_000), true, settings)
            .await
            .expect("a write");
        // A recovery that starts from an older end would go on writing the first segment.
        assert_eq!(
            segments
                .remove_before(Offset(150), empty())
                .await
                .expect("nothing"),
            0
        );
        let freed = segments
            .remove_before(Offset(150), end)
            .await
            .expect("a removal");
        assert!(freed > 100_000);
        let error = segments
            .read(Offset(0), 1, true)
            .await
            .expect_err("it is gone");
        let SegmentError::Trimmed {
            from: Offset(0),
            first,
        } = error
        else {
            panic!("{error}")
        };
        assert!(first > Offset(60) && first <= Offset(150));
        assert_eq!(
            segments.read(first, 1, true).await.expect("a read").len(),
            1
        );
        let files = env.list_directory(&directory()).await.expect("a list");
        assert!(
            files
                .iter()
                .all(|file| file.name >= format!("{:020}", first.0))
        );
    });
}

#[test]
fn a_segment_is_completed_by_age() {
    let simulation = Simulation::new(6);
    simulation.run(|env| async move {
        make_data_directory(env.clone()).await;
        let segments = open(&env, empty(), 4);
        let settings = SegmentSettings {
            segment_ms: 1_000,
            ..SETTINGS
        };
        let all = entries(3, 100);
        segments
            .write(&all[..1], true, settings)
            .await
            .expect("a write");
        env.sleep(std::time::Duration::from_millis(900)).await;
        assert_eq!(
            segments
                .write(&all[..2], true, settings)
                .await
                .expect("a write")
                .segment_base,
            Offset(0)
        );
        env.sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(
            segments
                .write(&all, true, settings)
                .await
                .expect("a write")
                .segment_base,
            Offset(2)
        );
    });
}

#[test]
fn entries_out_of_order_are_refused() {
    let simulation = Simulation::new(7);
    simulation.run(|env| async move {
        make_data_directory(env.clone()).await;
        let segments = open(&env, empty(), 4);
        let all = entries(4, 100);
        let swapped = [all[1].clone(), all[0].clone()];
        let mut misplaced = all[0].clone();
        misplaced.base_offset = Offset(9);
        let mut short = all[0].clone();
        short.batch.truncate(60);
        for bad in [&swapped[..], &[misplaced], &[short]] {
            let result = segments.write(bad, true, SETTINGS).await;
            assert!(
                matches!(result, Err(SegmentError::OutOfOrder { .. })),
                "{result:?}"
            );
        }
    });
}

#[test]
fn a_thousand_partitions_need_few_descriptors_and_little_memory() {
    assert!(size_of::<Segments<SimulatedEnv>>() < 1_024);
    let simulation = Simulation::new(8);
    simulation.run(|env| async move {
        make_data_directory(env.clone()).await;
        let files = FileCache::new(env.clone(), 16);
        let topic = "topic".parse().expect("a good name");
        let all = entries(5, 100);
        let partitions: Vec<_> = (0..1_000)
            .map(|number| {
                let mut id = PARTITION;
                id.partition.0 = number;
                let directory = format!("/data/topic/{number}").into();
                Segments::new(env.clone(), directory, id, &topic, empty(), files.clone())
            })
            .collect();
        for partition in &partitions {
            partition
                .write(&all, true, SETTINGS)
                .await
                .expect("a write");
            assert!(files.open_files() <= 16);
        }
        for partition in &partitions {
            let read = partition
                .read(Offset(0), 10_000, true)
                .await
                .expect("a read");
            assert_eq!(read.len(), 5);
            assert!(files.open_files() <= 16);
        }
        let space = env.space(&directory()).await.expect("space");
        let used = space.total - space.available;
        assert!(
            used <= 1_000 * 80_000,
            "{used} bytes for a thousand partitions of a few hundred"
        );
    });
}

#[test]
fn a_full_disk_stops_writing_and_nothing_else() {
    use crate::env::simulated::{DiskFaults, NodeId};
    let simulation = Simulation::new(9);
    simulation.run(make_data_directory);
    let capacity_bytes = 300_000;
    simulation.set_faults(
        NodeId(0),
        DiskFaults {
            capacity_bytes,
            ..DiskFaults::default()
        },
    );
    let segments = open(&simulation.env(NodeId(0)), empty(), 4);
    let settings = SegmentSettings {
        segment_bytes: 64_000,
        ..SETTINGS
    };
    let inside = segments.clone();
    simulation.run(|_| async move {
        let all = entries(400, 1_000);
        let error = inside
            .write(&all, true, settings)
            .await
            .expect_err("too much");
        assert!(matches!(error, SegmentError::NoSpace { .. }), "{error}");
        let end = inside.end();
        assert!(end.next_offset > Offset(100));
        let read = inside.read(Offset(0), 1 << 20, true).await.expect("a read");
        assert_eq!(read.len() as i64, end.next_offset.0);
        inside
            .remove_before(end.next_offset, end)
            .await
            .expect("a removal");
        let again = inside.write(&all, true, settings).await;
        assert!(matches!(again, Ok(_) | Err(SegmentError::NoSpace { .. })));
        assert!(
            inside.end().next_offset > end.next_offset,
            "what was freed is used"
        );
    });
}
