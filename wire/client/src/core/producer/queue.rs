//! One partition's batches: the open one that gathers records, those that wait, those under way.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use millrace_wire::batch::{BatchBuilder, BuildError, Compression as Codec, Header};

use super::Accepted;
use crate::core::ConnectionId;
use crate::core::time::Time;
use crate::{ClientError, Compression, ProducerConfig, Record};

/// A batch's number in this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// What a failed attempt says about the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was not stored, and another attempt may do better.
    NotStored,
    /// It may have been stored.
    Unknown,
    /// It was not stored and never will be.
    Final,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) id: BatchId,
    contents: Contents,
    records: u32,
    /// Bytes charged to the producer's buffer for its records.
    pub(super) charge: usize,
    pub(super) created: Time,
    /// Attempts that failed.
    pub(super) attempts: u32,
    /// What the last failure said.
    pub(super) last: Option<String>,
}

/// Records are compressed when the batch is about to leave, once, not when it closes: what waits
/// behind a slow broker costs no time.
#[derive(Debug)]
enum Contents {
    Open(BatchBuilder),
    Built(Bytes),
    /// Building failed; the batch is about to be finished with that error.
    Broken,
}

/// A record on its way into a batch.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) record: &'a Record,
    pub(super) headers: &'a [Header],
    pub(super) timestamp: i64,
    /// What it costs of the producer's buffer.
    pub(super) charge: usize,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Gathers records until it is full, or due with nothing before it.
    open: Option<(Batch, Time)>,
    /// Closed batches in order; the first `flying` are under way.
    closed: VecDeque<Batch>,
    flying: usize,
    /// After a failure: not before this time.
    pub(super) not_before: Time,
    /// Whether the producer has it in a list of queues with something to send.
    pub(super) listed: bool,
    pub(super) route: Option<ConnectionId>,
}

impl Queue {
    /// Bytes of the open batch.
    pub(super) fn open_bytes(&self) -> Option<usize> {
        match &self.open {
            Some((
                Batch {
                    contents: Contents::Open(builder),
                    ..
                },
                _,
            )) => Some(builder.len_estimate()),
            _ => None,
        }
    }

    pub(super) fn push(
        &mut self,
        now: Time,
        incoming: Incoming<'_>,
        config: &ProducerConfig,
        next_id: &mut u64,
    ) -> Result<Accepted, ClientError> {
        let (mut batch, due) = self.open.take().unwrap_or_else(|| {
            let contents = Contents::Open(BatchBuilder::new(codec(config.compression)));
            let id = BatchId(*next_id);
            let batch = Batch {
                id,
                contents,
                records: 0,
                charge: 0,
                created: now,
                attempts: 0,
                last: None,
            };
            (batch, now.plus(config.linger))
        });
        let Contents::Open(builder) = &mut batch.contents else {
            return Err(ClientError::Closed);
        };
        let record = incoming.record;
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let pushed = builder.push(incoming.timestamp, key, value, incoming.headers);
        let (first, index) = (batch.records == 0, batch.records);
        if let Err(error) = pushed {
            if !first {
                self.open = Some((batch, due));
            }
            return Err(refusal(error, incoming.charge));
        }
        if first {
            *next_id += 1;
        }
        batch.records += 1;
        batch.charge += incoming.charge;
        let accepted = Accepted {
            batch: batch.id,
            first,
            index,
            partition: 0,
        };
        self.open = Some((batch, due));
        Ok(accepted)
    }

    /// Closes the open batch: it gathers no more.
    pub(super) fn close_open(&mut self) {
        if let Some((batch, _)) = self.open.take() {
            self.closed.push_back(batch);
        }
    }

    pub(super) fn is_sendable(&self, now: Time, limit: usize) -> bool {
        if self.flying >= limit || now < self.not_before {
            return false;
        }
        self.closed.len() > self.flying || self.open.as_ref().is_some_and(|(_, due)| *due <= now)
    }

