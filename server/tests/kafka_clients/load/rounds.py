"""Which load runs when, and what one learns from the other."""

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness import Broker

from .generator import Conditions, Generator
from .librdkafka import Librdkafka, write_records
from .machine import Failed, busy_share, children_on
from .result import Run

#: A run of the generator is no shorter than this, however few records librdkafka was given.
LEAST_SECONDS = 0.5
#: How long is looked before each repetition whether anything else runs.
LOOK_SECONDS = 0.5


@dataclass
class Measured:
    """All that a run of the script has found."""

    environment: dict = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    #: Of each repetition: how long kcat took for one record.
    start_seconds: list[float] = field(default_factory=list)
    #: Of each repetition: how busy the machine was before it.
    busy_before: list[float] = field(default_factory=list)


class Rounds:
    """`run` takes all measurements."""

    def __init__(self, directory: Path, sizes: list[int], records: int | None, repetitions: int):
        self.directory = directory
        self.sizes = sizes
        self.repetitions = repetitions
        self._records = records
        self.measured = Measured()
        self._generator: Generator | None = None

    def records(self, size: int) -> int:
        """How many records librdkafka is given: 1 GB, but no more than 5 million."""
        return self._records or max(1, min(5_000_000, 1_000_000_000 // size))

    def run(self) -> Measured:
        self._tell("finding out which CPUs to use")
        self._generator = Generator(self.directory)
        self.measured.environment = dict(self._generator.environment)
        for size in self.sizes:
            with tempfile.NamedTemporaryFile(prefix="kafka-load-", dir=self.directory) as file:
                self._tell(f"{size} bytes: writing the records that kcat will send")
                write_records(Path(file.name), size, self.records(size))
                for repetition in range(1, self.repetitions + 1):
                    self._repetition(size, Path(file.name), repetition)
        return self.measured

    def _repetition(self, size: int, file: Path, number: int) -> None:
        where = f"{size} bytes, repetition {number} of {self.repetitions}"
        self.measured.busy_before.append(busy_share(self._generator.cpus, LOOK_SECONDS))
        conditions = self._librdkafka(size, file, number, where)
        # Whatever the disk is left to do after one of them meets each of them in turn.
        protocols = ["native", "kafka"][:: 1 if number % 2 else -1]
        for protocol in protocols:
            self._tell(f"{where}: millrace-bench produces, {protocol}")
            self.measured.runs.append(self._generator.produce(protocol, conditions, number))
        for protocol in protocols:
            self._tell(f"{where}: millrace-bench fetches, {protocol}")
            self.measured.runs.append(self._generator.fetch(protocol, conditions, number))

    def _librdkafka(self, size: int, file: Path, number: int, where: str) -> Conditions:
        with self._broker() as broker:
            client = Librdkafka(broker, self._generator.cpus, size, number)
            self.measured.environment["client"] = client.version()
            self._tell(f"{where}: kcat produces")
            produced = client.produce(file, self.records(size))
            self._tell(f"{where}: kcat consumes")
            fetched = client.fetch()
        self.measured.start_seconds.append(produced.start_seconds)
        self.measured.runs += [produced.run, fetched]
        return Conditions(
            record_bytes=size,
            records=fetched.records,
            records_per_batch=produced.run.piece,
            answer_bytes=fetched.piece,
            produce_seconds=max(LEAST_SECONDS, produced.run.seconds),
            fetch_seconds=max(LEAST_SECONDS, fetched.seconds),
        )

    @contextmanager
    def _broker(self):
        """A broker with one shard on its CPU, and an empty folder that is removed afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="kafka-load-", dir=self.directory))
        broker = Broker(os.environ["MILLRACE_BINARY"], {"shards": "1"}, folder=folder)
        try:
            with children_on(self._generator.cpus[0]):
                broker.start()
            yield broker
            broker.stop()
        except RuntimeError as error:
            # What `Broker` says of a process that does not start, ends, or answers with an error.
            raise Failed(str(error)) from error
        finally:
            if broker.process is not None and broker.process.poll() is None:
                broker.kill()
            shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Nothing more is told."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
