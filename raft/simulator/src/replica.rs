//! A replica and the process that runs it: what the driver of a real broker keeps beside the core.

use std::collections::{BTreeMap, VecDeque};

use raft::{
    Configuration, Cut, Group, Index, Io, LogView, Message, ReplicaId, Role, Settings, Span, Term,
    Token,
};
use simulation::Draws;
use smallvec::SmallVec;

use crate::check::{Faith, Flows, Promises, Seen};
use crate::disk::{Disk, Stored};
use crate::log::Log;

/// A message with the entries of its spans.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Packet {
    pub(crate) message: Message,
    pub(crate) entries: SmallVec<[Stored; 2]>,
}

/// What came beside the message that is being handled, for the effects that take it up.
#[derive(Debug)]
pub(crate) struct Received {
    /// The index of the first entry.
    pub(crate) first: Index,
    pub(crate) entries: SmallVec<[Stored; 2]>,
    pub(crate) configurations: Vec<(Index, Configuration)>,
    /// Of a snapshot message.
    pub(crate) snapshot: Option<(Index, Configuration)>,
    /// It asks for a vote because a leader wants this election.
    pub(crate) transfer: bool,
}

/// A replica: what outlives its process.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Replica {
    pub(crate) id: ReplicaId,
    pub(crate) disk: Disk,
    pub(crate) promises: Promises,
    pub(crate) faith: Faith,
    /// None: the node is down.
    pub(crate) process: Option<Process>,
}

/// A run of a replica, from a start to a crash.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Process {
    pub(crate) group: Group,
    pub(crate) log: Log,
    pub(crate) random: Chance,
    /// The last write that the core has asked for, and up to which they are durable.
    pub(crate) asked: Io,
    pub(crate) durable: Io,
    /// Messages that wait for a write.
    pub(crate) outbox: Vec<(Io, Box<Packet>)>,
    pub(crate) waiting: Waiting,
    pub(crate) residency: Residency,
    pub(crate) seen: Seen,
    pub(crate) flows: Flows,
    /// The memberships in its log have changed in this step.
    pub(crate) membership_changed: bool,
    /// What was appended last.
    pub(crate) fresh: Span,
    /// The term in which it has told another replica to run, as its leader.
    pub(crate) handed_over: Option<Term>,
    /// The place at which its reign began, while it leads.
    pub(crate) reign: Option<Index>,
    /// The last role that it told.
    pub(crate) role: Role,
    /// For which deadline of the core a tick is on its way, if one is.
    pub(crate) timer: Option<raft::Time>,
    /// Other ticks were superseded.
    pub(crate) timer_number: u64,
    /// Nodes that its membership holds for silent.
    pub(crate) silent: Vec<bool>,
}

/// Clients that wait for something at this node.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Waiting {
    /// For visibility: the last entry of a proposal, and the chain there.
    pub(crate) visible: VecDeque<(Index, u64, Token)>,
    /// For the leader's disk.
    pub(crate) durable: VecDeque<(Index, u64, Token)>,
    /// For a barrier: what was fresh when the read began.
    pub(crate) reads: BTreeMap<Token, Index>,
}

/// The core's randomness.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Chance(pub(crate) Draws);

impl raft::Random for Chance {
    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// How many entries are read at once.
const READ_AHEAD: u64 = 128;

/// Which entries are in memory: the end of the log, and what was read for followers lately.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Residency {
    /// So many at the end.
    tail: u64,
    windows: BTreeMap<ReplicaId, (Index, Index)>,
}

impl Residency {
    pub(crate) fn new(tail: u64) -> Residency {
        Residency {
            tail,
            windows: BTreeMap::new(),
        }
    }

    /// Entries were read for a follower, in place of what was read for it before.
    pub(crate) fn read(&mut self, to: ReplicaId, first: Index) {
        self.windows
            .insert(to, (first, Index(first.0 + READ_AHEAD)));
    }

