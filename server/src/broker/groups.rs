//! Consumer groups: whoever is asked finds the shard that coordinates the group and asks it.

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::ShardId;

use super::Broker;
use crate::coordinator::api::{GroupAnswer, GroupCall, ListedGroup};

impl<E: Env> Broker<E> {
    /// Asks a group's coordinator. The answer has the form of the request.
    pub async fn group(&self, call: GroupCall) -> Result<GroupAnswer, WireError> {
        Err(WireError::new(
            ErrorCode::CoordinatorNotAvailable,
            format!("group '{}' has no coordinator", call.group),
        ))
    }

    /// Every group of this node.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, WireError> {
        Ok(Vec::new())
    }

    /// The shard of this node that coordinates the group.
    pub fn group_coordinator(&self, group: &str) -> Result<ShardId, WireError> {
        Err(WireError::new(
            ErrorCode::CoordinatorNotAvailable,
            format!("group '{group}' has no coordinator"),
        ))
    }
}
