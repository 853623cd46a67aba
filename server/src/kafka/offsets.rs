//! Places in partitions: ListOffsets (2), OffsetForLeaderEpoch (23), DeleteRecords (21).

use std::rc::Rc;

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{PartitionId, Term};
use millrace_wire::kafka::control::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use millrace_wire::kafka::control::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millrace_wire::kafka::control::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use millrace_wire::kafka::control::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};

use super::errors::{kafka_code, unknown_if_malformed};
use super::session::Session;
use crate::broker::calls::{Answer, Question};
use crate::broker::{TopicEntry, wrong_answer};

/// Stands for "the client does not say" among epochs, and for "none" among offsets.
pub(super) const NONE: i32 = -1;

/// From this version on a client may ask for the record with the largest timestamp (KIP-734).
const FIRST_WITH_MAX_TIMESTAMP: i16 = 7;
const MAX_TIMESTAMP: i64 = -3;

/// From this version on an offset comes with its leader epoch (KIP-320).
const FIRST_WITH_EPOCHS: i16 = 4;

/// One partition's question, or why it is not asked.
type Asked = (PartitionId, Question);

/// Topics of a request, each partition with what it wants.
type Wanted<T> = Vec<(TopicName, Vec<T>)>;

impl<E: Env> Session<E> {
    pub(super) async fn list_offsets(
        &self,
        version: i16,
        request: ListOffsetsRequest,
    ) -> ListOffsetsResponse {
        let topics = request.topics.into_iter();
        let wanted: Wanted<_> = topics.map(|topic| (topic.name, topic.partitions)).collect();
        let answers = self
            .ask(&wanted, |name, partition| {
                let id = self.current(name, partition.partition_index, partition.current_leader_epoch)?;
                if partition.timestamp == MAX_TIMESTAMP && version < FIRST_WITH_MAX_TIMESTAMP {
                    return Err(WireError::new(
                        ErrorCode::UnsupportedVersion,
                        format!("the largest timestamp is known from version {FIRST_WITH_MAX_TIMESTAMP} on"),
                    ));
                }
                Ok((id, Question::Offset(partition.timestamp)))
            })
            .await;
        let topics = answers
            .into_iter()
            .zip(wanted)
            .map(|(answers, (name, partitions))| {
                let found = answers
                    .into_iter()
                    .zip(partitions)
                    .map(|(answer, partition)| {
                        let result = ListOffsetsPartitionResponse::default()
                            .with_partition_index(partition.partition_index);
                        match answer {
                            Ok((id, Answer::Offset { offset, timestamp })) => result
                                .with_offset(offset)
                                .with_timestamp(timestamp)
                                .with_leader_epoch(match offset {
                                    0.. if version >= FIRST_WITH_EPOCHS => {
                                        epoch(self.broker.leadership(id).epoch)
                                    }
                                    _ => NONE,
                                }),
                            other => result
                                .with_error_code(kafka_code(unexpected(other).code))
                                .with_offset(-1)
                                .with_timestamp(-1),
                        }
                    });
                ListOffsetsTopicResponse::default()
                    .with_name(name)
                    .with_partitions(found.collect())
            });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    /// Where the log of a leader epoch ends (KIP-101, KIP-320): consumers find out by it whether what
    /// they have read is still there.
    pub(super) async fn offsets_for_leader_epochs(
        &self,
        request: OffsetForLeaderEpochRequest,
    ) -> OffsetForLeaderEpochResponse {
        let topics = request.topics.into_iter();
        let wanted: Wanted<_> = topics
            .map(|topic| (topic.topic, topic.partitions))
            .collect();
        let answers = self
            .ask(&wanted, |name, partition| {
                let id = self.current(name, partition.partition, partition.current_leader_epoch)?;
                Ok((id, Question::Describe))
            })
            .await;
        let topics = answers
            .into_iter()
            .zip(wanted)
            .map(|(answers, (name, partitions))| {
                let ends = answers
                    .into_iter()
                    .zip(partitions)
                    .map(|(answer, partition)| {
                        let result = EpochEndOffset::default().with_partition(partition.partition);
                        match answer {
                            Ok((id, Answer::Description(description))) => {
                                let current = epoch(self.broker.leadership(id).epoch);
                                let (of, end) = match partition.leader_epoch {
                                    asked if asked > current => (NONE, -1),
                                    asked if asked == current => {
                                        (current, description.high_watermark.0)
                                    }
                                    // There is one epoch; what is before it ended where it begins.
                                    asked => (asked, description.log_start.0),
                                };
                                result.with_leader_epoch(of).with_end_offset(end)
                            }
                            other => result
                                .with_error_code(kafka_code(unexpected(other).code))
                                .with_leader_epoch(NONE)
                                .with_end_offset(-1),
                        }
                    });
                OffsetForLeaderTopicResult::default()
                    .with_topic(name)
                    .with_partitions(ends.collect())
            });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }

    pub(super) async fn delete_records(
        &self,
        request: DeleteRecordsRequest,
    ) -> DeleteRecordsResponse {
        let topics = request.topics.into_iter();
        let wanted: Wanted<_> = topics.map(|topic| (topic.name, topic.partitions)).collect();
        let answers = self
            .ask(&wanted, |name, partition| {
                let id = self.current(name, partition.partition_index, NONE)?;
                self.broker.clients_topic(name)?;
                Ok((id, Question::DeleteBefore(partition.offset)))
            })
            .await;
        let topics = answers
            .into_iter()
            .zip(wanted)
            .map(|(answers, (name, partitions))| {
                let deleted = answers
                    .into_iter()
                    .zip(partitions)
                    .map(|(answer, partition)| {
                        let result = DeleteRecordsPartitionResult::default()
                            .with_partition_index(partition.partition_index);
                        match answer {
                            Ok((_, Answer::LogStart(offset))) => {
                                result.with_low_watermark(offset.0)
                            }
                            other => result
                                .with_error_code(kafka_code(unexpected(other).code))
                                .with_low_watermark(-1),
                        }
                    });
                DeleteRecordsTopicResult::default()
                    .with_name(name)
                    .with_partitions(deleted.collect())
            });
        DeleteRecordsResponse::default().with_topics(topics.collect())
    }

    /// Asks partitions what `question` makes of each. Answers are by topic, in the order of `wanted`.
    async fn ask<T>(
        &self,
        wanted: &Wanted<T>,
        question: impl Fn(&str, &T) -> Result<Asked, WireError>,
    ) -> Vec<Vec<Result<(PartitionId, Answer), WireError>>> {
        let mut resolved: Vec<Vec<Result<Asked, WireError>>> = Vec::with_capacity(wanted.len());
        for (name, partitions) in wanted {
            let mut asked = Vec::with_capacity(partitions.len());
            for partition in partitions {
                asked.push(question(name, partition));
                self.broker.env.yield_now().await;
            }
            resolved.push(asked);
            self.broker.env.yield_now().await;
        }
        let questions: Vec<Asked> = resolved.iter().flatten().flatten().copied().collect();
        let mut answers = self.broker.ask(questions).await.into_iter();
        let mut answered = |asked: Result<Asked, WireError>| {
            let (id, _) = asked?;
            let answer = answers.next().expect("as many answers as questions");
            Ok((id, answer?))
        };
        let by_topic = resolved
            .into_iter()
            .map(|asked| asked.into_iter().map(&mut answered).collect());
        by_topic.collect()
    }

    /// The topic of this name.
    pub(super) fn existing(&self, name: &str) -> Result<Rc<TopicEntry>, WireError> {
        self.broker.topic(name).map_err(unknown_if_malformed)
    }

    /// The partition, if it is there and the client knows who leads it (KIP-320).
    pub(super) fn current(
        &self,
        topic: &str,
        partition: i32,
        leader_epoch: i32,
    ) -> Result<PartitionId, WireError> {
        let entry = self.existing(topic)?;
        // A negative number is none that a topic has, whichever way it is read.
        let id = entry.partition(partition.cast_unsigned())?;
        let current = epoch(self.broker.leadership(id).epoch);
        let other = |code, what| {
            let message = format!(
                "leader epoch {leader_epoch} of {topic}/{partition} is {what}, which is {current}; ask for metadata again"
            );
            Err(WireError::new(code, message))
        };
        match leader_epoch {
            NONE => Ok(id),
            older if older < current => {
                other(ErrorCode::FencedLeaderEpoch, "before the present one")
            }
            newer if newer > current => {
                other(ErrorCode::UnknownLeaderEpoch, "beyond the present one")
            }
            _ => Ok(id),
        }
    }
}

/// A term as Kafka has it.
pub(super) fn epoch(term: Term) -> i32 {
    i32::try_from(term.0).unwrap_or(i32::MAX)
}

fn unexpected(answer: Result<(PartitionId, Answer), WireError>) -> WireError {
    match answer {
        Ok((_, answer)) => wrong_answer(&answer),
        Err(error) => error,
    }
}
