//! A node's disk: a journal whose writes take their time, and may be gone after a crash.

use std::collections::VecDeque;

use raft::{
    Condition, Configuration, Index, Io, Recovered, ReplicaId, Term,
};
use simulation::Draws;
use smallvec::SmallVec;

use crate::log::{Base, Log, Value};

/// An entry as a journal keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) term: Term,
    pub(crate) value: Value,
    pub(crate) bytes: u64,
}

/// What is written at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Record {
    Vote {
        term: Term,
        vote: Option<ReplicaId>,
    },
    Append {
        entries: SmallVec<[Stored; 2]>,
        configurations: Vec<(Index, Configuration)>,
    },
    Truncate(Index),
    Reset {
        start: Index,
        base: Base,
        configuration: (Index, Configuration),
    },
    /// Retention has moved the start of the log to here.
    Start(Index),
    /// The log is whole again.
    Sound,
}

/// What is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Image {
    pub(crate) term: Term,
    pub(crate) vote: Option<ReplicaId>,
    /// Every vote that was ever written, for the oracles: a reply may leave late.
    votes: Vec<(Term, ReplicaId)>,
    pub(crate) log: Log,
    /// Known to be committed: a note beside each write.
    commit: Index,
    condition: Condition,
    /// From here on the log's entries are not what was written; found out when they are read.
    rotten: Option<Index>,
}

impl Image {
    /// The greatest term that it knows of.
    pub(crate) fn known_term(&self) -> Term {
        self.term.max(self.log.end().term)
    }

    pub(crate) fn has_voted(&self, term: Term, vote: ReplicaId) -> bool {
        self.votes.contains(&(term, vote))
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Vote { term, vote } => {
                self.term = term;
                self.vote = vote;
                self.votes.extend(vote.map(|vote| (term, vote)));
            }
            Record::Append {
                entries,
                configurations,
            } => {
                for entry in entries {
                    self.log.append(entry.term, entry.value, entry.bytes);
                }
                for (index, configuration) in configurations {
                    // Of a torn write, only a part of the entries may be there.
                    if index <= self.log.last_index() {
                        self.log.configure(index, configuration);
                    }
                }
            }
            Record::Truncate(last) => {
                self.log.truncate(last);
                self.rotten = self.rotten.filter(|first| *first <= last);
            }
            Record::Reset {
                start,
                base,
                configuration,
            } => {
                self.log.reset(start, base, configuration);
                self.rotten = None;
            }
            Record::Start(start) => {
                self.log.move_start(start);
                self.rotten = self.rotten.filter(|first| *first >= start);
            }
            Record::Sound => self.condition = Condition::Sound,
        }
    }
}

#[derive(Clone, Debug, Hash)]
struct Write {
    record: Record,
    /// The core's number for it; none: the driver's own.
    io: Option<Io>,
    commit: Index,
    done: bool,
}

/// One replica's journal.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Disk {
    image: Image,
    pending: VecDeque<Write>,
    /// The number of the first pending write.
    first: u64,
}

impl Disk {
    /// An empty one, of a replica of a group with these voters, or of one that joins.
    pub(crate) fn new(voters: &[ReplicaId]) -> Disk {
        let recovered = Recovered::empty(voters);
        Disk {
            image: Image {
                term: Term(0),
                vote: None,
                votes: Vec::new(),
                log: Log::new(recovered.configurations),
                commit: Index(0),
                condition: Condition::Sound,
                rotten: None,
            },
            pending: VecDeque::new(),
            first: 0,
        }
    }

    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// Begins a write; its number.
    pub(crate) fn write(&mut self, record: Record, io: Option<Io>, commit: Index) -> u64 {
        self.pending.push_back(Write {
            record,
            io,
            commit,
            done: false,
        });
        self.first + self.pending.len() as u64 - 1
    }

    /// The core's number of a write under way, if it has one.
    pub(crate) fn io_of(&self, number: u64) -> Option<Io> {
        let place = number.checked_sub(self.first)?;
        self.pending.get(place as usize)?.io
    }

    /// The disk is done with this write. If all before it are done, too, more is durable: up to which
    /// of the core's writes.
    pub(crate) fn complete(&mut self, number: u64) -> Option<Io> {
        let place = number.checked_sub(self.first).expect("a write is completed once");
        self.pending[place as usize].done = true;
        let mut durable = None;
        while self.pending.front().is_some_and(|write| write.done) {
            let write = self.pending.pop_front().expect("there is one");
            self.first += 1;
            durable = write.io.max(durable);
            self.keep(write);
        }
        durable
    }

    fn keep(&mut self, write: Write) {
        self.image.commit = self.image.commit.max(write.commit);
        self.image.apply(write.record);
    }

    /// Power is lost. Of the pending writes an arbitrary part is there, but what is behind the first
    /// that is not cannot be read. If writes tear, a part of that one may be there as well.
    pub(crate) fn crash(&mut self, draws: &mut Draws, torn: bool) {
        let pending = std::mem::take(&mut self.pending);
        self.first += pending.len() as u64;
        for mut write in pending {
            if write.done || draws.chance(0.5) {
                self.keep(write);
                continue;
            }
            if let Record::Append { entries, .. } = &mut write.record
                && torn
            {
                entries.truncate(draws.below(entries.len() as u64) as usize);
                if !entries.is_empty() {
                    self.keep(write);
                }
            }
            break;
        }
    }

