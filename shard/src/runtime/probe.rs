//! Asks the kernel, once and before any shard starts, whether io_uring is there, allowed and able,
//! and turns a no into one sentence that says what to change. glommio would panic or exit instead.

use std::io;

use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::ring::Ring;

/// Below this limit of locked memory glommio does not start.
const MEMLOCK_LEAST_BYTES: u64 = 512 * 1024;
/// Rings of one executor; each pins the I/O memory once.
const RINGS: u64 = 3;

/// What a shard asks of the kernel, by name and number.
const OPERATIONS: [(&str, u8); 23] = [
    ("NOP", opcode::Nop::CODE),
    ("READV", opcode::Readv::CODE),
    ("WRITEV", opcode::Writev::CODE),
    ("FSYNC", opcode::Fsync::CODE),
    ("READ_FIXED", opcode::ReadFixed::CODE),
    ("WRITE_FIXED", opcode::WriteFixed::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("POLL_REMOVE", opcode::PollRemove::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("RECVMSG", opcode::RecvMsg::CODE),
    ("TIMEOUT", opcode::Timeout::CODE),
    ("TIMEOUT_REMOVE", opcode::TimeoutRemove::CODE),
    ("ACCEPT", opcode::Accept::CODE),
    ("LINK_TIMEOUT", opcode::LinkTimeout::CODE),
    ("CONNECT", opcode::Connect::CODE),
    ("FALLOCATE", opcode::Fallocate::CODE),
    ("OPENAT", opcode::OpenAt::CODE),
    ("CLOSE", opcode::Close::CODE),
    ("STATX", opcode::Statx::CODE),
    ("READ", opcode::Read::CODE),
    ("WRITE", opcode::Write::CODE),
    ("SEND", opcode::Send::CODE),
    ("RECV", opcode::Recv::CODE),
];

/// Why shards cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// `EPERM`, and the sysctl says why.
    #[error(
        "the kernel refuses io_uring to this process: kernel.io_uring_disabled is {setting}; allow it with \
         `sysctl -w kernel.io_uring_disabled=0`"
    )]
    Disabled {
        /// The sysctl's value.
        setting: String,
    },
    /// `EPERM` or `EACCES` for another reason.
    #[error(
        "io_uring is denied to this process (EPERM), as the default seccomp profiles of container runtimes \
         do; run it with a profile that allows io_uring_setup, io_uring_enter and io_uring_register (Docker \
         and Podman: --security-opt seccomp=PROFILE.json, or seccomp=unconfined to try)"
    )]
    Denied,
    /// `ENOSYS`.
    #[error(
        "there is no io_uring here (ENOSYS): the kernel is old or built without it, or the sandbox (gVisor, \
         an old seccomp profile) hides it; run on Linux 6.1 or later, outside of such a sandbox"
    )]
    Missing,
    /// `ENOMEM`.
    #[error(
        "the kernel has no memory for an io_uring (ENOMEM); the limit of locked memory is {}: raise it \
         (`ulimit -l unlimited`, LimitMEMLOCK=infinity in systemd, --ulimit memlock=-1 in Docker)",
        limit_text(*.limit)
    )]
    NoMemory {
        /// The limit in bytes, none if unlimited.
        limit: Option<u64>,
    },
    /// The limit of locked memory is under what glommio starts with.
    #[error(
        "the limit of locked memory is {}, and a shard needs at least 512 KiB; raise it (`ulimit -l \
         unlimited`, LimitMEMLOCK=infinity in systemd, --ulimit memlock=-1 in Docker)",
        limit_text(Some(*.limit))
    )]
    MemoryLock {
        /// The limit in bytes.
        limit: u64,
    },
    /// The kernel lacks operations.
    #[error(
        "this kernel's io_uring lacks {}; run on Linux 6.1 or later",
        .operations.join(", ")
    )]
    Operations {
        /// Their names.
        operations: Vec<&'static str>,
    },
    /// The kernel cannot leave completions for the shard to take in.
    #[error(
        "this kernel's io_uring has no IORING_SETUP_DEFER_TASKRUN ({0}); run on Linux 6.1 or later"
    )]
    Deferral(io::Error),
    /// Anything else.
    #[error("io_uring cannot be used: {0}")]
    Other(io::Error),
}

fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(
        || "unlimited".to_owned(),
        |bytes| format!("{} KiB", bytes / 1024),
    )
}

/// What the kernel lets a shard do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Something works less well than it could: a sentence that says what to change.
    pub warning: Option<String>,
}

