//! A group as it is written down, and back.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use millrace_shard::env::Instant;
use millrace_wire::ids::{PartitionIndex, TopicName};

use super::member::Member;
use super::{Group, Now, Phase};
use crate::coordinator::api::Assignor;
use crate::coordinator::record::{GroupValue, MemberValue, OffsetValue};

impl Group {
    /// What is written down of its members. While a rebalance goes on that is what it led to last.
    #[must_use]
    pub fn value(&self) -> GroupValue {
        let empty_since_ms = match self.phase {
            Phase::Empty { since_ms } => Some(since_ms),
            _ => None,
        };
        GroupValue {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().map(str::to_owned),
            empty_since_ms,
            members: self.in_order().iter().map(|member| value(member)).collect(),
        }
    }

    /// The same, if it was ever written down: a group that only has offsets, or that nobody has been
    /// in yet, is not.
    #[must_use]
    pub fn recorded(&self) -> Option<GroupValue> {
        (self.generation > 0).then(|| self.value())
    }

    /// An offset, as it is written down.
    #[must_use]
    pub fn offset(&self, topic: &TopicName, partition: PartitionIndex) -> Option<&OffsetValue> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// Every offset, as it is written down.
    pub fn offset_values(
        &self,
    ) -> impl Iterator<Item = (&TopicName, PartitionIndex, &OffsetValue)> {
        self.each_offset()
    }

    /// Takes over what was written down last: its members are back, each with a new session, in the
    /// generation and with the assignment that they had.
    pub fn load(&mut self, value: GroupValue, now: Now) {
        self.generation = value.generation;
        self.protocol_type = value.protocol_type;
        self.protocol = value.protocol;
        self.members.clear();
        self.instances.clear();
        for member in value.members {
            let member = loaded(member, self.next_order);
            self.next_order += 1;
            if let Some(instance_id) = &member.instance_id {
                let id = Rc::clone(&member.id);
                self.instances.insert(instance_id.clone(), id);
            }
            self.members.insert(Rc::clone(&member.id), member);
        }
        let leader = value.leader.and_then(|id| self.members.get(id.as_str()));
        self.leader = leader.map(|member| Rc::clone(&member.id));
        self.phase = match self.members.is_empty() {
            true => Phase::Empty {
                since_ms: value.empty_since_ms.unwrap_or(now.wall_ms),
            },
            false => Phase::Stable,
        };
    }

    /// Takes over an offset that was written down; none: it was forgotten.
    pub fn load_offset(
        &mut self,
        topic: TopicName,
        partition: PartitionIndex,
        value: Option<OffsetValue>,
    ) {
        match value {
            Some(value) => self.put_offset(topic, partition, value),
            None => drop(self.take_offset(&topic, partition)),
        }
    }

    /// Everything has been loaded: sessions begin.
    pub fn loaded(&mut self, now: Now) {
        let ids: Vec<Rc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.heard_of(&id, now);
        }
    }
}

fn value(member: &Member) -> MemberValue {
    let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    MemberValue {
        id: member.id.to_string(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        session_timeout_ms: millis(member.session_timeout),
        rebalance_timeout_ms: millis(member.rebalance_timeout),
        protocols: member
            .protocols
            .iter()
            .map(|(name, metadata)| (name.clone(), metadata.to_vec()))
            .collect(),
        assigned_by_coordinator: member.assignor == Assignor::Coordinator,
        assignment: member.assignment.to_vec(),
    }
}

fn loaded(value: MemberValue, order: u64) -> Member {
    Member {
        id: Rc::from(value.id),
        order,
        instance_id: value.instance_id,
        client_id: value.client_id,
        client_host: value.client_host,
        session_timeout: Duration::from_millis(u64::from(value.session_timeout_ms)),
        rebalance_timeout: Duration::from_millis(u64::from(value.rebalance_timeout_ms)),
        protocols: value
            .protocols
            .into_iter()
            .map(|(name, metadata)| (name, Bytes::from(metadata)))
            .collect(),
        assignor: match value.assigned_by_coordinator {
            true => Assignor::Coordinator,
            false => Assignor::Leader,
        },
        can_skip_assignment: false,
        assignment: Bytes::from(value.assignment),
        deadline: Instant(u64::MAX),
        looked_at: Instant(u64::MAX),
        is_new: false,
        joining: None,
        syncing: None,
        synced: true,
    }
}
