//! The hot path from its other end: Produce and Fetch as a client writes them and reads their answers,
//! each in the newest version that is served here. For load generators and tests, which time what is
//! between the two; nothing is allocated but room in `out`.

#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::api::ApiKey;
use super::fetch::FetchPartition;
use super::produce::ProducedPartition;
use super::read::{DecodeError, Element, List, Reader};
use super::write::Writer;

/// The version of Produce that is written and read here.
pub const PRODUCE_VERSION: i16 = 9;

/// The version of Fetch that is written and read here.
pub const FETCH_VERSION: i16 = 12;

/// What stands behind the batch of a Produce request: no tagged fields of the partition, of the topic
/// and of the request.
pub const BEHIND_BATCH: [u8; 3] = [0; 3];

/// A Produce request with one batch.
#[derive(Clone, Copy, Debug)]
pub struct ProduceCall<'a> {
    /// Repeated in the answer.
    pub correlation: i32,
    /// The client's name.
    pub client_id: &'a str,
    /// 0, 1 or -1.
    pub acks: i16,
    /// How long the broker may take, ms.
    pub timeout_ms: i32,
    /// Where to.
    pub topic: &'a str,
    /// Where to.
    pub partition: i32,
    /// Length of the batch, which is written behind this, with [`BEHIND_BATCH`] behind it.
    pub batch_bytes: usize,
}

impl ProduceCall<'_> {
    /// Writes the request up to its batch, with the frame's length.
    pub fn write(&self, out: &mut BytesMut) {
        let begin = out.len();
        let mut writer = begin_request(
            ApiKey::Produce,
            PRODUCE_VERSION,
            self.correlation,
            self.client_id,
            out,
        );
        writer.nullable_string(None);
        writer.i16(self.acks);
        writer.i32(self.timeout_ms);
        writer.count(1);
        writer.string(self.topic);
        writer.count(1);
        writer.i32(self.partition);
        writer.count(self.batch_bytes);
        close_frame(begin, out, self.batch_bytes + BEHIND_BATCH.len());
    }
}

/// A Fetch request outside of any session.
#[derive(Clone, Copy, Debug)]
pub struct FetchCall<'a> {
    /// Repeated in the answer.
    pub correlation: i32,
    /// The client's name.
    pub client_id: &'a str,
    /// How long the broker may wait for data, ms.
    pub max_wait_ms: i32,
    /// Answer when so many bytes are there.
    pub min_bytes: i32,
    /// Most bytes of the answer.
    pub max_bytes: i32,
}

impl FetchCall<'_> {
    /// Writes the request: each topic's name with what is wanted of its partitions.
    pub fn write(&self, topics: &[(&str, Vec<FetchPartition>)], out: &mut BytesMut) {
        const CONSUMER: i32 = -1;
        const NO_SESSION: (i32, i32) = (0, -1);
        let begin = out.len();
        let mut writer = begin_request(
            ApiKey::Fetch,
            FETCH_VERSION,
            self.correlation,
            self.client_id,
            out,
        );
        writer.i32(CONSUMER);
        writer.i32(self.max_wait_ms);
        writer.i32(self.min_bytes);
        writer.i32(self.max_bytes);
        // Records of open transactions are wanted, too.
        writer.i8(0);
        writer.i32(NO_SESSION.0);
        writer.i32(NO_SESSION.1);
        writer.count(topics.len());
        for (name, partitions) in topics {
            writer.string(name);
            writer.count(partitions.len());
            for wanted in partitions {
                writer.i32(wanted.partition);
                writer.i32(wanted.current_leader_epoch);
                writer.i64(wanted.offset);
                writer.i32(wanted.last_fetched_epoch);
                writer.i64(wanted.log_start);
                writer.i32(wanted.max_bytes);
                writer.no_tags();
            }
            writer.no_tags();
        }
        // Nothing to be forgotten, and no rack.
        writer.count(0);
        writer.string("");
        writer.no_tags();
        close_frame(begin, out, 0);
    }
}

/// Writes an ApiVersions request of version 0, which any broker answers.
pub fn write_api_versions_request(correlation: i32, client_id: &str, out: &mut BytesMut) {
    let begin = out.len();
    begin_request(ApiKey::ApiVersions, 0, correlation, client_id, out);
    close_frame(begin, out, 0);
}

