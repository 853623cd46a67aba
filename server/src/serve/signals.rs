//! SIGTERM and SIGINT, on an ordinary thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::future::poll_fn;
use futures_util::task::AtomicWaker;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What a shell reports of a process that SIGINT ended.
const EXIT_AT_ONCE: i32 = 130;

/// The wish that the broker stop, from any thread to one task of a shard. No locks: an atomic flag
/// and an atomic place for a waker.
#[derive(Default)]
pub(super) struct StopSignal {
    requested: AtomicBool,
    waker: AtomicWaker,
}

impl StopSignal {
    /// Asks the broker to stop.
    pub(super) fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Ready when the broker is to stop. One task at a time may wait.
    pub(super) async fn requested(&self) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            match self.requested.load(Ordering::Acquire) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

/// From here on the first signal asks the broker to stop and the second ends the process.
pub(super) fn listen(stop: Arc<StopSignal>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let wait = move || {
        let mut arrived = signals.forever();
        if arrived.next().is_some() {
            tracing::info!("stopping; a second signal ends the process at once");
            stop.request();
        }
        if arrived.next().is_some() {
            // An error, since only those are written before the process goes on, here to its end.
            tracing::error!("ended at once by a second signal");
            std::process::exit(EXIT_AT_ONCE);
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait)?;
    Ok(())
}
