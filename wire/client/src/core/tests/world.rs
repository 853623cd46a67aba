//! A broker, a network and a clock around a core. Everything that is random is drawn from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_wire::frame::{FRAME_HEADER_BYTES, Format, FrameHeader, MAX_FRAME_BYTES, PREAMBLE};
use millrace_wire::native::messages::{FetchRequest, FetchResponse};
use millrace_wire::native::{Request, Response, decode_request, encode_response};

use super::coordinator::FakeCoordinator;
use super::log::{Answer, FakeLog};
use crate::core::group::CommitId;
use crate::core::producer::{Accepted, BatchId, Push};
use crate::core::random::Random;
use crate::core::{BatchPlace, ConnectionId, Core, Event, ProducerId, Time};
use crate::{ClientConfig, ClientError, Record};

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What happens to a request when it arrives; a script of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is served and answered.
    Serve,
    /// It is served, and the connection breaks before the answer arrives.
    ServeAndBreak,
    /// The connection breaks before it is served.
    Break,
    /// It is served, and the answer never comes though the connection stands.
    ServeAndKeepSilent,
    /// It is not served and answered with this error.
    Refuse(crate::ErrorCode),
    /// The connection breaks for the client alone: what was sent on it is served, after this long.
    BreakAndServeLate(Duration),
}

enum Message {
    Opened(ConnectionId),
    Refused(ConnectionId),
    Broken(ConnectionId),
    Arrives(ConnectionId, Bytes),
    Answered(ConnectionId, Bytes),
    Late(u16, Request, BytesMut),
}

struct Peer {
    shard: u16,
    shaken: bool,
    frames: u64,
}

struct Parked {
    connection: ConnectionId,
    correlation: u32,
    request: FetchRequest,
    until: Time,
}

/// Decides the fate of a request, given what it is and how many came before.
type Script = Box<dyn FnMut(&Request) -> Fate>;

pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: Time,
    pub(super) log: FakeLog,
    pub(super) coordinator: FakeCoordinator,
    /// Where the coordinator's answers go.
    asked: BTreeMap<u64, (ConnectionId, u32)>,
    pub(super) random: Random,
    pub(super) script: Script,
    /// Whether the broker takes connections.
    pub(super) listening: bool,
    /// The longest that a message travels.
    pub(super) latency: Duration,
    /// Connections made, and requests that arrived.
    pub(super) dialled: Vec<String>,
    pub(super) arrived: Vec<(Time, ConnectionId, Request)>,
    pub(super) done: BTreeMap<BatchId, Result<BatchPlace, ClientError>>,
    pub(super) replies: Vec<Result<Response, ClientError>>,
    pub(super) committed: BTreeMap<CommitId, Result<(), ClientError>>,
    pub(super) unreachable: Vec<ClientError>,
    peers: BTreeMap<ConnectionId, Peer>,
    /// Connections that the client has seen break, with their shard and when what they bring is served.
    late: BTreeMap<ConnectionId, (u16, Time)>,
    parked: Vec<Parked>,
    messages: BTreeMap<(Time, u64), Message>,
    next_message: u64,
    /// Messages of a connection arrive in order.
    last_arrival: BTreeMap<(ConnectionId, bool), Time>,
}

pub(super) fn config() -> ClientConfig {
    ClientConfig {
        request_timeout: ms(2_000),
        ..ClientConfig::new(["broker:9092"])
    }
}

impl World {
    pub(super) fn new(shards: u16, config: ClientConfig, seed: u64) -> World {
        World {
            core: Core::new(config, seed),
            now: Time::default(),
            log: FakeLog::new(shards, 9092),
            coordinator: FakeCoordinator::default(),
            asked: BTreeMap::new(),
            random: Random::new(seed ^ 0x5eed),
            script: Box::new(|_| Fate::Serve),
            listening: true,
            latency: ms(1),
            dialled: Vec::new(),
            arrived: Vec::new(),
            done: BTreeMap::new(),
            replies: Vec::new(),
            committed: BTreeMap::new(),
            unreachable: Vec::new(),
            peers: BTreeMap::new(),
            late: BTreeMap::new(),
            parked: Vec::new(),
            messages: BTreeMap::new(),
            next_message: 0,
            last_arrival: BTreeMap::new(),
        }
    }

    fn delay(&mut self) -> Duration {
        let most = self.latency.as_micros() as u32;
        Duration::from_micros(u64::from(1 + self.random.below(most.max(1))))
    }

    fn post(&mut self, connection: ConnectionId, inbound: bool, message: Message) {
        let delay = self.delay();
        let last = self.last_arrival.entry((connection, inbound)).or_default();
        let at = self.now.plus(delay).max(*last);
        *last = at;
        self.next_message += 1;
        self.messages.insert((at, self.next_message), message);
    }

