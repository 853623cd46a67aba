"""confluent-kafka: Python over librdkafka, as Confluent ships both."""

import time

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    ElectionType,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from harness import Failure, Received, Record

from .base import Client

CALL_SECONDS = 30


def failure(error: KafkaError | KafkaException) -> Failure:
    error = error.args[0] if isinstance(error, KafkaException) else error
    # Below zero are librdkafka's own.
    return Failure(error.code() if error.code() > 0 else None, f"{error.name()}: {error.str()}")


class Confluent(Client):
    name = "confluent-kafka"
    abilities = frozenset(
        {
            "timestamps", "null header values", "repeated headers", "binary headers",
            "empty values", "empty records",
        }
    )
    offers = frozenset(
        {
            "read", "offsets", "offsets_for_time", "watermarks", "max_timestamp", "create_topic", "delete_topic",
            "create_partitions", "topic_configs", "alter_configs", "incremental_alter_configs",
            "delete_records", "cluster", "topics", "partitions", "elect_leaders", "broker_configs",
            "validate_only", "groups", "group_state", "delete_group", "group_offsets", "set_group_offset",
        }
    )  # fmt: skip

    def __init__(self, address: str):
        super().__init__(address)
        self._common = {"bootstrap.servers": address, "log_level": 0}
        self._admin_client: AdminClient | None = None

    @property
    def _admin(self) -> AdminClient:
        if self._admin_client is None:
            self._admin_client = AdminClient(self._common)
        return self._admin_client

    def produce(self, topic, records: list[Record], codec="none", acks="all"):
        producer = Producer(
            self._common
            | {
                "compression.type": codec,
                "acks": acks,
                "linger.ms": 20,
                "message.max.bytes": 8_000_000,
                "delivery.timeout.ms": CALL_SECONDS * 1000,
            }
        )
        offsets: list[int | None] = [None] * len(records)
        errors = []

        def note(place):
            def delivered(error, message):
                if error is not None:
                    errors.append(failure(error))
                else:
                    offsets[place] = message.offset()

            return delivered

        for place, record in enumerate(records):
            producer.produce(
                topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                headers=list(record.headers),
                timestamp=record.timestamp_ms or 0,
                on_delivery=note(place),
            )
        left = producer.flush(CALL_SECONDS + 5)
        if errors:
            raise errors[0]
        if left:
            raise Failure(None, f"{left} records were never delivered")
        # With acks=0 librdkafka tells no offsets, or invented ones.
        return None if acks == "0" else offsets

    def _consumer(self, reset="error", max_wait_ms=500) -> Consumer:
        return Consumer(
            self._common
            | {
                # It asks for a name of a group even where no group is used.
                "group.id": "none",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": reset,
                "fetch.wait.max.ms": max_wait_ms,
                "socket.timeout.ms": max_wait_ms + 30_000,
                "fetch.message.max.bytes": 4_000_000,
            }
        )

    def read(self, topic, partition, start, count, *, reset="error", max_wait_ms=500, timeout_s=30):
        place = {"earliest": -2, "latest": -1}.get(start, start)
        consumer = self._consumer(reset, max_wait_ms)
        try:
            consumer.assign([TopicPartition(topic, partition, place)])
            received: list[Received] = []
            end = time.monotonic() + timeout_s
            while len(received) < count:
                message = consumer.poll(0.2)
                if message is None:
                    if time.monotonic() > end:
                        raise TimeoutError(f"{len(received)} of {count} records within {timeout_s} s")
                    continue
                if message.error():
                    # AUTO_OFFSET_RESET tells that the offset is not there and no reset was wanted.
                    error = failure(message.error())
                    if message.error().code() == KafkaError._AUTO_OFFSET_RESET:
                        error.code = 1
                    raise error
                received.append(
                    Received(
                        offset=message.offset(),
                        value=message.value(),
                        key=message.key(),
                        headers=tuple((key, value) for key, value in message.headers() or ()),
                        timestamp_ms=message.timestamp()[1],
                        partition=message.partition(),
                    )
                )
            return received
        finally:
            consumer.close()

    def offsets_for_time(self, topic, times: dict[int, int]):
        consumer = self._consumer()
        try:
            asked = [TopicPartition(topic, partition, ms) for partition, ms in times.items()]
            answers = consumer.offsets_for_times(asked, timeout=CALL_SECONDS)
            for answer in answers:
                if answer.error is not None:
                    raise failure(answer.error)
            # OFFSET_END, -1, says that nothing is as late.
            return {a.partition: a.offset if a.offset >= 0 else None for a in answers}
        except KafkaException as error:
            raise failure(error) from error
        finally:
            consumer.close()

    def watermarks(self, topic, partition):
        consumer = self._consumer()
        try:
            place = TopicPartition(topic, partition)
            return consumer.get_watermark_offsets(place, timeout=CALL_SECONDS)
        except KafkaException as error:
            raise failure(error) from error
        finally:
            consumer.close()

    def max_timestamp(self, topic, partition):
        """The offset of the record with the latest time, and that time."""
        place = TopicPartition(topic, partition)
        answer = self._one(self._admin.list_offsets({place: OffsetSpec.max_timestamp()}))
        return answer.offset, answer.timestamp

    @staticmethod
    def _one(futures):
        try:
            return next(iter(futures.values())).result(timeout=CALL_SECONDS)
        except KafkaException as error:
            raise failure(error) from error

    def create_topic(self, name, partitions=1, configs=None, validate_only=False, replication=1):
        new = NewTopic(name, partitions, replication, config=configs or {})
        self._one(self._admin.create_topics([new], validate_only=validate_only))

    def delete_topic(self, name):
        self._one(self._admin.delete_topics([name]))

    def create_partitions(self, name, total, validate_only=False):
        new = NewPartitions(name, total)
        self._one(self._admin.create_partitions([new], validate_only=validate_only))

    def topic_configs(self, name):
        found = self._one(self._admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]))
        return {key: entry.value for key, entry in found.items()}

    def broker_configs(self, node):
        found = self._one(self._admin.describe_configs([ConfigResource(ResourceType.BROKER, str(node))]))
        return {key: entry.value for key, entry in found.items()}

    def alter_configs(self, name, configs):
        resource = ConfigResource(ResourceType.TOPIC, name, set_config=configs)
        self._one(self._admin.alter_configs([resource]))

    def incremental_alter_configs(self, name, set_to=None, back_to_default=(), validate_only=False):
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, value in (set_to or {}).items()
        ]
        entries += [
            ConfigEntry(key, None, incremental_operation=AlterConfigOpType.DELETE)
            for key in back_to_default
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        self._one(self._admin.incremental_alter_configs([resource], validate_only=validate_only))

    def delete_records(self, topic, partition, before):
        answer = self._one(self._admin.delete_records([TopicPartition(topic, partition, before)]))
        return answer.low_watermark

    def cluster(self):
        found = self._admin.describe_cluster().result(timeout=CALL_SECONDS)
        return {
            "id": found.cluster_id,
            "controller": found.controller.id,
            "brokers": [(node.id, node.host, node.port) for node in found.nodes],
        }

    def topics(self):
        return set(self._admin.list_topics(timeout=CALL_SECONDS).topics)

    def partitions(self, topic):
        """Each partition's leader."""
        found = self._one(self._admin.describe_topics(TopicCollection([topic])))
        return {partition.id: partition.leader.id for partition in found.partitions}

    def groups(self):
        found = self._admin.list_consumer_groups().result(timeout=CALL_SECONDS)
        if found.errors:
            raise failure(found.errors[0])
        return {group.group_id for group in found.valid}

    def group_state(self, group):
        found = self._one(self._admin.describe_consumer_groups([group]))
        return found.state.name.title().replace("_", "")

    def delete_group(self, group):
        self._one(self._admin.delete_consumer_groups([group]))

    def group_offsets(self, group, topic):
        asked = [ConsumerGroupTopicPartitions(group)]
        found = self._one(self._admin.list_consumer_group_offsets(asked))
        return {p.partition: p.offset for p in found.topic_partitions if p.topic == topic}

    def set_group_offset(self, group, topic, partition, offset):
        places = [TopicPartition(topic, partition, offset)]
        asked = [ConsumerGroupTopicPartitions(group, places)]
        found = self._one(self._admin.alter_consumer_group_offsets(asked))
        if error := found.topic_partitions[0].error:
            raise failure(error)

    def elect_leaders(self, topic, partition):
        """Nothing, or the partition's failure."""
        place = TopicPartition(topic, partition)
        future = self._admin.elect_leaders(ElectionType.PREFERRED, [place])
        try:
            outcome = future.result(timeout=CALL_SECONDS)[place]
        except KafkaException as error:
            raise failure(error) from error
        if outcome is not None:
            raise failure(outcome)
