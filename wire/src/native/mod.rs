//! The native protocol: its messages, in two encodings. Runs on any thread, does no I/O.
//!
//! A frame's payload is `kind u16 BE | body_length u32 BE | body | attachments`. The body is one
//! message in the frame's [`Format`](crate::frame::Format); the attachments are record batches,
//! whose lengths stand in the body and must add up to exactly what follows it. A response has its
//! request's kind with [`RESPONSE_BIT`] set; a failure that has no better place is a bare
//! [`messages::Status`] of kind [`ERROR_KIND`].
//!
//! [`RequestPayload`] reads Produce and Fetch in place ([`ProduceView`], [`FetchView`]); everything
//! else becomes an owned [`Request`]. A new exchange is one line in the table below, one message in
//! `messages.rs` (or a file beside it) and one in `proto/millrace.proto`.

mod codec;
pub mod messages;
mod protobuf;
mod status;
#[cfg(test)]
mod tests;
mod views;

pub use codec::{
    DecodeError, EncodeError, MAX_REQUEST_BODY_BYTES, MAX_RESPONSE_BODY_BYTES, RequestPayload,
    decode_request, decode_response, decode_response_head, encode_request, encode_response,
};
pub use views::{
    FetchEntry, FetchTopicView, FetchView, ProduceEntry, ProduceTopicView, ProduceView,
};

use crate::frame::Format;
use codec::{decode_body, encode_body};
use messages::*;

/// The only protocol version so far.
pub const PROTOCOL_VERSION: u16 = 1;

/// Set in a response's kind.
pub const RESPONSE_BIT: u16 = 0x8000;

/// The kind of a response that is a bare [`Status`].
pub const ERROR_KIND: u16 = 0x7fff | RESPONSE_BIT;

/// The version to speak with a peer that knows those from `min` to `max`: the highest that both
/// know, or none.
#[must_use]
pub fn negotiate_version(min: u16, max: u16) -> Option<u16> {
    (min..=max)
        .contains(&PROTOCOL_VERSION)
        .then_some(PROTOCOL_VERSION)
}

macro_rules! exchanges {
    ($($(#[$doc:meta])* $name:ident = $number:literal : $request:ident => $response:ident;)*) => {
        /// What a request asks for; the number on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            /// Every kind, for tables and tests.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// The kind with this number, if there is one.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)* _ => None }
            }

            /// The kind's name, for logs and metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => stringify!($name),)* }
            }
        }

        /// Any request.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request { $($(#[$doc])* $name($request),)* }

        /// Any response.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response {
            $($(#[$doc])* $name($response),)*
            /// A failure that has no better place.
            Error(Status),
        }

        impl Request {
            /// What it asks for.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Request::$name(_) => Kind::$name,)* }
            }

            fn encode_body(
                &self, format: Format, out: &mut bytes::BytesMut,
            ) -> Result<(), EncodeError> {
                match self { $(Request::$name(message) => encode_body(format, message, out),)* }
            }

            fn decode_body(kind: Kind, format: Format, body: &[u8]) -> Result<Request, DecodeError> {
                Ok(match kind {
                    $(Kind::$name => Request::$name(decode_body::<$request>(format, body)?),)*
                })
            }
        }

        impl Response {
            /// What it answers; none for [`Response::Error`].
            #[must_use]
            pub fn kind(&self) -> Option<Kind> {
                match self { $(Response::$name(_) => Some(Kind::$name),)* Response::Error(_) => None }
            }

            fn encode_body(
                &self, format: Format, out: &mut bytes::BytesMut,
            ) -> Result<(), EncodeError> {
                match self {
                    $(Response::$name(message) => encode_body(format, message, out),)*
                    Response::Error(status) => encode_body(format, status, out),
                }
            }

            fn decode_body(
                kind: Option<Kind>, format: Format, body: &[u8],
            ) -> Result<Response, DecodeError> {
                Ok(match kind {
                    $(Some(Kind::$name) =>
                        Response::$name(decode_body::<$response>(format, body)?),)*
                    None => Response::Error(decode_body::<Status>(format, body)?),
                })
            }
        }

        $(
            impl From<$request> for Request {
                fn from(message: $request) -> Request { Request::$name(message) }
            }
            impl From<$response> for Response {
                fn from(message: $response) -> Response { Response::$name(message) }
            }
        )*
    };
}

