//! Produce requests: each batch of a request is cut out of the frame it came in and gets its place;
//! then the request waits until all of them are durable. Those that this shard alone decides wait in
//! a queue of their connection, and whoever sends its responses collects the answers: no task and no
//! timer for each.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, select};
use millrace_shard::env::{Env, Instant, OnPanic, Queue};
use millrace_shard::local::Event;
use millrace_wire::error::WireError;
use millrace_wire::native::messages::{
    ProducePartitionResult, ProduceResponse, ProduceTopicResult, Status,
};
use millrace_wire::native::{RequestPayload, Response};
use smallvec::SmallVec;

use super::outbox::{Answers, Outgoing};
use super::session::{Answer, Held, ReplyTo, Session};
use crate::broker::calls::Appended;
use crate::broker::{Acks, Appending, TopicEntry, UnderWay, durable_deadline, not_durable_in_time};

/// A topic's name, kept until the answer.
enum Named {
    Known(Rc<TopicEntry>),
    Unknown(Box<str>),
}

impl Named {
    fn as_str(&self) -> &str {
        match self {
            Named::Known(entry) => entry.topic.name.as_str(),
            Named::Unknown(name) => name,
        }
    }
}

/// A partition's number, and what becomes of the batch for it.
type Wanted<E> = (u32, Result<Appending<E>, WireError>);

/// A topic's batches.
struct Topic<E: Env> {
    name: Named,
    partitions: SmallVec<[Wanted<E>; 1]>,
}

type Topics<E> = SmallVec<[Topic<E>; 1]>;

/// A request whose batches have their places and become durable.
struct Placed<E: Env> {
    to: ReplyTo,
    topics: Topics<E>,
    /// The request is answered by then, whatever it waits behind.
    deadline: Instant,
    held: Held,
    under_way: UnderWay<E>,
}

impl<E: Env> Placed<E> {
    fn batches(&self) -> impl DoubleEndedIterator<Item = &Result<Appending<E>, WireError>> {
        let batches = self.topics.iter().flat_map(|topic| &topic.partitions);
        batches.map(|(_, appending)| appending)
    }

    /// Whether this shard alone decides when it is answered.
    fn is_local(&self) -> bool {
        let mut batches = self.batches();
        batches.all(|appending| appending.as_ref().is_ok_and(Appending::is_here))
    }

    /// The batch that is decided last. A request without batches has none.
    fn last(&self) -> Option<&Appending<E>> {
        self.batches().next_back()?.as_ref().ok()
    }

    fn is_decided(&self) -> bool {
        self.last().is_none_or(|last| last.outcome().is_some())
    }
}

/// One connection's produce requests that wait for this shard's journal, in the order of their
/// places: which is the order in which they are decided.
pub(super) struct PlacedRequests<E: Env> {
    waiting: RefCell<VecDeque<Placed<E>>>,
    /// Until when the guard sleeps that answers what was not decided in time.
    guarded_until: Cell<Option<Instant>>,
    /// It is to wake sooner.
    guard_changed: Event,
    /// Memory for the answers.
    response: RefCell<ProduceResponse>,
}

impl<E: Env> Default for PlacedRequests<E> {
    fn default() -> PlacedRequests<E> {
        PlacedRequests {
            waiting: RefCell::default(),
            guarded_until: Cell::new(None),
            guard_changed: Event::new(),
            response: RefCell::default(),
        }
    }
}

impl<E: Env> PlacedRequests<E> {
    /// Takes out what has not been decided by `now` and should have been.
    fn take_overdue(&self, now: Instant) -> Vec<Placed<E>> {
        let mut waiting = self.waiting.borrow_mut();
        let all = std::mem::take(&mut *waiting);
        let overdue = |placed: &Placed<E>| placed.deadline <= now && !placed.is_decided();
        let (late, in_time): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(overdue);
        *waiting = in_time;
        late.into()
    }

