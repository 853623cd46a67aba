//! Raft, told in scenes: scripts with a handful of replicas, and what they do step by step. Read from
//! top to bottom, elections first, they are an introduction to the protocol and to what this crate
//! adds to it.

mod actor;
mod damage;
mod elections;
mod in_sync;
mod membership;
mod quiescence;
mod reads;
mod replication;
mod stage;
mod transfer;
mod wording;
