//! The numeric error codes of the native protocol. Where Kafka has a code for the same thing the
//! number is Kafka's (protocol guide, "Error Codes"), so that both faces of the broker agree; what
//! only Millrace has begins at 1000. Numbers are never reused.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $retriable:literal;)*) => {
        /// What went wrong, as a stable number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode { $($(#[$doc])* $name = $code,)* }

        impl ErrorCode {
            /// Every code, for tables and tests.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code with this number, if there is one.
            #[must_use]
            pub fn from_number(number: i16) -> Option<ErrorCode> {
                match number { $($code => Some(ErrorCode::$name),)* _ => None }
            }

            /// Whether the same request may succeed later without being changed.
            #[must_use]
            pub fn is_retriable(self) -> bool {
                match self { $(ErrorCode::$name => $retriable,)* }
            }

            /// The code's name, for people and for logs.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(ErrorCode::$name => stringify!($name),)* }
            }
        }
    };
}

codes! {
    /// The broker failed in a way that it has no code for.
    Unknown = -1, false;
    /// The offset is below the log start or beyond the high watermark.
    OffsetOutOfRange = 1, false;
    /// A batch's checksum does not match its bytes, or its framing is broken.
    CorruptMessage = 2, false;
    /// No such topic, or no such partition in it.
    UnknownTopicOrPartition = 3, true;
    /// The partition is led elsewhere.
    NotLeader = 6, true;
    /// The request was not answered in time.
    RequestTimedOut = 7, true;
    /// A batch is larger than the topic's `max.message.bytes`.
    MessageTooLarge = 10, false;
    /// The text that goes with a committed offset is longer than the broker keeps.
    OffsetMetadataTooLarge = 12, false;
    /// The group's coordinator is reading its log; ask again in a moment.
    CoordinatorLoadInProgress = 14, true;
    /// No coordinator can be had now.
    CoordinatorNotAvailable = 15, true;
    /// The group's coordinator is elsewhere.
    NotCoordinator = 16, true;
    /// The topic name is not allowed.
    InvalidTopic = 17, false;
    /// Fewer replicas are in sync than `min.insync.replicas` asks for.
    NotEnoughReplicas = 19, true;
    /// `acks` is not 0, 1 or all.
    InvalidRequiredAcks = 21, false;
    /// The group has a later generation than the member knows, or never had this one.
    IllegalGeneration = 22, false;
    /// The member's protocols or their type do not go with those of the group.
    InconsistentGroupProtocol = 23, false;
    /// The group's name is not allowed.
    InvalidGroupId = 24, false;
    /// The group has no such member (any more).
    UnknownMemberId = 25, false;
    /// The session timeout is out of the bounds that the broker sets.
    InvalidSessionTimeout = 26, false;
    /// The group is sharing its partitions out anew; join again.
    RebalanceInProgress = 27, false;
    /// A record's timestamp is out of the allowed range.
    InvalidTimestamp = 32, false;
    /// The protocol version is not supported.
    UnsupportedVersion = 35, false;
    /// A topic of this name exists.
    TopicAlreadyExists = 36, false;
    /// The number of partitions is not allowed.
    InvalidPartitions = 37, false;
    /// The replication factor is not allowed.
    InvalidReplicationFactor = 38, false;
    /// Replicas are assigned to nodes that cannot have them.
    InvalidReplicaAssignment = 39, false;
    /// A configuration key is unknown or its value not allowed.
    InvalidConfig = 40, false;
    /// The request contradicts itself or a limit.
    InvalidRequest = 42, false;
    /// A producer's batch does not follow the one before it.
    OutOfOrderSequenceNumber = 45, false;
    /// A producer's batch was appended so long ago that its offset is no longer known.
    DuplicateSequenceNumber = 46, false;
    /// A newer producer has taken over this producer's id.
    InvalidProducerEpoch = 47, false;
    /// A read or write of the disk failed; the broker stops rather than go on.
    StorageError = 56, true;
    /// The broker knows nothing of this producer id.
    UnknownProducerId = 59, false;
    /// The group has members, and what was asked for needs one without.
    NonEmptyGroup = 68, false;
    /// There is no such group.
    GroupIdNotFound = 69, false;
    /// There is no such fetch session here (any more).
    FetchSessionIdNotFound = 70, true;
    /// A fetch session's requests are not in order.
    InvalidFetchSessionEpoch = 71, true;
    /// The leader epoch that the client knows is over.
    FencedLeaderEpoch = 74, true;
    /// The client knows a later leader epoch than this broker does.
    UnknownLeaderEpoch = 75, true;
    /// The batch names a compression codec that the broker does not take.
    UnsupportedCompressionType = 76, false;
    /// Join again with the member id that comes with this answer.
    MemberIdRequired = 79, false;
    /// The group has as many members as the broker allows.
    GroupMaxSizeReached = 81, false;
    /// Another member has taken over this member's instance id.
    FencedInstanceId = 82, false;
    /// The preferred replica leads already.
    ElectionNotNeeded = 84, false;
    /// No replicas are being moved.
    NoReassignmentInProgress = 85, false;
    /// The group's members are subscribed to the topic.
    GroupSubscribedToTopic = 86, false;
    /// A record in the batch is not as it must be (count, offsets, framing).
    InvalidRecord = 87, false;
    /// A newer producer with the same transactional id has taken over.
    ProducerFenced = 90, false;
    /// No topic has this id.
    UnknownTopicId = 100, true;
    /// The endpoint is of another type than was asked for.
    MismatchedEndpointType = 114, false;
    /// There are no endpoints of the type that was asked for.
    UnsupportedEndpointType = 115, false;
    /// Free disk space is below the reserve: reading and deleting go on, producing does not.
    DiskReserveReached = 1000, true;
    /// A bound of the broker (memory, queue) is reached; try again after a pause.
    Overloaded = 1001, true;
    /// Acknowledged data of this partition is damaged on disk; an operator must decide.
    PartitionDamaged = 1002, false;
    /// The broker is shutting down.
    ShuttingDown = 1003, true;
    /// The frame or message could not be parsed; the connection closes.
    MalformedFrame = 1004, false;
    /// A frame is longer than the limit; the connection closes.
    FrameTooLarge = 1005, false;
    /// The connection did not begin with a handshake, or sent a second one.
    HandshakeRequired = 1006, false;
    /// There is no authentication yet and the peer is not on loopback.
    RemoteRefused = 1007, false;
    /// The topic was deleted while the request was under way.
    TopicDeleted = 1008, false;
}

/// An error as it crosses the socket: a code and a sentence that names the thing and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({name}, {number})", name = .code.name(), number = *.code as i16)]
pub struct WireError {
    /// The stable code.
    pub code: ErrorCode,
    /// The sentence, for a person.
    pub message: String,
}

impl WireError {
    /// An error with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> WireError {
        WireError {
            code,
            message: message.into(),
        }
    }
}
