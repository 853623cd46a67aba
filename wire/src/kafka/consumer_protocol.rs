//! What members of a consumer group tell whoever assigns partitions, and what they are told: Kafka's
//! `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`. A broker carries both as opaque
//! bytes; one that assigns by itself has to read and write them.
//!
//! ```
//! use millrace_wire::kafka::consumer_protocol::Subscription;
//!
//! let metadata = Subscription { topics: vec!["orders"], ..Subscription::default() }.to_bytes();
//! assert_eq!(Subscription::parse(&metadata).unwrap().topics, ["orders"]);
//! ```
//!
//! Both are read in place: texts stay where they are. The lists of them are allocated, at most eight
//! bytes for each byte that was read. What follows the last known field is passed over, since newer
//! versions only add fields at the end.

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

use super::read::{DecodeError, Reader};
use super::write::Writer;
use crate::ids::PartitionIndex;

/// The bytes of a topic with no name and no partitions.
const LEAST_TOPIC_BYTES: usize = 6;

/// Which fields there are. An older one has fewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Topics and user data.
    V0,
    /// With the partitions that a member owns (KIP-429).
    V1,
    /// With the generation in which it got them (KIP-792).
    V2,
    /// With its rack (KIP-881).
    #[default]
    V3,
}

impl Version {
    /// The newest that is known; a newer one is read as this.
    pub const NEWEST: Version = Version::V3;

    fn read(reader: &mut Reader<'_>, name: &'static str) -> Result<Version, DecodeError> {
        match reader.i16()? {
            0 => Ok(Version::V0),
            1 => Ok(Version::V1),
            2 => Ok(Version::V2),
            3.. => Ok(Version::NEWEST),
            version => Err(DecodeError::Version { name, version }),
        }
    }
}

/// Some partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartitions<'a> {
    /// The topic's name, as the other side wrote it: not checked to be one.
    pub topic: &'a str,
    /// The partitions, as written: perhaps unsorted or repeated.
    pub partitions: Vec<PartitionIndex>,
}

/// What a member wants and has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Which fields are written, and were read: those that it lacks are left out, and read as absent.
    pub version: Version,
    /// The topics that it wants to read.
    pub topics: Vec<&'a str>,
    /// What its assignor adds.
    pub user_data: Option<&'a [u8]>,
    /// The partitions that it has now and goes on reading until it is told otherwise.
    pub owned: Vec<TopicPartitions<'a>>,
    /// The generation in which it got them, if it says so.
    pub generation: Option<i32>,
    /// The rack that it is in.
    pub rack: Option<&'a str>,
}

impl<'a> Subscription<'a> {
    /// Reads a member's metadata.
    pub fn parse(bytes: &'a [u8]) -> Result<Subscription<'a>, DecodeError> {
        let mut reader = Reader::new(bytes, false);
        let version = Version::read(&mut reader, "a subscription")?;
        let mut subscription = Subscription {
            version,
            topics: read_array(&mut reader, 2, Reader::string)?,
            user_data: reader.nullable_bytes()?,
            ..Subscription::default()
        };
        if version >= Version::V1 {
            subscription.owned = read_topics(&mut reader)?;
        }
        if version >= Version::V2 {
            // Kafka's clients write -1 if they are in no generation yet.
            subscription.generation = Some(reader.i32()?).filter(|generation| *generation >= 0);
        }
        if version >= Version::V3 {
            subscription.rack = reader.nullable_string()?;
        }
        Ok(subscription)
    }

    /// The metadata of a member with this subscription.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        let mut writer = Writer {
            out: &mut out,
            flexible: false,
        };
        writer.i16(self.version as i16);
        writer.count(self.topics.len());
        self.topics.iter().for_each(|topic| writer.string(topic));
        writer.nullable_bytes(self.user_data);
        if self.version >= Version::V1 {
            write_topics(&mut writer, &self.owned);
        }
        if self.version >= Version::V2 {
            writer.i32(self.generation.unwrap_or(-1));
        }
        if self.version >= Version::V3 {
            writer.nullable_string(self.rack);
        }
        out.freeze()
    }
}

/// What a member is told to read. All versions have the same fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment<'a> {
    /// The version to write, and the one that was read.
    pub version: Version,
    /// The partitions.
    pub topics: Vec<TopicPartitions<'a>>,
    /// What the assignor adds.
    pub user_data: Option<&'a [u8]>,
}

impl<'a> Assignment<'a> {
    /// Reads an assignment.
    pub fn parse(bytes: &'a [u8]) -> Result<Assignment<'a>, DecodeError> {
        let mut reader = Reader::new(bytes, false);
        Ok(Assignment {
            version: Version::read(&mut reader, "an assignment")?,
            topics: read_topics(&mut reader)?,
            user_data: reader.nullable_bytes()?,
        })
    }

    /// The assignment as a member reads it.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        let mut writer = Writer {
            out: &mut out,
            flexible: false,
        };
        writer.i16(self.version as i16);
        write_topics(&mut writer, &self.topics);
        writer.nullable_bytes(self.user_data);
        out.freeze()
    }
}

/// An array of elements that have at least `least_bytes` each.
fn read_array<'a, T>(
    reader: &mut Reader<'a>,
    least_bytes: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    // No more than the bytes that are left can hold.
    let count = reader.count(least_bytes)?;
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        elements.push(read(reader)?);
    }
    Ok(elements)
}

fn read_topics<'a>(reader: &mut Reader<'a>) -> Result<Vec<TopicPartitions<'a>>, DecodeError> {
    read_array(reader, LEAST_TOPIC_BYTES, |reader| {
        Ok(TopicPartitions {
            topic: reader.string()?,
            partitions: read_array(reader, 4, read_partition)?,
        })
    })
}

fn read_partition(reader: &mut Reader<'_>) -> Result<PartitionIndex, DecodeError> {
    let (at, partition) = (reader.at(), reader.i32()?);
    match u32::try_from(partition) {
        Ok(partition) => Ok(PartitionIndex(partition)),
        Err(_) => Err(DecodeError::Content(format!(
            "the partition at byte {at} is {partition}, and they are numbered from 0"
        ))),
    }
}

fn write_topics(writer: &mut Writer<'_, BytesMut>, topics: &[TopicPartitions<'_>]) {
    writer.count(topics.len());
    for topic in topics {
        writer.string(topic.topic);
        writer.count(topic.partitions.len());
        for partition in &topic.partitions {
            // No topic has so many that they need the 32nd bit: what no topic has stays so.
            writer.i32(i32::try_from(partition.0).unwrap_or(i32::MAX));
        }
    }
}
