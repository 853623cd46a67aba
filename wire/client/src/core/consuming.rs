//! Consumers: from positions to fetches, and from answers to chunks.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millrace_wire::native::Response;
use millrace_wire::native::messages::{
    FetchPartition, FetchPartitionResult, FetchRequest, FetchTopic, ListOffsetsPartition,
    ListOffsetsRequest, ListOffsetsTopic,
};

use super::consumer::{Chunk, Consumer, Draft, FetchId, Told, Trouble};
use super::metadata::PartitionKey;
use super::random::Backoff;
use super::requests::{Pending, Purpose};
use super::{ConnectionId, ConsumerId, Core, Event, Route, Time, Timer};
use crate::{ClientError, ConsumerConfig, Start, TopicPartition};

type Asked = Vec<(PartitionKey, u64)>;

impl Core {
    /// A consumer with nothing assigned.
    pub fn open_consumer(&mut self, config: ConsumerConfig) -> ConsumerId {
        let id = ConsumerId(self.next_consumer);
        self.next_consumer += 1;
        self.consumers.insert(id, Consumer::new(config));
        id
    }

    /// The consumer is no more.
    pub fn close_consumer(&mut self, id: ConsumerId) {
        self.consumers.remove(&id);
        self.timers.cancel(Timer::Consumer(id));
    }

