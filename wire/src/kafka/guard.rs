//! The guard in front of the library that decodes control messages: it goes over a request's body by
//! a table of what each message is made of, and finds every length and count in it to fit in what
//! remains. The library allocates by them unasked.

use super::api::ApiKey;
use super::read::{DecodeError, Reader};

/// A field of a message, in the versions that have it.
struct Field {
    from: i16,
    to: i16,
    kind: Kind,
}

/// What a field is made of.
enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string that may be null.
    Text,
    /// Bytes that may be null.
    Bytes,
    /// An array of so many bytes each.
    Numbers(usize),
    /// An array of strings.
    Texts,
    /// An array of structures.
    Array(&'static [Field]),
    /// A structure that may be null.
    Maybe(&'static [Field]),
}

const LAST: i16 = i16::MAX;

// Macros, because what a function makes cannot be borrowed for ever.
macro_rules! between {
    ($from:expr, $to:expr, $kind:expr) => {
        Field {
            from: $from,
            to: $to,
            kind: $kind,
        }
    };
}
macro_rules! since {
    ($from:expr, $kind:expr) => {
        between!($from, LAST, $kind)
    };
}
macro_rules! always {
    ($kind:expr) => {
        since!(0, $kind)
    };
}

const INT8: Kind = Kind::Fixed(1);
const INT16: Kind = Kind::Fixed(2);
const INT32: Kind = Kind::Fixed(4);
const INT64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);
const INT32S: Kind = Kind::Numbers(4);

const NAME_AND_NUMBERS: &[Field] = &[always!(Kind::Text), always!(INT32S)];
const NAME_AND_VALUE: &[Field] = &[always!(Kind::Text), always!(Kind::Text)];
const NAME_AND_BYTES: &[Field] = &[always!(Kind::Text), always!(Kind::Bytes)];

