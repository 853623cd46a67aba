//! The load generator. It runs on one thread of its own, on a ring of its own, and knows neither
//! topics' names nor where a report goes: it is given connections to make and what to send over
//! them ([`Load`]), and returns what it measured ([`LoadResult`]).
//!
//! - `schedule`: when requests are due; `batches`: what they carry.
//! - `pacing`: connections that ask at a pace, and what they ask: `producing`, `grouping`.
//!   `fetching`: those that read. All without I/O.
//! - `sharing`: which connection has which partitions.
//! - `connection`, `walker`: bytes to answers. `ring`, `buffers`: the only unsafe code.
//! - `engine`: the loop over all of these.

mod batches;
mod buffers;
mod connection;
mod engine;
mod fetching;
mod grouping;
mod pacing;
mod producing;
mod ring;
mod schedule;
mod sharing;
mod walker;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

pub use batches::{BatchShape, RecordSize};
pub use fetching::{AtEnd, FetchPlan, Timed};
pub use grouping::{GroupCalls, GroupPlan, MOST_MEMBERS_OF_CONNECTION};
pub use pacing::{Cargo, Pace, PacedPlan};
pub use producing::ProducePlan;
pub use schedule::{Arrivals, Random, Schedule};

use crate::protocol::{Place, ProtocolError, ProtocolName};
use crate::report::model::{GeneratorUse, SeriesResult};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Load {
    /// The broker.
    pub address: SocketAddr,
    /// What is spoken.
    pub protocol: ProtocolName,
    /// Topics, by their index.
    pub topics: Vec<String>,
    /// Their partitions.
    pub places: Vec<Place>,
    /// Producers, or groups.
    pub paced: Option<PacedPlan>,
    /// Groups of consumers.
    pub fetching: Vec<FetchPlan>,
    /// How long nothing is recorded.
    pub warm_up: Duration,
    /// How long is measured.
    pub duration: Duration,
    /// How long answers are waited for after that.
    pub drain: Duration,
    /// What the loop does while there is nothing to do.
    pub waiting: Waiting,
}

/// What a generator does while there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// It asks the kernel again and again: the most exact, for a CPU of its own.
    Spin,
    /// It sleeps until something comes or is nearly due: for a machine that shares its CPUs, where
    /// time spent asking may be taken from the broker.
    #[default]
    Sleep,
}

impl Load {
    /// Number and size of the buffers that the kernel receives into: large answers want large ones,
    /// all together should stay in a cache.
    fn receive_buffers(&self) -> (u16, u32) {
        let large = self.fetching.iter().any(|plan| plan.max_bytes >= 64 << 10);
        if large {
            (64, 64 << 10)
        } else {
            (1024, 4 << 10)
        }
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct LoadResult {
    /// How long was measured.
    pub seconds: f64,
    /// Every series.
    pub series: Vec<SeriesResult>,
    /// How busy the generator was.
    pub generator: GeneratorUse,
    /// Whether it ran as long as it should.
    pub complete: bool,
    /// Whether it was given up because the broker was hopelessly behind the schedule.
    pub overloaded: bool,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The generator's own ring failed.
    #[error(
        "the generator's io_uring failed: {0}; it needs Linux 6.1 or newer and io_uring allowed"
    )]
    Ring(std::io::Error),
    /// A connection was lost in the middle.
    #[error("a connection was lost: {0}; the broker's log may say why")]
    Lost(String),
    /// Groups went on sharing out their partitions.
    #[error("after {0:?} some groups still wait for members; try fewer members, or smaller groups")]
    Unsettled(Duration),
    /// It was stopped before it had begun.
    #[error("stopped before anything was measured")]
    Stopped,
    /// The broker could not be talked to.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Where a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Connecting.
    Connecting,
    /// Sending, recording nothing.
    WarmUp,
    /// Recording.
    Measuring,
    /// Waiting for the last answers.
    Draining,
    /// Done.
    Done,
}

const PHASES: [Phase; 5] = [
    Phase::Connecting,
    Phase::WarmUp,
    Phase::Measuring,
    Phase::Draining,
    Phase::Done,
];

/// What others see of a load, and how they stop it.
#[derive(Debug, Default)]
pub struct Control {
    stopped: AtomicBool,
    phase: AtomicU8,
}

impl Control {
    /// Ends the load soon; it reports what it has.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Where the load is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::Acquire)).min(PHASES.len() - 1)]
    }

    /// Notes where the load is; tells whether that is new.
    fn enter(&self, phase: Phase) -> bool {
        self.phase.swap(phase as u8, Ordering::AcqRel) != phase as u8
    }
}

/// Puts a load on, on the calling thread.
pub fn run(load: &Load, control: &Control) -> Result<LoadResult, LoadError> {
    engine::Engine::start(load, control)?.run(load)
}
