//! How the controller's changes are written down: the value of a record in `__controller`/0 is one
//! version byte and a JSON document. Changes are rare and small; what counts is that a later
//! version can read them and that a person can.

use std::collections::BTreeMap;

use millrace_wire::ids::{ProducerId, TopicId, TopicName, TopicNameError};
use serde::{Deserialize, Serialize};

use super::state::{Change, State, Topic};

/// The version written, and the newest that is read. Version 1 knew no producer ids: none were handed
/// out where it was written.
pub const RECORD_VERSION: u8 = 2;

/// The oldest version that is read.
const OLDEST_VERSION: u8 = 1;

/// How many topics a part of a snapshot holds at most. With the longest names and every setting
/// set, a part stays under half a MiB.
const TOPICS_PER_PART: usize = 500;

/// One record of the controller's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A change that led to `revision`.
    Change {
        /// The revision after it.
        revision: u64,
        /// What changed.
        change: Change,
    },
    /// A piece of the whole state at `revision`. The state is known when all `parts` were read one
    /// after the other.
    SnapshotPart {
        /// The state's revision.
        revision: u64,
        /// Which piece, from 0.
        part: u32,
        /// How many pieces there are.
        parts: u32,
        /// The topics of this piece.
        topics: Vec<Topic>,
        /// The first producer id that nobody has; the same in every piece.
        next_producer_id: ProducerId,
    },
}

/// Why a record of the controller's log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is not even a version.
    #[error("a record of the controller's log is empty")]
    Empty,
    /// A newer program wrote it.
    #[error(
        "the controller's log has records of version {0}, this program knows up to {RECORD_VERSION}; run the newer program again"
    )]
    Newer(u8),
    /// It does not parse, though its checksum was right.
    #[error("a record of the controller's log does not parse: {0}")]
    Json(#[from] serde_json::Error),
    /// A name in it is not allowed.
    #[error("a record of the controller's log names a topic that cannot be: {0}")]
    Name(#[from] TopicNameError),
    /// An id in it is not one.
    #[error("a record of the controller's log has the topic id '{0}', which is not 32 hex digits")]
    Id(String),
    /// The parts of a snapshot, or the revisions, do not follow one another.
    #[error(
        "the controller's log goes from revision {have} to {found}; records are missing between them"
    )]
    Gap {
        /// Revision before the record.
        have: u64,
        /// Revision in the record.
        found: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Document {
    TopicCreated {
        revision: u64,
        topic: TopicDocument,
    },
    TopicDeleted {
        revision: u64,
        id: String,
        name: String,
    },
    ConfigChanged {
        revision: u64,
        id: String,
        name: String,
        configs: BTreeMap<String, String>,
    },
    PartitionsAdded {
        revision: u64,
        id: String,
        name: String,
        total: u32,
    },
    ProducerIdsAllocated {
        revision: u64,
        next: i64,
    },
    Snapshot {
        revision: u64,
        part: u32,
        parts: u32,
        topics: Vec<TopicDocument>,
        #[serde(default)]
        next_producer_id: i64,
    },
}

#[derive(Serialize, Deserialize)]
struct TopicDocument {
    id: String,
    name: String,
    partitions: u32,
    configs: BTreeMap<String, String>,
}

impl Record {
    /// The record's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut value = vec![RECORD_VERSION];
        serde_json::to_writer(&mut value, &self.document())
            .expect("strings, numbers and maps with string keys always serialise");
        value
    }

    /// Reads a record's value.
    pub fn decode(value: &[u8]) -> Result<Record, RecordError> {
        let (version, json) = value.split_first().ok_or(RecordError::Empty)?;
        if !(OLDEST_VERSION..=RECORD_VERSION).contains(version) {
            return Err(RecordError::Newer(*version));
        }
        Record::from_document(serde_json::from_slice(json)?)
    }

    fn document(&self) -> Document {
        match self.clone() {
            Record::Change { revision, change } => match change {
                Change::TopicCreated(topic) => Document::TopicCreated {
                    revision,
                    topic: topic.into(),
                },
                Change::TopicDeleted { id, name } => Document::TopicDeleted {
                    revision,
                    id: id.to_string(),
                    name: name.to_string(),
                },
                Change::ConfigChanged { id, name, configs } => Document::ConfigChanged {
                    revision,
                    id: id.to_string(),
                    name: name.to_string(),
                    configs,
                },
                Change::PartitionsAdded { id, name, total } => Document::PartitionsAdded {
                    revision,
                    id: id.to_string(),
                    name: name.to_string(),
                    total,
                },
                Change::ProducerIdsAllocated { next } => Document::ProducerIdsAllocated {
                    revision,
                    next: next.0,
                },
            },
            Record::SnapshotPart {
                revision,
                part,
                parts,
                topics,
                next_producer_id,
            } => Document::Snapshot {
                revision,
                part,
                parts,
                topics: topics.into_iter().map(TopicDocument::from).collect(),
                next_producer_id: next_producer_id.0,
            },
        }
    }

    fn from_document(document: Document) -> Result<Record, RecordError> {
        let (revision, change) = match document {
            Document::TopicCreated { revision, topic } => {
                (revision, Change::TopicCreated(topic.try_into()?))
            }
            Document::TopicDeleted { revision, id, name } => (
                revision,
                Change::TopicDeleted {
                    id: parse_id(&id)?,
                    name: parse_name(&name)?,
                },
            ),
            Document::ConfigChanged {
                revision,
                id,
                name,
                configs,
            } => (
                revision,
                Change::ConfigChanged {
                    id: parse_id(&id)?,
                    name: parse_name(&name)?,
                    configs,
                },
            ),
            Document::PartitionsAdded {
                revision,
                id,
                name,
                total,
            } => (
                revision,
                Change::PartitionsAdded {
                    id: parse_id(&id)?,
                    name: parse_name(&name)?,
                    total,
                },
            ),
            Document::ProducerIdsAllocated { revision, next } => (
                revision,
                Change::ProducerIdsAllocated {
                    next: ProducerId(next),
                },
            ),
            Document::Snapshot {
                revision,
                part,
                parts,
                topics,
                next_producer_id,
            } => {
                let topics = topics
                    .into_iter()
                    .map(Topic::try_from)
                    .collect::<Result<Vec<_>, _>>()?;
                return Ok(Record::SnapshotPart {
                    revision,
                    part,
                    parts,
                    topics,
                    next_producer_id: ProducerId(next_producer_id),
                });
            }
        };
        Ok(Record::Change { revision, change })
    }
}

