//! One core's world. A shard is a pinned thread with its own executor, memory, journal, partitions
//! and connections; this crate is everything it stands on, from the environment (time, disk,
//! spawning: production on glommio, or a seeded simulation) through the journal and the segments up
//! to the partition log and the mesh that joins shards. Everything here runs on a shard's core and
//! never blocks it, takes no lock, and shares nothing with other shards except by message. It knows
//! nothing of sockets' protocols, topics' names in requests or configuration files: that is
//! `server/`.

pub mod directory;
pub mod env;
pub mod error;
pub mod journal;
pub mod local;
pub mod log;
pub mod mesh;
pub mod metrics;
mod missing;
pub mod relayout;
pub mod ring;
pub mod runtime;
pub mod segment;
pub mod shard;

mod housekeeping;
#[cfg(test)]
mod power_loss;
mod recovery;
