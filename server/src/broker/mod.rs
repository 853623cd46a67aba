//! The broker: one typed service behind every face. A face (the native protocol today) turns bytes
//! into calls on [`Broker`] and its results into bytes; what is decided is decided here: whether a
//! topic exists, whether a batch is sound, which shard owns a partition, how long a fetch waits.
//!
//! There is one [`Broker`] on every shard, on that shard's core. It answers for the partitions that
//! its shard owns and asks the owners of others over the mesh. It never touches a socket, and never
//! blocks; it is generic over the environment, so the simulation runs it as it is.

mod admin;
mod assigning;
pub mod calls;
mod catalog;
mod fetch;
mod groups;
mod peer;
mod placement;
mod produce;
mod producer_ids;
mod reconcile;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use hashbrown::HashMap;
use millrace_shard::env::Env;
use millrace_shard::local::{Budget, Event, Sender};
use millrace_shard::log::Partition;
use millrace_shard::shard::Shard;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{PartitionId, ShardId, TopicId};

pub use admin::{TopicDescription, wrong_answer};
pub use catalog::{Catalog, TopicEntry};
pub use fetch::{FetchItem, FetchQuery, Fetched};
pub use placement::{Leadership, owner};
pub use produce::{Acks, Appending, durable_deadline, not_durable_in_time};

use crate::controller::driver::Controller;
use crate::controller::state::Rules;
use crate::coordinator::Coordinators;
use crate::coordinator::settings::GroupSettings;
use crate::native::handoff::MovedConnection;
use crate::topic_config::TopicConfig;
use assigning::Assigning;
use calls::{Call, Peers, Reply, WatchId, wrong_reply};

/// What this node is, as clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The cluster's identity.
    pub cluster_id: u128,
    /// This node.
    pub node_id: u32,
    /// How often it has started.
    pub boot_epoch: u32,
    /// How many shards it has in this run.
    pub shard_count: u16,
    /// The port it listens on.
    pub port: u16,
}

/// What bounds the broker's work on one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Most bytes of record batches that wait to be sent or are being read for a fetch.
    pub response_bytes: u64,
    /// Most bytes of one fetch, whatever the client asks for.
    pub fetch_bytes: usize,
    /// Consumer groups.
    pub groups: GroupSettings,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of the broker itself; the shard has its own.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Cell<u64>,)* }

        impl Counters {
            /// Every counter, by name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Batches refused by the broker's checks.
    refused_batches,
    /// Batches recompressed because their topic asks for a codec.
    recompressed_batches,
    /// Fetches answered.
    fetches,
    /// Fetches that had to wait.
    fetch_waits,
    /// Bytes of batches fetched.
    fetched_bytes,
    /// Connections open now.
    open_connections,
    /// Connections accepted.
    accepted_connections,
    /// Connections closed because of what they sent, or did not send.
    refused_connections,
    /// Calls from other shards.
    foreign_calls,
}

/// Adds to a counter.
pub fn count(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get().wrapping_add(by));
}

/// One shard's broker.
pub struct Broker<E: Env> {
    /// The environment.
    pub env: E,
    /// This shard's number.
    pub shard_id: ShardId,
    /// What this node is.
    pub node: NodeIdentity,
    /// Counters.
    pub counters: Counters,
    shard: Rc<Shard<E>>,
    peers: Rc<dyn Peers>,
    catalog: Rc<RefCell<Catalog>>,
    limits: BrokerLimits,
    response_budget: Budget,
    append_lane: Sender<produce::LaneItem<E>>,
    coordinators: Coordinators<E>,
    watches: RefCell<HashMap<WatchId, Rc<Event>>>,
    waiting_fetches: RefCell<HashMap<u64, Rc<Event>>>,
    next_wait: Cell<u64>,
    controller: OnceCell<Rc<Controller<E>>>,
    hooks: OnceCell<Box<dyn Hooks>>,
    draining: Cell<bool>,
    finished: Cell<bool>,
    /// Told when one of these two is set and when `under_way` falls to zero after that.
    changed: Event,
    under_way: Cell<u64>,
    reconciling: Cell<bool>,
    producer_ids: producer_ids::ProducerIds,
}

/// What the broker asks of whoever holds the sockets.
pub trait Hooks {
    /// Serve a connection that was accepted elsewhere.
    fn adopt(&self, connection: MovedConnection);
    /// Begin to accept.
    fn open(&self);
    /// Stop accepting.
    fn close(&self);
}

impl<E: Env> Broker<E> {
    /// The broker of one shard. It knows no topic until the controller has told it.
    pub fn new(
        env: E,
        shard_id: ShardId,
        node: NodeIdentity,
        shard: Rc<Shard<E>>,
        peers: Rc<dyn Peers>,
        rules: &Rules,
        limits: BrokerLimits,
    ) -> Rc<Broker<E>> {
        let (append_lane, lane) = produce::lane();
        let catalog = Rc::new(RefCell::new(Catalog::new(rules.defaults.clone())));
        let assign = Rc::new(Assigning(Rc::clone(&catalog)));
        let groups = limits.groups.clone();
        let broker = Rc::new(Broker {
            shard_id,
            node,
            counters: Counters::default(),
            shard,
            peers,
            catalog,
            response_budget: Budget::new(limits.response_bytes),
            limits,
            append_lane,
            coordinators: Coordinators::new(groups, assign),
            watches: RefCell::default(),
            waiting_fetches: RefCell::default(),
            next_wait: Cell::new(0),
            controller: OnceCell::new(),
            hooks: OnceCell::new(),
            draining: Cell::new(false),
            finished: Cell::new(false),
            changed: Event::new(),
            under_way: Cell::new(0),
            reconciling: Cell::new(false),
            producer_ids: producer_ids::ProducerIds::default(),
            env,
        });
        broker.serve_lane(lane);
        broker.expire_offsets();
        broker
    }

