//! Produce (key 0), versions 3 to 9; of 0 to 2 as much as a refusal needs.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::api::ApiKey;
use super::read::{DecodeError, Element, List, Reader};
use super::write::Writer;

/// From this version on a request may name a transaction.
const FIRST_TRANSACTIONAL: i16 = 3;

/// A Produce request, read in place.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRequest<'a> {
    transactional_id: Option<&'a str>,
    acks: i16,
    timeout_ms: i32,
    topics: List<'a, ProduceTopic<'a>>,
}

/// A topic's partitions.
#[derive(Clone, Copy, Debug)]
pub struct ProduceTopic<'a> {
    /// Its name.
    pub name: &'a str,
    partitions: List<'a, ProducePartition>,
}

/// A partition and the batch for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// Its number.
    pub index: i32,
    /// Where in the body its records are; empty where there are none.
    pub records: Range<usize>,
}

impl<'a> ProduceRequest<'a> {
    /// Reads a request's body. All of it is checked here, once; what the iterators give is then there.
    pub fn parse(body: &'a [u8], version: i16) -> Result<ProduceRequest<'a>, DecodeError> {
        if !(0..=9).contains(&version) {
            return Err(DecodeError::Version {
                name: "Produce",
                version,
            });
        }
        let flexible = ApiKey::Produce.is_flexible(version);
        let mut reader = Reader::new(body, flexible);
        let transactional_id = match version {
            FIRST_TRANSACTIONAL.. => reader.nullable_string()?,
            _ => None,
        };
        let (acks, timeout_ms) = (reader.i16()?, reader.i32()?);
        let topics = List::read(&mut reader, version)?;
        reader.tags()?;
        Ok(ProduceRequest {
            transactional_id,
            acks,
            timeout_ms,
            topics,
        })
    }

    /// The transaction that it belongs to.
    #[must_use]
    pub fn transactional_id(&self) -> Option<&'a str> {
        self.transactional_id
    }

    /// 0, 1 or -1, or what a client sends instead.
    #[must_use]
    pub fn acks(&self) -> i16 {
        self.acks
    }

    /// How long the broker may take, ms.
    #[must_use]
    pub fn timeout_ms(&self) -> i32 {
        self.timeout_ms
    }

    /// Its topics, in order. The ranges of their records rise.
    pub fn topics(&self) -> impl Iterator<Item = ProduceTopic<'a>> + use<'a> {
        self.topics
    }
}

impl<'a> Element<'a> for ProduceTopic<'a> {
    const LEAST_BYTES: usize = 2;

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<ProduceTopic<'a>, DecodeError> {
        let name = reader.string()?;
        let partitions = List::read(reader, version)?;
        reader.tags()?;
        Ok(ProduceTopic { name, partitions })
    }
}

impl ProduceTopic<'_> {
    /// Its partitions, in order.
    pub fn partitions(&self) -> impl Iterator<Item = ProducePartition> {
        self.partitions
    }
}

impl<'a> Element<'a> for ProducePartition {
    const LEAST_BYTES: usize = 5;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<ProducePartition, DecodeError> {
        let index = reader.i32()?;
        let records = reader.bytes()?;
        reader.tags()?;
        Ok(ProducePartition { index, records })
    }
}

/// What became of a partition's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducedPartition<'a> {
    /// The partition.
    pub index: i32,
    /// 0, or why it was not stored.
    pub error_code: i16,
    /// Offset of its first record, or -1.
    pub base_offset: i64,
    /// The time that the broker gave it, or -1.
    pub append_time_ms: i64,
    /// First retained offset, or -1.
    pub log_start: i64,
    /// The reason in words.
    pub error_message: Option<&'a str>,
}

/// Writes a Produce response with its frame, without allocating anything but room in `out`.
pub struct ProduceResponseWriter<'a> {
    out: &'a mut BytesMut,
    /// Where the frame begins.
    begin: usize,
    version: i16,
    topics_left: usize,
    partitions_left: usize,
}

impl<'a> ProduceResponseWriter<'a> {
    /// Begins a response of so many topics.
    pub fn begin(
        out: &'a mut BytesMut,
        version: i16,
        correlation: i32,
        topics: usize,
    ) -> ProduceResponseWriter<'a> {
        let begin = out.len();
        out.put_u32(0);
        let mut response = ProduceResponseWriter {
            out,
            begin,
            version,
            topics_left: topics,
            partitions_left: 0,
        };
        let mut writer = response.writer();
        writer.response_head(ApiKey::Produce, version, correlation);
        writer.count(topics);
        response
    }

    fn writer(&mut self) -> Writer<'_, BytesMut> {
        Writer {
            flexible: ApiKey::Produce.is_flexible(self.version),
            out: self.out,
        }
    }

    /// Begins the next topic, of so many partitions.
    ///
    /// # Panics
    /// If there are more than were announced, or the one before is not complete.
    pub fn topic(&mut self, name: &str, partitions: usize) {
        assert!(self.topics_left > 0, "no more topics than announced");
        assert_eq!(self.partitions_left, 0, "a topic is complete");
        self.topics_left -= 1;
        self.partitions_left = partitions;
        let mut writer = self.writer();
        writer.string(name);
        writer.count(partitions);
        if partitions == 0 {
            writer.no_tags();
        }
    }

    /// Adds a partition.
    ///
    /// # Panics
    /// If there are more than were announced.
    pub fn partition(&mut self, partition: ProducedPartition<'_>) {
        assert!(
            self.partitions_left > 0,
            "no more partitions than announced"
        );
        self.partitions_left -= 1;
        let (version, is_last) = (self.version, self.partitions_left == 0);
        let mut writer = self.writer();
        writer.i32(partition.index);
        writer.i16(partition.error_code);
        writer.i64(partition.base_offset);
        if version >= 2 {
            writer.i64(partition.append_time_ms);
        }
        if version >= 5 {
            writer.i64(partition.log_start);
        }
        if version >= 8 {
            // Errors of single records: a batch is taken or refused as a whole.
            writer.count(0);
            writer.nullable_string(partition.error_message);
        }
        writer.no_tags();
        if is_last {
            // The topic's.
            writer.no_tags();
        }
    }

    /// Completes the response.
    ///
    /// # Panics
    /// If something that was announced is missing.
    pub fn finish(mut self, throttle_ms: i32) {
        let left = (self.topics_left, self.partitions_left);
        assert_eq!(left, (0, 0), "all that was announced is there");
        let version = self.version;
        let mut writer = self.writer();
        if version >= 1 {
            writer.i32(throttle_ms);
        }
        writer.no_tags();
        let length = self.out.len() - self.begin - 4;
        let length = u32::try_from(length).expect("a response is shorter than 4 GiB");
        self.out[self.begin..self.begin + 4].copy_from_slice(&length.to_be_bytes());
    }
}
