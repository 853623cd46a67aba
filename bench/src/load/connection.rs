//! One connection of the load, without its socket: requests go out through an [`Outgoing`], bytes
//! come in through an [`Intake`], and what is under way has a numbered place, which is its
//! correlation.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::ring::MAX_PIECES;
use super::walker::{Passed, Walker};
use crate::protocol::{Answer, Fetched, Outcome, Protocol, ProtocolError};

/// From this length on a batch is sent from where it lies; below, copying it is cheaper.
const SHARE_FROM_BYTES: usize = 16 * 1024;

/// Room for small requests, taken at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What is to be sent.
#[derive(Default)]
pub(super) struct Outgoing {
    pieces: Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
}

impl Outgoing {
    /// Adds a request: what stands before its batch, the batch, and what stands after.
    pub(super) fn push(&mut self, head: &[u8], batch: &Bytes, tail: &[u8]) {
        self.bytes += head.len() + batch.len() + tail.len();
        self.copy(head);
        if batch.len() < SHARE_FROM_BYTES {
            self.copy(batch);
        } else {
            self.end_chunk();
            self.pieces.push(batch.clone());
        }
        self.copy(tail);
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.small.capacity() - self.small.len() < bytes.len() {
            self.end_chunk();
            self.small.reserve(bytes.len().max(CHUNK_BYTES));
        }
        self.small.extend_from_slice(bytes);
    }

    fn end_chunk(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty()
    }

    /// Bytes that have not been taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// As much as one send takes.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.end_chunk();
        let pieces = if self.pieces.len() <= MAX_PIECES {
            std::mem::take(&mut self.pieces)
        } else {
            self.pieces.drain(..MAX_PIECES).collect()
        };
        self.bytes -= pieces.iter().map(Bytes::len).sum::<usize>();
        pieces
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// When it was due, ns on the load's clock.
    pub due_ns: u64,
    /// Records that it carries.
    pub records: u32,
    /// Bytes of those.
    pub bytes: u32,
    /// The member of a group that it is about, if it is about one.
    pub member: Option<u32>,
}

/// The requests under way on one connection. A place is used again once its answer has come.
#[derive(Default)]
pub(super) struct UnderWay {
    places: Vec<Option<Pending>>,
    free: Vec<u32>,
}

impl UnderWay {
    pub(super) fn insert(&mut self, pending: Pending) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(pending);
            return place;
        }
        self.places.push(Some(pending));
        u32::try_from(self.places.len() - 1).expect("fewer than four billion requests under way")
    }

    pub(super) fn remove(&mut self, correlation: u32) -> Option<Pending> {
        let pending = self.places.get_mut(correlation as usize)?.take()?;
        self.free.push(correlation);
        Some(pending)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Everything that is still there.
    pub(super) fn iter(&self) -> impl Iterator<Item = Pending> {
        self.places.iter().flatten().copied()
    }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Arrived {
    pub answer: Answer,
    /// For each partition of a fetch with batches: where it goes on, and how many records came.
    pub progress: Vec<Progress>,
}

/// What one partition's batches in an answer amounted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub next_offset: Option<i64>,
    pub records: u64,
    pub bytes: u64,
}

/// Where in an answer the next byte belongs.
enum State {
    /// Its first bytes, up to what the codec wants to see.
    Start,
    /// Up to `hold`, of `length`.
    Held { hold: usize, length: u64 },
    /// Behind what was held: batches, to `length`.
    Batches {
        answer: Answer,
        at: u64,
        length: u64,
    },
}

/// Puts answers together from bytes as they come.
pub(super) struct Intake {
    state: State,
    held: Vec<u8>,
    walker: Walker,
    progress: Vec<Progress>,
}

impl Intake {
    /// An intake that hands over whole batches (`keep`) or only counts them.
    pub(super) fn new(keep: bool) -> Intake {
        Intake {
            state: State::Start,
            held: Vec::new(),
            walker: Walker::new(keep),
            progress: Vec::new(),
        }
    }

    /// Takes bytes; `batch` sees each whole batch if they are kept, `arrived` each whole answer.
    pub(super) fn take(
        &mut self,
        protocol: &mut dyn Protocol,
        mut bytes: &[u8],
        batch: &mut dyn FnMut(&[u8]),
        arrived: &mut dyn FnMut(Arrived),
    ) -> Result<(), ProtocolError> {
        while !bytes.is_empty() {
            bytes = self.step(protocol, bytes, batch)?;
            if let Some(answer) = self.whole() {
                let progress = std::mem::take(&mut self.progress);
                arrived(Arrived { answer, progress });
            }
        }
        Ok(())
    }

