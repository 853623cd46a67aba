"""Kills the broker under the clients and starts it again, and says what has to hold meanwhile."""

import os
import random
import socket
import sys
import time
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer
from kafka import TopicPartition as PythonPartition
from kafka.errors import KafkaError

from harness import Broker

from .consumers import READERS, read_anew
from .ledger import Ledger, Place
from .producers import PRODUCERS, Running
from .records import PARTITIONS, value_of
from .report import NEW_CLIENT, Report

#: What a client is given to come back by itself, or to end what is under way.
PATIENCE_SECONDS = 60
CALL_SECONDS = 30
#: So many acknowledgements at most come before the next kill is due.
MOST_ACKNOWLEDGED = 2_000
MOST_PAUSE_SECONDS = 0.2
#: Every so many rounds a new client reads everything.
FULL_READ_ROUNDS = 20
# The smallest files there are, so that a run goes through many: the journal's are reused all the time.
SETTINGS = {"journal.file_bytes": "4MiB", "journal.max_files": "4"}
TOPIC_CONFIGS = {"segment.bytes": str(1 << 20)}


class Broken(Exception):
    """A promise was not kept, or somebody did not come back; says which and what to look at."""


def free_port() -> int:
    """A port that no connection is given by the kernel while the broker is down.

    A client that tries again and again could otherwise be given the broker's own port to call from,
    and reach itself.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    draws = random.SystemRandom()
    for _ in range(1_000):
        port = draws.randrange(1_024, lowest) if lowest > 1_024 else 0
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return trial.getsockname()[1]
    raise Broken(f"no port below {lowest} is free: end what listens there, then run this again")


class Rounds:
    """One run. `run` raises `Broken`, and leaves the folder with the data and the broker's log."""

    producer_kinds: tuple[type[Running], ...] = PRODUCERS
    reader_kinds: tuple[type[Running], ...] = READERS
    #: Whether the producers count their records in each partition and double none.
    streams = False
    settings = SETTINGS
    most_acknowledged = MOST_ACKNOWLEDGED

    def __init__(self, seed: int, folder: Path | None):
        self.broker = Broker(
            os.environ["MILLRACE_BINARY"], self.settings, f"127.0.0.1:{free_port()}", folder
        )
        topics: dict[str, tuple[str, ...]] = {}
        for client in self.producer_kinds:
            topics[client.topic] = topics.get(client.topic, ()) + (client.name,)
        self.ledger = Ledger(
            topics,
            PARTITIONS,
            lambda producer, number: value_of(seed, producer, number),
            streams=self.streams,
        )
        self.report = Report()
        self._seed = seed
        self._draws = random.Random(seed)
        self.producers: list[Running] = []
        self.readers: list[Running] = []

    def run(self, rounds: int) -> None:
        try:
            self.broker.start()
            self._create_topics()
            self._start_clients()
            self._come_back("the first start", dict.fromkeys(self._places, 0), time.monotonic())
            for number in range(1, rounds + 1):
                self._one_round(number, rounds)
            self._end()
        except (KafkaException, KafkaError) as error:
            raise Broken(f"a new client failed: {error}; the broker's log is {self.broker.log}") from error
        except RuntimeError as error:
            # What `Broker` says of a process that does not start.
            raise Broken(f"{error}\nStart it again on the same folder to look closer") from error
        finally:
            self._give_up()
            if self.broker.process is not None and self.broker.process.poll() is None:
                self.broker.kill()

    @property
    def _places(self) -> list[Place]:
        return list(self.ledger.known_ends())

    def _create_topics(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.broker.address, "log_level": 0})
        topics = {topic for topic, _ in self._places}
        new = [NewTopic(topic, PARTITIONS, 1, config=TOPIC_CONFIGS) for topic in sorted(topics)]
        for future in admin.create_topics(new).values():
            future.result(timeout=CALL_SECONDS)

    def _start_clients(self) -> None:
        address = self.broker.address
        self.producers = [kind(address, self._seed, self.ledger).start() for kind in self.producer_kinds]
        self.readers = [kind(address, self._places, self.ledger).start() for kind in self.reader_kinds]

    def _one_round(self, number: int, rounds: int) -> None:
        draws = self._draws
        wanted = sum(self.ledger.acknowledged.values()) + draws.randint(1, self.most_acknowledged)
        self._wait(
            lambda: sum(self.ledger.acknowledged.values()) >= wanted,
            lambda: f"round {number}: the producers stopped getting acknowledgements",
        )
        self._before_kill()
        self._pause()
        self._kill()
        if draws.random() < 0.25:
            # Once more, wherever it is in its recovery.
            self.broker.spawn()
            self._pause()
            self._kill()
            self.report.killed_early += 1
        self._pause()
        ends, ready_at = self._restart(f"round {number}")
        waited = {NEW_CLIENT: time.monotonic() - ready_at}
        waited |= self._come_back(f"round {number}", ends, ready_at)
        self.report.came_back(waited)
        self._after_return(number, ends)
        if number % FULL_READ_ROUNDS == 0 and number < rounds:
            self._read_anew(f"a new reader in round {number}")
        self.report.rounds = number
        if sys.stderr.isatty():
            print(f"round {number} of {rounds}: {self._progress(waited)}", file=sys.stderr)

    def _before_kill(self) -> None:
        """What else happens in a round."""

    def _after_return(self, number: int, ends: dict[Place, int]) -> None:
        """What else has to hold once the clients are back. The logs ended there when the broker was ready."""

    def _after_all(self, ends: dict[Place, int]) -> None:
        """What else has to hold after the last round. The logs end there for good."""

    def _give_up(self) -> None:
        """Leaves no process behind, however the run went."""
        for client in self.producers:
            if hasattr(client, "kill"):
                client.kill()

    def _progress(self, waited: dict[str, float]) -> str:
        came = ", ".join(f"{name} after {seconds:.2f} s" for name, seconds in waited.items())
        return f"{sum(self.ledger.acknowledged.values())} acknowledged; {came}"

    def _pause(self) -> None:
        time.sleep(self._draws.uniform(0, MOST_PAUSE_SECONDS))

    def _kill(self) -> None:
        if self.broker.process.poll() is not None:
            raise Broken(f"the broker ended by itself; its log is {self.broker.log}")
        self.broker.kill()

    def _restart(self, when: str) -> tuple[dict[Place, int], float]:
        """Starts it on what it has; the ends of the logs then, and when it was ready."""
        known = self.ledger.known_ends()
        self.broker.start()
        ready_at = time.monotonic()
        bounds = self._bounds()
        self.ledger.check_bounds(known, bounds)
        self._look(when)
        return {place: end for place, (_, end) in bounds.items()}, ready_at

    def _bounds(self) -> dict[Place, tuple[int, int]]:
        """First and next offset of every partition, as a new client is told."""
        # A new librdkafka now and then takes three seconds for this: it forgets a request that is under
        # way when it learns which broker it is that it was told to begin with.
        client = KafkaConsumer(bootstrap_servers=self.broker.address, group_id=None)
        try:
            asked = [PythonPartition(*place) for place in self._places]
            first, end = client.beginning_offsets(asked), client.end_offsets(asked)
        finally:
            client.close()
        return {tuple(place): (first[place], end[place]) for place in asked}

    def _come_back(self, when: str, ends: dict[Place, int], ready_at: float) -> dict[str, float]:
        """Waits until every client has had to do with a record at or after these ends."""
        waiting = {
            f"{client.name}'s producer": (client.name, self.ledger.has_acknowledged_beyond)
            for client in self.producers
        } | {
            f"{client.name}'s consumer": (client.name, self.ledger.has_read_beyond)
            for client in self.readers
        }
        waited: dict[str, float] = {}

        def all_back():
            for who in list(waiting):
                name, has = waiting[who]
                if has(name, ends):
                    waited[who] = time.monotonic() - ready_at
                    del waiting[who]
            return not waiting

        self._wait(all_back, lambda: f"{when}: {' and '.join(waiting)} did not come back")
        return waited

    def _wait(self, holds, late) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            self._look("")
            if time.monotonic() > end:
                raise Broken(
                    f"{late()} within {PATIENCE_SECONDS} s, and the broker runs (its log is {self.broker.log})"
                )
            time.sleep(0.005)
        self._look("")

    def _look(self, when: str) -> None:
        """Raises what the ledger or a client has found wrong meanwhile."""
        prefix = f"{when}: " if when else ""
        if self.ledger.broken:
            raise Broken(prefix + "\n".join(self.ledger.broken))
        for role, clients in (("producer", self.producers), ("consumer", self.readers)):
            for client in clients:
                if client.failed is not None:
                    raise Broken(f"{prefix}{client.name}'s {role} failed: {client.failed}")
        if self.broker.process.poll() is not None:
            raise Broken(f"{prefix}the broker ended by itself; its log is {self.broker.log}")

    def _read_anew(self, name: str) -> None:
        read_anew(self.broker.address, name, self.ledger.known_ends(), self.ledger, PATIENCE_SECONDS)
        self._look(name)

    def _end(self) -> None:
        """Lets the producers end, kills once more, and holds everything against everything."""
        for client in self.producers:
            client.stop(PATIENCE_SECONDS)
        self._look("at the end")
        self._kill()
        ends, _ = self._restart("after the last kill")
        self._after_all(ends)
        self._wait(
            lambda: not any(self.ledger.behind(client.name, ends) for client in self.readers),
            lambda: "the consumers did not come to the end of the logs",
        )
        for client in self.readers:
            client.stop(PATIENCE_SECONDS)
            self.ledger.finish_for_good(client.name, ends)
        name = "a new reader at the end"
        self._read_anew(name)
        self.ledger.finish_for_good(name, ends)
        self._look(name)
        self.report.take(self.ledger, self.producers, self.readers)
