//! Producer ids: each shard gives them out one by one, of a range that it has from the controller. What
//! the controller handed out is durable before a shard has it, so that no id is given out twice, not
//! even over a crash; the rest of a range is lost when the broker ends.

use std::cell::{Cell, RefCell};

use millrace_shard::env::Env;
use millrace_shard::local::Semaphore;
use millrace_wire::error::WireError;
use millrace_wire::ids::ProducerId;

use super::Broker;
use super::calls::{Reply, wrong_reply};
use crate::controller::state::{Command, Outcome, ProducerIdRange};

/// What this shard has to give out.
pub(super) struct ProducerIds {
    /// The range that is being given out, from its beginning.
    left: Cell<ProducerIdRange>,
    /// One request to the controller at a time.
    turn: Semaphore,
    /// How many of them have failed, and how the last one did.
    failures: Cell<u64>,
    last_failure: RefCell<Option<WireError>>,
}

impl Default for ProducerIds {
    fn default() -> ProducerIds {
        ProducerIds {
            left: Cell::new(ProducerIdRange {
                first: ProducerId(0),
                end: ProducerId(0),
            }),
            turn: Semaphore::new(1),
            failures: Cell::new(0),
            last_failure: RefCell::default(),
        }
    }
}

impl ProducerIds {
    fn take(&self) -> Option<ProducerId> {
        let ProducerIdRange { first, end } = self.left.get();
        let next = ProducerId(first.0 + 1);
        (first < end).then(|| {
            self.left.set(ProducerIdRange { first: next, end });
            first
        })
    }
}

impl<E: Env> Broker<E> {
    /// A producer id that nobody has had.
    pub async fn new_producer_id(&self) -> Result<ProducerId, WireError> {
        let ids = &self.producer_ids;
        if let Some(id) = ids.take() {
            return Ok(id);
        }
        let failures = ids.failures.get();
        let _turn = ids.turn.acquire(1).await;
        if let Some(id) = ids.take() {
            return Ok(id);
        }
        if ids.failures.get() != failures
            && let Some(error) = ids.last_failure.borrow().clone()
        {
            // The request that this one waited for was made on its behalf, too.
            return Err(error);
        }
        match self.allocate().await {
            Ok(range) => ids.left.set(range),
            Err(error) => {
                ids.failures.set(ids.failures.get() + 1);
                *ids.last_failure.borrow_mut() = Some(error.clone());
                return Err(error);
            }
        }
        ids.take().ok_or_else(|| wrong_reply(Reply::Done))
    }

    async fn allocate(&self) -> Result<ProducerIdRange, WireError> {
        match self.submit(Command::AllocateProducerIds).await? {
            Outcome::ProducerIds(range) => Ok(range),
            other => Err(wrong_reply(Reply::Commanded(other))),
        }
    }
}
