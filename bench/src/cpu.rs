//! Which CPU drives and which one is driven: the generator must never share a core with what it
//! measures, or it measures itself.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::ClockId;

/// A CPU for the generator and another one for the broker (or for what stands in for it in
/// [`limits`](crate::limits)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuPlan {
    /// The generator's.
    pub generator: usize,
    /// The broker's.
    pub broker: usize,
}

/// CPUs that somebody asked for by number; what is left out is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestedCpus {
    /// For the generator.
    pub generator: Option<usize>,
    /// For the broker.
    pub broker: Option<usize>,
}

/// Why there is no plan, or why a thread is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// One CPU would have to do both.
    #[error(
        "the generator and the broker need a CPU each, but this process may use only {allowed:?}; allow it \
         a second one (taskset, cpuset, the container's CPU list), or drive the broker from another machine"
    )]
    TooFew {
        /// The CPUs there are.
        allowed: Vec<usize>,
    },
    /// The same CPU was asked for twice.
    #[error(
        "CPU {cpu} was asked for twice, for the generator and for the broker; on one CPU the generator \
         would measure itself: name two different ones of {allowed:?}"
    )]
    Same {
        /// The CPU.
        cpu: usize,
        /// The CPUs there are.
        allowed: Vec<usize>,
    },
    /// A CPU was asked for that this process may not use.
    #[error(
        "CPU {cpu} was asked for the {role}, but this process may use only {allowed:?}; name one of these, \
         or allow it that one (taskset, cpuset, the container's CPU list)"
    )]
    NotAllowed {
        /// The CPU.
        cpu: usize,
        /// What it was to run.
        role: &'static str,
        /// The CPUs there are.
        allowed: Vec<usize>,
    },
    /// The kernel did not tell.
    #[error("the kernel did not tell which CPUs this process may use (sched_getaffinity): {0}")]
    Unknown(#[source] io::Error),
    /// The kernel refused.
    #[error(
        "a thread could not be pinned to CPU {cpu} (sched_setaffinity): {source}; name a CPU that this \
         process may use"
    )]
    Pin {
        /// The CPU.
        cpu: usize,
        /// The system's reason.
        source: io::Error,
    },
}

impl CpuPlan {
    /// What was asked for, and for the rest: the first CPU for the broker (which is also the one
    /// that a broker with a single shard takes by itself), and for the generator the next one that
    /// is not the second thread of the broker's core, or failing that any other. `allowed` is what
    /// [`allowed_cpus`] gives.
    ///
    /// With one CPU there is no plan, but an error: generator and broker would take turns by the
    /// scheduler's time slices, and no figure of such a run means anything.
    pub fn choose(allowed: &[usize], requested: RequestedCpus) -> Result<CpuPlan, CpuError> {
        choose(allowed, requested, first_sibling)
    }
}

fn choose(
    allowed: &[usize],
    requested: RequestedCpus,
    core_of: impl Fn(usize) -> usize,
) -> Result<CpuPlan, CpuError> {
    check(allowed, requested.generator, "generator")?;
    check(allowed, requested.broker, "broker")?;
    if let (Some(generator), Some(broker)) = (requested.generator, requested.broker) {
        if generator == broker {
            return Err(CpuError::Same {
                cpu: generator,
                allowed: allowed.to_vec(),
            });
        }
        return Ok(CpuPlan { generator, broker });
    }
    let beside = |taken: Option<usize>| {
        let others = || allowed.iter().copied().filter(|cpu| Some(*cpu) != taken);
        let core = taken.map(&core_of);
        let other_core = others().find(|cpu| Some(core_of(*cpu)) != core);
        other_core
            .or_else(|| others().next())
            .ok_or_else(|| CpuError::TooFew {
                allowed: allowed.to_vec(),
            })
    };
    let broker = match requested.broker {
        Some(broker) => broker,
        None => beside(requested.generator)?,
    };
    let generator = match requested.generator {
        Some(generator) => generator,
        None => beside(Some(broker))?,
    };
    Ok(CpuPlan { generator, broker })
}

fn check(allowed: &[usize], cpu: Option<usize>, role: &'static str) -> Result<(), CpuError> {
    match cpu {
        Some(cpu) if !allowed.contains(&cpu) => Err(CpuError::NotAllowed {
            cpu,
            role,
            allowed: allowed.to_vec(),
        }),
        _ => Ok(()),
    }
}

