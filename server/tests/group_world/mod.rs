//! A broker whose power goes away again and again, producers that retry, and members of one group
//! that crash, stand still and come back as zombies. Clients here speak to the broker as its faces do;
//! requests and answers get lost on the way. What they are told goes into a [`Ledger`], which knows what
//! must never be.

mod ledger;
mod member;
mod producer;
mod reading;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use millrace_server::coordinator::api::{Assignor, GroupAnswer, GroupCall, GroupRequest};
use millrace_server::coordinator::assignor::Protocol;
use millrace_shard::env::simulated::{NodeId, SimulatedEnv, Simulation};
use millrace_shard::env::{Env, OnPanic, Queue};
use millrace_shard::local::{Event, oneshot};
use millrace_wire::error::WireError;

pub use ledger::Ledger;
pub use member::members;
pub use producer::producers;
pub use reading::read_all;

use crate::node::{Node, SimBroker};

pub const BROKER: NodeId = NodeId(0);
pub const CLIENTS: NodeId = NodeId(1);
/// The topic that is written and read.
pub const TOPIC: &str = "t";
pub const PARTITIONS: u32 = 4;
/// The group's name.
pub const GROUP: &str = "g";

/// A bug to plant at the broker's door or in its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A start forgets which batches producers have sent.
    WindowForgotten,
    /// A batch that comes again before the first is durable is appended again.
    DuplicateInFlight,
    /// A commit is answered before it is durable.
    CommitAnsweredEarly,
    /// A commit of a member that is none any more is taken.
    StaleGeneration,
    /// Every member is given every partition.
    GivenToAll,
    /// One partition is given to nobody.
    GivenToNobody,
}

/// What is drawn once for a run.
pub struct Plan {
    pub protocol: Protocol,
    pub assignor: Assignor,
    /// Whether members have lasting names.
    pub is_static: bool,
    /// How often the broker fails.
    pub failures: u64,
    /// How many members there are at a time.
    pub members: u64,
}

impl Plan {
    fn draw(env: &SimulatedEnv) -> Plan {
        let coin = || env.random_u64().is_multiple_of(2);
        Plan {
            protocol: match coin() {
                true => Protocol::Range,
                false => Protocol::CooperativeSticky,
            },
            assignor: match coin() {
                true => Assignor::Coordinator,
                false => Assignor::Leader,
            },
            is_static: env.random_u64().is_multiple_of(3),
            failures: 2 + env.random_u64() % 5,
            members: 2 + env.random_u64() % 3,
        }
    }

    pub fn is_cooperative(&self) -> bool {
        self.protocol == Protocol::CooperativeSticky
    }
}

/// What a request is about, for a power cut that is aimed at its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Produce,
    Commit,
    Rebalance,
    Other,
}

impl Kind {
    const AIMED_AT: [Kind; 3] = [Kind::Produce, Kind::Commit, Kind::Rebalance];
}

/// There was no answer: the request may have been carried out, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// Everything that clients share.
pub struct World {
    /// The clients' machine.
    pub env: SimulatedEnv,
    pub plan: Plan,
    pub bug: Option<Bug>,
    pub ledger: Ledger,
    simulation: Weak<Simulation>,
    node: RefCell<Option<Rc<Node>>>,
    /// The broker's machine has gone, and every connection with it.
    cut: Event,
    aimed: Cell<Option<Kind>>,
    calm: Cell<bool>,
}

impl World {
    pub fn new(simulation: &Rc<Simulation>, bug: Option<Bug>) -> Rc<World> {
        let env = simulation.env(CLIENTS);
        Rc::new(World {
            plan: Plan::draw(&env),
            env,
            bug,
            ledger: Ledger::default(),
            simulation: Rc::downgrade(simulation),
            node: RefCell::default(),
            cut: Event::new(),
            aimed: Cell::new(None),
            calm: Cell::new(false),
        })
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let (queue, on_panic) = (Queue::Requests, OnPanic::StopProcess);
        drop(self.env.spawn(queue, "client", on_panic, task));
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.env.random_u64() % bound
    }