fn begin_request<'a>(
    key: ApiKey,
    version: i16,
    correlation: i32,
    client_id: &str,
    out: &'a mut BytesMut,
) -> Writer<'a, BytesMut> {
    out.put_u32(0);
    // The client's name has the older form of a length in every version of the head.
    let mut writer = Writer {
        out,
        flexible: false,
    };
    writer.i16(key.number());
    writer.i16(version);
    writer.i32(correlation);
    writer.string(client_id);
    writer.flexible = key.is_flexible(version);
    writer.no_tags();
    writer
}

fn close_frame(begin: usize, out: &mut BytesMut, to_come: usize) {
    let length = out.len() - begin - 4 + to_come;
    let length = i32::try_from(length).expect("a request is shorter than 2 GiB");
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}

/// Reads the head of an answer: the correlation of its request, and where its body is.
fn read_head(payload: &[u8], key: ApiKey, version: i16) -> Result<(i32, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(payload, key.is_flexible(version));
    let correlation = reader.i32()?;
    if key.has_flexible_response_head(version) {
        reader.tags()?;
    }
    Ok((correlation, reader))
}

/// A Produce response, read in place.
#[derive(Clone, Copy, Debug)]
pub struct ProduceAnswer<'a> {
    /// As in the request.
    pub correlation: i32,
    /// How long the client is asked to be silent, ms.
    pub throttle_ms: i32,
    topics: List<'a, ProducedTopic<'a>>,
}

/// A topic's partitions in a Produce response.
#[derive(Clone, Copy, Debug)]
pub struct ProducedTopic<'a> {
    /// Its name.
    pub name: &'a str,
    partitions: List<'a, ProducedPartition<'a>>,
}

impl<'a> ProduceAnswer<'a> {
    /// Reads a response, which is everything behind the four bytes of its length.
    pub fn parse(payload: &'a [u8]) -> Result<ProduceAnswer<'a>, DecodeError> {
        let (correlation, mut reader) = read_head(payload, ApiKey::Produce, PRODUCE_VERSION)?;
        let topics = List::read(&mut reader, PRODUCE_VERSION)?;
        let throttle_ms = reader.i32()?;
        reader.tags()?;
        Ok(ProduceAnswer {
            correlation,
            throttle_ms,
            topics,
        })
    }

    /// Its topics, in order.
    pub fn topics(&self) -> impl Iterator<Item = ProducedTopic<'a>> + use<'a> {
        self.topics
    }
}

impl<'a> ProducedTopic<'a> {
    /// Its partitions, in order.
    pub fn partitions(&self) -> impl Iterator<Item = ProducedPartition<'a>> + use<'a> {
        self.partitions
    }
}

impl<'a> Element<'a> for ProducedTopic<'a> {
    const LEAST_BYTES: usize = 3;

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<ProducedTopic<'a>, DecodeError> {
        let name = reader.string()?;
        let partitions = List::read(reader, version)?;
        reader.tags()?;
        Ok(ProducedTopic { name, partitions })
    }
}

impl<'a> Element<'a> for ProducedPartition<'a> {
    const LEAST_BYTES: usize = 33;

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<ProducedPartition<'a>, DecodeError> {
        let (index, error_code) = (reader.i32()?, reader.i16()?);
        let (base_offset, append_time_ms, log_start) =
            (reader.i64()?, reader.i64()?, reader.i64()?);
        List::<RecordError>::read(reader, version)?;
        let error_message = reader.nullable_string()?;
        reader.tags()?;
        Ok(ProducedPartition {
            index,
            error_code,
            base_offset,
            append_time_ms,
            log_start,
            error_message,
        })
    }
}

/// What was wrong with one record of a batch: passed over, since the batch as a whole has an error.
#[derive(Clone, Copy, Debug)]
struct RecordError;

impl<'a> Element<'a> for RecordError {
    const LEAST_BYTES: usize = 6;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<RecordError, DecodeError> {
        reader.i32()?;
        reader.nullable_string()?;
        reader.tags()?;
        Ok(RecordError)
    }
}

/// A Fetch response, read in place.
#[derive(Clone, Copy, Debug)]
pub struct FetchAnswer<'a> {
    /// As in the request.
    pub correlation: i32,
    /// How long the client is asked to be silent, ms.
    pub throttle_ms: i32,
    /// Why the request as a whole failed, or 0.
    pub error_code: i16,
    topics: List<'a, AnsweredTopic<'a>>,
}

/// A topic's partitions in a Fetch response.
#[derive(Clone, Copy, Debug)]
pub struct AnsweredTopic<'a> {
    /// Its name.
    pub name: &'a str,
    partitions: List<'a, AnsweredPartition>,
}