    /// Something at a place of the log that is drawn goes bad; false if there is nothing.
    pub(crate) fn rot(&mut self, draws: &mut Draws) -> bool {
        let log = &self.image.log;
        let kept = log.last_index().0 + 1 - log.start().0;
        if kept == 0 {
            return false;
        }
        let place = Index(log.start().0 + draws.below(kept));
        let before = self.image.rotten.unwrap_or(place);
        self.image.rotten = Some(before.min(place));
        true
    }

    /// Whether the next recovery will find a damaged log, or the last one did and it was not mended.
    pub(crate) fn is_damaged(&self) -> bool {
        self.image.rotten.is_some() || self.image.condition == Condition::Damaged
    }

    /// Reads the journal after a crash: what the replica goes on with.
    pub(crate) fn recover(&mut self) -> Recovered {
        assert!(self.pending.is_empty(), "a crash comes before a recovery");
        if let Some(first) = self.image.rotten.take() {
            self.image.condition = Condition::Damaged;
            self.image.log.truncate(first.previous());
        }
        let image = &mut self.image;
        let term = image.known_term();
        if term > image.term {
            image.term = term;
            image.vote = None;
        }
        image.commit = image.commit.clamp(image.log.start().previous(), image.log.last_index());
        Recovered {
            term: image.term,
            vote: image.vote,
            log_start: image.log.start(),
            previous_term: image.log.base().term,
            term_ends: image.log.term_ends(),
            commit: image.commit,
            configurations: image.log.configurations().to_vec(),
            condition: image.condition,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulation::Seed;

    fn append(values: std::ops::Range<u64>) -> Record {
        let stored = |number| Stored {
            term: Term(1),
            value: Value::client(number),
            bytes: 1,
        };
        Record::Append {
            entries: values.map(stored).collect(),
            configurations: Vec::new(),
        }
    }

    #[test]
    fn a_write_is_durable_when_all_before_it_are() {
        let mut disk = Disk::new(&[]);
        for number in 0..3 {
            disk.write(append(number..number + 1), Some(Io(number + 1)), Index(0));
        }
        assert_eq!(disk.complete(1), None);
        assert_eq!(disk.image().log.last_index(), Index(0));
        assert_eq!(disk.complete(0), Some(Io(2)));
        assert_eq!(disk.image().log.last_index(), Index(2));
        assert_eq!(disk.io_of(2), Some(Io(3)));
        assert_eq!(disk.complete(2), Some(Io(3)));
    }

    #[test]
    fn a_crash_keeps_all_that_is_durable_and_some_of_the_rest_in_order() {
        let mut kept = [0; 4];
        for seed in 0..200 {
            let mut disk = Disk::new(&[]);
            for number in 0..4 {
                disk.write(append(number..number + 1), Some(Io(number + 1)), Index(0));
            }
            disk.complete(0);
            disk.complete(2);
            disk.crash(&mut Seed(seed).draws("crash", &[]), false);
            let last = disk.recover().term_ends.last().expect("one is durable").index;
            kept[last.0 as usize - 1] += 1;
        }
        assert!(kept[0] > 60, "the second write was lost and the third, though done, with it");
        assert_eq!(kept[1], 0, "the third write was done, so it is there if the second is");
        assert!(kept[2] > 20 && kept[3] > 20, "{kept:?}");
    }

    #[test]
    fn a_torn_write_is_there_in_part() {
        let mut seen = [false; 4];
        for seed in 0..200 {
            let mut disk = Disk::new(&[]);
            disk.write(append(0..3), Some(Io(1)), Index(0));
            disk.crash(&mut Seed(seed).draws("crash", &[]), true);
            seen[disk.recover().term_ends.last().map_or(0, |end| end.index.0) as usize] = true;
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn damage_shows_at_recovery_until_it_is_mended() {
        let mut disk = Disk::new(&[]);
        disk.write(append(0..9), Some(Io(1)), Index(7));
        disk.complete(0);
        assert!(disk.rot(&mut Seed(3).draws("rot", &[])));
        assert!(disk.is_damaged());
        let recovered = disk.recover();
        assert_eq!(recovered.condition, Condition::Damaged);
        let last = recovered.term_ends.last().map_or(Index(0), |end| end.index);
        assert!(last < Index(9) && recovered.commit <= last);
        let number = disk.write(Record::Sound, None, Index(0));
        assert!(disk.is_damaged());
        assert_eq!(disk.complete(number), None);
        assert!(!disk.is_damaged());
    }

    #[test]
    fn damage_of_what_is_not_kept_does_not_matter() {
        let mut disk = Disk::new(&[]);
        disk.write(append(0..9), Some(Io(1)), Index(9));
        disk.complete(0);
        assert!(disk.rot(&mut Seed(3).draws("rot", &[])));
        let number = disk.write(Record::Start(Index(10)), None, Index(9));
        disk.complete(number);
        assert!(!disk.is_damaged());
        assert!(!disk.rot(&mut Seed(3).draws("rot", &[])), "there is nothing left");
    }
}
