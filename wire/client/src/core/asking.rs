//! Users' requests, and metadata.

use millrace_wire::native::messages::MetadataRequest;
use millrace_wire::native::{Request, Response};

use super::metadata::host_of;
use super::requests::{Pending, Purpose, UserRequest};
use super::{ConnectionId, Core, Event, RequestId, Time, Timer};
use crate::ClientError;

impl Core {
    /// Asks the broker something. [`Event::Reply`] brings the answer. Whoever may be asked
    /// repeatedly (`repeatable`) is asked again if a connection breaks.
    pub fn request(&mut self, now: Time, request: Request, repeatable: bool) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let deadline = now.plus(self.config.request_timeout);
        self.timers.set(Timer::User(id), deadline);
        self.waiting.push_back(UserRequest {
            id,
            request,
            repeatable,
            deadline,
        });
        id
    }

    /// The user no longer wants the answer. A request that has left may still take effect.
    pub fn cancel(&mut self, id: RequestId) {
        self.waiting.retain(|request| request.id != id);
        self.timers.cancel(Timer::User(id));
    }

    pub(super) fn schedule_waiting(&mut self, now: Time) {
        if self.waiting.is_empty() {
            return;
        }
        let Some(connection) = self.any_connection(now) else {
            return;
        };
        for request in std::mem::take(&mut self.waiting) {
            let (id, message) = (request.id, request.request.clone());
            // The user's patience may end earlier; that is no reason to give the connection up.
            let deadline = now.plus(self.config.request_timeout);
            let pending = Pending {
                purpose: Purpose::User(request),
                deadline,
            };
            if let Err(failed) = self.transmit(connection, message, Vec::new(), pending) {
                self.reply(id, Err(failed.1));
            }
        }
    }

    pub(super) fn reply(&mut self, request: RequestId, result: Result<Response, ClientError>) {
        self.timers.cancel(Timer::User(request));
        self.events.push_back(Event::Reply { request, result });
    }

    pub(super) fn user_request_lost(
        &mut self,
        now: Time,
        request: UserRequest,
        error: &ClientError,
    ) {
        if now >= request.deadline {
            self.reply(request.id, Err(self.timed_out(Some(error.to_string()))));
        } else if request.repeatable {
            self.waiting.push_back(request);
        } else {
            self.reply(request.id, Err(error.clone()));
        }
    }

    /// A request was not answered, or found no connection, in time.
    pub(super) fn user_timed_out(&mut self, id: RequestId) {
        self.waiting.retain(|request| request.id != id);
        let last = self
            .connections
            .last_failure
            .as_ref()
            .map(ToString::to_string);
        self.reply(id, Err(self.timed_out(last)));
    }

    fn timed_out(&self, last: Option<String>) -> ClientError {
        let after = self.config.request_timeout;
        ClientError::TimedOut {
            what: "the request".into(),
            after,
            last,
        }
    }

    /// Asks for metadata if it is wanted, allowed and possible.
    pub(super) fn schedule_metadata(&mut self, now: Time) {
        if self.metadata_asked.is_some() {
            return;
        }
        let Some(topics) = self.metadata.due(now) else {
            if let Some(expiry) = self.metadata.expires().filter(|_| self.is_in_use()) {
                self.timers.set_by(Timer::Metadata, expiry);
            }
            return;
        };
        if !self.is_in_use() {
            return;
        }
        if now < self.metadata_not_before {
            self.timers.set(Timer::Metadata, self.metadata_not_before);
            return;
        }
        let Some(connection) = self.any_connection(now) else {
            return;
        };
        let request = MetadataRequest {
            topics: Some(topics),
        };
        let deadline = now.plus(self.config.request_timeout);
        let pending = Pending {
            purpose: Purpose::Metadata,
            deadline,
        };
        if self
            .transmit(connection, request.into(), Vec::new(), pending)
            .is_ok()
        {
            self.metadata_asked = Some(connection);
        }
    }

    /// Whether anyone needs to know where partitions are.
    fn is_in_use(&self) -> bool {
        !self.producers.is_empty() || !self.consumers.is_empty()
    }

    pub(super) fn metadata_told(&mut self, now: Time, id: ConnectionId, answer: Response) {
        self.metadata_asked = None;
        match answer {
            Response::Metadata(told) => {
                let address = self.connections.get(id).map(|c| c.address.clone());
                let address = address.unwrap_or_default();
                self.metadata.update(now, host_of(&address), told);
                self.routes_changed = true;
                self.events.push_back(Event::MetadataChanged);
            }
            _ => self.metadata.disappointments += 1,
        }
        self.pace_metadata(now);
    }

    /// Even where answers are as wished, partitions that move about must not make a storm.
    pub(super) fn pace_metadata(&mut self, now: Time) {
        let pause = match self.metadata.disappointments {
            0 => self.backoff.first,
            failures => self.backoff.pause(failures, &mut self.random),
        };
        self.metadata_not_before = now.plus(pause);
    }
}
