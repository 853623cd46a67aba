//! The oracle: what a client of the storage may rely on, kept apart from the code under test. It
//! knows each batch that was handed in, byte for byte, and which of them were acknowledged or seen.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_wire::batch::{empty_batch, set_base_offset, set_leader_epoch};
use millrace_wire::ids::{Offset, PartitionId, Term, TopicName};

use super::producer::Sent;
use crate::log::{PartitionSettings, Watermarks};

/// A broken promise, for a person to read.
pub type Violation = String;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Asked for, not answered yet: may be there after a crash.
    Creating,
    /// There.
    Created,
    /// To be removed, not answered yet.
    Removing,
}

pub struct ModelBatch {
    pub base: Offset,
    pub next: Offset,
    pub bytes: Bytes,
    pub timestamps: Vec<i64>,
    /// Acknowledged or seen by a reader: it may never be missing.
    pub safe: bool,
    /// Appended in this life of the node.
    pub is_new: bool,
}

pub struct ModelPartition {
    pub name: TopicName,
    pub settings: PartitionSettings,
    pub life: Life,
    /// In order of their offsets, from the log's beginning.
    pub batches: Vec<ModelBatch>,
    /// The highest log start that a client asked for, and the highest that was answered.
    pub log_start_asked: Offset,
    pub log_start_answered: Offset,
    /// Some stored byte of its segments was flipped: reads may say so.
    pub segments_flipped: bool,
    /// A journal that held it was flipped, and nobody has looked at it since.
    pub may_be_damaged: bool,
    /// Where a repair, asked for and not answered yet, cuts the log, and where it goes on.
    pub repair: Option<(Offset, Offset)>,
    /// What idempotent producers sent last, and may send again.
    pub sent: Vec<Sent>,
    /// Producers with lower ids wrote before acknowledged records were given up.
    pub first_producer: i64,
    /// The watermarks last seen in this life of the node.
    pub last_marks: Option<Watermarks>,
}

/// All that is known.
#[derive(Default)]
pub struct Model {
    pub partitions: BTreeMap<PartitionId, ModelPartition>,
    /// The journals of the present disk were flipped since they were last recovered.
    pub journal_flipped: bool,
    /// How often a journal was flipped on this disk.
    pub journal_flips: u64,
    /// They were, when this life began.
    pub journal_was_flipped: bool,
    /// Some read or write may fail at present.
    pub faults: bool,
    /// The disk is full, or was a moment ago.
    pub full: bool,
    /// Counts, to see that the runs do what they are meant to.
    pub counts: BTreeMap<&'static str, u64>,
}

macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => {
        if !$holds {
            return Err(format!($($message)*));
        }
    };
}
pub(super) use ensure;

impl Model {
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A new life of the node begins.
    pub fn restarted(&mut self) {
        for partition in self.partitions.values_mut() {
            partition.last_marks = None;
            partition
                .batches
                .iter_mut()
                .for_each(|batch| batch.is_new = false);
        }
    }
}

impl ModelPartition {
    pub fn new(name: TopicName, settings: PartitionSettings) -> ModelPartition {
        ModelPartition {
            name,
            settings,
            life: Life::Creating,
            batches: Vec::new(),
            log_start_asked: Offset::ZERO,
            log_start_answered: Offset::ZERO,
            segments_flipped: false,
            may_be_damaged: false,
            repair: None,
            sent: Vec::new(),
            first_producer: 0,
            last_marks: None,
        }
    }

    /// The repair asked for has been made.
    pub fn repaired(&mut self, term: Term) {
        let Some((whole, end)) = self.repair.take() else {
            return;
        };
        self.cut(whole);
        self.forget_producers();
        let offsets = u32::try_from(end.0 - whole.0).expect("one batch takes them");
        if offsets > 0 {
            let mut batch = empty_batch(offsets);
            set_base_offset(&mut batch, whole);
            set_leader_epoch(&mut batch, term);
            self.batches.push(ModelBatch {
                base: whole,
                next: end,
                bytes: batch.freeze(),
                timestamps: Vec::new(),
                safe: true,
                is_new: false,
            });
        }
    }

    /// Where the batches end that may not be missing.
    pub fn safe_end(&self) -> Offset {
        self.batches
            .iter()
            .rfind(|batch| batch.safe)
            .map_or(Offset::ZERO, |batch| batch.next)
    }

    /// Everything before `end` is safe: groups become durable in order.
    pub fn acknowledged(&mut self, end: Offset) {
        let through = self.batches.partition_point(|batch| batch.next <= end);
        for batch in self.batches[..through].iter_mut().rev() {
            if std::mem::replace(&mut batch.safe, true) {
                break;
            }
        }
    }

