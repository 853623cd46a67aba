//! Producers: from records to requests, and from answers to deliveries.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millrace_wire::native::Response;
use millrace_wire::native::messages::{
    ProducePartition, ProducePartitionResult, ProduceRequest, ProduceResponse, ProduceTopic,
};

use super::metadata::{Knowledge, PartitionKey};
use super::producer::{BatchId, Outcome, Producer, Push, Verdict};
use super::requests::{Pending, Purpose};
use super::{BatchPlace, ConnectionId, Core, Event, ProducerId, Route, Time, Timer};
use crate::{Acks, ClientError, ErrorCode, ProducerConfig, Record};

/// A request gathers batches up to this many bytes; a larger one travels alone.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// Bytes of a frame that are not batches, per batch: enough for the longest names.
const PER_BATCH_BYTES: usize = 512;

/// A produce request in the making.
struct Draft {
    batches: Vec<(PartitionKey, BatchId, Bytes)>,
    bytes: usize,
}

impl Draft {
    /// Whether it has a batch of the partition: a request carries at most one of each.
    fn has(&self, key: PartitionKey) -> bool {
        self.batches.iter().any(|(of, _, _)| *of == key)
    }
}

impl Core {
    /// A producer.
    pub fn open_producer(&mut self, config: ProducerConfig) -> ProducerId {
        let id = ProducerId(self.next_producer);
        self.next_producer += 1;
        self.producers.insert(id, Producer::new(config));
        id
    }

    /// Hands over a record, stamped `wall_ms` (ms since 1970) unless it has a timestamp.
    pub fn push(&mut self, now: Time, id: ProducerId, record: &Record, wall_ms: i64) -> Push {
        let Some(producer) = self.producers.get_mut(&id) else {
            return Push::Refused(ClientError::Closed);
        };
        if producer.closed {
            return Push::Refused(ClientError::Closed);
        }
        producer.identity.want(now);
        let topic = self.metadata.topic(&record.topic);
        let partitions = match self.metadata.partitions(topic, now) {
            Knowledge::Known(0) | Knowledge::Wait => return Push::Wait,
            Knowledge::Known(partitions) => partitions,
            Knowledge::Missing(error) => return Push::Refused(error),
        };
        let partition = producer.choose(topic, record, partitions, &mut self.random);
        let key = PartitionKey { topic, partition };
        match self.metadata.leader(key, now) {
            Knowledge::Known(_) => {}
            Knowledge::Wait => return Push::Wait,
            Knowledge::Missing(error) => return Push::Refused(error),
        }
        let timestamp = record.timestamp.unwrap_or(wall_ms);
        let pushed = producer.push(now, key, record, timestamp, &mut self.next_batch);
        if let Push::Accepted(accepted) = &pushed
            && accepted.first
        {
            self.arm(now, id, key);
        }
        pushed
    }

    /// Lets everything that the producer has gathered leave without lingering.
    pub fn flush(&mut self, now: Time, id: ProducerId) {
        if let Some(producer) = self.producers.get_mut(&id) {
            producer.flush(now);
        }
    }

    /// Takes no more records of this producer; those accepted are still seen to.
    pub fn close_producer(&mut self, now: Time, id: ProducerId) {
        if let Some(producer) = self.producers.get_mut(&id) {
            producer.closed = true;
            producer.flush(now);
            if producer.is_idle() {
                self.producers.remove(&id);
            }
        }
    }

    /// Whether records that were accepted are neither stored nor given up yet.
    #[must_use]
    pub fn has_undelivered(&self) -> bool {
        self.producers.values().any(|producer| !producer.is_idle())
    }

    /// Sees to it that the queue is looked after in time.
    fn arm(&mut self, now: Time, id: ProducerId, key: PartitionKey) {
        let next = self
            .producers
            .get(&id)
            .and_then(|producer| producer.next_deadline(now, key));
        if let Some(at) = next {
            self.timers.set_by(Timer::Queue(id, key), at);
        }
    }

    /// Lingering or a pause is over, or batches have become too old.
    pub(super) fn queue_due(&mut self, now: Time, id: ProducerId, key: PartitionKey) {
        let Some(producer) = self.producers.get_mut(&id) else {
            return;
        };
        let after = producer.config.delivery_timeout;
        let not_identified = producer.identity.last_failure().cloned();
        let expired = producer.expire(now, key);
        producer.touch(now, key);
        for (batch, last) in expired {
            let topic = self.metadata.name(key.topic).to_string();
            let partition = key.partition;
            let last = last.or_else(|| not_identified.clone()).or_else(|| {
                self.connections
                    .last_failure
                    .as_ref()
                    .map(ToString::to_string)
            });
            let error = ClientError::DeliveryTimedOut {
                topic,
                partition,
                after,
                last,
            };
            self.finish(now, id, key, batch, Err(error));
        }
        self.arm(now, id, key);
    }

