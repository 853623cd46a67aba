//! One Kafka connection without its socket: frames go in, answers come out of the [`Outbox`] in the
//! order of the requests. Produce requests get their places in the order of arrival, before the next
//! frame is looked at; everything else runs on its own.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::BytesMut;
use millrace_shard::env::{Env, Instant, OnPanic, Queue};
use millrace_shard::local::{Permit, Semaphore};
use millrace_shard::metrics::Stage;
use millrace_wire::error::WireError;
use millrace_wire::kafka::control::{self, RequestKind, ResponseKind};
use millrace_wire::kafka::{ApiKey, DecodeError, FetchRequest, RequestHead};

use super::KafkaSettings;
use super::fetch_session::FetchSessions;
use super::framing::{KafkaFraming, Length};
use super::replies::Replies;
use super::turns::Turns;
use super::{groups, leaders, metadata, unserved};
use crate::broker::{Broker, UnderWay, count};
use crate::session::guard::{DeadlineGuard, Overdue};
use crate::session::outbox::{Answers, Outbox, Outgoing};
use crate::session::{Alarm, Held, Requests, SessionLimits};

/// Why a connection ends, for the log.
pub(crate) type Ended = Cow<'static, str>;

/// One connection's requests.
pub struct Session<E: Env> {
    pub(super) broker: Rc<Broker<E>>,
    pub(super) outbox: Rc<Outbox>,
    pub(super) settings: Rc<KafkaSettings>,
    /// Where the client reached this broker.
    pub(super) reached_at: SocketAddr,
    /// Where it connects from.
    pub(super) peer: SocketAddr,
    in_flight: Semaphore,
    group_turns: Turns,
    pub(super) replies: Replies<E>,
    pub(super) fetch_sessions: RefCell<FetchSessions>,
}

/// What a request's head said, and when it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) key: ApiKey,
    pub(super) version: i16,
    pub(super) correlation: i32,
    /// Where its body begins in the frame.
    pub(super) body_at: usize,
    /// When its frame was complete.
    pub(super) complete: Instant,
}

impl<E: Env> Session<E> {
    /// A session that answers into `outbox`, for a client that connects from `peer` and reached the
    /// broker at `reached_at`.
    pub fn new(
        broker: Rc<Broker<E>>,
        outbox: Rc<Outbox>,
        limits: SessionLimits,
        settings: Rc<KafkaSettings>,
        reached_at: SocketAddr,
        peer: SocketAddr,
    ) -> Rc<Session<E>> {
        let session = Rc::new(Session {
            broker,
            outbox,
            settings,
            reached_at,
            peer,
            group_turns: Turns::default(),
            in_flight: Semaphore::new(u64::from(limits.max_in_flight)),
            replies: Replies::default(),
            fetch_sessions: RefCell::default(),
        });
        let answers: Rc<dyn Answers> = Rc::<Session<E>>::clone(&session);
        session.outbox.take_from(Rc::downgrade(&answers));
        session
    }

    /// Takes a request, the bytes after its length. Returns when the next may be taken, or why there
    /// must not be one.
    pub async fn take(self: &Rc<Self>, payload: BytesMut, held: Held) -> ControlFlow<Ended> {
        let under_way = self.broker.begin_request();
        let complete = self.broker.env.now();
        let head = match RequestHead::parse(&payload) {
            Ok(head) => head,
            Err(error) => return self.refuse(format!("a request without a head: {error}")),
        };
        let Some(key) = ApiKey::from_number(head.api_key) else {
            let number = head.api_key;
            return self.refuse(format!("requests of kind {number} are not known"));
        };
        let asked = Asked {
            key,
            version: head.api_version,
            correlation: head.correlation,
            body_at: head.body_at,
            complete,
        };
        if !key.is_read(asked.version) {
            return self.not_served(asked, held, under_way);
        }
        match key {
            ApiKey::Produce => self.produce(asked, payload, held, under_way).await,
            ApiKey::Fetch => self.take_fetch(asked, &payload, held, under_way),
            _ => {
                let client_id = head.client_id.unwrap_or_default().to_owned();
                self.take_control(asked, client_id, payload, held, under_way)
            }
        }
    }

