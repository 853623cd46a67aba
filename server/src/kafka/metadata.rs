//! What there is: ApiVersions (18), Metadata (3), DescribeCluster (60).

use std::collections::BTreeSet;
use std::rc::Rc;

use millrace_shard::env::Env;
use millrace_wire::error::{ErrorCode, WireError};
use millrace_wire::ids::{PartitionId, TopicId};
use millrace_wire::kafka::SERVED;
use millrace_wire::kafka::control::messages::api_versions_response::ApiVersion;
use millrace_wire::kafka::control::messages::describe_cluster_response::DescribeClusterBroker;
use millrace_wire::kafka::control::messages::metadata_request::MetadataRequestTopic;
use millrace_wire::kafka::control::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millrace_wire::kafka::control::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, DescribeClusterRequest,
    DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName,
};
use millrace_wire::kafka::control::{StrBytes, Uuid};

use super::errors::kafka_code;
use super::session::Session;
use crate::broker::TopicEntry;
use crate::controller::state::Command;

/// From this version on a client says whether asking may make a topic; before, it always may.
const FIRST_METADATA_WITH_PERMISSION: i16 = 4;

/// What may be done to a topic, as a bit for each of Kafka's operations (KIP-430): read (3), write (4),
/// create (5), delete (6), alter (7), describe (8), describe (10) and alter its configuration (11).
/// Nobody is told apart here, so everybody may do all that there is.
pub(super) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;

/// The same for the cluster: create (5), alter (7), describe (8), act as a broker (9), describe (10) and
/// alter its configuration (11), write idempotently (12).
const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// In place of operations that nobody asked for.
pub(super) const NOT_ASKED: i32 = i32::MIN;

/// DescribeCluster's number for brokers.
const BROKER_ENDPOINTS: i8 = 1;
/// And for controllers, which clients are to ask elsewhere (KIP-919).
const CONTROLLER_ENDPOINTS: i8 = 2;

/// Which requests are served, in which versions (KIP-35, KIP-511).
pub(super) fn api_versions(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    const INTRODUCED_BY_NAME_SINCE: i16 = 3;
    let named = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        !name.is_empty() && name.chars().all(allowed)
    };
    let names = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    if version >= INTRODUCED_BY_NAME_SINCE && !names.iter().all(|name| named(name)) {
        let code = ErrorCode::InvalidRequest as i16;
        return ApiVersionsResponse::default().with_error_code(code);
    }
    let served = SERVED.iter().map(|(key, versions)| {
        ApiVersion::default()
            .with_api_key(key.number())
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    });
    ApiVersionsResponse::default().with_api_keys(served.collect())
}

