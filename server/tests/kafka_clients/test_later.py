"""What Millrace does not serve yet: idempotent producers and transactions. Until then each
client must fail clearly, and soon: one that waits for ever looks to its user like a dead broker."""

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


@pytest.mark.parametrize("what", ["idempotent", "transaction"])
@pytest.mark.parametrize("name", [KafkaJs.name, Platformatic.name])
def test_node(name, what, all_clients, new_topic):
    client = all_clients(name)
    topic = new_topic(1)
    fails_clearly(
        f"{name}, {what}", lambda: client.call(what, timeout_s=SECONDS, topic=topic, patience=SECONDS * 1000)
    )


class TestConfluent:
    @pytest.mark.parametrize("setting", ["enable.idempotence", "transactional.id"])
    def test_careful_producers(self, setting, broker, new_topic):
        from confluent_kafka import KafkaException, Producer

        topic = new_topic(1)
        errors = []

        def send():
            producer = Producer(
                {
                    "bootstrap.servers": broker.address,
                    "log_level": 0,
                    "error_cb": errors.append,
                    setting: {"enable.idempotence": True, "transactional.id": "interop"}[setting],
                }
            )
            if setting == "transactional.id":
                producer.init_transactions(SECONDS / 2)
            producer.produce(topic, b"once", partition=0)
            end = time.monotonic() + SECONDS / 2
            while not errors and time.monotonic() < end:
                producer.poll(0.1)
            producer.purge()
            if errors:
                raise KafkaException(errors[0])

        fails_clearly(f"confluent-kafka, {setting}", send)


class TestKafkaPython:
    def test_idempotent(self, broker, new_topic):
        from kafka import KafkaProducer

        topic = new_topic(1)

        def send():
            producer = KafkaProducer(
                bootstrap_servers=broker.address, enable_idempotence=True, max_block_ms=5000
            )
            try:
                producer.send(topic, b"once", partition=0).get(timeout=SECONDS)
            finally:
                producer.close(timeout=1)

        fails_clearly("kafka-python, idempotent", send)


class TestAioKafka:
    def test_idempotent(self, broker, new_topic):
        from aiokafka import AIOKafkaProducer

        topic = new_topic(1)

        async def send():
            producer = AIOKafkaProducer(bootstrap_servers=broker.address, enable_idempotence=True)
            try:
                await producer.start()
                await producer.send_and_wait(topic, b"once", partition=0)
            finally:
                await producer.stop()

        fails_clearly("aiokafka, idempotent", lambda: AioKafka._run(send()))
