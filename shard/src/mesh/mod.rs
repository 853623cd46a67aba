//! The mesh that joins the shards of a node. Each ordered pair of shards has a channel for requests
//! and one for replies, single producer and single consumer, without locks. A shard asks another
//! with [`Mesh::call`] and answers through the handler that it gave to [`Mesh::serve`]; requests
//! and replies move, so they may own anything that is `Send`: buffers, descriptors, connections.
//!
//! The calls under way between two shards are bounded by a constant, and each channel holds that
//! many, so neither is ever full and nothing is ever dropped; one call too many waits. Every call
//! ends: with the reply, or with an error if the other shard has ended or its handler panicked.
//!
//! A handler may call back to the shard that asked, since the two directions have separate bounds.
//! Limitation: a chain that comes back in the *same* direction (a handler of A asks B, whose handler
//! asks A, whose handler asks B again) could use up that direction's calls and wait for itself.

mod link;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, join_all, join4, select};
use hashbrown::HashMap;
use millrace_wire::ids::ShardId;

pub use link::{Incoming, Link, LocalLink, Outgoing, SharedLink};

use crate::env::{Env, OnPanic, Queue};
use crate::local::{Event, OneshotReceiver, OneshotSender, Permit, Semaphore, oneshot};

/// Calls that one shard may have under way, to all others together. Memory: each place takes a few
/// machine words and a request.
const CALLS_PER_SHARD: u32 = 8_192;
/// Calls between two shards, whatever their number.
const CALLS_PER_PAIR: std::ops::RangeInclusive<u32> = 64..=1_024;

/// How often a shard looks, at its start, whether all others have come.
const ARRIVAL_POLL: Duration = Duration::from_millis(1);

/// Why a call has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeshError {
    /// The shard has ended, or ends.
    #[error("shard {0} has ended; the node is stopping")]
    Ended(ShardId),
    /// What handled the request panicked or was dropped before it replied.
    #[error("shard {0} failed while it handled the request; the log says why")]
    HandlerFailed(ShardId),
    /// There is no such shard.
    #[error("there is no shard {0}")]
    NoSuchShard(ShardId),
}

/// A request under way. The number is the caller's.
struct Request<Req> {
    call: u64,
    request: Req,
}

/// A reply under way; none if the handler failed.
struct Reply<Rep> {
    call: u64,
    reply: Option<Rep>,
}

/// One shard's ends of all channels, on their way to its thread.
pub struct Port<Req: Send + 'static, Rep: Send + 'static, L: Link = SharedLink> {
    shard: ShardId,
    calls_per_pair: u32,
    /// Shards that have come to connect.
    arrived: Arc<AtomicU16>,
    /// By shard; its own place is empty.
    peers: Vec<Option<Ends<Req, Rep, L>>>,
}

struct Ends<Req: Send + 'static, Rep: Send + 'static, L: Link> {
    requests_out: L::Sender<Request<Req>>,
    requests_in: L::Receiver<Request<Req>>,
    replies_out: L::Sender<Reply<Rep>>,
    replies_in: L::Receiver<Reply<Rep>>,
}

/// Makes the ports of `shards` real shards.
#[must_use]
pub fn ports<Req: Send + 'static, Rep: Send + 'static>(shards: u16) -> Vec<Port<Req, Rep>> {
    ports_over(shards)
}

/// Makes the ports of `shards` shards, joined by a kind of link.
#[must_use]
pub fn ports_over<Req: Send + 'static, Rep: Send + 'static, L: Link>(
    shards: u16,
) -> Vec<Port<Req, Rep, L>> {
    let calls_per_pair = (CALLS_PER_SHARD / u32::from(shards).max(1))
        .clamp(*CALLS_PER_PAIR.start(), *CALLS_PER_PAIR.end());
    let arrived = Arc::new(AtomicU16::new(0));
    let mut ports: Vec<Port<Req, Rep, L>> = (0..shards)
        .map(|shard| Port {
            shard: ShardId(shard),
            calls_per_pair,
            arrived: Arc::clone(&arrived),
            peers: (0..shards).map(|_| None).collect(),
        })
        .collect();
    for one in 0..usize::from(shards) {
        for other in one + 1..usize::from(shards) {
            let (there, here) = pair(calls_per_pair);
            ports[one].peers[other] = Some(there);
            ports[other].peers[one] = Some(here);
        }
    }
    ports
}

