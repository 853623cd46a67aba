//! The task that takes in what the ring has, and lets the shard sleep when it has nothing to do.
//!
//! The executor's own way to sleep and back costs some ten system calls, most of them for timers. A
//! shard that waits for what is about to happen (a journal's write, the next request of a client that
//! was just answered) therefore first sleeps here, for a moment, on the ring alone.

use std::future::poll_fn;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::io::BufferedFile;

use super::Ring;
use crate::runtime::{Pulse, stop_process};

/// How long a shard sleeps on its ring for a write that is under way. Whatever else may happen (a
/// timer, a new connection, a message of the control thread) then waits for as long.
const PATIENCE_WRITE: Duration = Duration::from_micros(300);
/// The same for the next request, and where other shards may have something to say.
const PATIENCE: Duration = Duration::from_micros(40);
/// How often other tasks are let go first before the executor decides what is next.
const ROUNDS: u32 = 64;

/// Takes turns for as long as the executor lives.
pub(crate) fn serve(ring: Ring, pulse: Arc<Pulse>) -> std::io::Result<impl Future<Output = ()>> {
    let wake = ring.wake().try_clone_to_owned()?;
    // SAFETY: the descriptor's ownership moves here from `wake`, which gives it up.
    let wake = unsafe { BufferedFile::from_raw_fd(wake.into_raw_fd()) };
    Ok(async move {
        loop {
            stay(&ring, &pulse).await;
            if !ring.arm() {
                continue;
            }
            let woken = wake.read_at(0, size_of::<u64>()).await;
            ring.disarm();
            if let Err(error) = woken {
                stop_process(&format!("a shard can no longer be woken: {error}"));
            }
        }
    })
}

/// Takes in what comes, and lets who is woken by it run, until nothing is likely to come soon.
async fn stay(ring: &Ring, pulse: &Pulse) {
    let mut last = Instant::now();
    let mut rounds = 0;
    loop {
        if ring.turn() {
            (last, rounds) = (Instant::now(), 0);
        }
        if pulse.has_runnable_tasks() {
            rounds += 1;
            if rounds > ROUNDS {
                return;
            }
            give_way().await;
            continue;
        }
        let left = ring.patience().saturating_sub(last.elapsed());
        if left.is_zero() {
            return;
        }
        ring.inner.sleep(left);
    }
}

impl Ring {
    /// How long to sleep on the ring alone.
    fn patience(&self) -> Duration {
        let inner = &self.inner;
        if inner.elsewhere.get() > 0 {
            return Duration::ZERO;
        }
        match inner.operations.borrow().has_writes() && !inner.has_peers.get() {
            true => PATIENCE_WRITE,
            false => PATIENCE,
        }
    }
}

/// Lets every other task of the queue run first.
async fn give_way() {
    let mut gave_way = false;
    poll_fn(|context| {
        if std::mem::replace(&mut gave_way, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