    /// The last entry from `first` on that is in memory, with all between.
    fn until(&self, first: Index, last: Index) -> Option<Index> {
        if first.0 + self.tail > last.0 {
            return Some(last);
        }
        let windows = self.windows.values();
        let inside = windows.filter(|(from, to)| (*from..*to).contains(&first));
        inside.map(|(_, to)| to.previous()).max()
    }
}

/// What a core sees of the log.
pub(crate) struct View<'a> {
    pub(crate) log: &'a Log,
    pub(crate) residency: &'a Residency,
}

impl LogView for View<'_> {
    fn cut(&self, first: Index, last: Index, most_bytes: u64) -> Cut {
        let Some(resident) = self.residency.until(first, self.log.last_index()) else {
            return Cut::NotResident;
        };
        let entry = self.log.get(first).expect("the core cuts what it has");
        let mut span = Span {
            first,
            last: first,
            term: entry.term,
            bytes: entry.bytes,
        };
        let last = last.min(resident);
        while span.last < last {
            let Some(next) = self.log.get(span.last.next()) else {
                break;
            };
            if next.term != span.term || span.bytes + next.bytes > most_bytes {
                break;
            }
            span.last = span.last.next();
            span.bytes += next.bytes;
        }
        Cut::Span(span)
    }
}

impl Process {
    /// A start, from what the disk holds.
    pub(crate) fn start(
        id: ReplicaId,
        disk: &mut Disk,
        settings: &Settings,
        now: raft::Time,
        draws: Draws,
        around: Surroundings,
    ) -> Process {
        let recovered = disk.recover();
        let mut random = Chance(draws);
        let group = Group::new(id, settings.clone(), recovered, now, &mut random);
        Process {
            log: disk.image().log.clone(),
            random,
            asked: Io(0),
            durable: Io(0),
            outbox: Vec::new(),
            waiting: Waiting::default(),
            residency: Residency::new(around.resident),
            seen: Seen::of(&group),
            flows: Flows::default(),
            membership_changed: true,
            fresh: Span {
                first: Index(0),
                last: Index(0),
                term: Term(0),
                bytes: 0,
            },
            handed_over: None,
            reign: None,
            role: group.role(),
            timer: None,
            timer_number: 0,
            silent: vec![false; around.nodes],
            group,
        }
    }

    /// The entries of a message's spans.
    pub(crate) fn attach(&self, message: Message) -> Packet {
        let mut entries = SmallVec::new();
        if let raft::Body::Append { spans, .. } = &message.body {
            for span in spans {
                for index in span.first.0..=span.last.0 {
                    let entry = self
                        .log
                        .get(Index(index))
                        .expect("the core sends what it has");
                    entries.push(Stored {
                        term: entry.term,
                        value: entry.value,
                        bytes: entry.bytes,
                    });
                }
            }
        }
        Packet { message, entries }
    }

    /// Whoever waits for entries after `last` waits for nothing: they are gone.
    pub(crate) fn forget_after(&mut self, last: Index) {
        let waiting = &mut self.waiting;
        for list in [&mut waiting.visible, &mut waiting.durable] {
            while list.back().is_some_and(|(index, ..)| *index > last) {
                list.pop_back();
            }
        }
    }

    /// Uncommitted bytes of the entries that it has appended as the present leader.
    pub(crate) fn uncommitted(&self) -> u64 {
        let Some(reign) = self.reign else {
            return 0;
        };
        let from = reign.max(self.group.commit().next());
        let before = self.log.at(from.previous()).map_or(0, |base| base.total);
        self.log.end().total - before
    }

    /// Whether it leads as far as it knows, in which term.
    pub(crate) fn leads(&self) -> Option<Term> {
        let leads = matches!(self.group.role(), Role::Leader | Role::Elected);
        leads.then(|| self.group.term())
    }
}

/// What of the world a process needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    pub(crate) nodes: usize,
    pub(crate) resident: u64,
}

impl Replica {
    /// One with an empty disk, in a group of these voters; without any, one that joins.
    pub(crate) fn new(id: ReplicaId, voters: &[ReplicaId]) -> Replica {
        Replica {
            id,
            disk: Disk::new(voters),
            promises: Promises::default(),
            faith: Faith::default(),
            process: None,
        }
    }
}
