"""`millrace-bench` under the conditions of the librdkafka load: as much in a request, as much under way."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .librdkafka import PARTITIONS, records_under_way
from .machine import PATIENCE_SECONDS, Failed
from .result import FETCH, PRODUCE, Run

#: What a connection of the native protocol may have under way unless the broker is told otherwise.
MOST_IN_FLIGHT = 64
WARM_UP_SECONDS = 1.0
#: What it is given to stop its broker.
END_SECONDS = 60
#: A run that was longer than this and had no answer says that there will be none.
MOST_SECONDS = 30


def call(*arguments: str) -> dict:
    """A report of `millrace-bench`."""
    command = [os.environ["MILLRACE_BENCH_BINARY"], *arguments, "--output", "json"]
    # Not in our group: Ctrl-C is for us, who tell it once. Told twice it leaves its broker behind.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
    )
    try:
        report, said = process.communicate(timeout=PATIENCE_SECONDS)
    except BaseException:
        process.terminate()
        process.communicate(timeout=END_SECONDS)
        raise
    if process.returncode != 0:
        text = said.decode(errors="replace").strip()
        raise Failed(f"{' '.join(command)}\nended with {process.returncode}: {text}")
    return json.loads(report)


@dataclass(frozen=True)
class Conditions:
    """What was seen of librdkafka, to be put on in the same way."""

    record_bytes: int
    #: What librdkafka had stored and read again.
    records: int
    records_per_batch: float
    answer_bytes: float
    produce_seconds: float
    fetch_seconds: float

    @property
    def whole_records_per_batch(self) -> int:
        return max(1, round(self.records_per_batch))

    @property
    def in_flight(self) -> int:
        """Requests with about as many records as librdkafka may have under way."""
        wanted = records_under_way(self.record_bytes) / self.whole_records_per_batch
        return min(MOST_IN_FLIGHT, max(1, round(wanted)))


class Generator:
    """Starts a broker of its own for each run, with one shard and an empty folder."""

    def __init__(self, directory: Path):
        self._target = ["--broker", os.environ["MILLRACE_BINARY"], "--directory", str(directory)]
        told = self._run("one-in-flight", "--duration", "0.1", "--warm-up", "0")["environment"]
        #: The broker's and the client's: it knows where the disk's interrupts go.
        self.cpus: tuple[int, int] = (told["broker_cpus"][0], told["generator_cpu"])
        self._target += ["--broker-cpu", str(self.cpus[0]), "--cpu", str(self.cpus[1])]
        self.environment = {
            name: told[name]
            for name in ("time", "kernel", "cpu", "cpus", "virtual_machine", "file_system", "broker_version")
        }

    def _run(self, workload: str, *arguments: str) -> dict:
        # What it would refuse to report, for being the bottleneck itself, is told in the table.
        return call("run", workload, "--repetitions", "1", "--force", *self._target, *arguments)

    def _repetition(self, protocol: str, workload: str, seconds: float, conditions: Conditions, *more: str):
        while True:
            report = self._run(
                *(workload, "--protocol", protocol, "--partitions", str(PARTITIONS)),
                *("--record-bytes", str(conditions.record_bytes)),
                *("--duration", f"{seconds:.3f}", "--warm-up", f"{min(WARM_UP_SECONDS, seconds):.3f}", *more),
            )
            (repetition,) = report["workloads"][0]["repetitions"]
            (series,) = repetition["series"]
            if series["errors"]:
                raise Failed(f"{workload} through {protocol} had errors: {series['errors']}")
            if series["records"]:
                return repetition, series
            if seconds > MOST_SECONDS:
                raise Failed(f"{workload} through {protocol} had no answer in {seconds:.1f} s")
            # A disk that stood still for all of that time: it is asked for longer.
            seconds *= 4

    def produce(self, protocol: str, conditions: Conditions, repetition: int) -> Run:
        measured = self._repetition(
            *(protocol, "small-records", conditions.produce_seconds, conditions),
            *("--records-per-request", str(conditions.whole_records_per_batch), "--acks", "all"),
            *("--producers", "1", "--in-flight", str(conditions.in_flight)),
        )
        return self._as_run(protocol, PRODUCE, measured, conditions, repetition)

    def fetch(self, protocol: str, conditions: Conditions, repetition: int) -> Run:
        measured = self._repetition(
            *(protocol, "tail-fetch", conditions.fetch_seconds, conditions),
            *("--backlog", str(conditions.records * conditions.record_bytes), "--consumers", "1"),
            *("--fetch-bytes", str(round(conditions.answer_bytes))),
        )
        return self._as_run(protocol, FETCH, measured, conditions, repetition)

    @staticmethod
    def _as_run(protocol: str, what: str, measured, conditions: Conditions, number: int) -> Run:
        repetition, series = measured
        in_piece = "records" if what == PRODUCE else "bytes"
        return Run(
            load=protocol,
            what=what,
            record_bytes=conditions.record_bytes,
            repetition=number,
            records=series["records"],
            seconds=repetition["seconds"],
            client_cpu_seconds=repetition["generator"]["cpu_seconds"],
            broker_cpu_seconds=repetition["broker_cpu_seconds"],
            stolen=repetition["stolen"],
            piece=series[in_piece] / series["operations"],
        )
