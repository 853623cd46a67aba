//! How far consumer groups have come: OffsetCommit (8), OffsetFetch (9), OffsetDelete (47). Partitions
//! that do not exist are refused here; everything else is for the group's coordinator.

use std::collections::{BTreeMap, BTreeSet};

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{self, Offset, PartitionIndex};
use millrace_wire::kafka::control::StrBytes;
use millrace_wire::kafka::control::messages::offset_commit_request::OffsetCommitRequestPartition;
use millrace_wire::kafka::control::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millrace_wire::kafka::control::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use millrace_wire::kafka::control::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use millrace_wire::kafka::control::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};

use super::errors::{group_code, group_offset_code};
use super::groups::{NO_GENERATION, another_answer, any_group_name, group_name, instance_id};
use super::metadata::topic_name;
use super::offsets::NONE;
use super::session::Session;
use crate::broker::TopicEntry;
use crate::coordinator::api::{
    CommitOffsets, CommittedOffset, FetchOffsets, GroupAnswer, GroupRequest, MAX_NAME_BYTES,
    MemberIdentity,
};

/// The first version of OffsetFetch with an error for the group; before, each partition has one.
const FIRST_FETCH_WITH_GROUP_ERROR: i16 = 2;
/// From this version on several groups are asked for at a time (KIP-709).
const FIRST_FETCH_OF_MANY: i16 = 8;

/// In place of an offset that was never committed.
const NEVER: i64 = -1;

/// What becomes of the partitions of a request, by topic: each that is not asked about has its error.
type Settled = Vec<(TopicName, Vec<(i32, Option<WireError>)>)>;

impl<E: Env> Session<E> {
    pub(super) async fn commit_offsets(
        &self,
        request: OffsetCommitRequest,
    ) -> OffsetCommitResponse {
        let (mut offsets, mut settled) = (Vec::new(), Settled::new());
        for topic in &request.topics {
            let entry = self.existing(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let offset = entry
                    .as_ref()
                    .map_err(WireError::clone)
                    .and_then(|entry| committed(entry, partition));
                let refused = offset.map(|offset| offsets.push(offset)).err();
                partitions.push((partition.partition_index, refused));
                self.broker.env.yield_now().await;
            }
            settled.push((topic.name.clone(), partitions));
            self.broker.env.yield_now().await;
        }
        let outcomes = match offsets.is_empty() {
            true => Ok(Vec::new()),
            false => self.committed_offsets(&request, offsets).await,
        };
        commit_answer(settled, outcomes)
    }

    async fn committed_offsets(
        &self,
        request: &OffsetCommitRequest,
        offsets: Vec<CommittedOffset>,
    ) -> Result<Vec<Result<(), WireError>>, WireError> {
        let group = any_group_name(&request.group_id)?;
        let member = MemberIdentity {
            member_id: request.member_id.to_string(),
            instance_id: instance_id(request.group_instance_id.as_ref())?,
            generation: request.generation_id_or_member_epoch,
        };
        let nobody = member.member_id.is_empty()
            && member.instance_id.is_none()
            && member.generation <= NO_GENERATION;
        let commit = CommitOffsets {
            member: (!nobody).then_some(member),
            offsets,
        };
        self.ask_group(
            group,
            GroupRequest::CommitOffsets(commit),
            |answer| match answer {
                GroupAnswer::CommitOffsets(outcomes) => Some(outcomes),
                _ => None,
            },
        )
        .await
    }

