//! What this machine can do, so that a figure can be read beside what bounds it: loopback TCP, a
//! bare echo on the broker's executor, durable writes and direct reads of the data directory,
//! copies and checksums.
//!
//! Each measurement runs on threads of its own, pinned to the CPUs that the generator and the
//! broker will have; the calling thread only waits, shows progress and passes on a wish to stop.
//! Nothing here speaks to a broker.

mod disk;
mod echo;
mod error;
mod loopback;
mod memory;
mod pauses;
mod ring;
mod stage;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use crate::cpu::CpuPlan;
use crate::progress::Progress;
use crate::report::model::Limits;

use disk::{LEAST_FILE_BYTES, Pattern, WrittenFile};
use echo::EchoLoad;
use stage::{Clock, Stages};

pub use error::LimitsError;

/// Bytes of an answer to a message, in the round trip and the echo.
const ANSWER_BYTES: usize = 64;

/// How the names begin of what is made in the data directory: hidden, and no topic's.
const FILE_PREFIX: &str = ".millrace-limits-";

/// Durable writes: from the smallest group of the journal to a large append.
const WRITE_BYTES: [usize; 5] = [4 << 10, 16 << 10, 128 << 10, 512 << 10, 1 << 20];
const WRITE_DEPTHS: [usize; 2] = [1, 4];

/// Direct reads, as of a segment.
const READ_BYTES: [usize; 2] = [128 << 10, 1 << 20];
const READ_DEPTHS: [usize; 3] = [1, 2, 4];

/// Bounds of an echo's load, which is memory on both sides.
const MOST_MESSAGE_BYTES: usize = 1 << 20;
const MOST_CONNECTIONS: usize = 4096;
const MOST_IN_FLIGHT: usize = 64;

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct LimitsSettings {
    /// The directory whose disk is measured: it must exist, on a file system that does `O_DIRECT`.
    /// Files made there are removed whatever happens.
    pub data_directory: PathBuf,
    /// The CPUs.
    pub cpus: CpuPlan,
    /// How long each figure is measured, after a tenth of that to warm up. There are 24 by default.
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
    /// The usual ones: 24 figures, less than 40 seconds.
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

    fn check(&self) -> Result<(), LimitsError> {
        let wrong = |name, value: &dyn std::fmt::Debug, must| {
            Err(LimitsError::Setting {
                name,
                value: format!("{value:?}"),
                must,
            })
        };
        if self.cpus.generator == self.cpus.broker {
            return wrong("cpus", &self.cpus, "two different CPUs");
        }
        if self.seconds_each.is_zero() {
            return wrong("seconds_each", &self.seconds_each, "more than nothing");
        }
        for (name, bytes) in [
            ("write_file_bytes", self.write_file_bytes),
            ("read_file_bytes", self.read_file_bytes),
        ] {
            if bytes < LEAST_FILE_BYTES {
                return wrong(name, &bytes, "at least 4 MiB");
            }
        }
        if !(1..=MOST_MESSAGE_BYTES).contains(&self.echo_message_bytes) {
            let must = "from 1 byte to 1 MiB";
            return wrong("echo_message_bytes", &self.echo_message_bytes, must);
        }
        for load @ (connections, in_flight) in &self.echo_loads {
            if !(1..=MOST_CONNECTIONS).contains(connections)
                || !(1..=MOST_IN_FLIGHT).contains(in_flight)
            {
                let must = "1 to 4096 connections with 1 to 64 messages in flight on each";
                return wrong("echo_loads", &load, must);
            }
        }
        Ok(())
    }
}

/// Measures. If `progress` says stop, what was measured until then is returned and the rest is zero
/// or missing.
pub fn measure(
    settings: &LimitsSettings,
    progress: &mut dyn Progress,
) -> Result<Limits, LimitsError> {
    settings.check()?;
    let mut limits = Limits::default();
    let mut stages = Stages::new(progress, settings.seconds_each);
    measure_loopback(settings, &mut stages, &mut limits)?;
    measure_echo(settings, &mut stages, &mut limits)?;
    measure_writes(settings, &mut stages, &mut limits)?;
    measure_reads(settings, &mut stages, &mut limits)?;
    measure_core(settings, &mut stages, &mut limits)?;
    Ok(limits)
}

