//! Sending records.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::{ClientError, Record, RecordPlace};

/// Sends records. Cloning is cheap, and any number of tasks may use it at once.
#[derive(Clone, Debug)]
pub struct Producer {}

/// What will become of a record that was accepted: where it is stored, or why it is not.
///
/// Dropping it changes nothing about the record, only nobody learns of its fate.
#[derive(Debug)]
#[must_use = "the record's fate is only known from its delivery; drop it explicitly if it does not matter"]
pub struct Delivery {}

impl Future for Delivery {
    type Output = Result<RecordPlace, ClientError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Err(ClientError::Closed))
    }
}

impl Producer {
    /// Hands a record over, waiting for buffer space. Records of one task to one partition are
    /// stored in the order in which they were accepted.
    ///
    /// Cancel safety: if the future is dropped before it returns, the record was not accepted and
    /// is not sent. Once it has returned, the record is sent whatever happens to the [`Delivery`].
    pub async fn send(&self, record: Record) -> Result<Delivery, ClientError> {
        let _ = record;
        Err(ClientError::Closed)
    }

    /// Sends what is gathered without lingering and waits until every record accepted so far is
    /// stored or has failed; the failures are told by their deliveries, and the first also here.
    pub async fn flush(&self) -> Result<(), ClientError> {
        Err(ClientError::Closed)
    }

    /// Refuses further records, then does as `flush`. Applies to every clone.
    pub async fn close(&self) -> Result<(), ClientError> {
        Err(ClientError::Closed)
    }
}
