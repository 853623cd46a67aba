//! One connection after its handshake, without its socket: frames go in, responses come out of the
//! [`Outbox`]. Produce requests get their places in the order of arrival, before the next frame is
//! looked at; everything else runs on its own and is answered when it is done.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use millrace_shard::env::{Env, Instant, OnPanic, Queue};
use millrace_shard::local::{Permit, Semaphore};
use millrace_shard::metrics::Stage;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::frame::{Format, FrameHeader};
use millrace_wire::native::messages::Status;
use millrace_wire::native::{DecodeError, Kind, RequestPayload, Response, encode_response};

use super::framing::NativeFraming;
use super::produce::PlacedRequests;
use crate::broker::{Broker, UnderWay, count};
use crate::session::outbox::{Answers, Outbox, Outgoing};
use crate::session::{Alarm, Held, Requests, SessionLimits};

/// Who is at a connection's other end, as those are told who ask who reads with whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The name that it chose for itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
}

/// One connection's requests.
pub struct Session<E: Env> {
    pub(super) broker: Rc<Broker<E>>,
    pub(super) peer: Peer,
    pub(super) outbox: Rc<Outbox>,
    in_flight: Semaphore,
    /// Produce requests that wait to be durable.
    pub(super) placed: PlacedRequests<E>,
}

/// Where and how a request is to be answered.
#[derive(Clone, Copy)]
pub(super) struct ReplyTo {
    pub(super) format: Format,
    pub(super) correlation: u32,
    /// When the request's frame was complete.
    pub(super) complete: Instant,
}

/// An answer: the message, its attachments, and the memory that these hold.
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) attachments: Vec<Bytes>,
    pub(super) memory: Option<Permit>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        Answer {
            response,
            attachments: Vec::new(),
            memory: None,
        }
    }
}

impl<E: Env> Session<E> {
    /// A session with `peer` that answers into `outbox`.
    pub fn new(
        broker: Rc<Broker<E>>,
        peer: Peer,
        outbox: Rc<Outbox>,
        limits: SessionLimits,
    ) -> Rc<Session<E>> {
        let in_flight = Semaphore::new(u64::from(limits.max_in_flight));
        let session = Rc::new(Session {
            broker,
            peer,
            outbox,
            in_flight,
            placed: PlacedRequests::default(),
        });
        let answers: Rc<dyn Answers> = Rc::<Session<E>>::clone(&session);
        session.outbox.take_from(Rc::downgrade(&answers));
        session
    }

    /// Waits for a place among the connection's requests. The next frame is not read before.
    pub async fn place(&self) -> Permit {
        self.in_flight.acquire(1).await
    }

    /// Takes a frame. Returns when the next may be taken, or that there must not be one.
    pub async fn handle(
        self: &Rc<Self>,
        header: FrameHeader,
        payload: BytesMut,
        held: Held,
    ) -> ControlFlow<()> {
        let under_way = self.broker.begin_request();
        let to = ReplyTo {
            format: header.format,
            correlation: header.correlation,
            complete: self.broker.env.now(),
        };
        let payload = match RequestPayload::split(header.format, payload) {
            Ok(payload) => payload,
            Err(error) => return self.refuse(to, error, held),
        };
        match payload.kind {
            Kind::Handshake => {
                let error = WireError::new(
                    ErrorCode::HandshakeRequired,
                    "a connection has one handshake, and this one had its own",
                );
                self.answer(to, Response::Error(error.into()).into(), held);
                ControlFlow::Break(())
            }
            Kind::Produce => self.produce(to, payload, held, under_way).await,
            Kind::Fetch => {
                let query = match payload.fetch() {
                    Ok(view) => self.fetch_query(&view),
                    Err(error) => return self.refuse(to, error, held),
                };
                let session = Rc::clone(self);
                // The request's own memory is free as soon as the query stands.
                drop(payload);
                let work = async move { session.fetch(query).await };
                self.run(to, held, under_way, work);
                ControlFlow::Continue(())
            }
            _ => {
                let request = match payload.decode() {
                    Ok(request) => request,
                    Err(error) => return self.refuse(to, error, held),
                };
                let session = Rc::clone(self);
                let work = async move { session.answer_request(request).await.into() };
                self.run(to, held, under_way, work);
                ControlFlow::Continue(())
            }
        }
    }

