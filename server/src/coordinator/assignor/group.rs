//! Members and topics by number, which is how assignors see them.

use hashbrown::HashMap;
use millrace_wire::ids::PartitionIndex;
use millrace_wire::kafka::consumer_protocol::TopicPartitions;

use super::{Member, Share};

/// A member: its place in the order in which Kafka's assignors go through them.
pub(super) type Rank = usize;

/// A partition of a topic of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Partition {
    /// The topic's place in the group's list.
    pub(super) topic: usize,
    /// Its number in the topic.
    pub(super) index: u32,
}

/// For each member, by rank, what it gets.
pub(super) type Shares = Vec<Vec<Partition>>;

/// A topic that exists and that somebody wants to read.
pub(super) struct Topic<'a> {
    pub(super) name: &'a str,
    /// At least one.
    pub(super) partitions: u32,
    /// Who wants to read it: at least one, in order.
    pub(super) subscribers: Vec<Rank>,
}

impl Topic<'_> {
    /// All its partitions.
    pub(super) fn all(&self, topic: usize) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).map(move |index| Partition { topic, index })
    }
}

/// Who shares what.
pub(super) struct Group<'m, 'a> {
    /// As they were named.
    members: &'m [Member<'a>],
    /// For each rank, the member's place in `members`.
    order: Vec<usize>,
    /// By name.
    pub(super) topics: Vec<Topic<'a>>,
}

impl<'m, 'a> Group<'m, 'a> {
    pub(super) fn new(
        members: &'m [Member<'a>],
        partition_count: &dyn Fn(&str) -> Option<u32>,
    ) -> Group<'m, 'a> {
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|place| {
            let member = &members[*place];
            // A lasting name outlives the id, so that shares stay where they are over a restart.
            (member.instance_id.is_none(), member.instance_id, member.id)
        });
        let mut subscribers: HashMap<&'a str, Vec<Rank>> = HashMap::new();
        for (rank, place) in order.iter().enumerate() {
            for topic in &members[*place].topics {
                let subscribers = subscribers.entry(*topic).or_default();
                // Some name a topic twice.
                if subscribers.last() != Some(&rank) {
                    subscribers.push(rank);
                }
            }
        }
        let topics = subscribers.into_iter().filter_map(|(name, subscribers)| {
            let partitions = partition_count(name).filter(|count| *count > 0)?;
            Some(Topic {
                name,
                partitions,
                subscribers,
            })
        });
        let mut topics: Vec<_> = topics.collect();
        topics.sort_unstable_by_key(|topic| topic.name);
        Group {
            members,
            order,
            topics,
        }
    }

    /// The members, by rank.
    pub(super) fn members(&self) -> impl Iterator<Item = &'m Member<'a>> {
        self.order.iter().map(|place| &self.members[*place])
    }

    /// A share of nothing for every member.
    pub(super) fn no_shares(&self) -> Shares {
        vec![Vec::new(); self.order.len()]
    }

    /// Shares with their names, in the order in which the members were named.
    pub(super) fn named(&self, shares: Shares) -> Vec<Share<'a>> {
        let mut named: Vec<_> = self
            .members
            .iter()
            .map(|member| Share {
                member_id: member.id,
                topics: Vec::new(),
            })
            .collect();
        for (place, mut partitions) in self.order.iter().zip(shares) {
            partitions.sort_unstable();
            let of_one_topic = partitions.chunk_by(|one, next| one.topic == next.topic);
            let topics = of_one_topic.map(|partitions| TopicPartitions {
                topic: self.topics[partitions[0].topic].name,
                partitions: partitions.iter().map(|p| PartitionIndex(p.index)).collect(),
            });
            named[*place].topics = topics.collect();
        }
        named
    }
}