fn measure_loopback(
    settings: &LimitsSettings,
    stages: &mut Stages<'_>,
    limits: &mut Limits,
) -> Result<(), LimitsError> {
    let cpus = settings.cpus;
    let round_trip = stages.measure("loopback round trip", cpus.generator, |clock| {
        loopback::round_trip(clock, cpus)
    })?;
    limits.loopback_round_trip = round_trip.unwrap_or_default();
    let stream = stages.measure("loopback stream", cpus.broker, |clock| {
        loopback::stream(clock, cpus)
    })?;
    limits.loopback_stream = stream.unwrap_or_default();
    Ok(())
}

fn measure_echo(
    settings: &LimitsSettings,
    stages: &mut Stages<'_>,
    limits: &mut Limits,
) -> Result<(), LimitsError> {
    let data = &settings.data_directory;
    let directory = tempfile::Builder::new()
        .prefix(FILE_PREFIX)
        .tempdir_in(data)
        .map_err(|source| LimitsError::File {
            what: "create a directory for",
            directory: data.clone(),
            bytes: 0,
            source,
        })?;
    for &(connections, in_flight) in &settings.echo_loads {
        let load = EchoLoad {
            connections,
            in_flight,
            message_bytes: settings.echo_message_bytes,
        };
        let what = format!("echo, {connections} connections × {in_flight}");
        let echo = stages.measure(&what, settings.cpus.generator, |clock| {
            echo::echo(clock, load, settings.cpus, directory.path())
        })?;
        limits.echo.extend(echo);
    }
    Ok(())
}

fn measure_writes(
    settings: &LimitsSettings,
    stages: &mut Stages<'_>,
    limits: &mut Limits,
) -> Result<(), LimitsError> {
    let Some(file) = written_file(settings, stages, settings.write_file_bytes)? else {
        return Ok(());
    };
    for pattern in patterns(&WRITE_BYTES, &WRITE_DEPTHS) {
        let what = format!("durable writes, {pattern}");
        let writes = stages.measure(&what, settings.cpus.broker, |clock| {
            file.writes(clock, pattern, settings.cpus.generator)
        })?;
        limits.durable_writes.extend(writes);
    }
    let pauses = stages.measure(
        "pauses beside durable writes",
        settings.cpus.broker,
        |clock| pauses::beside(clock, &file, settings.cpus),
    )?;
    limits.pauses = pauses.unwrap_or_default();
    Ok(())
}

fn measure_reads(
    settings: &LimitsSettings,
    stages: &mut Stages<'_>,
    limits: &mut Limits,
) -> Result<(), LimitsError> {
    let Some(file) = written_file(settings, stages, settings.read_file_bytes)? else {
        return Ok(());
    };
    for pattern in patterns(&READ_BYTES, &READ_DEPTHS) {
        let what = format!("direct reads, {pattern}");
        let reads = stages.measure(&what, settings.cpus.broker, |clock| {
            file.reads(clock, pattern, settings.cpus.generator)
        })?;
        limits.direct_reads.extend(reads);
    }
    Ok(())
}

fn measure_core(
    settings: &LimitsSettings,
    stages: &mut Stages<'_>,
    limits: &mut Limits,
) -> Result<(), LimitsError> {
    let mut rate = |what, work: fn(&Clock<'_>) -> f64| {
        let rate = stages.measure(what, settings.cpus.broker, |clock| Ok(work(clock)))?;
        Ok::<f64, LimitsError>(rate.unwrap_or_default())
    };
    limits.memory_copy = rate("memory copy", memory::copy)?;
    limits.crc32c = rate("CRC-32C", memory::crc32c)?;
    limits.crc32 = rate("CRC-32", memory::crc32)?;
    Ok(())
}

fn written_file(
    settings: &LimitsSettings,
    stages: &mut Stages<'_>,
    bytes: u64,
) -> Result<Option<WrittenFile>, LimitsError> {
    let what = format!("a file of {} MiB", bytes >> 20);
    stages.run(&what, disk::FILL_TIME, settings.cpus.broker, |stop| {
        WrittenFile::make(
            &settings.data_directory,
            bytes,
            settings.cpus.generator,
            stop,
        )
    })
}

fn patterns(sizes: &[usize], depths: &[usize]) -> Vec<Pattern> {
    let of_size = |bytes| depths.iter().map(move |&depth| Pattern { bytes, depth });
    sizes.iter().copied().flat_map(of_size).collect()
}
