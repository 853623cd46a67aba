//! Why a limit could not be measured.

use std::io;
use std::path::PathBuf;

use millrace_shard::runtime::executor::ShardError;

use crate::cpu::CpuError;

/// Why a limit could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// A thread is not on its CPU.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// No ring.
    #[error(
        "no io_uring: {0}; it needs Linux 6.1 or later, a container profile that lets io_uring through, and \
         room under the limit of locked memory (ulimit -l)"
    )]
    Ring(#[source] io::Error),
    /// A file of the data directory.
    #[error(
        "could not {what} a file in {directory}: {source}; the data directory must exist, be writable, lie on \
         a file system that does O_DIRECT, and have room for {bytes} bytes"
    )]
    File {
        /// What was tried.
        what: &'static str,
        /// The data directory.
        directory: PathBuf,
        /// The file's size.
        bytes: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// A loopback connection.
    #[error(
        "could not {what} over loopback: {source}; check that 127.0.0.1 is up and descriptors are left"
    )]
    Loopback {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The echo's executor.
    #[error("the echo did not run: {0}")]
    Echo(#[from] ShardError),
    /// A thread did not start.
    #[error("a thread could not be started: {0}; check the limit of processes (ulimit -u)")]
    Thread(#[source] io::Error),
    /// A setting makes no sense.
    #[error("{name} is {value}; it must be {must}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        must: &'static str,
    },
}
