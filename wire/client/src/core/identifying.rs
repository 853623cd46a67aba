//! Producer ids: asked for before an idempotent producer's first batch leaves, and when an id is of no
//! use any more.

use millrace_wire::ids::ProducerId as WireProducerId;
use millrace_wire::native::Response;
use millrace_wire::native::messages::InitProducerRequest;

use super::producer::Identity;
use super::requests::{Pending, Purpose};
use super::{Core, ProducerId, Time, Timer};
use crate::ClientError;

impl Core {
    /// Asks for the ids that are wanted, if there is a connection.
    pub(super) fn schedule_identities(&mut self, now: Time) {
        let wanted = |(id, producer): (&ProducerId, &super::Producer)| {
            let at = producer.identity.wanted_at()?;
            Some((*id, at))
        };
        let wanted: Vec<(ProducerId, Time)> = self.producers.iter().filter_map(wanted).collect();
        for (id, at) in wanted {
            if at > now {
                self.timers.set_by(Timer::Identity(id), at);
                continue;
            }
            let Some(connection) = self.any_connection(now) else {
                return;
            };
            let deadline = now.plus(self.config.request_timeout);
            let pending = Pending {
                purpose: Purpose::Identity { producer: id },
                deadline,
            };
            let asked = self.transmit(
                connection,
                InitProducerRequest {}.into(),
                Vec::new(),
                pending,
            );
            let Some(producer) = self.producers.get_mut(&id) else {
                continue;
            };
            producer.identity.asked();
            if let Err(failed) = asked {
                self.not_identified(now, id, &failed.1);
            }
        }
    }

    /// The answer to the question for an id.
    pub(super) fn identified(&mut self, now: Time, id: ProducerId, answer: Response) {
        let told = match answer {
            Response::InitProducer(told) => {
                ClientError::check(&told.status).map(|()| told.producer_id)
            }
            Response::Error(status) => Err(ClientError::check(&status)
                .err()
                .unwrap_or(ClientError::Closed)),
            _ => Err(ClientError::invalid(
                "the broker answers the question for a producer id with something else",
            )),
        };
        match told {
            Ok(told) => {
                if let Some(producer) = self.producers.get_mut(&id) {
                    producer.identity = Identity::Known(WireProducerId(told));
                    producer.unstall();
                }
            }
            Err(error) => self.not_identified(now, id, &error),
        }
    }

    /// There is no id yet. Where asking again does not help, what waits for one fails.
    pub(super) fn not_identified(&mut self, now: Time, id: ProducerId, error: &ClientError) {
        let (backoff, random) = (self.backoff, &mut self.random);
        let pause = |failures| backoff.pause(failures, random);
        let Some(producer) = self.producers.get_mut(&id) else {
            return;
        };
        if error.is_retriable() && !producer.is_idle() {
            producer.identity.failed(now, error.to_string(), pause);
            return;
        }
        producer.identity = Identity::Unneeded;
        for key in producer.awaiting_id() {
            self.fail_waiting(now, id, key, error);
        }
    }
}
