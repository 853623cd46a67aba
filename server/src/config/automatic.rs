//! What `auto` comes to on a given file system.

use std::io;
use std::path::Path;

use super::Config;

const MIB: u64 = 1 << 20;

/// Sizes that depend on how large the file system of the data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSizes {
    /// `journal.file_bytes`.
    pub journal_file_bytes: u64,
    /// `storage.disk_reserve_bytes`.
    pub disk_reserve_bytes: u64,
}

impl Config {
    /// The sizes in force on a file system of `capacity` bytes: what was set, or what `auto` means.
    #[must_use]
    pub fn disk_sizes(&self, capacity: u64) -> DiskSizes {
        let journal_file = (capacity / 64 / MIB * MIB).clamp(4 * MIB, 64 * MIB);
        // The floor of 64 MiB would be most of a small file system, so there it gives way.
        let reserve = (capacity / 20).clamp((64 * MIB).min(capacity / 8), 1024 * MIB);
        DiskSizes {
            journal_file_bytes: self.journal.file_bytes.unwrap_or(journal_file),
            disk_reserve_bytes: self.storage.disk_reserve_bytes.unwrap_or(reserve),
        }
    }
}

/// The size of the file system that `path` is on, or would be on once it is made.
pub fn capacity_of(path: &Path) -> io::Result<u64> {
    let absolute = std::path::absolute(path)?;
    for ancestor in absolute.ancestors() {
        match rustix::fs::statvfs(ancestor) {
            Ok(found) => return Ok(found.f_blocks.saturating_mul(found.f_frsize)),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, resolve};

    #[test]
    fn automatic_sizes_shrink_with_the_file_system() {
        let config = resolve(&Inputs::default()).unwrap().config;
        for (capacity, journal_file_bytes, disk_reserve_bytes) in [
            (64 * MIB, 4 * MIB, 8 * MIB),
            (512 * MIB, 8 * MIB, 64 * MIB),
            (2048 * MIB, 32 * MIB, 2048 * MIB / 20),
            (1 << 40, 64 * MIB, 1024 * MIB),
        ] {
            assert_eq!(
                config.disk_sizes(capacity),
                DiskSizes {
                    journal_file_bytes,
                    disk_reserve_bytes
                },
                "{capacity}"
            );
        }
    }

    #[test]
    fn a_directory_that_is_not_there_yet_has_its_parents_capacity() {
        let here = tempfile::tempdir().unwrap();
        let capacity = capacity_of(here.path()).unwrap();
        assert!(capacity > 0);
        assert_eq!(capacity_of(&here.path().join("a/b")).unwrap(), capacity);
    }
}