fn parse_id(id: &str) -> Result<TopicId, RecordError> {
    u128::from_str_radix(id, 16)
        .map(TopicId)
        .map_err(|_| RecordError::Id(id.to_owned()))
}

fn parse_name(name: &str) -> Result<TopicName, RecordError> {
    Ok(name.parse()?)
}

impl From<Topic> for TopicDocument {
    fn from(topic: Topic) -> TopicDocument {
        TopicDocument {
            id: topic.id.to_string(),
            name: topic.name.to_string(),
            partitions: topic.partitions,
            configs: topic.configs,
        }
    }
}

impl TryFrom<TopicDocument> for Topic {
    type Error = RecordError;

    fn try_from(document: TopicDocument) -> Result<Topic, RecordError> {
        Ok(Topic {
            id: parse_id(&document.id)?,
            name: parse_name(&document.name)?,
            partitions: document.partitions,
            configs: document.configs,
        })
    }
}

/// The whole state as records.
#[must_use]
pub fn snapshot(state: &State) -> Vec<Record> {
    let topics: Vec<Topic> = state.topics().cloned().collect();
    let mut pieces: Vec<&[Topic]> = topics.chunks(TOPICS_PER_PART).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let parts = u32::try_from(pieces.len()).expect("far fewer than 2^32 topics");
    (0..)
        .zip(pieces)
        .map(|(part, topics)| Record::SnapshotPart {
            revision: state.revision(),
            part,
            parts,
            topics: topics.to_vec(),
            next_producer_id: state.next_producer_id(),
        })
        .collect()
}

/// Builds the state from the records of the log, in order. The log may begin anywhere at or before
/// a snapshot; a snapshot that was cut off by a crash is passed over, because what it repeats still
/// stands before it.
#[derive(Debug, Default)]
pub struct Replay {
    state: State,
    snapshot: Option<(u32, Vec<Topic>)>,
}

impl Replay {
    /// Takes the next record.
    pub fn push(&mut self, record: Record) -> Result<(), RecordError> {
        match record {
            Record::Change { revision, change } => {
                self.snapshot = None;
                let have = self.state.revision();
                if revision != have + 1 {
                    return Err(RecordError::Gap {
                        have,
                        found: revision,
                    });
                }
                self.state.apply(&change);
            }
            Record::SnapshotPart {
                revision,
                part,
                parts,
                topics,
                next_producer_id,
            } => {
                let mut gathered = match self.snapshot.take() {
                    Some((next, gathered)) if next == part => gathered,
                    _ if part == 0 => Vec::new(),
                    _ => return Ok(()),
                };
                gathered.extend(topics);
                if part + 1 == parts {
                    self.state = State::from_snapshot(revision, gathered, next_producer_id);
                } else {
                    self.snapshot = Some((part + 1, gathered));
                }
            }
        }
        Ok(())
    }

