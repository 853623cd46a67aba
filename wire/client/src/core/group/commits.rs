//! Offsets on their way to the group: one request at a time, in order, each tried again until it is
//! noted, refused, or out of time.

use std::collections::{BTreeMap, VecDeque};

use millrace_wire::native::messages::{CommitPartition, CommitTopic};

use crate::core::consumer::Progress;
use crate::core::time::Time;
use crate::{GroupOffset, TopicPartition};

/// A commit that an application waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub u64);

/// The most commits that wait. An application that has so many under way does not wait for any.
pub(super) const MAX_COMMITS: usize = 64;

/// The leader epoch of records that were not read, as it is sent.
const UNKNOWN_EPOCH: i32 = -1;

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// The application.
    User(CommitId),
    /// Nobody: it is time.
    Timer,
    /// The partitions are given up when it is done.
    Revocation,
    /// The member leaves when it is done.
    Parting,
}

/// What is noted of a partition.
#[derive(Clone, Debug)]
pub(super) struct Position {
    pub(super) progress: Progress,
    metadata: String,
}

impl From<Progress> for Position {
    fn from(progress: Progress) -> Position {
        Position {
            progress,
            metadata: String::new(),
        }
    }
}

impl From<GroupOffset> for Position {
    /// Of an offset that the application names it is not known what was read before it.
    fn from(offset: GroupOffset) -> Position {
        Position {
            progress: Progress::at(offset.offset),
            metadata: offset.metadata,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) waiter: Waiter,
    pub(super) positions: BTreeMap<TopicPartition, Position>,
    /// Of which generation the positions are.
    pub(super) generation: i32,
    pub(super) until: Time,
    pub(super) failures: u32,
}

#[derive(Debug, Default)]
pub(super) struct Commits {
    /// The first is under way, or the next to be.
    queue: VecDeque<Commit>,
    pub(super) not_before: Time,
}

impl Commits {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= MAX_COMMITS
    }

    pub(super) fn add(&mut self, commit: Commit) {
        self.queue.push_back(commit);
    }

    pub(super) fn first(&mut self) -> Option<&mut Commit> {
        self.queue.front_mut()
    }

    /// The first is done.
    pub(super) fn finish(&mut self) -> Option<Commit> {
        self.not_before = Time::default();
        self.queue.pop_front()
    }

    pub(super) fn take_all(&mut self) -> VecDeque<Commit> {
        std::mem::take(&mut self.queue)
    }

    /// When the first of them is out of time.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.queue.front().map(|commit| commit.until)
    }
}

impl Commit {
    /// The positions as they are sent.
    pub(super) fn topics(&self) -> Vec<CommitTopic> {
        let mut topics: Vec<CommitTopic> = Vec::new();
        for (place, position) in &self.positions {
            if topics
                .last()
                .is_none_or(|topic| *topic.name != *place.topic)
            {
                topics.push(CommitTopic {
                    name: place.topic.to_string(),
                    partitions: Vec::new(),
                });
            }
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(CommitPartition {
                    partition: place.partition,
                    offset: position.progress.offset,
                    leader_epoch: position.progress.leader_epoch.unwrap_or(UNKNOWN_EPOCH),
                    metadata: position.metadata.clone(),
                });
            }
        }
        topics
    }
}