    /// Something that comes once in `every` times, and not at all after things have calmed down.
    pub fn mishap(&self, every: u64) -> bool {
        !self.is_calm() && self.below(every) == 0
    }

    pub async fn sleep_ms(&self, from: u64, to: u64) {
        let micros = from * 1000 + self.below((to - from) * 1000);
        self.env.sleep(Duration::from_micros(micros)).await;
    }

    /// Bytes are on their way: less than a disk takes, mostly.
    pub async fn travel(&self) {
        let micros = match self.mishap(20) {
            true => self.below(20_000),
            false => 20 + self.below(60),
        };
        self.env.sleep(Duration::from_micros(micros)).await;
    }

    /// Whether nothing goes wrong any more.
    pub fn is_calm(&self) -> bool {
        self.calm.get()
    }

    pub fn calm_down(&self) {
        self.calm.set(true);
    }

    /// The broker listens.
    pub fn open(&self, node: Rc<Node>) {
        self.node.borrow_mut().replace(node);
    }

    /// The broker's machine has gone.
    pub fn close(&self) {
        self.aimed.set(None);
        self.node.borrow_mut().take();
        self.cut.notify();
    }

    /// Takes the broker's power away right after an answer of some kind.
    pub fn aim(&self) {
        let kind = Kind::AIMED_AT[self.below(Kind::AIMED_AT.len() as u64) as usize];
        self.aimed.set(Some(kind));
    }

    pub fn answered(&self, kind: Kind) {
        if self.aimed.get() != Some(kind) {
            return;
        }
        self.aimed.set(None);
        if let Some(simulation) = self.simulation.upgrade() {
            let after = Duration::from_micros(self.below(300));
            simulation.crash_after(BROKER, after);
        }
    }

    /// A shard of the broker, if it listens.
    pub fn broker(&self) -> Option<Rc<SimBroker>> {
        let node = self.node.borrow();
        let brokers = &node.as_ref()?.brokers;
        Some(Rc::clone(
            &brokers[self.below(brokers.len() as u64) as usize],
        ))
    }

    /// Completes when the broker's machine is gone.
    pub fn gone(&self) -> impl Future<Output = ()> + Unpin + use<> {
        self.cut.listen()
    }

    /// Has the broker do something, and waits for the answer until it comes, gets lost, or `patience`
    /// is over.
    pub async fn ask<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        kind: Kind,
        patience: Duration,
        work: impl FnOnce(Rc<SimBroker>) -> F,
    ) -> Result<T, Lost> {
        self.travel().await;
        let Some(broker) = self.broker() else {
            self.sleep_ms(5, 50).await;
            return Err(Lost);
        };
        if self.mishap(40) {
            return Err(Lost);
        }
        let (sender, answer) = oneshot();
        let env = broker.env.clone();
        let work = work(broker);
        let task = async move {
            // Whoever asked may have gone.
            let _ = sender.send(work.await);
        };
        let gone = self.gone();
        drop(env.spawn(Queue::Requests, "request", OnPanic::StopProcess, task));
        let over = select(gone, Box::pin(self.env.sleep(patience)));
        let Either::Left((Ok(answer), _)) = select(answer, over).await else {
            return Err(Lost);
        };
        self.travel().await;
        if self.mishap(40) {
            return Err(Lost);
        }
        self.answered(kind);
        Ok(answer)
    }

    /// Asks the group's coordinator.
    pub async fn group(
        &self,
        kind: Kind,
        patience: Duration,
        request: GroupRequest,
    ) -> Result<Result<GroupAnswer, WireError>, Lost> {
        let call = GroupCall {
            group: GROUP.into(),
            request,
        };
        self.ask(kind, patience, move |broker| async move {
            broker.group(call).await
        })
        .await
    }
}
