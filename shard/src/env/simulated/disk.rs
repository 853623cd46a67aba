//! One node's disk: files, names, operations in flight, and what a loss of power does to all of
//! them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use super::content::{Content, Extents, Moment};
use super::draw::{Decision, Draw, combine, hash_bytes};
use super::faults::{DiskFaults, fate_of_blocks};
use super::names::{Inode, Names, ROOT};
use crate::env::{BLOCK_BYTES, DirectoryEntry, OpenOptions, Space};

/// Something asked of the disk.
pub(super) enum Operation {
    Write {
        inode: Inode,
        position: u64,
        bytes: Bytes,
        data_sync: bool,
    },
    Read {
        inode: Inode,
        position: u64,
        len: usize,
    },
    Sync {
        inode: Inode,
    },
    SetLen {
        inode: Inode,
        len: u64,
    },
    Reserve {
        inode: Inode,
        len: u64,
    },
    Open {
        path: Box<Path>,
        options: OpenOptions,
    },
    CreateDirectory {
        path: Box<Path>,
    },
    ListDirectory {
        path: Box<Path>,
    },
    SyncDirectory {
        path: Box<Path>,
    },
    Rename {
        from: Box<Path>,
        to: Box<Path>,
    },
    RemoveFile {
        path: Box<Path>,
    },
    RemoveDirectory {
        path: Box<Path>,
    },
}

impl Operation {
    /// A word for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Write { .. } => "write",
            Operation::Read { .. } => "read",
            Operation::Sync { .. } | Operation::SyncDirectory { .. } => "sync",
            Operation::SetLen { .. } | Operation::Reserve { .. } => "change of length",
            Operation::Open { .. } => "file opening",
            _ => "change or listing of names",
        }
    }
}

/// What an operation answers.
pub(super) enum Outcome {
    Done,
    Bytes(Vec<u8>),
    Opened(Inode),
    Entries(Vec<DirectoryEntry>),
}

/// Where an operation's answer is put, and who waits for it.
#[derive(Default)]
pub(super) struct Answer {
    pub result: Option<io::Result<Outcome>>,
    pub waiting: Option<Waker>,
}

struct InFlight {
    operation: Operation,
    began: Moment,
    /// The place in the sequence of its file's operations: the key of its draws.
    entity: u64,
    counter: u64,
    answer: Rc<RefCell<Answer>>,
}

#[derive(Default)]
pub(super) struct File {
    content: Content,
    extents: Extents,
    /// Who it is in draws: by its first name, so that other files do not change its fate.
    pub entity: u64,
    operations: u64,
    pub open: u32,
    pub named: bool,
    /// Its space was given back. What it had stays known: a crash may bring the name back, and then
    /// the file has its space again.
    released: bool,
}

impl File {
    /// An empty file that has just got a name.
    pub fn named(entity: u64) -> File {
        File {
            entity,
            named: true,
            ..File::default()
        }
    }
}

pub(super) struct Disk {
    pub(super) seed: u64,
    pub(super) entity: u64,
    pub faults: DiskFaults,
    pub(super) names: Names,
    pub(super) files: BTreeMap<Inode, File>,
    pub(super) next_inode: Inode,
    in_flight: BTreeMap<u64, InFlight>,
    next_operation: u64,
    name_operations: u64,
    pub(super) moment: Moment,
    used: u64,
    crashes: u64,
    flips: u64,
}

impl Disk {
    pub fn new(seed: u64, entity: u64, faults: DiskFaults) -> Disk {
        Disk {
            seed,
            entity,
            faults,
            names: Names::new(),
            files: BTreeMap::new(),
            next_inode: ROOT + 1,
            in_flight: BTreeMap::new(),
            next_operation: 0,
            name_operations: 0,
            moment: 0,
            used: 0,
            crashes: 0,
            flips: 0,
        }
    }

    pub fn space(&self) -> Space {
        let total = self.faults.capacity_bytes;
        Space {
            total,
            available: total.saturating_sub(self.used),
        }
    }

    pub fn file_len(&self, inode: Inode) -> u64 {
        self.files.get(&inode).map_or(0, |file| file.content.len())
    }

    pub fn close(&mut self, inode: Inode) {
        if let Some(file) = self.files.get_mut(&inode) {
            file.open = file.open.saturating_sub(1);
        }
        self.release(inode);
    }

    /// Starts an operation: its number, and how long it takes.
    pub fn begin(&mut self, operation: Operation, answer: Rc<RefCell<Answer>>) -> (u64, Duration) {
        self.moment += 1;
        let (entity, counter) = self.next_draws(&operation);
        let latency = self.latency(&operation, entity, counter);
        let number = self.next_operation;
        self.next_operation += 1;
        let in_flight = InFlight {
            operation,
            began: self.moment,
            entity,
            counter,
            answer,
        };
        self.in_flight.insert(number, in_flight);
        (number, latency)
    }

