//! A log with its entries: what a driver keeps in memory, what a disk holds, what a message carries.

use raft::{Cut, Index, LogView, Position, Span, Term};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    /// A leader's first entry.
    NoOp,
    /// The proposal of this number.
    Proposal(u64),
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) term: Term,
    pub(crate) value: Value,
}

/// Entries from index 1 on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Log(Vec<Entry>);

impl Log {
    pub(crate) fn last(&self) -> Position {
        let term = self.0.last().map_or(Term(0), |entry| entry.term);
        Position::new(Index(self.0.len() as u64), term)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The entries up to `last`, if it has as many.
    pub(crate) fn prefix(&self, last: Index) -> Option<&[Entry]> {
        self.0.get(..last.0 as usize)
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    pub(crate) fn truncate(&mut self, last: Index) {
        self.0.truncate(last.0 as usize);
    }

    /// The entries of a span; none if some are not there.
    pub(crate) fn span(&self, span: &Span) -> Option<&[Entry]> {
        self.0.get(span.first.0 as usize - 1..span.last.0 as usize)
    }

    /// The last entry of each term, in order.
    pub(crate) fn term_ends(&self) -> Vec<Position> {
        let mut ends: Vec<Position> = Vec::new();
        for (place, entry) in self.0.iter().enumerate() {
            let here = Position::new(Index(place as u64 + 1), entry.term);
            match ends.last_mut() {
                Some(end) if end.term == here.term => *end = here,
                _ => ends.push(here),
            }
        }
        ends
    }

    /// Whether both are equal up to the last index where both have an entry of one term (log
    /// matching, Raft paper, figure 3).
    pub(crate) fn matches(&self, other: &Log) -> bool {
        let pairs = || self.0.iter().zip(&other.0);
        let shared = pairs().rposition(|(ours, theirs)| ours.term == theirs.term);
        shared.is_none_or(|last| pairs().take(last + 1).all(|(ours, theirs)| ours == theirs))
    }
}

impl LogView for Log {
    fn cut(&self, first: Index, last: Index, most_bytes: u64) -> Cut {
        let place = first.0 as usize - 1;
        let term = self.0[place].term;
        // Each entry counts for one byte.
        let most = most_bytes.max(1).min(last.0 - first.0 + 1) as usize;
        let run = self.0[place..].iter().take(most);
        let entries = run.take_while(|entry| entry.term == term).count() as u64;
        Cut::Span(Span {
            first,
            last: Index(first.0 + entries - 1),
            term,
            bytes: entries,
        })
    }
}
