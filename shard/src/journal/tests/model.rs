//! An owner of a journal that knows what must come back: the state that entries lead to, as simple
//! as can be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use millrace_wire::ids::{LogIndex, Offset, PartitionId, PartitionIndex, Term, TopicId};

use crate::journal::{
    Checkpoint, Entry, JournalOwner, OwnedEntry, PartitionCheckpoint, RecoveredItem, Recovery,
    SegmentEnd, Sequence,
};

pub fn partition(number: u32) -> PartitionId {
    PartitionId {
        topic: TopicId(77),
        partition: PartitionIndex(number),
    }
}

pub fn created(partition: PartitionId) -> PartitionCheckpoint {
    PartitionCheckpoint {
        partition,
        log_start: Offset(0),
        safe: SegmentEnd::empty(Offset(0), LogIndex(1), Term(0)),
        log_end: Offset(0),
        last_index: LogIndex(0),
        last_term: Term(0),
        damaged: None,
    }
}

/// A batch in the journal and not yet in a segment.
#[derive(Clone, Debug)]
pub struct Held {
    pub sequence: Sequence,
    pub base_offset: Offset,
    pub batch: Bytes,
}

/// Where a batch lies does not matter, only what it is.
impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        (self.base_offset, &self.batch) == (other.base_offset, &other.batch)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct PartitionState {
    pub state: PartitionCheckpoint,
    /// What was said last of producers. Here each entry replaces all of it.
    pub producers: Bytes,
    pub held: BTreeMap<LogIndex, Held>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub partitions: BTreeMap<PartitionId, PartitionState>,
}

impl State {
    pub fn apply(&mut self, sequence: Sequence, entry: &OwnedEntry) {
        let id = entry.partition();
        if let Entry::PartitionCreated(state) = as_entry(entry) {
            self.partitions.insert(
                id,
                PartitionState {
                    state,
                    producers: Bytes::new(),
                    held: BTreeMap::new(),
                },
            );
            return;
        }
        let Some(p) = self.partitions.get_mut(&id) else {
            return;
        };
        match entry {
            OwnedEntry::Append {
                index,
                term,
                base_offset,
                record_count,
                batch,
                ..
            } => {
                p.state.log_end = base_offset.advance(*record_count);
                (p.state.last_index, p.state.last_term) = (*index, *term);
                p.held.insert(
                    *index,
                    Held {
                        sequence,
                        base_offset: *base_offset,
                        batch: batch.clone(),
                    },
                );
            }
            OwnedEntry::PartitionRemoved { .. } => {
                self.partitions.remove(&id);
            }
            OwnedEntry::LogStart { log_start, .. } => p.state.log_start = *log_start,
            OwnedEntry::SegmentSafe { safe, .. } => {
                p.state.safe = *safe;
                p.held.retain(|index, _| *index >= safe.next_index);
            }
            OwnedEntry::LossAccepted { log_end, .. } => {
                p.state.log_end = *log_end;
                p.held.retain(|_, held| held.base_offset < *log_end);
            }
            OwnedEntry::Producers { snapshot, .. } => p.producers = snapshot.clone(),
            OwnedEntry::PartitionCreated(_)
            | OwnedEntry::Checkpoint(_)
            | OwnedEntry::ProducersCheckpoint { .. } => {}
        }
    }

    /// The state that a recovery leads to.
    pub fn of(recovery: &Recovery) -> State {
        let mut state = State::default();
        for checkpoint in &recovery.checkpoint {
            let held = BTreeMap::new();
            state.partitions.insert(
                checkpoint.partition,
                PartitionState {
                    state: *checkpoint,
                    producers: Bytes::new(),
                    held,
                },
            );
        }
        for (id, piece) in &recovery.producers {
            let p = state.partitions.get_mut(id);
            let p = p.expect("the checkpoint has the partition");
            p.producers = [&p.producers[..], piece].concat().into();
        }
        for item in &recovery.items {
            let RecoveredItem::Entry(sequence, entry) = item else {
                continue;
            };
            if *sequence > recovery.checkpoint_through {
                state.apply(*sequence, entry);
                continue;
            }
            // Already in the checkpoint's state: only the batch is wanted.
            let Some(p) = state.partitions.get_mut(&entry.partition()) else {
                continue;
            };
            match entry {
                OwnedEntry::Append {
                    index,
                    base_offset,
                    batch,
                    ..
                } => {
                    p.held.insert(
                        *index,
                        Held {
                            sequence: *sequence,
                            base_offset: *base_offset,
                            batch: batch.clone(),
                        },
                    );
                }
                OwnedEntry::LossAccepted { log_end, .. } => {
                    p.held.retain(|_, held| held.base_offset < *log_end)
                }
                other => panic!("{other:?} of group {sequence} is in the checkpoint already"),
            }
        }
        state
    }