fn pair<Req: Send + 'static, Rep: Send + 'static, L: Link>(
    capacity: u32,
) -> (Ends<Req, Rep, L>, Ends<Req, Rep, L>) {
    let (requests_there, requests_from_there) = L::channel(capacity);
    let (requests_back, requests_from_back) = L::channel(capacity);
    let (replies_there, replies_from_there) = L::channel(capacity);
    let (replies_back, replies_from_back) = L::channel(capacity);
    let one = Ends {
        requests_out: requests_there,
        requests_in: requests_from_back,
        replies_out: replies_there,
        replies_in: replies_from_back,
    };
    let other = Ends {
        requests_out: requests_back,
        requests_in: requests_from_there,
        replies_out: replies_back,
        replies_in: replies_from_there,
    };
    (one, other)
}

impl<Req: Send + 'static, Rep: Send + 'static, L: Link> Port<Req, Rep, L> {
    /// Puts the ends in place, on the shard's own thread. Completes when all shards have done so.
    pub async fn connect<E: Env>(self, env: E) -> Mesh<Req, Rep> {
        let (shard, calls) = (self.shard, self.calls_per_pair);
        if self.peers.len() > 1 {
            env.expect_peers();
        }
        let state = Rc::new(State {
            shard,
            closing: Event::new(),
            closed: Cell::new(false),
            handler: RefCell::new(None),
            handler_set: Event::new(),
            spawn: spawner(env.clone()),
        });
        // The channels' own way of waiting for the other end is to ask again without a pause; a
        // shard that is late (it recovers more) must not be slowed down by one that is early.
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while usize::from(self.arrived.load(Ordering::Acquire)) < self.peers.len() {
            env.sleep(ARRIVAL_POLL).await;
        }
        // All at once: each end waits for its other one, and shards come to theirs in any order.
        let peers = (0..)
            .zip(self.peers)
            .map(async |(number, ends)| match ends {
                Some(ends) => {
                    Some(connect_peer(&env, ShardId(number), ends, calls, Rc::clone(&state)).await)
                }
                None => None,
            });
        let peers = join_all(peers).await;
        Mesh {
            inner: Rc::new(Inner { state, peers }),
        }
    }
}

async fn connect_peer<E: Env, Req: Send + 'static, Rep: Send + 'static, L: Link>(
    env: &E,
    shard: ShardId,
    ends: Ends<Req, Rep, L>,
    calls: u32,
    state: Rc<State<Req, Rep>>,
) -> Rc<Peer<Req, Rep>> {
    let (requests, requests_in, replies, replies_in) = join4(
        L::connect_sender(ends.requests_out),
        L::connect_receiver(ends.requests_in),
        L::connect_sender(ends.replies_out),
        L::connect_receiver(ends.replies_in),
    )
    .await;
    let peer = Rc::new(Peer {
        shard,
        requests,
        replies,
        room: Semaphore::new(u64::from(calls)),
        calls: RefCell::default(),
        next_call: Cell::new(0),
        ended: Cell::new(false),
    });
    let receive = receive_replies(Rc::clone(&peer), Rc::clone(&state), replies_in);
    let name = "mesh replies";
    drop(env.spawn(Queue::Requests, name, OnPanic::StopProcess, receive));
    let serve = serve_requests(Rc::clone(&peer), state, requests_in);
    let name = "mesh requests";
    drop(env.spawn(Queue::Requests, name, OnPanic::StopProcess, serve));
    peer
}

