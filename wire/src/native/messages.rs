//! The native protocol's messages, as owned values. Lists of `topic → partitions` name each topic
//! once. Bulk bytes (record batches) are not in a message: it carries their lengths, and the bytes
//! follow the body as *attachments*, in the order in which the lengths stand. Those of consumer groups
//! have a file of their own.

use rkyv::{Archive, Deserialize, Serialize};

use super::codec::Message;
use super::protobuf::{Field, OutOfRange, schema};

/// Makes of each message its struct, its encodings and, in tests, a strategy that makes any of it.
macro_rules! messages {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident : $type:ty,)* }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

            impl Message for $name {
                const NAME: &'static str = stringify!($name);
                type Schema = schema::$name;
            }

            impl Field<schema::$name> for $name {
                fn to_schema(&self) -> schema::$name {
                    schema::$name { $($field: Field::to_schema(&self.$field),)* }
                }

                // A message without fields has nothing to read.
                #[allow(unused_variables)]
                fn from_schema(
                    value: schema::$name,
                    _: &'static str,
                ) -> Result<$name, OutOfRange> {
                    Ok($name {
                        $($field: Field::from_schema(value.$field, stringify!($field))?,)*
                    })
                }
            }

            /// As a field that must be there: where it is absent it has its default.
            impl Field<Option<schema::$name>> for $name {
                fn to_schema(&self) -> Option<schema::$name> {
                    Some(Field::to_schema(self))
                }

                fn from_schema(
                    value: Option<schema::$name>,
                    field: &'static str,
                ) -> Result<$name, OutOfRange> {
                    Field::from_schema(value.unwrap_or_default(), field)
                }
            }

            #[cfg(test)]
            impl crate::native::tests::Any for $name {
                fn any() -> proptest::strategy::BoxedStrategy<$name> {
                    use proptest::strategy::Strategy;
                    let fields = (
                        proptest::strategy::Just(()),
                        $(<$type as crate::native::tests::Any>::any(),)*
                    );
                    fields.prop_map(|((), $($field,)*)| $name { $($field,)* }).boxed()
                }
            }
        )*
    };
}

mod groups;

pub use groups::*;

