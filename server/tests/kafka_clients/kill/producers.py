"""The producers, which run for all rounds and have to find the broker again by themselves."""

import json
import os
import random
import subprocess
import threading
import time
from pathlib import Path

from confluent_kafka import Producer

from .ledger import Ledger
from .records import PARTITIONS, key_of, partition_of, stream_of, value_of

NODE_PROGRAM = Path(__file__).parent.parent / "node" / "kill_producer.mjs"
#: So many records at most wait for their acknowledgement.
MOST_UNDER_WAY = 2_000


class Running:
    """Something that runs in a thread until it is told to stop. `failed` says why it ended early."""

    name = ""

    def __init__(self):
        self.failed: str | None = None
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name=self.name, daemon=True)

    def start(self):
        self._thread.start()
        return self

    def stop(self, timeout_s: float) -> None:
        """Tells it to stop and waits until what was under way has ended."""
        self.stopping.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self.failed is None:
            self.failed = f"did not end within {timeout_s} s of being told to"

    def _guarded(self):
        try:
            self._run()
        except Exception as error:
            self.failed = f"{type(error).__name__}: {error}"

    def _run(self):
        raise NotImplementedError


class ConfluentProducer(Running):
    """librdkafka with its own settings: it tries a record again for as long as five minutes."""

    name = "confluent-kafka"
    topic = "kill-librdkafka"

    def __init__(self, address: str, seed: int, ledger: Ledger):
        super().__init__()
        self.unsent = 0
        self.errors: set[str] = set()
        self._ledger = ledger
        self._seed = seed
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "acks": "all",
                "enable.idempotence": False,
                "compression.type": "lz4",
                "log_level": 0,
            }
        )
        self._under_way = 0

    def _run(self):
        draws = random.Random(f"{self._seed} {self.name}")
        number = 0
        while not self.stopping.is_set():
            for _ in range(min(draws.randint(1, 40), MOST_UNDER_WAY - self._under_way)):
                self._send(number)
                number += 1
            self._producer.poll(draws.uniform(0, 0.02))
        while self._under_way:
            self._producer.poll(0.1)

    def _send(self, number: int) -> None:
        def delivered(error, message):
            self._under_way -= 1
            if error is not None:
                self.unsent += 1
                self.errors.add(error.str())
            else:
                place = (self.topic, message.partition())
                self._ledger.acknowledge(self.name, place, message.offset(), number)

        self._under_way += 1
        self._producer.produce(
            self.topic,
            key=key_of(self.name, number),
            value=value_of(self._seed, self.name, number),
            partition=partition_of(self._seed, self.name, number),
            on_delivery=delivered,
        )


class KafkaJsProducer(Running):
    """kafkajs in a process of its own, which prints a line for each acknowledgement.

    kafkajs gives a `send` up after its retries, and its caller goes on with the next: such records are
    counted in `unsent` and promised to nobody.
    """

    name = "kafkajs"
    topic = "kill-kafkajs"

    def __init__(self, address: str, seed: int, ledger: Ledger):
        super().__init__()
        self.unsent = 0
        self.errors: set[str] = set()
        self._ledger = ledger
        self._process = subprocess.Popen(
            ["node", str(NODE_PROGRAM), os.environ["KAFKA_CLIENTS_NODE_MODULES"], address]
            + [self.topic, self.name, str(seed), str(PARTITIONS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _run(self):
        for line in self._process.stdout:
            told = json.loads(line)
            if "failed" in told:
                self.unsent += told["records"]
                self.errors.add(told["failed"])
                continue
            place = (self.topic, told["partition"])
            # A batch gets offsets in the order in which its records were given to `send`.
            for offset, number in enumerate(told["numbers"], int(told["baseOffset"])):
                self._ledger.acknowledge(self.name, place, offset, number)
        status = self._process.wait()
        if status != 0 or not self.stopping.is_set():
            self.failed = f"its process ended with {status}"

    def stop(self, timeout_s: float) -> None:
        self.stopping.set()
        # The end of its standard input tells it to send no more.
        self._process.stdin.close()
        super().stop(timeout_s)

    def kill(self) -> None:
        self._process.kill()


class IdempotentProducer(Running):
    """librdkafka that never doubles a record and never gives one up, with several requests under way.

    Its records are counted in each partition for itself, so that one that is left out shows as well.
    """

    topic = "kill-idempotent"

    def __init__(self, address: str, seed: int, ledger: Ledger):
        super().__init__()
        #: None of its records may be given up: it ends with the first.
        self.unsent = 0
        self.errors: set[str] = set()
        self._ledger = ledger
        self._seed = seed
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": True,
                "max.in.flight.requests.per.connection": 5,
                # Small batches, so that a burst takes many requests and a kill hits several of them.
                "batch.num.messages": 10,
                "linger.ms": 1,
                # However long the broker is away: what was given up could not be counted on any more.
                "message.timeout.ms": 0,
                "compression.type": "lz4",
                "log_level": 0,
            }
        )
        self._numbers = [0] * PARTITIONS
        self._under_way = 0

    def _run(self):
        draws = random.Random(f"{self._seed} {self.name}")
        while not self.stopping.is_set() and not self.errors:
            # In bursts, with pauses: a group of a few processes has to keep up on a busy machine.
            burst = draws.choice((1, 2, 5, 10, 100))
            for _ in range(min(burst, MOST_UNDER_WAY - self._under_way)):
                self._send(draws.randrange(PARTITIONS))
            until = time.monotonic() + draws.uniform(0, 0.1)
            while (left := until - time.monotonic()) > 0:
                self._producer.poll(left)
        while self._under_way and not self.errors:
            self._producer.poll(0.1)
        if self.errors:
            raise RuntimeError(f"it gave a record up: {'; '.join(self.errors)}")

    def _send(self, partition: int) -> None:
        number = self._numbers[partition]
        self._numbers[partition] += 1

        def delivered(error, message):
            self._under_way -= 1
            if error is not None:
                self.unsent += 1
                self.errors.add(error.str())
                return
            # A batch that the broker remembers no more as one of the last five is there, it cannot say where.
            offset = message.offset() if message.offset() >= 0 else None
            self._ledger.acknowledge(self.name, (self.topic, message.partition()), offset, number)

        stream = stream_of(self.name, partition)
        self._under_way += 1
        self._producer.produce(
            self.topic,
            key=key_of(stream, number),
            value=value_of(self._seed, stream, number),
            partition=partition,
            on_delivery=delivered,
        )


class FirstIdempotentProducer(IdempotentProducer):
    name = "idempotent-1"


class SecondIdempotentProducer(IdempotentProducer):
    name = "idempotent-2"


PRODUCERS = (ConfluentProducer, KafkaJsProducer)
#: They share a topic, so that their batches lie between each other's.
IDEMPOTENT_PRODUCERS = (FirstIdempotentProducer, SecondIdempotentProducer)