    /// The state that the records led to.
    #[must_use]
    pub fn finish(self) -> State {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, id: u128) -> Topic {
        Topic {
            id: TopicId(id),
            name: name.parse().expect("a name"),
            partitions: 2,
            configs: BTreeMap::from([("segment.ms".into(), "9".into())]),
        }
    }

    fn changes() -> Vec<Change> {
        let name: TopicName = "a".parse().expect("a name");
        let id = TopicId(7);
        vec![
            Change::TopicCreated(topic("a", 7)),
            Change::ConfigChanged {
                id,
                name: name.clone(),
                configs: BTreeMap::new(),
            },
            Change::PartitionsAdded {
                id,
                name: name.clone(),
                total: 5,
            },
            Change::ProducerIdsAllocated {
                next: ProducerId(1000),
            },
            Change::TopicCreated(topic("b", 8)),
            Change::ProducerIdsAllocated {
                next: ProducerId(2000),
            },
            Change::TopicDeleted { id, name },
        ]
    }

    #[test]
    fn records_survive_being_written_down() {
        for (revision, change) in (1..).zip(changes()) {
            let record = Record::Change { revision, change };
            assert_eq!(
                Record::decode(&record.encode()).expect("own record"),
                record
            );
        }
    }

    #[test]
    fn replay_leads_where_the_changes_led_with_or_without_snapshots() {
        let mut state = State::default();
        let mut plain = Replay::default();
        let mut with_snapshots = Replay::default();
        let mut from_last_snapshot = Replay::default();
        for change in changes() {
            state.apply(&change);
            let record = Record::Change {
                revision: state.revision(),
                change,
            };
            plain.push(record.clone()).expect("in order");
            with_snapshots.push(record).expect("in order");
            from_last_snapshot = Replay::default();
            for part in snapshot(&state) {
                with_snapshots.push(part.clone()).expect("in order");
                from_last_snapshot.push(part).expect("in order");
            }
        }
        assert_eq!(plain.finish(), state);
        assert_eq!(with_snapshots.finish(), state);
        assert_eq!(from_last_snapshot.finish(), state);
    }

    #[test]
    fn a_snapshot_of_many_parts_counts_only_when_whole() {
        let topics = (0..1200).map(|n| topic(&format!("t{n}"), n));
        let state = State::from_snapshot(40, topics, ProducerId(3000));
        let parts = snapshot(&state);
        assert_eq!(parts.len(), 3);
        let mut cut = Replay::default();
        for part in &parts[..2] {
            cut.push(part.clone()).expect("in order");
        }
        // The crash came here; at the next start the snapshot is taken again.
        assert_eq!(cut.state, State::default());
        for part in parts {
            cut.push(part).expect("in order");
        }
        assert_eq!(cut.finish(), state);
    }

    #[test]
    fn what_version_1_wrote_is_read_and_has_no_producer_ids() {
        let created = br#"{"topic_created":{"revision":1,"topic":{"id":"7","name":"a","partitions":2,"configs":{"segment.ms":"9"}}}}"#;
        let snapshot = br#"{"snapshot":{"revision":9,"part":0,"parts":1,"topics":[]}}"#;
        let mut replay = Replay::default();
        for json in [&created[..], snapshot] {
            let value = [&[1], json].concat();
            let record = Record::decode(&value).expect("an old record");
            replay.push(record).expect("in order");
        }
        let state = replay.finish();
        assert_eq!((state.revision(), state.topics().count()), (9, 0));
        assert_eq!(state.next_producer_id(), ProducerId(0));
    }

    #[test]
    fn gaps_and_newer_versions_are_told() {
        let record = Record::Change {
            revision: 3,
            change: changes().remove(0),
        };
        assert!(matches!(
            Replay::default().push(record.clone()),
            Err(RecordError::Gap { have: 0, found: 3 })
        ));
        let mut value = record.encode();
        value[0] = 9;
        let error = Record::decode(&value).expect_err("newer").to_string();
        assert!(
            error.contains("version 9") && error.contains("up to 2"),
            "{error}"
        );
        value[0] = 0;
        assert!(matches!(Record::decode(&value), Err(RecordError::Newer(0))));
        assert!(matches!(Record::decode(&[]), Err(RecordError::Empty)));
        assert!(matches!(
            Record::decode(&[1, b'{']),
            Err(RecordError::Json(_))
        ));
    }
}
