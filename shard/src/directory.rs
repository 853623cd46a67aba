//! The data directory as a whole: that one process at a time uses it, and whose it is. Everything
//! here happens on an ordinary thread at start-up, before there are shards, with plain blocking
//! calls; a shard never calls it.
//!
//! `@lock` is held with `flock` while the process lives and names its pid. `@node` holds the
//! identity; it is replaced as a whole, so that a crash leaves the old one or the new one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use millrace_wire::ids::{BootEpoch, NodeId};
use rustix::fs::{FlockOperation, flock};

const LOCK_NAME: &str = "@lock";
const IDENTITY_NAME: &str = "@node";
const IDENTITY_NEW_NAME: &str = "@node.new";
const MAGIC: [u8; 8] = *b"MLRNODE\0";
const VERSION: u16 = 1;
/// magic 8, version 2, shards 2, node 4, epoch 4, cluster 16, CRC 4.
const IDENTITY_BYTES: usize = 40;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process holds the lock.
    #[error(
        "the data directory {path} is in use by {holder}; stop that first, or give this one another with --data-dir"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process, as far as it told.
        holder: String,
    },
    /// It holds other people's files.
    #[error(
        "{path} is not empty (it holds {example:?}) and is not a Millrace data directory, as it has no \
         {IDENTITY_NAME}; give an empty or a new directory with --data-dir, or restore {IDENTITY_NAME} from a backup"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Something that is in it.
        example: String,
    },
    /// A newer program wrote it.
    #[error(
        "{path} was written by a newer Millrace: its format is version {found}, this program knows {VERSION}; \
         run the newer program"
    )]
    Newer {
        /// The identity file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The identity file is not what was written.
    #[error("{path} is damaged ({reason}); restore it from a backup")]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// It can neither be made nor written.
    #[error(
        "the data directory {path} cannot be used: {source}; choose another with --data-dir, or let this user write there"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refused something.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Whose directory it is, and what its last run looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the node belongs to.
    pub cluster: u128,
    /// The node.
    pub node: NodeId,
    /// How often the node has started.
    pub boot_epoch: BootEpoch,
    /// Shards that the directory is laid out for; 0 before the first run.
    pub shards: u16,
}

impl Identity {
    fn encode(self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.shards.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.node.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.boot_epoch.0.to_le_bytes());
        bytes[20..36].copy_from_slice(&self.cluster.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Identity, DirectoryError> {
        let damaged = |reason| DirectoryError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let head: &[u8; 10] = bytes
            .first_chunk()
            .ok_or_else(|| damaged("it is too short"))?;
        if head[..8] != MAGIC {
            return Err(damaged("it does not begin like one"));
        }
        let found = u16::from_le_bytes([head[8], head[9]]);
        if found > VERSION {
            return Err(DirectoryError::Newer {
                path: path.to_owned(),
                found,
            });
        }
        let bytes: &[u8; IDENTITY_BYTES] = bytes
            .try_into()
            .map_err(|_| damaged("it has a wrong length"))?;
        if bytes[36..] != crc32fast::hash(&bytes[..36]).to_le_bytes() {
            return Err(damaged("its checksum does not match"));
        }
        let four = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Ok(Identity {
            shards: u16::from_le_bytes([bytes[10], bytes[11]]),
            node: NodeId(four(12)),
            boot_epoch: BootEpoch(four(16)),
            cluster: u128::from_le_bytes(std::array::from_fn(|byte| bytes[20 + byte])),
        })
    }
}

/// A data directory that this process has locked. The lock ends with the process, or when this is
/// dropped.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
    identity: Identity,
}

