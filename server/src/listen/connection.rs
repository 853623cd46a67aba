//! One connection, from its first byte to its last: greeted, perhaps handed to another shard, then
//! read frame by frame by this task while a second one sends what is answered.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::local::Permit;
use millrace_shard::metrics::Stage;
use millrace_wire::ids::ShardId;

use super::accept::{Inside, Listener, Speaks};
use super::frames::{Frame, FrameLimits, FrameReader};
use super::greet::{Doorkeeper, Greeted, Turned, greet};
use super::socket::{ReadHalf, WriteHalf, split};
use crate::broker::count;
use crate::kafka;
use crate::native::handoff::MovedConnection;
use crate::native::handshake::{self, Greeting, Wanted};
use crate::native::session::{Peer, Session};
use crate::session::outbox::{Outbox, Outgoing};
use crate::session::{Framing, Held, Requests};

/// After an answer that ends the connection, how long the client's remaining bytes are thrown away:
/// closing a socket that has unread bytes would destroy the answer on its way.
const LINGER: Duration = Duration::from_millis(500);
/// And how many of them.
const LINGER_BYTES: usize = 1024 * 1024;

/// How a connection comes to a shard.
pub(super) enum Arrival {
    /// It was accepted here, on an address where this is spoken.
    New(OwnedFd, Speaks),
    /// Another shard accepted and greeted it.
    Moved(MovedConnection),
}

/// One connection.
pub(super) struct Connection<E: Env> {
    listener: Rc<Listener<E>>,
    peer: SocketAddr,
    inside: Inside<E>,
}

/// What a connection has next.
enum Next<H> {
    /// A frame, and its place among the connection's requests.
    Frame(Frame<H>, Permit),
    /// The connection is being closed from this side.
    Closing,
}

