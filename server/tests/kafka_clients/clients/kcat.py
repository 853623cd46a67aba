"""kcat: the command line client over librdkafka, in the version that Debian ships (2.0.2)."""

import itertools
import json
import os
import re
import subprocess

from harness import Failure, Received, Record

from .base import Client

CALL_SECONDS = 40
# Nothing that a record of these tests holds.
END_OF_RECORD = "\x1e--record--\x1e"
END_OF_KEY = "\x1f--key--\x1f"
# librdkafka's own words for what the broker answered.
BROKER_SAID = {
    "Offset out of range": 1,
    "Unknown topic or partition": 3,
    "Message size too large": 10,
}


class Kcat(Client):
    name = "kcat"
    # Its timestamps are those of sending, and an empty value is sent as null (-Z) or null as empty.
    abilities = frozenset({"null header values", "repeated headers", "empty records"})
    offers = frozenset({"read", "offsets_for_time", "watermarks", "topics", "partitions", "cluster"})

    def __init__(self, address: str):
        super().__init__(address)
        # Where scripts/kafka-clients unpacked it, or wherever the machine has it.
        self.program = os.environ.get("KCAT", "kcat")

    def run(self, *arguments: str, stdin: bytes | None = None, timeout_s: float = CALL_SECONDS):
        """Runs it to its end; what it printed."""
        try:
            done = subprocess.run(
                [self.program, "-b", self.address, *arguments],
                input=stdin,
                capture_output=True,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as waited:
            text = (waited.stderr or b"").decode(errors="replace")
            raise TimeoutError(f"kcat {' '.join(arguments)}: {text}") from waited
        text = done.stderr.decode(errors="replace")
        if done.returncode != 0 or "ERROR" in text:
            code = next((code for words, code in BROKER_SAID.items() if words in text), None)
            raise Failure(code, f"kcat {' '.join(arguments)}: {text.strip()}")
        return done.stdout

    def produce(self, topic, records: list[Record], codec="none", acks="all"):
        # Partition and headers are options, and so the same for all that one run sends. A partition
        # keeps its order, as its records are sent by one run after the other.
        for partition in sorted({record.partition for record in records}):
            mine = [record for record in records if record.partition == partition]
            for headers, group in itertools.groupby(mine, key=lambda record: record.headers):
                self._produce(topic, partition, headers, list(group), codec, acks)

    def _produce(self, topic, partition, headers, records, codec, acks):
        options = ["-P", "-t", topic, "-p", str(partition), "-z", codec, "-Z", "-X", f"acks={acks}"]
        options += ["-X", "message.max.bytes=8000000", "-X", "message.timeout.ms=30000"]
        options += ["-D", END_OF_RECORD, "-K", END_OF_KEY]
        for key, value in headers:
            options += ["-H", key if value is None else f"{key}={value.decode()}"]
        sent = END_OF_RECORD.join(
            ((record.key or b"").decode("latin-1") + END_OF_KEY + (record.value or b"").decode("latin-1"))
            for record in records
        )
        self.run(*options, stdin=sent.encode("latin-1"))

    def read(self, topic, partition, start, count, *, reset="error", max_wait_ms=500, timeout_s=30):
        place = {"earliest": "beginning", "latest": "end"}.get(start, str(start))
        out = self.run(
            *("-C", "-t", topic, "-p", str(partition), "-o", place, "-c", str(count), "-u", "-q"),
            *("-X", f"auto.offset.reset={reset}", "-X", f"fetch.wait.max.ms={max_wait_ms}"),
            *("-X", f"socket.timeout.ms={max_wait_ms + 30_000}"),
            *("-X", "fetch.message.max.bytes=4000000"),
            # Lengths come first, so that a key or value may hold anything; -1 is null.
            *("-f", "%p %o %T %K %S %h\\n%k%s\\n"),
            timeout_s=timeout_s,
        )
        return list(self._parse(out))

    @staticmethod
    def _parse(out: bytes):
        at = 0
        while at < len(out):
            end = out.index(b"\n", at)
            partition, offset, time, key_size, size, headers = out[at:end].split(b" ", 5)
            at = end + 1
            parts: list[bytes | None] = []
            for length in (int(key_size), int(size)):
                parts.append(None if length < 0 else out[at : at + length])
                # It prints NULL where there is none, and counts it as no bytes.
                at += max(length, 0)
                if length < 0 and out[at : at + 4] == b"NULL":
                    at += 4
            yield Received(
                offset=int(offset),
                value=parts[1],
                key=parts[0],
                headers=tuple(
                    (name.decode(), None if value == b"NULL" else value)
                    for name, value in (h.split(b"=", 1) for h in headers.split(b",") if h)
                ),
                timestamp_ms=int(time),
                partition=int(partition),
            )
            assert out[at : at + 1] == b"\n", f"kcat's output is not understood at byte {at}"
            at += 1

    def offsets_for_time(self, topic, times: dict[int, int]):
        questions = [f"{topic}:{partition}:{ms}" for partition, ms in times.items()]
        out = self.run("-Q", *itertools.chain(*(("-t", question) for question in questions)))
        answers = re.findall(rb"\[(\d+)\] offset (-?\d+)", out)
        found = {int(partition): int(offset) for partition, offset in answers}
        assert found.keys() == times.keys(), out
        return {partition: offset if offset >= 0 else None for partition, offset in found.items()}

    def watermarks(self, topic, partition):
        # Earliest and latest are times of their own: -2 and -1.
        return (
            self.offsets_for_time(topic, {partition: -2})[partition],
            self.offsets_for_time(topic, {partition: -1})[partition],
        )

    def _metadata(self, *topic):
        return json.loads(self.run("-L", "-J", *topic))

    def cluster(self):
        found = self._metadata()
        return {
            "id": None,
            "controller": found["controllerid"],
            "brokers": [
                (broker["id"], *broker["name"].rsplit(":", 1)) for broker in found["brokers"]
            ],
        }

    def topics(self):
        return {topic["topic"] for topic in self._metadata()["topics"]}

    def partitions(self, topic):
        (found,) = self._metadata("-t", topic)["topics"]
        return {p["partition"]: p["leader"] for p in found["partitions"]}