exchanges! {
    /// The first request of a connection.
    Handshake = 1: HandshakeRequest => HandshakeResponse;
    /// Is anyone there.
    Ping = 2: PingRequest => PingResponse;
    /// Who owns what.
    Metadata = 3: MetadataRequest => MetadataResponse;
    /// Makes a topic.
    CreateTopic = 4: CreateTopicRequest => CreateTopicResponse;
    /// Removes a topic.
    DeleteTopic = 5: DeleteTopicRequest => DeleteTopicResponse;
    /// Everything about one topic.
    DescribeTopic = 6: DescribeTopicRequest => DescribeTopicResponse;
    /// Names of all topics.
    ListTopics = 7: ListTopicsRequest => ListTopicsResponse;
    /// Sets and unsets a topic's configuration.
    AlterTopicConfig = 8: AlterTopicConfigRequest => AlterTopicConfigResponse;
    /// Grows a topic.
    CreatePartitions = 9: CreatePartitionsRequest => CreatePartitionsResponse;
    /// Appends batches.
    Produce = 10: ProduceRequest => ProduceResponse;
    /// Reads batches.
    Fetch = 11: FetchRequest => FetchResponse;
    /// Offsets by meaning or by time.
    ListOffsets = 12: ListOffsetsRequest => ListOffsetsResponse;
    /// Moves log starts forward.
    DeleteRecords = 13: DeleteRecordsRequest => DeleteRecordsResponse;
    /// Lets a damaged partition serve again.
    RepairPartition = 14: RepairPartitionRequest => RepairPartitionResponse;
    /// Counters and latencies.
    Stats = 15: StatsRequest => StatsResponse;
    /// An id for an idempotent producer.
    InitProducer = 16: InitProducerRequest => InitProducerResponse;
    /// Becomes a member of a group.
    JoinGroup = 20: JoinGroupRequest => JoinGroupResponse;
    /// Asks for a member's partitions.
    SyncGroup = 21: SyncGroupRequest => SyncGroupResponse;
    /// Keeps a membership alive.
    Heartbeat = 22: HeartbeatRequest => HeartbeatResponse;
    /// Ends memberships.
    LeaveGroup = 23: LeaveGroupRequest => LeaveGroupResponse;
    /// Notes how far a group has come.
    CommitOffsets = 24: CommitOffsetsRequest => CommitOffsetsResponse;
    /// Asks how far a group has come.
    FetchOffsets = 25: FetchOffsetsRequest => FetchOffsetsResponse;
    /// Names of all groups.
    ListGroups = 26: ListGroupsRequest => ListGroupsResponse;
    /// Everything about one group.
    DescribeGroup = 27: DescribeGroupRequest => DescribeGroupResponse;
    /// Forgets a group.
    DeleteGroup = 28: DeleteGroupRequest => DeleteGroupResponse;
    /// Forgets some of a group's offsets.
    DeleteOffsets = 29: DeleteOffsetsRequest => DeleteOffsetsResponse;
}

impl Request {
    /// Bytes of batches that follow the body.
    #[must_use]
    pub fn attachment_bytes(&self) -> u64 {
        let Request::Produce(produce) = self else {
            return 0;
        };
        let partitions = produce.topics.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|partition| u64::from(partition.batch_bytes))
            .sum()
    }
}

impl Response {
    /// Bytes of batches that follow the body.
    #[must_use]
    pub fn attachment_bytes(&self) -> u64 {
        let Response::Fetch(fetch) = self else {
            return 0;
        };
        let partitions = fetch.topics.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|partition| u64::from(partition.records_bytes))
            .sum()
    }
}
