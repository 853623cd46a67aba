//! Questions about topics and partitions, and commands that change them.

use std::rc::Rc;

use millrace_shard::env::Env;
use millrace_shard::log::{OffsetQuery, PartitionStatus};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{Offset, PartitionId, ShardId};
use millrace_wire::native::messages::{Counter, LatencyBucket, ShardStats, StageLatency};

use super::calls::{Answer, Call, Description, Question, Reply, wrong_reply};
use super::{Broker, TopicEntry};
use crate::controller::state::{Command, Outcome, Topic};

/// The shard that the controller is on.
const CONTROLLER_SHARD: ShardId = ShardId(0);

/// Kafka's number for "latest" in place of a timestamp.
const LATEST: i64 = -1;
/// Kafka's number for "earliest".
const EARLIEST: i64 = -2;
/// Kafka's number for "the largest timestamp".
const MAX_TIMESTAMP: i64 = -3;

/// A topic with the state of its partitions.
pub struct TopicDescription {
    /// The topic and its configuration.
    pub entry: Rc<TopicEntry>,
    /// Its partitions, in order.
    pub partitions: Vec<Result<Description, WireError>>,
}

impl<E: Env> Broker<E> {
    /// All topics, sorted by name, and the revision that they are of.
    #[must_use]
    pub fn topics(&self) -> (u64, Vec<Rc<TopicEntry>>) {
        let catalog = self.catalog.borrow();
        (catalog.revision(), catalog.all())
    }

    /// Has the controller carry out a command about a topic; the topic as it is afterwards.
    pub async fn command(&self, command: Command) -> Result<Topic, WireError> {
        match self.submit(command).await? {
            Outcome::Topic(topic) => Ok(topic),
            other => Err(wrong_reply(Reply::Commanded(other))),
        }
    }

    /// Has the controller carry out a command, wherever it is.
    pub(super) async fn submit(&self, command: Command) -> Result<Outcome, WireError> {
        if self.is_draining() {
            return Err(super::shutting_down());
        }
        if let Some(controller) = self.controller.get() {
            return controller.submit(command).await;
        }
        match self.call(CONTROLLER_SHARD, Call::Command(command)).await {
            Reply::Commanded(outcome) => Ok(outcome),
            other => Err(wrong_reply(other)),
        }
    }

    /// Everything about a topic.
    pub async fn describe(&self, name: &str) -> Result<TopicDescription, WireError> {
        let entry = self.topic(name)?;
        let questions = entry
            .topic
            .partition_ids()
            .map(|id| (id, Question::Describe))
            .collect();
        let answers = self.ask(questions).await;
        let partitions = answers.into_iter().map(|answer| match answer? {
            Answer::Description(description) => Ok(description),
            other => Err(wrong_answer(&other)),
        });
        Ok(TopicDescription {
            partitions: partitions.collect(),
            entry,
        })
    }

