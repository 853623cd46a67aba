//! Assignors on the examples of Kafka's documentation and on random groups.

mod encoded;
mod rounds;

use std::collections::{BTreeMap, BTreeSet};

use millrace_wire::ids::PartitionIndex;
use millrace_wire::kafka::consumer_protocol::TopicPartitions;
use proptest::prelude::*;

use super::{Member, Protocol, assign};

/// A topic and a partition of it.
type Partition = (String, u32);

/// By topic, how many partitions it has.
type Topics = BTreeMap<String, u32>;

/// By member id, what it has or gets.
type Shared = BTreeMap<String, BTreeSet<Partition>>;

/// A member with everything it told.
#[derive(Clone, Debug)]
struct Told {
    id: String,
    instance_id: Option<String>,
    topics: Vec<String>,
    owned: BTreeSet<Partition>,
    generation: Option<i32>,
}

impl Told {
    fn member(&self) -> Member<'_> {
        let owned = self.owned.iter().map(|(topic, index)| TopicPartitions {
            topic,
            partitions: vec![PartitionIndex(*index)],
        });
        Member {
            id: &self.id,
            instance_id: self.instance_id.as_deref(),
            topics: self.topics.iter().map(String::as_str).collect(),
            owned: owned.collect(),
            generation: self.generation,
        }
    }

    /// With what it says it owns, `t0-1 t2-0`, and in which generation it got it.
    fn owning(mut self, owned: &str, generation: i32) -> Told {
        self.owned = partitions(owned);
        self.generation = Some(generation);
        self
    }
}

/// A member that wants these topics, `t0 t1`.
fn member(id: &str, topics: &str) -> Told {
    Told {
        id: id.to_owned(),
        instance_id: None,
        topics: topics.split_whitespace().map(str::to_owned).collect(),
        owned: BTreeSet::new(),
        generation: None,
    }
}

