//! The hand-written codec against the library, an independent one.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName,
    consumer_protocol_assignment, consumer_protocol_subscription,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;

use super::*;

/// Topics and partitions of them, owned.
type Topics = Vec<(String, Vec<u32>)>;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn indexes(partitions: &[u32]) -> Vec<i32> {
    partitions.iter().map(|index| index.cast_signed()).collect()
}

fn borrowed(topics: &Topics) -> Vec<TopicPartitions<'_>> {
    let topics = topics.iter().map(|(topic, partitions)| TopicPartitions {
        topic,
        partitions: partitions.iter().copied().map(PartitionIndex).collect(),
    });
    topics.collect()
}

fn topics() -> impl Strategy<Value = Topics> {
    let partitions = prop::collection::vec(0..=i32::MAX.cast_unsigned(), 0..5);
    prop::collection::vec(("[a-z._é-]{0,20}", partitions), 0..5)
}

fn user_data() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..20))
}

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(vec![Version::V0, Version::V1, Version::V2, Version::V3])
}

/// What a member of a version writes, as the library puts it.
#[derive(Clone, Debug)]
struct Sample {
    version: Version,
    topics: Vec<String>,
    user_data: Option<Vec<u8>>,
    owned: Topics,
    generation: Option<i32>,
    rack: Option<String>,
}

impl Sample {
    fn subscription(&self) -> Subscription<'_> {
        Subscription {
            version: self.version,
            topics: self.topics.iter().map(String::as_str).collect(),
            user_data: self.user_data.as_deref(),
            owned: borrowed(&self.owned),
            generation: self.generation,
            rack: self.rack.as_deref(),
        }
    }

    fn of_the_library(&self) -> Bytes {
        let owned = self.owned.iter().map(|(topic, partitions)| {
            consumer_protocol_subscription::TopicPartition::default()
                .with_topic(TopicName(text(topic)))
                .with_partitions(indexes(partitions))
        });
        let message = ConsumerProtocolSubscription::default()
            .with_topics(self.topics.iter().map(|topic| text(topic)).collect())
            .with_user_data(self.user_data.clone().map(Bytes::from))
            .with_owned_partitions(owned.collect())
            .with_generation_id(self.generation.unwrap_or(-1))
            .with_rack_id(self.rack.as_deref().map(text));
        let mut out = BytesMut::new();
        out.put_i16(self.version as i16);
        message.encode(&mut out, self.version as i16).unwrap();
        out.freeze()
    }
}

fn samples() -> impl Strategy<Value = Sample> {
    (
        version(),
        prop::collection::vec("[a-z._é-]{0,20}", 0..5),
        user_data(),
        topics(),
        prop::option::of(0..i32::MAX),
        prop::option::of("[a-z]{0,9}"),
    )
        .prop_map(
            |(version, topics, user_data, owned, generation, rack)| Sample {
                version,
                topics,
                user_data,
                // What a version lacks is absent.
                owned: if version >= Version::V1 {
                    owned
                } else {
                    vec![]
                },
                generation: generation.filter(|_| version >= Version::V2),
                rack: rack.filter(|_| version >= Version::V3),
            },
        )
}

fn assignment_of_the_library(version: Version, topics: &Topics, data: Option<&[u8]>) -> Bytes {
    let topics = topics.iter().map(|(topic, partitions)| {
        consumer_protocol_assignment::TopicPartition::default()
            .with_topic(TopicName(text(topic)))
            .with_partitions(indexes(partitions))
    });
    let message = ConsumerProtocolAssignment::default()
        .with_assigned_partitions(topics.collect())
        .with_user_data(data.map(Bytes::copy_from_slice));
    let mut out = BytesMut::new();
    out.put_i16(version as i16);
    message.encode(&mut out, version as i16).unwrap();
    out.freeze()
}

