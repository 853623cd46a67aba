//! A record's fate, shared with the others of its batch.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::core::BatchPlace;
use crate::{ClientError, RecordPlace};

type Outcome = Result<BatchPlace, ClientError>;

/// What became of a batch. All deliveries of the batch look at the same cell, so that a record costs
/// no channel of its own.
#[derive(Debug, Default)]
pub(super) struct BatchCell(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    wakers: Vec<Option<Waker>>,
}

impl BatchCell {
    pub(super) fn finish(&self, outcome: Outcome) {
        let wakers = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.outcome = Some(outcome);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// `slot` is the caller's own and begins as none.
    fn poll(&self, slot: &mut Option<usize>, context: &Context<'_>) -> Poll<Outcome> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        let slot = *slot.get_or_insert_with(|| {
            state.wakers.push(None);
            state.wakers.len() - 1
        });
        let waker = &mut state.wakers[slot];
        if waker
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn forget(&self, slot: Option<usize>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = slot.and_then(|slot| state.wakers.get_mut(slot)) {
            *waker = None;
        }
    }

    /// Waits for the batch.
    pub(super) async fn wait(&self) -> Outcome {
        let mut slot = None;
        std::future::poll_fn(|context| self.poll(&mut slot, context)).await
    }
}

/// What will become of a record that was accepted: where it is stored, or why it is not.
///
/// Dropping it changes nothing about the record, only nobody learns of its fate.
#[derive(Debug)]
#[must_use = "the record's fate is only known from its delivery; drop it if it does not matter"]
pub struct Delivery {
    pub(super) cell: Arc<BatchCell>,
    pub(super) partition: u32,
    pub(super) index: u32,
    pub(super) timestamp: i64,
    pub(super) slot: Option<usize>,
}

impl Future for Delivery {
    type Output = Result<RecordPlace, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.cell.poll(&mut this.slot, context).map(|outcome| {
            outcome.map(|place| RecordPlace {
                partition: this.partition,
                offset: place.base_offset.map(|base| base + i64::from(this.index)),
                timestamp: place.append_time_ms.unwrap_or(this.timestamp),
            })
        })
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.cell.forget(self.slot);
    }
}