/// The CPUs that the calling thread may use, in order.
pub fn allowed_cpus() -> Result<Vec<usize>, CpuError> {
    let set = sched_getaffinity(None).map_err(|error| CpuError::Unknown(error.into()))?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// Keeps the calling thread on one CPU from here on.
pub fn pin_current_thread(cpu: usize) -> Result<(), CpuError> {
    let refused = |source| CpuError::Pin { cpu, source };
    if cpu >= CpuSet::MAX_CPU {
        return Err(refused(io::ErrorKind::InvalidInput.into()));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| refused(error.into()))
}

/// The CPU that takes the interrupts of the disk under `directory`, if it is one. The broker belongs
/// there: the kernel completes an `O_DSYNC` write in a worker of that CPU, and a generator that asks
/// again and again would hold that up for a scheduler's tick (seen: 4 ms for each write, not 0.1).
#[must_use]
pub fn disk_cpu(directory: &Path) -> Option<usize> {
    let device = std::fs::metadata(directory).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let with_interrupts = device
        .ancestors()
        .find(|part| part.join("msi_irqs").is_dir())?;
    let mut by_cpu: Vec<u64> = Vec::new();
    for interrupt in std::fs::read_dir(with_interrupts.join("msi_irqs"))
        .ok()?
        .flatten()
    {
        let number = interrupt.file_name();
        let counts = Path::new("/sys/kernel/irq")
            .join(number)
            .join("per_cpu_count");
        add_counts(
            &mut by_cpu,
            &std::fs::read_to_string(counts).unwrap_or_default(),
        );
    }
    most_of(&by_cpu)
}

fn add_counts(by_cpu: &mut Vec<u64>, counts: &str) {
    for (cpu, count) in counts.trim().split(',').enumerate() {
        if by_cpu.len() <= cpu {
            by_cpu.push(0);
        }
        by_cpu[cpu] += count.parse().unwrap_or(0);
    }
}

/// The CPU that has nine of ten.
fn most_of(by_cpu: &[u64]) -> Option<usize> {
    let all: u64 = by_cpu.iter().sum();
    by_cpu
        .iter()
        .position(|count| all > 0 && *count >= all / 10 * 9)
}

/// CPU time of this thread so far.
#[must_use]
pub fn thread_cpu() -> Duration {
    cpu_time(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process so far.
#[must_use]
pub fn process_cpu() -> Duration {
    cpu_time(ClockId::ProcessCPUTime)
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How long a hypervisor has held back a CPU that had work, since the system started (proc_stat(5):
/// `steal`). None where the system does not tell; to a hundredth of a second.
#[must_use]
pub fn stolen_seconds(cpu: usize) -> Option<f64> {
    stolen_ticks(&std::fs::read_to_string("/proc/stat").ok()?, cpu)
        .map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn stolen_ticks(stat: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let mut of_cpu = stat.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next() == Some(&name)).then_some(fields)
    })?;
    // user, nice, system, idle, iowait, irq, softirq, steal
    of_cpu.nth(7)?.parse().ok()
}

/// The lowest CPU of the core that `cpu` is a thread of; itself where the system does not tell.
fn first_sibling(cpu: usize) -> usize {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    let first = list.split([',', '-']).next();
    first
        .and_then(|first| first.trim().parse().ok())
        .unwrap_or(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(generator: Option<usize>, broker: Option<usize>) -> RequestedCpus {
        RequestedCpus { generator, broker }
    }

    fn plan(generator: usize, broker: usize) -> CpuPlan {
        CpuPlan { generator, broker }
    }

    #[test]
    fn two_cpus_have_one_job_each() {
        let alone = |cpu| cpu;
        let nothing = RequestedCpus::default();
        assert_eq!(choose(&[0, 1], nothing, alone).unwrap(), plan(1, 0));
        assert_eq!(choose(&[4, 7, 9], nothing, alone).unwrap(), plan(7, 4));
    }

    #[test]
    fn the_generator_keeps_off_the_brokers_core() {
        let pairs = |cpu: usize| cpu / 2 * 2;
        let nothing = RequestedCpus::default();
        assert_eq!(choose(&[0, 1, 2, 3], nothing, pairs).unwrap(), plan(2, 0));
        assert_eq!(
            choose(&[0, 1], nothing, pairs).unwrap(),
            plan(1, 0),
            "a second thread is better than the same"
        );
        let generator = ask(Some(0), None);
        assert_eq!(choose(&[0, 1, 2, 3], generator, pairs).unwrap(), plan(0, 2));
    }

    #[test]
    fn what_is_asked_for_is_taken() {
        let alone = |cpu| cpu;
        let allowed = [0, 1, 2];
        let chosen = |generator, broker| choose(&allowed, ask(generator, broker), alone).unwrap();
        assert_eq!(chosen(Some(2), Some(1)), plan(2, 1));
        assert_eq!(chosen(None, Some(2)), plan(0, 2));
        assert_eq!(chosen(Some(0), None), plan(0, 1));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        let refused = |allowed: &[usize], generator, broker| {
            choose(allowed, ask(generator, broker), |cpu| cpu)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&[3], None, None).contains("only [3]; allow it a second one"));
        assert!(refused(&[3], Some(3), None).contains("allow it a second one"));
        assert!(refused(&[0, 1], Some(1), Some(1)).contains("CPU 1 was asked for twice"));
        assert!(refused(&[0, 1], None, Some(5)).contains("CPU 5 was asked for the broker"));
    }

    #[test]
    fn a_disk_with_one_queue_has_a_cpu() {
        let mut counts = Vec::new();
        add_counts(&mut counts, "0,5\n");
        add_counts(&mut counts, "1,95\n");
        add_counts(&mut counts, "");
        assert_eq!(counts, [1, 100]);
        assert_eq!(most_of(&counts), Some(1));
        assert_eq!(most_of(&[50, 50]), None, "a queue for each CPU");
        assert_eq!(most_of(&[0, 0]), None);
        assert_eq!(most_of(&[]), None);
    }

    #[test]
    fn what_was_stolen_is_read_from_the_cpus_line() {
        let stat = "cpu  9 9 9 9 9 9 9 99 9 9\ncpu1 1 2 3 4 5 6 7 80 9 10\ncpu10 1 2 3 4 5 6 7\n";
        assert_eq!(stolen_ticks(stat, 1), Some(80));
        assert_eq!(stolen_ticks(stat, 10), None, "an old kernel's line");
        assert_eq!(stolen_ticks(stat, 2), None);
        assert!(stolen_seconds(allowed_cpus().unwrap()[0]).is_some());
    }

    #[test]
    fn a_pinned_thread_is_where_it_should_be() {
        let cpu = *allowed_cpus().unwrap().last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_current_thread(cpu).unwrap();
            allowed_cpus().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [cpu]);
        let error = pin_current_thread(1 << 20).unwrap_err();
        assert!(error.to_string().contains("CPU 1048576"), "{error}");
    }
}
