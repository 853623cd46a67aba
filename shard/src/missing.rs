//! The note that a shard's journal lost a group of which nothing is known, so that partitions may be
//! missing from it. It outlives the start that found the damage, because that start makes an end of
//! it: the next one finds a whole journal. It goes when the partitions that should be here have all
//! been asked for, since those that were missing are then known to be damaged.
//!
//! It is an empty directory in the journal's. Runs on the shard's core, or in a relayout.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::error::StorageError;

fn note_in(journal: &Path) -> PathBuf {
    journal.join("partitions-missing")
}

/// Whether there is a note in a journal's directory.
pub(crate) async fn is_noted<E: Env>(env: &E, journal: &Path) -> Result<bool, StorageError> {
    let note = note_in(journal);
    match env.list_directory(&note).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StorageError::io("list", note)(error)),
    }
}

/// Makes the note, durably.
pub(crate) async fn note<E: Env>(env: &E, journal: &Path) -> Result<(), StorageError> {
    let note = note_in(journal);
    env.create_directory(&note)
        .await
        .map_err(StorageError::io("create", note))?;
    sync(env, journal).await
}

/// Takes the note away, durably.
pub(crate) async fn forget<E: Env>(env: &E, journal: &Path) -> Result<(), StorageError> {
    let note = note_in(journal);
    match env.remove_directory(&note).await {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StorageError::io("remove", note)(error))
        }
        _ => sync(env, journal).await,
    }
}

async fn sync<E: Env>(env: &E, journal: &Path) -> Result<(), StorageError> {
    env.sync_directory(journal)
        .await
        .map_err(StorageError::io("sync", journal))
}