    fn take_fetch(
        self: &Rc<Self>,
        asked: Asked,
        payload: &[u8],
        held: Held,
        under_way: UnderWay<E>,
    ) -> ControlFlow<Ended> {
        let fetch = match FetchRequest::parse(&payload[asked.body_at..], asked.version) {
            Ok(request) => self.plan_fetch(&request),
            Err(error) => return self.malformed(&asked, &error),
        };
        let session = Rc::clone(self);
        self.run(asked, held, under_way, async move {
            session.fetch(asked, fetch).await
        });
        ControlFlow::Continue(())
    }

    fn take_control(
        self: &Rc<Self>,
        asked: Asked,
        client_id: String,
        payload: BytesMut,
        held: Held,
        under_way: UnderWay<E>,
    ) -> ControlFlow<Ended> {
        let body = payload.freeze().split_off(asked.body_at);
        let request = match control::decode_request(asked.key, asked.version, body) {
            Ok(request) => request,
            Err(error) => return self.malformed(&asked, &error),
        };
        let session = Rc::clone(self);
        let turn = groups::is_about_groups(asked.key).then(|| self.group_turns.take());
        self.run(asked, held, under_way, async move {
            if let Some(turn) = &turn {
                turn.come().await;
            }
            let response = session.answer(asked.version, client_id, request).await;
            drop(turn);
            written(asked, &response)
        });
        ControlFlow::Continue(())
    }

    async fn answer(&self, version: i16, client_id: String, request: RequestKind) -> ResponseKind {
        match request {
            RequestKind::ApiVersions(request) => metadata::api_versions(version, &request).into(),
            RequestKind::Metadata(request) => self.metadata(version, request).await.into(),
            RequestKind::DescribeCluster(request) => {
                self.describe_cluster(version, &request).into()
            }
            RequestKind::FindCoordinator(request) => {
                self.find_coordinator(version, request).await.into()
            }
            RequestKind::JoinGroup(request) => {
                self.join_group(version, client_id, request).await.into()
            }
            RequestKind::SyncGroup(request) => self.sync_group(version, request).await.into(),
            RequestKind::Heartbeat(request) => self.heartbeat(request).await.into(),
            RequestKind::LeaveGroup(request) => self.leave_group(version, request).await.into(),
            RequestKind::OffsetCommit(request) => self.commit_offsets(request).await.into(),
            RequestKind::OffsetFetch(request) => self.fetch_offsets(version, request).await.into(),
            RequestKind::OffsetDelete(request) => self.delete_offsets(request).await.into(),
            RequestKind::DescribeGroups(request) => self.describe_groups(request).await.into(),
            RequestKind::ListGroups(request) => self.list_groups(version, request).await.into(),
            RequestKind::DeleteGroups(request) => self.delete_groups(request).await.into(),
            RequestKind::DescribeTopicPartitions(request) => {
                self.describe_topic_partitions(request).await.into()
            }
            RequestKind::InitProducerId(request) => self.init_producer_id(request).await.into(),
            RequestKind::ListOffsets(request) => self.list_offsets(version, request).await.into(),
            RequestKind::OffsetForLeaderEpoch(request) => {
                self.offsets_for_leader_epochs(request).await.into()
            }
            RequestKind::DeleteRecords(request) => self.delete_records(request).await.into(),
            RequestKind::CreateTopics(request) => self.create_topics(request).await.into(),
            RequestKind::DeleteTopics(request) => self.delete_topics(version, request).await.into(),
            RequestKind::CreatePartitions(request) => self.create_partitions(request).await.into(),
            RequestKind::DescribeConfigs(request) => self.describe_configs(request).await.into(),
            RequestKind::AlterConfigs(request) => self.alter_configs(request).await.into(),
            RequestKind::IncrementalAlterConfigs(request) => {
                self.incremental_alter_configs(request).await.into()
            }
            RequestKind::DescribeLogDirs(request) => self.describe_log_dirs(request).await.into(),
            RequestKind::ElectLeaders(request) => self.elect_leaders(request).await.into(),
            RequestKind::AlterPartitionReassignments(request) => {
                self.alter_partition_reassignments(request).await.into()
            }
            RequestKind::ListPartitionReassignments(_) => {
                leaders::list_partition_reassignments().into()
            }
            other => self.decline(other).await,
        }
    }

