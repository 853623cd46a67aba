"""kafka-python: all in Python."""

import re
import time

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition, errors
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, OffsetOutOfRangeError

from harness import Failure, Received, Record

from .base import Client

CALL_MS = 30_000
SET, DELETE = AlterConfigOp.SET, AlterConfigOp.DELETE


def failure(error: KafkaError) -> Failure:
    code = getattr(error, "errno", None)
    return Failure(code if code and code > 0 else None, repr(error))


class KafkaPython(Client):
    name = "kafka-python"
    abilities = frozenset(
        {"timestamps", "repeated headers", "binary headers", "empty values"}
    )
    offers = frozenset(
        {
            "read", "offsets", "offsets_for_time", "watermarks", "create_topic", "delete_topic",
            "create_partitions", "topic_configs", "alter_configs", "incremental_alter_configs",
            "delete_records", "cluster", "topics", "partitions", "elect_leaders", "log_dirs",
            "reassign", "reassignments", "broker_configs", "validate_only", "groups", "group_state",
            "delete_group", "group_offsets", "set_group_offset",
        }
    )  # fmt: skip

    def __init__(self, address: str):
        super().__init__(address)
        self._admin_client: KafkaAdminClient | None = None

    @property
    def _admin(self) -> KafkaAdminClient:
        if self._admin_client is None:
            self._admin_client = KafkaAdminClient(
                bootstrap_servers=self.address, request_timeout_ms=CALL_MS
            )
        return self._admin_client

    def close(self):
        if self._admin_client is not None:
            self._admin_client.close()

    def produce(self, topic, records: list[Record], codec="none", acks="all"):
        producer = KafkaProducer(
            bootstrap_servers=self.address,
            compression_type=None if codec == "none" else codec,
            acks=acks if acks == "all" else int(acks),
            enable_idempotence=False,
            linger_ms=20,
            max_request_size=8_000_000,
            batch_size=100_000,
            request_timeout_ms=CALL_MS // 2,
            delivery_timeout_ms=CALL_MS,
        )
        try:
            futures = [
                producer.send(
                    topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=record.partition,
                    timestamp_ms=record.timestamp_ms,
                )
                for record in records
            ]
            producer.flush(timeout=CALL_MS / 1000)
            offsets = [future.get(timeout=CALL_MS / 1000).offset for future in futures]
        except KafkaError as error:
            raise failure(error) from error
        finally:
            producer.close(timeout=5)
        return None if acks == "0" else offsets

    def _consumer(self, reset="none", max_wait_ms=500) -> KafkaConsumer:
        return KafkaConsumer(
            bootstrap_servers=self.address,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none" if reset == "error" else reset,
            fetch_max_wait_ms=max_wait_ms,
            request_timeout_ms=max_wait_ms + 30_000,
            max_partition_fetch_bytes=4_000_000,
        )

    def read(self, topic, partition, start, count, *, reset="error", max_wait_ms=500, timeout_s=30):
        consumer = self._consumer(reset, max_wait_ms)
        place = TopicPartition(topic, partition)
        received: list[Received] = []
        end = time.monotonic() + timeout_s
        try:
            consumer.assign([place])
            if start == "earliest":
                consumer.seek_to_beginning(place)
            elif start == "latest":
                consumer.seek_to_end(place)
            else:
                consumer.seek(place, start)
            while len(received) < count:
                if time.monotonic() > end:
                    raise TimeoutError(f"{len(received)} of {count} records within {timeout_s} s")
                for record in consumer.poll(timeout_ms=200).get(place, ()):
                    received.append(
                        Received(
                            offset=record.offset,
                            value=record.value,
                            key=record.key,
                            headers=tuple((key, value) for key, value in record.headers),
                            timestamp_ms=record.timestamp,
                            partition=record.partition,
                        )
                    )
        except OffsetOutOfRangeError as error:
            raise Failure(1, repr(error)) from error
        except KafkaError as error:
            raise failure(error) from error
        finally:
            consumer.close()
        return received[:count]

    def _ask_consumer(self, question):
        consumer = self._consumer()
        try:
            return question(consumer)
        except KafkaError as error:
            raise failure(error) from error
        finally:
            consumer.close()

    def offsets_for_time(self, topic, times: dict[int, int]):
        asked = {TopicPartition(topic, partition): ms for partition, ms in times.items()}
        answers = self._ask_consumer(lambda consumer: consumer.offsets_for_times(asked))
        return {place.partition: found and found.offset for place, found in answers.items()}

    def watermarks(self, topic, partition):
        place = TopicPartition(topic, partition)
        low = self._ask_consumer(lambda consumer: consumer.beginning_offsets([place]))
        high = self._ask_consumer(lambda consumer: consumer.end_offsets([place]))
        return low[place], high[place]

    @staticmethod
    def _call(function, *arguments, **options):
        try:
            return function(*arguments, **options)
        except KafkaError as error:
            raise failure(error) from error

    def create_topic(self, name, partitions=1, configs=None, validate_only=False, replication=1):
        new = {
            name: {
                "num_partitions": partitions,
                "replication_factor": replication,
                "configs": configs or {},
            }
        }
        self._call(self._admin.create_topics, new, validate_only=validate_only)

    def delete_topic(self, name):
        self._call(self._admin.delete_topics, [name])

    def create_partitions(self, name, total, validate_only=False):
        self._call(self._admin.create_partitions, {name: total}, validate_only=validate_only)

    def _configs(self, kind: ConfigResourceType, name: str):
        found = self._call(
            self._admin.describe_configs, [ConfigResource(kind, name)], config_filter="all"
        )
        return {key: entry["value"] for key, entry in found[kind.name.lower()][name].items()}

    def topic_configs(self, name):
        return self._configs(ConfigResourceType.TOPIC, name)

    def broker_configs(self, node):
        return self._configs(ConfigResourceType.BROKER, str(node))

    def _alter(self, name, configs, incremental, validate_only=False):
        outcome = self._call(
            self._admin.alter_configs,
            [ConfigResource(ConfigResourceType.TOPIC, name, configs)],
            incremental=incremental,
            raise_on_unknown=False,
            validate_only=validate_only,
        )["topic"][name]
        if outcome != "OK":
            # The outcome is a sentence with the number in it.
            number = re.search(r"\[Error (\d+)\]", outcome)
            raise Failure(int(number.group(1)) if number else None, outcome)

    def alter_configs(self, name, configs):
        # It sends what was changed before along, as there is no other way to keep it.
        self._alter(name, configs, incremental=False)

    def incremental_alter_configs(self, name, set_to=None, back_to_default=(), validate_only=False):
        changes = {key: (SET, value) for key, value in (set_to or {}).items()}
        changes |= {key: (DELETE, None) for key in back_to_default}
        self._alter(name, changes, incremental=True, validate_only=validate_only)

    def delete_records(self, topic, partition, before):
        place = TopicPartition(topic, partition)
        return self._call(self._admin.delete_records, {place: before})[place]["low_watermark"]

    def cluster(self):
        found = self._call(self._admin.describe_cluster)
        return {
            "id": found["cluster_id"],
            "controller": found["controller_id"],
            "brokers": [(b["broker_id"], b["host"], b["port"]) for b in found["brokers"]],
        }

    def topics(self):
        return set(self._call(self._admin.list_topics))

    def partitions(self, topic):
        (found,) = self._call(self._admin.describe_topics, [topic])
        if found["error_code"]:
            raise Failure(found["error_code"], f"describing {topic}")
        return {p["partition_index"]: p["leader_id"] for p in found["partitions"]}

    def groups(self):
        return {group["group_id"] for group in self._call(self._admin.list_groups)}

    def group_state(self, group):
        found = self._call(self._admin.describe_groups, [group])[group]
        if found["error"]:
            raise Failure(None, found["error"])
        return found["group_state"]

    def delete_group(self, group):
        # The outcome is the name of an error.
        outcome = self._call(self._admin.delete_groups, [group])[group]
        if outcome != "OK":
            raise Failure(getattr(errors, outcome).errno, outcome)

    def group_offsets(self, group, topic):
        found = self._call(self._admin.list_group_offsets, group)[group]
        return {place.partition: known.offset for place, known in found.items() if place.topic == topic}

    def set_group_offset(self, group, topic, partition, offset):
        place = TopicPartition(topic, partition)
        changed = {place: OffsetAndMetadata(offset, "", -1)}
        outcome = self._call(self._admin.alter_group_offsets, group, changed)[place]
        if outcome.errno:
            raise Failure(outcome.errno, outcome.__name__)

    def elect_leaders(self, topic, partition):
        response = self._call(
            self._admin.elect_leaders, 0, {topic: [partition]}, raise_errors=False
        )
        code = response.replica_election_results[0].partition_result[0].error_code
        if code:
            raise Failure(code, f"electing a leader for {topic}/{partition}")

    def log_dirs(self, topic):
        """Each partition's size in bytes."""
        sizes = {}
        for broker in self._call(self._admin.describe_log_dirs, [topic]):
            for folder in broker["log_dirs"]:
                if folder["error_code"]:
                    raise Failure(folder["error_code"], f"describing {folder['log_dir']}")
                for found in folder["topics"]:
                    for partition in found["partitions"]:
                        sizes[partition["partition_index"]] = partition["partition_size"]
        return sizes

    def reassign(self, topic, partition, nodes):
        """To these nodes, or with None an end to what is under way."""
        place = TopicPartition(topic, partition)
        error = self._call(self._admin.alter_partition_reassignments, {place: nodes})[place]
        if error is not None:
            raise failure(error())

    def reassignments(self):
        return self._call(self._admin.list_partition_reassignments)
