//! The wrapper around every task of a shard. It decides what a panic means, and it counts wake-ups
//! against polls, so that the watchdog can tell a shard that has nothing to do from one that sleeps
//! although it has.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};

use futures_util::FutureExt;
use futures_util::task::{ArcWake, waker_ref};

use super::pulse::Pulse;
use crate::env::OnPanic;

const WAITING: u8 = 0;
const RUNNABLE: u8 = 1;
const ENDED: u8 = 2;

/// Where a task stands, for the count of its shard.
struct TaskState {
    pulse: Arc<Pulse>,
    state: AtomicU8,
}

impl TaskState {
    fn woken(&self) {
        let turn =
            self.state
                .compare_exchange(WAITING, RUNNABLE, Ordering::Relaxed, Ordering::Relaxed);
        if turn.is_ok() {
            self.pulse.task_became_runnable();
        }
    }

    fn enter(&self, state: u8) {
        if self.state.swap(state, Ordering::Relaxed) == RUNNABLE {
            self.pulse.task_left_the_queue();
        }
    }
}

/// Ends the count of a task, however it ends.
struct Ending(Arc<TaskState>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.enter(ENDED);
    }
}

/// The waker that a task hands out: counts, then wakes the executor's own. A task must not hold its
/// own waker (it would never be freed), so it keeps this one weakly and makes another when all
/// clones are gone.
struct CountingWaker {
    task: Arc<TaskState>,
    inner: Waker,
}

impl ArcWake for CountingWaker {
    fn wake_by_ref(waker: &Arc<Self>) {
        waker.task.woken();
        waker.inner.wake_by_ref();
    }
}

/// Runs `future` under supervision: its result, or nothing if it panicked and only itself ends.
pub(crate) fn supervise<T>(
    pulse: Arc<Pulse>,
    name: &'static str,
    on_panic: OnPanic,
    future: impl Future<Output = T>,
) -> impl Future<Output = Option<T>> {
    let task = Arc::new(TaskState {
        pulse: Arc::clone(&pulse),
        state: AtomicU8::new(WAITING),
    });
    // Whoever makes a task is about to start it.
    task.woken();
    let ending = Ending(task);
    guarded(pulse, ending, name, on_panic, future)
}

async fn guarded<T>(
    pulse: Arc<Pulse>,
    ending: Ending,
    name: &'static str,
    on_panic: OnPanic,
    future: impl Future<Output = T>,
) -> Option<T> {
    let task = Arc::clone(&ending.0);
    let mut handed_out = Weak::<CountingWaker>::new();
    let mut future = pin!(AssertUnwindSafe(future).catch_unwind());
    let result = poll_fn(|context| {
        task.enter(WAITING);
        pulse.count_poll();
        let waker = match handed_out.upgrade() {
            Some(waker) if waker.inner.will_wake(context.waker()) => waker,
            _ => {
                let waker = CountingWaker {
                    task: Arc::clone(&task),
                    inner: context.waker().clone(),
                };
                let waker = Arc::new(waker);
                handed_out = Arc::downgrade(&waker);
                waker
            }
        };
        future
            .as_mut()
            .poll(&mut Context::from_waker(&waker_ref(&waker)))
    })
    .await;
    match result {
        Ok(value) => Some(value),
        Err(panic) => {
            pulse.count_panic();
            let reason = panic_message(&*panic);
            match on_panic {
                OnPanic::EndTask => {
                    tracing::error!(
                        shard = pulse.shard().0,
                        task = name,
                        reason,
                        "a task panicked; it alone ends"
                    );
                    None
                }
                OnPanic::StopProcess => stop_process(&format!("task '{name}' panicked: {reason}")),
            }
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is not text")
}

/// Stops the process at once, without running any more code of it: what is on disk is what counts.
pub(crate) fn stop_process(why: &str) -> ! {
    tracing::error!(
        why,
        "stopping at once; the next start recovers from the journal"
    );
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Poll, Wake};

    use millrace_wire::ids::ShardId;

    use super::*;
    use crate::local::{Event, oneshot};

    struct Nothing;

    impl Wake for Nothing {
        fn wake(self: Arc<Self>) {}
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&Waker::from(Arc::new(Nothing))))
    }

    #[test]
    fn wake_ups_are_counted_until_the_next_poll() {
        let pulse = Arc::new(Pulse::new(ShardId(0)));
        let event = Event::new();
        let waits = async {
            event.listen().await;
            event.listen().await;
        };
        let mut task = pin!(supervise(
            Arc::clone(&pulse),
            "waits",
            OnPanic::EndTask,
            waits
        ));
        assert!(poll(task.as_mut()).is_pending());
        assert!(!pulse.has_runnable_tasks());
        event.notify();
        event.notify();
        assert!(pulse.has_runnable_tasks());
        assert!(poll(task.as_mut()).is_pending());
        assert!(!pulse.has_runnable_tasks());
        assert_eq!(pulse.polls(), 2);
    }

    #[test]
    fn a_task_dropped_while_runnable_is_not_counted_any_more() {
        let pulse = Arc::new(Pulse::new(ShardId(0)));
        let (sender, receiver) = oneshot::<()>();
        let mut task = Box::pin(supervise(
            Arc::clone(&pulse),
            "waits",
            OnPanic::EndTask,
            receiver,
        ));
        assert!(poll(task.as_mut()).is_pending());
        drop(sender);
        assert!(pulse.has_runnable_tasks());
        drop(task);
        assert!(!pulse.has_runnable_tasks());
    }

    #[test]
    fn a_panic_is_counted_and_ends_the_task() {
        let pulse = Arc::new(Pulse::new(ShardId(0)));
        let fragile = async { panic!("on purpose") };
        let task = pin!(supervise(
            Arc::clone(&pulse),
            "fragile",
            OnPanic::EndTask,
            fragile
        ));
        assert_eq!(poll(task), Poll::Ready(None::<()>));
        assert_eq!(pulse.panics(), 1);
    }
}
