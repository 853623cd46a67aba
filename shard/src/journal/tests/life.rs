//! One life of a journal under test: who appends, who flushes, who takes note of what is durable.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use millrace_wire::ids::{LogIndex, Offset, PartitionId, Term};

use super::model::{Held, History, Owner, as_entry, created, partition};
use crate::env::Env;
use crate::env::simulated::SimulatedEnv;
use crate::journal::{Journal, OwnedEntry, SegmentEnd};

pub type SharedHistory = Rc<RefCell<History>>;
pub type TestJournal = Journal<SimulatedEnv, usize>;

/// One life's hands: the journal, the state and the history, kept in step.
#[derive(Clone)]
pub struct Life {
    pub env: SimulatedEnv,
    pub journal: Rc<TestJournal>,
    pub owner: Owner,
    pub history: SharedHistory,
}

impl Life {
    pub fn below(&self, n: u64) -> u64 {
        self.env.random_u64() % n
    }

    pub fn append(&self, entry: OwnedEntry) {
        let mut history = self.history.borrow_mut();
        history.entries.push(entry.clone());
        match self.journal.append(as_entry(&entry), history.entries.len()) {
            Ok(sequence) => self.owner.state.borrow_mut().apply(sequence, &entry),
            Err(_) => drop(history.entries.pop()),
        }
    }

    pub fn some_partition(&self) -> Option<PartitionId> {
        let state = self.owner.state.borrow();
        let count = state.partitions.len() as u64;
        (count > 0).then(|| {
            *state
                .partitions
                .keys()
                .nth(self.below(count) as usize)
                .expect("it is below the count")
        })
    }

    pub async fn step(&self) {
        let choice = self.below(100);
        let Some(id) = self.some_partition().filter(|_| choice >= 4) else {
            if self.owner.state.borrow().partitions.len() < 6 {
                // A partition's identity is used once.
                let id = partition(self.env.random_u64() as u32);
                self.append(OwnedEntry::PartitionCreated(created(id)));
            }
            return;
        };
        match choice {
            4..75 => self.append_batch(id).await,
            75..77 => {
                let state = self.owner.state.borrow().partitions[&id].state;
                let log_start = Offset(state.log_start.0 + self.below(5) as i64).min(state.log_end);
                self.append(OwnedEntry::LogStart {
                    partition: id,
                    log_start,
                });
            }
            77 => {
                let len = self.below(3_000) as usize;
                let snapshot = Bytes::from(vec![self.env.random_u64() as u8; len]);
                self.append(OwnedEntry::Producers {
                    partition: id,
                    snapshot,
                });
            }
            78 => self.append(OwnedEntry::PartitionRemoved { partition: id }),
            79 => self.accept_loss(id),
            80..84 => self.flush(id, u64::MAX),
            84..98 => self.env.sleep(Duration::from_micros(self.below(400))).await,
            _ => self.env.sleep(Duration::from_millis(self.below(25))).await,
        }
    }

    pub async fn append_batch(&self, id: PartitionId) {
        let len = match self.below(40) {
            0 => 100_000 + self.below(200_000),
            1..4 => 10_000 + self.below(20_000),
            _ => 1 + self.below(3_000),
        };
        self.journal.room(len as usize).await;
        let Some(state) = self
            .owner
            .state
            .borrow()
            .partitions
            .get(&id)
            .map(|p| p.state)
        else {
            return;
        };
        let mut batch = vec![self.env.random_u64() as u8; len as usize];
        for (i, byte) in batch.iter_mut().enumerate().step_by(61) {
            *byte = (i as u64 ^ self.env.random_u64()) as u8;
        }
        self.append(OwnedEntry::Append {
            partition: id,
            index: LogIndex(state.last_index.0 + 1),
            term: Term(1),
            base_offset: state.log_end,
            record_count: 1 + self.below(9) as u32,
            idempotent: self.below(2) == 0,
            batch: Bytes::from(batch),
        });
    }

    /// Cuts off the last batch, as if it had been lost and that accepted.
    pub fn accept_loss(&self, id: PartitionId) {
        let last = self.owner.state.borrow().partitions[&id]
            .held
            .last_key_value()
            .map(|(_, held)| held.base_offset);
        if let Some(log_end) = last {
            self.append(OwnedEntry::LossAccepted {
                partition: id,
                log_end,
            });
        }
    }

    /// Makes what is durable and in groups below `below` safe in segments, which this test has
    /// none of.
    pub fn flush(&self, id: PartitionId, below: u64) {
        let durable = self.journal.durable();
        let safe = {
            let state = self.owner.state.borrow();
            let Some(p) = state.partitions.get(&id) else {
                return;
            };
            let ready = |held: &Held| held.sequence <= durable && held.sequence.0 < below;
            let last = p.held.iter().take_while(|(_, held)| ready(held)).last();
            let Some((index, held)) = last else { return };
            let following = p.held.range(LogIndex(index.0 + 1)..).next();
            SegmentEnd {
                segment_base: Offset(0),
                position: p.state.safe.position + held.batch.len() as u64,
                next_offset: following.map_or(p.state.log_end, |(_, next)| next.base_offset),
                next_index: LogIndex(index.0 + 1),
                term: Term(1),
            }
        };
        self.append(OwnedEntry::SegmentSafe {
            partition: id,
            safe,
        });
        self.journal.note_safe();
    }

    /// Does what the journal asks for.
    pub async fn keep_flushing(self) {
        loop {
            if let Some(below) = self.journal.flush_below() {
                let ids: Vec<_> = self
                    .owner
                    .state
                    .borrow()
                    .partitions
                    .keys()
                    .copied()
                    .collect();
                for id in ids {
                    self.flush(id, below.0);
                }
            }
            self.env.sleep(Duration::from_micros(700)).await;
        }
    }

    pub async fn keep_releasing(self) {
        while let Some((_, tokens)) = self.journal.next_durable().await {
            let mut history = self.history.borrow_mut();
            for token in tokens {
                assert!(token > history.durable, "released out of order, or twice");
                history.durable = token;
            }
        }
    }
}
