//! Sending records.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout_at};

use super::client::Handle;
use super::delivery::{BatchCell, Delivery};
use crate::core::ProducerId;
use crate::core::producer::Push;
use crate::{ClientError, ProducerConfig, Record};

/// Sends records. Cloning is cheap, and any number of tasks may use it at once.
///
/// When the last clone is dropped, records that were accepted are still sent in the background, for
/// as long as the runtime runs; [`Producer::close`] waits for them.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    client: Arc<Handle>,
    id: ProducerId,
    delivery_timeout: Duration,
    /// Senders wait for room in the order in which they came, so that a large record is not
    /// starved by small ones that fit beside what is there.
    turn: Mutex<()>,
    room: Arc<Notify>,
}

impl Producer {
    pub(super) fn new(client: Arc<Handle>, config: ProducerConfig) -> Producer {
        let delivery_timeout = config.delivery_timeout;
        let room = Arc::new(Notify::new());
        let id = client.shared.with(|inner, _| {
            let id = inner.core.open_producer(config);
            inner.rooms.insert(id, room.clone());
            id
        });
        Producer(Arc::new(Inner {
            client,
            id,
            delivery_timeout,
            turn: Mutex::new(()),
            room,
        }))
    }

    /// Hands a record over, waiting for buffer space. Records of one task to one partition are
    /// stored in the order in which they were accepted.
    ///
    /// Cancel safety: if the future is dropped before it returns, the record was not accepted and
    /// is not sent. Once it has returned, the record is sent whatever happens to the [`Delivery`].
    pub async fn send(&self, record: Record) -> Result<Delivery, ClientError> {
        let this = &*self.0;
        let deadline = Instant::now() + this.delivery_timeout;
        loop {
            match this.push_when_room(&record, deadline).await? {
                Some(delivery) => return Ok(delivery),
                // The topic is not known yet, which must not hold up records of other topics.
                None => this.await_topic(&record, deadline).await?,
            }
        }
    }

    /// Sends what is gathered without lingering and waits until every record accepted so far is
    /// stored or has failed; the failures are told by their deliveries, and the first also here.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let id = self.0.id;
        let cells = self.0.client.shared.with(|inner, now| {
            inner.core.flush(now, id);
            let mine = inner
                .batches
                .values()
                .filter(|(producer, _)| *producer == id);
            mine.map(|(_, cell)| cell.clone())
                .collect::<Vec<Arc<BatchCell>>>()
        });
        let mut result = Ok(());
        for cell in cells {
            let outcome = cell.wait().await.map(drop);
            result = result.and(outcome);
        }
        result
    }

    /// Refuses further records, then does as `flush`. Applies to every clone.
    pub async fn close(&self) -> Result<(), ClientError> {
        let id = self.0.id;
        self.0
            .client
            .shared
            .with(|inner, now| inner.core.close_producer(now, id));
        self.0.room.notify_waiters();
        self.flush().await
    }
}

impl Inner {
    /// Pushes the record when its turn comes and there is room; none if its topic is not known.
    async fn push_when_room(
        &self,
        record: &Record,
        deadline: Instant,
    ) -> Result<Option<Delivery>, ClientError> {
        let _turn = self.turn.lock().await;
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match self.push(record)? {
                Ok(delivery) => return Ok(Some(delivery)),
                Err(Push::Full) => {}
                Err(_) => return Ok(None),
            }
            // Batches expire, so room comes; the deadline is for a runtime that stands still.
            if timeout_at(deadline + self.delivery_timeout, room)
                .await
                .is_err()
            {
                return Err(self.timed_out("room in the producer's buffer"));
            }
        }
    }

    async fn await_topic(&self, record: &Record, deadline: Instant) -> Result<(), ClientError> {
        let changed = self.client.shared.metadata.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let known = self.client.shared.with(|inner, now| {
            let partitions = inner.core.partitions(now, &record.topic)?;
            let partition = record.partition.unwrap_or(0);
            Ok::<bool, ClientError>(partitions.is_some_and(|partitions| partition < partitions))
        })?;
        if !known && timeout_at(deadline, changed).await.is_err() {
            return Err(self.timed_out(&format!("the question for topic '{}'", record.topic)));
        }
        Ok(())
    }

    fn push(&self, record: &Record) -> Result<Result<Delivery, Push>, ClientError> {
        let shared = &self.client.shared;
        let timestamp = record.timestamp.unwrap_or_else(wall_ms);
        let mut inner = shared.lock();
        let now = shared.now();
        let accepted = match inner.core.push(now, self.id, record, timestamp) {
            Push::Accepted(accepted) => accepted,
            Push::Refused(error) => return Err(error),
            other => return Ok(Err(other)),
        };
        let (_, cell) = inner.batches.entry(accepted.batch).or_insert_with(|| {
            // More records may come before the driver has its turn: they share the batch.
            shared.wake_driver();
            (self.id, Arc::default())
        });
        Ok(Ok(Delivery {
            cell: cell.clone(),
            partition: accepted.partition,
            index: accepted.index,
            timestamp,
            slot: None,
        }))
    }

    fn timed_out(&self, what: &str) -> ClientError {
        let last = self
            .client
            .shared
            .lock()
            .core
            .last_failure()
            .map(ToString::to_string);
        ClientError::TimedOut {
            what: what.into(),
            after: self.delivery_timeout,
            last,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let id = self.id;
        self.client.shared.with(|inner, now| {
            inner.rooms.remove(&id);
            inner.core.close_producer(now, id);
        });
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}

/// ms since 1970.
fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
