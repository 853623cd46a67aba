//! What crosses a socket: ids and error codes, frames, record batches, the messages of the
//! native protocol in both of its formats, Kafka's messages, and the rule that gives a key its
//! partition. Runs on any thread; it does no I/O, keeps no clock and knows no other crate of the
//! workspace. Everything that parses here parses bytes from outside:
//! lengths are checked against what remains before anything is allocated.

pub mod batch;
pub mod error;
pub mod frame;
pub mod ids;
pub mod kafka;
pub mod native;
pub mod partitioning;
