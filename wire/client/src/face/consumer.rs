//! Reading records.

use std::time::Duration;

use crate::{ClientError, ConsumedRecord, Start};

/// Reads the partitions that it was assigned.
#[derive(Debug)]
pub struct Consumer {}

impl Consumer {
    /// Reads these partitions from these places, and no others. Returns when the places are known,
    /// so that what is produced after it returns lies behind [`Start::Latest`].
    ///
    /// Cancel safety: if the future is dropped, the assignment stands and is worked out in the
    /// background.
    pub async fn assign(&mut self, partitions: &[(&str, u32, Start)]) -> Result<(), ClientError> {
        let _ = partitions;
        Err(ClientError::Closed)
    }

    /// Reads all partitions that the topic has now, as `assign` does.
    pub async fn assign_topic(&mut self, topic: &str, start: Start) -> Result<(), ClientError> {
        let _ = (topic, start);
        Err(ClientError::Closed)
    }

    /// Goes on from another place in an assigned partition; what was fetched ahead is dropped.
    /// Returns when the place is known.
    pub async fn seek(
        &mut self,
        topic: &str,
        partition: u32,
        to: Start,
    ) -> Result<(), ClientError> {
        let _ = (topic, partition, to);
        Err(ClientError::Closed)
    }

    /// The offset of the next record that `poll` gives of this partition, once it is known.
    #[must_use]
    pub fn position(&self, topic: &str, partition: u32) -> Option<i64> {
        let _ = (topic, partition);
        None
    }

    /// The high watermark that the broker last told of this partition: how far it could be read.
    #[must_use]
    pub fn high_watermark(&self, topic: &str, partition: u32) -> Option<i64> {
        let _ = (topic, partition);
        None
    }

    /// Records, as soon as there are any; an empty list when there were none for `timeout`.
    /// Records of a partition come in order.
    ///
    /// Cancel safety: the position only advances for records that were returned, so a dropped
    /// future loses none.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        let _ = timeout;
        Err(ClientError::Closed)
    }
}
