//! Requests whose time has not come: transactions, authentication, KIP-848's groups. None
//! is advertised; a client that asks all the same gets an answer that says so in the request's own
//! form, so that it falls back or fails clearly and does not wait. Where that form has an error for the
//! whole request, the request is not even read; where it has one for each item, it is, and each item is
//! told.

use bytes::BytesMut;
use millrace_shard::env::Env;
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::messages as m;
use millrace_wire::kafka::control::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use millrace_wire::kafka::control::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use millrace_wire::kafka::control::{RequestKind, ResponseKind, write_response};

use super::session::{Asked, Session};
use crate::session::outbox::Outgoing;

const UNSUPPORTED_VERSION: i16 = 35;
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const ILLEGAL_SASL_STATE: i16 = 34;

/// The answer to a request that is neither served nor read, if its kind and version have a form that
/// says so.
pub(super) fn answer(asked: Asked) -> Option<Outgoing> {
    let code = UNSUPPORTED_VERSION;
    let mut version = asked.version;
    let response: ResponseKind = match asked.key {
        ApiKey::ApiVersions => {
            // In a form that every client reads, whatever it asked for (KIP-511).
            version = 0;
            let (key, served) = (ApiKey::ApiVersions, ApiKey::ApiVersions.versions()?);
            let own = m::api_versions_response::ApiVersion::default()
                .with_api_key(key.number())
                .with_min_version(served.min)
                .with_max_version(served.max);
            m::ApiVersionsResponse::default()
                .with_error_code(code)
                .with_api_keys(vec![own])
                .into()
        }
        // Before version 4 there is an error for each partition only.
        ApiKey::AddPartitionsToTxn if version >= 4 => m::AddPartitionsToTxnResponse::default()
            .with_error_code(code)
            .into(),
        ApiKey::AddOffsetsToTxn => m::AddOffsetsToTxnResponse::default()
            .with_error_code(code)
            .into(),
        ApiKey::EndTxn => m::EndTxnResponse::default().with_error_code(code).into(),
        ApiKey::ConsumerGroupHeartbeat => m::ConsumerGroupHeartbeatResponse::default()
            .with_error_code(code)
            .into(),
        ApiKey::SaslHandshake => m::SaslHandshakeResponse::default()
            .with_error_code(UNSUPPORTED_SASL_MECHANISM)
            .into(),
        ApiKey::SaslAuthenticate => m::SaslAuthenticateResponse::default()
            .with_error_code(ILLEGAL_SASL_STATE)
            .into(),
        ApiKey::DescribeAcls => m::DescribeAclsResponse::default()
            .with_error_code(code)
            .into(),
        _ => return None,
    };
    let mut bytes = BytesMut::new();
    write_response(asked.key, version, asked.correlation, &response, &mut bytes).ok()?;
    let mut answer = Outgoing::default();
    answer.splice(bytes.freeze());
    Some(answer)
}

impl<E: Env> Session<E> {
    /// The answer to a request that was read only to be refused, item by item.
    pub(super) async fn decline(&self, request: RequestKind) -> ResponseKind {
        match request {
            RequestKind::TxnOffsetCommit(request) => {
                self.decline_commit_in_transaction(request).await.into()
            }
            RequestKind::AddPartitionsToTxn(request) => {
                self.decline_partitions_in_transaction(request).await.into()
            }
            other => unreachable!("{other:?} is not among the requests that are read"),
        }
    }

    async fn decline_commit_in_transaction(
        &self,
        request: m::TxnOffsetCommitRequest,
    ) -> m::TxnOffsetCommitResponse {
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let partitions = topic.partitions.iter().map(|partition| {
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(UNSUPPORTED_VERSION)
            });
            let declined = TxnOffsetCommitResponseTopic::default()
                .with_partitions(self.unhurried(partitions).await)
                .with_name(topic.name);
            topics.push(declined);
        }
        m::TxnOffsetCommitResponse::default().with_topics(topics)
    }

    async fn decline_partitions_in_transaction(
        &self,
        request: m::AddPartitionsToTxnRequest,
    ) -> m::AddPartitionsToTxnResponse {
        let mut topics = Vec::with_capacity(request.v3_and_below_topics.len());
        for topic in request.v3_and_below_topics {
            let partitions = topic.partitions.iter().map(|number| {
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(*number)
                    .with_partition_error_code(UNSUPPORTED_VERSION)
            });
            let declined = AddPartitionsToTxnTopicResult::default()
                .with_results_by_partition(self.unhurried(partitions).await)
                .with_name(topic.name);
            topics.push(declined);
        }
        m::AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics)
    }

    /// Collects items and gives way to other requests in between: there may be a request's worth.
    async fn unhurried<T>(&self, items: impl Iterator<Item = T>) -> Vec<T> {
        let mut collected = Vec::new();
        for item in items {
            collected.push(item);
            self.broker.env.yield_now().await;
        }
        self.broker.env.yield_now().await;
        collected
    }
}
