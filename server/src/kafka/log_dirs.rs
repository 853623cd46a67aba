//! DescribeLogDirs (35): what lies where on the disk.

use std::collections::{BTreeMap, BTreeSet};

use millrace_shard::env::Env;
use millrace_wire::ids::PartitionId;
use millrace_wire::kafka::control::StrBytes;
use millrace_wire::kafka::control::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use millrace_wire::kafka::control::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName,
};

use super::metadata::topic_name;
use super::session::Session;
use crate::broker::calls::{Answer, Question};

impl<E: Env> Session<E> {
    pub(super) async fn describe_log_dirs(
        &self,
        request: DescribeLogDirsRequest,
    ) -> DescribeLogDirsResponse {
        let asked = self.asked_partitions(request).await;
        let questions = asked.iter().flat_map(|(_, ids)| ids);
        let questions = questions.map(|id| (*id, Question::Describe)).collect();
        let mut answers = self.broker.ask(questions).await.into_iter();
        let mut topics = Vec::with_capacity(asked.len());
        for (name, ids) in asked {
            let mut partitions = Vec::with_capacity(ids.len());
            for (id, answer) in ids.iter().zip(answers.by_ref()) {
                if let Ok(Answer::Description(description)) = answer {
                    let size = i64::try_from(description.size_bytes).unwrap_or(i64::MAX);
                    partitions.push(
                        DescribeLogDirsPartition::default()
                            .with_partition_index(id.partition.0.cast_signed())
                            .with_partition_size(size),
                    );
                }
                self.broker.env.yield_now().await;
            }
            if partitions.is_empty() {
                continue;
            }
            topics.push(
                DescribeLogDirsTopic::default()
                    .with_name(name)
                    .with_partitions(partitions),
            );
        }
        DescribeLogDirsResponse::default().with_results(vec![self.log_dir(topics).await])
    }

    /// The partitions that are asked for and are here, by topic. Others are passed over, as Kafka does
    /// it; each is there once, however often the request names it.
    async fn asked_partitions(
        &self,
        request: DescribeLogDirsRequest,
    ) -> Vec<(TopicName, BTreeSet<PartitionId>)> {
        let mut asked: BTreeMap<TopicName, BTreeSet<PartitionId>> = BTreeMap::new();
        let Some(topics) = request.topics else {
            for entry in self.broker.topics().1 {
                let name = topic_name(entry.topic.name.as_str());
                asked.insert(name, entry.topic.partition_ids().collect());
                self.broker.env.yield_now().await;
            }
            return asked.into_iter().collect();
        };
        for topic in topics {
            if let Ok(entry) = self.broker.topic(&topic.topic) {
                let ids = asked.entry(topic.topic).or_default();
                for number in topic.partitions {
                    ids.extend(entry.partition(number.cast_unsigned()));
                    self.broker.env.yield_now().await;
                }
            }
            self.broker.env.yield_now().await;
        }
        asked.into_iter().collect()
    }

    async fn log_dir(&self, topics: Vec<DescribeLogDirsTopic>) -> DescribeLogDirsResult {
        let directory = self.broker.storage().data_directory();
        let space = self.broker.env.space(directory).await;
        // -1 where it is not known.
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (total, usable) = space.map_or((-1, -1), |space| {
            (bytes(space.total), bytes(space.available))
        });
        DescribeLogDirsResult::default()
            .with_log_dir(StrBytes::from_string(directory.display().to_string()))
            .with_topics(topics)
            .with_total_bytes(total)
            .with_usable_bytes(usable)
    }
}