    /// Makes this the shard of the controller.
    pub fn set_controller(&self, controller: Rc<Controller<E>>) {
        assert!(
            self.controller.set(controller).is_ok(),
            "a node has one controller"
        );
    }

    /// Connects the broker with whoever holds the sockets.
    pub fn set_hooks(&self, hooks: Box<dyn Hooks>) {
        assert!(self.hooks.set(hooks).is_ok(), "sockets are connected once");
    }

    /// The storage of this shard.
    pub fn storage(&self) -> &Rc<Shard<E>> {
        &self.shard
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Result<Rc<TopicEntry>, WireError> {
        self.catalog.borrow().find(name)
    }

    /// The topic of this name, whose records clients may add to and delete.
    pub fn clients_topic(&self, name: &str) -> Result<Rc<TopicEntry>, WireError> {
        let entry = self.topic(name)?;
        if entry.topic.is_internal() {
            return Err(WireError::new(
                ErrorCode::InvalidTopic,
                format!(
                    "the topic '{}' is Millrace's own and can only be read; use another",
                    entry.topic.name
                ),
            ));
        }
        Ok(entry)
    }

    /// Which shard of this node owns a partition.
    #[must_use]
    pub fn owner(&self, partition: PartitionId) -> ShardId {
        owner(partition, self.node.shard_count)
    }

    /// Who leads a partition and who has replicas of it. A node by itself has everything.
    #[must_use]
    pub fn leadership(&self, _partition: PartitionId) -> Leadership<'_> {
        let this = std::slice::from_ref(&self.node.node_id);
        Leadership {
            leader: self.node.node_id,
            epoch: placement::ONLY_TERM,
            replicas: this,
            in_sync: this,
        }
    }

    /// What a topic has where it sets nothing itself.
    #[must_use]
    pub fn topic_defaults(&self) -> TopicConfig {
        self.catalog.borrow().defaults().clone()
    }

    /// The topic with this identity.
    pub fn topic_with_id(&self, id: TopicId) -> Result<Rc<TopicEntry>, WireError> {
        self.catalog.borrow().find_id(id)
    }

    /// Whether the broker is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Ready when the broker begins to stop.
    pub async fn drained(&self) {
        self.changed.wait_until(|| self.draining.get()).await;
    }

    /// Stops taking new work: from here on produce is refused and fetches do not wait. Returns when
    /// no request is under way.
    pub async fn drain(&self) {
        self.draining.set(true);
        self.changed.notify();
        if let Some(hooks) = self.hooks.get() {
            hooks.close();
        }
        // Members that wait for one another would wait for long.
        self.coordinators.let_all_go();
        self.changed.wait_until(|| self.under_way.get() == 0).await;
    }

    /// Ends the broker's work: whoever runs the shard may close its storage.
    pub fn finish(&self) {
        self.finished.set(true);
        self.changed.notify();
    }

    /// Ready when the shard may close its storage and end.
    pub async fn finished(&self) {
        self.changed.wait_until(|| self.finished.get()).await;
    }

    /// Counts a request as under way until the guard is dropped.
    pub fn begin_request(self: &Rc<Self>) -> UnderWay<E> {
        self.under_way.set(self.under_way.get() + 1);
        UnderWay {
            broker: Rc::clone(self),
        }
    }

    /// The partition, if this shard hosts it.
    fn hosted(&self, id: PartitionId) -> Result<Rc<Partition<E>>, WireError> {
        self.shard.partition(id).ok_or_else(|| {
            WireError::new(
                ErrorCode::UnknownTopicOrPartition,
                "the partition is not here (any more); ask for metadata again",
            )
        })
    }

    /// Asks another shard, and waits for the answer.
    async fn call(&self, to: ShardId, call: Call) -> Reply {
        match self.peers.send(to, call).await {
            Ok(reply) => reply.await,
            Err(error) => Reply::Failed(error),
        }
    }

    /// Asks another shard for something that has no answer but "done".
    async fn call_for_done(&self, to: ShardId, call: Call) -> Result<(), WireError> {
        match self.call(to, call).await {
            Reply::Done => Ok(()),
            other => Err(wrong_reply(other)),
        }
    }
}

/// A request under way.
pub struct UnderWay<E: Env> {
    broker: Rc<Broker<E>>,
}

impl<E: Env> Drop for UnderWay<E> {
    fn drop(&mut self) {
        let left = self.broker.under_way.get() - 1;
        self.broker.under_way.set(left);
        // Waiting fetches listen too, and are to be left alone until there is something to hear.
        if left == 0 && self.broker.is_draining() {
            self.broker.changed.notify();
        }
    }
}

/// The answer to new work while the broker stops.
#[must_use]
pub fn shutting_down() -> WireError {
    WireError::new(
        ErrorCode::ShuttingDown,
        "the broker is shutting down; try again, it or another will take over",
    )
}
