//! How a coordinator's changes are written down in `__groups`. A record's key says what it is about,
//! its value how that is now; no value: it is gone. So the last record of each key is all that counts,
//! and whoever writes every key again may drop what lies before. Key and value each begin with a byte
//! for their version; the rest is rkyv.

use millrace_wire::ids::{Offset, PartitionIndex, TopicName, TopicNameError};
use rkyv::rancor::Error as RkyvError;
use rkyv::{Archive, Deserialize, Serialize};

/// The version written, and the newest that is read.
pub const RECORD_VERSION: u8 = 1;

/// What a record is about.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
enum Key {
    /// A group's members.
    Group { group: String },
    /// How far a group has come in a partition.
    Offset {
        group: String,
        topic: String,
        partition: u32,
    },
}

/// A group's members and their generation.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupValue {
    /// The generation.
    pub generation: i32,
    /// What kind of group it is.
    pub protocol_type: String,
    /// The protocol of this generation.
    pub protocol: String,
    /// The leader's member id.
    pub leader: Option<String>,
    /// Since when it has had no members, ms since 1970.
    pub empty_since_ms: Option<i64>,
    /// The members, in the order in which they came.
    pub members: Vec<MemberValue>,
}

/// A member.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberValue {
    /// Its id.
    pub id: String,
    /// Its lasting name.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Its session timeout, ms.
    pub session_timeout_ms: u32,
    /// Its rebalance timeout, ms.
    pub rebalance_timeout_ms: u32,
    /// Its protocols, the preferred one first, with what it told for each.
    pub protocols: Vec<(String, Vec<u8>)>,
    /// Whether the coordinator assigns for it.
    pub assigned_by_coordinator: bool,
    /// What it has been assigned.
    pub assignment: Vec<u8>,
}

/// How far a group has come in a partition.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    /// The next record to be read.
    pub offset: i64,
    /// Leader epoch of the last record that was read, -1 if it is not known.
    pub leader_epoch: i32,
    /// A text of the client's.
    pub metadata: String,
    /// When it was committed, ms since 1970.
    pub committed_ms: i64,
}

impl OffsetValue {
    /// The offset.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset(self.offset)
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A group's members; none: the group is gone. Its offsets have records of their own.
    Group {
        /// The group's name.
        group: String,
        /// Its members.
        value: Option<GroupValue>,
    },
    /// An offset; none: it is gone.
    Offset {
        /// The group's name.
        group: String,
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// The offset.
        value: Option<OffsetValue>,
    },
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is no key.
    #[error("a record of the groups' log has no key")]
    NoKey,
    /// A newer program wrote it.
    #[error(
        "the groups' log has records of version {0}, this program knows up to {RECORD_VERSION}; run the newer program again"
    )]
    Newer(u8),
    /// It does not parse, though its checksum was right.
    #[error("a record of the groups' log does not parse: {0}")]
    Content(#[from] RkyvError),
    /// A name in it is not allowed.
    #[error("a record of the groups' log names a topic that cannot be: {0}")]
    Name(#[from] TopicNameError),
}

/// A record's key and value, as they are stored.
pub type Encoded = (Vec<u8>, Option<Vec<u8>>);

impl Record {
    /// Its key and value.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        match self {
            Record::Group { group, value } => {
                let key = Key::Group {
                    group: group.clone(),
                };
                (versioned(&key), value.as_ref().map(versioned))
            }
            Record::Offset {
                group,
                topic,
                partition,
                value,
            } => {
                let key = Key::Offset {
                    group: group.clone(),
                    topic: topic.as_str().to_owned(),
                    partition: partition.0,
                };
                (versioned(&key), value.as_ref().map(versioned))
            }
        }
    }

    /// Reads a record.
    pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Record, RecordError> {
        let key = unversioned(key.ok_or(RecordError::NoKey)?)?;
        let value = value.map(unversioned).transpose()?;
        Ok(match rkyv::from_bytes::<Key, RkyvError>(key)? {
            Key::Group { group } => Record::Group {
                group,
                value: value.map(rkyv::from_bytes::<_, RkyvError>).transpose()?,
            },
            Key::Offset {
                group,
                topic,
                partition,
            } => Record::Offset {
                group,
                topic: topic.parse()?,
                partition: PartitionIndex(partition),
                value: value.map(rkyv::from_bytes::<_, RkyvError>).transpose()?,
            },
        })
    }
}

fn versioned<T>(value: &T) -> Vec<u8>
where
    T: for<'a> Serialize<
        rkyv::api::high::HighSerializer<Vec<u8>, rkyv::ser::allocator::ArenaHandle<'a>, RkyvError>,
    >,
{
    rkyv::api::high::to_bytes_in::<_, RkyvError>(value, vec![RECORD_VERSION])
        .expect("strings, numbers and lists always serialise into memory")
}

fn unversioned(bytes: &[u8]) -> Result<&[u8], RecordError> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => Ok(rest),
        Some((&newer, _)) => Err(RecordError::Newer(newer)),
        None => Err(RecordError::NoKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let member = MemberValue {
            id: "m-1".into(),
            instance_id: Some("static".into()),
            protocols: vec![("range".into(), vec![1, 2, 3]), ("x".into(), vec![])],
            assignment: vec![9; 40],
            session_timeout_ms: 6000,
            ..MemberValue::default()
        };
        let group = |value| Record::Group {
            group: "g".into(),
            value,
        };
        let offset = |value| Record::Offset {
            group: "g".into(),
            topic: "t".parse().expect("a name"),
            partition: PartitionIndex(7),
            value,
        };
        vec![
            group(Some(GroupValue {
                generation: 3,
                leader: Some("m-1".into()),
                members: vec![member],
                ..GroupValue::default()
            })),
            group(None),
            offset(Some(OffsetValue {
                offset: 1 << 40,
                leader_epoch: -1,
                metadata: "é".into(),
                committed_ms: 5,
            })),
            offset(None),
        ]
    }

    #[test]
    fn records_survive_being_written_down() {
        for record in records() {
            let (key, value) = record.encode();
            let read = Record::decode(Some(&key), value.as_deref()).expect("own record");
            assert_eq!(read, record);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let (mut key, value) = records().remove(0).encode();
        assert!(matches!(
            Record::decode(None, None),
            Err(RecordError::NoKey)
        ));
        let value = value.expect("it has one");
        for cut in 0..value.len() {
            // Some cuts still parse as something; none panics.
            let _ = Record::decode(Some(&key), Some(&value[..cut]));
        }
        key[0] = 9;
        let error = Record::decode(Some(&key), None).expect_err("newer");
        assert!(error.to_string().contains("version 9"), "{error}");
    }
}