    /// The next deadline of a request that is not decided; the others only wait to be collected.
    fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.borrow();
        let undecided = waiting.iter().filter(|placed| !placed.is_decided());
        undecided.map(|placed| placed.deadline).min()
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
        let mut topics = Topics::new();
        for topic in body.topics() {
            let entry = self.broker.topic(topic.name());
            let mut partitions = SmallVec::new();
            for wanted in topic.partitions() {
                let batch = match wanted.batch_bytes as usize {
                    all if all == batches.len() => std::mem::take(batches),
                    part => batches.split_to(part),
                };
                let appending = match (&entry, &acks) {
                    (Ok(entry), Ok(_)) => self.broker.append(entry, wanted.partition, batch).await,
                    (Err(error), _) | (_, Err(error)) => Err(error.clone()),
                };
                partitions.push((wanted.partition, appending));
            }
            let name = match entry {
                Ok(entry) => Named::Known(entry),
                Err(_) => Named::Unknown(topic.name().into()),
            };
            topics.push(Topic { name, partitions });
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

    /// Lets a request wait for this shard's journal.
    fn answer_in_turn(self: &Rc<Self>, placed: Placed<E>) {
        self.note_queued(placed.to);
        let mut waiting = self.placed.waiting.borrow_mut();
        if waiting.is_empty() {
            match placed.last() {
                Some(last) => last.watch(self.outbox.filled()),
                None => self.outbox.filled().notify(),
            }
        }
        let deadline = placed.deadline;
        waiting.push_back(placed);
        drop(waiting);
        match self.placed.guarded_until.get() {
            None => self.guard(deadline),
            Some(until) if deadline < until => {
                self.placed.guarded_until.set(Some(deadline));
                self.placed.guard_changed.notify();
            }
            Some(_) => {}
        }
    }

    /// Answers what is not decided by its deadline. A connection has one guard at most, and it lives
    /// for as long as a request may take: a busy connection needs no timer for each.
    fn guard(self: &Rc<Self>, until: Instant) {
        self.placed.guarded_until.set(Some(until));
        let (weak, outbox) = (Rc::downgrade(self), Rc::clone(&self.outbox));
        let env = self.broker.env.clone();
        let task = async move {
            while let Some(session) = weak.upgrade() {
                let changed = session.placed.guard_changed.listen();
                let Some(until) = session.next_guarded() else {
                    return;
                };
                drop(session);
                let sleep = pin!(env.sleep(until.since(env.now())));
                let woken = select(sleep, changed);
                if let Either::Right(_) = select(woken, pin!(outbox.closed())).await {
                    return;
                }
            }
        };
        let env = &self.broker.env;
        drop(env.spawn(Queue::Requests, "produce timeouts", OnPanic::EndTask, task));
    }

    /// Answers what is overdue; until when the guard is to sleep then, if there is anything to guard.
    fn next_guarded(&self) -> Option<Instant> {
        let now = self.broker.env.now();
        let until = self.placed.guarded_until.get()?;
        if until > now {
            return Some(until);
        }
        self.answer_overdue(now);
        let next = self.placed.next_deadline();
        self.placed.guarded_until.set(next);
        next
    }

    fn answer_overdue(&self, now: Instant) {
        for late in self.placed.take_overdue(now) {
            let mut response = ProduceResponse::default();
            fill(&mut response, &late.topics);
            self.answer(late.to, Response::Produce(response).into(), late.held);
        }
        if let Some(first) = self.placed.waiting.borrow().front().and_then(Placed::last) {
            // It may be another one than was watched.
            first.watch(self.outbox.filled());
        }
    }

    async fn outcome(&self, topics: Topics<E>, deadline: Instant) -> Answer {
        let mut response = ProduceResponse::default();
        for topic in topics {
            response
                .topics
                .push(self.topic_result(topic, deadline).await);
        }
        Response::Produce(response).into()
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
            name: topic.name.as_str().to_owned(),
            partitions,
        }
    }
}

impl<E: Env> Answers for Session<E> {
    fn collect(&self, into: &mut Outgoing) {
        let mut waiting = self.placed.waiting.borrow_mut();
        let mut collected = false;
        while waiting.front().is_some_and(Placed::is_decided) {
            let placed = waiting.pop_front().expect("it was looked at just now");
            collected = true;
            let mut response = self.placed.response.take();
            fill(&mut response, &placed.topics);
            let answer = Response::Produce(response);
            into.write(placed.to.format, placed.to.correlation, &answer, Vec::new());
            into.hold(placed.held.place);
            if let Response::Produce(response) = answer {
                self.placed.response.replace(response);
            }
        }
        if collected && let Some(first) = waiting.front().and_then(Placed::last) {
            first.watch(self.outbox.filled());
        }
    }
}

/// Writes the outcomes into a response, in the memory that it has. What is not decided has run out
/// of time.
fn fill<E: Env>(response: &mut ProduceResponse, topics: &[Topic<E>]) {
    let empty = || ProduceTopicResult {
        name: String::new(),
        partitions: Vec::new(),
    };
    response.topics.resize_with(topics.len(), empty);
    for (result, topic) in response.topics.iter_mut().zip(topics) {
        result.name.clear();
        result.name.push_str(topic.name.as_str());
        result.partitions.clear();
        let outcome = |appending: &Result<Appending<E>, WireError>| match appending {
            Ok(appending) => appending
                .outcome()
                .unwrap_or_else(|| Err(not_durable_in_time())),
            Err(error) => Err(error.clone()),
        };
        let results = topic.partitions.iter();
        let results =
            results.map(|(partition, appending)| partition_result(*partition, outcome(appending)));
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