messages! {
    /// An error inside a response. `code` 0 means none; numbers are [`crate::error::ErrorCode`]'s.
    pub struct Status {
        /// Stable number, 0 for success.
        pub code: i16,
        /// A sentence for a person, empty on success.
        pub message: String,
    }

    /// The first message of a connection.
    pub struct HandshakeRequest {
        /// Lowest protocol version that the client speaks.
        pub min_version: u16,
        /// Highest protocol version that the client speaks.
        pub max_version: u16,
        /// A name the client chose for itself, for logs and metrics.
        pub client_id: String,
        /// Library and version.
        pub client_software: String,
        /// The shard that the connection wants to be moved to; it stays where it is when absent.
        pub wanted_shard: Option<u16>,
        /// Or the partition whose owner it wants to be moved to.
        pub wanted_partition: Option<TopicPartition>,
    }
    /// The answer to the handshake, sent by the shard that owns the connection from now on.
    pub struct HandshakeResponse {
        /// Success, or why the connection is about to close.
        pub status: Status,
        /// The version spoken from now on: the highest that both sides know.
        pub version: u16,
        /// The cluster's identity, 32 hex digits.
        pub cluster_id: String,
        /// This node.
        pub node_id: u32,
        /// How often this node has started.
        pub boot_epoch: u32,
        /// The shard that serves this connection.
        pub shard: u16,
        /// How many shards the node has.
        pub shard_count: u16,
        /// The longest frame that the broker takes, in bytes after the length field.
        pub max_frame_bytes: u32,
        /// Most requests that may be unanswered on a connection before the broker stops reading.
        pub max_in_flight: u32,
        /// The broker's version.
        pub broker_version: String,
    }
    /// One partition by its topic's name.
    pub struct TopicPartition {
        /// Topic name.
        pub topic: String,
        /// Partition number.
        pub partition: u32,
    }

    /// Is anyone there.
    pub struct PingRequest {}
    /// Yes.
    pub struct PingResponse {
        /// Broker's wall clock, ms since 1970.
        pub time_ms: i64,
    }

    /// Who owns what.
    pub struct MetadataRequest {
        /// Topics asked for; all of them when absent.
        pub topics: Option<Vec<String>>,
    }
    /// Nodes and topics.
    pub struct MetadataResponse {
        /// Grows with every change of topics; a client keeps the newest it has seen.
        pub revision: u64,
        /// The nodes.
        pub nodes: Vec<NodeInfo>,
        /// The topics asked for, each with its own status.
        pub topics: Vec<TopicMetadata>,
    }
    /// A node's address.
    pub struct NodeInfo {
        /// Node id.
        pub node_id: u32,
        /// Host as clients reach it; empty: the host that the client connected to.
        pub host: String,
        /// TCP port.
        pub port: u16,
        /// Number of shards.
        pub shard_count: u16,
    }
    /// One topic's partitions.
    pub struct TopicMetadata {
        /// Success, or why there is nothing here.
        pub status: Status,
        /// Topic name.
        pub name: String,
        /// Topic id, 32 hex digits.
        pub topic_id: String,
        /// Partitions in order of their number.
        pub partitions: Vec<PartitionMetadata>,
    }
    /// Where a partition is.
    pub struct PartitionMetadata {
        /// Partition number.
        pub partition: u32,
        /// Node that leads it.
        pub leader_node: u32,
        /// Shard of that node which owns it.
        pub leader_shard: u16,
        /// Leader epoch.
        pub leader_epoch: u32,
    }

    /// A configuration entry.
    pub struct ConfigEntry {
        /// Kafka's name, such as `retention.ms`.
        pub name: String,
        /// The value, as Kafka writes it.
        pub value: String,
        /// Whether it was set on the topic (true) or is the default (false). Ignored in requests.
        pub is_set: bool,
    }
    /// Makes a topic.
    pub struct CreateTopicRequest {
        /// Topic name.
        pub name: String,
        /// Number of partitions; 0 takes the broker's default.
        pub partitions: u32,
        /// Configuration.
        pub configs: Vec<ConfigEntry>,
        /// Check only, change nothing.
        pub validate_only: bool,
    }
    /// The topic that was made.
    pub struct CreateTopicResponse {
        /// Success or failure.
        pub status: Status,
        /// Topic id, 32 hex digits.
        pub topic_id: String,
        /// Number of partitions.
        pub partitions: u32,
    }
    /// Removes a topic and its data.
    pub struct DeleteTopicRequest {
        /// Topic name.
        pub name: String,
    }
    /// Done.
    pub struct DeleteTopicResponse {
        /// Success or failure.
        pub status: Status,
    }
    /// Asks for everything about one topic.
    pub struct DescribeTopicRequest {
        /// Topic name.
        pub name: String,
    }
    /// Everything about one topic.
    pub struct DescribeTopicResponse {
        /// Success or failure.
        pub status: Status,
        /// Topic name.
        pub name: String,
        /// Topic id, 32 hex digits.
        pub topic_id: String,
        /// All configuration in force, set or default.
        pub configs: Vec<ConfigEntry>,
        /// Partitions in order.
        pub partitions: Vec<PartitionDescription>,
    }
    /// One partition's state.
    pub struct PartitionDescription {
        /// Success, or why the partition does not serve.
        pub status: Status,
        /// Partition number.
        pub partition: u32,
        /// Node that leads it.
        pub leader_node: u32,
        /// Shard that owns it.
        pub leader_shard: u16,
        /// First retained offset.
        pub log_start: i64,
        /// First offset that consumers cannot read yet.
        pub high_watermark: i64,
        /// Next offset to be assigned.
        pub log_end: i64,
        /// Bytes of retained batches.
        pub size_bytes: u64,
    }
    /// Names of all topics.
    pub struct ListTopicsRequest {}
    /// Names of all topics, sorted.
    pub struct ListTopicsResponse {
        /// Success or failure.
        pub status: Status,
        /// The topics.
        pub topics: Vec<TopicListing>,
    }
    /// One topic in a listing.
    pub struct TopicListing {
        /// Topic name.
        pub name: String,
        /// Topic id, 32 hex digits.
        pub topic_id: String,
        /// Number of partitions.
        pub partitions: u32,
    }
    /// Sets and unsets configuration entries; the others stay.
    pub struct AlterTopicConfigRequest {
        /// Topic name.
        pub name: String,
        /// Entries to set.
        pub set: Vec<ConfigEntry>,
        /// Names to return to their default.
        pub unset: Vec<String>,
        /// Check only, change nothing.
        pub validate_only: bool,
    }
    /// Done.
    pub struct AlterTopicConfigResponse {
        /// Success or failure.
        pub status: Status,
    }
    /// Grows a topic to this many partitions.
    pub struct CreatePartitionsRequest {
        /// Topic name.
        pub name: String,
        /// The number of partitions afterwards; more than now.
        pub total_partitions: u32,
        /// Check only, change nothing.
        pub validate_only: bool,
    }
    /// Done.
    pub struct CreatePartitionsResponse {
        /// Success or failure.
        pub status: Status,
    }

    /// Appends batches. The attachments are the batches, in order.
    pub struct ProduceRequest {
        /// 0: no answer; 1: durable on the leader; -1: durable on a quorum.
        pub acks: i8,
        /// The broker gives up waiting for the quorum after this long; the batch may still be there.
        pub timeout_ms: u32,
        /// By topic.
        pub topics: Vec<ProduceTopic>,
    }
    /// One topic's batches.
    pub struct ProduceTopic {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<ProducePartition>,
    }
    /// One partition's batch: exactly one.
    pub struct ProducePartition {
        /// Partition number.
        pub partition: u32,
        /// Length of its attachment.
        pub batch_bytes: u32,
    }
    /// What became of each batch; never sent for acks 0.
    pub struct ProduceResponse {
        /// As the request was.
        pub topics: Vec<ProduceTopicResult>,
    }
    /// One topic's results.
    pub struct ProduceTopicResult {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<ProducePartitionResult>,
    }
    /// One batch's place.
    pub struct ProducePartitionResult {
        /// Partition number.
        pub partition: u32,
        /// Success or failure.
        pub status: Status,
        /// Offset of the batch's first record.
        pub base_offset: i64,
        /// The time given to the batch, where the topic stamps by append time; else -1.
        pub append_time_ms: i64,
        /// First retained offset.
        pub log_start: i64,
    }

    /// Reads batches, waiting for new ones.
    pub struct FetchRequest {
        /// Answer at the latest after this long.
        pub max_wait_ms: u32,
        /// Answer as soon as this many bytes are there (1 or 0: as soon as anything is).
        pub min_bytes: u32,
        /// At most this many bytes of batches altogether; the first batch always fits.
        pub max_bytes: u32,
        /// By topic.
        pub topics: Vec<FetchTopic>,
    }
    /// One topic to read.
    pub struct FetchTopic {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<FetchPartition>,
    }
    /// One partition to read.
    pub struct FetchPartition {
        /// Partition number.
        pub partition: u32,
        /// First offset wanted; the first batch returned is the one that contains it.
        pub offset: i64,
        /// At most this many bytes of this partition.
        pub max_bytes: u32,
    }
    /// Batches. Partitions that have neither data nor an error nor a changed watermark are left
    /// out. The attachments are the partitions' batches, in order.
    pub struct FetchResponse {
        /// By topic.
        pub topics: Vec<FetchTopicResult>,
    }
    /// One topic's batches.
    pub struct FetchTopicResult {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<FetchPartitionResult>,
    }
    /// One partition's batches.
    pub struct FetchPartitionResult {
        /// Partition number.
        pub partition: u32,
        /// Success or failure.
        pub status: Status,
        /// First offset that cannot be read yet.
        pub high_watermark: i64,
        /// First retained offset.
        pub log_start: i64,
        /// Length of its attachment: whole batches, one after the other.
        pub records_bytes: u32,
    }

    /// Asks for offsets by meaning or by time.
    pub struct ListOffsetsRequest {
        /// By topic.
        pub topics: Vec<ListOffsetsTopic>,
    }
    /// One topic's questions.
    pub struct ListOffsetsTopic {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<ListOffsetsPartition>,
    }
    /// One partition's question.
    pub struct ListOffsetsPartition {
        /// Partition number.
        pub partition: u32,
        /// ms since 1970: the first record at or after it. -1: latest (the high watermark).
        /// -2: earliest (the log start). -3: the record with the largest timestamp.
        pub timestamp: i64,
    }
    /// The answers.
    pub struct ListOffsetsResponse {
        /// By topic.
        pub topics: Vec<ListOffsetsTopicResult>,
    }
    /// One topic's answers.
    pub struct ListOffsetsTopicResult {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<ListOffsetsPartitionResult>,
    }
    /// One partition's answer.
    pub struct ListOffsetsPartitionResult {
        /// Partition number.
        pub partition: u32,
        /// Success or failure.
        pub status: Status,
        /// The offset; -1 where no record is that young.
        pub offset: i64,
        /// That record's timestamp; -1 for earliest and latest.
        pub timestamp: i64,
    }

    /// Moves log starts forward: what is before them is gone.
    pub struct DeleteRecordsRequest {
        /// By topic.
        pub topics: Vec<DeleteRecordsTopic>,
    }
    /// One topic's partitions.
    pub struct DeleteRecordsTopic {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<DeleteRecordsPartition>,
    }
    /// One partition's new log start.
    pub struct DeleteRecordsPartition {
        /// Partition number.
        pub partition: u32,
        /// First offset to keep; -1: the high watermark, that is, delete everything.
        pub before_offset: i64,
    }
    /// The results.
    pub struct DeleteRecordsResponse {
        /// By topic.
        pub topics: Vec<DeleteRecordsTopicResult>,
    }
    /// One topic's results.
    pub struct DeleteRecordsTopicResult {
        /// Topic name.
        pub name: String,
        /// By partition.
        pub partitions: Vec<DeleteRecordsPartitionResult>,
    }
    /// One partition's log start now.
    pub struct DeleteRecordsPartitionResult {
        /// Partition number.
        pub partition: u32,
        /// Success or failure.
        pub status: Status,
        /// First retained offset.
        pub log_start: i64,
    }

    /// Tells a damaged partition to serve again without the acknowledged records that its disk lost.
    pub struct RepairPartitionRequest {
        /// Topic name.
        pub topic: String,
        /// Partition number.
        pub partition: u32,
        /// Must be true: the operator accepts that acknowledged records are lost.
        pub accept_data_loss: bool,
    }
    /// What is left.
    pub struct RepairPartitionResponse {
        /// Success or failure.
        pub status: Status,
        /// Next offset to be assigned, where the log was cut.
        pub log_end: i64,
    }

    /// Asks for an id that marks a producer's batches, so that one which is sent twice is stored once.
    pub struct InitProducerRequest {}
    /// An id that nobody has had. Batches carry it with the epoch, and with a sequence number that
    /// counts the records of each partition from 0.
    pub struct InitProducerResponse {
        /// Success or failure.
        pub status: Status,
        /// The id.
        pub producer_id: i64,
        /// The epoch to begin with. The producer may raise it by itself, and counts from 0 again.
        pub producer_epoch: i16,
    }

    /// Asks for the counters and latency histograms of every shard.
    pub struct StatsRequest {}
    /// The counters and latency histograms of every shard.
    pub struct StatsResponse {
        /// By shard.
        pub shards: Vec<ShardStats>,
    }
    /// One shard's counters and histograms since it started.
    pub struct ShardStats {
        /// The shard.
        pub shard: u16,
        /// Counters and gauges by name.
        pub counters: Vec<Counter>,
        /// Latency by stage.
        pub stages: Vec<StageLatency>,
    }
    /// A counter or gauge.
    pub struct Counter {
        /// Its name, units last.
        pub name: String,
        /// Its value.
        pub value: u64,
    }
    /// How long a stage of a request took, in microseconds.
    pub struct StageLatency {
        /// The stage: receive, queue, journal_wait, journal_write, send, fetch_wait.
        pub stage: String,
        /// Number of measurements.
        pub count: u64,
        /// Median.
        pub p50_us: u64,
        /// 99th percentile.
        pub p99_us: u64,
        /// 99.9th percentile.
        pub p999_us: u64,
        /// Largest.
        pub max_us: u64,
        /// The whole distribution, by rising time; times nobody had are left out.
        pub buckets: Vec<LatencyBucket>,
    }
    /// How often a time was measured.
    pub struct LatencyBucket {
        /// At most this long, and longer than the bucket before; ns.
        pub up_to_ns: u64,
        /// How often.
        pub count: u64,
    }
}
