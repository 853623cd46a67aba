//! Raft, told in scenes: scripts with a handful of replicas, and what they do step by step. Read from
//! top to bottom, elections first, they are an introduction to the protocol and to what this crate
//! adds to it.

mod actor;
mod elections;
mod replication;
mod stage;
mod wording;
