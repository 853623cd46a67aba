//! Connections: dialling, handshakes, losses; and the way to a partition.

use bytes::{Bytes, BytesMut};
use millrace_wire::frame::{Format, FrameHeader, PREAMBLE};
use millrace_wire::ids::{NodeId, ShardId};
use millrace_wire::native::messages::{HandshakeRequest, HandshakeResponse};
use millrace_wire::native::{PROTOCOL_VERSION, Request, Response, decode_response, encode_request};

use super::connections::{Ready, State, Target, Want};
use super::metadata::{Knowledge, PartitionKey, Place};
use super::requests::{Pending, Purpose};
use super::{BrokerInfo, ConnectionId, Core, Event, Route, Time, Timer, Transmit};
use crate::ClientError;

impl Core {
    /// The connection is open.
    pub fn handle_connected(&mut self, now: Time, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.state = State::Handshaking;
        let wanted_shard = match connection.target {
            Target::Shard(place) => Some(place.shard.0),
            Target::Any => None,
        };
        let request = HandshakeRequest {
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            client_id: self.config.client_id.clone(),
            client_software: concat!("millrace-client ", env!("CARGO_PKG_VERSION")).into(),
            wanted_shard,
            wanted_partition: None,
        };
        self.outbox.push_back(Transmit {
            connection: id,
            parts: vec![Bytes::from_static(&PREAMBLE)],
        });
        connection.sent += 1;
        let deadline = now.plus(self.config.connect_timeout);
        let pending = Pending {
            purpose: Purpose::Handshake,
            deadline,
        };
        if let Err(failed) = self.transmit(id, request.into(), Vec::new(), pending) {
            self.abandon(now, id, failed.1.to_string());
        }
    }

    /// The connection could not be opened, or is gone.
    pub fn handle_disconnected(&mut self, now: Time, id: ConnectionId, reason: &str) {
        let Some(connection) = self.connections.remove(now, id, &mut self.random) else {
            return;
        };
        self.timers.cancel(Timer::Connect(id));
        self.routes_changed = true;
        self.metadata.doubt();
        let address = connection.address.clone();
        if connection.ready().is_none() {
            let failure = self.connections.last_failure.take().filter(|failure| {
                // What the broker said in the handshake is worth more than that it then closed.
                failure.code().is_some()
            });
            let failure =
                failure.unwrap_or_else(|| connect_failure(&address, reason, connection.state));
            let told = failure.code().is_some();
            self.connections.last_failure = Some(failure.clone());
            if connection.target == Target::Any && (told || self.connections.round_failed()) {
                self.events.push_back(Event::Unreachable(failure));
            }
        }
        if self.metadata_asked == Some(id) {
            self.metadata_asked = None;
            self.metadata.disappointments += 1;
            self.pace_metadata(now);
        }
        let error = ClientError::ConnectionLost {
            address,
            reason: reason.to_string(),
        };
        for (correlation, pending) in connection.unanswered {
            self.timers.cancel(Timer::Request(id, correlation));
            self.lost(now, pending, &error);
        }
    }

    /// A frame came in on the connection.
    pub fn handle_frame(
        &mut self,
        now: Time,
        id: ConnectionId,
        header: FrameHeader,
        payload: Bytes,
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let answer = match decode_response(Format::Rkyv, payload) {
            Ok(answer) if header.format == Format::Rkyv => answer,
            Ok(_) => return self.abandon(now, id, "it answers in another format".into()),
            Err(error) => return self.abandon(now, id, error.to_string()),
        };
        let Some(pending) = connection.unanswered.remove(&header.correlation) else {
            // An error without a request, as before the connection closes; or nonsense.
            let reason = match answer.0 {
                Response::Error(status) => status.message,
                _ => format!(
                    "it answers request {}, which is not open",
                    header.correlation
                ),
            };
            return self.abandon(now, id, reason);
        };
        if connection
            .ready()
            .is_some_and(|r| connection.unanswered.len() + 1 >= r.max_in_flight)
        {
            self.routes_changed = true;
        }
        self.timers.cancel(Timer::Request(id, header.correlation));
        match pending.purpose {
            Purpose::Handshake => self.shaken(now, id, answer.0),
            Purpose::Metadata => self.metadata_told(now, id, answer.0),
            Purpose::User(request) => self.reply(request.id, answered(answer.0)),
            Purpose::Identity { producer } => self.identified(now, producer, answer.0),
            Purpose::Produce { producer, batches } => {
                self.produced(now, id, producer, batches, answer.0);
            }
            Purpose::Fetch { consumer, fetch } => {
                self.fetch_answered(now, consumer, fetch, answer.0, answer.1);
            }
            Purpose::Offsets { consumer, asked } => {
                self.offsets_told(now, consumer, asked, answer.0);
            }
            Purpose::Group {
                consumer,
                exchange,
                number,
            } => self.group_answered(now, consumer, exchange, number, answer.0),
        }
    }

