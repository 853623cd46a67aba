//! What the handles, the connections and the driver of one client share: the core behind a lock
//! that is held for the time of a decision and never across an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_wire::native::Response;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::debug;

use super::connection;
use super::delivery::BatchCell;
use crate::core::group::CommitId;
use crate::core::producer::BatchId;
use crate::core::{ConnectionId, ConsumerId, Core, Event, ProducerId, RequestId, Time, Transmit};
use crate::{ClientConfig, ClientError};

/// A connection's task.
struct Link {
    /// Frames to be written. Unbounded in form only: what the core hands out is bounded by requests
    /// in flight and by the producers' buffers.
    writer: mpsc::UnboundedSender<Transmit>,
    task: AbortHandle,
}

pub(super) struct Inner {
    pub(super) core: Core,
    links: HashMap<ConnectionId, Link>,
    pub(super) batches: HashMap<BatchId, (ProducerId, Arc<BatchCell>)>,
    pub(super) replies: HashMap<RequestId, oneshot::Sender<Result<Response, ClientError>>>,
    /// Wakes senders that wait for room.
    pub(super) rooms: HashMap<ProducerId, Arc<Notify>>,
    /// Wakes consumers that wait for records or places.
    pub(super) news: HashMap<ConsumerId, Arc<Notify>>,
    /// Answers those who wait for a commit.
    pub(super) commits: HashMap<CommitId, oneshot::Sender<Result<(), ClientError>>>,
    pub(super) connecting: Option<oneshot::Sender<Result<(), ClientError>>>,
    /// What the driver sleeps until.
    armed: Option<Time>,
    /// The last handle is gone.
    closing: bool,
}

impl Inner {
    /// Nobody holds the client any more, and nothing is left to deliver, nor anybody to leave.
    fn is_done(&self) -> bool {
        self.closing && !self.core.has_undelivered() && !self.core.has_departures()
    }
}

pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Wakes the driver.
    wake: Notify,
    /// Wakes whoever waits for a topic.
    pub(super) metadata: Notify,
    origin: Instant,
    runtime: Handle,
}

impl Shared {
    /// Must be called on a tokio runtime.
    pub(super) fn new(config: ClientConfig, seed: u64) -> Arc<Shared> {
        let inner = Inner {
            core: Core::new(config, seed),
            links: HashMap::new(),
            batches: HashMap::new(),
            replies: HashMap::new(),
            rooms: HashMap::new(),
            news: HashMap::new(),
            commits: HashMap::new(),
            connecting: None,
            armed: None,
            closing: false,
        };
        Arc::new(Shared {
            inner: Mutex::new(inner),
            wake: Notify::new(),
            metadata: Notify::new(),
            origin: Instant::now(),
            runtime: Handle::current(),
        })
    }

    pub(super) fn now(&self) -> Time {
        Time(self.origin.elapsed())
    }

    /// A panic of a user's task while it held the lock must not take the others down: every change
    /// under it is one call of the core, which does not panic halfway on purpose.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the core and carries out what follows from it, at once.
    pub(super) fn with<R>(self: &Arc<Shared>, what: impl FnOnce(&mut Inner, Time) -> R) -> R {
        let mut inner = self.lock();
        let now = self.now();
        let result = what(&mut inner, now);
        self.pump(&mut inner, now);
        result
    }

    /// Has what follows from a change of the core carried out soon. Between now and then more may
    /// come, which then leaves together.
    pub(super) fn wake_driver(&self) {
        self.wake.notify_one();
    }

    /// Carries out what the core wants done.
    fn pump(self: &Arc<Shared>, inner: &mut Inner, now: Time) {
        loop {
            while let Some(transmit) = inner.core.poll_transmit(now) {
                if let Some(link) = inner.links.get(&transmit.connection) {
                    // The task may just have ended, and is about to report that.
                    let _ = link.writer.send(transmit);
                }
            }
            let Some(event) = inner.core.poll_event() else {
                break;
            };
            self.carry_out(inner, event);
        }
        let next = inner.core.poll_timeout();
        let earlier = next.is_some_and(|next| inner.armed.is_none_or(|armed| next < armed));
        if earlier || inner.is_done() {
            self.wake.notify_one();
        }
    }

    fn carry_out(self: &Arc<Shared>, inner: &mut Inner, event: Event) {
        match event {
            Event::Connect {
                connection,
                address,
            } => {
                debug!(address, "connecting");
                let (writer, frames) = mpsc::unbounded_channel();
                let task = connection::run(self.clone(), connection, address, frames);
                let task = self.runtime.spawn(task).abort_handle();
                inner.links.insert(connection, Link { writer, task });
            }
            Event::Close { connection } => {
                if let Some(link) = inner.links.remove(&connection) {
                    link.task.abort();
                }
            }
            Event::Ready => {
                if let Some(waiting) = inner.connecting.take() {
                    let _ = waiting.send(Ok(()));
                }
            }
            Event::Unreachable(error) => {
                debug!(%error, "no broker can be reached");
                if let Some(waiting) = inner.connecting.take() {
                    let _ = waiting.send(Err(error));
                }
            }
            Event::Reply { request, result } => {
                if let Some(waiting) = inner.replies.remove(&request) {
                    let _ = waiting.send(result);
                }
            }
            Event::BatchDone { batch, outcome, .. } => {
                if let Some((_, cell)) = inner.batches.remove(&batch) {
                    cell.finish(outcome);
                }
            }
            Event::Room(producer) => {
                if let Some(room) = inner.rooms.get(&producer) {
                    room.notify_waiters();
                }
            }
            Event::MetadataChanged => self.metadata.notify_waiters(),
            Event::Consumer(consumer) => {
                if let Some(news) = inner.news.get(&consumer) {
                    news.notify_waiters();
                }
            }
            Event::Committed { commit, result } => {
                if let Some(waiting) = inner.commits.remove(&commit) {
                    let _ = waiting.send(result);
                }
            }
        }
    }

    /// A connection's task has ended by itself.
    pub(super) fn disconnected(self: &Arc<Shared>, id: ConnectionId, reason: &str) {
        debug!(reason, "a connection ended");
        self.with(|inner, now| {
            inner.links.remove(&id);
            inner.core.handle_disconnected(now, id, reason);
        });
    }

    /// The last handle is gone: finish what was accepted, then stop.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Keeps time for the core, until the client is closed and has nothing left to deliver.
    pub(super) async fn drive(self: Arc<Shared>) {
        loop {
            let (next, done) = {
                let mut inner = self.lock();
                let now = self.now();
                inner.core.handle_timeout(now);
                self.pump(&mut inner, now);
                inner.armed = inner.core.poll_timeout();
                (inner.armed, inner.is_done())
            };
            if done {
                break;
            }
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(self.origin + at.0).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.wake.notified() => {}
            }
        }
        for (_, link) in self.lock().links.drain() {
            link.task.abort();
        }
    }
}
