//! The kernel that the simulators of consensus and membership share: virtual time, an event heap,
//! keyed draws, a network, faults as data, shrinking, and running many seeds. Here is mechanism
//! only: nothing of Raft or SWIM, and no judgement of what a correct run is. For tests alone.
//!
//! A run is a function of its seed, its plan of faults and the code. Nothing in it reads a real
//! clock, a random device or the order of a hash map; [`runner`] and `cli` (a feature), which look at
//! runs from outside, are the only modules that know threads and real time.
//!
//! A simulator owns a world of its own and drives it like this:
//!
//! ```
//! use simulation::{Events, LinkModel, Network, Seed, Time};
//! use std::time::Duration;
//!
//! let seed = Seed(7);
//! let mut network = Network::new(seed, 2, LinkModel::perfect(Duration::from_millis(1)));
//! let mut events = Events::new();
//! for arrival in network.route(Time::ZERO, 0, 1, 64) {
//!     events.push(arrival, "hello");
//! }
//! assert_eq!(events.pop(), Some((Time(1_000_000), "hello")));
//! assert_eq!(events.pop(), None);
//! ```

#[cfg(feature = "cli")]
pub mod cli;
mod draw;
mod events;
mod faults;
mod hash;
mod network;
mod panics;
mod plan;
pub mod regression;
pub mod runner;
mod shrink;
mod simulator;
mod time;

pub use draw::{Draws, Seed};
pub use events::Events;
pub use faults::{DiskFault, Fault, Node, Timed};
pub use hash::{StableHasher, hash_of};
pub use network::{Arrivals, LinkModel, Network, Traffic};
pub use plan::{MAX_DRIFT_PPM, MAX_OFFSET, Mix, Plan, UnknownMix};
pub use regression::{Regression, RegressionError};
pub use runner::{Outcome, Summary, Violation, run_seeds, seeds_from_environment};
pub use shrink::shrink;
pub use simulator::{Scenario, Simulator, run_once, run_twice};
pub use time::Time;
