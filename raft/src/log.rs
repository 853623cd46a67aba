//! What a replica knows of its log without having its entries: where each term ends, what is
//! durable, committed and visible.

use std::collections::VecDeque;

use crate::input::{Condition, Recovered};
use crate::message::Watermarks;
use crate::types::{Index, Io, Position, Span, Term};

/// How many ends of terms an answer names to a leader whose log differs. One that has parted from
/// the leader's by more terms takes another round trip.
const MOST_ENDS: usize = 32;

/// The log's outline. `start - 1 <= visible <= commit <= last`, and `durable <= last`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    start: Index,
    /// Of the entry before `start`.
    previous_term: Term,
    /// The last entry of each term that has any, in order.
    ends: Vec<Position>,
    durable: Index,
    /// Appends under way, and up to where the log is durable with each. A truncation lowers what
    /// those before it count for: their entries are not the log's any more.
    pending: VecDeque<(Io, Index)>,
    marks: Watermarks,
}

impl Log {
    pub(crate) fn recovered(from: &Recovered) -> Log {
        let before_start = from.log_start.previous();
        let mut log = Log {
            start: from.log_start,
            previous_term: from.previous_term,
            ends: from.term_ends.clone(),
            durable: before_start,
            pending: VecDeque::new(),
            marks: Watermarks {
                commit: from.commit.max(before_start),
                visible: before_start,
            },
        };
        assert!(log.start > Index(0), "the first entry has index 1");
        let ascending = log.ends.windows(2);
        assert!(
            ascending.into_iter().all(|pair| pair[0].term < pair[1].term && pair[0].index < pair[1].index)
                && log.ends.first().is_none_or(|first| first.index >= log.start && first.term >= log.previous_term),
            "terms and their ends grow along a log"
        );
        log.durable = log.last().index;
        if from.condition == Condition::Damaged {
            log.marks.commit = log.marks.commit.min(log.durable);
        }
        assert!(
            log.marks.commit <= log.durable,
            "what is committed was durable here"
        );
        log
    }

    pub(crate) fn start(&self) -> Index {
        self.start
    }

    /// The place before the first entry.
    pub(crate) fn base(&self) -> Position {
        Position::new(self.start.previous(), self.previous_term)
    }

    pub(crate) fn last(&self) -> Position {
        self.ends.last().copied().unwrap_or(self.base())
    }

    pub(crate) fn ends(&self) -> &[Position] {
        &self.ends
    }

    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    pub(crate) fn marks(&self) -> Watermarks {
        self.marks
    }

