//! How far a group has come: noted, told, and forgotten when nobody asks any more.

use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{PartitionIndex, TopicName};

use super::{Assign, Effects, Group, GroupRules, Now, Phase, Token};
use crate::coordinator::api::{
    CommitOffsets, CommittedOffset, FetchOffsets, GroupAnswer, GroupState, MemberIdentity,
};
use crate::coordinator::record::OffsetValue;

impl Group {
    /// Notes offsets.
    pub fn commit(
        &mut self,
        token: Token,
        commit: CommitOffsets,
        rules: &GroupRules,
        now: Now,
    ) -> Effects {
        let mut effects = Effects::default();
        if let Err(error) = self.check_commit(commit.member.as_ref(), now) {
            effects.refuse(token, error);
            return effects;
        }
        let mut outcomes = Vec::with_capacity(commit.offsets.len());
        for offset in commit.offsets {
            outcomes.push(check_metadata(&offset.metadata, rules));
            if outcomes.last().is_some_and(Result::is_ok) {
                let (topic, partition, value) = stored(offset, now);
                self.put_offset(topic.clone(), partition, value.clone());
                effects.offsets.push((topic, partition, Some(value)));
            }
        }
        effects.answer(token, GroupAnswer::CommitOffsets(outcomes));
        effects
    }

    fn check_commit(&mut self, member: Option<&MemberIdentity>, now: Now) -> Result<(), WireError> {
        let Some(member) = member else {
            return match self.phase {
                Phase::Empty { .. } => Ok(()),
                _ => Err(WireError::new(
                    ErrorCode::UnknownMemberId,
                    format!(
                        "group '{}' has members, and only they commit its offsets; stop them first, or commit as one of them",
                        self.name
                    ),
                )),
            };
        };
        if let Phase::Empty { .. } = self.phase {
            return Err(match member.generation == self.generation {
                true => self.unknown_member(&member.member_id),
                false => self.check_generation_of_nobody(member),
            });
        }
        let id = self.check_member(member)?;
        self.heard_of(&id, now);
        match self.phase {
            Phase::Completing { .. } => Err(self.rebalancing()),
            _ => Ok(()),
        }
    }

    fn check_generation_of_nobody(&self, member: &MemberIdentity) -> WireError {
        match self.find_member(&member.member_id, member.instance_id.as_deref()) {
            Err(error) if self.generation != 0 => error,
            _ => WireError::new(
                ErrorCode::IllegalGeneration,
                format!(
                    "group '{}' has no generation {}; join it first",
                    self.name, member.generation
                ),
            ),
        }
    }

    pub(super) fn put_offset(
        &mut self,
        topic: TopicName,
        partition: PartitionIndex,
        value: OffsetValue,
    ) {
        self.offsets
            .entry(topic)
            .or_default()
            .insert(partition, value);
    }

    pub(super) fn take_offset(
        &mut self,
        topic: &TopicName,
        partition: PartitionIndex,
    ) -> Option<OffsetValue> {
        let partitions = self.offsets.get_mut(topic)?;
        let taken = partitions.remove(&partition);
        if partitions.is_empty() {
            self.offsets.remove(topic);
        }
        taken
    }

    /// Tells offsets.
    pub fn fetch(&self, token: Token, fetch: &FetchOffsets) -> Effects {
        let mut effects = Effects::default();
        let checked = match &fetch.member {
            Some(member) => self.check_member(member).map(drop),
            None => Ok(()),
        };
        match checked {
            Err(error) => effects.refuse(token, error),
            Ok(()) => {
                let offsets = self.told_offsets(fetch.partitions.as_deref());
                effects.answer(token, GroupAnswer::FetchOffsets(offsets));
            }
        }
        effects
    }

    fn told_offsets(&self, wanted: Option<&[(TopicName, PartitionIndex)]>) -> Vec<CommittedOffset> {
        let told =
            |topic: &TopicName, partition: PartitionIndex, value: &OffsetValue| CommittedOffset {
                topic: topic.clone(),
                partition,
                offset: value.offset(),
                leader_epoch: value.leader_epoch,
                metadata: value.metadata.clone(),
            };
        match wanted {
            Some(wanted) => wanted
                .iter()
                .filter_map(|(topic, partition)| {
                    let value = self.offsets.get(topic)?.get(partition)?;
                    Some(told(topic, *partition, value))
                })
                .collect(),
            None => self
                .each_offset()
                .map(|(topic, partition, value)| told(topic, partition, value))
                .collect(),
        }
    }

    /// Every offset, by topic in no order, then by partition.
    pub(super) fn each_offset(
        &self,
    ) -> impl Iterator<Item = (&TopicName, PartitionIndex, &OffsetValue)> {
        self.offsets.iter().flat_map(|(topic, partitions)| {
            let each = partitions.iter();
            each.map(move |(partition, value)| (topic, *partition, value))
        })
    }

