//! Wakes a shard that sleeps with work in its queues.
//!
//! glommio's executor can go to sleep with runnable tasks, until some I/O happens to arrive, when
//! its preempt timer fires between the polling of the rings and the first check for preemption. A
//! timer task does not help, it sleeps too. So one ordinary thread looks at every shard's
//! [`Pulse`]: where something was runnable at the last look and still is, and nothing was polled in
//! between, it wakes the executor by a waker of its own. A shard without runnable tasks is never
//! woken. A stall lasts two periods at most; the first one after a time in which nothing happened on
//! any shard, when looks are rarer, nine.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::pulse::Pulse;

/// How often the watchdog looks.
pub const DEFAULT_PERIOD: Duration = Duration::from_millis(5);

/// By how much rarer looks become, doubling from one to the next, while nothing happens: looking was
/// most of what an idle broker did.
const MOST_PERIODS: u32 = 8;

/// The thread that looks; it ends when this is dropped.
pub struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts to watch over `pulses`.
    pub fn start(pulses: Vec<Arc<Pulse>>, period: Duration) -> std::io::Result<Watchdog> {
        let (stop, stopped) = bounded::<()>(0);
        let mut watched: Vec<Watched> = pulses.into_iter().map(Watched::new).collect();
        let thread = std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                let mut periods = 1;
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(period * periods) {
                    let busy = watched
                        .iter_mut()
                        .filter_map(|shard| shard.look().then_some(()));
                    periods = match busy.count() {
                        0 => (periods * 2).min(MOST_PERIODS),
                        _ => 1,
                    };
                }
            })?;
        Ok(Watchdog {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked; if it has, there is nothing left to do about it.
            let _ = thread.join();
        }
    }
}

/// One shard, and what was seen of it at the last look.
struct Watched {
    pulse: Arc<Pulse>,
    had_work: bool,
    polls: u64,
}

impl Watched {
    fn new(pulse: Arc<Pulse>) -> Watched {
        Watched {
            had_work: false,
            polls: 0,
            pulse,
        }
    }

    /// Tells whether anything has happened or should.
    fn look(&mut self) -> bool {
        let (has_work, polls) = (self.pulse.has_runnable_tasks(), self.pulse.polls());
        if self.had_work && has_work && polls == self.polls {
            self.pulse.kick();
        }
        let busy = has_work || polls != self.polls;
        (self.had_work, self.polls) = (has_work, polls);
        busy
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use millrace_wire::ids::ShardId;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_a_shard_with_work_and_no_progress_is_woken() {
        let pulse = Arc::new(Pulse::new(ShardId(0)));
        let count = Arc::<Count>::default();
        let woken = || count.0.load(Ordering::Relaxed);
        pulse.set_kick(Some(Waker::from(Arc::clone(&count))));
        let mut watched = Watched::new(Arc::clone(&pulse));
        assert!((0..5).all(|_| !watched.look()));
        assert_eq!(woken(), 0, "idle");
        pulse.task_became_runnable();
        assert!(watched.look());
        assert_eq!(woken(), 0, "it may get to it");
        pulse.count_poll();
        assert!(watched.look());
        assert_eq!(woken(), 0, "it makes progress");
        assert!(watched.look());
        assert_eq!((woken(), pulse.kicks()), (1, 1), "it does not");
        pulse.task_left_the_queue();
        assert!(!watched.look());
        pulse.set_kick(None);
        assert_eq!(woken(), 1);
    }
}
