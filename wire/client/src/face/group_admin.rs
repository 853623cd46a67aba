//! Groups of consumers, as somebody sees them who is in none.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use millrace_wire::error::ErrorCode;
use millrace_wire::native::Response;
use millrace_wire::native::messages::*;

use super::Admin;
use crate::{ClientError, GroupOffset, TopicPartition};

/// How long a coordinator that is reading its log, after a start of the broker, is waited for.
const LOADING_PATIENCE: Duration = Duration::from_secs(30);
/// How long until it is asked again.
const LOADING_PAUSE: Duration = Duration::from_millis(50);

/// What became of one partition's offset.
pub type OffsetOutcome = (TopicPartition, Result<(), ClientError>);

impl Admin {
    /// All groups, sorted by name.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> {
        patiently(async || {
            let answer = answer!(self.ask(ListGroupsRequest {}), ListGroups)?;
            ClientError::check(&answer.status)?;
            Ok(answer.groups)
        })
        .await
    }

    /// Everything about a group but its offsets. One that does not exist has the state `Dead`.
    pub async fn describe_group(&self, group: &str) -> Result<DescribeGroupResponse, ClientError> {
        patiently(async || {
            let request = DescribeGroupRequest {
                group: group.into(),
            };
            let answer = answer!(self.ask(request), DescribeGroup)?;
            ClientError::check(&answer.status)?;
            Ok(answer)
        })
        .await
    }

    /// Forgets a group and its offsets. It must have no members.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        patiently(async || {
            let request = DeleteGroupRequest {
                group: group.into(),
            };
            ClientError::check(&answer!(self.change(request), DeleteGroup)?.status)
        })
        .await
    }

    /// How far a group has come, wherever it has committed: sorted by topic and partition. Empty for
    /// a group that does not exist.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<GroupOffset>, ClientError> {
        let answer = patiently(async || {
            let request = FetchOffsetsRequest {
                group: group.into(),
                member: None,
                partitions: None,
            };
            let answer = answer!(self.ask(request), FetchOffsets)?;
            ClientError::check(&answer.status)?;
            Ok(answer)
        })
        .await?;
        let mut offsets = Vec::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                ClientError::check(&partition.status)?;
                offsets.push(GroupOffset {
                    place: TopicPartition::new(topic.name.as_str(), partition.partition),
                    offset: partition.offset,
                    metadata: partition.metadata,
                });
            }
        }
        offsets.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(offsets)
    }

    /// Makes a group that has no members go on at these offsets. It is made if it does not exist. One
    /// outcome for each partition.
    pub async fn set_group_offsets(
        &self,
        group: &str,
        offsets: &[GroupOffset],
    ) -> Result<Vec<OffsetOutcome>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<CommitPartition>> = BTreeMap::new();
        for offset in offsets {
            let partitions = topics.entry(&offset.place.topic).or_default();
            partitions.push(CommitPartition {
                partition: offset.place.partition,
                offset: offset.offset,
                leader_epoch: -1,
                metadata: offset.metadata.clone(),
            });
        }
        let topics: Vec<CommitTopic> = topics
            .into_iter()
            .map(|(name, partitions)| CommitTopic {
                name: name.into(),
                partitions,
            })
            .collect();
        let answer = patiently(async || {
            let request = CommitOffsetsRequest {
                group: group.into(),
                member: None,
                topics: topics.clone(),
            };
            let answer = answer!(self.ask(request), CommitOffsets)?;
            ClientError::check(&answer.status)?;
            Ok(answer)
        })
        .await?;
        Ok(outcomes(answer.topics))
    }

    /// Forgets a group's offsets in these partitions, of topics that no member of it reads. One
    /// outcome for each partition.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        places: &[TopicPartition],
    ) -> Result<Vec<OffsetOutcome>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for place in places {
            let partitions = topics.entry(&place.topic).or_default();
            partitions.push(place.partition);
        }
        let topics: Vec<GroupTopic> = topics
            .into_iter()
            .map(|(name, partitions)| GroupTopic {
                name: name.into(),
                partitions,
            })
            .collect();
        let answer = patiently(async || {
            let request = DeleteOffsetsRequest {
                group: group.into(),
                topics: topics.clone(),
            };
            let answer = answer!(self.ask(request), DeleteOffsets)?;
            ClientError::check(&answer.status)?;
            Ok(answer)
        })
        .await?;
        Ok(outcomes(answer.topics))
    }
}

fn outcomes(topics: Vec<GroupTopicResult>) -> Vec<OffsetOutcome> {
    let each = topics.into_iter().flat_map(|topic| {
        let name = topic.name;
        topic.partitions.into_iter().map(move |result| {
            let place = TopicPartition::new(name.as_str(), result.partition);
            (place, ClientError::check(&result.status))
        })
    });
    each.collect()
}

/// Asks again while the coordinator is reading its log.
async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let end = Instant::now() + LOADING_PATIENCE;
    loop {
        match ask().await {
            Err(error)
                if error.code() == Some(ErrorCode::CoordinatorLoadInProgress)
                    && Instant::now() < end =>
            {
                tokio::time::sleep(LOADING_PAUSE).await;
            }
            other => return other,
        }
    }
}