    pub(super) async fn fetch_offsets(
        &self,
        version: i16,
        request: OffsetFetchRequest,
    ) -> OffsetFetchResponse {
        if version < FIRST_FETCH_OF_MANY {
            let topics = request.topics.map(|topics| {
                let topics = topics.into_iter();
                topics.map(|topic| (topic.name, topic.partition_indexes))
            });
            let wanted = match topics {
                Some(topics) => Some(self.each_once(topics).await),
                None => None,
            };
            let found = self
                .fetched_offsets(&request.group_id, None, wanted.as_ref())
                .await;
            return one_group_answer(version, wanted, found);
        }
        let (mut groups, mut seen) = (Vec::new(), BTreeSet::new());
        for group in request.groups {
            // Each once: the same again must not make an answer of megabytes.
            if !seen.insert(group.group_id.clone()) {
                continue;
            }
            let wanted = match group.topics {
                Some(topics) => {
                    let topics = topics.into_iter();
                    let topics = topics.map(|topic| (topic.name, topic.partition_indexes));
                    Some(self.each_once(topics).await)
                }
                None => None,
            };
            let member = (group.member_epoch >= 0).then(|| MemberIdentity {
                member_id: group.member_id.unwrap_or_default().to_string(),
                instance_id: None,
                generation: group.member_epoch,
            });
            let found = self
                .fetched_offsets(&group.group_id, member, wanted.as_ref())
                .await;
            groups.push(group_answer(group.group_id, wanted, found));
        }
        OffsetFetchResponse::default().with_groups(groups)
    }

    /// The partitions of a request, each once however often it is named: what is told of one is longer
    /// than its number.
    async fn each_once(&self, topics: impl Iterator<Item = (TopicName, Vec<i32>)>) -> Partitions {
        let mut wanted = Partitions::new();
        for (name, numbers) in topics {
            let once = wanted.entry(name).or_default();
            for number in numbers {
                once.insert(number);
                self.broker.env.yield_now().await;
            }
            self.broker.env.yield_now().await;
        }
        wanted
    }

    /// What is known of the partitions that are wanted, or of all.
    async fn fetched_offsets(
        &self,
        group: &GroupId,
        member: Option<MemberIdentity>,
        wanted: Option<&Partitions>,
    ) -> Result<Known, WireError> {
        let group = any_group_name(group)?;
        let partitions = match wanted {
            Some(wanted) => Some(self.possible(wanted).await),
            None => None,
        };
        let fetch = FetchOffsets { member, partitions };
        let offsets = self
            .ask_group(
                group,
                GroupRequest::FetchOffsets(fetch),
                |answer| match answer {
                    GroupAnswer::FetchOffsets(offsets) => Some(offsets),
                    _ => None,
                },
            )
            .await?;
        let mut known = Known::new();
        for committed in offsets {
            let name = topic_name(committed.topic.as_str());
            let number = committed.partition.0.cast_signed();
            known.entry(name).or_default().insert(number, committed);
            self.broker.env.yield_now().await;
        }
        Ok(known)
    }

    /// Those that there may be. Names that no topic can have were never committed for.
    async fn possible(&self, wanted: &Partitions) -> Vec<(ids::TopicName, PartitionIndex)> {
        let mut possible = Vec::new();
        for (name, numbers) in wanted {
            if let Ok(name) = name.parse::<ids::TopicName>() {
                for number in numbers.iter().filter(|number| **number >= 0) {
                    possible.push((name.clone(), PartitionIndex(number.cast_unsigned())));
                    self.broker.env.yield_now().await;
                }
            }
            self.broker.env.yield_now().await;
        }
        possible
    }

    pub(super) async fn delete_offsets(
        &self,
        request: OffsetDeleteRequest,
    ) -> OffsetDeleteResponse {
        let (mut offsets, mut settled) = (Vec::new(), Settled::new());
        for topic in request.topics {
            let entry = self.existing(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let number = partition.partition_index;
                let found = entry.as_ref().map_err(WireError::clone).and_then(|entry| {
                    let id = entry.partition(number.cast_unsigned())?;
                    Ok((entry.topic.name.clone(), id.partition))
                });
                let refused = found.map(|offset| offsets.push(offset)).err();
                partitions.push((number, refused));
                self.broker.env.yield_now().await;
            }
            settled.push((topic.name, partitions));
            self.broker.env.yield_now().await;
        }
        let outcomes = match offsets.is_empty() {
            true => Ok(Vec::new()),
            false => self.deleted_offsets(&request.group_id, offsets).await,
        };
        delete_answer(settled, outcomes)
    }

