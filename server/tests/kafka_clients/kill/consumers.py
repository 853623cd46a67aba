"""The consumers that run for all rounds, by assignment (groups are not needed for this), and the reader
that begins anew."""

import time

from confluent_kafka import Consumer, KafkaException, TopicPartition
from kafka import KafkaConsumer
from kafka import TopicPartition as PythonPartition

from .ledger import Ledger, Place
from .producers import Running


def confluent_consumer(address: str, places: list[Place]) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            # It asks for a name of a group even where no group is used.
            "group.id": "none",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # An offset that is not there any more is what this test looks for, not a reason to begin anew.
            "auto.offset.reset": "error",
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in places])
    return consumer


def give_all(consumer: Consumer, name: str, ledger: Ledger, timeout_s: float) -> int:
    """Hands on what is there; how many records."""
    messages = consumer.consume(num_messages=500, timeout=timeout_s)
    for message in messages:
        if message.error():
            raise KafkaException(message.error())
        place = (message.topic(), message.partition())
        ledger.give(name, place, message.offset(), message.key(), message.value())
    return len(messages)


class ConfluentReader(Running):
    name = "confluent-kafka"

    def __init__(self, address: str, places: list[Place], ledger: Ledger):
        super().__init__()
        self._consumer = confluent_consumer(address, places)
        self._ledger = ledger

    def _run(self):
        while not self.stopping.is_set():
            give_all(self._consumer, self.name, self._ledger, timeout_s=0.1)
        self._consumer.close()


class KafkaPythonReader(Running):
    name = "kafka-python"

    def __init__(self, address: str, places: list[Place], ledger: Ledger):
        super().__init__()
        self._consumer = KafkaConsumer(
            bootstrap_servers=address, group_id=None, enable_auto_commit=False, auto_offset_reset="none"
        )
        assigned = [PythonPartition(topic, partition) for topic, partition in places]
        self._consumer.assign(assigned)
        for place in assigned:
            self._consumer.seek(place, 0)
        self._ledger = ledger

    def _run(self):
        while not self.stopping.is_set():
            for place, records in self._consumer.poll(timeout_ms=100).items():
                for record in records:
                    self._ledger.give(self.name, tuple(place), record.offset, record.key, record.value)
        self._consumer.close()


READERS = (ConfluentReader, KafkaPythonReader)


def read_anew(
    address: str, name: str, ends: dict[Place, int], ledger: Ledger, patience_s: float
) -> None:
    """Reads everything from the first offset to these ends with a client of its own."""
    consumer = confluent_consumer(address, list(ends))
    try:
        last = time.monotonic()
        # What it does not come to is told by `finish`.
        while ledger.behind(name, ends) and time.monotonic() - last < patience_s:
            if give_all(consumer, name, ledger, timeout_s=0.1):
                last = time.monotonic()
    finally:
        consumer.close()
    ledger.finish(name, ends)