/// What a Fetch response says of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredPartition {
    /// Its number.
    pub partition: i32,
    /// 0, or why there is nothing.
    pub error_code: i16,
    /// First offset that cannot be read yet, or -1.
    pub high_watermark: i64,
    /// First retained offset, or -1.
    pub log_start: i64,
    /// Where in the payload its batches are; empty where there are none.
    pub batches: Range<usize>,
}

impl<'a> FetchAnswer<'a> {
    /// Reads a response, which is everything behind the four bytes of its length.
    pub fn parse(payload: &'a [u8]) -> Result<FetchAnswer<'a>, DecodeError> {
        let (correlation, mut reader) = read_head(payload, ApiKey::Fetch, FETCH_VERSION)?;
        let (throttle_ms, error_code) = (reader.i32()?, reader.i16()?);
        let _session = reader.i32()?;
        let topics = List::read(&mut reader, FETCH_VERSION)?;
        reader.tags()?;
        Ok(FetchAnswer {
            correlation,
            throttle_ms,
            error_code,
            topics,
        })
    }

    /// Its topics, in order.
    pub fn topics(&self) -> impl Iterator<Item = AnsweredTopic<'a>> + use<'a> {
        self.topics
    }
}

impl<'a> AnsweredTopic<'a> {
    /// Its partitions, in order. Where their batches are rises.
    pub fn partitions(&self) -> impl Iterator<Item = AnsweredPartition> + use<'a> {
        self.partitions
    }
}

impl<'a> Element<'a> for AnsweredTopic<'a> {
    const LEAST_BYTES: usize = 3;

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<AnsweredTopic<'a>, DecodeError> {
        let name = reader.string()?;
        let partitions = List::read(reader, version)?;
        reader.tags()?;
        Ok(AnsweredTopic { name, partitions })
    }
}

impl<'a> Element<'a> for AnsweredPartition {
    const LEAST_BYTES: usize = 37;

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<AnsweredPartition, DecodeError> {
        let (partition, error_code) = (reader.i32()?, reader.i16()?);
        let high_watermark = reader.i64()?;
        let _last_stable_offset = reader.i64()?;
        let log_start = reader.i64()?;
        List::<AbortedTransaction>::read(reader, version)?;
        let _preferred_read_replica = reader.i32()?;
        let batches = reader.bytes()?;
        reader.tags()?;
        Ok(AnsweredPartition {
            partition,
            error_code,
            high_watermark,
            log_start,
            batches,
        })
    }
}

/// A transaction whose records are to be passed over; so is this here, since nothing reads committed
/// records alone.
#[derive(Clone, Copy, Debug)]
struct AbortedTransaction;

impl<'a> Element<'a> for AbortedTransaction {
    const LEAST_BYTES: usize = 17;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<AbortedTransaction, DecodeError> {
        let (_producer_id, _first_offset) = (reader.i64()?, reader.i64()?);
        reader.tags()?;
        Ok(AbortedTransaction)
    }
}

/// A request that a broker serves, and in which versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedApi {
    /// Its number.
    pub api_key: i16,
    /// The oldest version.
    pub min_version: i16,
    /// The newest version.
    pub max_version: i16,
}

/// An ApiVersions response of version 0, read in place.
#[derive(Clone, Copy, Debug)]
pub struct ApiVersionsAnswer<'a> {
    /// As in the request.
    pub correlation: i32,
    /// 0, or why the request failed.
    pub error_code: i16,
    apis: List<'a, ServedApi>,
}

impl<'a> ApiVersionsAnswer<'a> {
    /// Reads a response, which is everything behind the four bytes of its length.
    pub fn parse(payload: &'a [u8]) -> Result<ApiVersionsAnswer<'a>, DecodeError> {
        let (correlation, mut reader) = read_head(payload, ApiKey::ApiVersions, 0)?;
        let error_code = reader.i16()?;
        let apis = List::read(&mut reader, 0)?;
        Ok(ApiVersionsAnswer {
            correlation,
            error_code,
            apis,
        })
    }

    /// Whether this version of a request is served.
    #[must_use]
    pub fn serves(&self, key: ApiKey, version: i16) -> bool {
        let mut apis = self.apis;
        apis.any(|api| {
            api.api_key == key.number() && (api.min_version..=api.max_version).contains(&version)
        })
    }
}

impl<'a> Element<'a> for ServedApi {
    const LEAST_BYTES: usize = 6;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<ServedApi, DecodeError> {
        Ok(ServedApi {
            api_key: reader.i16()?,
            min_version: reader.i16()?,
            max_version: reader.i16()?,
        })
    }
}