    async fn deleted_offsets(
        &self,
        group: &GroupId,
        offsets: Vec<(ids::TopicName, PartitionIndex)>,
    ) -> Result<Vec<Result<(), WireError>>, WireError> {
        let group = group_name(group)?;
        self.ask_group(
            group,
            GroupRequest::DeleteOffsets(offsets),
            |answer| match answer {
                GroupAnswer::DeleteOffsets(outcomes) => Some(outcomes),
                _ => None,
            },
        )
        .await
    }
}

/// Partitions by topic.
type Partitions = BTreeMap<TopicName, BTreeSet<i32>>;

/// Committed offsets by topic and partition.
type Known = BTreeMap<TopicName, BTreeMap<i32, CommittedOffset>>;

/// What a commit says of one partition.
fn committed(
    entry: &TopicEntry,
    partition: &OffsetCommitRequestPartition,
) -> Result<CommittedOffset, WireError> {
    let id = entry.partition(partition.partition_index.cast_unsigned())?;
    let metadata = partition.committed_metadata.as_ref();
    let metadata = metadata.map(StrBytes::to_string).unwrap_or_default();
    // The coordinator has a limit of its own; this one is of the versions that are to tell it again.
    if metadata.len() > MAX_NAME_BYTES {
        return Err(WireError::new(
            ErrorCode::OffsetMetadataTooLarge,
            format!(
                "the metadata of an offset has {} bytes; commit it with a shorter text",
                metadata.len()
            ),
        ));
    }
    Ok(CommittedOffset {
        topic: entry.topic.name.clone(),
        partition: id.partition,
        offset: Offset(partition.committed_offset),
        // -1 in versions that do not say.
        leader_epoch: partition.committed_leader_epoch,
        metadata,
    })
}

/// The next of a coordinator's outcomes as Kafka's number; an error of the whole goes to each.
fn next_code(
    outcomes: &mut Result<std::vec::IntoIter<Result<(), WireError>>, WireError>,
    own: Option<WireError>,
) -> i16 {
    if let Some(error) = own {
        return group_offset_code(error.code);
    }
    match outcomes {
        Ok(outcomes) => match outcomes.next().unwrap_or_else(|| Err(another_answer())) {
            Ok(()) => 0,
            Err(error) => group_offset_code(error.code),
        },
        Err(error) => group_code(error.code),
    }
}

fn commit_answer(
    settled: Settled,
    outcomes: Result<Vec<Result<(), WireError>>, WireError>,
) -> OffsetCommitResponse {
    let mut outcomes = outcomes.map(Vec::into_iter);
    let topics = settled.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(number, refused)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(number)
                .with_error_code(next_code(&mut outcomes, refused))
        });
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn delete_answer(
    settled: Settled,
    outcomes: Result<Vec<Result<(), WireError>>, WireError>,
) -> OffsetDeleteResponse {
    if let Err(error) = &outcomes {
        return OffsetDeleteResponse::default().with_error_code(group_code(error.code));
    }
    let mut outcomes = outcomes.map(Vec::into_iter);
    let topics = settled.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(number, refused)| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(number)
                .with_error_code(next_code(&mut outcomes, refused))
        });
        OffsetDeleteResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}

/// A partition as an answer tells it.
struct Told {
    number: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: String,
}

/// What was wanted, known or not; everything that is known where nothing particular was.
fn told(wanted: Option<Partitions>, mut known: Known) -> Vec<(TopicName, Vec<Told>)> {
    let Some(wanted) = wanted else {
        let topics = known.into_iter().map(|(name, partitions)| {
            let told = partitions.into_iter();
            let told = told.map(|(number, committed)| tell(number, Some(committed)));
            (name, told.collect())
        });
        return topics.collect();
    };
    let topics = wanted.into_iter().map(|(name, numbers)| {
        let mut known = known.remove(&name).unwrap_or_default();
        let told = numbers.into_iter();
        let told = told.map(|number| tell(number, known.remove(&number)));
        (name, told.collect())
    });
    topics.collect()
}

