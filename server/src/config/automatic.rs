//! What `auto` comes to on a given machine.

use std::io;
use std::path::Path;

use super::Config;

const MIB: u64 = 1 << 20;

/// What automatic sizes depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Size of the file system that the data directory is on, bytes.
    pub capacity: u64,
    /// Memory that the process may use, bytes.
    pub memory: u64,
    /// Shards that share it.
    pub shards: u16,
}

impl Machine {
    /// This machine, for a broker of so many shards with its data at `path`, which need not be there
    /// yet.
    pub fn of(path: &Path, shards: u16) -> io::Result<Machine> {
        Ok(Machine {
            capacity: capacity_of(path)?,
            memory: memory(),
            shards,
        })
    }
}

/// Sizes that depend on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutomaticSizes {
    /// `journal.file_bytes`.
    pub journal_file_bytes: u64,
    /// `storage.disk_reserve_bytes`.
    pub disk_reserve_bytes: u64,
    /// `storage.unwritten_bytes`.
    pub unwritten_bytes: u64,
}

impl Config {
    /// The sizes in force on a machine: what was set, or what `auto` means.
    #[must_use]
    pub fn automatic_sizes(&self, machine: Machine) -> AutomaticSizes {
        let Machine {
            capacity,
            memory,
            shards,
        } = machine;
        let journal_file = (capacity / 256 / MIB * MIB).clamp(4 * MIB, 64 * MIB);
        // The floor of 64 MiB would be most of a small file system, so there it gives way.
        let reserve = (capacity / 20).clamp((64 * MIB).min(capacity / 8), 1024 * MIB);
        // Thousands of partitions are written in pieces that are worth a write only if there is
        // room for some of each.
        let unwritten = memory / 8 / u64::from(shards.max(1)) / MIB * MIB;
        AutomaticSizes {
            journal_file_bytes: self.journal.file_bytes.unwrap_or(journal_file),
            disk_reserve_bytes: self.storage.disk_reserve_bytes.unwrap_or(reserve),
            unwritten_bytes: self
                .storage
                .unwritten_bytes
                .unwrap_or(unwritten.clamp(64 * MIB, 1024 * MIB)),
        }
    }
}

/// The size of the file system that `path` is on, or would be on once it is made.
fn capacity_of(path: &Path) -> io::Result<u64> {
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

/// The machine's memory, or what its control group (v2) leaves of it.
fn memory() -> u64 {
    let machine = rustix::system::sysinfo();
    let all = machine.totalram.saturating_mul(u64::from(machine.mem_unit));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let Some(own) = own else { return all };
    let limit = |group: &Path| {
        let limit = std::fs::read_to_string(group.join("memory.max")).ok()?;
        limit.trim().parse::<u64>().ok()
    };
    let groups = Path::new(own).ancestors();
    let limits = groups.filter_map(|group| limit(&Path::new("/sys/fs/cgroup").join(group)));
    limits.fold(all, u64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, resolve};

    const GIB: u64 = 1024 * MIB;

    #[test]
    fn automatic_sizes_shrink_with_the_machine() {
        let config = resolve(&Inputs::default()).unwrap().config;
        for (machine, journal_file_bytes, disk_reserve_bytes, unwritten_bytes) in [
            ((64 * MIB, GIB / 4, 1), 4 * MIB, 8 * MIB, 64 * MIB),
            ((512 * MIB, 4 * GIB, 4), 4 * MIB, 64 * MIB, 128 * MIB),
            (
                (2048 * MIB, 4 * GIB, 2),
                8 * MIB,
                2048 * MIB / 20,
                256 * MIB,
            ),
            ((1 << 40, 512 * GIB, 8), 64 * MIB, GIB, GIB),
        ] {
            let (capacity, memory, shards) = machine;
            let sizes = config.automatic_sizes(Machine {
                capacity,
                memory,
                shards,
            });
            let expected = AutomaticSizes {
                journal_file_bytes,
                disk_reserve_bytes,
                unwritten_bytes,
            };
            assert_eq!(sizes, expected, "{machine:?}");
        }
    }

    #[test]
    fn a_machine_has_memory() {
        assert!(memory() > 16 * MIB);
    }

    #[test]
    fn a_directory_that_is_not_there_yet_has_its_parents_capacity() {
        let here = tempfile::tempdir().unwrap();
        let capacity = capacity_of(here.path()).unwrap();
        assert!(capacity > 0);
        assert_eq!(capacity_of(&here.path().join("a/b")).unwrap(), capacity);
    }
}
