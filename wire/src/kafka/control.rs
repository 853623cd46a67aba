//! Everything but Produce and Fetch, as owned messages of the crate `kafka-protocol`: seldom asked, so
//! that a library does. It is shown bytes from a network only after `guard` has gone over them.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::Encodable;

pub use kafka_protocol::error::ResponseError;
pub use kafka_protocol::messages::{self, RequestKind, ResponseKind};
pub use kafka_protocol::protocol::StrBytes;
pub use uuid::Uuid;

use super::api::ApiKey;
use super::guard;
use super::read::{DecodeError, Reader};

/// The longest control request. Its owned form takes a multiple of its bytes.
pub const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// Why a message cannot be written: its version has no room for what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} version {version} cannot say this: {reason}")]
pub struct EncodeError {
    /// The message.
    pub name: &'static str,
    /// The version.
    pub version: i16,
    /// What the library said.
    pub reason: String,
}

/// Reads the body of a control request.
pub fn decode_request(
    key: ApiKey,
    version: i16,
    mut body: Bytes,
) -> Result<RequestKind, DecodeError> {
    let name = key.name();
    if !key.is_read(version) {
        return Err(DecodeError::Version { name, version });
    }
    if body.len() > MAX_REQUEST_BYTES {
        return Err(DecodeError::Length {
            what: "a control request",
            at: 0,
            length: i64::try_from(body.len()).unwrap_or(i64::MAX),
        });
    }
    guard::check(key, version, &body)?;
    RequestKind::decode(library_key(key), &mut body, version).map_err(refused)
}

/// Writes a response with its frame.
pub fn write_response(
    key: ApiKey,
    version: i16,
    correlation: i32,
    response: &ResponseKind,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let begin = out.len();
    out.put_u32(0);
    out.put_i32(correlation);
    if key.has_flexible_response_head(version) {
        out.put_u8(0);
    }
    let written = response.encode(out, version);
    close_frame(begin, out);
    written.map_err(|error| cannot_say(key, version, &error))
}

/// Writes a request with its frame: a client's side.
pub fn write_request(
    key: ApiKey,
    version: i16,
    correlation: i32,
    client_id: &str,
    request: &RequestKind,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let begin = out.len();
    out.put_u32(0);
    let head = RequestHeader::default()
        .with_request_api_key(key.number())
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    let head_version = if key.is_flexible(version) { 2 } else { 1 };
    let written = head
        .encode(out, head_version)
        .and_then(|()| request.encode(out, version));
    close_frame(begin, out);
    written.map_err(|error| cannot_say(key, version, &error))
}

/// Reads a response, everything after its frame's length, and the number of the request that it
/// answers. For clients, which trust the broker that they chose: the library sees it unguarded.
pub fn read_response(
    key: ApiKey,
    version: i16,
    mut payload: Bytes,
) -> Result<(i32, ResponseKind), DecodeError> {
    let mut head = Reader::new(&payload, key.has_flexible_response_head(version));
    let correlation = head.i32()?;
    head.tags()?;
    let body_at = head.at();
    let mut body = payload.split_off(body_at);
    let response = ResponseKind::decode(library_key(key), &mut body, version).map_err(refused)?;
    Ok((correlation, response))
}

fn library_key(key: ApiKey) -> messages::ApiKey {
    messages::ApiKey::try_from(key.number()).expect("the library knows every key of Kafka 4.1")
}

fn close_frame(begin: usize, out: &mut BytesMut) {
    let length = u32::try_from(out.len() - begin - 4).expect("a message is shorter than 4 GiB");
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}

fn cannot_say(key: ApiKey, version: i16, error: &dyn std::fmt::Display) -> EncodeError {
    EncodeError {
        name: key.name(),
        version,
        // With its causes.
        reason: format!("{error:#}"),
    }
}

fn refused(error: impl std::fmt::Display) -> DecodeError {
    DecodeError::Content(format!("{error:#}"))
}
