//! What a run records while it measures, and how that becomes what a report holds: a [`Recorder`]
//! for each series, on the generator's thread, and [`statistics`] over repetitions afterwards.
//!
//! Recording an operation costs some tens of nanoseconds and allocates nothing. Nothing here reads
//! a clock: the caller says when something happened and how long it took, and leaves its warm-up
//! out.

mod distribution;
mod recorder;
pub mod statistics;
mod timeline;

pub use distribution::{LONGEST_NS, curve, histogram, latency};
pub use recorder::Recorder;
pub use statistics::{Summary, compare_pairs, median};
