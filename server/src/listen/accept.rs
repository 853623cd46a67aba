//! One shard's door: the accept loop, the limits on how many may be inside and how many may stand in
//! the doorway, and the connections that live here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use glommio::net::{TcpListener, TcpStream};
use hashbrown::HashMap;
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::local::{Budget, Event, Permit, Semaphore};
use millrace_shard::ring::Ring;
use socket2::Socket;

use super::connection::{Arrival, Connection};
use super::gate::Gate;
use super::socket::{Intake, into_owned, listener};
use crate::broker::{Broker, Hooks, count};
use crate::kafka::KafkaSettings;
use crate::native::handoff::MovedConnection;
use crate::session::SessionLimits;
use crate::session::outbox::Outbox;

/// Connections that the kernel may hold for us while we are busy.
const BACKLOG: i32 = 1024;

/// How long to wait when the process is out of descriptors or memory before accepting again.
const PAUSE_WHEN_EXHAUSTED: Duration = Duration::from_millis(200);

/// What is spoken on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// The native protocol and Kafka's, told apart by a connection's first bytes.
    Both,
    /// The native protocol.
    Native,
    /// Kafka's.
    Kafka,
}

/// A socket that is bound and does not listen yet, and what will be spoken on it.
pub type Door = (Socket, Speaks);

/// How listening is done; the same on every shard.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// Serve peers that are not on loopback.
    pub allow_anonymous_remote: bool,
    /// Most connections of this shard.
    pub max_connections: u32,
    /// Most of them that have not finished their handshake.
    pub max_half_open: u32,
    /// A handshake takes no longer than this.
    pub handshake_timeout: Duration,
    /// Nor a frame, once it has begun; and a client takes something of what it is sent within this.
    pub frame_timeout: Duration,
    /// What clients are told, and held to.
    pub session: SessionLimits,
    /// Most bytes of requests on this shard.
    pub request_bytes: u64,
    /// What Kafka clients are told.
    pub kafka: Rc<KafkaSettings>,
}

/// One shard's listener and connections.
pub struct Listener<E: Env> {
    pub(super) broker: Rc<Broker<E>>,
    pub(super) settings: ListenSettings,
    pub(super) request_budget: Budget,
    pub(super) gates: Gates,
    pub(super) intake: Intake,
    pub(super) ring: Ring,
    connections: Semaphore,
    half_open: RefCell<VecDeque<(u64, Rc<Event>)>>,
    open: RefCell<HashMap<u64, Rc<Outbox>>>,
    next: Cell<u64>,
    doors: RefCell<Vec<Door>>,
    /// Told when accepting is to stop, and when a connection ends.
    changed: Event,
    stopped: Cell<bool>,
}

/// Log lines that strangers can cause, by kind.
#[derive(Default)]
pub(super) struct Gates {
    pub(super) refused: Gate,
    pub(super) slow: Gate,
    pub(super) broken: Gate,
    pub(super) full: Gate,
    pub(super) exhausted: Gate,
}

/// The broker's way to the sockets.
struct ListenHooks<E: Env>(Rc<Listener<E>>);

impl<E: Env> Hooks for ListenHooks<E> {
    fn adopt(&self, connection: MovedConnection) {
        let peer = connection.peer;
        self.0.begin(Arrival::Moved(connection), peer);
    }

    fn open(&self) {
        Listener::start(&self.0);
    }

    fn close(&self) {
        self.0.stopped.set(true);
        self.0.changed.notify();
    }
}

impl<E: Env> Listener<E> {
    /// A listener over sockets that are bound. It accepts nobody before the broker is told to open.
    pub fn new(
        broker: Rc<Broker<E>>,
        ring: Ring,
        doors: Vec<Door>,
        settings: ListenSettings,
    ) -> Rc<Listener<E>> {
        let listener = Rc::new(Listener {
            request_budget: Budget::new(settings.request_bytes),
            connections: Semaphore::new(u64::from(settings.max_connections)),
            gates: Gates::default(),
            intake: Intake::default(),
            ring,
            half_open: RefCell::default(),
            open: RefCell::default(),
            next: Cell::new(0),
            doors: RefCell::new(doors),
            changed: Event::new(),
            stopped: Cell::new(false),
            broker,
            settings,
        });
        listener
            .broker
            .set_hooks(Box::new(ListenHooks(Rc::clone(&listener))));
        listener
    }

    /// Begins to accept.
    fn start(this: &Rc<Self>) {
        for (socket, speaks) in this.doors.borrow_mut().drain(..) {
            if let Err(error) = socket.listen(BACKLOG) {
                this.broker.env.fatal(&format!("cannot listen: {error}"));
                return;
            }
            let accepting = Rc::clone(this);
            let task = async move { accepting.accept_all(listener(socket), speaks).await };
            let env = &this.broker.env;
            drop(env.spawn(Queue::Requests, "accept", OnPanic::StopProcess, task));
        }
    }

