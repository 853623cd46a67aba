//! A Kafka client for tests: one blocking connection, requests and answers by hand.

#![allow(dead_code, reason = "each test uses a part of it")]

pub mod admin;
pub mod groups;
pub mod samples;
pub mod stream;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_wire::batch::{BatchBuilder, Compression};
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::messages::produce_request::{
    PartitionProduceData, TopicProduceData,
};
use millrace_wire::kafka::control::messages::{ProduceRequest, TopicName};
use millrace_wire::kafka::control::{
    RequestKind, ResponseKind, StrBytes, read_response, write_request,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct KafkaClient {
    stream: TcpStream,
    next: i32,
}

impl KafkaClient {
    pub fn connect(address: SocketAddr) -> KafkaClient {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        KafkaClient { stream, next: 1 }
    }

    /// Sends a request; its number.
    pub fn send(&mut self, key: ApiKey, version: i16, request: impl Into<RequestKind>) -> i32 {
        let number = self.next;
        self.next += 1;
        let mut out = BytesMut::new();
        write_request(key, version, number, "test", &request.into(), &mut out).expect("it fits");
        self.write(&out).expect("the broker reads");
        number
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next answer's bytes, without their length.
    pub fn receive_bytes(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(payload.into())
    }

    /// The next answer, and the number of what it answers.
    #[track_caller]
    pub fn receive(&mut self, key: ApiKey, version: i16) -> (i32, ResponseKind) {
        let payload = self.receive_bytes();
        let payload = payload.unwrap_or_else(|error| panic!("{key:?} {version}: {error}"));
        read_response(key, version, payload).unwrap_or_else(|e| panic!("{key:?} {version}: {e}"))
    }

    #[track_caller]
    pub fn ask(
        &mut self,
        key: ApiKey,
        version: i16,
        request: impl Into<RequestKind>,
    ) -> ResponseKind {
        let sent = self.send(key, version, request);
        let (number, response) = self.receive(key, version);
        assert_eq!(number, sent, "{key:?} {version}");
        response
    }

    /// Says that there are no more requests; what comes until the broker closes.
    pub fn finish(&mut self) -> io::Result<Vec<u8>> {
        self.stream.shutdown(Shutdown::Write)?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Whether the broker closes the connection instead of answering.
    pub fn is_closed(&mut self) -> bool {
        self.receive_bytes().is_err()
    }
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn batch(values: &[&str], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for value in values {
        let value = Some(value.as_bytes());
        builder.push(1_000, None, value, &[]).expect("it fits");
    }
    builder.build().expect("a batch").freeze()
}

pub fn produce(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic])
}