    /// Asks partitions, wherever they are. The answers are in the order of the questions.
    pub async fn ask(
        &self,
        questions: Vec<(PartitionId, Question)>,
    ) -> Vec<Result<Answer, WireError>> {
        let mut by_shard: Vec<(ShardId, Vec<usize>)> = Vec::new();
        for (place, (id, _)) in questions.iter().enumerate() {
            let owner = self.owner(*id);
            match by_shard.iter_mut().find(|(shard, _)| *shard == owner) {
                Some((_, places)) => places.push(place),
                None => by_shard.push((owner, vec![place])),
            }
        }
        let mut answers: Vec<Option<Result<Answer, WireError>>> = vec![None; questions.len()];
        for (shard, places) in by_shard {
            let asked: Vec<_> = places.iter().map(|&place| questions[place]).collect();
            let answered = self.ask_shard(shard, asked).await;
            for (place, answer) in places.into_iter().zip(answered) {
                answers[place] = Some(answer);
            }
        }
        let silent = || Err(wrong_reply(Reply::Done));
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(silent))
            .collect()
    }

    async fn ask_shard(
        &self,
        shard: ShardId,
        questions: Vec<(PartitionId, Question)>,
    ) -> Vec<Result<Answer, WireError>> {
        if shard == self.shard_id {
            return self.answer_questions(&questions).await;
        }
        let count = questions.len();
        match self.call(shard, Call::Ask(questions)).await {
            Reply::Answers(answers) => answers,
            other => vec![Err(wrong_reply(other)); count],
        }
    }

    pub(super) async fn answer_questions(
        &self,
        questions: &[(PartitionId, Question)],
    ) -> Vec<Result<Answer, WireError>> {
        let mut answers = Vec::with_capacity(questions.len());
        for (id, question) in questions {
            answers.push(self.answer_question(*id, *question).await);
            self.env.yield_now().await;
        }
        answers
    }

    async fn answer_question(
        &self,
        id: PartitionId,
        question: Question,
    ) -> Result<Answer, WireError> {
        let partition = self.hosted(id)?;
        match question {
            Question::Offset(timestamp) => {
                let query = offset_query(timestamp)?;
                let found = partition
                    .find_offset(query)
                    .await
                    .map_err(|error| error.to_wire())?;
                Ok(found.map_or(
                    Answer::Offset {
                        offset: -1,
                        timestamp: -1,
                    },
                    |found| Answer::Offset {
                        offset: found.offset.0,
                        timestamp: found.timestamp.unwrap_or(-1),
                    },
                ))
            }
            Question::DeleteBefore(before) => {
                let before = match before {
                    -1 => partition.watermarks().visible,
                    offset if offset >= 0 => Offset(offset),
                    other => return Err(no_such_place(other)),
                };
                let log_start = partition.delete_records(before).await;
                Ok(Answer::LogStart(
                    log_start.map_err(|error| error.to_wire())?,
                ))
            }
            Question::Describe => {
                let marks = partition.watermarks();
                Ok(Answer::Description(Description {
                    trouble: match partition.status() {
                        PartitionStatus::Serving => None,
                        PartitionStatus::Damaged { from } => Some(WireError::new(
                            ErrorCode::PartitionDamaged,
                            format!("acknowledged records from offset {from} on are damaged"),
                        )),
                        PartitionStatus::Removed => Some(WireError::new(
                            ErrorCode::TopicDeleted,
                            "the topic was deleted",
                        )),
                    },
                    log_start: marks.log_start,
                    high_watermark: marks.visible,
                    log_end: marks.appended,
                    size_bytes: partition
                        .size_bytes()
                        .await
                        .map_err(|error| error.to_wire())?,
                }))
            }
            Question::AcceptDataLoss => {
                let log_end = partition.accept_data_loss().await;
                let log_end = log_end.map_err(|error| error.to_wire())?;
                if self
                    .topic_with_id(id.topic)
                    .is_ok_and(|entry| entry.topic.is_internal())
                {
                    self.coordinate_anew(id.partition);
                }
                Ok(Answer::LogEnd(log_end))
            }
        }
    }

    /// The counters and latencies of every shard.
    pub async fn stats(&self) -> Vec<ShardStats> {
        let mut stats = Vec::new();
        for shard in (0..self.node.shard_count).map(ShardId) {
            if shard == self.shard_id {
                stats.push(self.own_stats());
            } else if let Reply::Stats(theirs) = self.call(shard, Call::Stats).await {
                stats.push(theirs);
            }
        }
        stats
    }

    pub(super) fn own_stats(&self) -> ShardStats {
        let snapshot = self.shard.snapshot();
        let counter = |name: String, value: u64| Counter { name, value };
        let mut counters: Vec<Counter> = snapshot
            .counters
            .iter()
            .map(|(c, value)| counter((*c).to_owned(), *value))
            .collect();
        let own = &self.counters;
        counters.extend(
            own.all()
                .map(|(name, value)| counter(name.to_owned(), value)),
        );
        let micros = |nanos: u64| nanos / 1_000;
        let stages = snapshot.stages.iter().map(|stage| StageLatency {
            stage: stage.stage.to_owned(),
            count: stage.count,
            p50_us: micros(stage.p50_nanos),
            p99_us: micros(stage.p99_nanos),
            p999_us: micros(stage.p999_nanos),
            max_us: micros(stage.max_nanos),
            buckets: stage
                .buckets
                .iter()
                .map(|(up_to_ns, count)| LatencyBucket {
                    up_to_ns: *up_to_ns,
                    count: *count,
                })
                .collect(),
        });
        ShardStats {
            shard: self.shard_id.0,
            stages: stages.collect(),
            counters,
        }
    }
}

fn offset_query(timestamp: i64) -> Result<OffsetQuery, WireError> {
    match timestamp {
        LATEST => Ok(OffsetQuery::Latest),
        EARLIEST => Ok(OffsetQuery::Earliest),
        MAX_TIMESTAMP => Ok(OffsetQuery::MaxTimestamp),
        timestamp if timestamp >= 0 => Ok(OffsetQuery::AtTimestamp(timestamp)),
        other => Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!("{other} is neither a timestamp nor -1 (latest), -2 (earliest), -3 (largest)"),
        )),
    }
}

fn no_such_place(offset: i64) -> WireError {
    WireError::new(
        ErrorCode::OffsetOutOfRange,
        format!("{offset} is no offset; -1 stands for the high watermark"),
    )
}

/// The answer where a partition answered something else than it was asked.
#[must_use]
pub fn wrong_answer(answer: &Answer) -> WireError {
    tracing::error!(
        ?answer,
        "a partition answered another question than was asked"
    );
    WireError::new(
        ErrorCode::Unknown,
        "the broker contradicts itself; see its log",
    )
}
