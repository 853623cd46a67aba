//! The tokio face: what users hold. It moves bytes and time between sockets and the core,
//! which decides; it never decides itself. Runs on the user's tokio runtime, as one driver task per
//! client and two per connection.

mod admin;
mod client;
mod consumer;
mod producer;

pub use admin::{
    Admin, ConfigChange, CreatedTopic, DeletedRecords, ListedOffset, NewTopic, OffsetQuery, Pong,
};
pub use client::{BrokerInfo, Client};
pub use consumer::Consumer;
pub use producer::{Delivery, Producer};
