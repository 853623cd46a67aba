//! Threads that stand for the machines of a group's members: each has a runtime of its own, so that one
//! of them can stand still while the others go on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use crate::run::RunError;

/// Done on the host's thread, where it may spawn local tasks.
type Order = Box<dyn FnOnce() + Send>;

/// A thread and its runtime.
pub(super) struct Host {
    orders: UnboundedSender<Order>,
    thread: JoinHandle<()>,
}

impl Host {
    /// Starts one, on the CPUs of the calling thread.
    pub(super) fn start(name: &str) -> Result<Host, RunError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(RunError::Host)?;
        let (orders, mut given) = unbounded_channel::<Order>();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                LocalSet::new().block_on(&runtime, async {
                    while let Some(order) = given.recv().await {
                        order();
                    }
                });
            })
            .map_err(RunError::Host)?;
        Ok(Host { orders, thread })
    }

    /// Does this there, after what was asked for before.
    pub(super) fn run(&self, order: impl FnOnce() + Send + 'static) {
        // A host that panicked is missed by its members, whose group does not settle any more.
        let _ = self.orders.send(Box::new(order));
    }

    /// Lets everything on it stand still for so long, the clients' own tasks with it.
    pub(super) fn stand_still(&self, time: Duration) {
        self.run(move || thread::sleep(time));
    }

    /// Ends it, with whatever still runs there.
    pub(super) fn end(self) {
        drop(self.orders);
        // It has said why if it panicked.
        let _ = self.thread.join();
    }
}

/// What was a thread's that panicked is still right: nothing is changed in more than one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tokio::task::spawn_local;

    use super::*;

    #[test]
    fn a_host_does_what_it_is_told_in_order_and_drops_the_rest_at_its_end() {
        let host = Host::start("host").unwrap();
        let (sender, done) = channel();
        for number in 0..3 {
            let sender = sender.clone();
            host.run(move || {
                spawn_local(async move { sender.send(number) });
            });
        }
        assert_eq!([(); 3].map(|()| done.recv().unwrap()), [0, 1, 2]);
        host.run(move || {
            spawn_local(async move {
                std::future::pending::<()>().await;
                sender.send(3)
            });
        });
        host.end();
        assert!(done.recv().is_err(), "nobody is left to send");
    }
}
