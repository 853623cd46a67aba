//! Kafka's protocol on a load's connections: Produce and Fetch in the versions of
//! [`millrace_wire::kafka::client`], the fetches outside of any session.
//!
//! A Kafka client has no say in which shard serves its connection, and an answer does not tell what it
//! answers: the kind of a request is in its correlation, so that the codec need not remember any.

use std::ops::Range;

use bytes::BytesMut;
use millrace_wire::kafka::client::{
    ApiVersionsAnswer, BEHIND_BATCH, FETCH_VERSION, FetchAnswer, FetchCall, PRODUCE_VERSION,
    ProduceAnswer, ProduceCall, write_api_versions_request,
};
use millrace_wire::kafka::control::ResponseError;
use millrace_wire::kafka::{ApiKey, DecodeError, FetchPartition};

use super::shapes::Shapes;
use super::{Answer, Extent, Fetch, Fetched, Greeting, Outcome, Produce, Protocol, ProtocolError};
use super::{PRODUCE_TIMEOUT_MS, TopicIndex, topic_index};

/// The name that this program gives itself.
pub(super) const CLIENT_ID: &str = "millrace-bench";

/// Where a request has its correlation, behind the frame's length, its key and its version.
const CORRELATION: Range<usize> = 8..12;

/// Bytes of an answer's beginning that tell its length.
const LENGTH_BYTES: usize = 4;

/// The correlation of a connection's first request.
const GREETING: u32 = u32::MAX;

/// Set in the correlation of a fetch.
const FETCH: u32 = 1 << 30;

/// Requests that may be under way on a connection. Kafka's brokers name no limit: they stop reading.
const MOST_IN_FLIGHT: u32 = 1_000;

/// In place of a number that a consumer does not tell.
const NONE: i32 = -1;

/// The codec.
pub struct Kafka {
    topics: Vec<String>,
    shapes: Shapes,
    scratch: BytesMut,
}

impl Kafka {
    /// A codec for these topics.
    #[must_use]
    pub fn new(topics: Vec<String>) -> Kafka {
        Kafka {
            topics,
            shapes: Shapes::default(),
            scratch: BytesMut::new(),
        }
    }

    fn fetched(&self, payload: &[u8]) -> Result<Outcome, DecodeError> {
        let answer = FetchAnswer::parse(payload)?;
        if answer.error_code != 0 {
            return Ok(Outcome::Failed(error_name(answer.error_code)));
        }
        let mut all = Vec::new();
        for topic in answer.topics() {
            let Some(index) = topic_index(&self.topics, topic.name) else {
                return Ok(Outcome::Failed(format!(
                    "an answer for '{}', unasked",
                    topic.name
                )));
            };
            for partition in topic.partitions() {
                let at = |place: usize| (LENGTH_BYTES + place) as u64;
                let failed = partition.error_code != 0;
                all.push(Fetched {
                    topic: index,
                    partition: partition.partition.cast_unsigned(),
                    high_watermark: partition.high_watermark,
                    batches: at(partition.batches.start)..at(partition.batches.end),
                    error: failed.then(|| error_name(partition.error_code)),
                });
            }
        }
        Ok(Outcome::Fetched(all))
    }
}

impl Protocol for Kafka {
    fn greeting(&mut self, _shard: u16, out: &mut Vec<u8>) {
        self.scratch.clear();
        write_api_versions_request(GREETING.cast_signed(), CLIENT_ID, &mut self.scratch);
        out.extend_from_slice(&self.scratch);
    }

    fn produce(&mut self, request: Produce, out: &mut Vec<u8>) -> &'static [u8] {
        let start = out.len();
        let topic = &self.topics[usize::from(request.place.topic)];
        self.shapes.copy(&request, out, || {
            let mut written = BytesMut::new();
            let call = ProduceCall {
                correlation: 0,
                client_id: CLIENT_ID,
                acks: request.acks.into(),
                timeout_ms: PRODUCE_TIMEOUT_MS,
                topic,
                partition: request.place.partition.cast_signed(),
                batch_bytes: request.batch_bytes,
            };
            call.write(&mut written);
            written.to_vec()
        });
        assert!(
            request.correlation < FETCH,
            "fewer than a billion under way"
        );
        out[start..][CORRELATION].copy_from_slice(&request.correlation.to_be_bytes());
        &BEHIND_BATCH
    }

    fn fetch(&mut self, request: Fetch<'_>, out: &mut Vec<u8>) {
        assert!(
            request.correlation < FETCH,
            "fewer than a billion under way"
        );
        let bounded = |bytes: u32| i32::try_from(bytes).unwrap_or(i32::MAX);
        let mut topics: Vec<(&str, Vec<FetchPartition>)> = Vec::new();
        let mut last: Option<TopicIndex> = None;
        for (place, offset) in request.positions {
            if last != Some(place.topic) {
                last = Some(place.topic);
                topics.push((&self.topics[usize::from(place.topic)], Vec::new()));
            }
            let (_, partitions) = topics.last_mut().expect("there is one now");
            partitions.push(FetchPartition {
                partition: place.partition.cast_signed(),
                current_leader_epoch: NONE,
                offset: *offset,
                last_fetched_epoch: NONE,
                log_start: NONE.into(),
                max_bytes: bounded(request.max_bytes),
            });
        }
        let call = FetchCall {
            correlation: (request.correlation | FETCH).cast_signed(),
            client_id: CLIENT_ID,
            max_wait_ms: i32::try_from(request.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: bounded(request.min_bytes),
            max_bytes: bounded(request.max_bytes),
        };
        self.scratch.clear();
        call.write(&topics, &mut self.scratch);
        out.extend_from_slice(&self.scratch);
    }

    /// The whole answer must be held, because what is said of each partition stands between batches.
    fn extent(&self, received: &[u8]) -> Result<Option<Extent>, ProtocolError> {
        let Some(length) = received.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        match usize::try_from(length) {
            // A correlation and something of a body.
            Ok(bytes) if bytes > 4 => Ok(Some(Extent {
                length: (LENGTH_BYTES + bytes) as u64,
                hold: LENGTH_BYTES + bytes,
            })),
            _ => Err(ProtocolError::Malformed(format!(
                "an answer of {length} bytes"
            ))),
        }
    }

    fn answer(&mut self, held: &[u8]) -> Result<Answer, ProtocolError> {
        let payload = &held[LENGTH_BYTES..];
        let correlation = payload
            .first_chunk()
            .map(|bytes| u32::from_be_bytes(*bytes));
        let correlation = correlation.unwrap_or_default();
        let outcome = match correlation {
            GREETING => greeted(payload),
            fetch if fetch & FETCH != 0 => self.fetched(payload),
            _ => produced(payload),
        };
        Ok(Answer {
            correlation: correlation & !FETCH,
            outcome: outcome.map_err(|error| ProtocolError::Malformed(error.to_string()))?,
        })
    }
}

