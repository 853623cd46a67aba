//! What producers send.

use bytes::{Bytes, BytesMut};
use millrace_wire::batch::{BatchProducer, set_batch_producer};

use super::batches::{BatchShape, BatchSource};
use super::connection::Pending;
use super::engine::Lane;
use crate::protocol::{Place, Produce, ProducerIdentity, Protocol};

/// Producers.
#[derive(Clone, Debug)]
pub struct ProducePlan {
    /// 0, 1 or -1.
    pub acks: i8,
    /// What is sent.
    pub shape: BatchShape,
    /// Whether records carry the time at which they were due, for consumers to measure by.
    pub carries_time: bool,
    /// For each connection the idempotent producer that it is; empty where they are plain ones.
    pub identities: Vec<ProducerIdentity>,
}

/// Bytes that a connection may have unsent where nothing is acknowledged.
const MOST_UNSENT_BYTES: usize = 1 << 20;

/// Sequence numbers: after the largest comes 0.
const SEQUENCE_NUMBERS: u32 = 1 << 31;

/// A lane's partitions.
struct Partitions {
    places: Vec<Place>,
    /// The next one's turn.
    turn: usize,
    /// Who produces, if it is an idempotent producer, and by partition the sequence number of its next
    /// record.
    identity: Option<(ProducerIdentity, Vec<i32>)>,
}

/// Producers at work.
pub(super) struct Producing {
    plan: ProducePlan,
    source: BatchSource,
    by_lane: Vec<Partitions>,
}

impl Producing {
    pub(super) fn new(plan: ProducePlan, places: Vec<Vec<Place>>, seed: u64) -> Producing {
        let by_lane = places.into_iter().enumerate().map(|(lane, places)| {
            let identity = plan.identities.get(lane);
            Partitions {
                // Lanes begin at different partitions, so that they do not march in step.
                turn: lane % places.len().max(1),
                identity: identity.map(|identity| (*identity, vec![0; places.len()])),
                places,
            }
        });
        Producing {
            by_lane: by_lane.collect(),
            source: BatchSource::new(plan.shape.clone(), plan.carries_time, seed),
            plan,
        }
    }

    pub(super) fn may_send(&self, lane: &Lane) -> bool {
        self.plan.acks != 0 || lane.outgoing.bytes() < MOST_UNSENT_BYTES
    }

    pub(super) fn send(
        &mut self,
        lane: &mut Lane,
        protocol: &mut dyn Protocol,
        place: usize,
        due_ns: u64,
    ) {
        let partitions = &mut self.by_lane[place];
        let turn = partitions.turn;
        partitions.turn = (turn + 1) % partitions.places.len();
        let batch = self.source.next(due_ns);
        let bytes = match &mut partitions.identity {
            None => batch.bytes,
            Some((identity, sequences)) => {
                number(&batch.bytes, *identity, &mut sequences[turn], batch.records)
            }
        };
        let pending = Pending {
            due_ns,
            records: batch.records,
            bytes: batch.record_bytes,
            member: None,
        };
        let answered = self.plan.acks != 0;
        let correlation = if answered {
            lane.under_way.insert(pending)
        } else {
            lane.unsent.push(pending);
            0
        };
        lane.head.clear();
        let request = Produce {
            correlation,
            place: partitions.places[turn],
            acks: self.plan.acks,
            batch_bytes: bytes.len(),
        };
        let tail = protocol.produce(request, &mut lane.head);
        lane.outgoing.push(&lane.head, &bytes, tail);
    }
}

/// The batch as this producer's next one. Others send the same bytes, so it becomes a copy, whose
/// checksum is renewed.
fn number(batch: &[u8], identity: ProducerIdentity, sequence: &mut i32, records: u32) -> Bytes {
    let mut numbered = BytesMut::from(batch);
    let producer = BatchProducer {
        id: identity.id,
        epoch: identity.epoch,
        base_sequence: *sequence,
    };
    set_batch_producer(&mut numbered, producer);
    let next = sequence.cast_unsigned().wrapping_add(records) % SEQUENCE_NUMBERS;
    *sequence = next.cast_signed();
    numbered.freeze()
}

#[cfg(test)]
mod tests {
    use millrace_wire::batch::{Compression, Limits, batch_producer, verify};
    use millrace_wire::ids::{ProducerEpoch, ProducerId};

    use super::*;
    use crate::load::RecordSize;

    #[test]
    fn batches_are_numbered_without_a_gap_and_valid() {
        let shape = BatchShape {
            record_size: RecordSize::Fixed(100),
            records: 3,
            keys: 0,
            compression: Compression::None,
            entropy: 1.0,
        };
        let mut source = BatchSource::new(shape, false, 1);
        let identity = ProducerIdentity {
            id: ProducerId(7),
            epoch: ProducerEpoch(2),
        };
        let mut sequence = i32::MAX - 2;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let batch = source.next(0);
            let numbered = number(&batch.bytes, identity, &mut sequence, batch.records);
            verify(&numbered, Limits::default()).unwrap();
            let producer = batch_producer(&numbered).unwrap();
            assert_eq!((producer.id, producer.epoch), (identity.id, identity.epoch));
            seen.push(producer.base_sequence);
            assert_eq!(batch_producer(&batch.bytes), None, "others send it, too");
        }
        assert_eq!(seen, [i32::MAX - 2, 0, 3]);
    }
}
