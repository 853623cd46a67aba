//! From the bytes of a join to those of a sync.

use bytes::Bytes;
use millrace_wire::kafka::consumer_protocol::{Assignment, Subscription, TopicPartitions, Version};

use super::*;
use crate::coordinator::api::JoinedMember;
use crate::coordinator::assignor::assign_encoded;

fn joined(member_id: &str, metadata: Bytes) -> JoinedMember {
    JoinedMember {
        member_id: member_id.to_owned(),
        instance_id: None,
        metadata,
    }
}

fn four_partitions(topic: &str) -> Option<u32> {
    (topic == "t0").then_some(4)
}

fn indexes(assignment: &Assignment<'_>) -> Vec<u32> {
    let topics = assignment.topics.iter();
    topics
        .flat_map(|topic| topic.partitions.iter().map(|index| index.0))
        .collect()
}

#[test]
fn the_oldest_version_is_written_and_who_cannot_be_read_gets_nothing() {
    let subscription = |version| Subscription {
        version,
        topics: vec!["t0"],
        ..Subscription::default()
    };
    let members = [
        joined("a", subscription(Version::V3).to_bytes()),
        joined("b", Bytes::from_static(b"\0\0 of something else")),
        joined("c", subscription(Version::V1).to_bytes()),
    ];
    let assigned = assign_encoded(Protocol::Range, &members, &four_partitions);
    let ids: Vec<_> = assigned.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    let expected = [vec![0, 1], vec![], vec![2, 3]];
    for ((id, bytes), expected) in assigned.iter().zip(expected) {
        let assignment = Assignment::parse(bytes).unwrap();
        assert_eq!(assignment.version, Version::V1, "{id}");
        assert_eq!(indexes(&assignment), expected, "{id}");
    }
}

#[test]
fn generations_are_read_from_where_each_version_has_them() {
    let owned = || TopicPartitions {
        topic: "t0",
        partitions: (0..4).map(PartitionIndex).collect(),
    };
    let subscription = |version, user_data, generation| Subscription {
        version,
        topics: vec!["t0"],
        user_data,
        owned: vec![owned()],
        generation,
        rack: None,
    };
    // Both say that they own everything; the field says generation 8, the user data 9 or 7.
    for (older, keeps) in [(&[0, 0, 0, 9], "old"), (&[0, 0, 0, 7], "new")] {
        let old = subscription(Version::V1, Some(&older[..]), None);
        let new = subscription(Version::V2, None, Some(8));
        let members = [joined("new", new.to_bytes()), joined("old", old.to_bytes())];
        let assigned = assign_encoded(Protocol::CooperativeSticky, &members, &four_partitions);
        for (id, bytes) in assigned {
            let kept = indexes(&Assignment::parse(&bytes).unwrap()).len();
            assert_eq!(kept, if id == keeps { 2 } else { 0 }, "{id} of {keeps}");
        }
    }
}
