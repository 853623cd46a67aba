"""One load's figures, and the medians and spreads of many."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

#: The columns, in the order in which they are shown.
LOADS = {
    "native": "native (bench)",
    "kafka": "Kafka (bench)",
    "librdkafka": "Kafka (librdkafka)",
}
PRODUCE, FETCH = "produce", "fetch"
#: From this share of its CPU on, counting what the hypervisor held back, somebody is what is measured.
FULL = 0.9


@dataclass(frozen=True)
class Run:
    """One load that ran once."""

    load: str
    what: str
    record_bytes: int
    repetition: int
    records: int
    seconds: float
    client_cpu_seconds: float
    broker_cpu_seconds: float
    stolen: float
    #: Records in a batch where it produces, bytes in an answer where it fetches.
    piece: float

    @property
    def records_per_second(self) -> float:
        return self.records / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        return self.records_per_second * self.record_bytes / 1e6

    @property
    def broker_us_per_record(self) -> float:
        return self.broker_cpu_seconds * 1e6 / self.records

    @property
    def client_us_per_record(self) -> float:
        return self.client_cpu_seconds * 1e6 / self.records

    @property
    def broker_share(self) -> float:
        return self.broker_cpu_seconds / self.seconds

    @property
    def client_share(self) -> float:
        return self.client_cpu_seconds / self.seconds


#: By name: how a figure is got from a run.
FIGURES: dict[str, Callable[[Run], float]] = {
    "records_per_second": lambda run: run.records_per_second,
    "megabytes_per_second": lambda run: run.megabytes_per_second,
    "broker_us_per_record": lambda run: run.broker_us_per_record,
    "client_us_per_record": lambda run: run.client_us_per_record,
    "broker_share": lambda run: run.broker_share,
    "client_share": lambda run: run.client_share,
    "stolen": lambda run: run.stolen,
    "piece": lambda run: run.piece,
}


@dataclass(frozen=True)
class Figure:
    """A median, and the smallest and the largest of the repetitions."""

    median: float
    least: float
    most: float


def summary(runs: list[Run]) -> dict[str, Figure]:
    """Every figure of the repetitions of one load."""
    values = {name: [get(run) for run in runs] for name, get in FIGURES.items()}
    return {name: Figure(statistics.median(of), min(of), max(of)) for name, of in values.items()}


def bounded_by(figures: dict[str, Figure]) -> str:
    """Whose CPU was full: `client`, `broker`, or `neither`."""
    held_back = figures["stolen"].median
    if figures["client_share"].median + held_back >= FULL:
        return "client"
    return "broker" if figures["broker_share"].median + held_back >= FULL else "neither"


def grouped(runs: list[Run]) -> dict[tuple[int, str], dict[str, list[Run]]]:
    """Runs by size and operation, then by load; in the order in which they came."""
    groups: dict[tuple[int, str], dict[str, list[Run]]] = {}
    for run in runs:
        groups.setdefault((run.record_bytes, run.what), {}).setdefault(run.load, []).append(run)
    return groups
