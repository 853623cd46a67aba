use std::cell::Cell;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::*;
use crate::cpu::{RequestedCpus, allowed_cpus};
use crate::progress::Silent;
use crate::report::model::Latency;

/// A directory on the file system of the build, which does `O_DIRECT`; the system's own temporary
/// one may be in memory.
fn scratch() -> tempfile::TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
}

/// Short ones. None where there is but one CPU, on which there are no limits to measure.
fn settings(directory: &Path) -> Option<LimitsSettings> {
    let cpus = CpuPlan::choose(&allowed_cpus().unwrap(), RequestedCpus::default()).ok()?;
    let mut settings = LimitsSettings::new(directory.to_owned(), cpus);
    settings.seconds_each = Duration::from_millis(50);
    settings.write_file_bytes = 8 << 20;
    settings.read_file_bytes = 8 << 20;
    Some(settings)
}

/// One test at a time: they spin on the same CPUs.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn files_in(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

fn assert_sane(times: &Latency) {
    assert!(times.count > 0, "{times:?}");
    assert!(times.p50 > 1_000, "faster than a system call: {times:?}");
    assert!(
        times.p50 <= times.p99 && times.p99 <= times.max,
        "{times:?}"
    );
}

#[test]
fn every_limit_has_a_figure_and_no_file_is_left() {
    let _alone = alone();
    let directory = scratch();
    let Some(settings) = settings(directory.path()) else {
        return;
    };
    let limits = measure(&settings, &mut Silent).unwrap();
    assert_sane(&limits.loopback_round_trip);
    let loads = limits.echo.iter();
    let loads = loads.map(|echo| (echo.connections, echo.in_flight));
    assert!(loads.eq([(1, 1), (64, 4)]));
    for echo in &limits.echo {
        assert_sane(&echo.latency);
        assert!(echo.round_trips > 0.0, "{echo:?}");
        // Little's law: what is in flight is the rate times how long each takes.
        let in_flight = echo.round_trips * echo.latency.mean / 1e9;
        let most = (echo.connections * echo.in_flight) as f64;
        assert!(in_flight <= 1.3 * most, "{in_flight} in flight: {echo:?}");
    }
    let sizes = limits.durable_writes.iter().map(|write| write.bytes);
    assert!(sizes.eq(WRITE_BYTES.into_iter().flat_map(|bytes| [bytes, bytes])));
    for write in &limits.durable_writes {
        assert_sane(&write.latency);
        assert!(write.throughput > write.bytes as f64, "{write:?}");
    }
    let reads = limits.direct_reads.iter();
    assert!(reads.clone().all(|read| read.throughput > 1e6));
    assert_eq!(reads.count(), 6);
    for rate in [
        limits.loopback_stream,
        limits.memory_copy,
        limits.crc32c,
        limits.crc32,
    ] {
        assert!(rate > 1e5, "{limits:?}");
    }
    assert_eq!(files_in(directory.path()), 0);
}

/// Stops at the stage of this number.
struct StopAt {
    stage: usize,
    begun: Cell<usize>,
}

impl Progress for StopAt {
    fn begin(&mut self, _what: &str) {
        self.begun.set(self.begun.get() + 1);
    }
    fn tick(&mut self, done: f64) {
        assert!((0.0..=1.0).contains(&done));
    }
    fn finished(&mut self) {}
    fn stopped(&self) -> bool {
        self.begun.get() >= self.stage
    }
}

#[test]
fn a_wish_to_stop_ends_it_with_what_there_is() {
    let _alone = alone();
    let directory = scratch();
    let Some(settings) = settings(directory.path()) else {
        return;
    };
    let mut stop = StopAt {
        stage: 4,
        begun: Cell::new(0),
    };
    let limits = measure(&settings, &mut stop).unwrap();
    assert!(limits.loopback_stream > 0.0 && limits.echo[0].round_trips > 0.0);
    assert!(limits.durable_writes.is_empty() && limits.crc32 == 0.0);
    assert_eq!(stop.begun.get(), 4);
    assert_eq!(files_in(directory.path()), 0);
}

#[test]
fn a_wish_to_stop_cuts_a_long_stage_short() {
    let _alone = alone();
    let directory = scratch();
    let Some(mut settings) = settings(directory.path()) else {
        return;
    };
    settings.seconds_each = Duration::from_secs(600);
    let mut stop = StopAt {
        stage: 1,
        begun: Cell::new(0),
    };
    let began = Instant::now();
    measure(&settings, &mut stop).unwrap();
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_data_directory_that_cannot_be_used_is_told() {
    let _alone = alone();
    let nowhere = Path::new("/nonexistent/data");
    let Some(settings) = settings(nowhere) else {
        return;
    };
    let error = measure(&settings, &mut Silent).unwrap_err().to_string();
    assert!(
        error.contains("/nonexistent/data") && error.contains("must exist"),
        "{error}"
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let good = LimitsSettings::new(
        "/nonexistent/data".into(),
        CpuPlan {
            generator: 1,
            broker: 0,
        },
    );
    let refused = |change: fn(&mut LimitsSettings)| {
        let mut settings = good.clone();
        change(&mut settings);
        let error = settings.check().unwrap_err();
        error.to_string()
    };
    assert!(good.check().is_ok());
    assert!(refused(|bad| bad.cpus.broker = 1).contains("two different CPUs"));
    assert!(refused(|bad| bad.seconds_each = Duration::ZERO).contains("seconds_each is 0ns"));
    assert!(refused(|bad| bad.read_file_bytes = 4096).contains("at least 4 MiB"));
    assert!(refused(|bad| bad.echo_message_bytes = 0).contains("from 1 byte"));
    assert!(refused(|bad| bad.echo_loads = vec![(0, 1)]).contains("(0, 1)"));
    assert!(refused(|bad| bad.echo_loads = vec![(1, 65)]).contains("1 to 64 messages"));
}
