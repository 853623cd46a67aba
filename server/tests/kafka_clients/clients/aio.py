"""aiokafka: Python on asyncio."""

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from harness import Failure, Received, Record

from .base import Client

CALL_SECONDS = 30


def failure(error: KafkaError) -> Failure:
    code = getattr(error, "errno", None)
    return Failure(code if code and code > 0 else None, repr(error))


def check(code: int, text: str) -> None:
    if code:
        raise Failure(code, text)


class AioKafka(Client):
    name = "aiokafka"
    abilities = frozenset(
        {"timestamps", "null header values", "repeated headers", "binary headers", "empty values"}
    )
    offers = frozenset(
        {
            "read", "offsets", "offsets_for_time", "watermarks", "create_topic", "delete_topic",
            "create_partitions", "topic_configs", "alter_configs", "delete_records", "cluster",
            "topics", "partitions", "validate_only", "groups", "group_state", "group_offsets",
        }
    )  # fmt: skip

    @staticmethod
    def _run(work):
        async def bounded():
            return await asyncio.wait_for(work, timeout=CALL_SECONDS * 2)

        try:
            return asyncio.run(bounded())
        except KafkaError as error:
            raise failure(error) from error

    def produce(self, topic, records: list[Record], codec="none", acks="all"):
        return self._run(self._produce(topic, records, codec, acks))

    async def _produce(self, topic, records, codec, acks):
        producer = AIOKafkaProducer(
            bootstrap_servers=self.address,
            compression_type=None if codec == "none" else codec,
            acks=acks if acks == "all" else int(acks),
            linger_ms=20,
            max_request_size=8_000_000,
            max_batch_size=100_000,
            request_timeout_ms=CALL_SECONDS * 1000,
        )
        await producer.start()
        try:
            sent = [
                await producer.send(
                    topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=record.partition,
                    timestamp_ms=record.timestamp_ms,
                )
                for record in records
            ]
            await producer.flush()
            stored = await asyncio.gather(*sent)
        finally:
            await producer.stop()
        return None if acks == "0" else [place.offset for place in stored]

    def _consumer(self, reset="none", max_wait_ms=500) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self.address,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none" if reset == "error" else reset,
            fetch_max_wait_ms=max_wait_ms,
            request_timeout_ms=max_wait_ms + 30_000,
            max_partition_fetch_bytes=4_000_000,
        )

    def read(self, topic, partition, start, count, *, reset="error", max_wait_ms=500, timeout_s=30):
        return self._run(self._read(topic, partition, start, count, reset, max_wait_ms, timeout_s))

    async def _read(self, topic, partition, start, count, reset, max_wait_ms, timeout_s):
        consumer = self._consumer(reset, max_wait_ms)
        place = TopicPartition(topic, partition)
        received: list[Received] = []
        end = time.monotonic() + timeout_s
        await consumer.start()
        try:
            consumer.assign([place])
            if start == "earliest":
                await consumer.seek_to_beginning(place)
            elif start == "latest":
                await consumer.seek_to_end(place)
            else:
                consumer.seek(place, start)
            while len(received) < count:
                if time.monotonic() > end:
                    raise TimeoutError(f"{len(received)} of {count} records within {timeout_s} s")
                for record in (await consumer.getmany(place, timeout_ms=200)).get(place, ()):
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
        finally:
            await consumer.stop()
        return received[:count]

    def _ask_consumer(self, question):
        async def ask():
            consumer = self._consumer()
            await consumer.start()
            try:
                return await question(consumer)
            finally:
                await consumer.stop()

        return self._run(ask())

    def offsets_for_time(self, topic, times: dict[int, int]):
        asked = {TopicPartition(topic, partition): ms for partition, ms in times.items()}
        answers = self._ask_consumer(lambda consumer: consumer.offsets_for_times(asked))
        return {place.partition: found and found.offset for place, found in answers.items()}

    def watermarks(self, topic, partition):
        place = TopicPartition(topic, partition)

        async def both(consumer):
            low = await consumer.beginning_offsets([place])
            high = await consumer.end_offsets([place])
            return low[place], high[place]

        return self._ask_consumer(both)

    def _ask_admin(self, question):
        async def ask():
            admin = AIOKafkaAdminClient(
                bootstrap_servers=self.address, request_timeout_ms=CALL_SECONDS * 1000
            )
            await admin.start()
            try:
                return await question(admin)
            finally:
                await admin.close()

        return self._run(ask())

    def create_topic(self, name, partitions=1, configs=None, validate_only=False, replication=1):
        new = NewTopic(name, partitions, replication, topic_configs=configs or {})
        response = self._ask_admin(
            lambda admin: admin.create_topics([new], validate_only=validate_only)
        )
        for _, code, *text in response.topic_errors:
            check(code, f"creating {name}: {text}")

    def delete_topic(self, name):
        response = self._ask_admin(lambda admin: admin.delete_topics([name]))
        for found in response.topic_error_codes:
            check(found[1], f"deleting {name}")

    def create_partitions(self, name, total, validate_only=False):
        new = {name: NewPartitions(total)}
        self._ask_admin(lambda admin: admin.create_partitions(new, validate_only=validate_only))

    def topic_configs(self, name):
        asked = ConfigResource(ConfigResourceType.TOPIC, name)
        (response,) = self._ask_admin(lambda admin: admin.describe_configs([asked]))
        ((code, text, _, _, entries, *_),) = response.resources
        check(code, f"describing {name}: {text}")
        return {entry[0]: entry[1] for entry in entries}

    def alter_configs(self, name, configs):
        asked = ConfigResource(ConfigResourceType.TOPIC, name, configs=configs)
        (response,) = self._ask_admin(lambda admin: admin.alter_configs([asked]))
        ((code, text, *_),) = response.resources
        check(code, f"altering {name}: {text}")

    def delete_records(self, topic, partition, before):
        place = TopicPartition(topic, partition)
        asked = {place: RecordsToDelete(before)}
        return self._ask_admin(lambda admin: admin.delete_records(asked))[place]

    def cluster(self):
        found = self._ask_admin(lambda admin: admin.describe_cluster())
        return {
            "id": found["cluster_id"],
            "controller": found["controller_id"],
            "brokers": [(b["node_id"], b["host"], b["port"]) for b in found["brokers"]],
        }

    def topics(self):
        return set(self._ask_admin(lambda admin: admin.list_topics()))

    def partitions(self, topic):
        (found,) = self._ask_admin(lambda admin: admin.describe_topics([topic]))
        check(found["error_code"], f"describing {topic}")
        return {p["partition"]: p["leader"] for p in found["partitions"]}

    def groups(self):
        found = self._ask_admin(lambda admin: admin.list_consumer_groups())
        return {group[0] for group in found}

    def group_state(self, group):
        (response,) = self._ask_admin(lambda admin: admin.describe_consumer_groups([group]))
        ((code, _, state, *_),) = response.groups
        check(code, f"describing {group}")
        return state

    def group_offsets(self, group, topic):
        found = self._ask_admin(lambda admin: admin.list_consumer_group_offsets(group))
        return {place.partition: known.offset for place, known in found.items() if place.topic == topic}