    /// Takes some bytes, at least one, and returns the others.
    fn step<'a>(
        &mut self,
        protocol: &mut dyn Protocol,
        bytes: &'a [u8],
        batch: &mut dyn FnMut(&[u8]),
    ) -> Result<&'a [u8], ProtocolError> {
        match &self.state {
            State::Start => {
                // Byte by byte would do; a few at a time is quicker. What belongs to the answer
                // after this one is given back.
                let seen = self.held.len();
                let taken = bytes.len().min(START_BYTES);
                self.held.extend_from_slice(&bytes[..taken]);
                if let Some(extent) = protocol.extent(&self.held)? {
                    let keep = self.held.len().min(extent.hold);
                    self.held.truncate(keep);
                    self.state = State::Held {
                        hold: extent.hold,
                        length: extent.length,
                    };
                    self.hold_ended(protocol, batch)?;
                    return Ok(&bytes[keep.saturating_sub(seen)..]);
                }
                Ok(&bytes[taken..])
            }
            State::Held { hold, .. } => {
                let taken = bytes.len().min(hold - self.held.len());
                self.held.extend_from_slice(&bytes[..taken]);
                self.hold_ended(protocol, batch)?;
                Ok(&bytes[taken..])
            }
            State::Batches { at, length, .. } => {
                let most = usize::try_from(length - at).unwrap_or(usize::MAX);
                let taken = bytes.len().min(most);
                self.batches(&bytes[..taken], batch)?;
                Ok(&bytes[taken..])
            }
        }
    }

    /// Reads the answer if all that it needs is held.
    fn hold_ended(
        &mut self,
        protocol: &mut dyn Protocol,
        batch: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ProtocolError> {
        let State::Held { hold, length } = self.state else {
            return Ok(());
        };
        if self.held.len() < hold {
            return Ok(());
        }
        let answer = protocol.answer(&self.held)?;
        if let Outcome::Fetched(fetched) = &answer.outcome {
            self.progress.resize(fetched.len(), Progress::default());
        }
        self.state = State::Batches {
            answer,
            at: 0,
            length,
        };
        // Batches may lie in what was held, too.
        let held = std::mem::take(&mut self.held);
        self.batches(&held, batch)?;
        self.held = held;
        self.held.clear();
        Ok(())
    }

    fn batches(&mut self, bytes: &[u8], batch: &mut dyn FnMut(&[u8])) -> Result<(), ProtocolError> {
        let State::Batches { answer, at, .. } = &mut self.state else {
            return Ok(());
        };
        let here = *at..*at + bytes.len() as u64;
        *at = here.end;
        let Outcome::Fetched(fetched) = &answer.outcome else {
            return Ok(());
        };
        let keeps = self.walker.keeps();
        for (place, Fetched { batches, .. }) in fetched.iter().enumerate() {
            let (start, end) = (batches.start.max(here.start), batches.end.min(here.end));
            if start >= end {
                continue;
            }
            let piece: Range<usize> = (start - here.start) as usize..(end - here.start) as usize;
            let progress = &mut self.progress[place];
            progress.bytes += end - start;
            let walked = self.walker.walk(&bytes[piece], |passed: Passed, held| {
                progress.next_offset = Some(passed.next_offset);
                progress.records += u64::from(passed.records);
                if keeps {
                    batch(held);
                }
            });
            walked.map_err(|error| ProtocolError::Malformed(error.to_owned()))?;
            if end == batches.end && !self.walker.is_between_batches() {
                let text = "a partition's batches end within a batch".to_owned();
                return Err(ProtocolError::Malformed(text));
            }
        }
        Ok(())
    }

    /// The answer, if its last byte has come.
    fn whole(&mut self) -> Option<Answer> {
        match std::mem::replace(&mut self.state, State::Start) {
            State::Batches { answer, at, length } if at == length => Some(answer),
            other => {
                self.state = other;
                None
            }
        }
    }
}

/// At least what any codec needs to tell an answer's extent.
const START_BYTES: usize = 32;