impl<E: Env> Connection<E> {
    pub(super) fn new(
        listener: Rc<Listener<E>>,
        peer: SocketAddr,
        inside: Inside<E>,
    ) -> Connection<E> {
        Connection {
            listener,
            peer,
            inside,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(self, arrival: Arrival) {
        match arrival {
            Arrival::New(socket, speaks) => self.welcome(socket, speaks).await,
            Arrival::Moved(moved) => {
                let (read, write) = split(&self.listener.ring, moved.socket);
                self.serve_native(read, write, &moved.greeting).await;
            }
        }
    }

    /// Greets a new connection; then serves it here or hands it on.
    async fn welcome(self, socket: OwnedFd, speaks: Speaks) {
        let (mut read, write) = split(&self.listener.ring, socket);
        match self.greeted(&mut read, speaks).await {
            Ok(Greeted::Native(greeting, wanted)) => {
                let to = self.wanted_shard(&wanted);
                if to == self.listener.broker.shard_id {
                    self.serve_native(read, write, &greeting).await;
                } else {
                    drop(read);
                    self.hand_on(to, write, greeting).await;
                }
            }
            Ok(Greeted::Kafka(first)) => self.serve_kafka(read, write, first).await,
            Err(turned) => self.turn_away(turned, read, write).await,
        }
    }

    /// Hands a connection to the shard where its client wants it.
    async fn hand_on(self, to: ShardId, write: WriteHalf, greeting: Greeting) {
        let socket = match write.into_socket() {
            Ok(socket) => socket,
            Err(error) => return self.log_broken(&error),
        };
        let moved = MovedConnection {
            socket,
            peer: self.peer,
            greeting,
        };
        let Connection {
            listener,
            peer,
            inside,
        } = self;
        drop(inside);
        if let Err(error) = listener.broker.move_connection(to, moved).await {
            tracing::debug!(%peer, %error, "a connection could not be handed to its shard");
        }
    }

    async fn greeted(&self, read: &mut ReadHalf, speaks: Speaks) -> Result<Greeted, Turned> {
        let settings = &self.listener.settings;
        let timeout = settings.handshake_timeout;
        let keeper = Doorkeeper {
            speaks,
            allow_remote: settings.allow_anonymous_remote,
            timeout,
        };
        let (_place, displaced) = self.listener.half_open(self.inside.number);
        let displaced = displaced.listen();
        let slow = || Turned::Silent(io::ErrorKind::TimedOut.into());
        let in_time = {
            let greet = greet(read, self.peer, keeper);
            let late = pin!(self.listener.broker.env.sleep(timeout));
            let too_long = pin!(select(late, displaced));
            match select(pin!(greet), too_long).await {
                Either::Left((greeted, _)) => Some(greeted),
                Either::Right(_) => None,
            }
        };
        in_time.unwrap_or_else(|| Err(slow()))
    }

    fn wanted_shard(&self, wanted: &Wanted) -> ShardId {
        let broker = &self.listener.broker;
        wanted.shard(
            broker.shard_id,
            broker.node.shard_count,
            |topic, partition| {
                let id = broker.topic(topic).ok()?.partition(partition).ok()?;
                Some((id, broker.owner(id)))
            },
        )
    }

    async fn turn_away(self, turned: Turned, read: ReadHalf, mut write: WriteHalf) {
        let broker = &self.listener.broker;
        count(&broker.counters.refused_connections, 1);
        let (gates, now, peer) = (&self.listener.gates, broker.env.now(), self.peer);
        match turned {
            Turned::Silent(error) => {
                if let Some(held_back) = gates.slow.open(now) {
                    let error = plain(&error);
                    tracing::info!(%peer, error, held_back, "closed a connection that did not finish its handshake");
                }
            }
            Turned::Unanswerable(why) => {
                if let Some(held_back) = gates.refused.open(now) {
                    tracing::warn!(%peer, held_back, "closed a connection: {why}");
                }
            }
            Turned::Away { header, error } => {
                if let Some(held_back) = gates.refused.open(now) {
                    tracing::warn!(%peer, held_back, "refused a connection: {}", error.message);
                }
                let limits = self.listener.settings.session;
                let answer =
                    handshake::refused(header, error, &broker.node, broker.shard_id, limits);
                let sent = write.write_all(&mut VecDeque::from([answer]), LINGER).await;
                if sent.is_ok() {
                    linger(read, &write).await;
                }
            }
        }
    }

    /// Answers a native handshake and serves requests until the end.
    async fn serve_native(self, read: ReadHalf, write: WriteHalf, greeting: &Greeting) {
        let broker = &self.listener.broker;
        let limits = self.listener.settings.session;
        let (peer, client) = (self.peer, &greeting.client_id);
        tracing::debug!(%peer, client, software = greeting.client_software, "a client connected");
        let outbox = Rc::clone(&self.inside.outbox);
        let hello = handshake::accepted(greeting, &broker.node, broker.shard_id, limits);
        outbox.add(|out| out.splice(hello));
        let named = Peer {
            client_id: client.clone(),
            // As Kafka shows it, so that all members of a group look alike.
            host: format!("/{}", peer.ip().to_canonical()),
        };
        let session = Session::new(Rc::clone(broker), named, outbox, limits);
        self.serve(read, write, &[], &session).await;
        tracing::debug!(%peer, client, "a client left");
    }

    /// Serves a Kafka client, the first bytes of whose first request were read already.
    async fn serve_kafka(self, read: ReadHalf, write: WriteHalf, first: [u8; 4]) {
        let settings = &self.listener.settings;
        let peer = self.peer;
        let reached_at = match read.local_address() {
            Ok(address) => address,
            Err(error) => return self.log_broken(&error),
        };
        tracing::debug!(%peer, "a Kafka client connected");
        let session = kafka::Session::new(
            Rc::clone(&self.listener.broker),
            Rc::clone(&self.inside.outbox),
            settings.session,
            Rc::clone(&settings.kafka),
            reached_at,
            peer,
        );
        self.serve(read, write, &first, &session).await;
        tracing::debug!(%peer, "a Kafka client left");
    }

    /// Serves requests until the end.
    async fn serve<R: Requests>(
        &self,
        read: ReadHalf,
        write: WriteHalf,
        begun_with: &[u8],
        session: &Rc<R>,
    ) {
        let broker = &self.listener.broker;
        let outbox = Rc::clone(&self.inside.outbox);
        let sender = broker.env.spawn(
            Queue::Requests,
            "send",
            OnPanic::EndTask,
            send_all(Rc::clone(&self.listener), Rc::clone(&outbox), write),
        );
        let intake = self.listener.intake.clone();
        let mut frames = FrameReader::new(read, intake, begun_with);
        let polite = self.serve_frames(&mut frames, session).await;
        outbox.close();
        // None if sending ended in a panic, which the spawn wrapper has logged.
        if let Some(Some(write)) = sender.await
            && polite
        {
            linger(frames.into_inner(), &write).await;
        }
    }

    /// Reads and handles frames. Returns whether the client is still owed an answer that it should
    /// get to read.
    async fn serve_frames<R: Requests>(
        &self,
        frames: &mut FrameReader<R::Framing>,
        session: &Rc<R>,
    ) -> bool {
        let broker = &self.listener.broker;
        loop {
            let (frame, place) = match self.next_frame(frames, &**session).await {
                Next::Frame(frame, place) => (frame, place),
                Next::Closing => return true,
            };
            match frame {
                Frame::Whole(header, payload, memory) => {
                    let metrics = broker.storage().metrics();
                    metrics.record(Stage::Receive, frames.took());
                    let held = Held { place, memory };
                    if let ControlFlow::Break(why) = session.handle(header, payload, held).await {
                        self.log_refused(&why);
                        return true;
                    }
                }
                Frame::End => return false,
                Frame::Broken(error) => {
                    self.log_broken(&error);
                    return false;
                }
                Frame::Refused(header, error) => {
                    count(&broker.counters.refused_connections, 1);
                    self.log_refused(&error.message);
                    session.end_with(header, error);
                    return true;
                }
            }
            broker.env.yield_now().await;
        }
    }

    async fn next_frame<R: Requests>(
        &self,
        frames: &mut FrameReader<R::Framing>,
        session: &R,
    ) -> Next<<R::Framing as Framing>::Header> {
        let settings = &self.listener.settings;
        let limits = FrameLimits {
            max_frame_bytes: settings.session.max_frame_bytes,
            timeout: settings.frame_timeout,
        };
        let budget = &self.listener.request_budget;
        if self.inside.outbox.is_closed() {
            return Next::Closing;
        }
        // What one read brought is taken in one go, with none of the ceremony of waiting.
        if let Some(place) = session.try_place()
            && let Some(frame) = frames.gathered(limits, budget)
        {
            return Next::Frame(frame, place);
        }
        let read = async {
            let place = session.place().await;
            Next::Frame(frames.next(limits, budget).await, place)
        };
        let closing = pin!(self.inside.outbox.closed());
        match select(pin!(read), closing).await {
            Either::Left((next, _)) => next,
            Either::Right(_) => Next::Closing,
        }
    }

    fn log_broken(&self, error: &io::Error) {
        let gates = &self.listener.gates;
        if let Some(held_back) = gates.broken.open(self.listener.broker.env.now()) {
            let (peer, error) = (self.peer, plain(error));
            tracing::info!(%peer, error, held_back, "a connection broke off");
        }
    }

    fn log_refused(&self, why: &str) {
        let gates = &self.listener.gates;
        if let Some(held_back) = gates.refused.open(self.listener.broker.env.now()) {
            tracing::warn!(peer = %self.peer, held_back, "closing a connection: {why}");
        }
    }
}

/// Sends responses until there are no more, and gives the socket back if it still works.
async fn send_all<E: Env>(
    listener: Rc<Listener<E>>,
    outbox: Rc<Outbox>,
    mut write: WriteHalf,
) -> Option<WriteHalf> {
    let stall = listener.settings.frame_timeout;
    let env = &listener.broker.env;
    let _ends = Ends(&outbox);
    // What it holds is given back when all of a round is with the kernel.
    let mut responses = Outgoing::default();
    while outbox.take_all(&mut responses).await {
        let started = env.now();
        let pieces = responses.pieces();
        let aborted = pin!(outbox.aborted());
        let sent = match select(pin!(write.write_all(pieces, stall)), aborted).await {
            Either::Left((sent, _)) => sent,
            Either::Right(_) => return None,
        };
        if sent.is_err() {
            outbox.abort();
            return None;
        }
        let took = env.now().since(started);
        listener
            .broker
            .storage()
            .metrics()
            .record(Stage::Send, took);
    }
    Some(write)
}

/// Ends a connection whose answers cannot be sent any more, a panic included: its client would wait
/// for ever.
struct Ends<'a>(&'a Outbox);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if !self.0.is_closed() {
            self.0.abort();
        }
    }
}

/// Says that nothing more will come, and lets the client read what was said before the socket goes.
async fn linger(mut read: ReadHalf, write: &WriteHalf) {
    write.finish();
    let mut scrap = [0; 4096];
    let mut bytes_left = LINGER_BYTES;
    let end = std::time::Instant::now() + LINGER;
    while bytes_left > 0 {
        let time_left = end.saturating_duration_since(std::time::Instant::now());
        if time_left.is_zero() {
            return;
        }
        match read.read_some(&mut scrap, Some(time_left)).await {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes_left = bytes_left.saturating_sub(read),
        }
    }
}

/// An error of the socket in words that say what the client did.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the client closed in the middle".to_owned(),
        io::ErrorKind::TimedOut => "the client was too slow".to_owned(),
        _ => error.to_string(),
    }
}