/// Asks the kernel. `shards` executors will want `io_memory` bytes each.
pub fn probe(shards: u16, io_memory: usize) -> Result<Capabilities, ProbeError> {
    let limit = raise_memory_lock();
    check_memory_lock(limit)?;
    let ring = IoUring::new(8).map_err(|error| explain(error, limit))?;
    let mut operations = Probe::new();
    ring.submitter()
        .register_probe(&mut operations)
        .map_err(|error| explain(error, limit))?;
    let missing = OPERATIONS
        .iter()
        .filter(|(_, code)| !operations.is_supported(*code));
    let missing: Vec<&'static str> = missing.map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        return Err(ProbeError::Operations {
            operations: missing,
        });
    }
    match Ring::new() {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            return Err(ProbeError::Deferral(error));
        }
        made => drop(made.map_err(|error| explain(error, limit))?),
    }
    Ok(Capabilities {
        warning: memory_lock_warning(limit, may_lock_memory(), shards, io_memory),
    })
}

/// Raises the soft limit to the hard one, which needs no right. Gives the limit, none if unlimited.
fn raise_memory_lock() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Memlock);
    if current == maximum {
        return current;
    }
    match setrlimit(
        Resource::Memlock,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

fn check_memory_lock(limit: Option<u64>) -> Result<(), ProbeError> {
    match limit {
        Some(limit) if limit < MEMLOCK_LEAST_BYTES => Err(ProbeError::MemoryLock { limit }),
        _ => Ok(()),
    }
}

/// Registered buffers count against the limit, once per ring. Without them I/O works, at more cost.
fn memory_lock_warning(
    limit: Option<u64>,
    privileged: bool,
    shards: u16,
    io_memory: usize,
) -> Option<String> {
    let needed = u64::from(shards) * RINGS * io_memory as u64;
    let limit = limit.filter(|limit| !privileged && *limit < needed)?;
    Some(format!(
        "the limit of locked memory is {} KiB, and {shards} shards would lock {} KiB of I/O buffers: some will \
         go without registered buffers, which costs CPU; raise it (`ulimit -l {}`, LimitMEMLOCK= in systemd, \
         --ulimit memlock= in Docker)",
        limit / 1024,
        needed / 1024,
        needed / 1024,
    ))
}

/// Whether this process has CAP_IPC_LOCK, for which the limit does not count.
fn may_lock_memory() -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    effective.is_some_and(|bits| bits & CAP_IPC_LOCK != 0)
}

fn explain(error: io::Error, limit: Option<u64>) -> ProbeError {
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    explain_with(error, limit, setting.trim())
}

fn explain_with(error: io::Error, limit: Option<u64>, disabled: &str) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if !matches!(disabled, "" | "0") => ProbeError::Disabled {
            setting: disabled.to_owned(),
        },
        Some(libc::EPERM | libc::EACCES) => ProbeError::Denied,
        Some(libc::ENOSYS) => ProbeError::Missing,
        Some(libc::ENOMEM) => ProbeError::NoMemory { limit },
        _ => ProbeError::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(errno: i32, disabled: &str) -> String {
        explain_with(io::Error::from_raw_os_error(errno), Some(65_536), disabled).to_string()
    }

    #[test]
    fn each_refusal_says_what_to_change() {
        assert!(sentence(libc::EPERM, "2").contains("kernel.io_uring_disabled is 2"));
        assert!(sentence(libc::EPERM, "0").contains("seccomp"));
        assert!(sentence(libc::EPERM, "").contains("seccomp"));
        assert!(sentence(libc::ENOSYS, "0").contains("6.1"));
        let memory = sentence(libc::ENOMEM, "0");
        assert!(
            memory.contains("64 KiB") && memory.contains("ulimit -l"),
            "{memory}"
        );
        assert!(sentence(libc::EMFILE, "0").contains("cannot be used"));
    }

    #[test]
    fn low_limits_of_locked_memory_are_told() {
        assert!(check_memory_lock(None).is_ok());
        assert!(check_memory_lock(Some(MEMLOCK_LEAST_BYTES)).is_ok());
        let error = check_memory_lock(Some(65_536)).unwrap_err().to_string();
        assert!(
            error.contains("64 KiB") && error.contains("512 KiB"),
            "{error}"
        );
        let io_memory = 10 << 20;
        assert_eq!(memory_lock_warning(None, false, 64, io_memory), None);
        assert_eq!(memory_lock_warning(Some(8 << 20), true, 1, io_memory), None);
        assert_eq!(
            memory_lock_warning(Some(60 << 20), false, 2, io_memory),
            None
        );
        let warning = memory_lock_warning(Some(8 << 20), false, 2, io_memory).unwrap();
        assert!(
            warning.contains("8192 KiB") && warning.contains("ulimit -l 61440"),
            "{warning}"
        );
    }

    #[test]
    fn this_machine_runs_shards() {
        probe(1, 65_536).unwrap();
    }
}
