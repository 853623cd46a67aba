//! The Rust client of Millrace, on tokio.
//!
//! [`Client::connect`] opens the first connection; from it come an [`Admin`] (topics and their
//! configuration), any number of [`Producer`]s, [`Consumer`]s and [`GroupConsumer`]s (which share the
//! partitions of their topics with the other members of their group). All of them share one
//! connection to each shard of the broker that they need, and one task that drives them.
//!
//! Two layers. [`core`] decides everything (batching, routing, retries, metadata, prefetch) as a
//! state machine that does no I/O, keeps no clock and draws no randomness of its own, so that a
//! simulator can run it. The tokio face around it, private to this crate, moves bytes and time and
//! decides nothing. Neither ever runs on a shard of a broker.
//!
//! ```no_run
//! # async fn run() -> Result<(), millrace_client::ClientError> {
//! use millrace_client::{Client, ClientConfig, ConsumerConfig, ProducerConfig, Record, Start};
//! use std::time::Duration;
//!
//! let client = Client::connect(ClientConfig::new(["127.0.0.1:9092"])).await?;
//!
//! let producer = client.producer(ProducerConfig::default())?;
//! let delivery = producer.send(Record::new("clicks", "hello").key("user-7")).await?;
//! println!("stored at {:?}", delivery.await?);
//! producer.close().await?;
//!
//! let mut consumer = client.consumer(ConsumerConfig::default())?;
//! consumer.assign(&[("clicks", 0, Start::Earliest)]).await?;
//! for record in consumer.poll(Duration::from_secs(1)).await? {
//!     println!("{} {:?}", record.offset, record.value);
//! }
//! # Ok(())
//! # }
//! ```

mod config;
pub mod core;
mod error;
mod face;
mod group;
mod record;

pub use config::{
    Acks, ClientConfig, Compression, ConsumerConfig, OutOfRange, ProducerConfig, Start,
    UnknownOutcome,
};
pub use core::BrokerInfo;
pub use error::ClientError;
pub use face::{
    Admin, Client, ConfigChange, Consumer, CreatedTopic, DeletedRecords, Delivery, GroupConsumer,
    ListedOffset, NewTopic, OffsetOutcome, OffsetQuery, Pong, Producer,
};
pub use group::{
    Assignor, GroupConfig, GroupEvent, GroupOffset, OffsetReset, Subscription, TopicPartition,
};
pub use millrace_wire::error::{ErrorCode, WireError};
pub use millrace_wire::native::messages;
pub use record::{ConsumedRecord, Header, Record, RecordPlace};
