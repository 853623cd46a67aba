//! The batches of one produce request, from the moment they have their places in their partitions
//! until all of them are decided.

use std::rc::Rc;

use futures_util::future::join_all;
use millrace_shard::env::{Env, Instant};
use millrace_shard::local::Event;
use millrace_wire::error::WireError;
use smallvec::SmallVec;

use crate::broker::calls::Appended;
use crate::broker::{Appending, TopicEntry, not_durable_in_time};

/// A topic's name, kept until the answer.
pub(crate) enum Named {
    Known(Rc<TopicEntry>),
    Unknown(Box<str>),
}

impl Named {
    /// What was asked for under `name`.
    pub(crate) fn new(name: &str, entry: Result<Rc<TopicEntry>, WireError>) -> Named {
        match entry {
            Ok(entry) => Named::Known(entry),
            Err(_) => Named::Unknown(name.into()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Named::Known(entry) => entry.topic.name.as_str(),
            Named::Unknown(name) => name,
        }
    }
}

/// A partition's number as the client gave it, and what becomes of the batch for it.
pub(crate) struct PlacedPartition<E: Env> {
    pub(crate) number: u32,
    pub(crate) appending: Result<Appending<E>, WireError>,
}

impl<E: Env> PlacedPartition<E> {
    /// How it went. What is not decided has run out of time.
    pub(crate) fn outcome(&self) -> Result<Appended, WireError> {
        match &self.appending {
            Ok(appending) => appending
                .outcome()
                .unwrap_or_else(|| Err(not_durable_in_time())),
            Err(error) => Err(error.clone()),
        }
    }
}

/// A topic's batches.
pub(crate) struct PlacedTopic<E: Env> {
    pub(crate) name: Named,
    pub(crate) partitions: SmallVec<[PlacedPartition<E>; 1]>,
}

/// A request's batches.
pub(crate) struct PlacedBatches<E: Env> {
    pub(crate) topics: SmallVec<[PlacedTopic<E>; 1]>,
    /// The request is answered by then, whatever it waits behind.
    pub(crate) deadline: Instant,
}

impl<E: Env> PlacedBatches<E> {
    fn batches(&self) -> impl Iterator<Item = &Result<Appending<E>, WireError>> {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| &partition.appending)
    }

    /// Whether this shard alone decides when the request is answered, and all of it is under way.
    pub(crate) fn is_local(&self) -> bool {
        let mut batches = self.batches();
        batches.all(|appending| appending.as_ref().is_ok_and(Appending::is_here))
    }

    /// The batch of a local request that is decided last: a duplicate may be decided before what
    /// came before it. A request without batches has none.
    fn last(&self) -> Option<&Appending<E>> {
        let batches = self.batches().filter_map(|batch| batch.as_ref().ok());
        batches.reduce(|last, next| match last.is_decided_after(next) {
            true => last,
            false => next,
        })
    }

    /// Whether every batch of a local request is decided.
    pub(crate) fn is_decided(&self) -> bool {
        self.last().is_none_or(|last| last.outcome().is_some())
    }

    /// Has `event` notified, once, when a local request is decided.
    pub(crate) fn watch(&self, event: &Rc<Event>) {
        match self.last() {
            Some(last) => last.watch(event),
            None => event.notify(),
        }
    }

    /// Waits until every batch is decided, wherever that is, but not beyond the deadline.
    pub(crate) async fn settle(&mut self, env: &E) {
        let deadline = self.deadline;
        let partitions = self
            .topics
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions);
        let undecided = partitions.filter_map(|partition| partition.appending.as_mut().ok());
        join_all(undecided.map(|appending| appending.settle(env, deadline))).await;
    }
}