impl DataDirectory {
    /// Locks the directory, makes it if it is not there, and begins a new run: the boot epoch grows
    /// by one, durably. A new directory gets `new_cluster` and node 0.
    pub fn open(path: &Path, new_cluster: u128) -> Result<DataDirectory, DirectoryError> {
        std::fs::create_dir_all(path).map_err(|error| unusable(path, error))?;
        if read_identity(path)?.is_none() {
            // Before there is a lock: other people's directories get no file of ours.
            check_new(path)?;
        }
        let lock = lock(path)?;
        let last = read_identity(path)?;
        let mut identity = match last {
            Some(identity) => identity,
            None => {
                check_new(path)?;
                Identity {
                    cluster: new_cluster,
                    node: NodeId(0),
                    boot_epoch: BootEpoch(0),
                    shards: 0,
                }
            }
        };
        identity.boot_epoch.0 =
            identity
                .boot_epoch
                .0
                .checked_add(1)
                .ok_or(DirectoryError::Damaged {
                    path: path.join(IDENTITY_NAME),
                    reason: "its count of starts is at its end",
                })?;
        write_identity(path, identity)?;
        Ok(DataDirectory {
            path: path.to_owned(),
            _lock: lock,
            identity,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is, in this run.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Notes, durably, for how many shards the directory is laid out from now on.
    pub fn set_shards(&mut self, shards: u16) -> Result<(), DirectoryError> {
        if self.identity.shards == shards {
            return Ok(());
        }
        let identity = Identity {
            shards,
            ..self.identity
        };
        write_identity(&self.path, identity)?;
        self.identity = identity;
        Ok(())
    }
}

fn unusable(path: &Path, error: io::Error) -> DirectoryError {
    let source = match error.kind() {
        // Of the name of a file, the system only says that it exists.
        io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
        _ => error,
    };
    DirectoryError::Unusable {
        path: path.to_owned(),
        source,
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io {
        doing,
        path,
        source,
    }
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK_NAME);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options
        .open(&path)
        .map_err(|error| unusable(directory, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // The name of the holder is a help, not needed to refuse.
            let _ = file.read_to_string(&mut pid);
            let holder = match pid.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(DirectoryError::InUse {
                path: directory.to_owned(),
                holder,
            });
        }
        Err(error) => return Err(io_error("lock", &path)(error.into())),
    }
    let pid = format!("{}\n", std::process::id());
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all(pid.as_bytes()));
    written.map_err(io_error("write our process id to", &path))?;
    Ok(file)
}

/// A directory without an identity must be empty, save for what a first start may leave behind.
fn check_new(directory: &Path) -> Result<(), DirectoryError> {
    let listing = "list the data directory";
    for entry in std::fs::read_dir(directory).map_err(io_error(listing, directory))? {
        let name = entry.map_err(io_error(listing, directory))?.file_name();
        let name = name.to_string_lossy();
        if !matches!(&*name, LOCK_NAME | IDENTITY_NEW_NAME | "lost+found") {
            return Err(DirectoryError::Foreign {
                path: directory.to_owned(),
                example: name.into_owned(),
            });
        }
    }
    Ok(())
}

fn read_identity(directory: &Path) -> Result<Option<Identity>, DirectoryError> {
    let path = directory.join(IDENTITY_NAME);
    match std::fs::read(&path) {
        Ok(bytes) => Identity::decode(&path, &bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", &path)(error)),
    }
}

fn write_identity(directory: &Path, identity: Identity) -> Result<(), DirectoryError> {
    let (new, path) = (
        directory.join(IDENTITY_NEW_NAME),
        directory.join(IDENTITY_NAME),
    );
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(&identity.encode())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(io_error("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_a_new_epoch_of_the_same_node() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("data");
        let mut first = DataDirectory::open(&path, 77).unwrap();
        assert_eq!(first.identity().shards, 0);
        first.set_shards(4).unwrap();
        drop(first);
        let second = DataDirectory::open(&path, 78).unwrap().identity();
        assert_eq!(
            second,
            Identity {
                cluster: 77,
                node: NodeId(0),
                boot_epoch: BootEpoch(2),
                shards: 4
            }
        );
    }

    #[test]
    fn a_second_opening_is_refused_and_names_the_holder() {
        let scratch = tempfile::tempdir().unwrap();
        let held = DataDirectory::open(scratch.path(), 1).unwrap();
        let refused = DataDirectory::open(scratch.path(), 1)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        drop(held);
        assert_eq!(
            DataDirectory::open(scratch.path(), 1)
                .unwrap()
                .identity()
                .boot_epoch,
            BootEpoch(2)
        );
    }

    #[test]
    fn other_peoples_files_are_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("thesis.tex"), "x").unwrap();
        let refused = DataDirectory::open(scratch.path(), 1)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("thesis.tex") && refused.contains("--data-dir"),
            "{refused}"
        );
    }

    #[test]
    fn an_identity_that_is_newer_or_damaged_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(IDENTITY_NAME);
        drop(DataDirectory::open(scratch.path(), 1).unwrap());
        let good = std::fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert!(
                DataDirectory::open(scratch.path(), 1).is_err(),
                "byte {place}"
            );
            std::fs::write(&path, &good[..place]).unwrap();
            assert!(
                DataDirectory::open(scratch.path(), 1).is_err(),
                "cut at {place}"
            );
        }
        let mut newer = good.clone();
        newer[8] = 2;
        std::fs::write(&path, &newer).unwrap();
        let refused = DataDirectory::open(scratch.path(), 1)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("version 2") && refused.contains("knows 1"),
            "{refused}"
        );
    }

    #[test]
    fn a_first_start_that_was_cut_off_can_be_repeated() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join(IDENTITY_NEW_NAME), "MLR").unwrap();
        assert_eq!(
            DataDirectory::open(scratch.path(), 9)
                .unwrap()
                .identity()
                .cluster,
            9
        );
    }
}