impl<E: Env> Session<E> {
    pub(super) async fn metadata(
        &self,
        version: i16,
        request: MetadataRequest,
    ) -> MetadataResponse {
        let may_create =
            version < FIRST_METADATA_WITH_PERMISSION || request.allow_auto_topic_creation;
        let mut topics = match request.topics {
            // Version 0 has no null; nothing stands for everything.
            Some(wanted) if version > 0 || !wanted.is_empty() => {
                let mut topics = Vec::with_capacity(wanted.len().min(1024));
                let mut seen = BTreeSet::new();
                for wanted in wanted {
                    // Each once: the same again must not make an answer of megabytes.
                    if !seen.insert((wanted.name.clone(), wanted.topic_id)) {
                        continue;
                    }
                    topics.push(self.wanted_topic(wanted, may_create).await);
                    self.broker.env.yield_now().await;
                }
                topics
            }
            _ => self.all_topics().await,
        };
        if request.include_topic_authorized_operations {
            for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
                topic.topic_authorized_operations = TOPIC_OPERATIONS;
            }
        }
        let this = MetadataResponseBroker::default()
            .with_node_id(self.this_node())
            .with_host(self.host())
            .with_port(self.settings.port.into());
        MetadataResponse::default()
            .with_brokers(vec![this])
            .with_cluster_id(Some(self.cluster_id()))
            .with_controller_id(self.this_node())
            .with_topics(topics)
            .with_cluster_authorized_operations(cluster_operations(
                request.include_cluster_authorized_operations,
            ))
    }

    async fn all_topics(&self) -> Vec<MetadataResponseTopic> {
        let (_, entries) = self.broker.topics();
        let mut topics = Vec::with_capacity(entries.len());
        for entry in entries {
            topics.push(self.described(&entry));
            self.broker.env.yield_now().await;
        }
        topics
    }

    /// What is asked for by name, or by identity where there is no name.
    async fn wanted_topic(
        &self,
        wanted: MetadataRequestTopic,
        may_create: bool,
    ) -> MetadataResponseTopic {
        let found = match &wanted.name {
            Some(name) => self.found_or_made(name, may_create).await,
            None => self
                .broker
                .topic_with_id(TopicId(wanted.topic_id.as_u128())),
        };
        match found {
            Ok(entry) => self.described(&entry),
            Err(error) => MetadataResponseTopic::default()
                .with_error_code(kafka_code(error.code))
                // Before names could be left out they had to be there.
                .with_name(wanted.name.or_else(|| Some(TopicName::default())))
                .with_topic_id(wanted.topic_id),
        }
    }

    async fn found_or_made(
        &self,
        name: &str,
        may_create: bool,
    ) -> Result<Rc<TopicEntry>, WireError> {
        let found = self.broker.topic(name);
        let missing = |error: &WireError| error.code == ErrorCode::UnknownTopicOrPartition;
        if !may_create || !self.settings.auto_create_topics || !found.as_ref().is_err_and(missing) {
            return found;
        }
        let made = self.broker.command(Command::CreateTopic {
            name: name.to_owned(),
            partitions: None,
            configs: Vec::new(),
            validate_only: false,
        });
        match made.await {
            // Somebody else may have been quicker.
            Err(error) if error.code != ErrorCode::TopicAlreadyExists => Err(error),
            _ => self.broker.topic(name),
        }
    }

    fn described(&self, entry: &TopicEntry) -> MetadataResponseTopic {
        let partitions = entry.topic.partition_ids().map(|id| self.partition(id));
        MetadataResponseTopic::default()
            .with_name(Some(topic_name(&entry.topic.name.to_string())))
            .with_topic_id(Uuid::from_u128(entry.topic.id.0))
            .with_is_internal(entry.topic.is_internal())
            .with_partitions(partitions.collect())
    }

    pub(super) fn partition(&self, id: PartitionId) -> MetadataResponsePartition {
        let leadership = self.broker.leadership(id);
        let nodes = |nodes: &[u32]| nodes.iter().map(|node| broker_id(*node)).collect();
        MetadataResponsePartition::default()
            .with_partition_index(id.partition.0.cast_signed())
            .with_leader_id(broker_id(leadership.leader))
            .with_leader_epoch(leadership.epoch.0.cast_signed())
            .with_replica_nodes(nodes(leadership.replicas))
            .with_isr_nodes(nodes(leadership.in_sync))
    }

    pub(super) fn describe_cluster(
        &self,
        version: i16,
        request: &DescribeClusterRequest,
    ) -> DescribeClusterResponse {
        let failed = |code: ErrorCode, message: &'static str| {
            DescribeClusterResponse::default()
                .with_error_code(kafka_code(code))
                .with_error_message(Some(StrBytes::from_static_str(message)))
        };
        match request.endpoint_type {
            _ if version == 0 => {}
            BROKER_ENDPOINTS => {}
            CONTROLLER_ENDPOINTS => {
                return failed(
                    ErrorCode::MismatchedEndpointType,
                    "this is a broker; ask for brokers",
                );
            }
            _ => {
                return failed(
                    ErrorCode::UnsupportedEndpointType,
                    "there are endpoints of type 1, brokers, and no others",
                );
            }
        }
        let this = DescribeClusterBroker::default()
            .with_broker_id(self.this_node())
            .with_host(self.host())
            .with_port(self.settings.port.into());
        DescribeClusterResponse::default()
            .with_cluster_id(self.cluster_id())
            .with_controller_id(self.this_node())
            .with_brokers(vec![this])
            .with_cluster_authorized_operations(cluster_operations(
                request.include_cluster_authorized_operations,
            ))
    }

    pub(super) fn this_node(&self) -> BrokerId {
        broker_id(self.broker.node.node_id)
    }

    fn cluster_id(&self) -> StrBytes {
        StrBytes::from_string(Uuid::from_u128(self.broker.node.cluster_id).to_string())
    }

    /// Where this client is to connect to.
    pub(super) fn host(&self) -> StrBytes {
        let reached = || self.reached_at.ip().to_canonical().to_string();
        let host = self.settings.host.clone();
        StrBytes::from_string(host.unwrap_or_else(reached))
    }
}

fn cluster_operations(asked: bool) -> i32 {
    match asked {
        true => CLUSTER_OPERATIONS,
        false => NOT_ASKED,
    }
}

/// A node's id as Kafka has it.
pub(super) fn broker_id(node: u32) -> BrokerId {
    BrokerId(node.cast_signed())
}

/// A topic's name as Kafka's messages hold it.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
