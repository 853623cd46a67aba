//! From batches to records: the half of a consumer that its user's task runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millrace_wire::batch::{DEFAULT_MAX_UNCOMPRESSED_BYTES, Records, batch_len};

use super::Chunk;
use crate::{ClientError, ConsumedRecord};

/// Verifies, expands and cuts up chunks, and knows what was handed out. It holds one batch expanded
/// at a time.
#[derive(Debug, Default)]
pub struct Reader {
    current: Option<Current>,
    positions: BTreeMap<(Arc<str>, u32), i64>,
}

#[derive(Debug)]
struct Current {
    chunk: Chunk,
    /// The batch that is being read.
    records: Option<Records>,
    /// The next offset wanted.
    offset: i64,
}

impl Reader {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Reader {
        Reader::default()
    }

    /// The offset of the next record to be handed out of this partition, if any was.
    #[must_use]
    pub fn position(&self, topic: &str, partition: u32) -> Option<i64> {
        self.positions.get(&(Arc::from(topic), partition)).copied()
    }

    /// Whether a chunk is begun and not finished.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.current.is_some()
    }

    /// The next offset wanted of this partition, if a chunk of it is begun and not finished.
    #[must_use]
    pub fn unfinished(&self, topic: &str, partition: u32) -> Option<i64> {
        let of = |current: &&Current| {
            &*current.chunk.topic == topic && current.chunk.partition == partition
        };
        self.current
            .as_ref()
            .filter(of)
            .map(|current| current.offset)
    }

    /// Begins to read a chunk. The one before must be finished.
    pub fn begin(&mut self, chunk: Chunk) {
        let offset = chunk.offset;
        self.current = Some(Current {
            chunk,
            records: None,
            offset,
        });
    }

    /// Forgets all partitions.
    pub fn clear(&mut self) {
        *self = Reader::default();
    }

    /// Forgets one partition, which was sought.
    pub fn forget(&mut self, topic: &str, partition: u32) {
        self.positions.remove(&(Arc::from(topic), partition));
        let of = |current: &Current| {
            &*current.chunk.topic == topic && current.chunk.partition == partition
        };
        if self.current.as_ref().is_some_and(of) {
            self.current = None;
        }
    }

    /// Drops what is begun of one partition, whose position stays.
    pub fn interrupt(&mut self, topic: &str, partition: u32) {
        if self.unfinished(topic, partition).is_some() {
            self.current = None;
        }
    }

    /// Adds records of the current chunk to `out`, until there are `most` in it or the chunk is
    /// finished. Every batch's checksum is verified before its first record is given out. After an
    /// error the rest of the chunk is dropped, and the position stays before what is damaged.
    pub fn read(&mut self, most: usize, out: &mut Vec<ConsumedRecord>) -> Result<(), ClientError> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let before = out.len();
        let read = current.read(most, out);
        if out.len() > before || matches!(read, Ok(Finished::Yes)) {
            let key = (current.chunk.topic.clone(), current.chunk.partition);
            self.positions.insert(key, current.offset);
        }
        match read {
            Ok(Finished::Yes) => Ok(()),
            Ok(Finished::No) => {
                self.current = Some(current);
                Ok(())
            }
            Err(reason) => Err(ClientError::Corrupt {
                topic: current.chunk.topic.to_string(),
                partition: current.chunk.partition,
                offset: current.offset,
                reason,
            }),
        }
    }
}

enum Finished {
    Yes,
    No,
}

impl Current {
    fn read(&mut self, most: usize, out: &mut Vec<ConsumedRecord>) -> Result<Finished, String> {
        while out.len() < most {
            let Some(records) = &mut self.records else {
                let Some(batch) = self.next_batch()? else {
                    return Ok(Finished::Yes);
                };
                let records = Records::decode(&batch, DEFAULT_MAX_UNCOMPRESSED_BYTES)
                    .map_err(|error| error.to_string())?;
                // A control batch tells of transactions, not of data; its offsets are passed over.
                if records.header().attributes.is_control() {
                    self.offset = self.offset.max(records.header().next_offset().0);
                } else {
                    self.records = Some(records);
                }
                continue;
            };
            match records.next() {
                None => {
                    self.offset = self.offset.max(records.header().next_offset().0);
                    self.records = None;
                }
                Some(Err(error)) => return Err(error.to_string()),
                // The batch may begin before what was asked for.
                Some(Ok(record)) if record.offset.0 < self.offset => {}
                Some(Ok(record)) => {
                    self.offset = record.offset.0 + 1;
                    out.push(ConsumedRecord {
                        topic: self.chunk.topic.clone(),
                        partition: self.chunk.partition,
                        offset: record.offset.0,
                        timestamp: record.timestamp,
                        key: record.key,
                        value: record.value,
                        headers: record
                            .headers
                            .into_iter()
                            .map(|header| (header.key_str().into_owned(), header.value))
                            .collect(),
                    });
                }
            }
        }
        let done = self.records.is_none() && self.chunk.data.is_empty();
        Ok(if done { Finished::Yes } else { Finished::No })
    }

    fn next_batch(&mut self) -> Result<Option<Bytes>, String> {
        if self.chunk.data.is_empty() {
            return Ok(None);
        }
        let length = batch_len(&self.chunk.data).map_err(|error| error.to_string())?;
        if length > self.chunk.data.len() {
            return Err("it is cut short".into());
        }
        Ok(Some(self.chunk.data.split_to(length)))
    }
}
