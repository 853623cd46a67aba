//! The words of consensus, each a type of its own so that none can be taken for another.

use std::fmt;
use std::time::Duration;

/// A moment on this replica's monotonic clock, in nanoseconds since any fixed moment. Clocks of two
/// replicas are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// So much later; the end of time if that is too far.
    #[must_use]
    pub fn after(self, duration: Duration) -> Time {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }

    /// The next moment after this one that is a whole number of intervals from the clock's beginning:
    /// whatever is due by it, in whichever group, is due together.
    #[must_use]
    pub fn next_beat(self, interval: Duration) -> Time {
        let nanos = u64::try_from(interval.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        Time((self.0 / nanos).saturating_add(1).saturating_mul(nanos))
    }

    /// How long ago `earlier` was; nothing if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A leader's reign (Raft paper, section 5.1); Kafka's leader epoch. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The one that a candidate tries for.
    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

/// An entry's place in the log. The first is 1; 0 is the place before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Index {
    /// The place after this.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The place before this; 0 before 0.
    #[must_use]
    pub fn previous(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

/// A place in the log and the term of what is there: what two logs agree on if they agree at all
/// (the log matching property, Raft paper, section 5.3).
///
/// Ordered as elections compare logs: by term, then by index (section 5.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The entry's term.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

impl Position {
    /// This index in this term.
    #[must_use]
    pub fn new(index: Index, term: Term) -> Position {
        Position { term, index }
    }
}

/// A write that was asked for. They are numbered in order, over votes and log alike: that one is
/// durable means that all before it are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Io(pub u64);

/// A group: the shard's name for one of the logs that it replicates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// A node of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// A replica of the group. One that was removed and added again, or lost its disk, is another one:
/// its node has given it a greater incarnation, and nothing said by or to the old one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId {
    /// Where it lives.
    pub node: NodeId,
    /// Which of that node's replicas of this group, in the order of their making.
    pub incarnation: u32,
}

/// What a caller asked for, in its own numbering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Consecutive entries of one term. The core never sees more of them than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first entry.
    pub first: Index,
    /// The last one; never before the first.
    pub last: Index,
    /// The term that all of them have.
    pub term: Term,
    /// Their bytes together, as the in-flight limits count them.
    pub bytes: u64,
}

impl Span {
    /// How many entries.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }

    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> Position {
        Position::new(self.last, self.term)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            0 => write!(out, "n{}", self.node.0),
            incarnation => write!(out, "n{}#{incarnation}", self.node.0),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "t{}", self.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{}", self.index, self.term)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}..{}@{}", self.first, self.last, self.term)
    }
}