    /// Makes requests of the batches that can leave now.
    pub(super) fn schedule_produce(&mut self, now: Time) {
        let ids: Vec<ProducerId> = self.producers.keys().copied().collect();
        for id in ids {
            let mut drafts: BTreeMap<ConnectionId, Draft> = BTreeMap::new();
            while let Some(key) = self
                .producers
                .get_mut(&id)
                .and_then(|producer| producer.next_ready(now))
            {
                self.schedule_queue(now, id, key, &mut drafts);
            }
            for (connection, draft) in drafts {
                self.send_draft(now, id, connection, draft);
            }
        }
    }

    /// Adds the queue's next batch to its connection's request, or puts the queue aside.
    fn schedule_queue(
        &mut self,
        now: Time,
        id: ProducerId,
        key: PartitionKey,
        drafts: &mut BTreeMap<ConnectionId, Draft>,
    ) {
        if let Some(producer) = self.producers.get_mut(&id)
            && producer.awaits_id(key)
        {
            producer.identity.want(now);
            return producer.stall(key);
        }
        let connection = match self.produce_route(now, id, key) {
            Route::To(connection) => connection,
            Route::Missing(error) => return self.fail_waiting(now, id, key, &error),
            Route::Wait => {
                if let Some(producer) = self.producers.get_mut(&id) {
                    producer.stall(key);
                }
                return;
            }
        };
        let limit = self.frame_limit(connection);
        let bytes = match self
            .producers
            .get_mut(&id)
            .map(|producer| producer.prepare(key))
        {
            Some(Ok(bytes)) if bytes + PER_BATCH_BYTES <= limit => bytes + PER_BATCH_BYTES,
            Some(Ok(bytes)) => {
                let error = ClientError::RecordTooLarge { bytes, limit };
                return self.fail_first_waiting(now, id, key, error);
            }
            Some(Err((batch, error))) => return self.finish(now, id, key, batch, Err(error)),
            None => return,
        };
        let most = MAX_REQUEST_BYTES.min(limit);
        let flying = self
            .producers
            .get(&id)
            .is_some_and(|p| p.route_in_use(key).is_some());
        if drafts
            .get(&connection)
            .is_some_and(|draft| draft.bytes + bytes > most || (flying && draft.has(key)))
            && let Some(full) = drafts.remove(&connection)
        {
            self.send_draft(now, id, connection, full);
        }
        let has_draft = drafts.contains_key(&connection);
        let has_slot = has_draft || self.has_produce_slot(id, connection);
        let Some(producer) = self.producers.get_mut(&id) else {
            return;
        };
        if !has_slot {
            producer.stall(key);
            return;
        }
        producer.set_route(key, connection);
        if let Some((batch, contents)) = producer.take(now, key) {
            let draft = drafts.entry(connection).or_insert(Draft {
                batches: Vec::new(),
                bytes: 0,
            });
            draft.bytes += bytes;
            draft.batches.push((key, batch, contents));
        }
    }

    /// While batches of a partition are under way, those behind them take the same way.
    fn produce_route(&mut self, now: Time, id: ProducerId, key: PartitionKey) -> Route {
        let in_use = self
            .producers
            .get(&id)
            .and_then(|producer| producer.route_in_use(key));
        match in_use {
            Some(connection) if self.connections.is_ready(connection) => Route::To(connection),
            _ => self.route(now, key),
        }
    }

    fn frame_limit(&self, id: ConnectionId) -> usize {
        let ready = self
            .connections
            .get(id)
            .and_then(|connection| connection.ready());
        ready.map_or(0, |ready| ready.max_frame_bytes as usize)
    }

    fn has_produce_slot(&self, id: ProducerId, connection: ConnectionId) -> bool {
        let Some(connection) = self.connections.get(connection) else {
            return false;
        };
        let Some(ready) = connection.ready() else {
            return false;
        };
        let most = self
            .producers
            .get(&id)
            .map_or(0, |producer| producer.config.max_in_flight);
        let mine = connection.produces.get(&id).copied().unwrap_or(0);
        mine < most.max(1) && connection.unanswered.len() < ready.max_in_flight
    }