    /// Builds the next batch to leave and gives its length.
    pub(super) fn prepare(&mut self) -> Result<usize, (BatchId, ClientError)> {
        if self.closed.len() == self.flying {
            self.close_open();
        }
        let Some(batch) = self.closed.get_mut(self.flying) else {
            return Ok(0);
        };
        match std::mem::replace(&mut batch.contents, Contents::Broken) {
            Contents::Open(builder) => match builder.build() {
                Ok(bytes) => batch.contents = Contents::Built(bytes.freeze()),
                Err(error) => return Err((batch.id, refusal(error, batch.charge))),
            },
            built => batch.contents = built,
        }
        match &batch.contents {
            Contents::Built(bytes) => Ok(bytes.len()),
            _ => Ok(0),
        }
    }

    /// Takes the batch that was prepared.
    pub(super) fn take(&mut self) -> Option<(BatchId, Bytes)> {
        let batch = self.closed.get(self.flying)?;
        let Contents::Built(bytes) = &batch.contents else {
            return None;
        };
        self.flying += 1;
        Some((batch.id, bytes.clone()))
    }

    /// The batch is no longer under way; it stays where it was in the order.
    pub(super) fn landed(&mut self, id: BatchId) -> Option<&mut Batch> {
        let at = self
            .closed
            .iter()
            .take(self.flying)
            .position(|batch| batch.id == id)?;
        // With several under way nothing is sent twice, so the batch is about to be removed and
        // may leave the others, still under way, before it.
        let batch = self.closed.remove(at)?;
        self.flying -= 1;
        self.closed.insert(self.flying, batch);
        self.closed.get_mut(self.flying)
    }

    pub(super) fn remove(&mut self, id: BatchId) -> Option<Batch> {
        if self.open.as_ref().is_some_and(|(batch, _)| batch.id == id) {
            return self.open.take().map(|(batch, _)| batch);
        }
        let at = self.closed.iter().position(|batch| batch.id == id)?;
        if at < self.flying {
            self.flying -= 1;
        }
        self.closed.remove(at)
    }

    fn not_flying(&self) -> impl Iterator<Item = &Batch> {
        let open = self.open.as_ref().map(|(batch, _)| batch);
        self.closed.iter().skip(self.flying).chain(open)
    }

    /// Batches that are not under way and are older than `timeout`.
    pub(super) fn expired(&self, now: Time, timeout: Duration) -> Vec<(BatchId, Option<String>)> {
        self.not_flying()
            .filter(|batch| now.since(batch.created) >= timeout)
            .map(|batch| (batch.id, batch.last.clone()))
            .collect()
    }

    /// All batches that are not under way.
    pub(super) fn waiting(&mut self) -> Vec<BatchId> {
        self.not_flying().map(|batch| batch.id).collect()
    }

    /// When the queue needs attention next: lingering or a pause ends, or a batch expires.
    pub(super) fn next_deadline(&self, now: Time, timeout: Duration) -> Option<Time> {
        let waiting = self.not_flying().next();
        let expiry = waiting.map(|batch| batch.created.plus(timeout));
        let pause = waiting.map(|_| self.not_before).filter(|at| *at > now);
        let due = self
            .open
            .as_ref()
            .map(|(_, due)| *due)
            .filter(|at| *at > now);
        [expiry, pause, due].into_iter().flatten().min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none() && self.closed.is_empty()
    }

    pub(super) fn route_in_use(&self) -> Option<ConnectionId> {
        if self.flying > 0 { self.route } else { None }
    }
}

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::None => Codec::None,
        Compression::Lz4 => Codec::Lz4,
        Compression::Zstd => Codec::Zstd,
    }
}

fn refusal(error: BuildError, bytes: usize) -> ClientError {
    match error {
        BuildError::TooLarge => ClientError::RecordTooLarge {
            bytes,
            limit: millrace_wire::frame::MAX_FRAME_BYTES as usize,
        },
        other => ClientError::invalid(other.to_string()),
    }
}
