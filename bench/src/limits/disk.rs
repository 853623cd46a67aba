//! Files of the data directory: durable writes and direct reads. Runs on the broker's CPU and sleeps
//! until something is done, as a broker does: the kernel may need this very CPU to complete a write,
//! and asking over and over would hold that up (seen: 1 ms for a write that takes 0.1).
//!
//! A file loses its name as soon as it is open, so that nothing of it is left behind however this
//! process ends.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::memory::Memory;
use super::ring::{Done, Ring};
use super::stage::{Clock, Phase};
use super::{FILE_PREFIX, LimitsError};
use crate::record::{histogram, latency};
use crate::report::model::{ReadLimit, WriteLimit};

/// How a file is filled: pieces of this size, so many at once.
const FILL_BYTES: usize = 1 << 20;
const FILL_DEPTH: usize = 4;

/// How long filling may take: a slow disk gets a smaller file.
pub(super) const FILL_TIME: Duration = Duration::from_secs(5);

/// The least that a file must hold for the largest piece at the largest depth.
pub(super) const LEAST_FILE_BYTES: u64 = (FILL_BYTES * FILL_DEPTH) as u64;

/// A file that was really written, not just given room.
pub(super) struct WrittenFile {
    directory: PathBuf,
    /// Opened with `O_DIRECT`.
    direct: File,
    /// Opened with `O_DIRECT|O_DSYNC`.
    durable: File,
    /// How much of it was written.
    bytes: u64,
}

/// Pieces of one size, so many at once, in order through a file and round again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    pub bytes: usize,
    pub depth: usize,
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes < 1 << 20 {
            write!(out, "{} KiB × {}", self.bytes >> 10, self.depth)
        } else {
            write!(out, "{} MiB × {}", self.bytes >> 20, self.depth)
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Read,
    Write,
}

impl WrittenFile {
    /// Makes one and fills it, as far as the time allows and until `stop`. `io_cpu` is for the
    /// kernel's workers.
    pub(super) fn make(
        directory: &Path,
        bytes: u64,
        io_cpu: usize,
        stop: &AtomicBool,
    ) -> Result<WrittenFile, LimitsError> {
        let (direct, durable) = open(directory).map_err(|source| LimitsError::File {
            what: "create",
            directory: directory.to_owned(),
            bytes,
            source,
        })?;
        let mut file = WrittenFile {
            directory: directory.to_owned(),
            direct,
            durable,
            bytes: bytes / FILL_BYTES as u64 * FILL_BYTES as u64,
        };
        file.fill(io_cpu, stop)?;
        Ok(file)
    }

    /// The whole size first: a file that grows with each write is filled at a fraction of the speed.
    fn fill(&mut self, io_cpu: usize, stop: &AtomicBool) -> Result<(), LimitsError> {
        let sized = self.direct.set_len(self.bytes);
        self.or_failed("make room for", sized)?;
        let pattern = Pattern {
            bytes: FILL_BYTES,
            depth: FILL_DEPTH,
        };
        let transfer = Transfer::new(&self.direct, self.bytes, pattern, Direction::Write, io_cpu)?;
        let until = Instant::now() + FILL_TIME;
        let (mut written, end) = (0, self.bytes);
        let filled = transfer.run(|_, now| {
            written += FILL_BYTES as u64;
            let enough = written >= LEAST_FILE_BYTES && now >= until;
            written < end && !enough && !stop.load(Ordering::Relaxed)
        });
        let filled = filled.and_then(|()| self.direct.sync_all());
        self.or_failed("fill", filled)?;
        // They were asked for in order, and all that were asked for are done.
        self.bytes = written;
        Ok(())
    }

    /// Durable writes over what is written already.
    pub(super) fn writes(
        &self,
        clock: &Clock<'_>,
        pattern: Pattern,
        io_cpu: usize,
    ) -> Result<WriteLimit, LimitsError> {
        let direction = Direction::Write;
        let transfer = Transfer::new(&self.durable, self.bytes, pattern, direction, io_cpu)?;
        let measured = transfer.measure(clock);
        let (times, throughput) = self.or_failed("write to", measured)?;
        Ok(WriteLimit {
            bytes: pattern.bytes,
            depth: pattern.depth,
            latency: latency(&times),
            throughput,
        })
    }

    /// Direct reads of what was written.
    pub(super) fn reads(
        &self,
        clock: &Clock<'_>,
        pattern: Pattern,
        io_cpu: usize,
    ) -> Result<ReadLimit, LimitsError> {
        let direction = Direction::Read;
        let transfer = Transfer::new(&self.direct, self.bytes, pattern, direction, io_cpu)?;
        let measured = transfer.measure(clock);
        let (_, throughput) = self.or_failed("read from", measured)?;
        Ok(ReadLimit {
            bytes: pattern.bytes,
            depth: pattern.depth,
            throughput,
        })
    }

