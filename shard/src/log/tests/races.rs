//! Things that happen to a partition while another is under way.

use std::time::Duration;

use futures_util::future::join3;
use millrace_wire::ids::Offset;

use super::{KEEP_ALL, batch, make, open, partition_id, produce};
use crate::env::Env;
use crate::env::simulated::Simulation;
use crate::error::StorageError;
use crate::log::{OffsetQuery, PartitionSettings};

#[test]
fn a_search_or_a_read_that_a_removal_overtakes_says_so() {
    for query in [OffsetQuery::AtTimestamp(1_590), OffsetQuery::MaxTimestamp] {
        Simulation::new(1).run(move |env| async move {
            let shard = open(&env).await;
            let id = partition_id(1);
            let partition = make(&shard, 1, KEEP_ALL).await;
            for number in 0..60 {
                produce(&partition, 1_000 + number * 10, 1_500).await;
            }
            // Begun anew, it has looked at no segment yet.
            shard.shutdown().await;
            let shard = open(&env).await;
            let partition = make(&shard, 1, KEEP_ALL).await;
            // Both begin in the segments and end in memory, which the removal clears at once.
            let search = partition.find_offset(query);
            let read = partition.read(Offset(0), 1 << 20, true);
            let remove = shard.remove_partition(id);
            let (found, read, removed) = join3(search, read, remove).await;
            assert!(
                matches!(found, Err(StorageError::Removed(_))),
                "{query:?}: {found:?}"
            );
            assert!(matches!(read, Err(StorageError::Removed(_))), "{read:?}");
            removed.unwrap();
            let told = shard.snapshot();
            let damages = told
                .counters
                .iter()
                .find(|(what, _)| *what == "segment_damages");
            assert_eq!(damages.unwrap().1, 0, "files that are gone are no damage");
        });
    }
}

#[test]
fn retention_spares_what_is_written_while_it_completes_an_old_segment() {
    Simulation::new(2).run(|env| async move {
        let shard = open(&env).await;
        let settings = PartitionSettings {
            retention_ms: Some(60_000),
            segment_bytes: 1 << 20,
            ..KEEP_ALL
        };
        let partition = make(&shard, 1, settings).await;
        let now = env.wall_clock_ms();
        for _ in 0..10 {
            produce(&partition, now - 50_000, 1_500).await;
        }
        partition.request_flush(true);
        env.sleep(Duration::from_millis(50)).await;
        assert_eq!(partition.safe.get().next_offset, Offset(20));
        // Young records on their way into the segment that is found to be too old.
        let young = partition.append(batch(now, 1_500), 2, now).unwrap();
        young.durable.wait().await.unwrap();
        partition.request_flush(true);
        env.yield_now().await;
        partition.apply_retention(now + 11_000).await.unwrap();
        assert!(partition.safe.get().next_offset > Offset(20));
        assert!(partition.watermarks().log_start <= Offset(20));
        let read = partition.read(Offset(20), 1, true).await.unwrap();
        assert_eq!(read.batches.len(), 1);
    });
}