    async fn accept_all(self: Rc<Self>, listener: TcpListener, speaks: Speaks) {
        while !self.stopped.get() {
            let stop = pin!(self.changed.wait_until(|| self.stopped.get()));
            let accepted = match select(pin!(listener.accept()), stop).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => break,
            };
            match accepted.map_err(io::Error::from) {
                Ok(stream) => self.accepted(stream, speaks),
                Err(error) => self.accept_failed(&error).await,
            }
            self.broker.env.yield_now().await;
        }
    }

    fn accepted(self: &Rc<Self>, stream: TcpStream, speaks: Speaks) {
        count(&self.broker.counters.accepted_connections, 1);
        let arrived = stream
            .peer_addr()
            .map_err(io::Error::from)
            .and_then(|peer| {
                stream.set_nodelay(true).map_err(io::Error::from)?;
                Ok((into_owned(stream)?, peer))
            });
        match arrived {
            Ok((socket, peer)) => self.begin(Arrival::New(socket, speaks), peer),
            // The client left at once, or there is no descriptor for its second half.
            Err(error) => self.log_exhausted(&error),
        }
    }

    async fn accept_failed(&self, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                self.log_exhausted(error);
                self.broker.env.sleep(PAUSE_WHEN_EXHAUSTED).await;
            }
            // A client that gave up while it waited in the kernel is no concern of ours.
            Some(libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO) => {}
            _ => {
                self.log_exhausted(error);
                self.broker.env.sleep(PAUSE_WHEN_EXHAUSTED).await;
            }
        }
    }

    fn log_exhausted(&self, error: &io::Error) {
        if let Some(held_back) = self.gates.exhausted.open(self.broker.env.now()) {
            tracing::warn!(
                %error, held_back,
                "cannot accept a connection; if it is the number of open files, raise the limit (ulimit -n)"
            );
        }
    }

    /// Lets a connection in, if there is room, and serves it in a task of its own.
    fn begin(self: &Rc<Self>, arrival: Arrival, peer: SocketAddr) {
        let Some(permit) = self.connections.try_acquire(1) else {
            count(&self.broker.counters.refused_connections, 1);
            if let Some(held_back) = self.gates.full.open(self.broker.env.now()) {
                let limit = self.settings.max_connections;
                tracing::warn!(%peer, limit, held_back, "too many connections, closing this one (network.max_connections)");
            }
            return;
        };
        let connection = Connection::new(Rc::clone(self), peer, self.inside(permit));
        let task = connection.run(arrival);
        drop(
            self.broker
                .env
                .spawn(Queue::Requests, "connection", OnPanic::EndTask, task),
        );
    }

    fn inside(self: &Rc<Self>, permit: Permit) -> Inside<E> {
        let number = self.next.get();
        self.next.set(number + 1);
        let outbox = Rc::new(Outbox::default());
        self.open.borrow_mut().insert(number, Rc::clone(&outbox));
        self.broker
            .counters
            .open_connections
            .set(self.open.borrow().len() as u64);
        Inside {
            listener: Rc::clone(self),
            number,
            outbox,
            _permit: permit,
        }
    }

    /// Notes a connection as half open. If there are too many, the one that has been at it longest
    /// has to go: an honest client is through in a moment, a flood only displaces itself.
    pub(super) fn half_open(self: &Rc<Self>, number: u64) -> (HalfOpen<E>, Rc<Event>) {
        let gone = Rc::new(Event::new());
        let mut half_open = self.half_open.borrow_mut();
        if half_open.len() >= self.settings.max_half_open as usize
            && let Some((_, oldest)) = half_open.pop_front()
        {
            oldest.notify();
        }
        half_open.push_back((number, Rc::clone(&gone)));
        (
            HalfOpen {
                listener: Rc::clone(self),
                number,
            },
            gone,
        )
    }

    /// Sends what is to be sent and closes every connection, within `patience`.
    pub async fn finish(&self, patience: Duration) {
        let outboxes: Vec<_> = self.open.borrow().values().cloned().collect();
        for outbox in outboxes {
            outbox.close();
        }
        for (_, half_open) in self.half_open.borrow_mut().drain(..) {
            half_open.notify();
        }
        let all_gone = pin!(self.changed.wait_until(|| self.open.borrow().is_empty()));
        select(all_gone, pin!(self.broker.env.sleep(patience))).await;
    }
}

/// A connection's place inside; dropping it makes room.
pub(super) struct Inside<E: Env> {
    listener: Rc<Listener<E>>,
    pub(super) number: u64,
    pub(super) outbox: Rc<Outbox>,
    _permit: Permit,
}

impl<E: Env> Drop for Inside<E> {
    fn drop(&mut self) {
        // Whatever else holds the connection's outbox (a request under way) learns that it is over.
        self.outbox.abort();
        let mut open = self.listener.open.borrow_mut();
        open.remove(&self.number);
        self.listener
            .broker
            .counters
            .open_connections
            .set(open.len() as u64);
        drop(open);
        self.listener.changed.notify();
    }
}

/// A connection's place in the doorway; dropping it makes room.
pub(super) struct HalfOpen<E: Env> {
    listener: Rc<Listener<E>>,
    number: u64,
}

impl<E: Env> Drop for HalfOpen<E> {
    fn drop(&mut self) {
        self.listener
            .half_open
            .borrow_mut()
            .retain(|(number, _)| *number != self.number);
    }
}
