//! Millrace's own protocol on a load's connections, in its rkyv form.

use bytes::BytesMut;
use millrace_wire::frame::{
    FRAME_HEADER_BYTES, Format, FrameHeader, MAX_FRAME_BYTES, PAYLOAD_HEADER_BYTES, PREAMBLE,
};
use millrace_wire::native::messages::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, HandshakeRequest, ProducePartition,
    ProduceRequest, ProduceResponse, ProduceTopic,
};
use millrace_wire::native::{
    PROTOCOL_VERSION, Request, Response, decode_response_head, encode_request,
};

use super::native_groups;
use super::shapes::Shapes;
use super::{Answer, Extent, Fetch, Fetched, Greeting, Outcome, Place, Produce, Protocol};
use super::{PRODUCE_TIMEOUT_MS, ProtocolError, TopicIndex, topic_index};

/// Where a frame has its correlation, which is all that differs between two requests alike.
const CORRELATION: std::ops::Range<usize> = 5..9;

/// The correlation of a handshake: no request has it.
pub(super) const GREETING: u32 = u32::MAX;

/// The codec.
pub struct Native {
    topics: Vec<String>,
    shapes: Shapes,
    scratch: BytesMut,
}

impl Native {
    /// A codec for these topics.
    #[must_use]
    pub fn new(topics: Vec<String>) -> Native {
        Native {
            topics,
            shapes: Shapes::default(),
            scratch: BytesMut::new(),
        }
    }

    fn add(&mut self, correlation: u32, request: &Request, out: &mut Vec<u8>) {
        self.scratch.clear();
        encode(correlation, request, &mut self.scratch, 0);
        out.extend_from_slice(&self.scratch);
    }

    fn produce_request(topics: &[String], request: &Produce) -> Request {
        let partition = ProducePartition {
            partition: request.place.partition,
            batch_bytes: u32::try_from(request.batch_bytes).expect("a batch fits a frame"),
        };
        let topic = ProduceTopic {
            name: topics[usize::from(request.place.topic)].clone(),
            partitions: vec![partition],
        };
        Request::Produce(ProduceRequest {
            acks: request.acks,
            timeout_ms: PRODUCE_TIMEOUT_MS.cast_unsigned(),
            topics: vec![topic],
        })
    }

    fn fetched(&self, response: &FetchResponse, mut start: u64) -> Outcome {
        let mut all = Vec::new();
        for topic in &response.topics {
            let Some(index) = topic_index(&self.topics, &topic.name) else {
                return Outcome::Failed(format!("an answer for '{}', unasked", topic.name));
            };
            for partition in &topic.partitions {
                let end = start + u64::from(partition.records_bytes);
                let failed = partition.status.code != 0;
                all.push(Fetched {
                    topic: index,
                    partition: partition.partition,
                    high_watermark: partition.high_watermark,
                    batches: start..end,
                    error: failed.then(|| partition.status.message.clone()),
                });
                start = end;
            }
        }
        Outcome::Fetched(all)
    }
}

impl Protocol for Native {
    fn greeting(&mut self, shard: u16, out: &mut Vec<u8>) {
        let handshake = HandshakeRequest {
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            client_id: "millrace-bench".to_owned(),
            client_software: concat!("millrace-bench ", env!("CARGO_PKG_VERSION")).to_owned(),
            wanted_shard: Some(shard),
            wanted_partition: None,
        };
        out.extend_from_slice(&PREAMBLE);
        self.add(GREETING, &Request::Handshake(handshake), out);
    }

