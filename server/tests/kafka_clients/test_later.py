"""What Millrace does not serve yet: groups and transactions. Until then each client must fail clearly,
and soon: one that waits for ever looks to its user like a dead broker."""

import asyncio
import time

import pytest
from clients import AioKafka, Confluent, KafkaJs, KafkaPython, Platformatic
from conftest import InBackground
from harness import Failure

# What the test gives a client to find out. Clients try again a few times.
SECONDS = 20
pytestmark = pytest.mark.usefixtures("millrace")


def fails_clearly(what: str, function) -> None:
    """Asserts that it ends with a failure, in time, and says how."""
    began = time.monotonic()
    with pytest.raises(Exception) as failed:
        value, _ = InBackground(function).result(SECONDS + 10)
        print(f"{what} gave {value!r}")
    assert not isinstance(failed.value, (AssertionError, TimeoutError)), failed.value
    took = time.monotonic() - began
    print(f"{what}: {type(failed.value).__name__}: {failed.value} after {took:.1f} s")
    assert took < SECONDS


@pytest.mark.parametrize("what", ["group", "transaction"])
@pytest.mark.parametrize("name", [KafkaJs.name, Platformatic.name])
def test_node(name, what, all_clients, new_topic):
    client = all_clients(name)
    topic = new_topic(1)
    fails_clearly(
        f"{name}, {what}", lambda: client.call(what, timeout_s=SECONDS, topic=topic, patience=SECONDS * 1000)
    )


class TestConfluent:
    def test_group(self, broker, new_topic):
        from confluent_kafka import Consumer, KafkaException

        topic = new_topic(1)

        def read():
            consumer = Consumer(
                {"bootstrap.servers": broker.address, "group.id": "interop", "log_level": 0}
            )
            try:
                consumer.subscribe([topic])
                message = consumer.poll(SECONDS)
                if message is not None and message.error():
                    raise KafkaException(message.error())
            finally:
                consumer.close()

        fails_clearly("confluent-kafka, group", read)

    def test_transaction(self, broker, new_topic):
        from confluent_kafka import KafkaException, Producer

        topic = new_topic(1)
        errors = []

        def send():
            producer = Producer(
                {
                    "bootstrap.servers": broker.address,
                    "log_level": 0,
                    "error_cb": errors.append,
                    "transactional.id": "interop",
                }
            )
            producer.init_transactions(SECONDS / 2)
            producer.produce(topic, b"once", partition=0)
            end = time.monotonic() + SECONDS / 2
            while not errors and time.monotonic() < end:
                producer.poll(0.1)
            producer.purge()
            if errors:
                raise KafkaException(errors[0])

        fails_clearly("confluent-kafka, transactional.id", send)


class TestKafkaPython:
    def test_group(self, broker, new_topic):
        from kafka import KafkaConsumer

        topic = new_topic(1)

        def read():
            consumer = KafkaConsumer(
                topic,
                bootstrap_servers=broker.address,
                group_id="interop",
                auto_offset_reset="earliest",
            )
            consumer.poll(timeout_ms=SECONDS * 1000)

        fails_clearly("kafka-python, group", read)


class TestAioKafka:
    def test_group(self, broker, new_topic, caplog):
        """It finds the coordinator, and then tries to join for as long as it lives: it does not fail, but
        says what it misses each time."""
        from aiokafka import AIOKafkaConsumer

        topic = new_topic(1)

        async def read():
            consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker.address, group_id="interop")
            joining = asyncio.ensure_future(consumer.start())
            end = time.monotonic() + SECONDS
            while "JoinGroupRequest cannot be used" not in caplog.text and time.monotonic() < end:
                await asyncio.sleep(0.05)
            joining.cancel()
            await consumer.stop()

        AioKafka._run(read())
        assert "JoinGroupRequest cannot be used" in caplog.text
