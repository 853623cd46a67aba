//! The native face: from frames to calls on the broker and back. [`session`] is one connection's
//! decisions (which requests are under way, what is answered, when the connection ends) without its
//! socket, so that the simulation can run it; [`outbox`] is what waits to be sent; [`handshake`]
//! is how a connection begins, [`handoff`] how it moves to another shard.
//!
//! Runs on the shard that owns the connection. It decides nothing about topics and partitions (the
//! broker does) and never touches a socket (`listen` does).

mod answer;
pub mod handoff;
pub mod handshake;
pub mod outbox;
mod produce;
pub mod session;
