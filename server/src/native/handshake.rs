//! How a connection begins: the client's first frame, and the answer to it.

use bytes::{Bytes, BytesMut};
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::frame::{Format, FrameHeader};
use millrace_wire::ids::{PartitionId, ShardId};
use millrace_wire::native::messages::{HandshakeResponse, Status, TopicPartition};
use millrace_wire::native::{
    PROTOCOL_VERSION, Request, Response, decode_request, encode_response, negotiate_version,
};

use crate::broker::NodeIdentity;
use crate::controller::state::shown;
use crate::session::SessionLimits;

/// The longest handshake frame. Before the handshake a connection is nobody's, so it gets little.
pub const MAX_HANDSHAKE_BYTES: u32 = 16 * 1024;

/// What a client said of itself, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// How it wants to be answered.
    pub format: Format,
    /// The handshake's number.
    pub correlation: u32,
    /// The version that both sides speak.
    pub version: u16,
    /// The name it chose, fit for a log.
    pub client_id: String,
    /// Its library and version, fit for a log.
    pub client_software: String,
}

/// Where a client wants its connection to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Anywhere.
    Here,
    /// On this shard.
    Shard(u16),
    /// With the owner of this partition.
    Partition(TopicPartition),
}

/// Reads the first frame.
pub fn read(header: FrameHeader, payload: BytesMut) -> Result<(Greeting, Wanted), WireError> {
    let (request, _) = decode_request(header.format, payload)?;
    let Request::Handshake(handshake) = request else {
        return Err(WireError::new(
            ErrorCode::HandshakeRequired,
            "a connection begins with a handshake",
        ));
    };
    let (low, high) = (handshake.min_version, handshake.max_version);
    let version = negotiate_version(low, high).ok_or_else(|| {
        WireError::new(
            ErrorCode::UnsupportedVersion,
            format!(
                "the client speaks versions {low} to {high} of the protocol, this broker speaks {PROTOCOL_VERSION}"
            ),
        )
    })?;
    let wanted = match (handshake.wanted_shard, handshake.wanted_partition) {
        (Some(shard), _) => Wanted::Shard(shard),
        (None, Some(partition)) => Wanted::Partition(partition),
        (None, None) => Wanted::Here,
    };
    let greeting = Greeting {
        format: header.format,
        correlation: header.correlation,
        version,
        client_id: shown(&handshake.client_id),
        client_software: shown(&handshake.client_software),
    };
    Ok((greeting, wanted))
}

impl Wanted {
    /// The shard that this comes to: `here` if the client does not care, or asks for what there is
    /// not (it is told where it is, and its requests work from there as well).
    #[must_use]
    pub fn shard(
        &self,
        here: ShardId,
        shard_count: u16,
        find: impl Fn(&str, u32) -> Option<(PartitionId, ShardId)>,
    ) -> ShardId {
        match self {
            Wanted::Here => here,
            Wanted::Shard(shard) if *shard < shard_count => ShardId(*shard),
            Wanted::Shard(_) => here,
            Wanted::Partition(wanted) => {
                find(&wanted.topic, wanted.partition).map_or(here, |(_, owner)| owner)
            }
        }
    }
}

/// The answer to a handshake, as a frame.
#[must_use]
pub fn accepted(
    greeting: &Greeting,
    node: &NodeIdentity,
    shard: ShardId,
    limits: SessionLimits,
) -> Bytes {
    let response = HandshakeResponse {
        status: Status::ok(),
        version: greeting.version,
        ..about(node, shard, limits)
    };
    frame(
        greeting.format,
        greeting.correlation,
        &Response::Handshake(response),
    )
}

/// The answer to a handshake that is refused, as a frame; the connection closes behind it.
#[must_use]
pub fn refused(
    header: FrameHeader,
    error: WireError,
    node: &NodeIdentity,
    shard: ShardId,
    limits: SessionLimits,
) -> Bytes {
    let response = HandshakeResponse {
        status: error.into(),
        ..about(node, shard, limits)
    };
    frame(
        header.format,
        header.correlation,
        &Response::Handshake(response),
    )
}

fn about(node: &NodeIdentity, shard: ShardId, limits: SessionLimits) -> HandshakeResponse {
    HandshakeResponse {
        status: Status::ok(),
        version: PROTOCOL_VERSION,
        cluster_id: format!("{:032x}", node.cluster_id),
        node_id: node.node_id,
        boot_epoch: node.boot_epoch,
        shard: shard.0,
        shard_count: node.shard_count,
        max_frame_bytes: limits.max_frame_bytes,
        max_in_flight: limits.max_in_flight,
        broker_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// A response without attachments as a frame.
#[must_use]
pub fn frame(format: Format, correlation: u32, response: &Response) -> Bytes {
    let mut out = BytesMut::new();
    match encode_response(format, correlation, response, &mut out, 0) {
        Ok(()) => {}
        Err(error) => {
            tracing::error!(%error, "a response could not be encoded");
            let status = Status::failed(ErrorCode::Unknown, "the answer could not be encoded");
            out.clear();
            // A status of one sentence always fits; if not, the client hears nothing and times out.
            let _ = encode_response(format, correlation, &Response::Error(status), &mut out, 0);
        }
    }
    out.freeze()
}