    /// Reads these partitions and no others.
    pub fn assign(&mut self, id: ConsumerId, partitions: &[(&str, u32, Start)]) {
        let keys = self.keys(partitions);
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.assign(keys);
        }
    }

    /// Reads these partitions as well; those that are read already go on where they are.
    pub fn assign_more(&mut self, id: ConsumerId, partitions: &[(&str, u32, Start)]) {
        let keys = self.keys(partitions);
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.assign_more(keys);
        }
    }

    fn keys(&mut self, partitions: &[(&str, u32, Start)]) -> Vec<(PartitionKey, Start)> {
        partitions
            .iter()
            .map(|(name, partition, start)| (self.key(name, *partition), *start))
            .collect()
    }

    /// Goes on from another place. Tells whether the partition is assigned.
    pub fn seek(&mut self, id: ConsumerId, topic: &str, partition: u32, to: Start) -> bool {
        let key = self.key(topic, partition);
        self.consumers
            .get_mut(&id)
            .is_some_and(|consumer| consumer.seek(key, to))
    }

    /// How many of the consumer's partitions are not placed yet.
    #[must_use]
    pub fn unresolved(&self, id: ConsumerId) -> usize {
        self.consumers.get(&id).map_or(0, Consumer::unresolved)
    }

    /// Whether the partition is not placed yet.
    #[must_use]
    pub fn is_unresolved(&self, id: ConsumerId, place: &TopicPartition) -> bool {
        let Some(topic) = self.metadata.find(&place.topic) else {
            return false;
        };
        let key = PartitionKey {
            topic,
            partition: place.partition,
        };
        let consumer = self.consumers.get(&id);
        consumer.is_some_and(|consumer| consumer.is_unresolved(key))
    }

    /// The offset at which reading of the partition began, once it is known.
    #[must_use]
    pub fn begin(&self, id: ConsumerId, topic: &str, partition: u32) -> Option<i64> {
        let key = PartitionKey {
            topic: self.metadata.find(topic)?,
            partition,
        };
        self.consumers.get(&id)?.begin(key)
    }

    /// The high watermark last told.
    #[must_use]
    pub fn high_watermark(&self, id: ConsumerId, topic: &str, partition: u32) -> Option<i64> {
        let key = PartitionKey {
            topic: self.metadata.find(topic)?,
            partition,
        };
        self.consumers.get(&id)?.high_watermark(key)
    }

    /// The next chunk that was fetched.
    pub fn take_chunk(&mut self, id: ConsumerId) -> Option<Chunk> {
        self.consumers.get_mut(&id)?.take_chunk()
    }

    /// The next error that is the user's to see.
    pub fn take_consumer_error(&mut self, id: ConsumerId) -> Option<ClientError> {
        self.consumers.get_mut(&id)?.take_error()
    }

    /// A chunk that was taken is damaged: its partition rests until it is sought.
    pub fn rest(&mut self, id: ConsumerId, topic: &str, partition: u32) {
        let key = self.key(topic, partition);
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.rest(key);
        }
    }

    /// How many partitions the topic has: none if that is not known yet, in which case
    /// [`Event::MetadataChanged`] will tell when to ask again.
    pub fn partitions(&mut self, now: Time, topic: &str) -> Result<Option<u32>, ClientError> {
        let key = self.metadata.topic(topic);
        match self.metadata.partitions(key, now) {
            super::metadata::Knowledge::Known(partitions) => Ok(Some(partitions)),
            super::metadata::Knowledge::Wait => Ok(None),
            super::metadata::Knowledge::Missing(error) => Err(error),
        }
    }

    pub(super) fn key(&mut self, topic: &str, partition: u32) -> PartitionKey {
        PartitionKey {
            topic: self.metadata.topic(topic),
            partition,
        }
    }

    pub(super) fn schedule_consumers(&mut self, now: Time) {
        let ids: Vec<ConsumerId> = self.consumers.keys().copied().collect();
        for id in ids {
            let Some(consumer) = self.consumers.get_mut(&id) else {
                continue;
            };
            if !std::mem::take(&mut consumer.dirty) {
                continue;
            }
            let (questions, free) = (consumer.questions(now), consumer.fetchable(now));
            for (connection, keys) in self.by_connection(now, id, questions) {
                self.ask_offsets(now, id, connection, keys);
            }
            for (connection, keys) in self.by_connection(now, id, free) {
                self.fetch(now, id, connection, keys);
            }
            // What was done here is no news to the planning itself.
            if let Some(consumer) = self.consumers.get_mut(&id) {
                consumer.dirty = false;
                if let Some(at) = consumer.next_ripe(now) {
                    self.timers.set_by(Timer::Consumer(id), at);
                }
            }
        }
    }

    /// Sorts partitions by the connection that leads to them; those without one wait, and those
    /// that do not exist become errors.
    fn by_connection(
        &mut self,
        now: Time,
        id: ConsumerId,
        keys: Vec<PartitionKey>,
    ) -> BTreeMap<ConnectionId, Vec<PartitionKey>> {
        let mut sorted: BTreeMap<ConnectionId, Vec<PartitionKey>> = BTreeMap::new();
        for key in keys {
            match self.route(now, key) {
                Route::To(connection) => sorted.entry(connection).or_default().push(key),
                Route::Wait => {}
                // A topic that its group reads may come again; if not, the group will hear of it.
                Route::Missing(_) if self.groups.contains_key(&id) => {
                    self.retry_later(now, id, key);
                }
                Route::Missing(error) => {
                    if let Some(consumer) = self.consumers.get_mut(&id) {
                        consumer.park(key, error);
                        self.events.push_back(Event::Consumer(id));
                    }
                }
            }
        }
        sorted
    }

    fn ask_offsets(
        &mut self,
        now: Time,
        id: ConsumerId,
        connection: ConnectionId,
        keys: Vec<PartitionKey>,
    ) {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        let mut asked: Asked = Vec::new();
        let mut last = None;
        for key in keys {
            let question = self
                .consumers
                .get_mut(&id)
                .and_then(|consumer| consumer.ask(key));
            let Some((timestamp, generation)) = question else {
                continue;
            };
            if last != Some(key.topic) {
                let name = self.metadata.name(key.topic).to_string();
                topics.push(ListOffsetsTopic {
                    name,
                    partitions: Vec::new(),
                });
                last = Some(key.topic);
            }
            if let Some(topic) = topics.last_mut() {
                let partition = key.partition;
                topic.partitions.push(ListOffsetsPartition {
                    partition,
                    timestamp,
                });
            }
            asked.push((key, generation));
        }
        if asked.is_empty() {
            return;
        }
        let deadline = now.plus(self.config.request_timeout);
        let pending = Pending {
            purpose: Purpose::Offsets {
                consumer: id,
                asked,
            },
            deadline,
        };
        let request = ListOffsetsRequest { topics };
        if let Err(failed) = self.transmit(connection, request.into(), vec![], pending) {
            let (pending, error) = *failed;
            if let Purpose::Offsets { asked, .. } = pending.purpose {
                self.offsets_lost(now, id, asked, &error);
            }
        }
    }

    pub(super) fn offsets_told(
        &mut self,
        now: Time,
        id: ConsumerId,
        asked: Asked,
        answer: Response,
    ) {
        let answer = match answer {
            Response::ListOffsets(answer) => answer,
            Response::Error(status) => {
                let error = ClientError::check(&status)
                    .err()
                    .unwrap_or(ClientError::Closed);
                return self.offsets_lost(now, id, asked, &error);
            }
            _ => {
                let reason = "the broker does not answer what was asked";
                return self.offsets_lost(now, id, asked, &ClientError::invalid(reason));
            }
        };
        let mut told = BTreeMap::new();
        for topic in answer.topics {
            let Some(key) = self.metadata.find(&topic.name) else {
                continue;
            };
            for result in topic.partitions {
                let key = PartitionKey {
                    topic: key,
                    partition: result.partition,
                };
                told.insert(
                    key,
                    ClientError::check(&result.status).map(|()| result.offset),
                );
            }
        }
        for (key, generation) in asked {
            let left_out = || {
                Err(ClientError::invalid(
                    "the broker's answer leaves a partition out",
                ))
            };
            let answer = told.remove(&key).unwrap_or_else(left_out);
            self.offset_told(now, id, key, generation, answer);
        }
        self.events.push_back(Event::Consumer(id));
    }

    pub(super) fn offsets_lost(
        &mut self,
        now: Time,
        id: ConsumerId,
        asked: Asked,
        error: &ClientError,
    ) {
        for (key, generation) in asked {
            self.offset_told(now, id, key, generation, Err(error.clone()));
        }
        self.events.push_back(Event::Consumer(id));
    }

    fn offset_told(
        &mut self,
        now: Time,
        id: ConsumerId,
        key: PartitionKey,
        generation: u64,
        answer: Result<i64, ClientError>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        if consumer.answered(key, generation, answer) == Trouble::Retry {
            self.retry_later(now, id, key);
        } else {
            self.group_reading_begun(id, key);
        }
    }

    fn fetch(
        &mut self,
        now: Time,
        id: ConsumerId,
        connection: ConnectionId,
        keys: Vec<PartitionKey>,
    ) {
        let connections = self.connections.count();
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let config = consumer.config.clone();
        for draft in consumer.plan(now, connection, keys, connections) {
            let fetch = draft.id;
            let deadline = now.plus(self.config.request_timeout).plus(draft.max_wait);
            let request = self.fetch_request(draft, &config);
            let purpose = Purpose::Fetch {
                consumer: id,
                fetch,
            };
            let pending = Pending { purpose, deadline };
            if self
                .transmit(connection, request.into(), Vec::new(), pending)
                .is_err()
            {
                self.fetch_lost(now, id, fetch);
            }
        }
    }

    fn fetch_request(&self, mut draft: Draft, config: &ConsumerConfig) -> FetchRequest {
        draft.members.sort_by_key(|(key, _)| *key);
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut last = None;
        for (key, offset) in draft.members {
            if last != Some(key.topic) {
                let name = self.metadata.name(key.topic).to_string();
                topics.push(FetchTopic {
                    name,
                    partitions: Vec::new(),
                });
                last = Some(key.topic);
            }
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(FetchPartition {
                    partition: key.partition,
                    offset,
                    max_bytes: config.partition_max_bytes,
                });
            }
        }
        FetchRequest {
            max_wait_ms: draft.max_wait.as_millis().try_into().unwrap_or(u32::MAX),
            min_bytes: config.min_bytes,
            max_bytes: draft.max_bytes,
            topics,
        }
    }

    pub(super) fn fetch_answered(
        &mut self,
        now: Time,
        id: ConsumerId,
        fetch: FetchId,
        answer: Response,
        mut data: Bytes,
    ) {
        let Response::Fetch(answer) = answer else {
            return self.fetch_lost(now, id, fetch);
        };
        for topic in answer.topics {
            let Some(key) = self.metadata.find(&topic.name) else {
                continue;
            };
            let name = self.metadata.name(key).clone();
            for result in topic.partitions {
                let bytes = data.split_to((result.records_bytes as usize).min(data.len()));
                let key = PartitionKey {
                    topic: key,
                    partition: result.partition,
                };
                self.partition_fetched(now, id, fetch, key, &name, result, bytes);
            }
        }
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.release(fetch);
            if consumer.has_news() {
                self.events.push_back(Event::Consumer(id));
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all of them name what the result is of"
    )]
    fn partition_fetched(
        &mut self,
        now: Time,
        id: ConsumerId,
        fetch: FetchId,
        key: PartitionKey,
        name: &Arc<str>,
        result: FetchPartitionResult,
        data: Bytes,
    ) {
        let is_deleted = result.status.code == crate::ErrorCode::TopicDeleted as i16;
        if is_deleted && self.groups.contains_key(&id) {
            // As where the topic is not known at all.
            return self.retry_later(now, id, key);
        }
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let told = Told {
            high_watermark: result.high_watermark,
            log_start: result.log_start,
            result: ClientError::check(&result.status).map(|()| data),
        };
        if consumer.fetched(now, fetch, key, name, told) == Trouble::Retry {
            self.retry_later(now, id, key);
        }
    }

    /// The fetch brought nothing and will not.
    pub(super) fn fetch_lost(&mut self, now: Time, id: ConsumerId, fetch: FetchId) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        for key in consumer.release(fetch) {
            self.retry_later(now, id, key);
        }
    }

    /// The partition failed in a way that another attempt, or newer metadata, may mend.
    fn retry_later(&mut self, now: Time, id: ConsumerId, key: PartitionKey) {
        self.metadata.doubt();
        let (backoff, random): (Backoff, _) = (self.backoff, &mut self.random);
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let pause = |failures| backoff.pause(failures, random);
        consumer.postpone(now, key, pause);
    }
}
