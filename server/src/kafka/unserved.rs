//! Requests whose time has not come: consumer groups, producer ids, transactions, authentication. None
//! is advertised; a client that asks all the same gets an answer that says so in the request's own
//! form, so that it falls back or fails clearly and does not wait.

use bytes::BytesMut;
use millrace_wire::kafka::ApiKey;
use millrace_wire::kafka::control::ResponseKind;
use millrace_wire::kafka::control::messages as m;
use millrace_wire::kafka::control::write_response;

use super::session::Asked;
use crate::session::outbox::Outgoing;

const UNSUPPORTED_VERSION: i16 = 35;
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const ILLEGAL_SASL_STATE: i16 = 34;

/// The answer to a request that is not served, if its kind and version have a form that says so.
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
        ApiKey::FindCoordinator => m::FindCoordinatorResponse::default()
            .with_error_code(code)
            .into(),
        ApiKey::JoinGroup => m::JoinGroupResponse::default().with_error_code(code).into(),
        ApiKey::SyncGroup => m::SyncGroupResponse::default().with_error_code(code).into(),
        ApiKey::Heartbeat => m::HeartbeatResponse::default().with_error_code(code).into(),
        ApiKey::LeaveGroup => m::LeaveGroupResponse::default()
            .with_error_code(code)
            .into(),
        // From version 8 on there is an error for each group only.
        ApiKey::OffsetFetch if version < 8 => m::OffsetFetchResponse::default()
            .with_error_code(code)
            .into(),
        ApiKey::ListGroups => m::ListGroupsResponse::default()
            .with_error_code(code)
            .into(),
        ApiKey::InitProducerId => m::InitProducerIdResponse::default()
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