type Spawn = Box<dyn Fn(LocalBoxFuture<'static, ()>)>;

fn spawner<E: Env>(env: E) -> Spawn {
    Box::new(move |task| drop(env.spawn(Queue::Requests, "mesh handler", OnPanic::EndTask, task)))
}

type Handler<Req, Rep> = Rc<dyn Fn(ShardId, Req) -> LocalBoxFuture<'static, Rep>>;

/// What the tasks of one shard's mesh share.
struct State<Req, Rep> {
    shard: ShardId,
    closing: Event,
    closed: Cell<bool>,
    handler: RefCell<Option<Handler<Req, Rep>>>,
    handler_set: Event,
    /// Starts the task of one request.
    spawn: Spawn,
}

impl<Req: 'static, Rep: 'static> State<Req, Rep> {
    /// Begins to handle a request. The handler is called here, so that requests begin in the order
    /// in which they came; a panic of its beginning is that of its task all the same.
    fn begin(&self, handler: &Handler<Req, Rep>, from: ShardId, request: Req, answer: Answer<Rep>) {
        let begun = catch_unwind(AssertUnwindSafe(|| handler(from, request)));
        (self.spawn)(Box::pin(async move {
            let handling = begun.unwrap_or_else(|panic| resume_unwind(panic));
            answer.send(handling.await);
        }));
    }

    /// The next item, or nothing if the link or this mesh ends.
    async fn next<T>(&self, incoming: &mut impl Incoming<T>) -> Option<T> {
        let closing = self.closing.listen();
        if self.closed.get() {
            return None;
        }
        match select(pin!(incoming.receive()), closing).await {
            Either::Left((item, _)) => item,
            Either::Right(_) => None,
        }
    }

    /// The handler, once there is one; nothing if this mesh ends first.
    async fn handler(&self) -> Option<Handler<Req, Rep>> {
        loop {
            let (set, closing) = (self.handler_set.listen(), self.closing.listen());
            if self.closed.get() {
                return None;
            }
            if let Some(handler) = &*self.handler.borrow() {
                return Some(Rc::clone(handler));
            }
            select(set, closing).await;
        }
    }
}

/// A caller, and its place among the calls under way.
type Waiting<Rep> = (OneshotSender<Option<Rep>>, Permit);

/// Another shard, as this one sees it.
struct Peer<Req, Rep> {
    shard: ShardId,
    requests: Rc<dyn Outgoing<Request<Req>>>,
    replies: Rc<dyn Outgoing<Reply<Rep>>>,
    room: Semaphore,
    /// Calls without a reply. Each holds its place until the reply has come, even if the caller has
    /// gone: only then is there room in the channels.
    calls: RefCell<HashMap<u64, Waiting<Rep>>>,
    next_call: Cell<u64>,
    ended: Cell<bool>,
}

impl<Req, Rep> Peer<Req, Rep> {
    async fn send(&self, request: Req) -> Result<Pending<Rep>, MeshError> {
        let permit = self.room.acquire(1).await;
        if self.ended.get() {
            return Err(MeshError::Ended(self.shard));
        }
        let call = self.next_call.get();
        self.next_call.set(call + 1);
        let (sender, receiver) = oneshot();
        self.calls.borrow_mut().insert(call, (sender, permit));
        if self.requests.send(Request { call, request }).is_err() {
            let unsent = self.calls.borrow_mut().remove(&call);
            drop(unsent);
            return Err(MeshError::Ended(self.shard));
        }
        Ok(Pending {
            shard: self.shard,
            receiver,
        })
    }

    /// No reply will come any more.
    fn end(&self) {
        self.ended.set(true);
        // Dropping what waits tells the callers, and lets those in that wait for room.
        let calls = std::mem::take(&mut *self.calls.borrow_mut());
        drop(calls);
    }
}

async fn receive_replies<Req: 'static, Rep: 'static>(
    peer: Rc<Peer<Req, Rep>>,
    state: Rc<State<Req, Rep>>,
    mut incoming: impl Incoming<Reply<Rep>>,
) {
    while let Some(Reply { call, reply }) = state.next(&mut incoming).await {
        let waiting = peer.calls.borrow_mut().remove(&call);
        if let Some((caller, _room)) = waiting {
            // The caller may have gone; the reply is then of no use to anybody.
            let _ = caller.send(reply);
        }
    }
    peer.end();
}

async fn serve_requests<Req: 'static, Rep: 'static>(
    peer: Rc<Peer<Req, Rep>>,
    state: Rc<State<Req, Rep>>,
    mut incoming: impl Incoming<Request<Req>>,
) {
    let Some(handler) = state.handler().await else {
        return;
    };
    while let Some(Request { call, request }) = state.next(&mut incoming).await {
        let asker = Asker::Shard {
            replies: Rc::clone(&peer.replies),
            call,
        };
        state.begin(&handler, peer.shard, request, Answer(Some(asker)));
    }
}

/// Who asked.
enum Asker<Rep> {
    /// A task of this shard.
    Here(OneshotSender<Option<Rep>>),
    /// Another shard.
    Shard {
        replies: Rc<dyn Outgoing<Reply<Rep>>>,
        call: u64,
    },
}

/// The duty to answer one request: dropped without a reply, it tells that the handler failed.
struct Answer<Rep>(Option<Asker<Rep>>);

impl<Rep> Answer<Rep> {
    fn send(mut self, reply: Rep) {
        self.reply(Some(reply));
    }

    /// Whoever asked may have gone; the reply is then of no use to anybody.
    fn reply(&mut self, reply: Option<Rep>) {
        match self.0.take() {
            Some(Asker::Here(asker)) => drop(asker.send(reply)),
            Some(Asker::Shard { replies, call }) => drop(replies.send(Reply { call, reply })),
            None => {}
        }
    }
}

impl<Rep> Drop for Answer<Rep> {
    fn drop(&mut self) {
        self.reply(None);
    }
}

/// A request that has been sent: its reply. Dropping this stops nothing.
#[must_use = "the reply tells whether the request was handled"]
pub struct Pending<Rep> {
    shard: ShardId,
    receiver: OneshotReceiver<Option<Rep>>,
}

impl<Rep> Future for Pending<Rep> {
    type Output = Result<Rep, MeshError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let shard = self.shard;
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|reply| match reply {
                Ok(Some(reply)) => Ok(reply),
                Ok(None) => Err(MeshError::HandlerFailed(shard)),
                Err(_) => Err(MeshError::Ended(shard)),
            })
    }
}

