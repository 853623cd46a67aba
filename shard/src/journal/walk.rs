//! The decision of recovery, without I/O: from what was seen in each file, which groups count, which
//! are damaged, and where the journal ends. The argument is in [`super::format`].

use super::format::{FIRST_GROUP_POSITION, FileHeader};
use super::planted::{self, Bug};
use super::scan::GroupSeen;
use super::{Sequence, Torn};

/// One file's header and groups.
#[derive(Clone, Debug)]
pub(super) struct ScannedFile {
    pub header: FileHeader,
    pub len: u64,
    pub groups: Vec<GroupSeen>,
}

impl ScannedFile {
    /// The file's first group, which holds the checkpoint, if it is whole.
    pub fn checkpoint_group(&self) -> Option<&GroupSeen> {
        let group = self.groups.first()?;
        let is_first =
            group.position == FIRST_GROUP_POSITION && group.sequence == self.header.first_sequence;
        (is_first && group.intact).then_some(group)
    }
}

/// A run of group numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// One whole group, in the file with this place in the list.
    Whole { file: usize, group: GroupSeen },
    /// Groups that are missing or fail their checksum.
    Bad(Bad),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub first: Sequence,
    pub last: Sequence,
    /// Where the first of them is, if it is anywhere.
    pub place: Option<Place>,
}

/// Where a bad group's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub file: usize,
    pub position: u64,
    /// Up to where they may reach.
    pub end: u64,
    /// Length of the payload and number of entries, if the group's header could be read.
    pub header: Option<(u32, u32)>,
}

/// What a walk over the files came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// All group numbers up to `end`, in order. What is bad here is damage.
    pub spans: Vec<Span>,
    /// The last group that counts.
    pub end: Sequence,
    pub torn: Option<Torn>,
}

impl Span {
    fn first(&self) -> Sequence {
        match self {
            Span::Whole { group, .. } => group.sequence,
            Span::Bad(bad) => bad.first,
        }
    }
}

/// Walks files that follow each other in the ring's order, oldest first.
pub(super) fn walk<'a>(files: impl Iterator<Item = &'a ScannedFile>) -> Walk {
    let mut walker = Walker::default();
    for (place, file) in files.enumerate() {
        if file.header.epoch < walker.epoch {
            continue; // numbers of files grow with epochs: this one is none of the journal's order
        }
        walker.enter(&file.header, place == 0);
        for group in &file.groups {
            walker.group(place, group);
        }
        walker.leave(place, file.len);
    }
    walker.decide()
}

#[derive(Default)]
struct Walker {
    spans: Vec<Span>,
    /// The next group's number.
    expected: Sequence,
    epoch: u64,
    /// The highest number that is proven to have been durable.
    covered: Sequence,
    /// Where the groups of the present file end so far.
    position: u64,
    /// The rest of the file before, where groups that are missing at its end would be.
    rest: Option<Place>,
}

impl Walker {
    fn enter(&mut self, header: &FileHeader, oldest: bool) {
        if oldest {
            self.expected = header.first_sequence;
        }
        if header.epoch != self.epoch {
            // A later start of the journal decided where everything before it ended.
            self.epoch = header.epoch;
            self.covered = self.covered.max(header.previous_end);
            if !oldest {
                self.cut(header.previous_end.next());
            }
        }
        self.cut(header.first_sequence);
        self.bad_up_to(header.first_sequence, self.rest);
        self.position = FIRST_GROUP_POSITION;
        self.rest = None;
    }

    fn leave(&mut self, file: usize, len: u64) {
        self.rest = Some(Place {
            file,
            position: self.position,
            end: len,
            header: None,
        });
    }

    fn group(&mut self, file: usize, group: &GroupSeen) {
        self.covered = self.covered.max(group.durable_through);
        let gap = Place {
            file,
            position: self.position,
            end: group.position,
            header: None,
        };
        self.bad_up_to(group.sequence, Some(gap));
        self.expected = group.sequence.next();
        self.position = group.end();
        self.spans.push(if group.intact {
            Span::Whole {
                file,
                group: *group,
            }
        } else {
            let place = Place {
                file,
                position: group.position,
                end: group.end(),
                header: Some((group.payload_len, group.entries)),
            };
            Span::Bad(Bad {
                first: group.sequence,
                last: group.sequence,
                place: Some(place),
            })
        });
    }

    /// Everything from the expected number to before `next` is missing.
    fn bad_up_to(&mut self, next: Sequence, place: Option<Place>) {
        if self.expected < next {
            self.spans.push(Span::Bad(Bad {
                first: self.expected,
                last: next.previous(),
                place,
            }));
            self.expected = next;
        }
    }

    /// Forgets all groups from `from` on.
    fn cut(&mut self, from: Sequence) {
        if self.expected <= from {
            return;
        }
        self.expected = from;
        while self.spans.last().is_some_and(|span| span.first() >= from) {
            self.spans.pop();
        }
        if let Some(Span::Bad(bad)) = self.spans.last_mut() {
            bad.last = bad.last.min(from.previous());
        }
    }

    /// Torn or damaged: the first bad group that nothing proves to have been durable is where the
    /// journal ends.
    fn decide(mut self) -> Walk {
        let covered = if planted::is(Bug::EveryBadGroupIsTorn) {
            Sequence(0)
        } else {
            self.covered
        };
        let torn_at = self
            .spans
            .iter()
            .position(|span| matches!(span, Span::Bad(bad) if bad.last > covered));
        let Some(at) = torn_at else {
            return Walk {
                spans: self.spans,
                end: self.expected.previous(),
                torn: None,
            };
        };
        let dropped = self.spans.split_off(at);
        let first = dropped[0].first();
        let end = first.previous().max(covered);
        if let Span::Bad(bad) = &dropped[0]
            && bad.first <= covered
        {
            self.spans.push(Span::Bad(Bad {
                last: covered,
                ..bad.clone()
            }));
        }
        let whole = dropped
            .iter()
            .filter(|span| matches!(span, Span::Whole { .. }))
            .count();
        let torn = Torn {
            sequence: end.next(),
            whole_groups_dropped: whole as u64,
        };
        Walk {
            spans: self.spans,
            end,
            torn: Some(torn),
        }
    }
}
