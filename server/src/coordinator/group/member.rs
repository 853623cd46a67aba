//! A member of a group.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use millrace_shard::env::Instant;

use super::Token;
use crate::coordinator::api::{Assignor, JoinGroup, JoinedMember, MemberDescription};

/// One member, and what is waiting on its behalf.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: Rc<str>,
    /// Members are listed in the order in which they came.
    pub(super) order: u64,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignor: Assignor,
    pub(super) can_skip_assignment: bool,
    pub(super) assignment: Bytes,
    /// It is gone at this moment unless something is heard of it before.
    pub(super) deadline: Instant,
    /// When the group's timers look at it next; never after `deadline`.
    pub(super) looked_at: Instant,
    /// It has joined for the first time and was not answered yet: nothing keeps it from being
    /// forgotten if its client has gone meanwhile.
    pub(super) is_new: bool,
    /// Its join request that waits for the others.
    pub(super) joining: Option<Token>,
    /// Its sync request that waits for the leader's.
    pub(super) syncing: Option<Token>,
    /// It has asked for its assignment since the last rebalance.
    pub(super) synced: bool,
}

impl Member {
    pub(super) fn new(id: Rc<str>, order: u64, join: &JoinGroup) -> Member {
        Member {
            id,
            order,
            instance_id: join.instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout: millis(join.session_timeout_ms),
            rebalance_timeout: millis(join.rebalance_timeout_ms),
            protocols: join.protocols.clone(),
            assignor: join.assignor,
            can_skip_assignment: join.can_skip_assignment,
            assignment: Bytes::new(),
            deadline: Instant(u64::MAX),
            looked_at: Instant(u64::MAX),
            is_new: true,
            joining: None,
            syncing: None,
            synced: false,
        }
    }

    /// Takes over what a later join request says.
    pub(super) fn update(&mut self, join: &JoinGroup) {
        self.client_id.clone_from(&join.client_id);
        self.client_host.clone_from(&join.client_host);
        self.session_timeout = millis(join.session_timeout_ms);
        self.rebalance_timeout = millis(join.rebalance_timeout_ms);
        self.protocols.clone_from(&join.protocols);
        self.assignor = join.assignor;
        self.can_skip_assignment = join.can_skip_assignment;
    }

    /// Whether a join request brings nothing new.
    pub(super) fn matches(&self, join: &JoinGroup) -> bool {
        self.protocols == join.protocols
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// What it told for a protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let told = self.protocols.iter().find(|(name, _)| name == protocol);
        told.map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub(super) fn joined(&self, protocol: &str) -> JoinedMember {
        JoinedMember {
            member_id: self.id.to_string(),
            instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    pub(super) fn description(&self, protocol: &str) -> MemberDescription {
        MemberDescription {
            member_id: self.id.to_string(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }
}

pub(super) fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}