    /// Lets the core do what it wants to do now.
    pub(super) fn settle(&mut self) {
        loop {
            while let Some(transmit) = self.core.poll_transmit(self.now) {
                let id = transmit.connection;
                let bytes: BytesMut = transmit.parts.iter().flatten().copied().collect();
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.frames += 1;
                    let frames = peer.frames;
                    self.post(id, false, Message::Arrives(id, bytes.freeze()));
                    self.core.handle_written(self.now, id, frames);
                }
            }
            let Some(event) = self.core.poll_event() else {
                break;
            };
            self.carry_out(event);
        }
    }

    fn carry_out(&mut self, event: Event) {
        match event {
            Event::Connect {
                connection,
                address,
            } => {
                self.dialled.push(address);
                let message = if self.listening {
                    let shard = self.random.below(u32::from(self.log.shards)) as u16;
                    self.peers.insert(
                        connection,
                        Peer {
                            shard,
                            shaken: false,
                            frames: 0,
                        },
                    );
                    Message::Opened(connection)
                } else {
                    Message::Refused(connection)
                };
                self.post(connection, true, message);
            }
            Event::Close { connection } => self.forget(connection),
            Event::BatchDone { batch, outcome, .. } => {
                assert!(
                    self.done.insert(batch, outcome).is_none(),
                    "{batch:?} was done twice"
                );
            }
            Event::Reply { result, .. } => self.replies.push(result),
            Event::Committed { commit, result } => {
                assert!(
                    self.committed.insert(commit, result).is_none(),
                    "{commit:?} was told twice"
                );
            }
            Event::Unreachable(error) => self.unreachable.push(error),
            Event::Ready | Event::Room(_) | Event::MetadataChanged | Event::Consumer(_) => {}
        }
    }

    fn forget(&mut self, id: ConnectionId) {
        self.peers.remove(&id);
        self.parked.retain(|parked| parked.connection != id);
    }

    /// Breaks all connections.
    pub(super) fn break_all(&mut self) {
        let ids: Vec<ConnectionId> = self.peers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.break_one(id));
        self.settle();
    }

    fn break_one(&mut self, id: ConnectionId) {
        if self.peers.contains_key(&id) {
            self.forget(id);
            self.post(id, true, Message::Broken(id));
        }
    }

    /// Runs until `until`, or until nothing is left to happen.
    pub(super) fn run_until(&mut self, until: Time) {
        self.settle();
        while let Some(next) = self.next_time().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = self.now.max(until);
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now.plus(time));
    }

    /// Lets the broker notice what was stored behind its back.
    pub(super) fn tick(&mut self) {
        self.wake_parked();
        self.settle();
    }

    fn next_time(&self) -> Option<Time> {
        let message = self.messages.keys().next().map(|(at, _)| *at);
        let parked = self.parked.iter().map(|parked| parked.until).min();
        let coordinator = self.coordinator.deadline().map(Time);
        [message, parked, coordinator, self.core.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn step(&mut self) {
        self.core.handle_timeout(self.now);
        while let Some(entry) = self.messages.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let message = entry.remove();
            self.receive(message);
        }
        self.wake_parked();
        self.pass_coordinator();
        self.settle();
    }

    /// The process stands still, while the broker's time goes on.
    pub(super) fn stand_still(&mut self, time: Duration) {
        let until = self.now.plus(time);
        while let Some(at) = self.coordinator.deadline().filter(|at| *at <= until.0) {
            self.now = self.now.max(Time(at));
            self.pass_coordinator();
        }
        self.now = until;
    }

    pub(super) fn pass_coordinator(&mut self) {
        let topics = &self.log.topics;
        let count = |name: &str| topics.get(name).map(|partitions| partitions.len() as u32);
        self.coordinator.pass(self.now.0, &count);
        for (token, response) in self.coordinator.take_answers() {
            if let Some((id, correlation)) = self.asked.remove(&token) {
                self.respond(id, correlation, response, Vec::new());
            }
        }
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Opened(id) => self.core.handle_connected(self.now, id),
            Message::Refused(id) => {
                self.core
                    .handle_disconnected(self.now, id, "connection refused");
            }
            Message::Broken(id) => self.core.handle_disconnected(self.now, id, "reset"),
            Message::Arrives(id, bytes) => match self.late.get(&id) {
                Some((shard, at)) => self.postpone(*shard, *at, bytes),
                None => self.serve(id, bytes),
            },
            Message::Late(shard, request, attachments) => {
                self.log.answer(shard, request, attachments);
            }
            Message::Answered(id, bytes) => {
                if self.peers.contains_key(&id) {
                    let (header, payload) = cut(bytes);
                    self.core.handle_frame(self.now, id, header, payload);
                }
            }
        }
        self.settle();
    }

    /// Has a request served at `at`, or now if that is over, after those before it.
    fn postpone(&mut self, shard: u16, at: Time, bytes: Bytes) {
        let (header, payload) = cut(bytes);
        let (request, attachments) =
            decode_request(header.format, payload.into()).expect("the core speaks the protocol");
        self.next_message += 1;
        let late = Message::Late(shard, request, attachments);
        self.messages
            .insert((at.max(self.now), self.next_message), late);
    }

    fn serve(&mut self, id: ConnectionId, bytes: Bytes) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if !peer.shaken && bytes == PREAMBLE[..] {
            peer.shaken = true;
            return;
        }
        assert!(peer.shaken, "a connection begins with the preamble");
        let shard = peer.shard;
        let (header, payload) = cut(bytes.clone());
        let (request, attachments) =
            decode_request(header.format, payload.into()).expect("the core speaks the protocol");
        self.arrived.push((self.now, id, request.clone()));
        let fate = (self.script)(&request);
        match fate {
            Fate::Break => return self.break_one(id),
            Fate::BreakAndServeLate(after) => {
                let at = self.now.plus(after);
                self.late.insert(id, (shard, at));
                self.break_one(id);
                return self.postpone(shard, at, bytes);
            }
            Fate::Refuse(code) => {
                let status = millrace_wire::native::messages::Status::failed(code, "as scripted");
                return self.respond(id, header.correlation, Response::Error(status), Vec::new());
            }
            Fate::Serve | Fate::ServeAndBreak | Fate::ServeAndKeepSilent => {}
        }
        self.next_message += 1;
        let token = self.next_message;
        let topics = &self.log.topics;
        let count = |name: &str| topics.get(name).map(|partitions| partitions.len() as u32);
        if self.coordinator.ask(self.now.0, token, &request, &count) {
            match fate {
                Fate::ServeAndBreak => self.break_one(id),
                Fate::ServeAndKeepSilent => {}
                _ => drop(self.asked.insert(token, (id, header.correlation))),
            }
            return self.pass_coordinator();
        }
        let answer = self.log.answer(shard, request, attachments);
        match (fate, answer) {
            (Fate::ServeAndBreak, _) => self.break_one(id),
            (Fate::ServeAndKeepSilent, _) | (_, Answer::Nothing) => {}
            (_, Answer::Now(response, data)) => {
                if let Response::Handshake(told) = &response
                    && let Some(peer) = self.peers.get_mut(&id)
                {
                    peer.shard = told.shard;
                }
                self.respond(id, header.correlation, response, data);
            }
            (_, Answer::Park(request)) => {
                let until = self.now.plus(ms(u64::from(request.max_wait_ms)));
                let correlation = header.correlation;
                self.parked.push(Parked {
                    connection: id,
                    correlation,
                    request,
                    until,
                });
            }
        }
    }

    fn respond(
        &mut self,
        id: ConnectionId,
        correlation: u32,
        response: Response,
        data: Vec<Bytes>,
    ) {
        let mut bytes = BytesMut::new();
        let attached = data.iter().map(Bytes::len).sum();
        encode_response(Format::Rkyv, correlation, &response, &mut bytes, attached)
            .expect("the answer fits");
        data.iter().for_each(|part| bytes.extend_from_slice(part));
        self.post(id, true, Message::Answered(id, bytes.freeze()));
    }

    fn wake_parked(&mut self) {
        for parked in std::mem::take(&mut self.parked) {
            let answer = self.log.fetch(&parked.request);
            match answer {
                Some((response, data)) => {
                    self.respond(parked.connection, parked.correlation, response.into(), data);
                }
                None if parked.until <= self.now => {
                    let empty = FetchResponse::default().into();
                    self.respond(parked.connection, parked.correlation, empty, Vec::new());
                }
                None => self.parked.push(parked),
            }
        }
    }

    /// Pushes until the record is accepted.
    pub(super) fn push(&mut self, producer: ProducerId, record: &Record) -> Accepted {
        for _ in 0..100_000 {
            let pushed = self.core.push(self.now, producer, record, 1);
            self.settle();
            match pushed {
                Push::Accepted(accepted) => return accepted,
                Push::Refused(error) => panic!("refused: {error}"),
                Push::Full | Push::Wait => self.run_for(ms(1)),
            }
        }
        panic!("the record was never accepted")
    }

    /// How many requests arrived that `which` picks.
    pub(super) fn count(&self, which: impl Fn(&Request) -> bool) -> usize {
        self.arrived
            .iter()
            .filter(|(_, _, request)| which(request))
            .count()
    }

    /// Waits for all batches that were accepted.
    pub(super) fn finish(&mut self) {
        for _ in 0..1_000_000 {
            if !self.core.has_undelivered() {
                return;
            }
            self.run_for(ms(10));
        }
        panic!("batches are left");
    }
}

fn cut(mut bytes: Bytes) -> (FrameHeader, Bytes) {
    let header = bytes.split_to(FRAME_HEADER_BYTES);
    let header = header.first_chunk().expect("a frame has a header");
    (
        FrameHeader::parse(header, MAX_FRAME_BYTES).expect("a frame's header is right"),
        bytes,
    )
}