/// The fields of a control request, in order, in the versions that are read. None: it is not one.
fn fields(key: ApiKey) -> Option<&'static [Field]> {
    Some(match key {
        ApiKey::ListOffsets => &[
            always!(INT32),
            since!(2, INT8),
            always!(Kind::Array(&[
                always!(Kind::Text),
                always!(Kind::Array(&[
                    always!(INT32),
                    since!(4, INT32),
                    always!(INT64),
                ])),
            ])),
        ],
        ApiKey::Metadata => &[
            always!(Kind::Array(&[since!(10, UUID), always!(Kind::Text)])),
            since!(4, INT8),
            between!(8, 10, INT8),
            since!(8, INT8),
        ],
        ApiKey::ApiVersions => &[since!(3, Kind::Text), since!(3, Kind::Text)],
        ApiKey::CreateTopics => &[
            always!(Kind::Array(&[
                always!(Kind::Text),
                always!(INT32),
                always!(INT16),
                always!(Kind::Array(&[always!(INT32), always!(INT32S)])),
                always!(Kind::Array(NAME_AND_VALUE)),
            ])),
            always!(INT32),
            since!(1, INT8),
        ],
        ApiKey::DeleteTopics => &[
            since!(6, Kind::Array(&[always!(Kind::Text), always!(UUID)])),
            between!(0, 5, Kind::Texts),
            always!(INT32),
        ],
        ApiKey::DeleteRecords => &[
            always!(Kind::Array(&[
                always!(Kind::Text),
                always!(Kind::Array(&[always!(INT32), always!(INT64)])),
            ])),
            always!(INT32),
        ],
        ApiKey::InitProducerId => &[
            always!(Kind::Text),
            always!(INT32),
            since!(3, INT64),
            since!(3, INT16),
        ],
        ApiKey::OffsetForLeaderEpoch => &[
            since!(3, INT32),
            always!(Kind::Array(&[
                always!(Kind::Text),
                always!(Kind::Array(&[
                    always!(INT32),
                    since!(2, INT32),
                    always!(INT32),
                ])),
            ])),
        ],
        ApiKey::DescribeConfigs => &[
            always!(Kind::Array(&[
                always!(INT8),
                always!(Kind::Text),
                always!(Kind::Texts),
            ])),
            since!(1, INT8),
            since!(3, INT8),
        ],
        ApiKey::AlterConfigs => &[
            always!(Kind::Array(&[
                always!(INT8),
                always!(Kind::Text),
                always!(Kind::Array(NAME_AND_VALUE)),
            ])),
            always!(INT8),
        ],
        ApiKey::DescribeLogDirs => &[always!(Kind::Array(NAME_AND_NUMBERS))],
        ApiKey::CreatePartitions => &[
            always!(Kind::Array(&[
                always!(Kind::Text),
                always!(INT32),
                always!(Kind::Array(&[always!(INT32S)])),
            ])),
            always!(INT32),
            always!(INT8),
        ],
        ApiKey::ElectLeaders => &[
            since!(1, INT8),
            always!(Kind::Array(NAME_AND_NUMBERS)),
            always!(INT32),
        ],
        ApiKey::IncrementalAlterConfigs => &[
            always!(Kind::Array(&[
                always!(INT8),
                always!(Kind::Text),
                always!(Kind::Array(&[
                    always!(Kind::Text),
                    always!(INT8),
                    always!(Kind::Text),
                ])),
            ])),
            always!(INT8),
        ],
        ApiKey::AlterPartitionReassignments => &[
            always!(INT32),
            always!(Kind::Array(&[
                always!(Kind::Text),
                always!(Kind::Array(&[always!(INT32), always!(INT32S)])),
            ])),
        ],
        ApiKey::ListPartitionReassignments => {
            &[always!(INT32), always!(Kind::Array(NAME_AND_NUMBERS))]
        }
        ApiKey::DescribeCluster => &[always!(INT8), since!(1, INT8)],
        ApiKey::DescribeTopicPartitions => &[
            always!(Kind::Array(&[always!(Kind::Text)])),
            always!(INT32),
            always!(Kind::Maybe(&[always!(Kind::Text), always!(INT32)])),
        ],
        ApiKey::OffsetCommit => &[
            always!(Kind::Text),
            since!(1, INT32),
            since!(1, Kind::Text),
            since!(7, Kind::Text),
            between!(2, 4, INT64),
            always!(Kind::Array(&[
                always!(Kind::Text),
                always!(Kind::Array(&[
                    always!(INT32),
                    always!(INT64),
                    since!(6, INT32),
                    always!(Kind::Text),
                ])),
            ])),
        ],
        ApiKey::OffsetFetch => &[
            between!(0, 7, Kind::Text),
            between!(0, 7, Kind::Array(NAME_AND_NUMBERS)),
            since!(
                8,
                Kind::Array(&[
                    always!(Kind::Text),
                    since!(9, Kind::Text),
                    since!(9, INT32),
                    always!(Kind::Array(NAME_AND_NUMBERS)),
                ])
            ),
            since!(7, INT8),
        ],
        ApiKey::FindCoordinator => &[
            between!(0, 3, Kind::Text),
            since!(1, INT8),
            since!(4, Kind::Texts),
        ],
        ApiKey::JoinGroup => &[
            always!(Kind::Text),
            always!(INT32),
            since!(1, INT32),
            always!(Kind::Text),
            since!(5, Kind::Text),
            always!(Kind::Text),
            always!(Kind::Array(NAME_AND_BYTES)),
            since!(8, Kind::Text),
        ],
        ApiKey::Heartbeat => &[
            always!(Kind::Text),
            always!(INT32),
            always!(Kind::Text),
            since!(3, Kind::Text),
        ],
        ApiKey::LeaveGroup => &[
            always!(Kind::Text),
            between!(0, 2, Kind::Text),
            since!(
                3,
                Kind::Array(&[
                    always!(Kind::Text),
                    always!(Kind::Text),
                    since!(5, Kind::Text),
                ])
            ),
        ],
        ApiKey::SyncGroup => &[
            always!(Kind::Text),
            always!(INT32),
            always!(Kind::Text),
            since!(3, Kind::Text),
            since!(5, Kind::Text),
            since!(5, Kind::Text),
            always!(Kind::Array(NAME_AND_BYTES)),
        ],
        ApiKey::DescribeGroups => &[always!(Kind::Texts), since!(3, INT8)],
        ApiKey::ListGroups => &[since!(4, Kind::Texts), since!(5, Kind::Texts)],
        ApiKey::OffsetDelete => &[
            always!(Kind::Text),
            always!(Kind::Array(&[
                always!(Kind::Text),
                always!(Kind::Array(&[always!(INT32)])),
            ])),
        ],
        ApiKey::AddPartitionsToTxn => &[
            always!(Kind::Text),
            always!(INT64),
            always!(INT16),
            always!(Kind::Array(NAME_AND_NUMBERS)),
        ],
        ApiKey::TxnOffsetCommit => &[
            always!(Kind::Text),
            always!(Kind::Text),
            always!(INT64),
            always!(INT16),
            since!(3, INT32),
            since!(3, Kind::Text),
            since!(3, Kind::Text),
            always!(Kind::Array(&[
                always!(Kind::Text),
                always!(Kind::Array(&[
                    always!(INT32),
                    always!(INT64),
                    since!(2, INT32),
                    always!(Kind::Text),
                ])),
            ])),
        ],
        ApiKey::DeleteGroups => &[always!(Kind::Texts)],
        _ => return None,
    })
}

/// Goes over a control request's body. What follows it is nobody's concern, as in Kafka: librdkafka
/// leaves three bytes behind the Metadata request for all topics.
pub(super) fn check(key: ApiKey, version: i16, body: &[u8]) -> Result<(), DecodeError> {
    let name = key.name();
    let fields = fields(key).ok_or(DecodeError::Version { name, version })?;
    let mut reader = Reader::new(body, key.is_flexible(version));
    structure(&mut reader, version, fields)
}

fn structure(reader: &mut Reader<'_>, version: i16, fields: &[Field]) -> Result<(), DecodeError> {
    for field in fields {
        if !(field.from..=field.to).contains(&version) {
            continue;
        }
        match &field.kind {
            Kind::Fixed(bytes) => {
                reader.take(*bytes, "a field")?;
            }
            Kind::Text => {
                reader.nullable_string()?;
            }
            Kind::Bytes => {
                reader.bytes()?;
            }
            Kind::Numbers(bytes) => {
                let count = reader.count(*bytes)?;
                reader.take(count * bytes, "numbers")?;
            }
            Kind::Texts => {
                for _ in 0..reader.count(1)? {
                    reader.nullable_string()?;
                }
            }
            Kind::Array(element) => {
                for _ in 0..reader.count(1)? {
                    structure(reader, version, element)?;
                }
            }
            Kind::Maybe(content) => {
                // What the library takes for "it is there".
                if reader.take(1, "a field")? == [1] {
                    structure(reader, version, content)?;
                }
            }
        }
    }
    reader.tags()
}
