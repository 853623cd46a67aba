//! Starting a shard: one thread pinned to one CPU, one glommio executor, the settings that were
//! measured to be right.

use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::bounded;
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use millrace_wire::ids::ShardId;

use super::affinity::{Cpu, ask_for_long_slice, free_io_workers};
use super::nudge::wait_for_first_poll;
use super::pulse::Pulse;
use super::supervise::supervise;
use crate::env::OnPanic;
use crate::env::glommio::GlommioEnv;

/// How an executor runs. The default is what production uses.
#[derive(Clone, Debug)]
pub struct ExecutorSettings {
    /// How long a task may run before others of its shard get their turn. Latency on a busy shard
    /// is about twice this; far below 1 ms costs throughput and provokes stalls.
    pub preempt_timer: Duration,
    /// How long an idle shard spins before it parks. Only for shards that own whole cores.
    pub spin_before_park: Duration,
    /// Memory for I/O buffers, which the rings register.
    pub io_memory_bytes: usize,
    /// Entries of each ring's submission queue.
    pub ring_depth: usize,
    /// Threads for what would block the shard: names, directories, lengths.
    pub blocking_threads: usize,
}

impl Default for ExecutorSettings {
    fn default() -> Self {
        ExecutorSettings {
            preempt_timer: Duration::from_millis(1),
            spin_before_park: Duration::ZERO,
            io_memory_bytes: 10 << 20,
            ring_depth: 512,
            blocking_threads: 2,
        }
    }
}

/// Which shard, and where.
#[derive(Clone, Debug)]
pub struct ShardPlace {
    /// The shard.
    pub shard: ShardId,
    /// Its CPU.
    pub cpu: Cpu,
    /// The CPUs that the process may use: on those but its own the kernel's workers for its I/O run.
    pub allowed_cpus: Vec<Cpu>,
    /// A directory that exists, on the file system of its files.
    pub directory: PathBuf,
}

/// Why a shard did not start, or how it ended.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The executor could not be made.
    #[error("shard {shard}: its executor did not start: {reason}")]
    Executor {
        /// The shard.
        shard: ShardId,
        /// What glommio said.
        reason: String,
    },
    /// The data directory could not be used.
    #[error(
        "shard {shard}: the directory {directory} cannot be written and read with O_DIRECT: {source}"
    )]
    Directory {
        /// The shard.
        shard: ShardId,
        /// The directory.
        directory: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A shard's thread.
pub struct ShardThread<T: Send + 'static> {
    shard: ShardId,
    pulse: Arc<Pulse>,
    handle: JoinHandle<Result<T, ShardError>>,
}

impl<T: Send + 'static> ShardThread<T> {
    /// Starts a shard: `main` makes its main task, on its thread. A panic of that stops the process.
    /// Returns when the executor has begun to poll, or has ended already; `join` tells why.
    pub fn start<F: Future<Output = T> + 'static>(
        place: ShardPlace,
        settings: &ExecutorSettings,
        main: impl FnOnce(GlommioEnv) -> F + Send + 'static,
    ) -> Result<ShardThread<T>, ShardError> {
        let shard = place.shard;
        let refused = move |reason: String| ShardError::Executor { shard, reason };
        let pulse = Arc::new(Pulse::new(shard));
        let shard_pulse = Arc::clone(&pulse);
        let settings = settings.clone();
        let (tell, told) = bounded(2);
        let thread = std::thread::Builder::new().name(format!("shard-{shard}"));
        let handle = thread
            .spawn(move || {
                let executor = builder(&place, &settings).make();
                let executor = executor.map_err(|error| refused(error.to_string()))?;
                let _ = tell.send(());
                executor.run(async move {
                    let _ = tell.send(());
                    run(place, shard_pulse, main).await
                })
            })
            .map_err(|error| refused(error.to_string()))?;
        wait_for_first_poll(&handle, &told).map_err(|error| refused(error.to_string()))?;
        Ok(ShardThread {
            shard,
            pulse,
            handle,
        })
    }

    /// The shard's pulse, for the watchdog and for metrics.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Waits for its end. Blocks the calling thread, which is not a shard's.
    pub fn join(self) -> Result<T, ShardError> {
        let shard = self.shard;
        self.handle.join().unwrap_or_else(|_panic| {
            Err(ShardError::Executor {
                shard,
                reason: "its thread panicked".into(),
            })
        })
    }
}