    fn next_draws(&mut self, operation: &Operation) -> (u64, u64) {
        let file = match operation {
            Operation::Write { inode, .. }
            | Operation::Read { inode, .. }
            | Operation::Sync { inode }
            | Operation::SetLen { inode, .. }
            | Operation::Reserve { inode, .. } => self.files.get_mut(inode),
            _ => None,
        };
        let (entity, counter) = match file {
            Some(file) => (file.entity, &mut file.operations),
            None => (self.entity, &mut self.name_operations),
        };
        *counter += 1;
        (entity, *counter)
    }

    fn latency(&self, operation: &Operation, entity: u64, counter: u64) -> Duration {
        let faults = &self.faults;
        let draw = |decision| Draw::new(self.seed, decision, entity, counter);
        let (range, bytes, synced) = match operation {
            Operation::Write {
                bytes, data_sync, ..
            } => (&faults.write_latency, bytes.len(), *data_sync),
            Operation::Read { len, .. } => (&faults.read_latency, *len, false),
            Operation::Sync { .. } | Operation::SyncDirectory { .. } => {
                (&faults.sync_latency, 0, false)
            }
            _ => (&faults.name_latency, 0, false),
        };
        let mut latency = draw(Decision::Latency).duration(range);
        latency +=
            Duration::from_nanos(bytes as u64 * 1_000_000_000 / faults.bytes_per_second.max(1));
        if synced {
            let sync = Draw(combine(draw(Decision::Latency).0, 1));
            latency += sync.duration(&faults.sync_latency);
        }
        if draw(Decision::Slow).chance(faults.slow) {
            latency * faults.slow_factor
        } else {
            latency
        }
    }

    /// An operation's time has come: it takes effect, and its answer is there.
    pub fn complete(&mut self, number: u64) -> Option<Waker> {
        let InFlight {
            operation,
            began,
            entity,
            counter,
            answer,
        } = self.in_flight.remove(&number)?;
        self.moment += 1;
        let result = self.perform(operation, began, entity, counter);
        let mut answer = answer.borrow_mut();
        answer.result = Some(result);
        answer.waiting.take()
    }

