//! The native face: from frames to calls on the broker and back. [`session`] is one connection's
//! decisions (which requests are under way, what is answered, when the connection ends) without its
//! socket, so that the simulation can run it; [`handshake`] is how a connection begins, [`handoff`]
//! how it moves to another shard. What it has in common with the Kafka face is in `session`.
//!
//! Runs on the shard that owns the connection. It decides nothing about topics and partitions (the
//! broker does) and never touches a socket (`listen` does).

mod answer;
pub(crate) mod framing;
mod groups;
pub mod handoff;
pub mod handshake;
mod members;
mod produce;
pub mod session;
