//! The consumers of a group, each a task with connections of its own, and the producer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use millrace_client::{
    Client, ClientConfig, ClientError, GroupConfig, GroupConsumer, GroupEvent, ProducerConfig,
    Record,
};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::watch::{MemberNumber, Watch};
use super::{RebalancePlan, Shared};

/// How long a member waits for an event before it asks again.
const POLL: Duration = Duration::from_secs(1);

/// How long leaving may take in the end.
const LEAVING: Duration = Duration::from_secs(10);

/// A record's value.
const VALUE: &[u8] = &[b'x'; 100];

struct Member {
    leave: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// The group.
pub(super) struct Members {
    address: SocketAddr,
    config: GroupConfig,
    topic: Rc<str>,
    partitions: u32,
    record_interval: Duration,
    watch: Shared<Watch>,
    /// In the order in which they came.
    running: VecDeque<Member>,
    next: MemberNumber,
    producing: Option<JoinHandle<()>>,
    failure: Shared<Option<ClientError>>,
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
            watch: Rc::new(RefCell::new(Watch::new(plan.partitions))),
            running: VecDeque::new(),
            next: 0,
            producing: None,
            failure: Shared::default(),
        }
    }

    pub(super) fn watch(&self) -> &RefCell<Watch> {
        &self.watch
    }

    /// Whether a client has failed.
    pub(super) fn check(&self) -> Result<(), ClientError> {
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }

    async fn client(&self) -> Result<Client, ClientError> {
        let config = ClientConfig::new([self.address.to_string()]);
        Client::connect(ClientConfig {
            client_id: "millrace-bench".to_owned(),
            ..config
        })
        .await
    }

    /// One more.
    pub(super) async fn join(&mut self) -> Result<(), ClientError> {
        let consumer = self.client().await?.group_consumer(self.config.clone())?;
        let number = self.next;
        self.next += 1;
        let now_ns = self.watch.borrow().now_ns();
        self.watch.borrow_mut().joined(number, now_ns);
        let (leave, leaving) = oneshot::channel();
        let (watch, failure) = (Rc::clone(&self.watch), Rc::clone(&self.failure));
        let task = spawn_local(async move {
            if let Err(error) = consume(number, consumer, &watch, leaving).await {
                *failure.borrow_mut() = Some(error);
            }
        });
        self.running.push_back(Member { leave, task });
        Ok(())
    }

    /// One less: the one that has been there longest.
    pub(super) fn leave_oldest(&mut self) {
        if let Some(member) = self.running.pop_front() {
            // One that failed is noticed elsewhere.
            let _ = member.leave.send(());
        }
    }

    /// From now on every partition gets a record at each interval.
    pub(super) async fn produce(&mut self) -> Result<(), ClientError> {
        let producer = self.client().await?.producer(ProducerConfig::default())?;
        let (partitions, topic) = (self.partitions, std::sync::Arc::<str>::from(&*self.topic));
        let mut due = interval(self.record_interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let failure = Rc::clone(&self.failure);
        self.producing = Some(spawn_local(async move {
            loop {
                due.tick().await;
                for partition in 0..partitions {
                    let value = Bytes::from_static(VALUE);
                    let record = Record::new(topic.clone(), value).partition(partition);
                    // A record that is not delivered is missed by its consumer.
                    if let Err(error) = producer.send(record).await {
                        *failure.borrow_mut() = Some(error);
                        return;
                    }
                }
            }
        }));
        Ok(())
    }

    /// All leave.
    pub(super) async fn end(self) {
        if let Some(producing) = self.producing {
            producing.abort();
        }
        let mut tasks = Vec::new();
        for member in self.running {
            let _ = member.leave.send(());
            tasks.push(member.task);
        }
        for task in tasks {
            // Who does not come to an end expires at the broker.
            if timeout(LEAVING, task).await.is_err() {
                return;
            }
        }
    }
}

/// Polls, and tells the watch what comes, until it is told to leave.
async fn consume(
    number: MemberNumber,
    mut consumer: GroupConsumer,
    watch: &RefCell<Watch>,
    mut leaving: oneshot::Receiver<()>,
) -> Result<(), ClientError> {
    loop {
        let event = tokio::select! {
            _ = &mut leaving => {
                let now_ns = watch.borrow().now_ns();
                watch.borrow_mut().left(number, now_ns);
                return consumer.close().await;
            }
            event = consumer.poll_event(POLL) => event?,
        };
        let mut watch = watch.borrow_mut();
        let now_ns = watch.now_ns();
        match event {
            None => {}
            Some(GroupEvent::Records(records)) => {
                let mut last = None;
                for record in &records {
                    if last.replace(record.partition) != Some(record.partition) {
                        watch.handed(record.partition, now_ns);
                    }
                }
            }
            Some(GroupEvent::Assigned(places)) => {
                for place in &places {
                    watch.assigned(number, place.partition, now_ns);
                }
            }
            Some(GroupEvent::Revoked(places) | GroupEvent::Lost(places)) => {
                for place in &places {
                    watch.given_up(number, place.partition, now_ns);
                }
            }
        }
    }
}
