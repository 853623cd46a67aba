//! The controller: which topics exist, with how many partitions and what configuration, and which
//! producer ids are handed out. [`state`]
//! decides and is pure; [`record`] is how a decision is written down; [`driver`] makes it durable in
//! the internal partition `__controller`/0 on shard 0, applies it and tells every shard. It never
//! touches a record of a user's topic: each shard makes and removes its own partitions when it
//! hears of a change.
//!
//! Commands are taken one after the other. The answer to one is given when every shard has done its
//! part, so that a topic which was created can be used at once on every connection, and the name of
//! one which was deleted can be used again at once.

mod alike;
pub mod driver;
mod orphans;
pub mod record;
pub mod state;

use millrace_wire::ids::{PartitionId, PartitionIndex, TopicId};

/// The internal topic's name.
pub const CONTROLLER_TOPIC: &str = "__controller";

/// The partition that holds the controller's log. Its topic id is fixed, since it must be found
/// before any topic is known; it is owned by shard 0 whatever their number.
pub const CONTROLLER_PARTITION: PartitionId = PartitionId {
    topic: TopicId(1),
    partition: PartitionIndex(0),
};