fn builder(place: &ShardPlace, settings: &ExecutorSettings) -> LocalExecutorBuilder {
    let builder = LocalExecutorBuilder::new(Placement::Fixed(place.cpu))
        .preempt_timer(settings.preempt_timer)
        .io_memory(settings.io_memory_bytes)
        .ring_depth(settings.ring_depth)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(settings.blocking_threads));
    if settings.spin_before_park.is_zero() {
        builder
    } else {
        builder.spin_before_park(settings.spin_before_park)
    }
}

async fn run<T: Send + 'static, F: Future<Output = T> + 'static>(
    place: ShardPlace,
    pulse: Arc<Pulse>,
    main: impl FnOnce(GlommioEnv) -> F + Send + 'static,
) -> Result<T, ShardError> {
    if let Err(error) = free_io_workers(place.cpu, &place.allowed_cpus) {
        tracing::warn!(
            shard = place.shard.0, %error,
            "the kernel's I/O workers stay on the shard's CPU (io_uring register_iowq_aff); syncs may be slow"
        );
    }
    if let Err(error) = ask_for_long_slice() {
        tracing::debug!(shard = place.shard.0, %error, "no long time slice (sched_setattr)");
    }
    offer_kick(&pulse);
    let ShardPlace {
        shard, directory, ..
    } = place;
    // Supervised from its first await on: what the watchdog cannot see it cannot wake.
    let seen = Arc::clone(&pulse);
    let whole = async move {
        let env = GlommioEnv::start(seen, &directory)
            .await
            .map_err(|source| ShardError::Directory {
                shard,
                directory,
                source,
            })?;
        Ok(main(env).await)
    };
    let result = supervise(Arc::clone(&pulse), "shard", OnPanic::StopProcess, whole)
        .await
        .expect("a panic of this task stops the process");
    // The waker must not outlive the executor.
    pulse.set_kick(None);
    result
}

/// Starts the task whose waker the watchdog uses: a raw one of the executor's.
fn offer_kick(pulse: &Arc<Pulse>) {
    let mut pulse = Some(Arc::clone(pulse));
    glommio::spawn_local(poll_fn(move |context| {
        if let Some(pulse) = pulse.take() {
            pulse.set_kick(Some(context.waker().clone()));
        }
        Poll::<()>::Pending
    }))
    .detach();
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::affinity::allowed_cpus;
    use super::super::testing::{place, run_shard, scratch, settings};
    use super::*;
    use crate::env::{Env, Queue};

    #[test]
    fn a_shard_is_pinned_and_its_blocking_pool_is_not() {
        let (own, pool) = run_shard(|_env| async {
            let own = allowed_cpus().unwrap();
            let pool = glommio::executor()
                .spawn_blocking(|| allowed_cpus().unwrap())
                .await;
            (own, pool)
        });
        assert_eq!(own.len(), 1);
        assert_eq!(pool, allowed_cpus().unwrap());
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_told() {
        let nowhere = place(3, Path::new("/nonexistent/data"));
        let started = ShardThread::start(nowhere, &settings(), |_env| async {});
        let error = started.unwrap().join().unwrap_err().to_string();
        assert!(
            error.contains("shard 3") && error.contains("/nonexistent/data"),
            "{error}"
        );
    }

    /// Set in the child process of the test below.
    const CHILD: &str = "MILLRACE_TEST_PANICS";

    #[test]
    fn a_panic_that_matters_stops_the_process_at_once() {
        if std::env::var_os(CHILD).is_some() {
            run_shard(|env| async move {
                let panics = async { panic!("on purpose") };
                env.spawn(Queue::Requests, "owner", OnPanic::StopProcess, panics)
                    .await
            });
            unreachable!("the process has stopped");
        }
        use std::os::unix::process::ExitStatusExt;
        let name = "runtime::executor::tests::a_panic_that_matters_stops_the_process_at_once";
        let directory = scratch();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .current_dir(directory.path());
        let output = child.output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    }
}
