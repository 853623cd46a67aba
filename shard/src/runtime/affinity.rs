//! Which CPUs the shards run on: those that the process may use, not those that the machine has.

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroU16;
use std::time::Duration;

use io_uring::IoUring;
use rustix::thread::{CpuSet, sched_getaffinity};

/// A CPU's number in the kernel's count.
pub type Cpu = usize;

/// Why the shards cannot be placed.
#[derive(Debug, thiserror::Error)]
pub enum AffinityError {
    /// More shards than CPUs.
    #[error(
        "{wanted} shards were asked for, but this process may use {allowed} CPUs only ({cpus:?}); ask for at \
         most {allowed}, or allow it more CPUs (taskset, cpuset, the container's CPU list)"
    )]
    TooFewCpus {
        /// Shards asked for.
        wanted: u16,
        /// CPUs there are.
        allowed: usize,
        /// Which.
        cpus: Vec<Cpu>,
    },
    /// The kernel did not tell.
    #[error("the kernel did not tell which CPUs this process may use (sched_getaffinity): {0}")]
    Unknown(#[from] io::Error),
}

/// The CPUs that this process may use, in order.
pub fn allowed_cpus() -> Result<Vec<Cpu>, AffinityError> {
    let set = sched_getaffinity(None).map_err(io::Error::from)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// A CPU for each shard: every allowed one, or as many as asked for, whole cores before the second
/// threads of cores that are taken.
pub fn choose_cpus(shards: Option<NonZeroU16>) -> Result<Vec<Cpu>, AffinityError> {
    choose(allowed_cpus()?, shards, first_sibling)
}

fn choose(
    allowed: Vec<Cpu>,
    shards: Option<NonZeroU16>,
    core_of: impl Fn(Cpu) -> Cpu,
) -> Result<Vec<Cpu>, AffinityError> {
    let Some(shards) = shards else {
        return Ok(allowed);
    };
    let wanted = usize::from(shards.get());
    if wanted > allowed.len() {
        return Err(AffinityError::TooFewCpus {
            wanted: shards.get(),
            allowed: allowed.len(),
            cpus: allowed,
        });
    }
    let mut taken = BTreeSet::new();
    let (mut cpus, seconds): (Vec<Cpu>, Vec<Cpu>) = allowed
        .into_iter()
        .partition(|cpu| taken.insert(core_of(*cpu)));
    cpus.extend(seconds);
    cpus.truncate(wanted);
    cpus.sort_unstable();
    Ok(cpus)
}

/// The lowest CPU of the core that `cpu` is a thread of; itself where the system does not tell.
fn first_sibling(cpu: Cpu) -> Cpu {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    let first = list
        .split([',', '-'])
        .next()
        .and_then(|first| first.trim().parse().ok());
    first.unwrap_or(cpu)
}

/// Moves the kernel's io workers of the calling thread, which is pinned to `own`, to the others of
/// `allowed`. They inherit the pin of their shard otherwise, and a shard that spins starves its own
/// syncs. With one CPU there is nowhere to go.
///
/// `own` itself must not be among them: the kernel cuts what is asked for down to the pin that a
/// worker inherits, unless the two have nothing in common.
pub(super) fn free_io_workers(own: Cpu, allowed: &[Cpu]) -> io::Result<()> {
    let others: Vec<Cpu> = allowed.iter().copied().filter(|cpu| *cpu != own).collect();
    if others.is_empty() {
        return Ok(());
    }
    // The workers belong to the thread, not to a ring: any ring of the thread reaches them.
    let ring = IoUring::new(2)?;
    ring.submitter().register_iowq_aff(&cpu_set(&others))
}

/// The longest time slice that the scheduler takes from an ordinary thread.
const LONG_SLICE: Duration = Duration::from_millis(100);

/// Asks for a long time slice for the calling thread. Since Linux 6.12 a thread that wakes up with a
/// shorter one runs at once, instead of when the slice at hand is over: where a disk has a volatile
/// cache, a durable write is finished by a kernel thread on the core that took the interrupt, and so
/// need not wait some milliseconds for a busy shard. Older kernels take no notice.
#[expect(unsafe_code, reason = "no library has these system calls")]
pub(super) fn ask_for_long_slice() -> io::Result<()> {
    let mut attributes = SchedulingAttributes::default();
    let size = u32::try_from(size_of::<SchedulingAttributes>()).expect("48 bytes");
    // SAFETY: the kernel fills in as many bytes as it is told that there are.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    attributes.slice_ns = u64::try_from(LONG_SLICE.as_nanos()).expect("less than a second");
    // SAFETY: the structure is as long as it says, and the kernel only reads it.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct sched_attr`, in its first version.
#[repr(C)]
#[derive(Default)]
struct SchedulingAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// `sched_runtime`.
    slice_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

#[expect(unsafe_code, reason = "the kernel's set of CPUs is a C structure")]
fn cpu_set(cpus: &[Cpu]) -> libc::cpu_set_t {
    // SAFETY: `cpu_set_t` is an array of integers, for which all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: `set` is valid, and the filter keeps the index within it.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    set
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use io_uring::{opcode, squeue, types};
    use rustix::thread::sched_setaffinity;

    use super::*;

    fn shards(count: u16) -> Option<NonZeroU16> {
        NonZeroU16::new(count)
    }

    #[test]
    fn all_allowed_cpus_or_whole_cores_first() {
        let allowed = vec![0, 1, 2, 3, 9];
        let pairs = |cpu: Cpu| cpu / 2 * 2;
        assert_eq!(choose(allowed.clone(), None, pairs).unwrap(), allowed);
        assert_eq!(
            choose(allowed.clone(), shards(3), pairs).unwrap(),
            [0, 2, 9]
        );
        assert_eq!(
            choose(allowed.clone(), shards(4), pairs).unwrap(),
            [0, 1, 2, 9]
        );
        let error = choose(allowed, shards(6), pairs).unwrap_err().to_string();
        assert!(
            error.contains("6 shards") && error.contains("at most 5"),
            "{error}"
        );
    }

    #[test]
    fn the_calling_thread_may_run_somewhere() {
        let allowed = allowed_cpus().unwrap();
        assert!(!allowed.is_empty());
        assert!(
            choose_cpus(shards(1))
                .unwrap()
                .iter()
                .all(|cpu| allowed.contains(cpu))
        );
    }

    /// The CPUs on which the kernel's worker for `ring` may run, after giving it something to do.
    #[expect(
        unsafe_code,
        reason = "a submission names memory and descriptors by number"
    )]
    fn worker_cpus(ring: &mut IoUring, file: &std::fs::File) -> String {
        let sync = opcode::Fsync::new(types::Fd(file.as_raw_fd()))
            .build()
            .flags(squeue::Flags::ASYNC);
        // SAFETY: the operation refers to the descriptor alone, which outlives the wait below.
        unsafe { ring.submission().push(&sync) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        let worker = format!("iou-wrk-{}", rustix::thread::gettid().as_raw_nonzero());
        let status = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .find_map(|task| {
                let status = std::fs::read_to_string(task.unwrap().path().join("status")).ok()?;
                status.contains(&worker).then_some(status)
            });
        let status = status.expect("the worker stays for a while");
        let cpus = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        cpus.expect("the kernel tells").trim().to_owned()
    }

    #[test]
    fn io_workers_leave_the_cpu_of_their_shard() {
        let allowed = allowed_cpus().unwrap();
        if allowed.len() < 2 {
            println!("skipped: there is one CPU only");
            return;
        }
        let worker_cpus_of_a_pinned_thread = |free: bool| {
            let allowed = allowed.clone();
            let thread = std::thread::spawn(move || {
                let mut own = CpuSet::new();
                own.set(allowed[0]);
                sched_setaffinity(None, &own).unwrap();
                let mut ring = IoUring::new(2).unwrap();
                if free {
                    free_io_workers(allowed[0], &allowed).unwrap();
                }
                worker_cpus(&mut ring, &tempfile::tempfile().unwrap())
            });
            thread.join().unwrap()
        };
        let pinned = worker_cpus_of_a_pinned_thread(false);
        let freed = worker_cpus_of_a_pinned_thread(true);
        assert_eq!(pinned, allowed[0].to_string(), "this is the trap");
        assert!(!freed.split([',', '-']).any(|cpu| cpu == pinned), "{freed}");
    }
}
