//! Coordinators: who is in a consumer group, who reads what of it, and how far it has come. A group
//! belongs to one partition of the internal topic `__groups`, and the shard that owns that partition
//! coordinates it, on its own core. Every change is a record there, so that a restart, and later
//! another node, knows what this one knew.
//!
//! [`api`] is what the faces ask; they speak Kafka's protocol or the native one and decide nothing.
//! [`assignor`] shares out partitions for members that bring no assignor of their own.

pub mod api;
pub mod assignor;