/// One shard's place in the mesh. Cheap to clone. When the last clone is dropped, it is closed.
pub struct Mesh<Req: 'static, Rep: 'static> {
    inner: Rc<Inner<Req, Rep>>,
}

impl<Req, Rep> Clone for Mesh<Req, Rep> {
    fn clone(&self) -> Self {
        Mesh {
            inner: Rc::clone(&self.inner),
        }
    }
}

struct Inner<Req, Rep> {
    state: Rc<State<Req, Rep>>,
    peers: Vec<Option<Rc<Peer<Req, Rep>>>>,
}

impl<Req: 'static, Rep: 'static> Mesh<Req, Rep> {
    /// This shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.inner.state.shard
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        u16::try_from(self.inner.peers.len()).expect("shards are counted in 16 bits")
    }

    /// Asks shard `to` and waits for its reply, first of all for room if too many calls to it are
    /// under way. If this future is dropped, the request may or may not be handled. A shard may ask
    /// itself.
    pub async fn call(&self, to: ShardId, request: Req) -> Result<Rep, MeshError> {
        self.send(to, request).await?.await
    }

    /// Sends a request to shard `to` and completes as soon as it is on its way, which may take
    /// waiting for room. Requests to one shard are begun there in the order in which they were
    /// sent. Dropping this future before it completes sends nothing.
    pub async fn send(&self, to: ShardId, request: Req) -> Result<Pending<Rep>, MeshError> {
        match self.inner.peers.get(usize::from(to.0)) {
            Some(Some(peer)) => peer.send(request).await,
            Some(None) => self.send_to_self(request).await,
            None => Err(MeshError::NoSuchShard(to)),
        }
    }

    async fn send_to_self(&self, request: Req) -> Result<Pending<Rep>, MeshError> {
        let (shard, state) = (self.shard(), &self.inner.state);
        let handler = state.handler().await.ok_or(MeshError::Ended(shard))?;
        let (sender, receiver) = oneshot();
        state.begin(&handler, shard, request, Answer(Some(Asker::Here(sender))));
        Ok(Pending { shard, receiver })
    }

    /// Answers other shards' requests with `handler`, from now on. It is called for each request in
    /// the order in which one shard sent them; the futures that it gives run concurrently. Requests
    /// that came before wait until then.
    pub fn serve<F: Future<Output = Rep> + 'static>(
        &self,
        handler: impl Fn(ShardId, Req) -> F + 'static,
    ) {
        let handler: Handler<Req, Rep> =
            Rc::new(move |from, request| handler(from, request).boxed_local());
        let previous = self.inner.state.handler.borrow_mut().replace(handler);
        drop(previous);
        self.inner.state.handler_set.notify();
    }

    /// Leaves the mesh: calls of others to this shard, and of this shard to others, end with
    /// [`MeshError::Ended`] unless they have been answered. To be called before the shard ends.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl<Req, Rep> Inner<Req, Rep> {
    fn close(&self) {
        if self.state.closed.replace(true) {
            return;
        }
        for peer in self.peers.iter().flatten() {
            peer.requests.close();
            peer.replies.close();
            peer.end();
        }
        self.state.closing.notify();
        let handler = self.state.handler.borrow_mut().take();
        drop(handler);
    }
}

impl<Req, Rep> Drop for Inner<Req, Rep> {
    fn drop(&mut self) {
        self.close();
    }
}
