//! One partition's batches: the open one that gathers records, those that wait, those under way.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_wire::batch::{
    BatchBuilder, BuildError, Compression as Codec, Header, set_batch_producer,
};
use millrace_wire::ids::ProducerId;

use super::planted::{self, Bug};
use super::sequences::{Gap, Number, Sequences};
use super::{Accepted, Progress};
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
    /// It was not stored, because one that is numbered before it is missing.
    OutOfSequence,
    /// It was not stored, because the broker does not know the producer's id or has a later epoch of it.
    Disowned,
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
    /// Its number, from when it first leaves; only of an idempotent producer.
    number: Option<Number>,
    flying: bool,
}

/// Records are compressed when the batch is about to leave, once, not when it closes: what waits
/// behind a slow broker costs no time.
#[derive(Debug)]
enum Contents {
    Open(BatchBuilder),
    /// It is not numbered.
    Built(BytesMut),
    /// It is sent as it is, however often.
    Sealed(Bytes),
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

impl Batch {
    /// The batch as it is sent, with its number if it has one.
    fn seal(&mut self) -> Option<Bytes> {
        let sealed = match std::mem::replace(&mut self.contents, Contents::Broken) {
            Contents::Built(mut bytes) => {
                if let Some(number) = &self.number {
                    set_batch_producer(&mut bytes, number.producer);
                }
                bytes.freeze()
            }
            Contents::Sealed(bytes) => bytes,
            other => {
                self.contents = other;
                return None;
            }
        };
        self.contents = Contents::Sealed(sealed.clone());
        Some(sealed)
    }

    /// Takes its number away. Only a batch that is not under way, and never will be stored under it.
    fn unnumber(&mut self) {
        if self.number.take().is_none() {
            return;
        }
        self.contents = match std::mem::replace(&mut self.contents, Contents::Broken) {
            Contents::Sealed(bytes) => Contents::Built(
                bytes
                    .try_into_mut()
                    .unwrap_or_else(|shared| BytesMut::from(&shared[..])),
            ),
            other => other,
        };
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    /// Gathers records until it is full, or due with nothing before it.
    open: Option<(Batch, Time)>,
    /// Closed batches in order. Those under way are the first ones, but for when an attempt at one has
    /// failed while later ones are still under way.
    closed: VecDeque<Batch>,
    flying: usize,
    /// Of an idempotent producer.
    sequences: Option<Sequences>,
    /// After a failure: not before this time.
    pub(super) not_before: Time,
    /// Whether the producer has it in a list of queues with something to send.
    pub(super) listed: bool,
    pub(super) route: Option<ConnectionId>,
}

impl Queue {
    pub(super) fn new(idempotent: bool) -> Queue {
        Queue {
            open: None,
            closed: VecDeque::new(),
            flying: 0,
            sequences: idempotent.then(Sequences::new),
            not_before: Time::default(),
            listed: false,
            route: None,
        }
    }

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
                number: None,
                flying: false,
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

    /// The place of the next batch to leave. None while one that is numbered after it is under way: were
    /// it sent now, it would come after that one.
    fn next(&self) -> Option<usize> {
        let at = self.closed.iter().take_while(|batch| batch.flying).count();
        (at == self.flying).then_some(at)
    }

    pub(super) fn is_sendable(&self, now: Time, limit: usize) -> bool {
        let Some(at) = self.next().filter(|_| now >= self.not_before) else {
            return false;
        };
        let is_due = |open: &Option<(Batch, Time)>| open.as_ref().is_some_and(|open| open.1 <= now);
        let Some(sequences) = &self.sequences else {
            return self.flying < limit && (at < self.closed.len() || is_due(&self.open));
        };
        if self.flying >= sequences.flying_limit(limit) {
            return false;
        }
        let oldest = self.closed.front().and_then(|batch| batch.number.as_ref());
        let may_number = sequences.may_number(oldest);
        match self.closed.get(at) {
            Some(batch) => batch.number.is_some() || may_number,
            // What is not full gathers on while there is something under way.
            None => self.flying == 0 && may_number && is_due(&self.open),
        }
    }

    /// Whether its next batch needs the producer's id, to be numbered.
    pub(super) fn needs_id(&self) -> bool {
        self.sequences
            .as_ref()
            .is_some_and(|sequences| !sequences.has_life())
    }

    /// An id that the producer is to forget, told once.
    pub(super) fn take_retired(&mut self) -> Option<ProducerId> {
        self.sequences.as_mut()?.take_retired()
    }

    /// Builds the next batch to leave and gives its length.
    pub(super) fn prepare(&mut self) -> Result<usize, (BatchId, ClientError)> {
        if self.closed.len() == self.flying {
            self.close_open();
        }
        let next = self.next();
        let Some(batch) = next.and_then(|at| self.closed.get_mut(at)) else {
            return Ok(0);
        };
        match std::mem::replace(&mut batch.contents, Contents::Broken) {
            Contents::Open(builder) => match builder.build() {
                Ok(bytes) => batch.contents = Contents::Built(bytes),
                Err(error) => return Err((batch.id, refusal(error, batch.charge))),
            },
            built => batch.contents = built,
        }
        match &batch.contents {
            Contents::Built(bytes) => Ok(bytes.len()),
            Contents::Sealed(bytes) => Ok(bytes.len()),
            _ => Ok(0),
        }
    }

