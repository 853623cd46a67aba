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
    /// Its suit's place in the group's list.
    pub(super) suit: usize,
}

impl Topic<'_> {
    /// All its partitions.
    pub(super) fn all(&self, topic: usize) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).map(move |index| Partition { topic, index })
    }
}

/// Who wants to read a topic: at least one, in order. Topics that the same members want are of one
/// suit, and a partition of one of them is as good as of another.
pub(super) type Suit = Vec<Rank>;

/// Who shares what.
pub(super) struct Group<'m, 'a> {
    /// As they were named.
    members: &'m [Member<'a>],
    /// For each rank, the member's place in `members`.
    order: Vec<usize>,
    /// By name.
    pub(super) topics: Vec<Topic<'a>>,
    pub(super) suits: Vec<Suit>,
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
        let wishes = Wishes::of(order.iter().map(|place| &members[*place]));
        let mut group = Group {
            members,
            order,
            topics: Vec::new(),
            suits: Vec::new(),
        };
        let mut topics: Vec<_> = wishes.topics.into_iter().collect();
        topics.sort_unstable_by_key(|(name, _)| *name);
        let mut suits: HashMap<Vec<usize>, usize> = HashMap::new();
        for (name, wanted_in) in topics {
            let Some(partitions) = partition_count(name).filter(|count| *count > 0) else {
                continue;
            };
            let suit = suits.entry(wanted_in).or_insert_with_key(|wanted_in| {
                let members = wanted_in.iter().flat_map(|list| &wishes.members[*list]);
                let mut suit: Suit = members.copied().collect();
                suit.sort_unstable();
                group.suits.push(suit);
                group.suits.len() - 1
            });
            group.topics.push(Topic {
                name,
                partitions,
                suit: *suit,
            });
        }
        group
    }

    /// Who wants to read a topic.
    pub(super) fn subscribers(&self, topic: &Topic<'_>) -> &[Rank] {
        &self.suits[topic.suit]
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

/// The lists of topics that members want. Many members have the same list, and it may be long: it is
/// looked at once.
struct Wishes<'a> {
    /// For each list, who has it.
    members: Vec<Vec<Rank>>,
    /// For each topic, the lists that it is in.
    topics: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Wishes<'a> {
    /// The members' wishes, by rank.
    fn of<'m>(members: impl Iterator<Item = &'m Member<'a>>) -> Wishes<'a>
    where
        'a: 'm,
    {
        let mut wishes = Wishes {
            members: Vec::new(),
            topics: HashMap::new(),
        };
        let mut lists: HashMap<&[&'a str], usize> = HashMap::new();
        for (rank, member) in members.enumerate() {
            let list = *lists.entry(&member.topics).or_insert(wishes.members.len());
            if let Some(members) = wishes.members.get_mut(list) {
                members.push(rank);
                continue;
            }
            wishes.members.push(vec![rank]);
            for topic in &member.topics {
                let lists = wishes.topics.entry(*topic).or_default();
                // Some name a topic twice.
                if lists.last() != Some(&list) {
                    lists.push(list);
                }
            }
        }
        wishes
    }
}
