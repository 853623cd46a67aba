//! The tokio face: what users hold. It moves bytes and time between sockets and [`crate::core`],
//! which decides; it never decides itself. Runs on the user's tokio runtime, as one driver task per
//! client, which keeps time, and one task per connection.

#[macro_use]
mod admin;
mod client;
mod connection;
mod consumer;
mod delivery;
mod group_admin;
mod group_consumer;
mod producer;
mod shared;

pub use admin::{
    Admin, ConfigChange, CreatedTopic, DeletedRecords, ListedOffset, NewTopic, OffsetQuery, Pong,
};
pub use client::Client;
pub use consumer::Consumer;
pub use delivery::Delivery;
pub use group_admin::OffsetOutcome;
pub use group_consumer::GroupConsumer;
pub use producer::Producer;
