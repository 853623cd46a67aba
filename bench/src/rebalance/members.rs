//! The consumers of a group, each with connections and, as far as there are threads for that, a host of
//! its own; and the producer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_client::{
    Client, ClientConfig, ClientError, GroupConfig, GroupEvent, ProducerConfig, Record,
};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval};

use super::RebalancePlan;
use super::hosts::{Host, lock};
use super::watch::{MemberNumber, Watch};
use crate::run::RunError;

/// Most threads for members; with more members than that, they take turns at them.
const MOST_HOSTS: usize = 128;

/// How long a member waits for an event before it asks again.
const POLL: Duration = Duration::from_secs(1);

/// How long leaving may take in the end, all together.
const LEAVING: Duration = Duration::from_secs(10);

/// A record's value.
const VALUE: &[u8] = &[b'x'; 100];

struct Member {
    number: MemberNumber,
    leave: oneshot::Sender<()>,
    /// Closed when it has left.
    gone: Receiver<()>,
}

type Failure = Arc<Mutex<Option<ClientError>>>;

/// The group.
pub(super) struct Members {
    address: SocketAddr,
    config: GroupConfig,
    topic: Arc<str>,
    partitions: u32,
    record_interval: Duration,
    watch: Arc<Mutex<Watch>>,
    hosts: Vec<Host>,
    most_hosts: usize,
    /// In the order in which they came.
    running: VecDeque<Member>,
    next: MemberNumber,
    producing: Option<Host>,
    failure: Failure,
}

impl Members {
    pub(super) fn new(address: SocketAddr, plan: &RebalancePlan, topic: &str) -> Members {
        Members {
            address,
            config: GroupConfig {
                assignors: vec![plan.assignor],
                session_timeout: plan.session_timeout,
                ..GroupConfig::new(topic, [topic])
            },
            topic: topic.into(),
            partitions: plan.partitions,
            record_interval: plan.interval,
            watch: Arc::new(Mutex::new(Watch::new(plan.partitions))),
            hosts: Vec::new(),
            // The oldest leaves before another joins, which finds its host free.
            most_hosts: MOST_HOSTS.min(plan.members + 1),
            running: VecDeque::new(),
            next: 0,
            producing: None,
            failure: Failure::default(),
        }
    }

    pub(super) fn watch(&self) -> MutexGuard<'_, Watch> {
        lock(&self.watch)
    }

    /// Whether a client has failed.
    pub(super) fn check(&self) -> Result<(), ClientError> {
        lock(&self.failure).take().map_or(Ok(()), Err)
    }

    /// One more. It begins to join, and nobody waits for it here.
    pub(super) fn join(&mut self) -> Result<(), RunError> {
        let number = self.next;
        self.next += 1;
        let at = number % self.most_hosts;
        if at == self.hosts.len() {
            self.hosts.push(Host::start(&format!("members-{at}"))?);
        }
        let (leave, leaving) = oneshot::channel();
        let (going, gone) = channel::<()>();
        let (address, config) = (self.address, self.config.clone());
        let (watch, failure) = (Arc::clone(&self.watch), Arc::clone(&self.failure));
        {
            let mut watch = self.watch();
            let now_ns = watch.now_ns();
            watch.joined(number, now_ns);
        }
        self.hosts[at].run(move || {
            spawn_local(async move {
                let consumed = consume(number, address, config, &watch, leaving).await;
                note(&failure, consumed);
                drop(going);
            });
        });
        self.running.push_back(Member {
            number,
            leave,
            gone,
        });
        Ok(())
    }

    /// One less: the one that has been there longest.
    pub(super) fn leave_oldest(&mut self) {
        if let Some(member) = self.running.pop_front() {
            let mut watch = lock(&self.watch);
            let now_ns = watch.now_ns();
            watch.left(member.number, now_ns);
            // One that failed is noticed elsewhere.
            let _ = member.leave.send(());
        }
    }

    /// Lets each host with all that is on it stand still, for as long as is drawn for it. Returns the
    /// longest of these times.
    pub(super) fn stand_still(&self, mut draw: impl FnMut() -> Duration) -> Duration {
        let mut longest = Duration::ZERO;
        for host in &self.hosts {
            let time = draw();
            host.stand_still(time);
            longest = longest.max(time);
        }
        longest
    }

    /// From now on every partition gets a record at each interval.
    pub(super) fn produce(&mut self) -> Result<(), RunError> {
        let host = Host::start("producer")?;
        let (address, topic, partitions) = (self.address, self.topic.clone(), self.partitions);
        let (record_interval, failure) = (self.record_interval, Arc::clone(&self.failure));
        host.run(move || {
            spawn_local(async move {
                let produced = produce(address, &topic, partitions, record_interval).await;
                note(&failure, produced);
            });
        });
        self.producing = Some(host);
        Ok(())
    }

    /// All leave.
    pub(super) fn end(self) {
        if let Some(producing) = self.producing {
            producing.end();
        }
        let mut leaving = Vec::new();
        for member in self.running {
            let _ = member.leave.send(());
            leaving.push(member.gone);
        }
        let until = Instant::now() + LEAVING;
        for gone in leaving {
            // Who does not come to an end expires at the broker.
            let _ = gone.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
        self.hosts.into_iter().for_each(Host::end);
    }
}

/// Keeps the first failure.
fn note(failure: &Failure, outcome: Result<(), ClientError>) {
    if let Err(error) = outcome {
        lock(failure).get_or_insert(error);
    }
}

async fn connect(address: SocketAddr) -> Result<Client, ClientError> {
    let config = ClientConfig::new([address.to_string()]);
    Client::connect(ClientConfig {
        client_id: "millrace-bench".to_owned(),
        ..config
    })
    .await
}

/// Writes a record to every partition at each interval, without end.
async fn produce(
    address: SocketAddr,
    topic: &Arc<str>,
    partitions: u32,
    record_interval: Duration,
) -> Result<(), ClientError> {
    let producer = connect(address)
        .await?
        .producer(ProducerConfig::default())?;
    let mut due = interval(record_interval);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        for partition in 0..partitions {
            let value = Bytes::from_static(VALUE);
            let record = Record::new(topic.clone(), value).partition(partition);
            // A record that is not delivered is missed by its consumer.
            drop(producer.send(record).await?);
        }
    }
}

/// Polls, and tells the watch what comes, until it is told to leave.
async fn consume(
    number: MemberNumber,
    address: SocketAddr,
    config: GroupConfig,
    watch: &Mutex<Watch>,
    mut leaving: oneshot::Receiver<()>,
) -> Result<(), ClientError> {
    let mut consumer = connect(address).await?.group_consumer(config)?;
    loop {
        let event = tokio::select! {
            _ = &mut leaving => return consumer.close().await,
            event = consumer.poll_event(POLL) => event?,
        };
        if let Some(event) = event {
            tell(&mut lock(watch), number, &event);
        }
    }
}

/// Tells the watch what a member was told.
fn tell(watch: &mut Watch, number: MemberNumber, event: &GroupEvent) {
    let now_ns = watch.now_ns();
    match event {
        GroupEvent::Records(records) => {
            let mut last = None;
            for record in records {
                if last.replace(record.partition) != Some(record.partition) {
                    watch.handed(record.partition, now_ns);
                }
            }
        }
        GroupEvent::Assigned(places) => {
            for place in places {
                watch.assigned(number, place.partition, now_ns);
            }
        }
        GroupEvent::Revoked(places) | GroupEvent::Lost(places) => {
            for place in places {
                watch.given_up(number, place.partition, now_ns);
            }
        }
    }
}
