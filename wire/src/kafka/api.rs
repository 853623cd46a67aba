//! Which requests there are, which of them are served, and in which versions.

/// Versions of a request, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub min: i16,
    /// The highest.
    pub max: i16,
}

impl Versions {
    /// Whether `version` is among them.
    #[must_use]
    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// When a message became flexible: compact lengths and tagged fields (KIP-482).
#[derive(Clone, Copy)]
enum Flexible {
    From(i16),
    Never,
}

use Flexible::{From, Never};

macro_rules! keys {
    ($($name:ident = $number:literal, $flexible:expr;)*) => {
        /// What a Kafka request asks for: those that a client may send to a broker of Kafka 4.1.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        #[allow(missing_docs, reason = "the names are the protocol's own")]
        pub enum ApiKey { $($name = $number,)* }

        impl ApiKey {
            /// Every key, by number.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$name,)*];

            /// The key with this number, if there is one.
            #[must_use]
            pub fn from_number(number: i16) -> Option<ApiKey> {
                match number { $($number => Some(ApiKey::$name),)* _ => None }
            }

            /// The protocol's name for it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(ApiKey::$name => stringify!($name),)* }
            }

            fn flexible(self) -> Flexible {
                match self { $(ApiKey::$name => $flexible,)* }
            }
        }
    };
}

keys! {
    Produce = 0, From(9);
    Fetch = 1, From(12);
    ListOffsets = 2, From(6);
    Metadata = 3, From(9);
    OffsetCommit = 8, From(8);
    OffsetFetch = 9, From(6);
    FindCoordinator = 10, From(3);
    JoinGroup = 11, From(6);
    Heartbeat = 12, From(4);
    LeaveGroup = 13, From(4);
    SyncGroup = 14, From(4);
    DescribeGroups = 15, From(5);
    ListGroups = 16, From(3);
    SaslHandshake = 17, Never;
    ApiVersions = 18, From(3);
    CreateTopics = 19, From(5);
    DeleteTopics = 20, From(4);
    DeleteRecords = 21, From(2);
    InitProducerId = 22, From(2);
    OffsetForLeaderEpoch = 23, From(4);
    AddPartitionsToTxn = 24, From(3);
    AddOffsetsToTxn = 25, From(3);
    EndTxn = 26, From(3);
    TxnOffsetCommit = 28, From(3);
    DescribeAcls = 29, From(2);
    CreateAcls = 30, From(2);
    DeleteAcls = 31, From(2);
    DescribeConfigs = 32, From(4);
    AlterConfigs = 33, From(2);
    AlterReplicaLogDirs = 34, From(2);
    DescribeLogDirs = 35, From(2);
    SaslAuthenticate = 36, From(2);
    CreatePartitions = 37, From(2);
    CreateDelegationToken = 38, From(2);
    RenewDelegationToken = 39, From(2);
    ExpireDelegationToken = 40, From(2);
    DescribeDelegationToken = 41, From(2);
    DeleteGroups = 42, From(2);
    ElectLeaders = 43, From(2);
    IncrementalAlterConfigs = 44, From(1);
    AlterPartitionReassignments = 45, From(0);
    ListPartitionReassignments = 46, From(0);
    OffsetDelete = 47, Never;
    DescribeClientQuotas = 48, From(1);
    AlterClientQuotas = 49, From(1);
    DescribeUserScramCredentials = 50, From(0);
    AlterUserScramCredentials = 51, From(0);
    DescribeQuorum = 55, From(0);
    UpdateFeatures = 57, From(0);
    DescribeCluster = 60, From(0);
    DescribeProducers = 61, From(0);
    DescribeTransactions = 65, From(0);
    ListTransactions = 66, From(0);
    ConsumerGroupHeartbeat = 68, From(0);
    ConsumerGroupDescribe = 69, From(0);
    GetTelemetrySubscriptions = 71, From(0);
    PushTelemetry = 72, From(0);
    DescribeTopicPartitions = 75, From(0);
    ShareGroupHeartbeat = 76, From(0);
    ShareGroupDescribe = 77, From(0);
    ShareFetch = 78, From(0);
    ShareAcknowledge = 79, From(0);
}

