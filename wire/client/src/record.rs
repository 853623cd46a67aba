//! Records on their way in and out.

use std::sync::Arc;

use bytes::Bytes;

/// A record's header: a name, which may repeat, and a value.
pub type Header = (String, Option<Bytes>);

/// A record to be produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic name.
    pub topic: Arc<str>,
    /// The partition, or none to let the key (or, without one, the producer) choose.
    pub partition: Option<u32>,
    /// Records with equal keys go to the same partition, the one Kafka's clients choose too.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<Header>,
    /// ms since 1970; the time of `send` when absent.
    pub timestamp: Option<i64>,
}

impl Record {
    /// A record without key or headers.
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Record {
        Record {
            topic: topic.into(),
            partition: None,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Record {
        self.key = Some(key.into());
        self
    }

    /// To this partition.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Record {
        self.partition = Some(partition);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Record {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// With this timestamp, ms since 1970.
    #[must_use]
    pub fn timestamp(mut self, ms: i64) -> Record {
        self.timestamp = Some(ms);
        self
    }
}

/// Where a record was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// The partition.
    pub partition: u32,
    /// Its offset; none with `acks` 0, where the broker does not tell, and of a record that was sent
    /// again so late that the broker only knows that it has it.
    pub offset: Option<i64>,
    /// ms since 1970: the record's own, or the broker's where the topic stamps by append time.
    pub timestamp: i64,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: i64,
    /// ms since 1970.
    pub timestamp: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// Value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order. What is not UTF-8 in a name is replaced.
    pub headers: Vec<Header>,
}
