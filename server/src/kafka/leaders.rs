//! Who leads and where replicas are: ElectLeaders (43), AlterPartitionReassignments (45),
//! ListPartitionReassignments (46). A node by itself leads everything and has nowhere to move it.

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::kafka::control::StrBytes;
use millrace_wire::kafka::control::messages::alter_partition_reassignments_request::ReassignablePartition;
use millrace_wire::kafka::control::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use millrace_wire::kafka::control::messages::elect_leaders_response::{
    PartitionResult, ReplicaElectionResult,
};
use millrace_wire::kafka::control::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ElectLeadersRequest,
    ElectLeadersResponse, ListPartitionReassignmentsResponse,
};

use super::errors::{kafka_code, told};
use super::offsets::NONE;
use super::session::Session;

/// Kafka's number for the election of the replica that is to lead if all is well.
const PREFERRED: i8 = 0;
/// And of one that may lack records, if there is no other.
const UNCLEAN: i8 = 1;

impl<E: Env> Session<E> {
    pub(super) async fn elect_leaders(&self, request: ElectLeadersRequest) -> ElectLeadersResponse {
        let kind = request.election_type;
        let is_known = matches!(kind, PREFERRED | UNCLEAN);
        // Of all partitions only those are named whose election failed; none is needed.
        let topics = request.topic_partitions.unwrap_or_default();
        let mut results = Vec::with_capacity(topics.len());
        for wanted in topics {
            let mut partitions = Vec::with_capacity(wanted.partitions.len());
            for number in wanted.partitions {
                let error = match self.current(&wanted.topic, number, NONE) {
                    _ if !is_known => no_such_election(kind),
                    Ok(_) => WireError::new(
                        ErrorCode::ElectionNotNeeded,
                        "the preferred replica leads already",
                    ),
                    Err(error) => error,
                };
                partitions.push(
                    PartitionResult::default()
                        .with_partition_id(number)
                        .with_error_code(kafka_code(error.code))
                        .with_error_message(Some(StrBytes::from_string(error.message))),
                );
                self.broker.env.yield_now().await;
            }
            results.push(
                ReplicaElectionResult::default()
                    .with_topic(wanted.topic)
                    .with_partition_result(partitions),
            );
            self.broker.env.yield_now().await;
        }
        let response = ElectLeadersResponse::default().with_replica_election_results(results);
        if is_known {
            response
        } else {
            response.with_error_code(kafka_code(no_such_election(kind).code))
        }
    }

    pub(super) async fn alter_partition_reassignments(
        &self,
        request: AlterPartitionReassignmentsRequest,
    ) -> AlterPartitionReassignmentsResponse {
        let mut responses = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for wanted in &topic.partitions {
                let (error_code, message) = told(&self.reassign(&topic.name, wanted));
                partitions.push(
                    ReassignablePartitionResponse::default()
                        .with_partition_index(wanted.partition_index)
                        .with_error_code(error_code)
                        .with_error_message(message.map(StrBytes::from_string)),
                );
                self.broker.env.yield_now().await;
            }
            responses.push(
                ReassignableTopicResponse::default()
                    .with_name(topic.name)
                    .with_partitions(partitions),
            );
            self.broker.env.yield_now().await;
        }
        AlterPartitionReassignmentsResponse::default().with_responses(responses)
    }

    /// Moves nothing: a partition is either where it shall be, or cannot be there.
    fn reassign(&self, topic: &str, wanted: &ReassignablePartition) -> Result<(), WireError> {
        self.current(topic, wanted.partition_index, NONE)?;
        match &wanted.replicas {
            Some(replicas) => self.check_replicas(replicas),
            None => Err(WireError::new(
                ErrorCode::NoReassignmentInProgress,
                "no replicas of this partition are being moved",
            )),
        }
    }
}

fn no_such_election(kind: i8) -> WireError {
    WireError::new(
        ErrorCode::InvalidRequest,
        format!(
            "there is no election of type {kind}; ask for {PREFERRED}, of the preferred replica, or {UNCLEAN}, of any"
        ),
    )
}

/// None is under way.
pub(super) fn list_partition_reassignments() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}
