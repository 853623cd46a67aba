//! Produce requests: each batch of a request is cut out of the frame it came in and gets its place;
//! then the request waits on its own until all of them are durable.

use std::ops::ControlFlow;
use std::rc::Rc;

use millrace_shard::env::{Env, Instant, OnPanic, Queue};
use millrace_wire::error::WireError;
use millrace_wire::native::RequestPayload;
use millrace_wire::native::messages::{
    ProducePartitionResult, ProduceResponse, ProduceTopicResult, Status,
};

use super::session::{Alarm, Answer, Held, ReplyTo, Session};
use crate::broker::calls::Appended;
use crate::broker::{Acks, Appending, UnderWay, durable_deadline};

/// A topic's batches, each with its partition.
struct Topic<E: Env> {
    name: String,
    partitions: Vec<(u32, Result<Appending<E>, WireError>)>,
}

/// A request whose batches have their places and become durable.
pub(super) struct Placed<E: Env> {
    to: ReplyTo,
    topics: Vec<Topic<E>>,
    /// The request is answered by then, whatever it waits behind.
    deadline: Instant,
    held: Held,
    under_way: UnderWay<E>,
}

impl<E: Env> Placed<E> {
    /// Whether this shard alone decides when it is answered.
    fn is_local(&self) -> bool {
        let batches = self.topics.iter().flat_map(|topic| &topic.partitions);
        batches
            .into_iter()
            .all(|(_, appending)| appending.as_ref().is_ok_and(Appending::is_here))
    }
}

impl<E: Env> Session<E> {
    pub(super) async fn produce(
        self: &Rc<Self>,
        to: ReplyTo,
        mut payload: RequestPayload,
        held: Held,
        under_way: UnderWay<E>,
    ) -> ControlFlow<()> {
        let (body, batches) = match payload.produce_with_batches() {
            Ok(parts) => parts,
            Err(error) => return self.refuse(to, error, held),
        };
        let deadline = durable_deadline(to.complete, body.timeout_ms());
        let acks = Acks::from_number(body.acks());
        let mut topics: Vec<Topic<E>> = Vec::new();
        for topic in body.topics() {
            let entry = self.broker.topic(topic.name());
            let mut partitions = Vec::new();
            for wanted in topic.partitions() {
                let batch = batches.split_to(wanted.batch_bytes as usize);
                let appending = match (&entry, &acks) {
                    (Ok(entry), Ok(_)) => self.broker.append(entry, wanted.partition, batch).await,
                    (Err(error), _) | (_, Err(error)) => Err(error.clone()),
                };
                partitions.push((wanted.partition, appending));
            }
            topics.push(Topic {
                name: topic.name().to_owned(),
                partitions,
            });
        }
        if acks == Ok(Acks::None) {
            return ControlFlow::Continue(());
        }
        let placed = Placed {
            to,
            topics,
            deadline,
            held,
            under_way,
        };
        if placed.is_local() {
            self.answer_in_turn(placed);
        } else {
            self.answer_apart(placed);
        }
        ControlFlow::Continue(())
    }

    /// Answers when all batches are durable, in a task of its own: another shard may be slow.
    fn answer_apart(self: &Rc<Self>, placed: Placed<E>) {
        let session = Rc::clone(self);
        let Placed {
            to,
            topics,
            deadline,
            held,
            under_way,
        } = placed;
        let work = async move { session.outcome(topics, deadline).await };
        self.run(to, held, under_way, work);
    }

    /// Answers when all batches are durable, after the connection's earlier ones: on one shard they
    /// become durable in the order in which they got their places, so one task serves them all.
    fn answer_in_turn(self: &Rc<Self>, placed: Placed<E>) {
        self.note_queued(placed.to);
        self.placed.borrow_mut().push_back(placed);
        if self.answering.replace(true) {
            return;
        }
        let session = Rc::clone(self);
        let task = async move {
            let mut alarm = Alarm {
                session: &session,
                armed: true,
            };
            loop {
                let next = session.placed.borrow_mut().pop_front();
                let Some(placed) = next else { break };
                let answer = session.outcome(placed.topics, placed.deadline).await;
                session.answer(placed.to, answer, placed.held);
                drop(placed.under_way);
                session.broker.env.yield_now().await;
            }
            session.answering.set(false);
            alarm.armed = false;
        };
        let env = &self.broker.env;
        drop(env.spawn(Queue::Requests, "produce answers", OnPanic::EndTask, task));
    }

    async fn outcome(&self, topics: Vec<Topic<E>>, deadline: Instant) -> Answer {
        let mut response = ProduceResponse::default();
        for topic in topics {
            response
                .topics
                .push(self.topic_result(topic, deadline).await);
        }
        millrace_wire::native::Response::Produce(response).into()
    }

    async fn topic_result(&self, topic: Topic<E>, deadline: Instant) -> ProduceTopicResult {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (partition, appending) in topic.partitions {
            let outcome = match appending {
                Ok(appending) => appending.durable_by(&self.broker.env, deadline).await,
                Err(error) => Err(error),
            };
            partitions.push(partition_result(partition, outcome));
        }
        ProduceTopicResult {
            name: topic.name,
            partitions,
        }
    }
}

fn partition_result(
    partition: u32,
    outcome: Result<Appended, WireError>,
) -> ProducePartitionResult {
    match outcome {
        Ok(appended) => ProducePartitionResult {
            partition,
            status: Status::ok(),
            base_offset: appended.base_offset.0,
            append_time_ms: appended.append_time_ms.unwrap_or(-1),
            log_start: appended.log_start.0,
        },
        Err(error) => ProducePartitionResult {
            partition,
            status: error.into(),
            base_offset: -1,
            append_time_ms: -1,
            log_start: -1,
        },
    }
}
