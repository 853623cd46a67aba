//! The Kafka face: from Kafka's requests to calls on the broker and back, so that clients written
//! for Kafka work unchanged. [`Session`] is one connection's decisions without its socket.
//!
//! | part | does |
//! |---|---|
//! | `session` | tells requests apart, runs them, ends connections that cannot be understood |
//! | `replies` | gives answers out in the order of their requests, as Kafka's clients assume |
//! | `turns` | begins requests about groups one after the other, as Kafka does |
//! | `produce`, `fetch`, `fetch_session` | the hot path: borrowed messages, batches moved as they are |
//! | `metadata`, `topic_partitions`, `coordinators`, `offsets`, `topics`, `configs`, `describe_configs`, `log_dirs`, `leaders`, `producer_ids` | everything else, by way of owned messages |
//! | `groups`, `group_offsets`, `group_admin` | consumer groups: their members, their offsets, their administration |
//! | `broker_settings` | the broker's own settings, under its names and Kafka's |
//! | `unserved` | requests whose time has not come: transactions |
//! | `errors` | the broker's errors in Kafka's numbers |
//!
//! Runs on the shard that accepted the connection; what belongs to other shards goes over the mesh.
//! It decides nothing about topics, partitions and groups (the broker and its coordinators do) and never
//! touches a socket (`listen` does). Which versions are served is in [`millrace_wire::kafka::SERVED`].

mod broker_settings;
mod configs;
mod coordinators;
mod describe_configs;
mod errors;
mod fetch;
mod fetch_session;
mod framing;
mod group_admin;
mod group_offsets;
mod groups;
mod leaders;
mod log_dirs;
mod metadata;
mod offsets;
mod produce;
mod producer_ids;
#[cfg(test)]
mod read_back;
mod repeated;
mod replies;
mod session;
mod topic_partitions;
mod topics;
mod turns;
mod unserved;

pub use broker_settings::BrokerSetting;
pub use session::Session;

/// What Kafka clients are told, and may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Where to connect to; none: where each client has reached the broker.
    pub host: Option<String>,
    /// The port for that.
    pub port: u16,
    /// Whether asking for the metadata of a topic that does not exist makes it.
    pub auto_create_topics: bool,
    /// How long the first rebalance of an empty group waits for more members, ms.
    pub initial_rebalance_delay_ms: u32,
    /// Every setting of this broker, as it is in force.
    pub broker: Vec<BrokerSetting>,
}
