//! How an idempotent producer numbers the batches of one partition, so that the broker knows again
//! what it has stored.
//!
//! A *life* is a producer id and an epoch. Within a life the broker stores batches in the order of their
//! numbers, each once, and none while one before it is missing. Where one will be missing for good, a
//! new life begins: the same id with the next epoch, counting from 0. The broker refuses whatever of the
//! old life still comes in after that, be it from a connection that was given up long ago.

use millrace_wire::batch::BatchProducer;
use millrace_wire::ids::{ProducerEpoch, ProducerId};

use super::planted::{self, Bug};

/// How many batches of a producer and partition the broker knows again (as many as Kafka does). A batch
/// may be sent again only while it is among them.
pub(super) const BATCHES_KNOWN_AGAIN: usize = 5;

/// A batch's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    /// As the broker reads it.
    pub(super) producer: BatchProducer,
    /// Counts the batches that were numbered.
    place: u64,
    /// An attempt was made whose outcome is not known.
    pub(super) lost: bool,
}

/// Whether a batch that has a number failed for good, so that those numbered after it may never be
/// stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    /// None did.
    None,
    /// One did, and may have been stored or be stored yet.
    Possible,
    /// One did, and neither was nor will be stored.
    Certain,
}

#[derive(Debug)]
pub(super) struct Sequences {
    /// None: the next batch begins one, under the producer's id.
    life: Option<(ProducerId, ProducerEpoch)>,
    next_sequence: i32,
    next_place: u64,
    /// Whether the broker has stored a batch of this life. Until then it takes any number, as it knows
    /// nothing of what is missing.
    known: bool,
    gap: Gap,
    /// The id of a life that is over and has no next epoch.
    retired: Option<ProducerId>,
}

impl Sequences {
    pub(super) fn new() -> Sequences {
        Sequences {
            life: None,
            next_sequence: 0,
            next_place: 0,
            known: false,
            gap: Gap::None,
            retired: None,
        }
    }

    /// Whether a batch can be numbered without being told the producer's id.
    pub(super) fn has_life(&self) -> bool {
        self.life.is_some()
    }

    pub(super) fn gap(&self) -> Gap {
        self.gap
    }

    /// Numbers the next batch; `id` is the producer's.
    pub(super) fn number(&mut self, id: Option<ProducerId>, records: u32) -> Option<Number> {
        let begun = id.map(|id| (id, ProducerEpoch(0)));
        let (id, epoch) = self.life.or(begun)?;
        self.life = Some((id, epoch));
        let number = Number {
            producer: BatchProducer {
                id,
                epoch,
                base_sequence: self.next_sequence,
            },
            place: self.next_place,
            lost: false,
        };
        self.next_sequence = after(self.next_sequence, records);
        self.next_place += 1;
        Some(number)
    }

    /// Whether another batch may be numbered while `oldest` is not settled.
    pub(super) fn may_number(&self, oldest: Option<&Number>) -> bool {
        let unsettled = oldest.map_or(0, |oldest| self.next_place - oldest.place);
        let few = unsettled < BATCHES_KNOWN_AGAIN as u64;
        self.gap == Gap::None && (few || planted::is(Bug::MoreUnderWayThanKnown))
    }

    /// How many batches may be under way of `limit`. The first of a life goes alone.
    pub(super) fn flying_limit(&self, limit: usize) -> usize {
        match self.known {
            true if planted::is(Bug::MoreUnderWayThanKnown) => limit,
            true => limit.min(BATCHES_KNOWN_AGAIN),
            false => 1,
        }
    }

    /// A batch of this life is stored.
    pub(super) fn stored(&mut self) {
        self.known = true;
    }

    /// A batch that has a number is given up, or its number is.
    pub(super) fn missing(&mut self, lost: bool) {
        let gap = if lost { Gap::Possible } else { Gap::Certain };
        self.gap = self.gap.max(gap);
    }

    /// The broker does not know the id, or not this epoch: the next life needs another id.
    pub(super) fn disown(&mut self) {
        if let Some((_, epoch)) = &mut self.life {
            *epoch = ProducerEpoch(i16::MAX);
        }
    }

    /// Begins a new life. No batch may have a number of the old one.
    pub(super) fn restart(&mut self) {
        if let Some((id, epoch)) = self.life {
            self.life = epoch.0.checked_add(1).map(|next| (id, ProducerEpoch(next)));
            if self.life.is_none() {
                self.retired = Some(id);
            }
        }
        self.next_sequence = 0;
        self.known = false;
        self.gap = Gap::None;
    }

    /// An id that the producer is not to begin a life with any more, told once.
    pub(super) fn take_retired(&mut self) -> Option<ProducerId> {
        self.retired.take()
    }
}

/// The sequence number `records` after `sequence`: 0 follows the largest.
fn after(sequence: i32, records: u32) -> i32 {
    const NUMBERS: u32 = 1 << 31;
    (sequence.cast_unsigned().wrapping_add(records) % NUMBERS).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Option<ProducerId> = Some(ProducerId(7));

    #[test]
    fn numbers_count_records_and_begin_again_after_the_largest() {
        assert_eq!(after(0, 3), 3);
        assert_eq!(after(i32::MAX, 1), 0);
        assert_eq!(after(i32::MAX - 2, 5), 2);
        let mut sequences = Sequences::new();
        assert_eq!(sequences.number(None, 1), None, "there is no id yet");
        let bases: Vec<i32> = [3, 1, 5]
            .into_iter()
            .map(|records| sequences.number(ID, records).unwrap())
            .map(|number| number.producer.base_sequence)
            .collect();
        assert_eq!(bases, [0, 3, 4]);
    }

    #[test]
    fn no_batch_is_numbered_that_would_push_an_unsettled_one_out_of_the_brokers_memory() {
        let mut sequences = Sequences::new();
        let oldest = sequences.number(ID, 1).unwrap();
        for _ in 1..BATCHES_KNOWN_AGAIN {
            assert!(sequences.may_number(Some(&oldest)));
            sequences.number(ID, 1).unwrap();
        }
        assert!(!sequences.may_number(Some(&oldest)));
        assert!(sequences.may_number(None));
    }

    #[test]
    fn a_new_life_has_the_next_epoch_and_in_the_end_another_id() {
        let mut sequences = Sequences::new();
        sequences.number(ID, 5).unwrap();
        sequences.stored();
        sequences.missing(true);
        assert_eq!(sequences.gap(), Gap::Possible);
        sequences.missing(false);
        sequences.missing(true);
        assert_eq!(sequences.gap(), Gap::Certain, "what is certain stays so");
        assert!(!sequences.may_number(None));
        sequences.restart();
        assert_eq!(sequences.flying_limit(4), 1, "the first goes alone");
        // The producer has another id by now: a partition stays with its own.
        let number = sequences.number(Some(ProducerId(8)), 5).unwrap();
        assert_eq!(
            number.producer,
            BatchProducer {
                id: ProducerId(7),
                epoch: ProducerEpoch(1),
                base_sequence: 0
            }
        );
        sequences.disown();
        sequences.restart();
        assert_eq!(sequences.take_retired(), ID);
        assert_eq!(sequences.take_retired(), None);
        let number = sequences.number(Some(ProducerId(8)), 5).unwrap().producer;
        assert_eq!((number.id, number.epoch.0), (ProducerId(8), 0));
    }
}
