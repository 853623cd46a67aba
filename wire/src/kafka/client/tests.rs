//! What a client writes against the broker's readers, and what it reads against the library's writers.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{self, ResponseKind, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::super::control::write_response;
use super::super::{FetchRequest, ProduceRequest, RequestHead};
use super::*;

fn name(text: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(text))
}

/// The payload of the one frame that is here.
fn payload(frame: BytesMut) -> Bytes {
    let frame = frame.freeze();
    let length = u32::from_be_bytes(frame[..4].try_into().expect("four"));
    assert_eq!(length as usize, frame.len() - 4);
    frame.slice(4..)
}

fn answer(key: ApiKey, version: i16, response: &ResponseKind) -> Bytes {
    let mut out = BytesMut::new();
    write_response(key, version, 9, response, &mut out).expect("the version can say it");
    payload(out)
}

#[test]
fn a_produce_request_is_read_by_the_broker_as_it_was_written() {
    let batch = b"a batch of which only the length matters here, longer than 127 bytes in all: \
        so that its length needs more than one byte of a varint, as nearly every batch's does";
    let call = ProduceCall {
        correlation: 7,
        client_id: "tests",
        acks: -1,
        timeout_ms: 5,
        topic: "t",
        partition: 3,
        batch_bytes: batch.len(),
    };
    let mut out = BytesMut::new();
    call.write(&mut out);
    out.extend_from_slice(batch);
    out.extend_from_slice(&BEHIND_BATCH);
    let payload = payload(out);
    let head = RequestHead::parse(&payload).expect("a head");
    assert_eq!((head.api_key, head.api_version), (0, PRODUCE_VERSION));
    assert_eq!((head.correlation, head.client_id), (7, Some("tests")));
    let body = &payload[head.body_at..];
    let read = ProduceRequest::parse(body, PRODUCE_VERSION).expect("a body");
    assert_eq!((read.acks(), read.timeout_ms()), (-1, 5));
    assert_eq!(read.transactional_id(), None);
    let topics: Vec<_> = read.topics().collect();
    assert_eq!((topics.len(), topics[0].name), (1, "t"));
    let partitions: Vec<_> = topics[0].partitions().collect();
    assert_eq!((partitions.len(), partitions[0].index), (1, 3));
    assert_eq!(&body[partitions[0].records.clone()], batch);
    assert_eq!(partitions[0].records.end + BEHIND_BATCH.len(), body.len());
}

#[test]
fn a_fetch_request_is_read_by_the_broker_as_it_was_written() {
    let wanted = |partition| FetchPartition {
        partition,
        current_leader_epoch: 4,
        offset: 5,
        last_fetched_epoch: -1,
        log_start: -1,
        max_bytes: 6,
    };
    let call = FetchCall {
        correlation: 7,
        client_id: "tests",
        max_wait_ms: 1,
        min_bytes: 2,
        max_bytes: 3,
    };
    let topics = [("t", vec![wanted(0), wanted(1)]), ("u", vec![wanted(2)])];
    let mut out = BytesMut::new();
    call.write(&topics, &mut out);
    let payload = payload(out);
    let head = RequestHead::parse(&payload).expect("a head");
    assert_eq!((head.api_key, head.api_version), (1, FETCH_VERSION));
    let body = &payload[head.body_at..];
    let read = FetchRequest::parse(body, FETCH_VERSION).expect("a body");
    assert_eq!(
        (read.max_wait_ms, read.min_bytes, read.max_bytes),
        (1, 2, 3)
    );
    assert_eq!((read.session_id, read.session_epoch), (0, -1));
    assert!(!read.read_committed && read.rack.is_none());
    assert_eq!(read.forgotten().count(), 0);
    let seen: Vec<_> = read
        .topics()
        .map(|topic| (topic.name, topic.partitions().collect::<Vec<_>>()))
        .collect();
    assert_eq!(seen, topics);
    // Nothing is missing and nothing is left.
    assert!(FetchRequest::parse(&body[..body.len() - 1], FETCH_VERSION).is_err());
}