    /// Takes the batch that was prepared; `id` is the producer's, if it has one.
    pub(super) fn take(&mut self, id: Option<ProducerId>) -> Option<(BatchId, Bytes)> {
        let at = self.next()?;
        let batch = self.closed.get_mut(at)?;
        if let Some(sequences) = &mut self.sequences
            && batch.number.is_none()
        {
            batch.number = Some(sequences.number(id, batch.records)?);
        }
        let bytes = batch.seal()?;
        batch.flying = true;
        self.flying += 1;
        Some((batch.id, bytes))
    }

    /// An attempt at the batch has failed: it is no longer under way, and stays where it was in the
    /// order.
    pub(super) fn landed(
        &mut self,
        id: BatchId,
        outcome: Outcome,
    ) -> Option<(&mut Batch, Progress)> {
        let is_it = |batch: &Batch| batch.flying && batch.id == id;
        let at = self.closed.iter().position(is_it)?;
        self.flying -= 1;
        let first = self.closed.iter().position(|batch| batch.number.is_some());
        let is_first = first == Some(at);
        let batch = self.closed.get_mut(at)?;
        batch.flying = false;
        batch.attempts += 1;
        let progress = match outcome {
            Outcome::Final => Progress::Hopeless,
            Outcome::NotStored => Progress::Again,
            Outcome::Unknown => {
                if let Some(number) = &mut batch.number {
                    number.lost = true;
                }
                Progress::Lost
            }
            // One before it has failed too, and is sent again before it.
            Outcome::OutOfSequence | Outcome::Disowned if !is_first => Progress::Again,
            Outcome::OutOfSequence | Outcome::Disowned => {
                self.out_of_sequence(at, outcome == Outcome::Disowned)
            }
        };
        if planted::is(Bug::NumberedAnewOnRetry)
            && let Some(batch) = self.closed.get_mut(at)
        {
            batch.unnumber();
        }
        self.close_gap();
        self.closed.get_mut(at).map(|batch| (batch, progress))
    }

    /// The broker misses something before the first batch that has a number. If that batch was not stored,
    /// it never will be under that number, and none after it.
    fn out_of_sequence(&mut self, at: usize, disowned: bool) -> Progress {
        let (Some(sequences), Some(batch)) = (&mut self.sequences, self.closed.get_mut(at)) else {
            return Progress::Hopeless;
        };
        if disowned {
            sequences.disown();
        }
        let lost = batch.number.as_ref().is_some_and(|number| number.lost);
        if lost && sequences.gap() != Gap::Certain && !planted::is(Bug::LostNumberedAnew) {
            // What came before it may still be on its way to the broker, and an attempt at this one
            // behind that.
            return Progress::Unclear;
        }
        sequences.missing(false);
        Progress::Again
    }

    /// Where a batch will be missing for good, those after it give up their numbers, and when none has
    /// one any more, counting begins anew.
    fn close_gap(&mut self) {
        let Some(sequences) = &mut self.sequences else {
            return;
        };
        if sequences.gap() == Gap::Certain {
            let landed = self.closed.iter_mut().filter(|batch| !batch.flying);
            landed.for_each(Batch::unnumber);
        }
        let is_numbered = |batch: &Batch| batch.number.is_some();
        if sequences.gap() != Gap::None && !self.closed.iter().any(is_numbered) {
            sequences.restart();
        }
    }

    /// The batch is stored, or given up.
    pub(super) fn remove(&mut self, id: BatchId, stored: bool) -> Option<Batch> {
        if self.open.as_ref().is_some_and(|(batch, _)| batch.id == id) {
            return self.open.take().map(|(batch, _)| batch);
        }
        let at = self.closed.iter().position(|batch| batch.id == id)?;
        let batch = self.closed.remove(at)?;
        self.flying -= usize::from(batch.flying);
        if let (Some(sequences), Some(number)) = (&mut self.sequences, &batch.number) {
            match stored {
                true => sequences.stored(),
                false => sequences.missing(number.lost),
            }
            self.close_gap();
        }
        Some(batch)
    }

    fn not_flying(&self) -> impl Iterator<Item = &Batch> {
        let open = self.open.as_ref().map(|(batch, _)| batch);
        self.closed.iter().filter(|batch| !batch.flying).chain(open)
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

    /// Whether nothing would be forgotten with it.
    pub(super) fn is_disposable(&self) -> bool {
        let is_counting = self.sequences.as_ref().is_some_and(Sequences::has_life);
        self.open.is_none() && self.closed.is_empty() && !is_counting
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
