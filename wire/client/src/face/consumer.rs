//! Reading records.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::client::Handle;
use crate::core::consumer::Reader;
use crate::core::{ConsumerId, Core, Time};
use crate::{ClientError, ConsumedRecord, ConsumerConfig, Start};

/// Reads the partitions that it was assigned.
pub struct Consumer {
    pub(super) client: Arc<Handle>,
    pub(super) id: ConsumerId,
    max_poll_records: usize,
    pub(super) reader: Reader,
    pub(super) news: Arc<Notify>,
    /// To be told by the next poll, since this one had records to give.
    error: Option<ClientError>,
}

impl Consumer {
    pub(super) fn new(client: Arc<Handle>, config: ConsumerConfig) -> Consumer {
        let max_poll_records = config.max_poll_records;
        let open = |core: &mut Core, _| Ok(core.open_consumer(config));
        let opened = Consumer::open(client, max_poll_records, open);
        opened.unwrap_or_else(|never: std::convert::Infallible| match never {})
    }

    /// A consumer that the core opens like this.
    pub(super) fn open<E>(
        client: Arc<Handle>,
        max_poll_records: usize,
        open: impl FnOnce(&mut Core, Time) -> Result<ConsumerId, E>,
    ) -> Result<Consumer, E> {
        let news = Arc::new(Notify::new());
        let id = client.shared.with(|inner, now| {
            let id = open(&mut inner.core, now)?;
            inner.news.insert(id, news.clone());
            Ok(id)
        })?;
        Ok(Consumer {
            client,
            id,
            max_poll_records,
            reader: Reader::new(),
            news,
            error: None,
        })
    }

    /// Reads these partitions from these places, and no others. Returns when the places are known,
    /// so that what is produced after it returns lies behind [`Start::Latest`].
    ///
    /// Cancel safety: if the future is dropped, the assignment stands and is worked out in the
    /// background.
    pub async fn assign(&mut self, partitions: &[(&str, u32, Start)]) -> Result<(), ClientError> {
        let id = self.id;
        self.reader.clear();
        self.error = None;
        self.client
            .shared
            .with(|inner, _| inner.core.assign(id, partitions));
        self.resolved().await
    }

    /// Reads these partitions as well, and returns when their places are known. Those that are
    /// assigned already go on where they are.
    ///
    /// Cancel safety: as with `assign`.
    pub async fn assign_more(
        &mut self,
        partitions: &[(&str, u32, Start)],
    ) -> Result<(), ClientError> {
        let id = self.id;
        self.client
            .shared
            .with(|inner, _| inner.core.assign_more(id, partitions));
        self.resolved().await
    }

    /// Reads all partitions that the topic has now, as `assign` does. It does not grow with the
    /// topic; `assign_more` makes it.
    pub async fn assign_topic(&mut self, topic: &str, start: Start) -> Result<(), ClientError> {
        let deadline = Instant::now() + self.client.config.request_timeout;
        let partitions = loop {
            let changed = self.client.shared.metadata.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let known = self
                .client
                .shared
                .with(|inner, now| inner.core.partitions(now, topic))?;
            match known {
                Some(partitions) => break partitions,
                None if timeout_at(deadline, changed).await.is_err() => {
                    return Err(self.timed_out(&format!("the question for topic '{topic}'")));
                }
                None => {}
            }
        };
        let all: Vec<_> = (0..partitions)
            .map(|partition| (topic, partition, start))
            .collect();
        self.assign(&all).await
    }

    /// Goes on from another place in an assigned partition; what was fetched ahead is dropped.
    /// Returns when the place is known.
    pub async fn seek(
        &mut self,
        topic: &str,
        partition: u32,
        to: Start,
    ) -> Result<(), ClientError> {
        let id = self.id;
        let assigned = self
            .client
            .shared
            .with(|inner, _| inner.core.seek(id, topic, partition, to));
        if !assigned {
            return Err(ClientError::NotAssigned {
                topic: topic.into(),
                partition,
            });
        }
        self.reader.forget(topic, partition);
        self.resolved().await
    }

    /// The offset of the next record that `poll` gives of this partition, once it is known.
    #[must_use]
    pub fn position(&self, topic: &str, partition: u32) -> Option<i64> {
        let begin = || {
            self.client
                .shared
                .lock()
                .core
                .begin(self.id, topic, partition)
        };
        self.reader.position(topic, partition).or_else(begin)
    }

    /// The high watermark that the broker last told of this partition: how far it could be read.
    #[must_use]
    pub fn high_watermark(&self, topic: &str, partition: u32) -> Option<i64> {
        self.client
            .shared
            .lock()
            .core
            .high_watermark(self.id, topic, partition)
    }

    /// Records, as soon as there are any; an empty list when there were none for `timeout`.
    /// Records of a partition come in order.
    ///
    /// Cancel safety: the position only advances for records that were returned, so a dropped
    /// future loses none.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        let deadline = Instant::now() + timeout;
        let news = self.news.clone();
        loop {
            let arrival = news.notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let records = self.take()?;
            if !records.is_empty() || timeout_at(deadline, arrival).await.is_err() {
                return Ok(records);
            }
        }
    }

    /// What there is now.
    pub(super) fn take(&mut self) -> Result<Vec<ConsumedRecord>, ClientError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut records = Vec::new();
        while records.len() < self.max_poll_records {
            if !self.reader.is_reading() {
                let chunk = self
                    .client
                    .shared
                    .with(|inner, _| inner.core.take_chunk(self.id));
                let Some(chunk) = chunk else { break };
                self.reader.begin(chunk);
            }
            if let Err(error) = self.reader.read(self.max_poll_records, &mut records) {
                self.rest_after(&error);
                self.error = Some(error);
                break;
            }
        }
        if records.is_empty() {
            let error = self.error.take().or_else(|| {
                self.client
                    .shared
                    .with(|inner, _| inner.core.take_consumer_error(self.id))
            });
            return error.map_or(Ok(records), Err);
        }
        Ok(records)
    }

    /// What follows damaged data is not given out either.
    fn rest_after(&self, error: &ClientError) {
        if let ClientError::Corrupt {
            topic, partition, ..
        } = error
        {
            self.client
                .shared
                .with(|inner, _| inner.core.rest(self.id, topic, *partition));
        }
    }

    /// Waits until all places are known, or an error says why one cannot be.
    async fn resolved(&mut self) -> Result<(), ClientError> {
        let deadline = Instant::now() + self.client.config.request_timeout;
        loop {
            let told = self.news.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            let open = {
                let mut inner = self.client.shared.lock();
                if let Some(error) = inner.core.take_consumer_error(self.id) {
                    return Err(error);
                }
                inner.core.unresolved(self.id)
            };
            if open == 0 {
                return Ok(());
            }
            if timeout_at(deadline, told).await.is_err() {
                return Err(self.timed_out(&format!("the question for {open} offsets")));
            }
        }
    }

    pub(super) fn timed_out(&self, what: &str) -> ClientError {
        let last = self
            .client
            .shared
            .lock()
            .core
            .last_failure()
            .map(ToString::to_string);
        let after = self.client.config.request_timeout;
        ClientError::TimedOut {
            what: what.into(),
            after,
            last,
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let id = self.id;
        self.client.shared.with(|inner, _| {
            inner.news.remove(&id);
            inner.core.close_consumer(id);
        });
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