    /// Forgets the group, if it has no members.
    pub fn delete(&mut self, token: Token) -> Effects {
        let mut effects = Effects::default();
        match self.phase {
            Phase::Empty { .. } => {
                self.forget_offsets(|_, _, _| true, &mut effects);
                effects.forgotten = true;
                effects.answer(token, GroupAnswer::Delete);
            }
            _ => effects.refuse(token, self.not_empty()),
        }
        effects
    }

    fn not_empty(&self) -> WireError {
        WireError::new(
            ErrorCode::NonEmptyGroup,
            format!(
                "group '{}' has members; stop its consumers first",
                self.name
            ),
        )
    }

    /// Forgets offsets of topics that no member is subscribed to.
    pub fn delete_offsets(
        &mut self,
        token: Token,
        partitions: &[(TopicName, PartitionIndex)],
        assign: &dyn Assign,
    ) -> Effects {
        let mut effects = Effects::default();
        let is_empty = self.state() == GroupState::Empty;
        if !is_empty && self.protocol_type != crate::coordinator::api::CONSUMER_PROTOCOL_TYPE {
            effects.refuse(token, self.not_empty());
            return effects;
        }
        let subscribed = self.subscribed(assign);
        let mut outcomes = Vec::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            if !is_empty && subscribed.contains(topic) {
                outcomes.push(Err(WireError::new(
                    ErrorCode::GroupSubscribedToTopic,
                    format!(
                        "group '{}' is reading topic '{topic}'; stop its consumers first",
                        self.name
                    ),
                )));
                continue;
            }
            if self.take_offset(topic, *partition).is_some() {
                effects.offsets.push((topic.clone(), *partition, None));
            }
            outcomes.push(Ok(()));
        }
        effects.answer(token, GroupAnswer::DeleteOffsets(outcomes));
        effects
    }

    /// A topic is gone, and with it what was noted of it.
    pub fn topic_deleted(&mut self, topic: &TopicName) -> Effects {
        let mut effects = Effects::default();
        self.forget_offsets(|other, _, _| other == topic, &mut effects);
        effects
    }

    /// Forgets what nobody has used for as long as the rules say: offsets of a group without members
    /// from the moment in which the last one left, those that were committed without ever joining
    /// from their commit, and of a group of consumers those of topics that it no longer reads
    /// (KIP-211). A group with nothing left is forgotten itself.
    pub fn expire_offsets(&mut self, rules: &GroupRules, assign: &dyn Assign, now: Now) -> Effects {
        let mut effects = Effects::default();
        let retention = i64::try_from(rules.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let over = |since_ms: i64| now.wall_ms.saturating_sub(since_ms) >= retention;
        match self.phase {
            Phase::Empty { .. } if self.protocol_type.is_empty() => {
                self.forget_offsets(|_, _, value| over(value.committed_ms), &mut effects);
            }
            Phase::Empty { since_ms } => {
                let unused =
                    |_: &TopicName, _, value: &OffsetValue| over(since_ms.max(value.committed_ms));
                self.forget_offsets(unused, &mut effects);
            }
            Phase::Stable
                if self.protocol_type == crate::coordinator::api::CONSUMER_PROTOCOL_TYPE =>
            {
                let subscribed = self.subscribed(assign);
                let unused = |topic: &TopicName, _, value: &OffsetValue| {
                    over(value.committed_ms) && !subscribed.contains(topic)
                };
                self.forget_offsets(unused, &mut effects);
            }
            _ => {}
        }
        let is_empty = matches!(self.phase, Phase::Empty { .. });
        effects.forgotten = is_empty && self.offsets.is_empty() && self.pending.is_empty();
        effects
    }

    fn forget_offsets(
        &mut self,
        which: impl Fn(&TopicName, PartitionIndex, &OffsetValue) -> bool,
        effects: &mut Effects,
    ) {
        let gone: Vec<(TopicName, PartitionIndex)> = self
            .each_offset()
            .filter(|(topic, partition, value)| which(topic, *partition, value))
            .map(|(topic, partition, _)| (topic.clone(), partition))
            .collect();
        for (topic, partition) in gone {
            self.take_offset(&topic, partition);
            effects.offsets.push((topic, partition, None));
        }
    }
}

fn stored(offset: CommittedOffset, now: Now) -> (TopicName, PartitionIndex, OffsetValue) {
    let value = OffsetValue {
        offset: offset.offset.0,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata,
        committed_ms: now.wall_ms,
    };
    (offset.topic, offset.partition, value)
}

fn check_metadata(metadata: &str, rules: &GroupRules) -> Result<(), WireError> {
    let most = rules.offset_metadata_max_bytes;
    if metadata.len() <= most {
        return Ok(());
    }
    Err(WireError::new(
        ErrorCode::OffsetMetadataTooLarge,
        format!(
            "the text that goes with an offset has {} bytes, more than the {most} that groups.offset_metadata_max_bytes allows; shorten it",
            metadata.len()
        ),
    ))
}
