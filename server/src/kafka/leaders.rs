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

impl<E: Env> Session<E> {
    pub(super) fn elect_leaders(&self, request: ElectLeadersRequest) -> ElectLeadersResponse {
        // Of all partitions only those are named whose election failed; none is needed.
        let topics = request.topic_partitions.unwrap_or_default();
        let results = topics.into_iter().map(|wanted| {
            let partitions = wanted.partitions.iter().map(|number| {
                let error = match self.current(&wanted.topic, *number, NONE) {
                    Ok(_) => WireError::new(
                        ErrorCode::ElectionNotNeeded,
                        "the preferred replica leads already",
                    ),
                    Err(error) => error,
                };
                PartitionResult::default()
                    .with_partition_id(*number)
                    .with_error_code(kafka_code(error.code))
                    .with_error_message(Some(StrBytes::from_string(error.message)))
            });
            let partitions = partitions.collect();
            ReplicaElectionResult::default()
                .with_topic(wanted.topic)
                .with_partition_result(partitions)
        });
        ElectLeadersResponse::default().with_replica_election_results(results.collect())
    }

    pub(super) fn alter_partition_reassignments(
        &self,
        request: AlterPartitionReassignmentsRequest,
    ) -> AlterPartitionReassignmentsResponse {
        let responses = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|wanted| {
                let (error_code, message) = told(&self.reassign(&topic.name, wanted));
                ReassignablePartitionResponse::default()
                    .with_partition_index(wanted.partition_index)
                    .with_error_code(error_code)
                    .with_error_message(message.map(StrBytes::from_string))
            });
            let partitions = partitions.collect();
            ReassignableTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions)
        });
        AlterPartitionReassignmentsResponse::default().with_responses(responses.collect())
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

/// None is under way.
pub(super) fn list_partition_reassignments() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}
