//! What a run asks of the broker beside its load, in Millrace's own protocol over a blocking
//! socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_wire::frame::{FRAME_HEADER_BYTES, Format, FrameHeader, MAX_FRAME_BYTES, PREAMBLE};
use millrace_wire::ids::{ProducerEpoch, ProducerId};
use millrace_wire::native::messages::*;
use millrace_wire::native::{PROTOCOL_VERSION, Request, Response, decode_response, encode_request};

use super::native::places_of;
use super::{
    Admin, GREETING_PATIENCE, Place, ProducerIdentity, ProtocolError, Stage, TopicIndex, TopicSpec,
    be_patient, broken, connect,
};

/// What asks for a partition's end.
const LATEST: i64 = -1;

/// A connection of our own kind.
pub struct NativeAdmin {
    address: SocketAddr,
    stream: TcpStream,
    broker_version: String,
}

impl NativeAdmin {
    /// Connects and greets.
    pub fn connect(address: SocketAddr) -> Result<NativeAdmin, ProtocolError> {
        NativeAdmin::connect_within(address, GREETING_PATIENCE)
    }

    /// The same with a broker that may take only so long for its greeting.
    pub(super) fn connect_within(
        address: SocketAddr,
        patience: Duration,
    ) -> Result<NativeAdmin, ProtocolError> {
        let stream = connect(address, patience)?;
        let mut admin = NativeAdmin {
            address,
            stream,
            broker_version: String::new(),
        };
        admin.send(&PREAMBLE)?;
        let handshake = HandshakeRequest {
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            client_id: "millrace-bench".to_owned(),
            client_software: concat!("millrace-bench ", env!("CARGO_PKG_VERSION")).to_owned(),
            ..HandshakeRequest::default()
        };
        match admin.ask(handshake.into())? {
            Response::Handshake(hello) => {
                refused("serve this program", hello.status)?;
                be_patient(address, &admin.stream)?;
                admin.broker_version = hello.broker_version;
                Ok(admin)
            }
            other => Err(unexpected(&other)),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let sent = self.stream.write_all(bytes);
        sent.map_err(|error| broken(self.address, error))
    }

    fn ask(&mut self, request: Request) -> Result<Response, ProtocolError> {
        let mut frame = BytesMut::new();
        encode_request(Format::Rkyv, 1, &request, &mut frame, 0)
            .map_err(|error| ProtocolError::Malformed(error.to_string()))?;
        self.send(&frame)?;
        let mut header = [0; FRAME_HEADER_BYTES];
        let read = self.stream.read_exact(&mut header);
        read.map_err(|error| broken(self.address, error))?;
        let header = FrameHeader::parse(&header, MAX_FRAME_BYTES)
            .map_err(|error| ProtocolError::Malformed(error.to_string()))?;
        let mut payload = vec![0; header.payload_bytes()];
        let read = self.stream.read_exact(&mut payload);
        read.map_err(|error| broken(self.address, error))?;
        let (response, _) = decode_response(header.format, Bytes::from(payload))
            .map_err(|error| ProtocolError::Malformed(error.to_string()))?;
        match response {
            Response::Error(status) => {
                refused("answer", status)?;
                Err(ProtocolError::Malformed("an error that is none".to_owned()))
            }
            response => Ok(response),
        }
    }

    fn stats(&mut self) -> Result<StatsResponse, ProtocolError> {
        match self.ask(StatsRequest {}.into())? {
            Response::Stats(stats) => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }
}

impl Admin for NativeAdmin {
    fn broker_version(&self) -> String {
        format!("millrace {}", self.broker_version)
    }

    fn create_topic(&mut self, topic: &TopicSpec) -> Result<(), ProtocolError> {
        let configs = topic.configs.iter().map(|(name, value)| ConfigEntry {
            name: name.clone(),
            value: value.clone(),
            is_set: true,
        });
        let request = CreateTopicRequest {
            name: topic.name.clone(),
            partitions: topic.partitions,
            configs: configs.collect(),
            validate_only: false,
        };
        match self.ask(request.into())? {
            Response::CreateTopic(made) => {
                refused(&format!("make the topic '{}'", topic.name), made.status)
            }
            other => Err(unexpected(&other)),
        }
    }

    fn delete_topic(&mut self, name: &str) -> Result<(), ProtocolError> {
        let request = DeleteTopicRequest {
            name: name.to_owned(),
        };
        match self.ask(request.into())? {
            Response::DeleteTopic(gone) => {
                refused(&format!("delete the topic '{name}'"), gone.status)
            }
            other => Err(unexpected(&other)),
        }
    }

    fn places(&mut self, index: TopicIndex, name: &str) -> Result<Vec<Place>, ProtocolError> {
        let request = MetadataRequest {
            topics: Some(vec![name.to_owned()]),
        };
        match self.ask(request.into())? {
            Response::Metadata(mut metadata) => match metadata.topics.pop() {
                Some(topic) => {
                    let places = places_of(index, &topic);
                    refused(&format!("tell about the topic '{name}'"), topic.status)?;
                    Ok(places)
                }
                None => Err(ProtocolError::Malformed("no topic in it".to_owned())),
            },
            other => Err(unexpected(&other)),
        }
    }

    fn ends(&mut self, index: TopicIndex, name: &str) -> Result<Vec<(Place, i64)>, ProtocolError> {
        let places = self.places(index, name)?;
        let latest = |place: &Place| ListOffsetsPartition {
            partition: place.partition,
            timestamp: LATEST,
        };
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: name.to_owned(),
                partitions: places.iter().map(latest).collect(),
            }],
        };
        let Response::ListOffsets(answer) = self.ask(request.into())? else {
            return Err(ProtocolError::Malformed("no offsets in it".to_owned()));
        };
        let results = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let ends = places.into_iter().zip(results).map(|(place, result)| {
            refused(&format!("tell the end of '{name}'"), result.status)?;
            Ok((place, result.offset))
        });
        ends.collect()
    }

    fn new_producer(&mut self) -> Result<ProducerIdentity, ProtocolError> {
        match self.ask(InitProducerRequest {}.into())? {
            Response::InitProducer(given) => {
                refused("give a producer id", given.status)?;
                Ok(ProducerIdentity {
                    id: ProducerId(given.producer_id),
                    epoch: ProducerEpoch(given.producer_epoch),
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    fn stages(&mut self) -> Result<Vec<Stage>, ProtocolError> {
        let shards = self.stats()?.shards.into_iter();
        let stages = shards.flat_map(|shard| {
            let number = shard.shard;
            shard.stages.into_iter().map(move |stage| Stage {
                shard: number,
                name: stage.stage,
                buckets: stage
                    .buckets
                    .iter()
                    .map(|bucket| (bucket.up_to_ns, bucket.count))
                    .collect(),
            })
        });
        Ok(stages.collect())
    }

    fn counters(&mut self) -> Result<Vec<(String, u64)>, ProtocolError> {
        let mut sums: Vec<(String, u64)> = Vec::new();
        for counter in self.stats()?.shards.into_iter().flat_map(|s| s.counters) {
            match sums.iter_mut().find(|(name, _)| *name == counter.name) {
                Some((_, sum)) => *sum = sum.wrapping_add(counter.value),
                None => sums.push((counter.name, counter.value)),
            }
        }
        Ok(sums)
    }
}

fn refused(what: &str, status: Status) -> Result<(), ProtocolError> {
    if status.code == 0 {
        return Ok(());
    }
    Err(ProtocolError::Refused {
        what: what.to_owned(),
        message: status.message,
    })
}

fn unexpected(response: &Response) -> ProtocolError {
    ProtocolError::Malformed(format!("an answer of kind {:?}", response.kind()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_does_not_answer_is_no_broker() {
        // Connections are taken by the kernel, and nobody reads them.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connected = NativeAdmin::connect_within(address, Duration::from_millis(1));
        let error = connected.err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("does not answer; is that a broker")));
    }
}