    pub fn checkpoint(&self) -> Checkpoint {
        let held = self.partitions.values().flat_map(|p| p.held.values());
        Checkpoint {
            partitions: self.partitions.values().map(|p| p.state).collect(),
            oldest_needed: held.map(|held| held.sequence).min(),
        }
    }

    /// What is remembered of producers, in two pieces where there is enough.
    pub fn producers(&self, put: &mut dyn FnMut(PartitionId, &[u8])) {
        for (id, p) in &self.partitions {
            let (first, second) = p.producers.split_at(p.producers.len() / 2);
            let pieces = [first, second].into_iter();
            pieces
                .filter(|piece| !piece.is_empty())
                .for_each(|piece| put(*id, piece));
        }
    }
}

/// An owned entry, borrowed.
pub fn as_entry(entry: &OwnedEntry) -> Entry<'_> {
    match entry {
        OwnedEntry::Append {
            partition,
            index,
            term,
            base_offset,
            record_count,
            idempotent,
            batch,
        } => Entry::Append {
            partition: *partition,
            index: *index,
            term: *term,
            base_offset: *base_offset,
            record_count: *record_count,
            idempotent: *idempotent,
            batch,
        },
        OwnedEntry::PartitionCreated(state) => Entry::PartitionCreated(*state),
        OwnedEntry::PartitionRemoved { partition } => Entry::PartitionRemoved {
            partition: *partition,
        },
        OwnedEntry::LogStart {
            partition,
            log_start,
        } => Entry::LogStart {
            partition: *partition,
            log_start: *log_start,
        },
        OwnedEntry::SegmentSafe { partition, safe } => Entry::SegmentSafe {
            partition: *partition,
            safe: *safe,
        },
        OwnedEntry::LossAccepted { partition, log_end } => Entry::LossAccepted {
            partition: *partition,
            log_end: *log_end,
        },
        OwnedEntry::Checkpoint(state) => Entry::Checkpoint(*state),
        OwnedEntry::Producers {
            partition,
            snapshot,
        } => Entry::Producers {
            partition: *partition,
            snapshot,
        },
        OwnedEntry::ProducersCheckpoint {
            partition,
            snapshot,
        } => Entry::ProducersCheckpoint {
            partition: *partition,
            snapshot,
        },
    }
}

/// What survives every crash of the simulated node: the test's own knowledge.
#[derive(Default)]
pub struct History {
    /// The state before `entries`.
    pub base: State,
    /// Everything appended since.
    pub entries: Vec<OwnedEntry>,
    /// How many of them were called durable.
    pub durable: usize,
    /// Asks the journal of the last life how far it was durable.
    pub probe: Option<Box<dyn Fn() -> Sequence>>,
}

impl History {
    /// The last group that was durable when the last life ended, whether anybody heard of it or not.
    pub fn durable_group(&self) -> Sequence {
        self.probe.as_ref().map_or(Sequence(0), |probe| probe())
    }

    /// Every state that may come back, from the one with all that was called durable on.
    pub fn possible(&self) -> Vec<State> {
        let mut state = self.base.clone();
        let mut states = Vec::new();
        for (count, entry) in self.entries.iter().enumerate() {
            if count >= self.durable {
                states.push(state.clone());
            }
            state.apply(Sequence(0), entry);
        }
        states.push(state);
        states
    }

    /// Every batch ever appended that may still be held, by partition and index.
    pub fn batches(&self) -> Vec<(PartitionId, LogIndex, Bytes)> {
        let held = self.base.partitions.iter().flat_map(|(id, p)| {
            p.held
                .iter()
                .map(|(index, held)| (*id, *index, held.batch.clone()))
                .collect::<Vec<_>>()
        });
        let appended = self.entries.iter().filter_map(|entry| match entry {
            OwnedEntry::Append {
                partition,
                index,
                batch,
                ..
            } => Some((*partition, *index, batch.clone())),
            _ => None,
        });
        held.chain(appended).collect()
    }
}

/// The owner: a state, kept up to date with each append.
#[derive(Clone, Default)]
pub struct Owner {
    pub state: Rc<RefCell<State>>,
}

impl JournalOwner for Owner {
    fn checkpoint(&self) -> Checkpoint {
        self.state.borrow().checkpoint()
    }

    fn producers(&self, put: &mut dyn FnMut(PartitionId, &[u8])) {
        self.state.borrow().producers(put);
    }
}
