//! What a shard does by itself, in the background: giving journal files and pinned memory back,
//! retention by size and time, forgetting producers that are gone, watching free disk space,
//! unlinking what was removed.
//!
//! Retention works as Kafka's does, by whole segments: one goes when its newest record is too old,
//! or when what is kept without it is still enough. The new log start is durable before any file
//! goes. A partition in which nothing can have changed is not looked at: idle ones cost no I/O.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::rc::Rc;

use crate::env::Env;
use crate::log::{LowSpace, ShardJournal, Shared};
use crate::shard::{Closing, Registry};

/// Space must grow beyond the reserve by this part of it before producing is allowed again, so
/// that the answer does not change with every batch.
const RESERVE_SLACK_DIVISOR: u64 = 16;

/// Partitions whose files are looked at for the first time in one round of retention.
const FIRST_LOOKS_PER_ROUND: usize = 64;

/// Partitions that retention passes by before others have their turn.
const LOOKS_PER_TURN: usize = 1_024;

/// Writes partitions when pinned memory runs short.
pub(crate) async fn relieve_pressure<E: Env>(shared: Rc<Shared<E>>, registry: Rc<Registry<E>>) {
    while shared.flush.next_pressure().await {
        let mut candidates: Vec<_> = shared
            .needing()
            .into_iter()
            .filter_map(|id| registry.get(id))
            .collect();
        candidates.sort_by_key(|partition| std::cmp::Reverse(partition.pinned_bytes()));
        let target = shared.relief_target();
        let mut left = shared.unwritten();
        for partition in candidates {
            if left <= target {
                break;
            }
            left = left.saturating_sub(partition.pinned_bytes());
            partition.request_flush(true);
        }
    }
}

/// Writes what keeps old journal files alive whenever the journal wants them back.
pub(crate) async fn free_journal<E: Env>(
    registry: Rc<Registry<E>>,
    journal: Rc<ShardJournal<E>>,
    closing: Rc<Closing>,
) {
    loop {
        let changed = journal.flush_wanted().listen();
        if let Some(below) = journal.flush_below() {
            for id in registry.shared().needing_below(below) {
                if let Some(partition) = registry.get(id) {
                    partition.request_flush(true);
                }
            }
        }
        if !closing.wait_for(changed).await {
            return;
        }
    }
}

/// Looks at free space at intervals and refuses producing while it is short. Also tries again what
/// could not be written.
pub(crate) async fn watch_space<E: Env>(shared: Rc<Shared<E>>, closing: Rc<Closing>) {
    loop {
        look_at_space(&shared).await;
        if !closing
            .sleep(&shared.env, shared.config.space_interval)
            .await
        {
            return;
        }
    }
}

async fn look_at_space<E: Env>(shared: &Shared<E>) {
    let space = match shared.env.space(&shared.config.data_directory).await {
        Ok(space) => space,
        Err(error) => {
            tracing::warn!("cannot tell how much disk space is free: {error}");
            return;
        }
    };
    let reserve = shared.config.disk_reserve_bytes;
    // What is in the journal only will take its place in segments too.
    let needed = reserve + shared.unwritten();
    let low = shared.low_space();
    let slack = if low.is_some() {
        reserve / RESERVE_SLACK_DIVISOR
    } else {
        0
    };
    if space.available < needed + slack {
        if low.is_none() {
            tracing::error!(
                available = space.available,
                reserve,
                "disk space is short: producing is refused"
            );
        }
        shared.set_low_space(Some(LowSpace {
            available: space.available,
            reserve,
        }));
    } else if low.is_some() && !shared.flush.has_put_off() {
        tracing::info!(
            available = space.available,
            reserve,
            "there is disk space again: producing goes on"
        );
        shared.set_low_space(None);
    }
    shared.set_headroom(space.available.saturating_sub(needed));
    shared.flush.retry();
}

/// Removes everything in the trash. What cannot be removed is left for the next start.
pub(crate) async fn empty_trash<E: Env>(env: E, trash: PathBuf) {
    let entries = match env.list_directory(&trash).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!("cannot look into {}: {error}", trash.display());
            return;
        }
    };
    for entry in entries {
        let path = trash.join(&entry.name);
        let removed = if entry.is_directory {
            env.remove_directory(&path).await
        } else {
            env.remove_file(&path).await
        };
        match removed {
            // Another task may be at it too.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(
                    "cannot remove {}, the next start tries again: {error}",
                    path.display()
                );
            }
            _ => {}
        }
    }
}

/// Applies retention to every partition at intervals.
pub(crate) async fn keep_house<E: Env>(
    shared: Rc<Shared<E>>,
    registry: Rc<Registry<E>>,
    closing: Rc<Closing>,
) {
    while closing
        .sleep(&shared.env, shared.config.housekeeping_interval)
        .await
    {
        let now_ms = shared.env.wall_clock_ms();
        let mut first_looks = 0;
        for (number, id) in registry.ids().into_iter().enumerate() {
            if number % LOOKS_PER_TURN == LOOKS_PER_TURN - 1 {
                shared.env.yield_now().await;
            }
            let Some(partition) = registry.get(id) else {
                continue;
            };
            partition.expire_producers(now_ms);
            if partition.retention_unknown() {
                first_looks += 1;
                if first_looks > FIRST_LOOKS_PER_ROUND {
                    continue;
                }
            } else if !partition.retention_due(now_ms) {
                continue;
            }
            if let Err(error) = partition.apply_retention(now_ms).await {
                tracing::warn!(partition = %id, "retention is put off: {error}");
            }
            shared.env.yield_now().await;
        }
    }
}
