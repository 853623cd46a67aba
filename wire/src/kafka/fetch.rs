//! Fetch (key 1), versions 4 to 12: by topic name.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::api::ApiKey;
use super::read::{DecodeError, Element, List, Reader};
use super::write::{Counted, Out, Writer};

/// In place of a number that a version has no room for.
const NONE: i32 = -1;

/// A Fetch request, read in place.
#[derive(Clone, Copy, Debug)]
pub struct FetchRequest<'a> {
    /// How long the broker may wait for data, ms.
    pub max_wait_ms: i32,
    /// Answer when so many bytes are there.
    pub min_bytes: i32,
    /// Most bytes of the answer; the first batch always fits.
    pub max_bytes: i32,
    /// Whether records of open transactions are to be held back.
    pub read_committed: bool,
    /// The fetch session, or 0 (KIP-227).
    pub session_id: i32,
    /// Where in the session this is: -1 for none, 0 to begin one.
    pub session_epoch: i32,
    /// The client's rack.
    pub rack: Option<&'a str>,
    topics: List<'a, FetchTopic<'a>>,
    forgotten: List<'a, ForgottenTopic<'a>>,
}

/// A topic's partitions.
#[derive(Clone, Copy, Debug)]
pub struct FetchTopic<'a> {
    /// Its name.
    pub name: &'a str,
    partitions: List<'a, FetchPartition>,
}

/// What is wanted of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Its number.
    pub partition: i32,
    /// The leader epoch that the client knows, or -1.
    pub current_leader_epoch: i32,
    /// First offset wanted.
    pub offset: i64,
    /// The epoch of the last record that the client has, or -1.
    pub last_fetched_epoch: i32,
    /// A follower's log start; -1 from consumers.
    pub log_start: i64,
    /// Most bytes of this partition.
    pub max_bytes: i32,
}

/// Partitions that a session is to forget.
#[derive(Clone, Copy, Debug)]
pub struct ForgottenTopic<'a> {
    /// Their topic.
    pub name: &'a str,
    partitions: List<'a, Number>,
}

impl<'a> FetchRequest<'a> {
    /// Reads a request's body. All of it is checked here, once; what the iterators give is then there.
    pub fn parse(body: &'a [u8], version: i16) -> Result<FetchRequest<'a>, DecodeError> {
        if !(4..=12).contains(&version) {
            return Err(DecodeError::Version {
                name: "Fetch",
                version,
            });
        }
        let mut reader = Reader::new(body, ApiKey::Fetch.is_flexible(version));
        let _replica = reader.i32()?;
        let (max_wait_ms, min_bytes, max_bytes) = (reader.i32()?, reader.i32()?, reader.i32()?);
        let read_committed = reader.i8()? == 1;
        let (session_id, session_epoch) = match version {
            7.. => (reader.i32()?, reader.i32()?),
            _ => (0, NONE),
        };
        let topics = List::read(&mut reader, version)?;
        let forgotten = match version {
            7.. => List::read(&mut reader, version)?,
            _ => List::none(&reader),
        };
        let rack = if version >= 11 {
            Some(reader.string()?)
        } else {
            None
        };
        reader.tags()?;
        Ok(FetchRequest {
            max_wait_ms,
            min_bytes,
            max_bytes,
            read_committed,
            session_id,
            session_epoch,
            rack: rack.filter(|rack| !rack.is_empty()),
            topics,
            forgotten,
        })
    }

    /// Its topics, in order.
    pub fn topics(&self) -> impl Iterator<Item = FetchTopic<'a>> + use<'a> {
        self.topics
    }

    /// What its session is to forget.
    pub fn forgotten(&self) -> impl Iterator<Item = ForgottenTopic<'a>> + use<'a> {
        self.forgotten
    }
}

impl<'a> Element<'a> for FetchTopic<'a> {
    const LEAST_BYTES: usize = 2;

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<FetchTopic<'a>, DecodeError> {
        let name = reader.string()?;
        let partitions = List::read(reader, version)?;
        reader.tags()?;
        Ok(FetchTopic { name, partitions })
    }
}

impl<'a> FetchTopic<'a> {
    /// Its partitions, in order.
    pub fn partitions(&self) -> impl Iterator<Item = FetchPartition> + use<'a> {
        self.partitions
    }
}

impl<'a> Element<'a> for FetchPartition {
    const LEAST_BYTES: usize = 16;

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<FetchPartition, DecodeError> {
        let partition = reader.i32()?;
        let current_leader_epoch = if version >= 9 { reader.i32()? } else { NONE };
        let offset = reader.i64()?;
        let last_fetched_epoch = if version >= 12 { reader.i32()? } else { NONE };
        let log_start = if version >= 5 {
            reader.i64()?
        } else {
            NONE.into()
        };
        let max_bytes = reader.i32()?;
        reader.tags()?;
        Ok(FetchPartition {
            partition,
            current_leader_epoch,
            offset,
            last_fetched_epoch,
            log_start,
            max_bytes,
        })
    }
}

