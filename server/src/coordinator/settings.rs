//! What an operator may set of groups.

use std::time::Duration;

use super::group::GroupRules;

/// Settings of all coordinators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Partitions of `__groups`; counts when the topic is created, with the first group.
    pub partitions: u32,
    /// How long the first rebalance of an empty group of native consumers waits for more. Native
    /// members have their partitions soon, and those that come later are given theirs without stopping
    /// the others, so there is little to be won by waiting.
    pub native_initial_delay_ms: u32,
    /// What bounds a group.
    pub rules: GroupRules,
    /// How often offsets are looked at that may have to go.
    pub expiration_interval: Duration,
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            partitions: 50,
            native_initial_delay_ms: 100,
            rules: GroupRules {
                min_session_timeout_ms: 6_000,
                max_session_timeout_ms: 1_800_000,
                max_size: 10_000,
                offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
                offset_metadata_max_bytes: 4096,
            },
            expiration_interval: Duration::from_secs(600),
        }
    }
}
