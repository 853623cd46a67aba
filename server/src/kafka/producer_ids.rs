//! InitProducerId (key 22): an id for an idempotent producer.
//!
//! As in Kafka 4.1 a producer without a transactional id gets a new one whatever it had before: Java's
//! client raises its epoch by itself and comes back when it has used all of them up, librdkafka asks
//! for a new one each time.

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::ProducerId;
use millrace_wire::kafka::control::messages::{
    self as m, InitProducerIdRequest, InitProducerIdResponse,
};

use super::errors::{Refused, kafka_code};
use super::session::Session;

/// In place of an id or an epoch where there is none.
const NONE: i64 = -1;

impl<E: Env> Session<E> {
    pub(super) async fn init_producer_id(
        &self,
        request: InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        let given = match check(&request) {
            Ok(()) => self.broker.new_producer_id().await,
            Err(error) => Err(error),
        };
        let response = InitProducerIdResponse::default();
        match given {
            Ok(ProducerId(id)) => response
                .with_producer_id(m::ProducerId(id))
                .with_producer_epoch(0),
            // Its form has no room for a sentence.
            Err(error) => response
                .with_error_code(kafka_code(error.code))
                .with_producer_id(m::ProducerId(NONE))
                .with_producer_epoch(-1),
        }
    }
}

fn check(request: &InitProducerIdRequest) -> Result<(), WireError> {
    let (id, epoch) = (*request.producer_id, i64::from(request.producer_epoch));
    if (id == NONE) != (epoch == NONE) {
        return Err(WireError::new(
            ErrorCode::InvalidRequest,
            "a producer has both an id and an epoch, or neither",
        ));
    }
    match &request.transactional_id {
        None => Ok(()),
        Some(id) if id.is_empty() => Err(WireError::new(
            ErrorCode::InvalidRequest,
            "a transactional id is not empty; leave it out to produce without transactions",
        )),
        Some(_) => Err(Refused::Transactions.into()),
    }
}