    fn perform(
        &mut self,
        op: Operation,
        began: Moment,
        entity: u64,
        counter: u64,
    ) -> io::Result<Outcome> {
        let fails = |probability| {
            Draw::new(self.seed, Decision::Fails, entity, counter).chance(probability)
        };
        match op {
            Operation::Write {
                inode,
                position,
                bytes,
                data_sync,
            } => {
                let sync_error = if data_sync {
                    self.faults.sync_error
                } else {
                    0.0
                };
                if fails(self.faults.write_error.max(sync_error)) {
                    self.write_partly(inode, position, &bytes, entity, counter);
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                self.write(inode, position, &bytes, data_sync)
            }
            Operation::Read {
                inode,
                position,
                len,
            } => {
                if fails(self.faults.read_error) {
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                Ok(Outcome::Bytes(
                    self.file(inode)?.content.read(position, len),
                ))
            }
            Operation::Sync { inode } => {
                if fails(self.faults.sync_error) {
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                self.file(inode)?.content.sync(began);
                Ok(Outcome::Done)
            }
            Operation::SetLen { inode, len } => self.set_len(inode, len),
            Operation::Reserve { inode, len } => self.reserve(inode, len),
            names => self.perform_on_names(names, began),
        }
    }

    pub(super) fn file(&mut self, inode: Inode) -> io::Result<&mut File> {
        self.files
            .get_mut(&inode)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn write(
        &mut self,
        inode: Inode,
        position: u64,
        bytes: &Bytes,
        data_sync: bool,
    ) -> io::Result<Outcome> {
        let moment = self.moment;
        let fits = self.allocate(inode, position..position + bytes.len() as u64);
        let content = &mut self.file(inode)?.content;
        match fits {
            Ok(()) if data_sync => content.write_durably(moment, position, bytes),
            Ok(()) => content.write(moment, position, bytes),
            // Nothing of it was written.
            Err(error) => return Err(error),
        }
        Ok(Outcome::Done)
    }

    fn allocate(&mut self, inode: Inode, range: std::ops::Range<u64>) -> io::Result<()> {
        let available = self.space().available;
        let file = self.file(inode)?;
        let missing = file.extents.missing(&range);
        if missing > available {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        if missing > 0 {
            file.extents.insert(&range);
            self.used += missing;
        }
        Ok(())
    }

    fn set_len(&mut self, inode: Inode, len: u64) -> io::Result<Outcome> {
        let moment = self.moment;
        let file = self.file(inode)?;
        let before = file.extents.bytes();
        file.extents.truncate(len);
        let freed = before - file.extents.bytes();
        file.content.set_len(moment, len);
        self.used -= freed;
        Ok(Outcome::Done)
    }

    fn reserve(&mut self, inode: Inode, len: u64) -> io::Result<Outcome> {
        let moment = self.moment;
        self.allocate(inode, 0..len)?;
        let content = &mut self.file(inode)?.content;
        if len > content.len() {
            content.set_len(moment, len);
        }
        Ok(Outcome::Done)
    }

    /// Gives back the space of a file that has neither a name nor an open handle. Its bytes stay:
    /// a crash may bring the name back.
    pub(super) fn release(&mut self, inode: Inode) {
        let Some(file) = self.files.get_mut(&inode) else {
            return;
        };
        if file.open > 0 || file.named {
            return;
        }
        if !std::mem::replace(&mut file.released, true) {
            self.used -= file.extents.bytes();
        }
        if !file.content.is_dirty() && !self.names.may_come_back(inode) {
            self.files.remove(&inode);
        }
    }

    fn write_partly(
        &mut self,
        inode: Inode,
        position: u64,
        bytes: &Bytes,
        entity: u64,
        counter: u64,
    ) {
        let (seed, moment) = (self.seed, self.moment);
        if self
            .allocate(inode, position..position + bytes.len() as u64)
            .is_err()
        {
            return;
        }
        if let Some(file) = self.files.get_mut(&inode) {
            let fate = fate_of_blocks(seed, combine(entity, counter), counter);
            file.content.write_partly(moment, position, bytes, fate);
        }
    }

    /// The processes are gone: what was in flight may have happened, wholly, partly or not at all.
    /// What had completed is untouched.
    pub fn abandon(&mut self) {
        for (number, in_flight) in std::mem::take(&mut self.in_flight) {
            let InFlight {
                operation,
                began,
                entity,
                counter,
                ..
            } = in_flight;
            self.moment += 1;
            let happens =
                Draw::new(self.seed, Decision::Fate, combine(entity, number), counter).chance(0.5);
            match operation {
                Operation::Write {
                    inode,
                    position,
                    bytes,
                    ..
                } => {
                    self.write_partly(inode, position, &bytes, entity, counter);
                }
                Operation::Read { .. } | Operation::Sync { .. } | Operation::Open { .. } => {}
                other if happens => {
                    // Whether it succeeds interests nobody any more.
                    let _ = self.perform(other, began, entity, counter);
                }
                _ => {}
            }
        }
        for file in self.files.values_mut() {
            file.open = 0;
        }
        let unnamed: Vec<Inode> = self.files.keys().copied().collect();
        unnamed.into_iter().for_each(|inode| self.release(inode));
    }

    /// The power fails.
    pub fn crash(&mut self) {
        self.abandon();
        self.crashes += 1;
        let (seed, crashes) = (self.seed, self.crashes);
        let style = Draw::new(seed, Decision::NameFate, self.entity, crashes);
        let entity = combine(self.entity, crashes);
        self.names.crash(|place| match style.below(3) {
            0 => false,
            1 => true,
            _ => Draw::new(seed, Decision::NameFate, entity, place as u64).chance(0.5),
        });
        let named: BTreeSet<Inode> = self
            .names
            .now
            .walk()
            .into_iter()
            .map(|(_, inode)| inode)
            .collect();
        self.files.retain(|inode, _| named.contains(inode));
        for file in self.files.values_mut() {
            file.named = true;
            file.released = false;
            let entity = combine(file.entity, crashes);
            let lengths = |choices| {
                Draw::new(seed, Decision::LengthFate, file.entity, crashes).below(choices)
            };
            file.content
                .crash(lengths, fate_of_blocks(seed, entity, crashes));
            file.extents.truncate(file.content.len());
            for block in file.content.stored_blocks() {
                let start = block * BLOCK_BYTES as u64;
                file.extents.insert(&(start..start + BLOCK_BYTES as u64));
            }
        }
        self.used = self.files.values().map(|file| file.extents.bytes()).sum();
    }

    /// Flips one seeded bit of a file within `range`: where.
    pub fn flip(&mut self, path: &Path, range: std::ops::Range<u64>) -> Option<u64> {
        let inode = self.find(path).ok()?;
        let end = range.end.min(self.file_len(inode));
        let length = end.checked_sub(range.start).filter(|length| *length > 0)?;
        self.flips += 1;
        let draw = Draw::new(
            self.seed,
            Decision::Flip,
            self.files.get(&inode)?.entity,
            self.flips,
        );
        let position = range.start + draw.below(length);
        self.files
            .get_mut(&inode)?
            .content
            .flip(position, (draw.0 & 7) as u8);
        Some(position)
    }

    /// Every file with its length, by path.
    pub fn files(&self) -> Vec<(String, u64)> {
        let walk = self
            .names
            .now
            .walk()
            .into_iter()
            .filter(|(_, inode)| !self.is_directory(*inode));
        let mut files: Vec<_> = walk
            .map(|(path, inode)| (path, self.file_len(inode)))
            .collect();
        files.sort_unstable();
        files
    }

    /// The blocks of a file that hold something on stable storage.
    pub fn stored_blocks(&self, path: &Path) -> Vec<u64> {
        let file = self
            .find(path)
            .ok()
            .and_then(|inode| self.files.get(&inode));
        file.map(|file| file.content.stored_blocks())
            .unwrap_or_default()
    }

    /// A hash of everything that a reader would see.
    pub fn hash(&self) -> u64 {
        let mut hash = self.used;
        let mut walk = self.names.now.walk();
        walk.sort_unstable();
        for (path, inode) in walk {
            let content = self.files.get(&inode).map_or(0, |file| file.content.hash());
            hash = combine(combine(hash, hash_bytes(path.as_bytes())), content);
        }
        hash
    }
}
