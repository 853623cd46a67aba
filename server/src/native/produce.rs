//! Produce requests: each batch of a request is cut out of the frame it came in and gets its place;
//! then the request waits until all of them are durable. Those that this shard alone decides wait in
//! a queue of their connection, and whoever sends its responses collects the answers: no task and no
//! timer for each.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::rc::Rc;

use millrace_shard::env::{Env, Instant};
use millrace_wire::error::WireError;
use millrace_wire::native::messages::{
    ProducePartitionResult, ProduceResponse, ProduceTopicResult, Status,
};
use millrace_wire::native::{RequestPayload, Response};
use smallvec::SmallVec;

use super::session::{ReplyTo, Session, write_response};
use crate::broker::calls::Appended;
use crate::broker::{Acks, UnderWay, durable_deadline};
use crate::session::Held;
use crate::session::guard::{DeadlineGuard, Overdue, guard};
use crate::session::outbox::{Answers, Outbox, Outgoing};
use crate::session::placed::{Named, PlacedBatches, PlacedPartition, PlacedTopic};

/// A request whose batches have their places and become durable.
struct Placed<E: Env> {
    to: ReplyTo,
    batches: PlacedBatches<E>,
    held: Held,
    /// Counts it until it is answered.
    _under_way: UnderWay<E>,
}

/// One connection's produce requests that wait for this shard's journal, in the order of their
/// places: which is the order in which they are decided.
pub(super) struct PlacedRequests<E: Env> {
    waiting: RefCell<VecDeque<Placed<E>>>,
    guard: DeadlineGuard,
    /// Memory for the answers.
    response: RefCell<ProduceResponse>,
}

impl<E: Env> Default for PlacedRequests<E> {
    fn default() -> PlacedRequests<E> {
        PlacedRequests {
            waiting: RefCell::default(),
            guard: DeadlineGuard::default(),
            response: RefCell::default(),
        }
    }
}

impl<E: Env> PlacedRequests<E> {
    /// Takes out what has not been decided by `now` and should have been.
    fn take_overdue(&self, now: Instant) -> Vec<Placed<E>> {
        let mut waiting = self.waiting.borrow_mut();
        let all = std::mem::take(&mut *waiting);
        let overdue =
            |placed: &Placed<E>| placed.batches.deadline <= now && !placed.batches.is_decided();
        let (late, in_time): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(overdue);
        *waiting = in_time;
        late.into()
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
        let acks = Acks::from_number(body.acks().into());
        let mut topics = SmallVec::new();
        for topic in body.topics() {
            let entry = self.broker.clients_topic(topic.name());
            let mut partitions = SmallVec::new();
            for wanted in topic.partitions() {
                let batch = match wanted.batch_bytes as usize {
                    all if all == batches.len() => std::mem::take(batches),
                    part => batches.split_to(part),
                };
                let appending = match (&entry, &acks) {
                    (Ok(entry), Ok(acks)) => {
                        let number = wanted.partition;
                        self.broker.append(entry, number, *acks, batch).await
                    }
                    (Err(error), _) | (_, Err(error)) => Err(error.clone()),
                };
                partitions.push(PlacedPartition {
                    number: wanted.partition,
                    appending,
                });
            }
            let name = Named::new(topic.name(), entry);
            topics.push(PlacedTopic { name, partitions });
        }
        if acks == Ok(Acks::None) {
            return ControlFlow::Continue(());
        }
        let batches = PlacedBatches { topics, deadline };
        if batches.is_local() {
            self.answer_in_turn(to, batches, held, under_way);
        } else {
            self.answer_apart(to, batches, held, under_way);
        }
        ControlFlow::Continue(())
    }

    /// Answers when all batches are durable, in a task of its own: another shard may be slow.
    fn answer_apart(
        self: &Rc<Self>,
        to: ReplyTo,
        mut batches: PlacedBatches<E>,
        held: Held,
        under_way: UnderWay<E>,
    ) {
        let env = self.broker.env.clone();
        let work = async move {
            batches.settle(&env).await;
            let mut response = ProduceResponse::default();
            fill(&mut response, &batches);
            Response::Produce(response).into()
        };
        self.run(to, held, under_way, work);
    }

    /// Lets a request wait for this shard's journal.
    fn answer_in_turn(
        self: &Rc<Self>,
        to: ReplyTo,
        batches: PlacedBatches<E>,
        held: Held,
        under_way: UnderWay<E>,
    ) {
        self.note_queued(to);
        let mut waiting = self.placed.waiting.borrow_mut();
        if waiting.is_empty() {
            batches.watch(self.outbox.filled());
        }
        let deadline = batches.deadline;
        waiting.push_back(Placed {
            to,
            batches,
            held,
            _under_way: under_way,
        });
        drop(waiting);
        guard(&self.broker.env, self, deadline);
    }
}

impl<E: Env> Overdue for Session<E> {
    fn guard(&self) -> &DeadlineGuard {
        &self.placed.guard
    }

    fn outbox(&self) -> &Rc<Outbox> {
        &self.outbox
    }

    fn answer_overdue(&self, now: Instant) {
        for late in self.placed.take_overdue(now) {
            let mut response = ProduceResponse::default();
            fill(&mut response, &late.batches);
            self.answer(late.to, Response::Produce(response).into(), late.held);
        }
        if let Some(first) = self.placed.waiting.borrow().front() {
            // It may be another one than was watched.
            first.batches.watch(self.outbox.filled());
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.placed.waiting.borrow();
        // The others only wait to be collected.
        let undecided = waiting.iter().filter(|placed| !placed.batches.is_decided());
        undecided.map(|placed| placed.batches.deadline).min()
    }
}

impl<E: Env> Answers for Session<E> {
    fn collect(&self, into: &mut Outgoing) {
        let mut waiting = self.placed.waiting.borrow_mut();
        let mut collected = false;
        while waiting
            .front()
            .is_some_and(|placed| placed.batches.is_decided())
        {
            let placed = waiting.pop_front().expect("it was looked at just now");
            collected = true;
            let mut response = self.placed.response.take();
            fill(&mut response, &placed.batches);
            let answer = Response::Produce(response);
            write_response(
                into,
                placed.to.format,
                placed.to.correlation,
                &answer,
                Vec::new(),
            );
            into.hold(placed.held.place);
            if let Response::Produce(response) = answer {
                self.placed.response.replace(response);
            }
        }
        if collected && let Some(first) = waiting.front() {
            first.batches.watch(self.outbox.filled());
        }
    }
}

/// Writes the outcomes into a response, in the memory that it has.
fn fill<E: Env>(response: &mut ProduceResponse, batches: &PlacedBatches<E>) {
    let empty = || ProduceTopicResult {
        name: String::new(),
        partitions: Vec::new(),
    };
    response.topics.resize_with(batches.topics.len(), empty);
    for (result, topic) in response.topics.iter_mut().zip(&batches.topics) {
        result.name.clear();
        result.name.push_str(topic.name.as_str());
        result.partitions.clear();
        let results = topic.partitions.iter();
        let results = results.map(|placed| partition_result(placed.number, placed.outcome()));
        result.partitions.extend(results);
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