    fn or_failed<T>(&self, what: &'static str, result: io::Result<T>) -> Result<T, LimitsError> {
        result.map_err(|source| LimitsError::File {
            what,
            directory: self.directory.clone(),
            bytes: self.bytes,
            source,
        })
    }
}

/// Opens a new file twice and takes its name away.
fn open(directory: &Path) -> io::Result<(File, File)> {
    let made = tempfile::Builder::new()
        .prefix(FILE_PREFIX)
        .make_in(directory, |path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600);
            options.custom_flags(libc::O_DIRECT).open(path)
        })?;
    let flags = libc::O_DIRECT | libc::O_DSYNC;
    let mut options = OpenOptions::new();
    let durable = options.write(true).custom_flags(flags).open(made.path())?;
    let (direct, path) = made.into_parts();
    path.close()?;
    Ok((direct, durable))
}

/// Pieces on their way between a file and memory.
struct Transfer<'a> {
    file: &'a File,
    ring: Ring,
    pattern: Pattern,
    direction: Direction,
    /// Where the next piece lies.
    position: u64,
    /// The end of the last whole piece.
    end: u64,
    /// When the piece in each part of the memory was asked for.
    begun: Vec<Instant>,
}

impl Transfer<'_> {
    fn new(
        file: &File,
        bytes: u64,
        pattern: Pattern,
        direction: Direction,
        io_cpu: usize,
    ) -> Result<Transfer<'_>, LimitsError> {
        let depth = u32::try_from(pattern.depth).expect("a handful");
        let memory = Memory::new(pattern.bytes * pattern.depth);
        let ring = Ring::new(depth, memory).map_err(LimitsError::Ring)?;
        ring.move_workers(io_cpu).map_err(LimitsError::Ring)?;
        Ok(Transfer {
            file,
            ring,
            pattern,
            direction,
            position: 0,
            end: bytes / pattern.bytes as u64 * pattern.bytes as u64,
            begun: vec![Instant::now(); pattern.depth],
        })
    }

    /// How long each piece took, and bytes a second.
    fn measure(self, clock: &Clock<'_>) -> io::Result<(Histogram<u64>, f64)> {
        let mut times = histogram();
        let mut ended = Instant::now();
        let window = clock.start();
        let bytes = self.pattern.bytes as u64;
        self.run(|begun, now| {
            let phase = window.phase(now, times.len());
            if phase == Phase::Measure {
                ended = now;
                let took = now.saturating_duration_since(begun).as_nanos();
                times.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
            }
            phase != Phase::Over
        })?;
        let throughput = window.per_second(times.len() * bytes, ended);
        Ok((times, throughput))
    }

    /// Keeps `depth` pieces in flight until `more` says no, and waits for those in flight then; it
    /// is told of each piece before when it was asked for and when it was done.
    fn run(mut self, mut more: impl FnMut(Instant, Instant) -> bool) -> io::Result<()> {
        for slot in 0..self.pattern.depth {
            self.ask(slot)?;
        }
        let mut going = true;
        let mut done: Vec<Done> = Vec::with_capacity(self.pattern.depth);
        while self.ring.in_flight() > 0 {
            self.wait(&mut done)?;
            let now = Instant::now();
            for done in done.drain(..) {
                if done.bytes()? != self.pattern.bytes {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                let slot = usize::try_from(done.tag).expect("a tag that we made");
                going = going && more(self.begun[slot], now);
                if going {
                    self.ask(slot)?;
                }
            }
        }
        Ok(())
    }

    /// Until something is done.
    fn wait(&mut self, done: &mut Vec<Done>) -> io::Result<()> {
        self.ring.submit(1)?;
        self.ring.collect(done);
        Ok(())
    }

    /// Asks for the next piece, into this part of the memory or out of it.
    fn ask(&mut self, slot: usize) -> io::Result<()> {
        let (bytes, position) = (self.pattern.bytes, self.position);
        let (start, tag) = (slot * bytes, slot as u64);
        self.begun[slot] = Instant::now();
        self.position += bytes as u64;
        if self.position >= self.end {
            self.position = 0;
        }
        match self.direction {
            Direction::Read => self.ring.read(self.file, start, bytes, position, tag),
            Direction::Write => self.ring.write(self.file, start, bytes, position, tag),
        }
    }
}
