//! Produce requests: each batch of a request is cut out of the frame it came in and gets its place;
//! then the request waits on its own until all of them are durable.

use std::ops::ControlFlow;
use std::rc::Rc;

use millrace_shard::env::Env;
use millrace_wire::error::WireError;
use millrace_wire::native::RequestPayload;
use millrace_wire::native::messages::{
    ProducePartitionResult, ProduceResponse, ProduceTopicResult, Status,
};

use super::session::{Held, ReplyTo, Session};
use crate::broker::calls::Appended;
use crate::broker::{Acks, Appending, UnderWay};

/// A topic's batches, each with its partition.
struct Topic<E: Env> {
    name: String,
    partitions: Vec<(u32, Result<Appending<E>, WireError>)>,
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
        let timeout_ms = body.timeout_ms();
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
        let session = Rc::clone(self);
        let work = async move {
            let mut response = ProduceResponse::default();
            for topic in topics {
                response
                    .topics
                    .push(session.topic_result(topic, timeout_ms).await);
            }
            millrace_wire::native::Response::Produce(response).into()
        };
        self.run(to, held, under_way, work);
        ControlFlow::Continue(())
    }

    async fn topic_result(&self, topic: Topic<E>, timeout_ms: u32) -> ProduceTopicResult {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (partition, appending) in topic.partitions {
            let outcome = match appending {
                Ok(appending) => appending.durable_within(&self.broker.env, timeout_ms).await,
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
