//! Gets an executor through its first poll.
//!
//! The stall that the watchdog mends (see `watchdog`) can strike before anything ran: if the thread
//! is held up for longer than the preempt timer between its first look at the rings and its first
//! task, glommio parks it with that task in the queue. Nothing of that executor has handed out a
//! waker yet, so nothing can wake it; on a busy machine one start in a hundred hung for ever. A
//! signal can: it interrupts the wait for the rings, and the executor looks at its queues again.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

/// How long the first poll may take before the thread is nudged, and between nudges.
const PERIOD: Duration = Duration::from_millis(10);

/// Ignored unless someone asks for it, and used by nobody here.
const SIGNAL: libc::c_int = libc::SIGURG;

/// Waits until a new executor polls. `told` hears of it twice: when the executor is made, from then
/// on its thread can only be in `run`, and when it polls. It hears nothing of one that failed.
pub(super) fn wait_for_first_poll<T>(
    thread: &JoinHandle<T>,
    told: &Receiver<()>,
) -> io::Result<()> {
    if told.recv().is_err() {
        return Ok(());
    }
    while told.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
        nudge(thread)?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "signals to a thread are a C interface")]
fn nudge<T>(thread: &JoinHandle<T>) -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}

    static HANDLED: OnceLock<libc::c_int> = OnceLock::new();
    let handled = HANDLED.get_or_init(|| {
        let handler: extern "C" fn(libc::c_int) = nothing;
        // SAFETY: a zeroed `sigaction` is a valid one without flags; in particular system calls are
        // interrupted, not restarted. The handler does nothing, so it is safe at any point.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            libc::sigaction(SIGNAL, &action, std::ptr::null_mut())
        }
    });
    if *handled != 0 {
        return Err(io::Error::other("the system refuses a handler for SIGURG"));
    }
    // SAFETY: the thread has not been joined, since its handle is here, so its id is valid.
    match unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGNAL) } {
        // It has ended: the caller learns why when it joins it.
        0 | libc::ESRCH => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};

    use super::super::executor::{ExecutorSettings, ShardThread};
    use super::super::testing::{place, scratch, settings};
    use super::super::watchdog::{DEFAULT_PERIOD, Watchdog};
    use super::*;

    /// Executors whose preempt timer is far too short, on a CPU that others want too: without the
    /// nudge some never begin.
    #[test]
    fn executors_begin_on_a_busy_machine() {
        let stop = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..8)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        let (done, ends) = mpsc::channel();
        std::thread::spawn(move || {
            let directory = scratch();
            let settings = ExecutorSettings {
                preempt_timer: Duration::from_micros(100),
                ..settings()
            };
            for round in 0..60 {
                let place = place(0, directory.path());
                let thread = ShardThread::start(place, &settings, |_env| async {}).unwrap();
                let _watchdog = Watchdog::start(vec![thread.pulse()], DEFAULT_PERIOD).unwrap();
                thread.join().unwrap();
                let _ = done.send(round);
            }
        });
        let mut rounds = 0;
        while ends.recv_timeout(Duration::from_secs(20)).is_ok() {
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
        busy.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(rounds, 60, "an executor did not begin");
    }
}
