//! A group's settings. All replicas of a group have the same ones.

use std::time::Duration;

/// How a group behaves. [`Settings::check`] says whether they make sense together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// A follower that hears nothing from a leader for this long, and for as much of
    /// `election_spread` as chance adds, begins an election. Also how long a leader goes on without hearing from a majority, and how long votes
    /// are refused after a leader was heard (thesis, sections 4.2.3 and 6.2).
    pub election_timeout: Duration,
    /// What chance adds at most, so that two followers seldom begin at once (Raft paper, section 9.3).
    pub election_spread: Duration,
    /// How often a leader that has nothing else to say says that it is there.
    pub heartbeat_interval: Duration,
    /// After how long without an answer what is under way to a follower is sent again.
    pub resend_after: Duration,
    /// Messages with entries under way to a follower.
    pub in_flight_messages: usize,
    /// Bytes of entries under way to a follower. A larger message goes alone.
    pub in_flight_bytes: u64,
    /// Bytes of entries in one message. An entry that is longer goes alone, and what was proposed
    /// together may go together.
    pub message_bytes: u64,
    /// Bytes that may be appended and not committed: what a leader that is cut off may collect.
    pub uncommitted_bytes: u64,
    /// What acknowledged means.
    pub commit_rule: CommitRule,
    /// Voters that must be in sync for `acks=all`, the leader included.
    pub min_in_sync: usize,
    /// A replica is in sync while it had all that the leader has within this time (Kafka's
    /// `replica.lag.time.max.ms`),
    pub lag_time: Duration,
    /// and lacks at most so many entries.
    pub lag_entries: u64,
    /// How reads are made safe.
    pub reads: Reads,
    /// After how long without anything to do a group falls quiet; none: never.
    pub quiesce_after: Option<Duration>,
}

/// When an entry becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommitRule {
    /// When a majority has it durably.
    Majority,
    /// When also every voter that is in sync has it durably (Kafka's rule on top).
    InSync,
}

/// How a leader makes sure that it still leads before a read is answered (thesis, section 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reads {
    /// It asks a majority.
    Quorum,
    /// It relies on an answer of a majority that is recent enough that no other can have been elected
    /// since, if clocks differ in speed by no more than this.
    Lease {
        /// In parts of a million.
        drift_ppm: u32,
    },
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            election_timeout: Duration::from_millis(500),
            election_spread: Duration::from_millis(500),
            heartbeat_interval: Duration::from_millis(100),
            resend_after: Duration::from_millis(250),
            in_flight_messages: 256,
            in_flight_bytes: 5 << 20,
            message_bytes: 512 << 10,
            uncommitted_bytes: 64 << 20,
            commit_rule: CommitRule::Majority,
            min_in_sync: 1,
            lag_time: Duration::from_secs(10),
            lag_entries: 1_000,
            reads: Reads::Quorum,
            quiesce_after: Some(Duration::from_secs(10)),
        }
    }
}

/// Settings that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Followers would begin elections between two heartbeats.
    #[error(
        "heartbeat_interval must be at most half of election_timeout, or followers miss a leader that is there"
    )]
    Heartbeat,
    /// Nothing could be sent.
    #[error(
        "in_flight_messages, in_flight_bytes, message_bytes and uncommitted_bytes must not be 0"
    )]
    Nothing,
    /// Nothing would ever be acknowledged.
    #[error("min_in_sync counts the leader and must be at least 1")]
    InSync,
    /// A lease would never hold.
    #[error("a drift_ppm of a million or more leaves no time for a lease; use Reads::Quorum")]
    Drift,
}

impl Settings {
    /// Whether they make sense together.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.heartbeat_interval.is_zero() || self.heartbeat_interval * 2 > self.election_timeout
        {
            return Err(SettingsError::Heartbeat);
        }
        let sizes = [
            self.in_flight_bytes,
            self.message_bytes,
            self.uncommitted_bytes,
        ];
        if self.in_flight_messages == 0 || sizes.contains(&0) {
            return Err(SettingsError::Nothing);
        }
        if self.min_in_sync == 0 {
            return Err(SettingsError::InSync);
        }
        match self.reads {
            Reads::Lease { drift_ppm } if drift_ppm >= 1_000_000 => Err(SettingsError::Drift),
            _ => Ok(()),
        }
    }
}