fn topics(counts: &[(&str, u32)]) -> Topics {
    let counts = counts.iter();
    counts
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

/// Partitions as people write them: `t0-1 t2-0`.
fn partitions(text: &str) -> BTreeSet<Partition> {
    let one = |text: &str| {
        let (topic, index) = text.split_once('-').unwrap();
        (topic.to_owned(), index.parse().unwrap())
    };
    text.split_whitespace().map(one).collect()
}

fn share(protocol: Protocol, members: &[Told], topics: &Topics) -> Shared {
    let members: Vec<_> = members.iter().map(Told::member).collect();
    let shares = assign(protocol, &members, &|topic| topics.get(topic).copied());
    let ids = shares.iter().map(|share| share.member_id);
    assert!(
        ids.eq(members.iter().map(|member| member.id)),
        "all, in order"
    );
    let mut shared = Shared::new();
    for share in shares {
        let topics = share.topics.iter().map(|topic| topic.topic);
        assert!(topics.is_sorted_by(|one, next| one < next), "{share:?}");
        let partitions = share.topics.iter().flat_map(|topic| {
            assert!(topic.partitions.is_sorted_by(|one, next| one < next));
            assert!(!topic.partitions.is_empty());
            let indexes = topic.partitions.iter();
            indexes.map(|index| (topic.topic.to_owned(), index.0))
        });
        shared.insert(share.member_id.to_owned(), partitions.collect());
    }
    shared
}

#[track_caller]
fn assert_shared(shared: &Shared, expected: &[(&str, &str)]) {
    let expected = expected
        .iter()
        .map(|(id, text)| ((*id).to_owned(), partitions(text)));
    assert_eq!(shared, &expected.collect::<Shared>());
}

#[test]
fn protocols_have_the_names_that_the_coordinator_offers() {
    let names = ["range", "roundrobin", "cooperative-sticky"];
    assert_eq!(Protocol::ALL.map(Protocol::name), names);
    for protocol in Protocol::ALL {
        assert_eq!(Protocol::from_name(protocol.name()), Some(protocol));
    }
    assert_eq!(Protocol::from_name("sticky"), None);
}

#[test]
fn range_gives_runs_of_each_topic() {
    let members = [member("C0", "t0 t1"), member("C1", "t0 t1")];
    let shared = share(Protocol::Range, &members, &topics(&[("t0", 3), ("t1", 3)]));
    let expected = [("C0", "t0-0 t0-1 t1-0 t1-1"), ("C1", "t0-2 t1-2")];
    assert_shared(&shared, &expected);
    // Eight for three are three, three and two; who does not want the topic does not count.
    let members = [
        member("C2", "t0"),
        member("C1", "t0 t0"),
        member("C0", "t9"),
        member("C3", "t0"),
    ];
    let shared = share(Protocol::Range, &members, &topics(&[("t0", 8)]));
    let expected = [
        ("C0", ""),
        ("C1", "t0-0 t0-1 t0-2"),
        ("C2", "t0-3 t0-4 t0-5"),
        ("C3", "t0-6 t0-7"),
    ];
    assert_shared(&shared, &expected);
}

#[test]
fn members_with_lasting_names_come_first_in_the_order_of_these() {
    let mut members = [
        member("a", "t0"),
        member("b", "t0"),
        member("c", "t0"),
        member("d", "t0"),
    ];
    members[1].instance_id = Some("y".to_owned());
    members[3].instance_id = Some("x".to_owned());
    let topics = topics(&[("t0", 4)]);
    let expected = [("d", "t0-0"), ("b", "t0-1"), ("a", "t0-2"), ("c", "t0-3")];
    for protocol in Protocol::ALL {
        assert_shared(&share(protocol, &members, &topics), &expected);
    }
}

#[test]
fn round_robin_deals_out_all_topics_in_turn() {
    let members = [member("C0", "t0 t1"), member("C1", "t0 t1")];
    let equal = topics(&[("t0", 3), ("t1", 3)]);
    let shared = share(Protocol::RoundRobin, &members, &equal);
    let expected = [("C0", "t0-0 t0-2 t1-1"), ("C1", "t0-1 t1-0 t1-2")];
    assert_shared(&shared, &expected);
    let members = [
        member("C0", "t0"),
        member("C1", "t0 t1"),
        member("C2", "t0 t1 t2"),
    ];
    let unequal = topics(&[("t0", 1), ("t1", 2), ("t2", 3)]);
    let shared = share(Protocol::RoundRobin, &members, &unequal);
    let expected = [
        ("C0", "t0-0"),
        ("C1", "t1-0"),
        ("C2", "t1-1 t2-0 t2-1 t2-2"),
    ];
    assert_shared(&shared, &expected);
}

#[test]
fn nobody_and_nothing_can_be_shared_out() {
    for protocol in Protocol::ALL {
        assert_shared(&share(protocol, &[], &topics(&[("t0", 3)])), &[]);
        let alone = [member("C0", "t1 t2").owning("t1-0 t2-7 t3-0", 1)];
        let shared = share(protocol, &alone, &topics(&[("t0", 3), ("t2", 0)]));
        assert_shared(&shared, &[("C0", "")]);
    }
}

/// A group: topics of which some do not exist, and what members want of them.
fn groups() -> impl Strategy<Value = (Vec<Told>, Topics)> {
    const NAMES: [&str; 6] = ["t0", "t1", "t2", "t3", "t4", "t5"];
    let counts = prop::collection::vec(0..12_u32, NAMES.len() - 1);
    let named = NAMES.iter().map(|name| (*name).to_owned());
    let all = prop::sample::subsequence(named.collect::<Vec<_>>(), 0..=NAMES.len());
    let members = (1..9_usize, any::<bool>(), prop::option::of(all.clone())).prop_flat_map(
        move |(count, lasting, equal)| {
            let wanted = match equal {
                Some(topics) => Just(vec![topics; count]).boxed(),
                None => prop::collection::vec(all.clone(), count).boxed(),
            };
            wanted.prop_map(move |wanted| {
                let members = wanted.into_iter().enumerate().map(|(number, topics)| Told {
                    topics,
                    // Lasting names run against the ids.
                    instance_id: (lasting && number % 2 == 0).then(|| format!("i{}", 9 - number)),
                    ..member(&format!("m{number}"), "")
                });
                members.collect()
            })
        },
    );
    (members, counts).prop_map(|(members, counts): (Vec<Told>, _)| {
        // The last topic is the one that does not exist.
        let names = NAMES.iter().map(|name| (*name).to_owned());
        (members, names.zip(counts).collect())
    })
}

/// Members who all want what the first one does.
fn wanting_the_same(mut members: Vec<Told>) -> Vec<Told> {
    let topics = members[0].topics.clone();
    members
        .iter_mut()
        .for_each(|member| member.topics = topics.clone());
    members
}

/// The partitions that somebody wants.
fn wanted(members: &[Told], topics: &Topics) -> BTreeSet<Partition> {
    let names = members.iter().flat_map(|member| &member.topics);
    let all = names.flat_map(|name| {
        let count = topics.get(name).copied().unwrap_or(0);
        (0..count).map(|index| (name.clone(), index))
    });
    all.collect()
}

/// Everything that is shared out is shared out once, and to somebody who wants it.
fn assert_sound(shared: &Shared, members: &[Told]) {
    let mut given = BTreeSet::new();
    for member in members {
        for partition in &shared[&member.id] {
            assert!(
                member.topics.contains(&partition.0),
                "{partition:?} unasked"
            );
            assert!(given.insert(partition), "{partition:?} is given twice");
        }
    }
}

fn all_of(shared: &Shared) -> BTreeSet<Partition> {
    shared.values().flatten().cloned().collect()
}

proptest! {
    #[test]
    fn every_wanted_partition_is_shared_out_once((members, topics) in groups()) {
        // Without anything owned, nothing has to wait.
        for protocol in Protocol::ALL {
            let shared = share(protocol, &members, &topics);
            assert_sound(&shared, &members);
            prop_assert_eq!(all_of(&shared), wanted(&members, &topics));
        }
    }

    #[test]
    fn the_order_of_members_and_topics_does_not_matter((members, topics) in groups()) {
        let mut reversed = members.clone();
        reversed.reverse();
        reversed.iter_mut().for_each(|member| member.topics.reverse());
        for protocol in Protocol::ALL {
            let shared = share(protocol, &members, &topics);
            prop_assert_eq!(share(protocol, &reversed, &topics), shared);
        }
    }

    #[test]
    fn round_robin_is_even_where_all_want_the_same((members, topics) in groups()) {
        let members = wanting_the_same(members);
        let shared = share(Protocol::RoundRobin, &members, &topics);
        let loads: Vec<_> = shared.values().map(BTreeSet::len).collect();
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
    }
}