    fn produce(&mut self, request: Produce, out: &mut Vec<u8>) -> &'static [u8] {
        let start = out.len();
        let topics = &self.topics;
        self.shapes.copy(&request, out, || {
            let mut written = BytesMut::new();
            let message = Native::produce_request(topics, &request);
            encode(0, &message, &mut written, request.batch_bytes);
            written.to_vec()
        });
        let correlation = &mut out[start..][CORRELATION];
        correlation.copy_from_slice(&request.correlation.to_be_bytes());
        &[]
    }

    fn fetch(&mut self, request: Fetch<'_>, out: &mut Vec<u8>) {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (place, offset) in request.positions {
            let name = &self.topics[usize::from(place.topic)];
            if topics.last().is_none_or(|last| last.name != *name) {
                topics.push(FetchTopic {
                    name: name.clone(),
                    partitions: Vec::new(),
                });
            }
            let topic = topics.last_mut().expect("there is one now");
            topic.partitions.push(FetchPartition {
                partition: place.partition,
                offset: *offset,
                max_bytes: request.max_bytes,
            });
        }
        let message = Request::Fetch(FetchRequest {
            max_wait_ms: u32::try_from(request.max_wait.as_millis()).unwrap_or(u32::MAX),
            min_bytes: request.min_bytes,
            max_bytes: request.max_bytes,
            topics,
        });
        self.add(request.correlation, &message, out);
    }

    fn extent(&self, received: &[u8]) -> Result<Option<Extent>, ProtocolError> {
        const START: usize = FRAME_HEADER_BYTES + PAYLOAD_HEADER_BYTES;
        let Some(start) = received.first_chunk::<START>() else {
            return Ok(None);
        };
        let header = frame_header(start)?;
        let [.., b0, b1, b2, b3] = *start;
        let body = u32::from_be_bytes([b0, b1, b2, b3]) as usize;
        let length = FRAME_HEADER_BYTES + header.payload_bytes();
        if START + body > length {
            let text = format!("a body of {body} bytes in a frame of {length}");
            return Err(ProtocolError::Malformed(text));
        }
        Ok(Some(Extent {
            length: length as u64,
            hold: START + body,
        }))
    }

    fn answer(&mut self, held: &[u8]) -> Result<Answer, ProtocolError> {
        let header = frame_header(held)?;
        let mut payload = &held[FRAME_HEADER_BYTES..];
        let response = decode_response_head(header.format, &mut payload)
            .map_err(|error| ProtocolError::Malformed(error.to_string()))?;
        let outcome = match response {
            Response::Produce(response) => produced(&response),
            Response::Fetch(response) => self.fetched(&response, held.len() as u64),
            Response::Handshake(response) if response.status.code == 0 => {
                Outcome::Greeted(Greeting {
                    max_in_flight: response.max_in_flight,
                })
            }
            Response::Handshake(response) => Outcome::Failed(response.status.message),
            Response::Error(status) => Outcome::Failed(status.message),
            other => native_groups::outcome(other),
        };
        Ok(Answer {
            correlation: header.correlation,
            outcome,
        })
    }
}

pub(super) fn encode(correlation: u32, request: &Request, out: &mut BytesMut, attached: usize) {
    encode_request(Format::Rkyv, correlation, request, out, attached)
        .expect("a load's requests are within the protocol's limits");
}

fn frame_header(bytes: &[u8]) -> Result<FrameHeader, ProtocolError> {
    let header = bytes
        .first_chunk::<FRAME_HEADER_BYTES>()
        .ok_or_else(|| ProtocolError::Malformed("a frame cut short".to_owned()))?;
    FrameHeader::parse(header, MAX_FRAME_BYTES)
        .map_err(|error| ProtocolError::Malformed(error.to_string()))
}

fn produced(response: &ProduceResponse) -> Outcome {
    let results = response.topics.iter().flat_map(|topic| &topic.partitions);
    let failed = results.into_iter().find(|result| result.status.code != 0);
    match failed {
        None => Outcome::Produced,
        Some(result) => Outcome::Failed(result.status.message.clone()),
    }
}

/// The partitions of a topic, from its metadata.
pub(super) fn places_of(
    index: TopicIndex,
    topic: &millrace_wire::native::messages::TopicMetadata,
) -> Vec<Place> {
    let partitions = topic.partitions.iter();
    partitions
        .map(|partition| Place {
            topic: index,
            partition: partition.partition,
            shard: partition.leader_shard,
        })
        .collect()
}