fn tell(number: i32, committed: Option<CommittedOffset>) -> Told {
    match committed {
        Some(committed) => Told {
            number,
            offset: committed.offset.0,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata,
        },
        None => Told {
            number,
            offset: NEVER,
            leader_epoch: NONE,
            metadata: String::new(),
        },
    }
}

/// The answer of versions that ask for one group.
fn one_group_answer(
    version: i16,
    wanted: Option<Partitions>,
    found: Result<Known, WireError>,
) -> OffsetFetchResponse {
    let (known, code) = match found {
        Ok(known) => (known, 0),
        Err(error) if version >= FIRST_FETCH_WITH_GROUP_ERROR => {
            return OffsetFetchResponse::default().with_error_code(group_code(error.code));
        }
        Err(error) => (Known::new(), group_code(error.code)),
    };
    let topics = told(wanted, known).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|told| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(told.number)
                .with_committed_offset(told.offset)
                .with_committed_leader_epoch(told.leader_epoch)
                .with_metadata(Some(StrBytes::from_string(told.metadata)))
                .with_error_code(code)
        });
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

/// A group's part in the answer of versions that ask for several.
fn group_answer(
    group: GroupId,
    wanted: Option<Partitions>,
    found: Result<Known, WireError>,
) -> OffsetFetchResponseGroup {
    let answer = OffsetFetchResponseGroup::default().with_group_id(group);
    let known = match found {
        Ok(known) => known,
        Err(error) => return answer.with_error_code(group_code(error.code)),
    };
    let topics = told(wanted, known).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|told| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(told.number)
                .with_committed_offset(told.offset)
                .with_committed_leader_epoch(told.leader_epoch)
                .with_metadata(Some(StrBytes::from_string(told.metadata)))
        });
        OffsetFetchResponseTopics::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    answer.with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use millrace_wire::kafka::ApiKey;
    use millrace_wire::kafka::control::ResponseKind;

    use super::*;
    use crate::kafka::read_back::{read_back, versions};

    fn error(code: ErrorCode) -> WireError {
        WireError::new(code, "no")
    }

    fn name(name: &str) -> TopicName {
        topic_name(name)
    }

    fn offset(partition: u32, offset: i64) -> CommittedOffset {
        CommittedOffset {
            topic: "t".parse().expect("a name"),
            partition: PartitionIndex(partition),
            offset: Offset(offset),
            leader_epoch: 3,
            metadata: "m".repeat(MAX_NAME_BYTES),
        }
    }

    /// Of topic `t`, partition 1 has been committed to, 2 never.
    fn wanted_and_known() -> (Partitions, Known) {
        let wanted = Partitions::from([(name("t"), BTreeSet::from([1, 2]))]);
        let known = BTreeMap::from([(1, offset(1, 40))]);
        (wanted, Known::from([(name("t"), known)]))
    }

    #[test]
    fn every_version_has_room_for_what_it_asked_for() {
        for version in versions(ApiKey::OffsetFetch) {
            let (wanted, known) = wanted_and_known();
            let told: Vec<_> = if version < FIRST_FETCH_OF_MANY {
                let answer = one_group_answer(version, Some(wanted), Ok(known));
                let ResponseKind::OffsetFetch(read) =
                    read_back(ApiKey::OffsetFetch, version, answer)
                else {
                    panic!("another answer")
                };
                let partitions = read.topics[0].partitions.iter();
                let told = partitions.map(|told| {
                    assert_eq!(
                        told.committed_leader_epoch == 3,
                        version >= 5 && told.partition_index == 1
                    );
                    (told.partition_index, told.committed_offset, told.error_code)
                });
                told.collect()
            } else {
                let group = group_answer(GroupId::default(), Some(wanted), Ok(known));
                let answer = OffsetFetchResponse::default().with_groups(vec![group]);
                let ResponseKind::OffsetFetch(read) =
                    read_back(ApiKey::OffsetFetch, version, answer)
                else {
                    panic!("another answer")
                };
                let partitions = read.groups[0].topics[0].partitions.iter();
                let told = partitions
                    .map(|told| (told.partition_index, told.committed_offset, told.error_code));
                told.collect()
            };
            assert_eq!(told, [(1, 40, 0), (2, NEVER, 0)], "version {version}");
        }
    }

    #[test]
    fn an_error_of_the_group_is_where_its_version_has_room_for_it() {
        for version in versions(ApiKey::OffsetFetch) {
            for code in ErrorCode::ALL {
                let (wanted, _) = wanted_and_known();
                let number = group_code(*code);
                if version >= FIRST_FETCH_OF_MANY {
                    let group = group_answer(GroupId::default(), Some(wanted), Err(error(*code)));
                    assert_eq!((group.error_code, group.topics.len()), (number, 0));
                    let answer = OffsetFetchResponse::default().with_groups(vec![group]);
                    read_back(ApiKey::OffsetFetch, version, answer);
                    continue;
                }
                let answer = one_group_answer(version, Some(wanted), Err(error(*code)));
                let ResponseKind::OffsetFetch(read) =
                    read_back(ApiKey::OffsetFetch, version, answer)
                else {
                    panic!("another answer")
                };
                if version >= FIRST_FETCH_WITH_GROUP_ERROR {
                    assert_eq!((read.error_code, read.topics.len()), (number, 0));
                } else {
                    let partitions = read.topics[0].partitions.iter();
                    let codes: Vec<_> = partitions.map(|told| told.error_code).collect();
                    assert_eq!(codes, [number; 2]);
                }
            }
        }
    }

    #[test]
    fn each_partition_of_a_commit_has_its_own_outcome() {
        let settled = || {
            let gone = Some(error(ErrorCode::UnknownTopicOrPartition));
            vec![
                (name("t"), vec![(0, None), (7, gone.clone()), (1, None)]),
                (name("gone"), vec![(0, gone)]),
            ]
        };
        let too_large = || Err(error(ErrorCode::OffsetMetadataTooLarge));
        for version in versions(ApiKey::OffsetCommit) {
            let codes = |outcomes| {
                let answer = commit_answer(settled(), outcomes);
                let ResponseKind::OffsetCommit(read) =
                    read_back(ApiKey::OffsetCommit, version, answer)
                else {
                    panic!("another answer")
                };
                let partitions = read.topics.iter().flat_map(|topic| &topic.partitions);
                let codes: Vec<_> = partitions.map(|told| told.error_code).collect();
                codes
            };
            assert_eq!(codes(Ok(vec![Ok(()), too_large()])), [0, 3, 12, 3]);
            // A coordinator that leaves some out is not believed to have noted them.
            assert_eq!(codes(Ok(vec![Ok(())])), [0, 3, -1, 3]);
            for code in ErrorCode::ALL {
                let number = group_code(*code);
                assert_eq!(codes(Err(error(*code))), [number, 3, number, 3]);
            }
        }
        let outcomes = Ok(vec![Ok(()), Err(error(ErrorCode::GroupSubscribedToTopic))]);
        let deleted = delete_answer(settled(), outcomes);
        let codes = deleted.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<_> = codes.map(|told| told.error_code).collect();
        assert_eq!(codes, [0, 3, 86, 3]);
        read_back(ApiKey::OffsetDelete, 0, deleted);
        let refused = delete_answer(settled(), Err(error(ErrorCode::GroupIdNotFound)));
        assert_eq!((refused.error_code, refused.topics.len()), (69, 0));
        read_back(ApiKey::OffsetDelete, 0, refused);
    }
}
