//! Producing: a batch is checked on the shard that received it and appended on the one that owns
//! its partition. [`Broker::append`] returns when the batch has its place, in the order of the
//! calls; waiting until it is durable is separate, so that many appends of one connection are in
//! flight at once and none overtakes another.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::{Either, select};
use millrace_shard::env::{Env, Instant, OnPanic, Queue};
use millrace_shard::local::{
    Event, OneshotReceiver, OneshotSender, Receiver, Sender, oneshot, queue,
};
use millrace_shard::log::{self, Partition};
use millrace_wire::batch::{
    self, BatchHeader, Compression, DEFAULT_MAX_UNCOMPRESSED_BYTES, ProduceLimits,
};
use millrace_wire::error::{ErrorCode, WireError};

use super::calls::{Appended, Call, CheckedBatch, Local, Reply, wrong_reply};
use super::groups::internal_topic;
use super::{Broker, TopicEntry, count, shutting_down};
use crate::topic_config::{CompressionType, TimestampType};

/// When a produce request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Not at all.
    None,
    /// When the batch is durable on the leader.
    Leader,
    /// When it is durable on a quorum; with one replica the same.
    All,
}

impl Acks {
    /// From the number in a request.
    pub fn from_number(acks: i16) -> Result<Acks, WireError> {
        match acks {
            0 => Ok(Acks::None),
            1 => Ok(Acks::Leader),
            -1 => Ok(Acks::All),
            other => Err(WireError::new(
                ErrorCode::InvalidRequiredAcks,
                format!("acks is 0 (no answer), 1 (leader) or -1 (all), not {other}"),
            )),
        }
    }
}

/// How many appends from other shards may wait to get their place. The mesh bounds what each shard
/// sends; this is beyond what all of them together can.
const LANE_ITEMS: u32 = 1 << 20;

/// How far in the future a record's timestamp may be, as in Kafka: one that is further ahead would
/// keep its segment from ever growing old.
const MAX_TIMESTAMP_AHEAD_MS: i64 = 60 * 60 * 1000;

/// How long an append waits for durability if the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// An append from another shard, and where to say how it went.
pub(super) struct LaneItem<E: Env> {
    batch: CheckedBatch,
    placed: OneshotSender<Result<Appending<E>, WireError>>,
}

pub(super) fn lane<E: Env>() -> (Sender<LaneItem<E>>, Receiver<LaneItem<E>>) {
    queue(LANE_ITEMS)
}

/// A batch that has its place in the partition and is becoming durable.
pub struct Appending<E: Env>(Place<E>);

enum Place<E: Env> {
    Here {
        partition: Rc<Partition<E>>,
        appended: log::Appended,
        append_time_ms: Option<i64>,
    },
    There(Local<Reply>),
    Settled(Result<Appended, WireError>),
}

/// Until when a request that came at `came` may wait to be durable: `timeout_ms`, or the broker's own
/// limit for 0.
#[must_use]
pub fn durable_deadline(came: Instant, timeout_ms: u32) -> Instant {
    came.plus(match timeout_ms {
        0 => DEFAULT_TIMEOUT,
        ms => Duration::from_millis(u64::from(ms)),
    })
}

/// What a request is told whose batches were not durable in time.
#[must_use]
pub fn not_durable_in_time() -> WireError {
    WireError::new(
        ErrorCode::RequestTimedOut,
        "the batch was not durable within the request's timeout; it may be there later",
    )
}

impl<E: Env> Appending<E> {
    /// Whether the batch is in a partition of this shard.
    pub fn is_here(&self) -> bool {
        matches!(self.0, Place::Here { .. })
    }

    /// How it went, if that is decided: by this shard's journal, or because it was waited for.
    pub fn outcome(&self) -> Option<Result<Appended, WireError>> {
        match &self.0 {
            Place::Here {
                partition,
                appended,
                append_time_ms,
            } => {
                let durable = appended.durable.outcome()?;
                let appended = || Appended {
                    base_offset: appended.base_offset,
                    append_time_ms: *append_time_ms,
                    log_start: partition.watermarks().log_start,
                };
                Some(
                    durable
                        .map_err(|error| error.to_wire())
                        .map(|()| appended()),
                )
            }
            Place::There(_) => None,
            Place::Settled(outcome) => Some(outcome.clone()),
        }
    }

