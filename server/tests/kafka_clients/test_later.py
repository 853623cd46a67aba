"""What Millrace does not serve yet: transactions. Until then each client must fail clearly, and soon:
one that waits for ever looks to its user like a dead broker."""

import time

import pytest
from clients import KafkaJs, Platformatic
from conftest import InBackground

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


@pytest.mark.parametrize("name", [KafkaJs.name, Platformatic.name])
def test_node(name, all_clients, new_topic):
    client = all_clients(name)
    topic = new_topic(1)

    def send():
        return client.call("transaction", timeout_s=SECONDS, topic=topic, patience=SECONDS * 1000)

    fails_clearly(f"{name}, transaction", send)


def test_confluent(broker, new_topic):
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
