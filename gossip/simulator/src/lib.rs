//! Members of the `gossip` crate in a simulated world: a network that loses, repeats, reorders and
//! cuts, nodes that crash, lose their disks, stand still and have bad clocks, somebody who replays
//! what was sent, and rules that are checked at each step and after the faults are over. And the
//! experiment that compares Lifeguard with plain SWIM.
//!
//! It never does any protocol itself: all decisions in its world are the crate's, the same code
//! that ships. Runs on any thread, one world to a thread; the same seed gives the same run.

#[cfg(test)]
mod calm;
mod check;
mod experiment;
mod operations;
mod run;
mod settings;
mod world;

pub use experiment::{Experiment, Measured, Protocol, Row, Table};
pub use run::{Flaw, GossipSimulator};
