//! DescribeTopicPartitions (75): the partitions of topics by name, a limited number at a time, and
//! where to go on (KIP-966).

use std::collections::BTreeSet;

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::kafka::control::Uuid;
use millrace_wire::kafka::control::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use millrace_wire::kafka::control::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
    describe_topic_partitions_request,
};

use super::errors::kafka_code;
use super::metadata::{NOT_ASKED, TOPIC_OPERATIONS, topic_name};
use super::session::Session;
use crate::broker::TopicEntry;

/// The most partitions of one answer, whatever the client asks for.
const MAX_PARTITIONS: usize = 2000;

impl<E: Env> Session<E> {
    pub(super) async fn describe_topic_partitions(
        &self,
        request: DescribeTopicPartitionsRequest,
    ) -> DescribeTopicPartitionsResponse {
        let asked: BTreeSet<TopicName> =
            request.topics.into_iter().map(|topic| topic.name).collect();
        let Ok((first, first_partition)) = beginning(request.cursor) else {
            let refused = asked.into_iter();
            let refused = refused.map(|name| failed(name, ErrorCode::InvalidRequest));
            return DescribeTopicPartitionsResponse::default().with_topics(refused.collect());
        };
        let names = match asked.is_empty() {
            true => self.every_name(),
            false => asked,
        };
        let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
        let mut room = limit.clamp(1, MAX_PARTITIONS);
        let mut topics = Vec::new();
        let mut next = None;
        for name in names.range::<TopicName, _>(&first..) {
            let skipped = match *name == first {
                true => first_partition,
                false => 0,
            };
            if room == 0 {
                next = Some((name, skipped));
                break;
            }
            match self.broker.topic(name) {
                Ok(entry) => {
                    let topic = self.partitions_from(name, &entry, skipped, room);
                    room -= topic.partitions.len();
                    let told = skipped.saturating_add(topic.partitions.len());
                    topics.push(topic);
                    if told < entry.topic.partitions as usize {
                        next = Some((name, told));
                        break;
                    }
                }
                Err(WireError { code, .. }) => topics.push(failed(name.clone(), code)),
            }
            self.broker.env.yield_now().await;
        }
        let next = next.map(|(name, partition)| {
            Cursor::default()
                .with_topic_name(name.clone())
                .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX))
        });
        DescribeTopicPartitionsResponse::default()
            .with_topics(topics)
            .with_next_cursor(next)
    }

    fn every_name(&self) -> BTreeSet<TopicName> {
        let (_, entries) = self.broker.topics();
        let names = entries.iter();
        names
            .map(|entry| topic_name(&entry.topic.name.to_string()))
            .collect()
    }

    /// A topic with at most `room` of its partitions, those after the first `skipped`.
    fn partitions_from(
        &self,
        name: &TopicName,
        entry: &TopicEntry,
        skipped: usize,
        room: usize,
    ) -> DescribeTopicPartitionsResponseTopic {
        let ids = entry.topic.partition_ids().skip(skipped).take(room);
        let partitions = ids.map(|id| {
            let partition = self.partition(id);
            DescribeTopicPartitionsResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_leader_id(partition.leader_id)
                .with_leader_epoch(partition.leader_epoch)
                .with_replica_nodes(partition.replica_nodes)
                .with_isr_nodes(partition.isr_nodes)
                // Who might lead if none were in sync: nobody has to be remembered for that.
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()))
        });
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(name.clone()))
            .with_topic_id(Uuid::from_u128(entry.topic.id.0))
            .with_is_internal(entry.topic.is_internal())
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(TOPIC_OPERATIONS)
    }
}

/// The topic and the partition to begin with.
fn beginning(
    cursor: Option<describe_topic_partitions_request::Cursor>,
) -> Result<(TopicName, usize), std::num::TryFromIntError> {
    let Some(cursor) = cursor else {
        return Ok((TopicName::default(), 0));
    };
    usize::try_from(cursor.partition_index).map(|partition| (cursor.topic_name, partition))
}

fn failed(name: TopicName, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(kafka_code(code))
        .with_name(Some(name))
        .with_topic_authorized_operations(NOT_ASKED)
}
