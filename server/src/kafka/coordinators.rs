//! FindCoordinator (key 10): which broker keeps a group or a transaction. It is the one that leads the
//! key's partition of an internal topic, and so this one. Any name is looked up, an empty one too, as in
//! Kafka: whether there can be such a group is for its coordinator to say.
//!
//! Transactions are not served yet and have a coordinator all the same; who goes on to begin one finds
//! that this is not served.

use std::collections::BTreeSet;

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::kafka::control::StrBytes;
use millrace_wire::kafka::control::messages::find_coordinator_response::Coordinator;
use millrace_wire::kafka::control::messages::{
    BrokerId, FindCoordinatorRequest, FindCoordinatorResponse,
};

use super::errors::told;
use super::session::Session;

/// From this version on several are asked for at a time (KIP-699).
const FIRST_VERSION_OF_MANY: i16 = 4;

/// In place of a broker where there is none.
const NOWHERE: BrokerId = BrokerId(-1);

impl<E: Env> Session<E> {
    pub(super) async fn find_coordinator(
        &self,
        version: i16,
        request: FindCoordinatorRequest,
    ) -> FindCoordinatorResponse {
        let kind = known_kind(request.key_type);
        if version < FIRST_VERSION_OF_MANY {
            let one = self.coordinator(request.key, &kind);
            return FindCoordinatorResponse::default()
                .with_error_code(one.error_code)
                .with_error_message(one.error_message)
                .with_node_id(one.node_id)
                .with_host(one.host)
                .with_port(one.port);
        }
        let (mut coordinators, mut seen) = (Vec::new(), BTreeSet::new());
        for key in request.coordinator_keys {
            // Each once: the same again must not make an answer of megabytes.
            if seen.insert(key.clone()) {
                coordinators.push(self.coordinator(key, &kind));
            }
            self.broker.env.yield_now().await;
        }
        FindCoordinatorResponse::default().with_coordinators(coordinators)
    }

    fn coordinator(&self, key: StrBytes, kind: &Result<(), WireError>) -> Coordinator {
        let (error_code, message) = told(kind);
        let coordinator = Coordinator::default()
            .with_key(key)
            .with_error_code(error_code)
            .with_error_message(message.map(StrBytes::from_string));
        match kind {
            Ok(()) => coordinator
                .with_node_id(self.this_node())
                .with_host(self.host())
                .with_port(self.settings.port.into()),
            Err(_) => coordinator.with_node_id(NOWHERE).with_port(-1),
        }
    }
}

/// What has a coordinator: groups (0) and transactions (1).
fn known_kind(key_type: i8) -> Result<(), WireError> {
    match key_type {
        0 | 1 => Ok(()),
        other => Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!("groups are of type 0 and transactions of type 1, this is type {other}"),
        )),
    }
}