impl<'a> Element<'a> for ForgottenTopic<'a> {
    const LEAST_BYTES: usize = 2;

    fn read(reader: &mut Reader<'a>, version: i16) -> Result<ForgottenTopic<'a>, DecodeError> {
        let name = reader.string()?;
        let partitions = List::read(reader, version)?;
        reader.tags()?;
        Ok(ForgottenTopic { name, partitions })
    }
}

/// A partition's number by itself.
#[derive(Clone, Copy, Debug)]
struct Number(i32);

impl<'a> Element<'a> for Number {
    const LEAST_BYTES: usize = 4;

    fn read(reader: &mut Reader<'a>, _version: i16) -> Result<Number, DecodeError> {
        reader.i32().map(Number)
    }
}

impl<'a> ForgottenTopic<'a> {
    /// Their numbers.
    pub fn partitions(&self) -> impl Iterator<Item = i32> + use<'a> {
        self.partitions.map(|number| number.0)
    }
}

/// What a fetch is answered with.
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    /// How long the client is asked to be silent, ms.
    pub throttle_ms: i32,
    /// Why the request as a whole failed, or 0.
    pub error_code: i16,
    /// The session that has begun or goes on, or 0.
    pub session_id: i32,
    /// What there is.
    pub topics: Vec<FetchedTopic>,
}

/// A topic's partitions.
#[derive(Clone, Debug)]
pub struct FetchedTopic {
    /// Its name.
    pub name: Rc<str>,
    /// The partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// What there is of a partition.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// Its number.
    pub partition: i32,
    /// 0, or why there is nothing.
    pub error_code: i16,
    /// First offset that cannot be read yet, or -1.
    pub high_watermark: i64,
    /// First offset of an open transaction, or the high watermark.
    pub last_stable_offset: i64,
    /// First retained offset, or -1.
    pub log_start: i64,
    /// Where the client would better read, or -1 (KIP-392).
    pub preferred_read_replica: i32,
    /// Whole batches.
    pub batches: Vec<Bytes>,
}

impl Default for FetchedPartition {
    fn default() -> FetchedPartition {
        FetchedPartition {
            partition: 0,
            error_code: 0,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start: -1,
            preferred_read_replica: NONE,
            batches: Vec::new(),
        }
    }
}

/// Where an answer goes: small parts are written side by side, batches are put in between as they
/// are, without a copy.
pub trait Sink {
    /// Where to write small parts.
    fn small(&mut self) -> &mut BytesMut;
    /// Puts a batch behind what was written.
    fn splice(&mut self, batch: Bytes);
}

/// A sink as something to write a message to.
struct Spliced<'a, S>(&'a mut S);

impl<S: Sink> Out for Spliced<'_, S> {
    fn put(&mut self, bytes: &[u8]) {
        self.0.small().extend_from_slice(bytes);
    }

    fn batch(&mut self, batch: &Bytes) {
        self.0.splice(batch.clone());
    }
}

/// Writes a Fetch response with its frame. The frame's length comes first, and what was put in between
/// cannot be changed afterwards, so the message is counted before it is written.
pub fn write_fetch_response(
    version: i16,
    correlation: i32,
    response: &FetchResponse,
    sink: &mut impl Sink,
) {
    let flexible = ApiKey::Fetch.is_flexible(version);
    let mut counted = Counted::default();
    let out = &mut counted;
    write_body(
        &mut Writer { out, flexible },
        version,
        correlation,
        response,
    );
    let length = u32::try_from(counted.0).expect("a response is shorter than 4 GiB");
    let out = &mut Spliced(sink);
    out.put(&length.to_be_bytes());
    write_body(
        &mut Writer { out, flexible },
        version,
        correlation,
        response,
    );
}

fn write_body<O: Out>(
    writer: &mut Writer<'_, O>,
    version: i16,
    correlation: i32,
    response: &FetchResponse,
) {
    writer.response_head(ApiKey::Fetch, version, correlation);
    writer.i32(response.throttle_ms);
    if version >= 7 {
        writer.i16(response.error_code);
        writer.i32(response.session_id);
    }
    writer.count(response.topics.len());
    for topic in &response.topics {
        writer.string(&topic.name);
        writer.count(topic.partitions.len());
        for partition in &topic.partitions {
            write_partition(writer, version, partition);
        }
        writer.no_tags();
    }
    writer.no_tags();
}

fn write_partition<O: Out>(writer: &mut Writer<'_, O>, version: i16, partition: &FetchedPartition) {
    writer.i32(partition.partition);
    writer.i16(partition.error_code);
    writer.i64(partition.high_watermark);
    writer.i64(partition.last_stable_offset);
    if version >= 5 {
        writer.i64(partition.log_start);
    }
    // Aborted transactions: there are none.
    writer.null_array();
    if version >= 11 {
        writer.i32(partition.preferred_read_replica);
    }
    writer.batches(&partition.batches);
    writer.no_tags();
}
