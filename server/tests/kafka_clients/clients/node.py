"""The clients for Node, each in a process that does what it is told, one line at a time."""

import base64
import json
import os
import queue
import subprocess
import threading
from pathlib import Path

from harness import Failure, Received, Record

from .base import Client

CALL_SECONDS = 60
DRIVER = Path(__file__).parent.parent / "node" / "driver.mjs"


def packed(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def unpacked(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


class Node(Client):
    """What both have in common: the process and the line protocol with it."""

    module = ""

    def __init__(self, address: str):
        super().__init__(address)
        # Started at the first call, and again if a call had to be given up.
        self._process: subprocess.Popen | None = None
        self._answers: queue.Queue[bytes] = queue.Queue()
        self.codecs = tuple(self.call("codecs"))

    def _start(self):
        modules = os.environ["KAFKA_CLIENTS_NODE_MODULES"]
        self._answers = queue.Queue()
        self._process = subprocess.Popen(
            ["node", str(DRIVER), self.module, modules, self.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

        def pump(out, answers):
            for line in out:
                answers.put(line)
            answers.put(b"")

        threading.Thread(target=pump, args=(self._process.stdout, self._answers), daemon=True).start()

    def close(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def call(self, function: str, timeout_s: float = CALL_SECONDS, **arguments):
        """Calls a function of the driver; raises what it threw."""
        if self._process is None:
            self._start()
        self._process.stdin.write(json.dumps({"call": function, "arguments": arguments}).encode() + b"\n")
        self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.close()
            raise TimeoutError(f"{self.name}: {function} did not end within {timeout_s} s") from None
        if not line:
            self.close()
            raise RuntimeError(f"{self.name}: its process ended in {function}")
        answer = json.loads(line)
        if "failed" in answer:
            raise Failure(answer["failed"]["code"], answer["failed"]["text"])
        return answer.get("result")

    def produce(self, topic, records: list[Record], codec="none", acks="all"):
        sent = [
            {
                "key": packed(record.key),
                "value": packed(record.value),
                "headers": [[key, packed(value)] for key, value in record.headers],
                "timestamp": record.timestamp_ms,
                "partition": record.partition,
            }
            for record in records
        ]
        offsets = self.call(
            "produce", topic=topic, records=sent, codec=codec, acks={"all": -1}.get(acks, acks)
        )
        if offsets is None:
            return None
        # Told for each partition: where its batch begins.
        following = {int(partition): int(offset) for partition, offset in offsets.items()}
        result = []
        for record in records:
            result.append(following[record.partition])
            following[record.partition] += 1
        return result

    def create_topic(self, name, partitions=1, configs=None, validate_only=False, replication=1):
        self.call(
            "createTopic",
            name=name,
            partitions=partitions,
            replication=replication,
            configs=configs or {},
            validateOnly=validate_only,
        )

    def delete_topic(self, name):
        self.call("deleteTopic", name=name)

    def create_partitions(self, name, total, validate_only=False):
        self.call("createPartitions", name=name, total=total, validateOnly=validate_only)

    def topic_configs(self, name):
        return self.call("topicConfigs", name=name)

    def alter_configs(self, name, configs):
        self.call("alterConfigs", name=name, configs=configs)

    def incremental_alter_configs(self, name, set_to=None, back_to_default=(), validate_only=False):
        self.call(
            "incrementalAlterConfigs",
            name=name,
            setTo=set_to or {},
            backToDefault=list(back_to_default),
            validateOnly=validate_only,
        )

    def delete_records(self, topic, partition, before):
        return self.call("deleteRecords", topic=topic, partition=partition, before=before)

    def cluster(self):
        found = self.call("cluster")
        return found | {"brokers": [tuple(broker) for broker in found["brokers"]]}

    def topics(self):
        return set(self.call("topics"))

    def partitions(self, topic):
        found = self.call("partitions", topic=topic)
        return {int(partition): leader for partition, leader in found.items()}

    def groups(self):
        return set(self.call("groups"))

    def group_state(self, group):
        return self.call("groupState", group=group).title().replace("_", "")

    def delete_group(self, group):
        self.call("deleteGroup", group=group)

    def group_offsets(self, group, topic):
        found = self.call("groupOffsets", group=group, topic=topic)
        return {int(partition): offset for partition, offset in found.items()}

    def set_group_offset(self, group, topic, partition, offset):
        self.call("setGroupOffset", group=group, topic=topic, partition=partition, offset=offset)

    def offsets_for_time(self, topic, times: dict[int, int]):
        found = {}
        for partition, ms in times.items():
            offset = self.call("offsetForTime", topic=topic, partition=partition, timestamp=ms)
            found[partition] = offset
        return found

    def watermarks(self, topic, partition):
        return tuple(self.call("watermarks", topic=topic, partition=partition))


class KafkaJs(Node):
    """kafkajs, with the codecs that other packages bring. It reads through groups alone."""

    name = "kafkajs"
    module = "kafkajs"
    abilities = frozenset({"timestamps", "repeated headers", "binary headers", "empty values", "empty records"})
    offers = frozenset(
        {
            "offsets", "offsets_for_time", "watermarks", "create_topic", "delete_topic",
            "create_partitions", "topic_configs", "alter_configs", "cluster", "topics",
            "partitions", "delete_records", "reassign", "reassignments", "validate_only", "groups",
            "group_state", "delete_group", "group_offsets", "set_group_offset",
        }
    )  # fmt: skip

    def reassign(self, topic, partition, nodes):
        self.call("reassign", topic=topic, partition=partition, nodes=nodes)

    def reassignments(self):
        return self.call("reassignments")


class Platformatic(Node):
    """@platformatic/kafka. Its streams read through groups alone, its `fetch` without one."""

    name = "@platformatic/kafka"
    module = "platformatic"
    # Headers are a map, so that none can repeat.
    abilities = frozenset({"timestamps", "binary headers", "empty values", "empty records"})
    offers = frozenset(
        {
            "read", "offsets", "offsets_for_time", "watermarks", "create_topic", "delete_topic",
            "create_partitions", "topic_configs", "alter_configs", "incremental_alter_configs",
            "delete_records", "cluster", "topics", "partitions", "log_dirs", "groups", "group_state",
            "delete_group", "group_offsets", "set_group_offset",
        }
    )  # fmt: skip

    def read(self, topic, partition, start, count, *, reset="error", max_wait_ms=500, timeout_s=30):
        found = self.call(
            "read",
            timeout_s=timeout_s + 15,
            topic=topic,
            partition=partition,
            start=start,
            count=count,
            reset=reset,
            maxWait=max_wait_ms,
            patience=timeout_s * 1000,
        )
        if found is None:
            raise TimeoutError(f"too few records within {timeout_s} s")
        return [
            Received(
                offset=record["offset"],
                value=unpacked(record["value"]),
                key=unpacked(record["key"]),
                headers=tuple((key, unpacked(value)) for key, value in record["headers"]),
                timestamp_ms=record["timestamp"],
                partition=partition,
            )
            for record in found
        ]

    def log_dirs(self, topic):
        found = self.call("logDirs", topic=topic)
        return {int(partition): size for partition, size in found.items()}