#[test]
fn a_produce_answer_is_read_as_the_library_wrote_it() {
    let partition = |index, error_code| {
        let record = BatchIndexAndErrorMessage::default()
            .with_batch_index(1)
            .with_batch_index_error_message(Some(StrBytes::from_static_str("bad")));
        PartitionProduceResponse::default()
            .with_index(index)
            .with_error_code(error_code)
            .with_base_offset(5)
            .with_log_append_time_ms(6)
            .with_log_start_offset(7)
            .with_record_errors(vec![record; usize::from(error_code != 0)])
            .with_error_message((error_code != 0).then(|| StrBytes::from_static_str("no")))
    };
    let topic = TopicProduceResponse::default()
        .with_name(name("t"))
        .with_partition_responses(vec![partition(0, 0), partition(1, 3)]);
    let response = messages::ProduceResponse::default()
        .with_responses(vec![topic])
        .with_throttle_time_ms(8);
    let payload = answer(ApiKey::Produce, PRODUCE_VERSION, &response.into());
    let read = ProduceAnswer::parse(&payload).expect("it can be read");
    assert_eq!((read.correlation, read.throttle_ms), (9, 8));
    let topics: Vec<_> = read.topics().collect();
    assert_eq!((topics.len(), topics[0].name), (1, "t"));
    let expected = |index, error_code, error_message| ProducedPartition {
        index,
        error_code,
        base_offset: 5,
        append_time_ms: 6,
        log_start: 7,
        error_message,
    };
    let partitions: Vec<_> = topics[0].partitions().collect();
    assert_eq!(
        partitions,
        [expected(0, 0, None), expected(1, 3, Some("no"))]
    );
    for end in 0..payload.len() {
        assert!(ProduceAnswer::parse(&payload[..end]).is_err());
    }
}

#[test]
fn a_fetch_answer_is_read_as_the_library_wrote_it() {
    let partition = |index, records: &'static [u8]| {
        PartitionData::default()
            .with_partition_index(index)
            .with_error_code(1)
            .with_high_watermark(2)
            .with_last_stable_offset(3)
            .with_log_start_offset(4)
            .with_aborted_transactions(Some(vec![AbortedTransaction::default(); 2]))
            .with_records(Some(Bytes::from_static(records)))
    };
    let topic = FetchableTopicResponse::default()
        .with_topic(name("t"))
        .with_partitions(vec![
            partition(0, b"some"),
            partition(1, b""),
            partition(2, b"more"),
        ]);
    let response = messages::FetchResponse::default()
        .with_responses(vec![topic])
        .with_error_code(6);
    let payload = answer(ApiKey::Fetch, FETCH_VERSION, &response.into());
    let read = FetchAnswer::parse(&payload).expect("it can be read");
    assert_eq!((read.correlation, read.error_code), (9, 6));
    let partitions: Vec<_> = read.topics().flat_map(|topic| topic.partitions()).collect();
    let records: Vec<_> = partitions
        .iter()
        .map(|partition| &payload[partition.batches.clone()])
        .collect();
    assert_eq!(records, [&b"some"[..], b"", b"more"]);
    for (index, partition) in (0..).zip(&partitions) {
        assert_eq!((partition.partition, partition.error_code), (index, 1));
        assert_eq!((partition.high_watermark, partition.log_start), (2, 4));
    }
    for end in 0..payload.len() {
        assert!(FetchAnswer::parse(&payload[..end]).is_err());
    }
}

#[test]
fn what_a_broker_serves_is_read_as_the_library_wrote_it() {
    let mut out = BytesMut::new();
    write_api_versions_request(-1, "tests", &mut out);
    let request = payload(out);
    let head = RequestHead::parse(&request).expect("a head");
    assert_eq!((head.api_key, head.api_version), (18, 0));
    assert_eq!((head.correlation, head.body_at), (-1, request.len()));
    let api = |key: ApiKey, max| {
        ApiVersion::default()
            .with_api_key(key.number())
            .with_min_version(3)
            .with_max_version(max)
    };
    let response = messages::ApiVersionsResponse::default()
        .with_api_keys(vec![api(ApiKey::Produce, 9), api(ApiKey::Fetch, 11)]);
    let payload = answer(ApiKey::ApiVersions, 0, &response.into());
    let read = ApiVersionsAnswer::parse(&payload).expect("it can be read");
    assert_eq!((read.correlation, read.error_code), (9, 0));
    assert!(read.serves(ApiKey::Produce, 9) && read.serves(ApiKey::Produce, 3));
    assert!(!read.serves(ApiKey::Fetch, 12) && !read.serves(ApiKey::Fetch, 2));
    assert!(!read.serves(ApiKey::Metadata, 4));
}
