//! What a person at a terminal sees of a run while it lasts, and how they end it early.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Told how far a run has come, asked whether it should go on. A run calls it several times a
/// second from the thread that waits for it, never from one that measures.
pub trait Progress {
    /// A new piece of work begins.
    fn begin(&mut self, what: &str);
    /// How much of it is done, 0 to 1.
    fn tick(&mut self, done: f64);
    /// It is done, or given up.
    fn finished(&mut self);
    /// Whether somebody wants an end. Once true, it stays true.
    fn stopped(&self) -> bool;
}

/// Shows nothing, never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _what: &str) {}
    fn tick(&mut self, _done: f64) {}
    fn finished(&mut self) {}
    fn stopped(&self) -> bool {
        false
    }
}

/// A line with a bar on standard error; nothing at all if that is not a terminal.
#[derive(Debug)]
pub struct Terminal {
    stop: Arc<AtomicBool>,
    bar: Option<ProgressBar>,
    shown: bool,
}

/// Steps of a bar: finer than any terminal is wide.
const STEPS: u64 = 1000;

impl Terminal {
    /// One that reports as stopped once the flag is set (see [`stop_on_signals`]).
    #[must_use]
    pub fn new(stop: Arc<AtomicBool>) -> Terminal {
        Terminal {
            stop,
            bar: None,
            shown: io::stderr().is_terminal(),
        }
    }
}

impl Progress for Terminal {
    fn begin(&mut self, what: &str) {
        self.finished();
        if !self.shown {
            return;
        }
        let style = ProgressStyle::with_template("{bar:24} {percent:>3} %  {msg}");
        let style = style.expect("the template is well formed");
        let bar = ProgressBar::new(STEPS).with_style(style);
        bar.set_message(what.to_owned());
        self.bar = Some(bar);
    }

    fn tick(&mut self, done: f64) {
        if let Some(bar) = &self.bar {
            bar.set_position((done.clamp(0.0, 1.0) * STEPS as f64) as u64);
        }
    }

    fn finished(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.finished();
    }
}

/// A flag that the first Ctrl-C or SIGTERM sets, so that the run ends and reports what it has. A
/// second one ends the process at once.
pub fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset, and sets it.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_stops_the_run_not_the_process() {
        let stop = stop_on_signals().unwrap();
        let mut terminal = Terminal::new(stop);
        terminal.begin("work");
        terminal.tick(0.5);
        assert!(!terminal.stopped());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(terminal.stopped());
        terminal.finished();
    }
}