fn greeted(payload: &[u8]) -> Result<Outcome, DecodeError> {
    let answer = ApiVersionsAnswer::parse(payload)?;
    if answer.error_code != 0 {
        return Ok(Outcome::Failed(error_name(answer.error_code)));
    }
    let needed = [
        (ApiKey::Produce, PRODUCE_VERSION),
        (ApiKey::Fetch, FETCH_VERSION),
    ];
    for (key, version) in needed {
        if !answer.serves(key, version) {
            let name = key.name();
            return Ok(Outcome::Failed(format!(
                "it does not serve {name} in version {version}, which this program speaks"
            )));
        }
    }
    Ok(Outcome::Greeted(Greeting {
        max_in_flight: MOST_IN_FLIGHT,
    }))
}

fn produced(payload: &[u8]) -> Result<Outcome, DecodeError> {
    let answer = ProduceAnswer::parse(payload)?;
    let mut partitions = answer.topics().flat_map(|topic| topic.partitions());
    let failed = partitions.find(|partition| partition.error_code != 0);
    Ok(match failed {
        None => Outcome::Produced,
        Some(partition) => Outcome::Failed(match partition.error_message {
            Some(message) => message.to_owned(),
            None => error_name(partition.error_code),
        }),
    })
}

/// What Kafka calls an error.
pub(super) fn error_name(code: i16) -> String {
    ResponseError::try_from_code(code).map_or_else(String::new, |error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        [&length.to_be_bytes()[..], payload].concat()
    }

    #[test]
    fn an_answer_is_told_by_its_correlation() {
        let mut codec = Kafka::new(vec!["t".to_owned()]);
        // Correlation, no tags, no topics, no throttling, no tags.
        let produced = framed(&[0, 0, 0, 5, 0, 1, 0, 0, 0, 0, 0]);
        let extent = codec.extent(&produced).unwrap().unwrap();
        assert_eq!((extent.length, extent.hold), (15, 15));
        let answer = codec.answer(&produced).unwrap();
        assert_eq!(answer.correlation, 5);
        assert!(matches!(answer.outcome, Outcome::Produced), "{answer:?}");
        // Correlation, no tags, no throttling, an error, no session, no topics, no tags.
        let fetched = framed(&[0x40, 0, 0, 5, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 1, 0]);
        let answer = codec.answer(&fetched).unwrap();
        assert_eq!(answer.correlation, 5);
        let Outcome::Failed(why) = answer.outcome else {
            panic!("{answer:?}");
        };
        assert_eq!(why, "NotLeaderOrFollower");
    }

    #[test]
    fn a_broker_that_serves_other_versions_is_refused() {
        let mut codec = Kafka::new(Vec::new());
        let apis = |produce: u8| {
            // Correlation, no error, two APIs: Produce up to so much, Fetch up to 12.
            let head = [255, 255, 255, 255, 0, 0, 0, 0, 0, 2];
            let apis = [0, 0, 0, 3, 0, produce, 0, 1, 0, 4, 0, 12];
            framed(&[&head[..], &apis].concat())
        };
        let good = codec.answer(&apis(9)).unwrap();
        assert!(matches!(good.outcome, Outcome::Greeted(_)), "{good:?}");
        let old = codec.answer(&apis(8)).unwrap();
        let Outcome::Failed(why) = old.outcome else {
            panic!("{old:?}");
        };
        assert!(why.contains("Produce in version 9"), "{why}");
    }

    #[test]
    fn lengths_that_cannot_be_are_told() {
        let codec = Kafka::new(Vec::new());
        assert_eq!(codec.extent(&[0, 0, 1]).unwrap(), None);
        assert!(codec.extent(&[255; 4]).is_err());
        assert!(codec.extent(&[0, 0, 0, 4]).is_err());
    }
}