/// The requests that are served, by number, each in these versions: what ApiVersions answers. Clients
/// use whatever they see here, so nothing is listed before it works.
///
/// Produce begins at 0 although 0 to 2 are refused, because older versions of librdkafka silently
/// stop compressing where it does not. Produce and Fetch end before they need topic ids.
pub const SERVED: &[(ApiKey, Versions)] = &[
    (ApiKey::Produce, Versions { min: 0, max: 9 }),
    (ApiKey::Fetch, Versions { min: 4, max: 12 }),
    (ApiKey::ListOffsets, Versions { min: 1, max: 7 }),
    (ApiKey::Metadata, Versions { min: 0, max: 12 }),
    (ApiKey::OffsetCommit, Versions { min: 2, max: 9 }),
    (ApiKey::OffsetFetch, Versions { min: 1, max: 9 }),
    (ApiKey::FindCoordinator, Versions { min: 0, max: 5 }),
    (ApiKey::JoinGroup, Versions { min: 0, max: 9 }),
    (ApiKey::Heartbeat, Versions { min: 0, max: 4 }),
    (ApiKey::LeaveGroup, Versions { min: 0, max: 5 }),
    (ApiKey::SyncGroup, Versions { min: 0, max: 5 }),
    (ApiKey::DescribeGroups, Versions { min: 0, max: 5 }),
    (ApiKey::ListGroups, Versions { min: 0, max: 5 }),
    (ApiKey::ApiVersions, Versions { min: 0, max: 4 }),
    (ApiKey::CreateTopics, Versions { min: 2, max: 7 }),
    (ApiKey::DeleteTopics, Versions { min: 1, max: 6 }),
    (ApiKey::DeleteRecords, Versions { min: 0, max: 2 }),
    (ApiKey::InitProducerId, Versions { min: 0, max: 4 }),
    (ApiKey::OffsetForLeaderEpoch, Versions { min: 2, max: 4 }),
    (ApiKey::DescribeConfigs, Versions { min: 1, max: 4 }),
    (ApiKey::AlterConfigs, Versions { min: 0, max: 2 }),
    (ApiKey::DescribeLogDirs, Versions { min: 1, max: 4 }),
    (ApiKey::CreatePartitions, Versions { min: 0, max: 3 }),
    (ApiKey::DeleteGroups, Versions { min: 0, max: 2 }),
    (ApiKey::ElectLeaders, Versions { min: 0, max: 2 }),
    (ApiKey::IncrementalAlterConfigs, Versions { min: 0, max: 1 }),
    (
        ApiKey::AlterPartitionReassignments,
        Versions { min: 0, max: 0 },
    ),
    (
        ApiKey::ListPartitionReassignments,
        Versions { min: 0, max: 0 },
    ),
    (ApiKey::OffsetDelete, Versions { min: 0, max: 0 }),
    (ApiKey::DescribeCluster, Versions { min: 0, max: 1 }),
    (ApiKey::DescribeTopicPartitions, Versions { min: 0, max: 0 }),
];

/// Requests that are not served and have room for an error of each of their items: they are read all
/// the same, each in these versions, so that they are refused in their own form. None is advertised.
pub const DECLINED: &[(ApiKey, Versions)] = &[
    (ApiKey::AddPartitionsToTxn, Versions { min: 0, max: 3 }),
    (ApiKey::TxnOffsetCommit, Versions { min: 0, max: 5 }),
];

impl ApiKey {
    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> i16 {
        self as i16
    }

    /// The versions that are served; none: it is not.
    #[must_use]
    pub fn versions(self) -> Option<Versions> {
        let served = SERVED.iter().find(|(key, _)| *key == self);
        served.map(|(_, versions)| *versions)
    }

    /// Whether requests of this version are read: to be served, or to be refused item by item.
    #[must_use]
    pub fn is_read(self, version: i16) -> bool {
        let mut read = SERVED.iter().chain(DECLINED);
        read.any(|(key, versions)| *key == self && versions.contains(version))
    }

    /// Whether messages of this version have compact lengths and tagged fields.
    #[must_use]
    pub fn is_flexible(self, version: i16) -> bool {
        match self.flexible() {
            From(first) => version >= first,
            Never => false,
        }
    }

    /// Whether a response's head has tagged fields. Whoever asks for the versions does not know yet
    /// what the broker understands, so that answer's head never has (KIP-511).
    #[must_use]
    pub fn has_flexible_response_head(self, version: i16) -> bool {
        self != ApiKey::ApiVersions && self.is_flexible(version)
    }
}