    /// Whether it is decided after another one, both of them in partitions of this shard.
    pub fn is_decided_after(&self, other: &Appending<E>) -> bool {
        match (&self.0, &other.0) {
            (
                Place::Here { appended, .. },
                Place::Here {
                    appended: other, ..
                },
            ) => appended.durable.is_after(&other.durable),
            _ => false,
        }
    }

    /// Notifies `event`, once, when a batch in a partition of this shard is decided. Those of one
    /// shard are in the order in which they got their places, but for duplicates.
    pub fn watch(&self, event: &Rc<Event>) {
        if let Place::Here { appended, .. } = &self.0 {
            appended.durable.watch(event);
        }
    }

    /// Waits until it is decided, but not beyond `deadline`: from then on there is an outcome.
    pub async fn settle(&mut self, env: &E, deadline: Instant) {
        let late = Place::Settled(Err(not_durable_in_time()));
        let waiting = Appending(std::mem::replace(&mut self.0, late));
        let left = deadline.since(env.now());
        match select(pin!(waiting.durable()), pin!(env.sleep(left))).await {
            Either::Left((outcome, _)) => self.0 = Place::Settled(outcome),
            Either::Right(_) => {}
        }
    }

    async fn durable(self) -> Result<Appended, WireError> {
        match self.0 {
            Place::Here {
                partition,
                appended,
                append_time_ms,
            } => {
                let base_offset = appended.base_offset;
                appended
                    .durable
                    .wait()
                    .await
                    .map_err(|error| error.to_wire())?;
                let log_start = partition.watermarks().log_start;
                Ok(Appended {
                    base_offset,
                    append_time_ms,
                    log_start,
                })
            }
            Place::There(reply) => match reply.await {
                Reply::Appended(appended) => Ok(appended),
                other => Err(wrong_reply(other)),
            },
            Place::Settled(outcome) => outcome,
        }
    }
}

impl<E: Env> Broker<E> {
    /// Checks a batch and gives it its place in the partition. Calls for one partition take effect
    /// in the order in which they are made, if each is awaited before the next is made.
    pub async fn append(
        &self,
        topic: &TopicEntry,
        partition: u32,
        acks: Acks,
        batch: BytesMut,
    ) -> Result<Appending<E>, WireError> {
        if self.is_draining() {
            return Err(shutting_down());
        }
        if acks == Acks::All {
            let id = topic.partition(partition)?;
            topic.check_in_sync(self.leadership(id).in_sync.len())?;
        }
        if topic.topic.is_internal() {
            return Err(internal_topic(&topic.topic.name));
        }
        let checked = self.check(topic, partition, batch).inspect_err(|_| {
            count(&self.counters.refused_batches, 1);
        })?;
        let checked = match topic.config.compression {
            CompressionType::Producer => checked,
            // Apart, so that it costs those nothing who keep batches as they come.
            wanted => Box::pin(self.recompressed(wanted, checked)).await?,
        };
        let owner = self.owner(checked.partition);
        if owner == self.shard_id {
            return self.append_here(checked).await;
        }
        Ok(Appending(Place::There(
            self.peers.send(owner, Call::Append(checked)).await?,
        )))
    }

    fn check(
        &self,
        topic: &TopicEntry,
        partition: u32,
        mut batch: BytesMut,
    ) -> Result<CheckedBatch, WireError> {
        let partition = topic.partition(partition)?;
        let config = &topic.config;
        let stamp = config.timestamp_type == TimestampType::LogAppendTime;
        let limits = ProduceLimits {
            max_message_bytes: config.max_message_bytes as usize,
            max_uncompressed_bytes: DEFAULT_MAX_UNCOMPRESSED_BYTES,
            earliest_timestamp: i64::MIN,
            latest_timestamp: match stamp {
                true => i64::MAX,
                false => self
                    .env
                    .wall_clock_ms()
                    .saturating_add(MAX_TIMESTAMP_AHEAD_MS),
            },
            key_required: false,
        };
        let header = batch::validate_produced(&mut batch, &limits)?;
        if header.attributes.is_transactional() {
            return Err(WireError::new(
                ErrorCode::UnsupportedVersion,
                "transactions are not served yet; produce without a transactional.id",
            ));
        }
        Ok(CheckedBatch {
            partition,
            batch,
            record_count: header.record_count,
            max_timestamp: header.max_timestamp,
            stamp,
        })
    }

