//! Real executors for tests.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use millrace_wire::ids::ShardId;

use super::affinity::{allowed_cpus, choose_cpus};
use super::executor::{ExecutorSettings, ShardPlace, ShardThread};
use super::watchdog::{DEFAULT_PERIOD, Watchdog};
use crate::env::glommio::GlommioEnv;

/// A directory on the file system of the build, which does `O_DIRECT`; the system's own temporary
/// one may be in memory.
pub(crate) fn scratch() -> tempfile::TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
}

/// Settings small enough for any machine that builds the project.
pub(crate) fn settings() -> ExecutorSettings {
    ExecutorSettings {
        io_memory_bytes: 1 << 20,
        ring_depth: 128,
        ..ExecutorSettings::default()
    }
}

/// A place for shard `number`, on any CPU.
pub(crate) fn place(number: u16, directory: &Path) -> ShardPlace {
    let cpus = choose_cpus(None).unwrap();
    ShardPlace {
        shard: ShardId(number),
        cpu: cpus[usize::from(number) % cpus.len()],
        allowed_cpus: allowed_cpus().unwrap(),
        directory: directory.to_owned(),
    }
}

/// Runs one shard to the end of its main task, which has a minute.
pub(crate) fn run_shard<T: Send + 'static, F: Future<Output = T> + 'static>(
    main: impl FnOnce(GlommioEnv) -> F + Send + 'static,
) -> T {
    let directory = scratch();
    let main = |env| async move {
        let timeout =
            glommio::timer::timeout(Duration::from_secs(60), async move { Ok(main(env).await) });
        timeout.await.expect("the test did not end within a minute")
    };
    let thread = ShardThread::start(place(0, directory.path()), &settings(), main).unwrap();
    let _watchdog = Watchdog::start(vec![thread.pulse()], DEFAULT_PERIOD).unwrap();
    thread.join().unwrap()
}
