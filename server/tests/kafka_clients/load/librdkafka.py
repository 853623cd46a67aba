"""kcat, which is librdkafka and little else, as producer and as consumer."""

import json
import os
import random
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import Broker

from .machine import Failed, Use, run_client
from .result import FETCH, PRODUCE, Run

PARTITIONS = 16
# librdkafka's own values, said so that they are known: 5 ms, then as much as fits into 1 MB or 10,000
# records. Only what may wait to be acknowledged is less than its own 1 GiB, so that the end of a run,
# when nothing more comes and the rest is waited for, is a small part of it.
PRODUCER_SETTINGS = {
    "acks": "all",
    "linger.ms": "5",
    "batch.size": "1000000",
    "batch.num.messages": "10000",
    "queue.buffering.max.messages": "100000",
    "queue.buffering.max.kbytes": "16384",
    "compression.codec": "none",
}
# A partition of which so much has come that it is not fetched further sleeps for a second in librdkafka
# 2.0: nothing here comes to that. At the end of the log it asks once more and is kept waiting.
CONSUMER_SETTINGS = {
    "fetch.message.max.bytes": "1048576",
    "fetch.max.bytes": "52428800",
    "fetch.wait.max.ms": "10",
    "queued.min.messages": "10000000",
    "queued.max.messages.kbytes": "2097151",
    "check.crcs": "false",
}
TOPIC = "load"


def records_under_way(record_bytes: int) -> int:
    """How many records the producer may have that are not acknowledged, at most."""
    kbytes = int(PRODUCER_SETTINGS["queue.buffering.max.kbytes"])
    return min(int(PRODUCER_SETTINGS["queue.buffering.max.messages"]), kbytes * 1024 // record_bytes)


def write_records(file: Path, record_bytes: int, records: int) -> None:
    """A file of lines that do not compress, each of which becomes a record."""
    letters = bytes(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/"[i % 64] for i in range(256))
    drawn = random.Random(record_bytes)
    at_once = max(1, (4 << 20) // record_bytes)
    with file.open("wb") as out:
        for begin in range(0, records, at_once):
            count = min(at_once, records - begin)
            text = drawn.randbytes(count * record_bytes).translate(letters)
            for at in range(0, len(text), record_bytes):
                out.write(text[at : at + record_bytes] + b"\n")
        # Otherwise it is written beside the broker's files, while those are measured.
        out.flush()
        os.fsync(out.fileno())


@dataclass(frozen=True)
class Produced:
    run: Run
    #: Of one record alone: what it takes to start, to connect and to end.
    start_seconds: float


class Librdkafka:
    """kcat on one broker, with one topic."""

    def __init__(self, broker: Broker, cpus: tuple[int, int], record_bytes: int, repetition: int):
        self.program = os.environ["KCAT"]
        self.broker = broker
        self.broker_cpu, self.client_cpu = cpus
        self.record_bytes = record_bytes
        self.repetition = repetition
        broker.millrace("topic", "create", TOPIC, "--partitions", str(PARTITIONS))
        self._before = self._counters()

    def version(self) -> str:
        """Its own and librdkafka's."""
        told = subprocess.run([self.program, "-V"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"Version (\S+).*librdkafka (\S+)", told)
        return f"kcat {found[1]}, librdkafka {found[2]}" if found else told.strip()

    def _counters(self) -> dict[str, int]:
        told = json.loads(self.broker.millrace("stats", "--output", "json"))
        return told["counters"]

    def _since(self, before: dict[str, int], name: str) -> int:
        return self._counters()[name] - before[name]

    def _stored(self) -> int:
        told = json.loads(self.broker.millrace("topic", "describe", TOPIC, "--output", "json"))
        return sum(partition["high_watermark"] for partition in told["partitions"])

    def _run(self, settings: dict[str, str], *arguments: str) -> Use:
        command = [self.program, "-b", self.broker.address, "-t", TOPIC, "-q", *arguments]
        for key, value in settings.items():
            command += ["-X", f"{key}={value}"]
        cpus = (self.broker_cpu, self.client_cpu)
        return run_client(command, cpus, self.client_cpu, self.broker.process.pid)

    def _produce(self, file: Path, records: int) -> Use:
        before = self._stored()
        use = self._run(PRODUCER_SETTINGS, "-P", "-l", str(file), "-c", str(records))
        if (stored := self._stored() - before) != records:
            raise Failed(f"kcat sent {records} records and said nothing, and {stored} were stored")
        return use

    def produce(self, file: Path, records: int) -> Produced:
        """Sends the file's lines, after one of them and then a tenth of them that do not count."""
        started = self._produce(file, 1)
        self._produce(file, max(1, records // 10))
        before = self._counters()
        use = self._produce(file, records)
        batches = self._since(before, "batches_appended")
        return Produced(self._as_run(PRODUCE, use, records, records / batches), started.seconds)

    def fetch(self) -> Run:
        """Reads all that is there, by assignment, from the beginning to the end."""
        written = self._since(self._before, "bytes_appended")
        before = self._counters()
        use = self._run(CONSUMER_SETTINGS, "-C", "-o", "beginning", "-e")
        read = self._since(before, "fetched_bytes")
        if read < written:
            raise Failed(f"kcat said that it had read everything, and read {read} bytes of {written}")
        answers = self._since(before, "fetches")
        return self._as_run(FETCH, use, self._stored(), read / answers)

    def _as_run(self, what: str, use: Use, records: int, piece: float) -> Run:
        return Run(
            load="librdkafka",
            what=what,
            record_bytes=self.record_bytes,
            repetition=self.repetition,
            records=records,
            seconds=use.seconds,
            client_cpu_seconds=use.client_cpu_seconds,
            broker_cpu_seconds=use.broker_cpu_seconds,
            stolen=use.stolen,
            piece=piece,
        )