proptest! {
    #[test]
    fn subscriptions_are_read_and_written_as_the_library_does(sample in samples()) {
        let bytes = sample.of_the_library();
        prop_assert_eq!(Subscription::parse(&bytes), Ok(sample.subscription()));
        prop_assert_eq!(sample.subscription().to_bytes(), &bytes);
        for end in 0..bytes.len() {
            prop_assert!(Subscription::parse(&bytes[..end]).is_err(), "cut at {}", end);
        }
    }

    #[test]
    fn assignments_are_read_and_written_as_the_library_does(
        version in version(),
        topics in topics(),
        data in user_data(),
    ) {
        let bytes = assignment_of_the_library(version, &topics, data.as_deref());
        let assignment = Assignment { version, topics: borrowed(&topics), user_data: data.as_deref() };
        prop_assert_eq!(Assignment::parse(&bytes), Ok(assignment.clone()));
        prop_assert_eq!(assignment.to_bytes(), &bytes);
        for end in 0..bytes.len() {
            prop_assert!(Assignment::parse(&bytes[..end]).is_err(), "cut at {}", end);
        }
    }

    #[test]
    fn a_newer_version_is_read_as_the_newest_known(
        sample in samples(),
        number in 4..=i16::MAX,
        added in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let newest = Subscription { version: Version::NEWEST, ..sample.subscription() };
        let mut bytes = newest.to_bytes().to_vec();
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        bytes.extend(&added);
        prop_assert_eq!(Subscription::parse(&bytes), Ok(newest));
        let assigned = Assignment { topics: borrowed(&sample.owned), ..Assignment::default() };
        let mut bytes = assigned.to_bytes().to_vec();
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        bytes.extend(&added);
        prop_assert_eq!(Assignment::parse(&bytes), Ok(assigned));
    }

    #[test]
    fn an_older_version_leaves_out_what_it_lacks(sample in samples(), version in version()) {
        let written = Subscription { version, ..sample.subscription() }.to_bytes();
        let mut rest = written.slice(2..);
        let read = ConsumerProtocolSubscription::decode(&mut rest, version as i16).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(read.topics.len(), sample.topics.len());
        let owned = if version >= Version::V1 { sample.owned.len() } else { 0 };
        prop_assert_eq!(read.owned_partitions.len(), owned);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Subscription::parse(&bytes);
        let _ = Assignment::parse(&bytes);
    }
}

#[test]
fn counts_that_cannot_be_are_refused() {
    // A thousand million topics in eight bytes.
    let many = [&[0_u8, 0][..], &[0x3f, 0xff, 0xff, 0xff], &[0; 8]].concat();
    let error = |bytes: &[u8]| Subscription::parse(bytes).unwrap_err();
    assert!(matches!(error(&many), DecodeError::Ends { .. }));
    assert!(matches!(
        Assignment::parse(&many),
        Err(DecodeError::Ends { .. })
    ));
    let negative = [0_u8, 0, 0xff, 0xff, 0xff, 0xfe];
    assert!(matches!(error(&negative), DecodeError::Length { .. }));
    let version = [0xff_u8, 0xff, 0, 0, 0, 0];
    assert!(matches!(error(&version), DecodeError::Version { .. }));
}

#[test]
fn partitions_below_zero_are_refused_and_those_beyond_31_bits_not_written_as_such() {
    let topics = vec![TopicPartitions {
        topic: "orders",
        partitions: vec![PartitionIndex(u32::MAX)],
    }];
    let written = Assignment {
        topics,
        ..Assignment::default()
    };
    let written = written.to_bytes();
    let read = Assignment::parse(&written).unwrap();
    assert_eq!(
        read.topics[0].partitions,
        [PartitionIndex(i32::MAX.cast_unsigned())]
    );
    let mut negative = written.to_vec();
    let at = negative
        .windows(4)
        .position(|four| four == [0x7f, 0xff, 0xff, 0xff]);
    negative[at.unwrap()] = 0xff;
    let error = Assignment::parse(&negative).unwrap_err().to_string();
    assert!(error.contains("is -1"), "{error}");
}
