//! One measurement at a time, on a pinned thread of its own, while the calling thread shows how far
//! it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

use super::LimitsError;
use crate::cpu::pin_current_thread;
use crate::progress::Progress;

/// How often the waiting thread shows something and asks whether to stop: seldom enough not to
/// disturb what is measured beside it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The share of a measurement's time that it may warm up before.
const WARM_UP_SHARE: u32 = 10;

/// How much longer a measurement may take that has not counted anything when its time is up: one
/// piece of work on a slow disk, or on a machine that is busy otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs measurements in turn.
pub(super) struct Stages<'a> {
    progress: &'a mut dyn Progress,
    stop: AtomicBool,
    each: Duration,
}

impl<'a> Stages<'a> {
    pub(super) fn new(progress: &'a mut dyn Progress, each: Duration) -> Stages<'a> {
        Stages {
            progress,
            stop: AtomicBool::new(false),
            each,
        }
    }

    /// Measures one thing on `cpu`. Nothing, if somebody has wished to stop before it.
    pub(super) fn measure<T: Send>(
        &mut self,
        what: &str,
        cpu: usize,
        work: impl FnOnce(&Clock<'_>) -> Result<T, LimitsError> + Send,
    ) -> Result<Option<T>, LimitsError> {
        let each = self.each;
        let work = |stop: &AtomicBool| work(&Clock { each, stop });
        self.run(what, each + each / WARM_UP_SHARE, cpu, work)
    }

    /// Runs `work` on `cpu`, which will take about as long as expected and end soon once the flag is
    /// set. Nothing, if somebody has wished to stop before it.
    pub(super) fn run<T: Send>(
        &mut self,
        what: &str,
        expected: Duration,
        cpu: usize,
        work: impl FnOnce(&AtomicBool) -> Result<T, LimitsError> + Send,
    ) -> Result<Option<T>, LimitsError> {
        if self.progress.stopped() {
            return Ok(None);
        }
        self.progress.begin(what);
        let (ended, end) = channel::<()>();
        let stop = &self.stop;
        let result = scope(|threads| {
            let pinned = move || {
                // Dropped when this ends, in whichever way.
                let _ended = ended;
                pin_current_thread(cpu)?;
                work(stop)
            };
            let thread = Builder::new().name("limits".into());
            let thread = thread
                .spawn_scoped(threads, pinned)
                .map_err(LimitsError::Thread)?;
            let began = Instant::now();
            while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(LOOK_EVERY) {
                let done = began.elapsed().as_secs_f64() / expected.as_secs_f64();
                self.progress.tick(done.min(1.0));
                if self.progress.stopped() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        self.progress.finished();
        result.map(Some)
    }
}

/// How long to measure.
pub(super) struct Clock<'a> {
    each: Duration,
    stop: &'a AtomicBool,
}

impl<'a> Clock<'a> {
    /// To be called when everything is ready to be measured.
    pub(super) fn start(&self) -> Window<'a> {
        let from = Instant::now() + self.each / WARM_UP_SHARE;
        Window {
            from,
            until: from + self.each,
            stop: self.stop,
        }
    }
}

/// When to measure: after a warm-up, until the time is up or somebody wishes to stop.
pub(super) struct Window<'a> {
    from: Instant,
    until: Instant,
    stop: &'a AtomicBool,
}

/// Where in its window a measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing counts yet.
    WarmUp,
    /// Everything counts.
    Measure,
    /// It is time to end.
    Over,
}

impl Window<'_> {
    /// Where it is, if so much was counted until now.
    pub(super) fn phase(&self, now: Instant, counted: u64) -> Phase {
        let late = counted == 0 && now < self.until + PATIENCE;
        if (now >= self.until && !late) || self.stop.load(Ordering::Relaxed) {
            Phase::Over
        } else if now < self.from {
            Phase::WarmUp
        } else {
            Phase::Measure
        }
    }

    /// What so many of something, counted while measuring until `now`, are in a second; 0 if the
    /// measuring had not begun.
    pub(super) fn per_second(&self, count: u64, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.from).as_secs_f64();
        if seconds > 0.0 {
            count as f64 / seconds
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_warms_up_measures_and_ends() {
        let stop = AtomicBool::new(false);
        let second = Duration::from_secs(1);
        let clock = Clock {
            each: second,
            stop: &stop,
        };
        let window = clock.start();
        let from = window.from;
        assert_eq!(window.phase(from - second / 100, 0), Phase::WarmUp);
        assert_eq!(window.phase(from, 0), Phase::Measure);
        assert_eq!(window.phase(from + second, 1), Phase::Over);
        assert_eq!(window.phase(from + second, 0), Phase::Measure);
        assert_eq!(window.phase(from + second + PATIENCE, 0), Phase::Over);
        assert_eq!(window.per_second(10, from + second / 2), 20.0);
        assert_eq!(window.per_second(10, from - second / 20), 0.0);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(window.phase(from, 0), Phase::Over);
    }
}
