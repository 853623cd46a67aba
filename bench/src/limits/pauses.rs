//! The pauses of the machine itself: a thread looks at the clock, over and over, while the disk is at
//! work. On a machine of one's own it is never late by much. A virtual one may be held back as a
//! whole, by turns, for as long as its CPUs and its disk together take more than it is given; that is
//! then in the tail of whatever is measured there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::LimitsError;
use super::disk::{Pattern, WrittenFile};
use super::stage::{Clock, Phase};
use crate::cpu::{CpuPlan, pin_current_thread};
use crate::record::{histogram, latency};
use crate::report::model::Latency;

/// A moment each so often, whose lateness is noted.
const EVERY: Duration = Duration::from_micros(10);

/// What the disk does meanwhile.
const WRITES: Pattern = Pattern {
    bytes: 4 << 10,
    depth: 1,
};

/// Runs on the broker's CPU, with a thread on the generator's.
pub(super) fn beside(
    clock: &Clock<'_>,
    file: &WrittenFile,
    cpus: CpuPlan,
) -> Result<Latency, LimitsError> {
    let over = AtomicBool::new(false);
    scope(|threads| {
        let watch = || {
            pin_current_thread(cpus.generator)?;
            Ok(watch(clock, &over))
        };
        let watching = Builder::new().name("limits-clock".into());
        let watching = watching
            .spawn_scoped(threads, watch)
            .map_err(LimitsError::Thread)?;
        // The kernel's workers stay here: the other CPU is never free.
        let written = file.writes(clock, WRITES, cpus.broker);
        over.store(true, Ordering::Relaxed);
        let watched = watching
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(watched)
    })
}

/// How late each moment was seen, until the time is up or the other thread is done.
fn watch(clock: &Clock<'_>, over: &AtomicBool) -> Latency {
    let mut late: Histogram<u64> = histogram();
    let window = clock.start();
    let mut due = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let now = Instant::now();
        let phase = window.phase(now, late.len());
        if phase == Phase::Over {
            break;
        }
        // A pause is charged to all the moments in it.
        while due <= now {
            if phase == Phase::Measure {
                let nanos = now.duration_since(due).as_nanos();
                late.saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX));
            }
            due += EVERY;
        }
    }
    latency(&late)
}
