"""Fixtures: the broker under test, the clients, and names for topics.

`MILLRACE_BINARY` is the broker that is started for the whole run. `KAFKA_BOOTSTRAP` names a broker
that runs already instead, so that the same tests can be held against another one that speaks Kafka.
"""

import faulthandler
import itertools
import os
import threading
import time

import clients
import pytest
from clients import Client, Confluent
from harness import Broker, Failure, Received, Record
from harness.failure import LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION

SUITE = {client.name: client for client in clients.ALL}
# No test here takes long: one that hangs is ended with a trace of every thread.
TEST_SECONDS = 150
# What a broker answers that has not heard yet of what another one did.
NOT_YET = (UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER)


class Elsewhere:
    """A broker that is not ours to start."""

    def __init__(self, address: str):
        self.address = address


@pytest.fixture(scope="session")
def broker():
    if elsewhere := os.environ.get("KAFKA_BOOTSTRAP"):
        yield Elsewhere(elsewhere)
        return
    running = Broker(os.environ["MILLRACE_BINARY"]).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def millrace(broker) -> Broker:
    """The broker, for what another one has not: the native protocol."""
    if isinstance(broker, Elsewhere):
        pytest.skip("needs a Millrace of its own")
    return broker


@pytest.fixture(scope="session")
def all_clients(broker):
    """Every client by its name, made when it is first asked for."""
    made: dict[str, Client] = {}

    def get(name: str) -> Client:
        if name not in made:
            made[name] = SUITE[name](broker.address)
        return made[name]

    yield get
    for client in made.values():
        client.close()


@pytest.fixture
def client(request, all_clients) -> Client:
    return all_clients(request.param)


@pytest.fixture(scope="session")
def reference(all_clients) -> Confluent:
    """The client that prepares what another is tested with, and checks what it did."""
    return all_clients(Confluent.name)


def every(*offers: str):
    """Runs a test with every client that offers all of this."""
    names = [name for name, client in SUITE.items() if client.offers.issuperset(offers)]
    assert names, f"no client offers {offers}"
    return pytest.mark.parametrize("client", names, indirect=True)


numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A topic's name that was not used before."""
    return f"interop-{os.getpid()}-{next(numbers)}"


@pytest.fixture
def new_topic(reference):
    """Makes topics and gives their names, each when its partitions have leaders that serve."""

    def make(partitions: int = 3, **configs: str) -> str:
        topic = f"interop-{os.getpid()}-{next(numbers)}"
        configs = {key.replace("_", "."): value for key, value in configs.items()}
        reference.create_topic(topic, partitions, configs)
        ends = lambda: [reference.watermarks(topic, number) for number in range(partitions)]
        eventually(lambda: ends() == [(0, 0)] * partitions)
        return topic

    return make


def eventually(holds, seconds: float = 10) -> None:
    """Waits until something holds: what one broker of a cluster did, others know a moment later."""
    end = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
            late = AssertionError(f"not so within {seconds} s")
        except Failure as failure:
            if failure.code not in NOT_YET:
                raise
            late = failure
        if time.monotonic() > end:
            raise late
        time.sleep(0.05)


def check_same(received: list[Received], sent: list[Record], what: str) -> None:
    """Asserts that all that was sent came back, in order, with offsets that grow by one."""
    assert len(received) == len(sent), f"{what}: {len(received)} records instead of {len(sent)}"
    for number, (got, record) in enumerate(zip(received, sent, strict=True)):
        assert got.shows(record), f"{what}: record {number} is {got} instead of {record}"
    offsets = [got.offset for got in received]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets))), f"{what}: {offsets}"


class InBackground:
    """Runs a function in a thread of its own and hands over what it gave or raised."""

    def __init__(self, function):
        self._outcome = None
        self._thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self._thread.start()

    def _run(self, function):
        try:
            self._outcome = (function(), None, time.monotonic())
        except Exception as error:
            self._outcome = (None, error, time.monotonic())

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self, timeout_s: float):
        """What it gave, and when it did, by the monotonic clock."""
        self._thread.join(timeout_s)
        assert self._outcome is not None, f"did not end within {timeout_s} s"
        value, error, ended_at = self._outcome
        if error is not None:
            raise error
        return value, ended_at


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    faulthandler.dump_traceback_later(TEST_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
