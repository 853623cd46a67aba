//! Folders of partitions that no topic has any more: what a crash leaves between the moment a topic
//! is gone for the controller and the moment its folders are. They are found at start, by name, and
//! removed in the background. Anything that does not look like a partition's folder is left alone.

use std::io;
use std::path::{Path, PathBuf};

use millrace_shard::env::{DirectoryEntry, Env, OnPanic, Queue};
use millrace_shard::shard::TRASH_DIRECTORY;
use millrace_wire::ids::TopicName;

use super::CONTROLLER_TOPIC;
use super::state::State;

/// Moves orphaned folders to the trash, and unlinks them there in the background.
///
/// A controller that never decided anything removes nothing: if its log is new while there are
/// folders, it is the log that was lost, and someone will want what is left.
pub(super) async fn remove<E: Env>(env: &E, data: &Path, state: &State) -> io::Result<()> {
    let orphans = find(env, data, state).await?;
    if orphans.is_empty() {
        return Ok(());
    }
    if state.revision() == 0 {
        tracing::warn!(
            folders = orphans.len(),
            first = %orphans[0].display(),
            "there are partitions' folders though no topic was ever made here; they are left alone"
        );
        return Ok(());
    }
    let trash = data.join(TRASH_DIRECTORY);
    env.create_directory(&trash).await?;
    for orphan in orphans {
        tracing::info!(folder = %orphan.display(), "removing what a deleted topic left behind");
        let place = trash.join(format!("orphan-{:016x}", env.random_u64()));
        env.rename(&orphan, &place).await?;
        let unlink = {
            let env = env.clone();
            async move {
                if let Err(error) = env.remove_directory(&place).await {
                    tracing::warn!(%error, folder = %place.display(), "left in the trash until the next start");
                }
            }
        };
        drop(env.spawn(Queue::Background, "unlink orphan", OnPanic::EndTask, unlink));
    }
    env.sync_directory(&trash).await
}

async fn find<E: Env>(env: &E, data: &Path, state: &State) -> io::Result<Vec<PathBuf>> {
    let mut orphans = Vec::new();
    for folder in env.list_directory(data).await? {
        // Internal folders and others' files have names that no topic can have.
        let Ok(name) = folder.name.parse::<TopicName>() else {
            continue;
        };
        if !folder.is_directory || name.as_str() == CONTROLLER_TOPIC {
            continue;
        }
        let partitions = state.topic(&name).map_or(0, |topic| topic.partitions);
        let path = data.join(&folder.name);
        let inside = env.list_directory(&path).await?;
        let orphaned = inside
            .iter()
            .filter(|entry| partition_number(entry).is_some_and(|number| number >= partitions));
        orphans.extend(orphaned.map(|entry| path.join(&entry.name)));
        env.yield_now().await;
    }
    Ok(orphans)
}

/// The number of the partition whose folder this is, if it is one.
fn partition_number(entry: &DirectoryEntry) -> Option<u32> {
    let number: u32 = entry.name.parse().ok()?;
    (entry.is_directory && number.to_string() == entry.name).then_some(number)
}