    fn send_draft(&mut self, now: Time, id: ProducerId, connection: ConnectionId, draft: Draft) {
        let Some(producer) = self.producers.get(&id) else {
            return;
        };
        let acks = producer.config.acks;
        // The broker gives up first, so that its word on a slow quorum arrives.
        let timeout = self.config.request_timeout / 2;
        let mut topics: Vec<ProduceTopic> = Vec::new();
        let mut attachments = Vec::with_capacity(draft.batches.len());
        let mut batches = Vec::with_capacity(draft.batches.len());
        let mut by_topic = draft.batches;
        by_topic.sort_by_key(|(key, batch, _)| (key.topic, key.partition, *batch));
        let mut last = None;
        for (key, batch, contents) in by_topic {
            if last != Some(key.topic) {
                let name = self.metadata.name(key.topic).to_string();
                topics.push(ProduceTopic {
                    name,
                    partitions: Vec::new(),
                });
                last = Some(key.topic);
            }
            let (partition, batch_bytes) = (key.partition, contents.len() as u32);
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(ProducePartition {
                    partition,
                    batch_bytes,
                });
            }
            attachments.push(contents);
            batches.push((key, batch));
        }
        let timeout_ms = timeout.as_millis().try_into().unwrap_or(u32::MAX);
        let request = ProduceRequest {
            acks: acks.number(),
            timeout_ms,
            topics,
        };
        let deadline = now.plus(self.config.request_timeout);
        let purpose = Purpose::Produce {
            producer: id,
            batches,
        };
        let pending = Pending { purpose, deadline };
        match self.transmit(connection, request.into(), attachments, pending) {
            Ok(()) => {
                if let Some(connection) = self.connections.get_mut(connection) {
                    *connection.produces.entry(id).or_default() += 1;
                    if acks == Acks::None {
                        connection.await_writing();
                    }
                }
            }
            Err(failed) => {
                let (pending, error) = *failed;
                if let Purpose::Produce { batches, .. } = pending.purpose {
                    for (key, batch) in batches {
                        self.finish(now, id, key, batch, Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Frames were written: with acks 0 that is all there is to wait for.
    pub(super) fn written(&mut self, now: Time, id: ConnectionId) {
        while let Some(connection) = self.connections.get_mut(id)
            && let Some((correlation, pending)) = connection.take_written()
        {
            self.timers.cancel(Timer::Request(id, correlation));
            let Purpose::Produce { producer, batches } = pending.purpose else {
                continue;
            };
            self.produce_slot_freed(id, producer);
            for (key, batch) in batches {
                let place = BatchPlace {
                    base_offset: None,
                    append_time_ms: None,
                };
                self.finish(now, producer, key, batch, Ok(place));
            }
        }
    }

    fn produce_slot_freed(&mut self, connection: ConnectionId, id: ProducerId) {
        if let Some(connection) = self.connections.get_mut(connection)
            && let Some(mine) = connection.produces.get_mut(&id)
        {
            *mine -= 1;
            if *mine == 0 {
                connection.produces.remove(&id);
            }
        }
        self.producers.values_mut().for_each(Producer::unstall);
    }

    /// The answer to a produce request.
    pub(super) fn produced(
        &mut self,
        now: Time,
        connection: ConnectionId,
        id: ProducerId,
        batches: Vec<(PartitionKey, BatchId)>,
        answer: Response,
    ) {
        self.produce_slot_freed(connection, id);
        let results = match answer {
            Response::Produce(answer) => flatten(answer),
            Response::Error(status) => {
                let error = ClientError::check(&status)
                    .err()
                    .unwrap_or(ClientError::Closed);
                for (key, batch) in batches {
                    self.attempt_failed(now, id, key, batch, &error, outcome_of(&error));
                }
                return;
            }
            _ => Vec::new(),
        };
        let mut results = results.into_iter();
        for (key, batch) in batches {
            let name: Arc<str> = self.metadata.name(key.topic).clone();
            let result = results
                .next()
                .filter(|(topic, result)| **topic == *name && result.partition == key.partition);
            let Some((_, result)) = result else {
                let address = self.connections.get(connection).map(|c| c.address.clone());
                let error = ClientError::Protocol {
                    address: address.unwrap_or_default(),
                    reason: "its answer to a produce request leaves batches out".into(),
                };
                self.attempt_failed(now, id, key, batch, &error, Outcome::Unknown);
                continue;
            };
            match ClientError::check(&result.status) {
                Ok(()) => {
                    let place = BatchPlace {
                        base_offset: Some(result.base_offset),
                        append_time_ms: Some(result.append_time_ms).filter(|ms| *ms >= 0),
                    };
                    self.finish(now, id, key, batch, Ok(place));
                }
                Err(error) => {
                    self.attempt_failed(now, id, key, batch, &error, outcome_of(&error));
                }
            }
        }
    }

    /// The connection broke before the answer came.
    pub(super) fn produce_lost(
        &mut self,
        now: Time,
        id: ProducerId,
        batches: Vec<(PartitionKey, BatchId)>,
        error: &ClientError,
    ) {
        for (key, batch) in batches {
            self.attempt_failed(now, id, key, batch, error, Outcome::Unknown);
        }
    }

    fn attempt_failed(
        &mut self,
        now: Time,
        id: ProducerId,
        key: PartitionKey,
        batch: BatchId,
        error: &ClientError,
        outcome: Outcome,
    ) {
        if error.code() == Some(ErrorCode::DuplicateSequenceNumber) {
            // It was stored, too long ago for the broker to tell where.
            let place = BatchPlace {
                base_offset: None,
                append_time_ms: None,
            };
            return self.finish(now, id, key, batch, Ok(place));
        }
        if error.is_retriable() {
            self.metadata.doubt();
        }
        let (backoff, random) = (self.backoff, &mut self.random);
        let pause = |failures| backoff.pause(failures, random);
        let Some(producer) = self.producers.get_mut(&id) else {
            return;
        };
        match producer.fail(now, key, batch, error, outcome, pause) {
            Some(Verdict::Retry) => self.arm(now, id, key),
            Some(Verdict::GiveUp(error)) => self.finish(now, id, key, batch, Err(error)),
            Some(Verdict::Unclear) => {
                let error = ClientError::FateUnknown {
                    topic: self.metadata.name(key.topic).to_string(),
                    partition: key.partition,
                };
                self.finish(now, id, key, batch, Err(error));
            }
            None => {}
        }
    }

    /// The partition does not exist: what waits for it fails.
    pub(super) fn fail_waiting(
        &mut self,
        now: Time,
        id: ProducerId,
        key: PartitionKey,
        error: &ClientError,
    ) {
        let Some(producer) = self.producers.get_mut(&id) else {
            return;
        };
        for batch in producer.waiting(key) {
            self.finish(now, id, key, batch, Err(error.clone()));
        }
    }

    fn fail_first_waiting(
        &mut self,
        now: Time,
        id: ProducerId,
        key: PartitionKey,
        error: ClientError,
    ) {
        let Some(producer) = self.producers.get_mut(&id) else {
            return;
        };
        if let Some(batch) = producer.waiting(key).first() {
            self.finish(now, id, key, *batch, Err(error));
        }
    }

    /// The batch is stored or given up.
    fn finish(
        &mut self,
        now: Time,
        id: ProducerId,
        key: PartitionKey,
        batch: BatchId,
        outcome: Result<BatchPlace, ClientError>,
    ) {
        let Some(producer) = self.producers.get_mut(&id) else {
            return;
        };
        if !producer.finish(now, key, batch, outcome.is_ok()) {
            return;
        }
        self.events.push_back(Event::BatchDone {
            producer: id,
            batch,
            outcome,
        });
        self.events.push_back(Event::Room(id));
        if producer.is_idle() && producer.closed {
            self.producers.remove(&id);
        }
        self.timers.cancel(Timer::Queue(id, key));
        self.arm(now, id, key);
    }
}

fn flatten(answer: ProduceResponse) -> Vec<(Arc<str>, ProducePartitionResult)> {
    let topics = answer.topics.into_iter();
    topics
        .flat_map(|topic| {
            let name: Arc<str> = topic.name.into();
            topic
                .partitions
                .into_iter()
                .map(move |result| (name.clone(), result))
        })
        .collect()
}

/// What a broker's error says about the batch.
fn outcome_of(error: &ClientError) -> Outcome {
    match error.code() {
        // The broker gave up waiting, or its disk did: the batch may be there.
        Some(ErrorCode::RequestTimedOut | ErrorCode::StorageError) => Outcome::Unknown,
        Some(ErrorCode::OutOfOrderSequenceNumber) => Outcome::OutOfSequence,
        Some(ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch) => Outcome::Disowned,
        Some(code) if code.is_retriable() => Outcome::NotStored,
        _ => Outcome::Final,
    }
}
