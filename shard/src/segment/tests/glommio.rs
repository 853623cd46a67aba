//! On a real executor and a real disk.

use std::rc::Rc;

use millrace_wire::ids::{LogIndex, Offset};

use super::{SETTINGS, empty, entries, open_in};
use crate::env::glommio::GlommioEnv;
use crate::env::{Env, OnPanic, Queue};
use crate::runtime::testing::{run_shard, scratch};
use crate::segment::{SegmentEntry, SegmentSettings, Segments};

const SMALL: SegmentSettings = SegmentSettings {
    segment_bytes: 3 << 20,
    index_interval_bytes: 16 << 10,
    ..SETTINGS
};

/// Reads to the safe end; the number of batches.
async fn read_all(segments: &Segments<GlommioEnv>, all: &[SegmentEntry]) -> usize {
    let mut at = 0;
    while at < segments.end().next_offset.0 as usize {
        let read = segments
            .read(Offset(at as i64), 300_000, true)
            .await
            .expect("a read");
        assert!(!read.is_empty());
        for batch in read {
            assert!(batch == all[at].batch, "batch {at} is another");
            at += 1;
        }
    }
    at
}

#[test]
fn segments_work_on_a_real_disk() {
    let directory = scratch();
    let path = directory.path().join("topic").join("0");
    run_shard(move |env| async move {
        let all = Rc::new(entries(4_000, 3_000));
        let segments = open_in(&env, path.clone(), empty(), 3);
        let reader = {
            let (segments, all, inside) = (segments.clone(), all.clone(), env.clone());
            env.spawn(Queue::Requests, "reader", OnPanic::EndTask, async move {
                while read_all(&segments, &all).await < all.len() {
                    inside.sleep(std::time::Duration::from_millis(1)).await;
                }
            })
        };
        while segments.end().next_offset < Offset(4_000) {
            let from = segments.end().next_offset.0 as usize;
            let upto = (from + 300).min(all.len());
            segments
                .write(&all[from..upto], upto == all.len(), SMALL)
                .await
                .expect("a write");
        }
        assert_eq!(reader.await, Some(()));
        let end = segments.end();
        assert_eq!(end.next_index, LogIndex(4_001));

        let again = open_in(&env, path.clone(), end, 3);
        assert_eq!(read_all(&again, &all).await, 4_000);
        let found = again
            .find_by_timestamp(Offset(0), 1_000 + 2_345)
            .await
            .expect("a search");
        assert_eq!(found.map(|found| found.base_offset), Some(Offset(2_345)));
        let summaries = again.summaries().await.expect("summaries");
        assert!(summaries.len() >= 4);
        let on_disk = env.list_directory(&path).await.expect("a list");
        for summary in summaries.iter().filter(|summary| summary.sealed) {
            let name = format!("{:020}.log", summary.base_offset.0);
            let file = on_disk
                .iter()
                .find(|file| file.name == name)
                .expect("its file");
            assert_eq!(
                file.len, summary.bytes,
                "what was reserved and not used is cut off"
            );
        }
        assert!(again.files.counters.read_ahead_hits.get() > 10);
        assert_eq!(again.files.counters.index_rebuilds.get(), 0);
        let freed = again
            .remove_before(Offset(2_000), end)
            .await
            .expect("a removal");
        assert!(freed > 3 << 20);
        assert!(env.list_directory(&path).await.expect("a list").len() < on_disk.len());
    });
}