    /// A kind or a version that is not served gets an answer that says so, in its own form, where
    /// there is such a form. Otherwise the connection ends, as Kafka does it.
    fn not_served(
        self: &Rc<Self>,
        asked: Asked,
        held: Held,
        under_way: UnderWay<E>,
    ) -> ControlFlow<Ended> {
        let Some(answer) = unserved::answer(asked) else {
            let (name, version) = (asked.key.name(), asked.version);
            return self.refuse(format!("{name} version {version} is not served"));
        };
        let place = self.replies.await_answer(held, under_way);
        self.replies.fill(place, answer);
        self.outbox.filled().notify();
        ControlFlow::Continue(())
    }

    /// Runs a request in a task of its own; its answer goes out when those before it have.
    pub(super) fn run(
        self: &Rc<Self>,
        asked: Asked,
        held: Held,
        under_way: UnderWay<E>,
        work: impl Future<Output = Outgoing> + 'static,
    ) {
        let session = Rc::clone(self);
        let place = self.replies.await_answer(held, under_way);
        let task = async move {
            let alarm = Alarm::armed(&session.outbox);
            session.note_queued(asked);
            let answer = work.await;
            drop(alarm);
            session.replies.fill(place, answer);
            session.outbox.filled().notify();
        };
        let env = &self.broker.env;
        drop(env.spawn(Queue::Requests, "request", OnPanic::EndTask, task));
    }

    /// A request's work is under way.
    pub(super) fn note_queued(&self, asked: Asked) {
        let queued = self.broker.env.now().since(asked.complete);
        self.broker.storage().metrics().record(Stage::Queue, queued);
    }

    /// Ends the connection over a request that breaks its own rules.
    pub(super) fn malformed(&self, asked: &Asked, error: &DecodeError) -> ControlFlow<Ended> {
        let (name, version) = (asked.key.name(), asked.version);
        self.refuse(format!(
            "a {name} request of version {version} cannot be read: {error}"
        ))
    }

    fn refuse(&self, why: String) -> ControlFlow<Ended> {
        count(&self.broker.counters.refused_connections, 1);
        ControlFlow::Break(why.into())
    }
}

/// An answer as it is sent.
pub(super) fn written(asked: Asked, response: &ResponseKind) -> Outgoing {
    let mut answer = Outgoing::default();
    let Asked {
        version,
        correlation,
        ..
    } = asked;
    let out = answer.small();
    if let Err(error) = control::write_response(asked.key, version, correlation, response, out) {
        // Only a message of ours that its version has no room for ends here.
        panic!("a {} answer cannot be written: {error}", asked.key.name());
    }
    answer
}

impl<E: Env> Requests for Session<E> {
    type Framing = KafkaFraming;

    async fn place(&self) -> Permit {
        self.in_flight.acquire(1).await
    }

    fn try_place(&self) -> Option<Permit> {
        self.in_flight.try_acquire(1)
    }

    async fn handle(
        self: &Rc<Self>,
        _length: Length,
        payload: BytesMut,
        held: Held,
    ) -> ControlFlow<Ended> {
        self.take(payload, held).await
    }

    /// Kafka has no answer to a request that was not read.
    fn end_with(&self, _length: Length, _error: WireError) {
        self.outbox.close();
    }
}

impl<E: Env> Overdue for Session<E> {
    fn guard(&self) -> &DeadlineGuard {
        &self.replies.guard
    }

    fn outbox(&self) -> &Rc<Outbox> {
        &self.outbox
    }

    fn answer_overdue(&self, now: Instant) {
        self.replies.give_up(now);
        self.outbox.filled().notify();
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.replies.next_deadline()
    }
}

impl<E: Env> Answers for Session<E> {
    fn collect(&self, into: &mut Outgoing) {
        self.replies.collect(into, self.outbox.filled());
    }
}