    /// The term of an entry that is there, or of the one before the first.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        let base = self.base();
        if index <= base.index {
            return (index == base.index).then_some(base.term);
        }
        let place = self.ends.partition_point(|end| end.index < index);
        self.ends.get(place).map(|end| end.term)
    }

    /// The last index of the run of one term that `index` is in.
    fn run_end(&self, index: Index) -> Index {
        let place = self.ends.partition_point(|end| end.index < index);
        self.ends.get(place).map_or(index, |end| end.index)
    }

    pub(crate) fn append(&mut self, span: Span, io: Io) {
        let last = self.last();
        assert!(
            span.first == last.index.next() && span.last >= span.first,
            "entries follow the last"
        );
        assert!(
            span.term >= last.term && span.term > Term(0),
            "terms grow along a log"
        );
        match self.ends.last_mut() {
            Some(end) if end.term == span.term => end.index = span.last,
            _ => self.ends.push(span.end()),
        }
        self.pending.push_back((io, span.last));
    }

    /// The first of these entries that is not there. What is there and differs must be cut first: then
    /// the answer is `Err` with what may stay.
    pub(crate) fn missing(&self, span: &Span) -> Result<Index, Index> {
        let mut index = span.first;
        while index <= span.last {
            match self.term_at(index) {
                Some(term) if term == span.term => {
                    index = self.run_end(index).min(span.last).next();
                }
                Some(_) => return Err(index.previous()),
                None => break,
            }
        }
        Ok(index)
    }

    pub(crate) fn truncate(&mut self, last: Index) {
        assert!(last >= self.marks.commit, "what is committed stays");
        assert!(last <= self.last().index, "only what is there can be cut");
        let term = self.term_at(last);
        self.ends.retain(|end| end.index <= last);
        // The end of a run that was cut in its middle.
        let term = term.expect("an entry that is there has a term");
        if last > self.last().index {
            self.ends.push(Position::new(last, term));
        }
        self.durable = self.durable.min(last);
        for (_, covers) in &mut self.pending {
            *covers = (*covers).min(last);
        }
    }

    /// Everything is dropped; the next entry is `start`.
    pub(crate) fn reset(&mut self, start: Index, previous_term: Term, io: Io) {
        let before = start.previous();
        assert!(before > self.marks.commit, "what is committed stays");
        self.start = start;
        self.previous_term = previous_term;
        self.ends.clear();
        self.durable = self.durable.min(self.marks.commit);
        self.pending.clear();
        self.pending.push_back((io, before));
        self.marks = Watermarks {
            commit: before,
            visible: before,
        };
    }

    /// Retention: the entries before `start` are gone.
    pub(crate) fn move_start(&mut self, start: Index) {
        let safe = self.marks.visible.min(self.durable);
        assert!(
            start <= safe.next() || start <= self.start,
            "only what is visible and durable may go"
        );
        if start <= self.start {
            return;
        }
        let term = self.term_at(start.previous());
        self.previous_term = term.expect("what is visible is there");
        self.start = start;
        self.ends.retain(|end| end.index >= start);
    }

    /// Writes up to this one are durable.
    pub(crate) fn written(&mut self, io: Io) {
        while self.pending.front().is_some_and(|(first, _)| *first <= io) {
            let (_, covers) = self.pending.pop_front().expect("there is one");
            self.durable = self.durable.max(covers);
        }
    }

    /// The write that makes everything up to `index` durable, if it is not.
    pub(crate) fn write_of(&self, index: Index) -> Option<Io> {
        if index <= self.durable {
            return None;
        }
        let covering = self.pending.iter().find(|(_, covers)| *covers >= index);
        covering.map(|(io, _)| *io)
    }

    /// Tells whether that is new.
    pub(crate) fn commit(&mut self, to: Index) -> bool {
        assert!(to <= self.last().index, "what is committed is there");
        let new = to > self.marks.commit;
        self.marks.commit = self.marks.commit.max(to);
        new
    }

    /// Tells whether that is new.
    pub(crate) fn show(&mut self, to: Index) -> bool {
        assert!(to <= self.marks.commit, "what is visible is committed");
        let new = to > self.marks.visible;
        self.marks.visible = self.marks.visible.max(to);
        new
    }

    /// Where the last terms up to `at` end, the latest first, for a leader whose log differs there.
    pub(crate) fn ends_backwards(&self, at: Index) -> Vec<Position> {
        let at = at.min(self.last().index);
        let there = self.term_at(at).map(|term| Position::new(at, term));
        let earlier = self.ends.iter().rev().filter(|end| end.index < at);
        let base = Some(self.base()).filter(|base| base.index < at);
        let all = there.into_iter().chain(earlier.copied()).chain(base);
        all.take(MOST_ENDS).collect()
    }

    /// The last place that this log shares with another one, of which the ends of its last terms are
    /// known. Two logs that have an entry of one term have the same entries up to the lesser of that
    /// term's ends (log matching). None: what they share lies before this log's start, or before the
    /// ends that are known.
    pub(crate) fn shared_with(&self, ends: &[Position]) -> Option<Position> {
        let base = self.base();
        let shared = ends.iter().find_map(|theirs| {
            let ours = self.ends.iter().rev().find(|ours| ours.term == theirs.term);
            let ours = ours
                .copied()
                .or((base.term == theirs.term).then_some(base))?;
            Some(ours.min(*theirs))
        })?;
        (shared.index >= base.index).then_some(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(index: u64, term: u64) -> Position {
        Position::new(Index(index), Term(term))
    }

    fn span(first: u64, last: u64, term: u64) -> Span {
        Span {
            first: Index(first),
            last: Index(last),
            term: Term(term),
            bytes: 0,
        }
    }

    /// Terms by their ends.
    fn log(ends: &[(u64, u64)]) -> Log {
        Log::recovered(&Recovered {
            term_ends: ends
                .iter()
                .map(|(index, term)| position(*index, *term))
                .collect(),
            ..Recovered::empty(&[])
        })
    }

    #[test]
    fn an_entry_has_the_term_of_the_run_that_it_is_in() {
        let mut log = log(&[(3, 1), (4, 5)]);
        let terms = |log: &Log| {
            (0..=6)
                .map(|i| log.term_at(Index(i)).map(|t| t.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            terms(&log),
            [Some(0), Some(1), Some(1), Some(1), Some(5), None, None]
        );
        log.append(span(5, 5, 5), Io(1));
        log.append(span(6, 6, 7), Io(2));
        assert_eq!(log.ends(), [position(3, 1), position(5, 5), position(6, 7)]);
        log.truncate(Index(2));
        assert_eq!(log.last(), position(2, 1));
        assert_eq!(
            terms(&log),
            [Some(0), Some(1), Some(1), None, None, None, None]
        );
    }

    #[test]
    fn a_write_counts_for_nothing_that_was_cut_after_it() {
        let mut log = log(&[(3, 1)]);
        log.append(span(4, 6, 2), Io(1));
        log.truncate(Index(4));
        log.append(span(5, 5, 3), Io(3));
        log.written(Io(1));
        assert_eq!(log.durable(), Index(4), "5 is another entry now");
        assert_eq!(log.write_of(Index(5)), Some(Io(3)));
        log.written(Io(3));
        assert_eq!((log.durable(), log.write_of(Index(5))), (Index(5), None));
    }

    #[test]
    fn what_is_there_is_not_missing() {
        let log = log(&[(3, 1), (6, 2)]);
        assert_eq!(log.missing(&span(2, 3, 1)), Ok(Index(4)), "all there");
        assert_eq!(log.missing(&span(5, 9, 2)), Ok(Index(7)));
        assert_eq!(log.missing(&span(7, 9, 2)), Ok(Index(7)));
        assert_eq!(log.missing(&span(5, 9, 3)), Err(Index(4)));
        assert_eq!(log.missing(&span(3, 5, 1)), Err(Index(3)));
    }

    #[test]
    fn logs_part_where_a_shared_term_ends_first() {
        // Raft paper, figure 7: the leader and the followers (a), (c), (e) and (f).
        let leader = log(&[(3, 1), (5, 4), (7, 5), (10, 6)]);
        let shared = |ends: &[(u64, u64)]| leader.shared_with(&log(ends).ends_backwards(Index(10)));
        assert_eq!(
            shared(&[(3, 1), (5, 4), (7, 5), (9, 6)]),
            Some(position(9, 6))
        );
        assert_eq!(
            shared(&[(3, 1), (5, 4), (7, 5), (11, 6)]),
            Some(position(10, 6))
        );
        assert_eq!(shared(&[(3, 1), (7, 4)]), Some(position(5, 4)));
        assert_eq!(shared(&[(3, 1), (6, 2), (11, 3)]), Some(position(3, 1)));
        assert_eq!(
            shared(&[]),
            Some(position(0, 0)),
            "an empty log shares the beginning"
        );
    }

    #[test]
    fn behind_the_start_nothing_is_shared() {
        let mut leader = log(&[(3, 1), (9, 2)]);
        leader.commit(Index(9));
        leader.show(Index(9));
        leader.move_start(Index(6));
        assert_eq!(leader.base(), position(5, 2));
        assert_eq!(leader.shared_with(&[position(4, 2), position(3, 1)]), None);
        assert_eq!(leader.shared_with(&[position(5, 2)]), Some(position(5, 2)));
    }

    #[test]
    #[should_panic(expected = "what is committed stays")]
    fn what_is_committed_is_never_cut() {
        let mut log = log(&[(3, 1)]);
        log.commit(Index(3));
        log.truncate(Index(2));
    }
}
