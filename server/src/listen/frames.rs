//! Frames out of a connection's stream. Small ones are gathered: one read takes whatever has
//! arrived, and a client that has many requests under way costs one system call for many of them. A
//! large one gets memory of its own as soon as its length is known, and the rest of it is read
//! straight into that.

use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use millrace_shard::local::{Budget, Permit};
use millrace_wire::error::WireError;

use super::socket::{Intake, ReadHalf};
use crate::session::Framing;

/// A payload from this length on is not gathered.
const LARGE_BYTES: usize = 16 * 1024;

/// How much of a large payload is made ready for one read.
const WINDOW_BYTES: usize = 128 * 1024;

/// How reading a frame ended.
pub(super) enum Frame<H> {
    /// Here it is, with the memory that it takes.
    Whole(H, BytesMut, Permit),
    /// The client closed, between frames.
    End,
    /// It cannot go on.
    Broken(io::Error),
    /// Its header is not one.
    Refused(H, WireError),
}

/// What frames are held to.
#[derive(Clone, Copy)]
pub(super) struct FrameLimits {
    /// Longest frame.
    pub(super) max_frame_bytes: u32,
    /// A frame that has begun is complete within this.
    pub(super) timeout: Duration,
}

/// Reads one connection's frames. A read that is dropped has lost nothing.
pub(super) struct FrameReader<F: Framing> {
    read: ReadHalf,
    intake: Intake,
    /// What has arrived and was not taken.
    gathered: BytesMut,
    /// When the first byte of the frame at hand came.
    begun: Option<Instant>,
    /// A large payload under way.
    large: Option<Large<F::Header>>,
}

struct Large<H> {
    header: H,
    payload: BytesMut,
    filled: usize,
    memory: Permit,
}

impl<F: Framing> FrameReader<F> {
    /// A reader of a stream whose first bytes were read already.
    pub(super) fn new(read: ReadHalf, intake: Intake, begun_with: &[u8]) -> FrameReader<F> {
        FrameReader {
            read,
            intake,
            gathered: BytesMut::from(begun_with),
            begun: None,
            large: None,
        }
    }

    /// The socket's half, for what is not frames any more.
    pub(super) fn into_inner(self) -> ReadHalf {
        self.read
    }

    /// The next frame. Between frames a client may be silent for as long as it likes; inside one it
    /// may not. Waits for `budget` before it takes in a payload.
    pub(super) async fn next(&mut self, limits: FrameLimits, budget: &Budget) -> Frame<F::Header> {
        match self.try_next(limits, budget).await {
            Ok(frame) => frame,
            Err(error) => Frame::Broken(error),
        }
    }

    /// The next frame, if all of it was gathered already and there is memory for it at once.
    pub(super) fn gathered(
        &mut self,
        limits: FrameLimits,
        budget: &Budget,
    ) -> Option<Frame<F::Header>> {
        let header = self.gathered.get(..F::HEADER_BYTES)?;
        let header = F::parse(header, limits.max_frame_bytes).ok()?;
        let len = F::payload_bytes(header);
        if self.gathered.len() < F::HEADER_BYTES + len {
            return None;
        }
        let memory = budget.try_acquire(len as u64)?;
        Some(self.take_gathered(header, memory))
    }

    /// How long ago the first byte of the frame came that was taken last.
    pub(super) fn took(&mut self) -> Duration {
        let took = self.begun.take().map(|begun| begun.elapsed());
        if !self.gathered.is_empty() {
            self.begun = Some(Instant::now());
        }
        took.unwrap_or_default()
    }

    async fn try_next(
        &mut self,
        limits: FrameLimits,
        budget: &Budget,
    ) -> io::Result<Frame<F::Header>> {
        if self.large.is_some() {
            return self.finish_large(limits).await;
        }
        loop {
            let Some(bytes) = self.gathered.get(..F::HEADER_BYTES) else {
                if self.fill(limits).await? == 0 {
                    return self.ended();
                }
                continue;
            };
            let header = match F::parse(bytes, limits.max_frame_bytes) {
                Ok(header) => header,
                Err((header, error)) => return Ok(Frame::Refused(header, error)),
            };
            let len = F::payload_bytes(header);
            let here = (self.gathered.len() - F::HEADER_BYTES).min(len);
            if here == len {
                let memory = budget.acquire(len as u64).await;
                return Ok(self.take_gathered(header, memory));
            }
            if len >= LARGE_BYTES {
                let memory = budget.acquire(len as u64).await;
                let mut bytes = BytesMut::with_capacity(len);
                self.gathered.advance(F::HEADER_BYTES);
                bytes.extend_from_slice(&self.gathered[..here]);
                self.gathered.advance(here);
                self.large = Some(Large {
                    header,
                    filled: bytes.len(),
                    payload: bytes,
                    memory,
                });
                return self.finish_large(limits).await;
            }
            if self.fill(limits).await? == 0 {
                return self.ended();
            }
        }
    }

    fn take_gathered(&mut self, header: F::Header, memory: Permit) -> Frame<F::Header> {
        let frame = F::HEADER_BYTES + F::payload_bytes(header);
        let mut payload = self.gathered.split_to(frame);
        payload.advance(F::HEADER_BYTES);
        Frame::Whole(header, payload, memory)
    }

    async fn finish_large(&mut self, limits: FrameLimits) -> io::Result<Frame<F::Header>> {
        while let Some(large) = &mut self.large {
            let len = F::payload_bytes(large.header);
            if large.filled == len {
                break;
            }
            let left = time_left(&mut self.begun, limits)?;
            if large.filled == large.payload.len() {
                // A window at a time: zeroed just before it is read into, it is still in the CPU's
                // cache, where zeroing costs next to nothing.
                large
                    .payload
                    .resize((large.filled + WINDOW_BYTES).min(len), 0);
            }
            let into = &mut large.payload[large.filled..];
            match self.read.read_some(into, Some(left)).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => large.filled += read,
            }
        }
        let Large {
            header,
            payload,
            memory,
            ..
        } = self.large.take().expect("it is under way");
        Ok(Frame::Whole(header, payload, memory))
    }

    /// Takes in what has arrived, at least something; 0 at the end of the stream.
    async fn fill(&mut self, limits: FrameLimits) -> io::Result<usize> {
        let limit = match self.gathered.is_empty() {
            true => {
                self.begun = None;
                None
            }
            false => Some(time_left(&mut self.begun, limits)?),
        };
        let gathered = &mut self.gathered;
        let read = self.read.gather(&self.intake, gathered, limit).await?;
        self.begun.get_or_insert_with(Instant::now);
        Ok(read)
    }

    fn ended(&self) -> io::Result<Frame<F::Header>> {
        if self.gathered.is_empty() {
            return Ok(Frame::End);
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// What is left of the time that a frame may take.
fn time_left(begun: &mut Option<Instant>, limits: FrameLimits) -> io::Result<Duration> {
    let begun = begun.get_or_insert_with(Instant::now);
    match limits.timeout.checked_sub(begun.elapsed()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}