    /// Runs a request in a task of its own and sends its answer.
    pub(super) fn run(
        self: &Rc<Self>,
        to: ReplyTo,
        held: Held,
        under_way: UnderWay<E>,
        work: impl Future<Output = Answer> + 'static,
    ) {
        let session = Rc::clone(self);
        let task = async move {
            let alarm = Alarm::armed(&session.outbox);
            session.note_queued(to);
            let answer = work.await;
            drop(alarm);
            session.answer(to, answer, held);
            drop(under_way);
        };
        drop(
            self.broker
                .env
                .spawn(Queue::Requests, "request", OnPanic::EndTask, task),
        );
    }

    /// A request's work is under way.
    pub(super) fn note_queued(&self, to: ReplyTo) {
        let queued = self.broker.env.now().since(to.complete);
        let metrics = self.broker.storage().metrics();
        metrics.record(Stage::Queue, queued);
    }

    pub(super) fn answer(&self, to: ReplyTo, answer: Answer, held: Held) {
        let Held { place, memory } = held;
        drop(memory);
        self.outbox.add(|out| {
            write_response(
                out,
                to.format,
                to.correlation,
                &answer.response,
                answer.attachments,
            );
            out.hold(place);
            answer
                .memory
                .into_iter()
                .for_each(|memory| out.hold(memory));
        });
    }

    /// Answers a request that cannot be read. What it was is not known, but where it ends is, so
    /// only a body that breaks its own rules costs the client its connection.
    pub(super) fn refuse(&self, to: ReplyTo, error: DecodeError, held: Held) -> ControlFlow<()> {
        let error = WireError::from(error);
        let fatal = error.code == ErrorCode::MalformedFrame;
        self.answer(to, Response::Error(error.into()).into(), held);
        if fatal {
            count(&self.broker.counters.refused_connections, 1);
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl<E: Env> Requests for Session<E> {
    type Framing = NativeFraming;

    async fn place(&self) -> Permit {
        Session::place(self).await
    }

    fn try_place(&self) -> Option<Permit> {
        self.in_flight.try_acquire(1)
    }

    async fn handle(
        self: &Rc<Self>,
        header: FrameHeader,
        payload: BytesMut,
        held: Held,
    ) -> ControlFlow<Cow<'static, str>> {
        let handled = Session::handle(self, header, payload, held).await;
        handled.map_break(|()| "a message that cannot be read".into())
    }

    fn end_with(&self, header: FrameHeader, error: WireError) {
        let status = Response::Error(Status::from(error));
        self.outbox.add(|out| {
            write_response(out, header.format, header.correlation, &status, Vec::new());
        });
        self.outbox.close();
    }
}

/// Adds a response and what is attached to it.
pub(super) fn write_response(
    out: &mut Outgoing,
    format: Format,
    correlation: u32,
    response: &Response,
    attachments: Vec<Bytes>,
) {
    let attached = attachments.iter().map(Bytes::len).sum();
    match encode_response(format, correlation, response, out.small(), attached) {
        Ok(()) => attachments.into_iter().for_each(|piece| out.splice(piece)),
        Err(error) => {
            tracing::error!(%error, "a response could not be encoded");
            let status = Status::failed(ErrorCode::InvalidRequest, error.to_string());
            // A status of one sentence always fits; if not, the client hears nothing and times out.
            let _ = encode_response(
                format,
                correlation,
                &Response::Error(status),
                out.small(),
                0,
            );
        }
    }
}