    /// This many frames given out for the connection, counted from its first, are written.
    pub fn handle_written(&mut self, now: Time, id: ConnectionId, frames: u64) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.written = connection.written.max(frames);
        self.written(now, id);
    }

    /// What the handshake brought.
    fn shaken(&mut self, now: Time, id: ConnectionId, answer: Response) {
        let told = match answer {
            Response::Handshake(told) => ClientError::check(&told.status).map(|()| told),
            Response::Error(status) => match ClientError::check(&status) {
                Err(error) => Err(error),
                Ok(()) => return self.abandon(now, id, "it answers with an empty error".into()),
            },
            _ => return self.abandon(now, id, "it does not answer the handshake".into()),
        };
        match told {
            Ok(told) => self.establish(now, id, told),
            Err(error) => {
                let reason = error.to_string();
                self.connections.last_failure = Some(error);
                self.abandon(now, id, reason);
            }
        }
    }

    fn establish(&mut self, now: Time, id: ConnectionId, told: HandshakeResponse) {
        self.timers.cancel(Timer::Connect(id));
        let ready = Ready {
            place: Place {
                node: NodeId(told.node_id),
                shard: ShardId(told.shard),
            },
            max_frame_bytes: told.max_frame_bytes,
            max_in_flight: (told.max_in_flight as usize).max(1),
        };
        self.metadata.observe_cluster(&told.cluster_id);
        self.broker = Some(BrokerInfo {
            cluster_id: told.cluster_id,
            node_id: told.node_id,
            boot_epoch: told.boot_epoch,
            shard_count: told.shard_count,
            version: told.broker_version,
        });
        self.routes_changed = true;
        if !self.connections.establish(now, id, ready) {
            self.events.push_back(Event::Close { connection: id });
        }
        self.connect_wanted = false;
        self.events.push_back(Event::Ready);
    }

    /// Gives a connection up on our own account.
    pub(super) fn abandon(&mut self, now: Time, id: ConnectionId, reason: String) {
        self.events.push_back(Event::Close { connection: id });
        self.handle_disconnected(now, id, &reason);
    }

    pub(super) fn connect_timed_out(&mut self, now: Time, id: ConnectionId) {
        let after = self.config.connect_timeout;
        self.abandon(now, id, format!("no answer within {after:?}"));
    }

    /// An unanswered request means that the connection, or what is behind it, does not work: what
    /// was sent on it is of unknown fate, and must not be answered after it was sent again.
    pub(super) fn request_timed_out(&mut self, now: Time, id: ConnectionId) {
        self.abandon(now, id, "a request was not answered in time".into());
    }

    /// The request will not be answered.
    fn lost(&mut self, now: Time, pending: Pending, error: &ClientError) {
        match pending.purpose {
            Purpose::Handshake | Purpose::Metadata => {}
            Purpose::User(request) => self.user_request_lost(now, request, error),
            Purpose::Identity { producer } => self.not_identified(now, producer, error),
            Purpose::Produce { producer, batches } => {
                self.produce_lost(now, producer, batches, error);
            }
            Purpose::Fetch { consumer, fetch } => self.fetch_lost(now, consumer, fetch),
            Purpose::Offsets { consumer, asked } => {
                self.offsets_lost(now, consumer, asked, error);
            }
            Purpose::Group {
                consumer,
                exchange,
                number,
            } => self.group_lost(now, consumer, exchange, number, error),
        }
    }

    /// Makes a frame of a request and enters it into the connection's table.
    pub(super) fn transmit(
        &mut self,
        id: ConnectionId,
        request: Request,
        attachments: Vec<Bytes>,
        pending: Pending,
    ) -> Result<(), Box<(Pending, ClientError)>> {
        let Some(connection) = self.connections.get_mut(id) else {
            return Err(Box::new((pending, ClientError::Closed)));
        };
        let correlation = connection.next_correlation();
        let bytes = attachments.iter().map(Bytes::len).sum();
        let mut head = BytesMut::new();
        if let Err(error) = encode_request(Format::Rkyv, correlation, &request, &mut head, bytes) {
            return Err(Box::new((pending, ClientError::invalid(error.to_string()))));
        }
        self.timers
            .set(Timer::Request(id, correlation), pending.deadline);
        connection.unanswered.insert(correlation, pending);
        connection.sent += 1;
        let mut parts = attachments;
        parts.insert(0, head.freeze());
        self.outbox.push_back(Transmit {
            connection: id,
            parts,
        });
        Ok(())
    }

    /// Begins to dial a target unless it is too early, and sees to it that it is tried again.
    pub(super) fn dial(&mut self, now: Time, target: Target) {
        let address = match target {
            Target::Shard(place) => self.metadata.address(place.node).map(str::to_string),
            Target::Any => None,
        };
        match self.connections.want(now, target, address.as_deref()) {
            Want::Dial(connection, address) => {
                let deadline = now.plus(self.config.connect_timeout);
                self.timers.set(Timer::Connect(connection), deadline);
                self.events.push_back(Event::Connect {
                    connection,
                    address,
                });
            }
            Want::Wait => {
                if let Some(at) = self.connections.not_before(target, now) {
                    self.timers.set_by(Timer::Dial, at);
                }
            }
        }
    }

    /// Any connection that is ready; dials one if there is none.
    pub(super) fn any_connection(&mut self, now: Time) -> Option<ConnectionId> {
        let any = self.connections.any();
        if any.is_none() {
            self.dial(now, Target::Any);
        }
        any
    }

    /// The way to a partition's leader.
    pub(super) fn route(&mut self, now: Time, key: PartitionKey) -> Route {
        match self.metadata.leader(key, now) {
            Knowledge::Known(place) => self.route_to(now, place),
            Knowledge::Wait => Route::Wait,
            Knowledge::Missing(error) => Route::Missing(error),
        }
    }

    fn route_to(&mut self, now: Time, place: Place) -> Route {
        if let Some(id) = self.connections.serving(place) {
            return Route::To(id);
        }
        let target = Target::Shard(place);
        self.dial(now, target);
        if self.metadata.address(place.node).is_none() {
            self.metadata.doubt();
        }
        // While the first attempt is under way it is worth waiting for; afterwards any connection
        // to the node will do, and none at all means asking for metadata through another node.
        if !self.connections.has_failed(target) {
            return Route::Wait;
        }
        match self.connections.of_node(place.node) {
            Some(id) => Route::To(id),
            None => {
                self.any_connection(now);
                Route::Wait
            }
        }
    }
}

/// A user's answer: an error in the bare form becomes an error here.
fn answered(response: Response) -> Result<Response, ClientError> {
    match response {
        Response::Error(status) => Err(ClientError::check(&status).err().unwrap_or_else(|| {
            ClientError::invalid("the broker answered with an error that names no cause")
        })),
        other => Ok(other),
    }
}

fn connect_failure(address: &str, reason: &str, state: State) -> ClientError {
    let address = address.to_string();
    if state == State::Handshaking {
        return ClientError::Protocol {
            address,
            reason: reason.to_string(),
        };
    }
    let hint = if reason.contains("refused") {
        "is `millrace serve` running there, and is it the right port?"
    } else if reason.contains("lookup") || reason.contains("not known") {
        "check the host name"
    } else {
        "check the address, and that nothing between blocks the port"
    };
    ClientError::Connect {
        address,
        reason: reason.to_string(),
        hint,
    }
}
