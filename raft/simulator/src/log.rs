//! A log with its entries: what a driver keeps in memory, and what a disk holds.

use std::collections::VecDeque;

use raft::{Configuration, Index, Position, Term};
use simulation::hash_of;

/// What an entry is, as a number that no other client entry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Value(u64);

const NO_OP: u64 = 1 << 62;
const CONFIGURATION: u64 = 2 << 62;

impl Value {
    pub(crate) const NO_OP: Value = Value(NO_OP);

    pub(crate) fn client(number: u64) -> Value {
        assert!(number < NO_OP, "numbers of values stay below the marks of other entries");
        Value(number)
    }

    pub(crate) fn configuration(configuration: &Configuration) -> Value {
        Value(CONFIGURATION | hash_of(configuration) >> 2)
    }

    pub(crate) fn is_configuration(self) -> bool {
        self.0 >= CONFIGURATION
    }
}

/// An entry. The last two fields say what lies before it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) term: Term,
    pub(crate) value: Value,
    pub(crate) bytes: u64,
    /// A hash of the terms and values of the whole log up to here: two logs with the same chain at
    /// an index are equal up to there.
    pub(crate) chain: u64,
    /// The bytes of all entries since the first.
    pub(crate) total: u64,
}

/// What is known of the entry before a log's first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Base {
    pub(crate) term: Term,
    pub(crate) chain: u64,
    pub(crate) total: u64,
}

/// Entries from `start` on, and the memberships among them with the one before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    start: Index,
    base: Base,
    entries: VecDeque<Entry>,
    configurations: Vec<(Index, Configuration)>,
}

impl Log {
    pub(crate) fn new(configurations: Vec<(Index, Configuration)>) -> Log {
        Log {
            start: Index(1),
            base: Base::default(),
            entries: VecDeque::new(),
            configurations,
        }
    }

    pub(crate) fn start(&self) -> Index {
        self.start
    }

    pub(crate) fn base(&self) -> Base {
        self.base
    }

    pub(crate) fn last_index(&self) -> Index {
        Index(self.start.0 - 1 + self.entries.len() as u64)
    }

    pub(crate) fn last(&self) -> Position {
        Position::new(self.last_index(), self.end().term)
    }

    /// Of the last entry, or of what is before the first.
    pub(crate) fn end(&self) -> Base {
        self.entries.back().map_or(self.base, Entry::as_base)
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        let place = index.0.checked_sub(self.start.0)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// Of an entry that is there, or of the one before the first.
    pub(crate) fn at(&self, index: Index) -> Option<Base> {
        if index.next() == self.start {
            return Some(self.base);
        }
        self.get(index).map(Entry::as_base)
    }

    pub(crate) fn configurations(&self) -> &[(Index, Configuration)] {
        &self.configurations
    }

    /// Returns the new entry with its chain and total.
    pub(crate) fn append(&mut self, term: Term, value: Value, bytes: u64) -> Entry {
        let end = self.end();
        let entry = Entry {
            term,
            value,
            bytes,
            chain: hash_of(&(end.chain, term.0, value.0)),
            total: end.total + bytes,
        };
        self.entries.push_back(entry);
        entry
    }

    /// The entry at this index is this membership.
    pub(crate) fn configure(&mut self, index: Index, configuration: Configuration) {
        self.configurations.push((index, configuration));
    }

    pub(crate) fn truncate(&mut self, last: Index) {
        let kept = last.next().0.saturating_sub(self.start.0);
        self.entries.truncate(kept as usize);
        self.configurations.retain(|(index, _)| *index <= last);
    }

    pub(crate) fn reset(
        &mut self,
        start: Index,
        base: Base,
        configuration: (Index, Configuration),
    ) {
        *self = Log {
            start,
            base,
            entries: VecDeque::new(),
            configurations: vec![configuration],
        };
    }

    /// The entries before `start` are not kept any more.
    pub(crate) fn move_start(&mut self, start: Index) {
        while self.start < start {
            let Some(gone) = self.entries.pop_front() else {
                break;
            };
            self.base = gone.as_base();
            self.start = self.start.next();
        }
        let before = self.configurations.partition_point(|(index, _)| *index < self.start);
        self.configurations.drain(..before.saturating_sub(1));
    }

    /// The last entry of each term, in order.
    pub(crate) fn term_ends(&self) -> Vec<Position> {
        let mut ends: Vec<Position> = Vec::new();
        let mut index = self.start;
        for entry in &self.entries {
            match ends.last_mut() {
                Some(end) if end.term == entry.term => end.index = index,
                _ => ends.push(Position::new(index, entry.term)),
            }
            index = index.next();
        }
        ends
    }
}

impl Entry {
    fn as_base(&self) -> Base {
        Base {
            term: self.term,
            chain: self.chain,
            total: self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::new(Vec::new());
        for (number, term) in terms.iter().enumerate() {
            log.append(Term(*term), Value::client(number as u64), 10);
        }
        log
    }

    #[test]
    fn equal_chains_are_equal_logs() {
        let (one, mut other) = (log(&[1, 1, 2, 3]), log(&[1, 1, 2, 4]));
        assert_eq!(one.at(Index(3)), other.at(Index(3)));
        assert_ne!(one.at(Index(4)), other.at(Index(4)));
        other.truncate(Index(3));
        other.append(Term(3), Value::client(3), 10);
        assert_eq!(one, other);
        other.truncate(Index(3));
        other.append(Term(3), Value::client(7), 10);
        assert_ne!(one.end().chain, other.end().chain, "another value");
    }

    #[test]
    fn what_is_before_the_start_still_counts() {
        let whole = log(&[1, 1, 2, 3]);
        let mut moved = whole.clone();
        moved.move_start(Index(3));
        assert_eq!(moved.start(), Index(3));
        assert_eq!(moved.at(Index(2)), whole.at(Index(2)));
        assert_eq!(moved.at(Index(1)), None);
        assert_eq!(moved.last(), whole.last());
        assert_eq!(moved.end(), whole.end());
        assert_eq!(moved.term_ends().len(), 2);
        moved.move_start(Index(9));
        assert_eq!((moved.start(), moved.last()), (Index(5), whole.last()));
    }
}