    /// The batch in the codec that its topic asks for. Compressing takes long, so it is done beside
    /// the shard; whoever appends waits for it, and so the order of a connection's batches stays.
    async fn recompressed(
        &self,
        wanted: CompressionType,
        checked: CheckedBatch,
    ) -> Result<CheckedBatch, WireError> {
        let codec = match wanted {
            CompressionType::Producer => return Ok(checked),
            CompressionType::Uncompressed => Compression::None,
            CompressionType::Gzip => Compression::Gzip,
            CompressionType::Snappy => Compression::Snappy,
            CompressionType::Lz4 => Compression::Lz4,
            CompressionType::Zstd => Compression::Zstd,
        };
        let header = BatchHeader::parse(&checked.batch)?;
        if header.attributes.compression()? == codec {
            return Ok(checked);
        }
        count(&self.counters.recompressed_batches, 1);
        let CheckedBatch { batch, .. } = checked;
        let work = move || batch::recompress(&batch, codec, DEFAULT_MAX_UNCOMPRESSED_BYTES);
        let recompressed = self.env.offload("recompress a batch", work).await;
        let failed = || WireError::new(ErrorCode::Unknown, "the batch could not be recompressed");
        Ok(CheckedBatch {
            batch: recompressed.ok_or_else(failed)??,
            ..checked
        })
    }

    /// Appends to a partition of this shard.
    async fn append_here(&self, checked: CheckedBatch) -> Result<Appending<E>, WireError> {
        let CheckedBatch {
            partition: id,
            mut batch,
            record_count,
            max_timestamp,
            stamp,
        } = checked;
        let partition = self.hosted(id)?;
        partition
            .append_room(batch.len())
            .await
            .map_err(|error| error.to_wire())?;
        let append_time_ms = stamp.then(|| self.env.wall_clock_ms());
        if let Some(now) = append_time_ms {
            batch::set_append_time(&mut batch, now);
        }
        let max_timestamp = append_time_ms.unwrap_or(max_timestamp);
        let appended = partition
            .append(batch, record_count, max_timestamp)
            .map_err(|error| error.to_wire())?;
        // A duplicate has the time at which it was appended.
        let append_time_ms = append_time_ms.map(|now| appended.duplicate_of.unwrap_or(now));
        Ok(Appending(Place::Here {
            partition,
            appended,
            append_time_ms,
        }))
    }

    /// Takes an append from another shard. Its place in the lane is taken before this returns.
    pub(super) fn append_for_peer(
        &self,
        batch: CheckedBatch,
    ) -> impl Future<Output = Reply> + use<E> {
        let (placed, place) = oneshot();
        let queued = self
            .append_lane
            .try_send(LaneItem { batch, placed })
            .is_ok();
        async move {
            if !queued {
                return Reply::Failed(WireError::new(
                    ErrorCode::Overloaded,
                    "too many appends wait for this shard; try again after a pause",
                ));
            }
            match placed_and_durable(place).await {
                Ok(appended) => Reply::Appended(appended),
                Err(error) => Reply::Failed(error),
            }
        }
    }

    /// Appends what other shards sent, one after the other, so that order survives a wait for room.
    pub(super) fn serve_lane(self: &Rc<Self>, mut lane: Receiver<LaneItem<E>>) {
        let broker = Rc::downgrade(self);
        let task = async move {
            while let Some(LaneItem { batch, placed }) = lane.recv().await {
                let Some(broker) = broker.upgrade() else {
                    return;
                };
                // Whoever asked may have gone; the batch has its place all the same.
                let _ = placed.send(broker.append_here(batch).await);
            }
        };
        drop(
            self.env
                .spawn(Queue::Requests, "append lane", OnPanic::StopProcess, task),
        );
    }
}

async fn placed_and_durable<E: Env>(
    place: OneshotReceiver<Result<Appending<E>, WireError>>,
) -> Result<Appended, WireError> {
    let appending = place.await.map_err(|_| shutting_down())??;
    appending.durable().await
}
