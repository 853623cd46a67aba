//! Which shard owns a partition: a pure function of its id and the number of shards, so that nothing
//! has to be stored or agreed on, and a restart with another number needs no plan.

use millrace_wire::ids::{PartitionId, ShardId, Term};

use crate::controller::CONTROLLER_PARTITION;

/// Who has a partition, as clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership<'a> {
    /// The node that leads.
    pub leader: u32,
    /// Its term, which is Kafka's leader epoch.
    pub epoch: Term,
    /// The nodes that have replicas, the preferred leader first.
    pub replicas: &'a [u32],
    /// Those of them that are in sync.
    pub in_sync: &'a [u32],
}

/// On one node nobody is elected: the first leader stays, across restarts too.
pub(super) const ONLY_TERM: Term = Term(1);

/// The owner of a partition on a node with this many shards. Neighbouring partitions of a topic are
/// on neighbouring shards; topics begin anywhere. The controller is on shard 0.
///
/// # Panics
/// If there are no shards.
#[must_use]
pub fn owner(partition: PartitionId, shards: u16) -> ShardId {
    assert!(shards > 0, "a node has shards");
    if partition == CONTROLLER_PARTITION {
        return ShardId(0);
    }
    let topic = partition.topic.0;
    // Ids are random, but nothing should rest on how random their low bits are.
    let hash = ((topic >> 64) as u64 ^ topic as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let place = (hash + u64::from(partition.partition.0)) % u64::from(shards);
    ShardId(u16::try_from(place).expect("less than the number of shards"))
}

#[cfg(test)]
mod tests {
    use millrace_wire::ids::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn partitions_spread_evenly_and_the_controller_stays() {
        for shards in [1, 2, 3, 8, 64] {
            assert_eq!(owner(CONTROLLER_PARTITION, shards), ShardId(0));
            let mut counts = vec![0; usize::from(shards)];
            for topic in [7, u128::MAX, 1 << 77] {
                for n in 0..u32::from(shards) * 5 {
                    let id = PartitionId {
                        topic: TopicId(topic),
                        partition: PartitionIndex(n),
                    };
                    counts[usize::from(owner(id, shards).0)] += 1;
                }
            }
            assert!(counts.iter().all(|count| *count == 15), "{counts:?}");
        }
    }
}
