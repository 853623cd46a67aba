//! What the members of a consumer group and whoever assigns partitions tell each other.

use millrace_wire::ids::PartitionIndex;
use millrace_wire::kafka::consumer_protocol::{Assignment, Subscription, TopicPartitions, Version};

use crate::Seed;
use crate::allocation::bounded;

/// A topic without a name has two bytes on the wire and sixteen in memory.
const MOST_FOR_EACH_BYTE: usize = 8;
/// Of the error's text.
const MOST_BESIDES: usize = 256;

pub(crate) fn protocol(bytes: &[u8]) {
    let most = MOST_BESIDES + MOST_FOR_EACH_BYTE * bytes.len();
    bounded(most, || drop(Subscription::parse(bytes)));
    bounded(most, || drop(Assignment::parse(bytes)));
    if let Ok(subscription) = Subscription::parse(bytes) {
        let written = subscription.to_bytes();
        assert_eq!(Subscription::parse(&written), Ok(subscription));
    }
    if let Ok(assignment) = Assignment::parse(bytes) {
        let written = assignment.to_bytes();
        assert_eq!(Assignment::parse(&written), Ok(assignment));
    }
}

pub(crate) fn protocol_seeds() -> Vec<Seed> {
    let partitions = |topic, partitions: &[u32]| TopicPartitions {
        topic,
        partitions: partitions.iter().copied().map(PartitionIndex).collect(),
    };
    let subscription = |version| Subscription {
        version,
        topics: vec!["orders", "payments"],
        user_data: Some(&[0, 0, 0, 7]),
        owned: vec![partitions("orders", &[0, 2]), partitions("payments", &[])],
        generation: Some(7),
        rack: Some("a"),
    };
    let assignment = Assignment {
        topics: vec![partitions("orders", &[0, 1]), partitions("payments", &[5])],
        ..Assignment::default()
    };
    vec![
        (
            "subscription_0",
            subscription(Version::V0).to_bytes().to_vec(),
        ),
        (
            "subscription_1",
            subscription(Version::V1).to_bytes().to_vec(),
        ),
        (
            "subscription_2",
            subscription(Version::V2).to_bytes().to_vec(),
        ),
        (
            "subscription_3",
            subscription(Version::V3).to_bytes().to_vec(),
        ),
        ("nothing", Subscription::default().to_bytes().to_vec()),
        ("assignment", assignment.to_bytes().to_vec()),
    ]
}
