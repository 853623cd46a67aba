//! Kafka's protocol: what tells its requests apart, and how each is read and written (protocol guide;
//! the messages' schemas are part of Apache Kafka's sources).
//!
//! - [`RequestHead`] is what every request begins with; [`SERVED`] says which requests there are here
//!   and in which versions.
//! - Produce and Fetch are the hot path and written by hand: read in place without allocating
//!   ([`ProduceRequest`], [`FetchRequest`]), answered around record batches that stay where they are
//!   ([`ProduceResponseWriter`], [`write_fetch_response`]).
//! - [`client`] is the same from the other end, for those who put a load on a broker.
//! - [`consumer_protocol`] is what the members of a consumer group tell each other through the broker.
//! - Everything else goes through [`control`]: owned messages of the crate `kafka-protocol`, which sees
//!   bytes from a network only after a guard of ours has found every length in them to be true.
//!
//! Runs on any thread and does no I/O. Lengths are checked against what remains before anything is
//! allocated by them.

mod api;
pub mod client;
pub mod consumer_protocol;
pub mod control;
mod fetch;
mod guard;
mod head;
mod produce;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use api::{ApiKey, DECLINED, SERVED, Versions};
pub use fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition, FetchedTopic,
    ForgottenTopic, Sink, write_fetch_response,
};
pub use head::RequestHead;
pub use produce::{
    ProducePartition, ProduceRequest, ProduceResponseWriter, ProduceTopic, ProducedPartition,
};
pub use read::DecodeError;
