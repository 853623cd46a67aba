//! One replica on the stage: a [`Group`] with what its driver would keep for it, a log with payloads
//! that can be read, a disk that may hold back, and chance that the script decides.

use std::collections::VecDeque;
use std::time::Duration;

use raft::{
    Condition, Configuration, Cut, Group, Index, Io, LogView, Position, Random, Recovered,
    ReplicaId, Settings, Span, Term, Time,
};

use crate::stage::Flight;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A client's.
    Text(String),
    /// A new leader's first entry.
    NoOp,
    /// A membership.
    Members(Configuration),
}

/// An entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub term: Term,
    pub payload: Payload,
}

impl Entry {
    /// As the limits count it.
    fn bytes(&self) -> u64 {
        match &self.payload {
            Payload::Text(text) => text.len() as u64,
            Payload::NoOp | Payload::Members(_) => 0,
        }
    }
}

/// A log: in memory, or as a disk has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// The place before the first entry.
    pub base: Position,
    /// The membership in force there.
    pub members: Option<(Index, Configuration)>,
    list: Vec<Entry>,
}

impl Entries {
    /// None, in a group that begins with these voters; without any, of a replica that joins later.
    pub fn founded_by(voters: &[ReplicaId]) -> Entries {
        let members = (!voters.is_empty()).then(|| (Index(0), Configuration::of(voters)));
        Entries::beginning_after(Position::default(), members)
    }

    /// None yet, after a place and with the membership that a snapshot tells.
    pub fn beginning_after(base: Position, members: Option<(Index, Configuration)>) -> Entries {
        Entries {
            base,
            members,
            list: Vec::new(),
        }
    }

    fn place(&self, index: Index) -> usize {
        let place = index.0.checked_sub(self.base.index.0 + 1);
        let place = place.expect("what is before the log's start is gone");
        usize::try_from(place).expect("scenarios are short")
    }

    pub fn all(&self) -> impl Iterator<Item = (Index, &Entry)> {
        (self.base.index.0 + 1..).map(Index).zip(&self.list)
    }

    pub fn between(&self, first: Index, last: Index) -> Vec<Entry> {
        self.list[self.place(first)..=self.place(last)].to_vec()
    }

    pub fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.list.extend(entries);
    }

    /// Removes all entries after this one.
    pub fn truncate(&mut self, last: Index) {
        self.list.truncate(self.place(last.next()));
    }

    /// Removes all entries up to this one, of that term.
    pub fn begin_after(&mut self, base: Position) {
        let here = self.list.len().min(self.place(base.index.next()));
        for (index, entry) in (self.base.index.0 + 1..).zip(self.list.drain(..here)) {
            if let Payload::Members(configuration) = entry.payload {
                self.members = Some((Index(index), configuration));
            }
        }
        self.base = base;
    }

    fn term_ends(&self) -> Vec<Position> {
        let mut ends: Vec<Position> = Vec::new();
        for (index, entry) in self.all() {
            match ends.last_mut() {
                Some(end) if end.term == entry.term => end.index = index,
                _ => ends.push(Position::new(index, entry.term)),
            }
        }
        ends
    }

    fn configurations(&self) -> Vec<(Index, Configuration)> {
        let inside = self
            .all()
            .filter_map(|(index, entry)| match &entry.payload {
                Payload::Members(configuration) => Some((index, configuration.clone())),
                Payload::Text(_) | Payload::NoOp => None,
            });
        self.members.iter().cloned().chain(inside).collect()
    }
}

impl LogView for Entries {
    fn cut(&self, first: Index, last: Index, most_bytes: u64) -> Cut {
        let wanted = &self.list[self.place(first)..=self.place(last)];
        let term = wanted[0].term;
        let (mut entries, mut bytes) = (0, 0);
        for entry in wanted.iter().take_while(|entry| entry.term == term) {
            if entries > 0 && bytes + entry.bytes() > most_bytes {
                break;
            }
            entries += 1;
            bytes += entry.bytes();
        }
        Cut::Span(Span {
            first,
            last: Index(first.0 + entries - 1),
            term,
            bytes,
        })
    }
}

/// Something for the disk to do.
#[derive(Clone, Debug)]
pub enum Write {
    Vote(Term, Option<ReplicaId>),
    Append(Vec<Entry>),
    Truncate(Index),
    Reset(Entries),
}

/// What a crash leaves.
#[derive(Clone, Debug)]
pub struct Disk {
    pub term: Term,
    pub vote: Option<ReplicaId>,
    pub log: Entries,
}

impl Disk {
    /// Of a replica that has voted in no term after its last entry's.
    pub fn holding(log: Entries) -> Disk {
        let term = log.term_ends().last().map_or(Term(0), |end| end.term);
        Disk {
            term,
            vote: None,
            log,
        }
    }

    fn carry_out(&mut self, write: Write) {
        match write {
            Write::Vote(term, vote) => (self.term, self.vote) = (term, vote),
            Write::Append(entries) => self.log.append(entries),
            Write::Truncate(last) => self.log.truncate(last),
            Write::Reset(log) => self.log = log,
        }
    }

    fn recovered(&self, condition: Condition) -> Recovered {
        Recovered {
            term: self.term,
            vote: self.vote,
            log_start: self.log.base.index.next(),
            previous_term: self.log.base.term,
            term_ends: self.log.term_ends(),
            commit: self.log.base.index,
            configurations: self.log.configurations(),
            condition,
        }
    }
}

/// Chance that the script decides: how much longer than the election timeout a replica waits. No two
/// draws are the same number.
#[derive(Clone, Debug)]
pub struct Luck {
    pub added: Duration,
    spread: Duration,
    drawn: u64,
}

impl Random for Luck {
    fn next(&mut self) -> u64 {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).expect("it is short");
        self.drawn += 1;
        nanos(self.added) + self.drawn * (nanos(self.spread) + 1)
    }
}

/// A replica.
pub struct Actor {
    /// None: it is down.
    pub group: Option<Group>,
    /// As it has it in memory.
    pub log: Entries,
    pub disk: Disk,
    pub disk_is_held: bool,
    pub writes: VecDeque<(Io, Write)>,
    /// Messages that wait for a write.
    pub waiting: Vec<(Io, Flight)>,
    pub luck: Luck,
}

impl Actor {
    pub fn new(id: ReplicaId, settings: &Settings, disk: Disk, now: Time) -> Actor {
        let mut actor = Actor {
            group: None,
            log: disk.log.clone(),
            disk,
            disk_is_held: false,
            writes: VecDeque::new(),
            waiting: Vec::new(),
            luck: Luck {
                added: Duration::from_millis(100) * (id.node.0 - 1),
                spread: settings.election_spread,
                drawn: 0,
            },
        };
        actor.start(id, settings, Condition::Sound, now);
        actor
    }

    /// Everything that is not on its disk is gone.
    pub fn crash(&mut self) {
        self.group = None;
        self.writes.clear();
        self.waiting.clear();
        self.disk_is_held = false;
        self.log = self.disk.log.clone();
    }

    pub fn start(&mut self, id: ReplicaId, settings: &Settings, condition: Condition, now: Time) {
        let recovered = self.disk.recovered(condition);
        let group = Group::new(id, settings.clone(), recovered, now, &mut self.luck);
        self.group = Some(group);
    }

    /// All writes that were asked for are carried out; tells up to which one, if there were any.
    pub fn write_all(&mut self) -> Option<Io> {
        let last = self.writes.back().map(|(io, _)| *io);
        for (_, write) in self.writes.drain(..) {
            self.disk.carry_out(write);
        }
        last
    }
}