    /// Checks watermarks against what is known and against those seen before.
    pub fn check_marks(&mut self, marks: Watermarks) -> Result<(), Violation> {
        let Watermarks {
            log_start,
            visible,
            committed,
            durable,
            appended,
        } = marks;
        ensure!(
            log_start <= visible
                && visible <= committed
                && committed <= durable
                && durable <= appended,
            "watermarks out of order: {marks:?}"
        );
        let end = self.batches.last().map_or(Offset::ZERO, |batch| batch.next);
        ensure!(
            appended <= end.max(log_start),
            "{marks:?}, but only offsets below {end} were ever given out"
        );
        ensure!(
            visible >= self.safe_end(),
            "{marks:?}, but everything below {} is safe",
            self.safe_end()
        );
        ensure!(
            log_start >= self.log_start_answered,
            "{marks:?}, but the log start {} was answered",
            self.log_start_answered
        );
        let keeps_all =
            self.settings.retention_ms.is_none() && self.settings.retention_bytes.is_none();
        ensure!(
            !keeps_all || log_start <= self.log_start_asked,
            "{marks:?}, but nobody asked for a log start beyond {}",
            self.log_start_asked
        );
        if let Some(last) = self.last_marks {
            let grew =
                log_start >= last.log_start && visible >= last.visible && durable >= last.durable;
            ensure!(
                grew && appended >= last.appended,
                "watermarks shrank: {last:?} to {marks:?}"
            );
        }
        self.last_marks = Some(marks);
        Ok(())
    }

    /// Checks batches that a read from `from` gave, and notes that they were seen. Returns where
    /// they end. `after_damage` allows the first to lie beyond `from`.
    pub fn check_read(
        &mut self,
        from: Offset,
        batches: &[Bytes],
        visible: Offset,
        after_damage: bool,
    ) -> Result<Offset, Violation> {
        let mut expected = from;
        for (number, bytes) in batches.iter().enumerate() {
            let base = Offset(i64::from_be_bytes(
                bytes[..8].try_into().expect("eight bytes"),
            ));
            let place = self.batches.partition_point(|batch| batch.next <= base);
            let Some(batch) = self.batches.get(place).filter(|batch| batch.base == base) else {
                return Err(format!(
                    "a read from {from} gave a batch at {base}, where none was appended"
                ));
            };
            ensure!(
                batch.bytes == *bytes,
                "a read from {from} gave other bytes at {base} than were appended"
            );
            let follows = if number == 0 {
                batch.base <= expected && batch.next > expected
            } else {
                batch.base == expected
            };
            let jumps = after_damage && batch.base > expected;
            ensure!(
                follows || jumps,
                "a read from {from} gave {base} where {expected} should come"
            );
            ensure!(
                batch.next <= visible,
                "a read showed offsets to {} beyond the high watermark {visible}",
                batch.next
            );
            expected = batch.next;
        }
        if !batches.is_empty() {
            self.acknowledged(expected);
        }
        Ok(expected)
    }

    /// The node is back, and the log ends at `end`: what was not safe and is not there never was.
    pub fn settle(&mut self, log_start: Offset, end: Offset) -> Result<(), Violation> {
        let lost = self
            .batches
            .iter()
            .find(|batch| batch.safe && batch.next > end && batch.next > log_start);
        if let Some(lost) = lost {
            return Err(format!(
                "offsets {} to {} were safe, but the log ends at {end}",
                lost.base, lost.next
            ));
        }
        self.cut(end);
        self.acknowledged(end);
        Ok(())
    }

    /// Forgets batches from `end` on.
    pub fn cut(&mut self, end: Offset) {
        self.batches.retain(|batch| batch.next <= end);
    }

    /// Whether the segments that are gone below `log_start` were allowed to go by time: nothing
    /// that was removed may be younger than the retention.
    pub fn check_retention(&self, log_start: Offset, now_ms: i64) -> Result<(), Violation> {
        let PartitionSettings {
            retention_ms: Some(retention_ms),
            retention_bytes: None,
            ..
        } = self.settings
        else {
            return Ok(());
        };
        let young = |time: &i64| time.saturating_add_unsigned(retention_ms) > now_ms;
        for batch in self
            .batches
            .iter()
            .filter(|batch| batch.base >= self.log_start_asked && batch.next <= log_start)
        {
            let newest = batch.timestamps.iter().max().copied().unwrap_or(i64::MIN);
            ensure!(
                !young(&newest),
                "offset {} is gone, but is younger than {retention_ms} ms",
                batch.base
            );
        }
        Ok(())
    }

    /// The first visible record of at least this time, if the model is right.
    pub fn first_at(
        &self,
        timestamp: i64,
        log_start: Offset,
        visible: Offset,
    ) -> Option<(Offset, i64)> {
        let records = self
            .batches
            .iter()
            .filter(|batch| batch.next > log_start && batch.next <= visible)
            .flat_map(|batch| {
                (0..)
                    .zip(&batch.timestamps)
                    .map(move |(delta, time)| (Offset(batch.base.0 + delta), *time))
            });
        records
            .into_iter()
            .find(|(offset, time)| *offset >= log_start && *time >= timestamp)
    }

    /// The timestamp of a record.
    pub fn timestamp_of(&self, offset: Offset) -> Option<i64> {
        let place = self.batches.partition_point(|batch| batch.next <= offset);
        let batch = self
            .batches
            .get(place)
            .filter(|batch| batch.base <= offset)?;
        batch
            .timestamps
            .get(usize::try_from(offset.0 - batch.base.0).ok()?)
            .copied()
    }
}
