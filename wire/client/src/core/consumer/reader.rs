//! From batches to records: the half of a consumer that its user's task runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millrace_wire::batch::{BatchHeader, DEFAULT_MAX_UNCOMPRESSED_BYTES, Records, batch_len};

use super::Chunk;
use crate::{ClientError, ConsumedRecord};

/// How far reading has come in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The next record to be read.
    pub offset: i64,
    /// Leader epoch of the last one that was, where it is known.
    pub leader_epoch: Option<i32>,
}

impl Progress {
    /// Come here without reading.
    #[must_use]
    pub fn at(offset: i64) -> Progress {
        Progress {
            offset,
            leader_epoch: None,
        }
    }

    /// Past the whole of this batch, if that is further.
    fn past(self, header: &BatchHeader) -> Progress {
        match header.next_offset().0 {
            end if end > self.offset => Progress::through(end, header),
            _ => self,
        }
    }

    /// Past records of this batch up to `offset`.
    fn through(offset: i64, header: &BatchHeader) -> Progress {
        Progress {
            offset,
            leader_epoch: Some(header.leader_epoch).filter(|epoch| *epoch >= 0),
        }
    }
}

/// Verifies, expands and cuts up chunks, and knows what was handed out. It holds one batch expanded
/// at a time.
#[derive(Debug, Default)]
pub struct Reader {
    current: Option<Current>,
    positions: BTreeMap<(Arc<str>, u32), Progress>,
}

#[derive(Debug)]
struct Current {
    chunk: Chunk,
    /// The batch that is being read.
    records: Option<Records>,
    /// The next offset wanted, and what was read before it.
    progress: Progress,
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
        self.progress(topic, partition)
            .map(|progress| progress.offset)
    }

    /// How far handing out has come in this partition, if anything was.
    #[must_use]
    pub fn progress(&self, topic: &str, partition: u32) -> Option<Progress> {
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
            .map(|current| current.progress.offset)
    }

    /// Begins to read a chunk. The one before must be finished.
    pub fn begin(&mut self, chunk: Chunk) {
        let progress = Progress::at(chunk.offset);
        self.current = Some(Current {
            chunk,
            records: None,
            progress,
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
            self.positions.insert(key, current.progress);
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
                offset: current.progress.offset,
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
                    self.progress = self.progress.past(records.header());
                } else {
                    self.records = Some(records);
                }
                continue;
            };
            match records.next() {
                None => {
                    self.progress = self.progress.past(records.header());
                    self.records = None;
                }
                Some(Err(error)) => return Err(error.to_string()),
                // The batch may begin before what was asked for.
                Some(Ok(record)) if record.offset.0 < self.progress.offset => {}
                Some(Ok(record)) => {
                    self.progress = Progress::through(record.offset.0 + 1, records.header());
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
