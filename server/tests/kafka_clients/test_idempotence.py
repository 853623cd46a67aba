"""Idempotent producers: what each client sends is there once and in order, though it had to send it
again."""

import asyncio
import os
import subprocess

import pytest
from clients import AioKafka, Confluent, KafkaJs, KafkaPython, Kcat, Platformatic
from conftest import check_same
from harness import Broker, CuttingProxy, Record, payload

PARTITIONS = 3
# Records of one call, and calls: more than the five batches that a broker knows again.
RECORDS = 120
TURNS = 12
SECONDS = 60


def confluent(address: str, topic: str, records: list[Record]) -> None:
    from confluent_kafka import Producer

    failures = []
    producer = Producer(
        {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "log_level": 0,
            "linger.ms": 2,
            "batch.num.messages": 20,
            "reconnect.backoff.max.ms": 100,
        }
    )
    for number, record in enumerate(records):
        producer.produce(
            topic,
            record.value,
            partition=record.partition,
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
        if number % 20 == 0:
            producer.poll(0.005)
    assert producer.flush(SECONDS) == 0
    assert not failures, failures


def kafka_python(address: str, topic: str, records: list[Record]) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=address, enable_idempotence=True, linger_ms=2, batch_size=2_000
    )
    try:
        sent = [producer.send(topic, record.value, partition=record.partition) for record in records]
        for one in sent:
            one.get(timeout=SECONDS)
    finally:
        producer.close(timeout=5)


def aiokafka(address: str, topic: str, records: list[Record]) -> None:
    from aiokafka import AIOKafkaProducer

    async def run():
        producer = AIOKafkaProducer(
            bootstrap_servers=address, enable_idempotence=True, linger_ms=2, max_batch_size=2_000
        )
        await producer.start()
        try:
            sent = [
                await producer.send(topic, record.value, partition=record.partition)
                for record in records
            ]
            await asyncio.wait_for(asyncio.gather(*sent), SECONDS)
        finally:
            await producer.stop()

    asyncio.run(run())


def kcat(address: str, topic: str, records: list[Record]) -> None:
    for partition in range(PARTITIONS):
        mine = [record.value for record in records if record.partition == partition]
        # A connection that breaks is no reason to end (-E), nor to wait for seconds.
        options = ["-E", "-P", "-t", topic, "-p", str(partition), "-X", "enable.idempotence=true"]
        options += ["-X", "batch.num.messages=20", "-X", "reconnect.backoff.max.ms=100"]
        done = subprocess.run(
            [Kcat(address).program, "-b", address, *options],
            input=b"\n".join(mine),
            capture_output=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr


def node(kind):
    def send(address: str, topic: str, records: list[Record]) -> None:
        client = kind(address)
        try:
            sent = [{"value": record.value.decode(), "partition": record.partition} for record in records]
            client.call("idempotent", timeout_s=SECONDS, topic=topic, turns=in_turns(sent))
        finally:
            client.close()

    return send


def in_turns(records: list) -> list[list]:
    """The records in as many pieces as there are calls."""
    size = -(-len(records) // TURNS)
    return [records[begin : begin + size] for begin in range(0, len(records), size)]


PRODUCERS = {
    Confluent.name: confluent,
    KafkaPython.name: kafka_python,
    AioKafka.name: aiokafka,
    Kcat.name: kcat,
    KafkaJs.name: node(KafkaJs),
    Platformatic.name: node(Platformatic),
}


def records() -> list[Record]:
    value = lambda number: b"%06d %s" % (number, payload(number, 200).hex().encode())
    return [Record(value=value(n), partition=n % PARTITIONS) for n in range(RECORDS * TURNS)]


def check_once(reader, topic: str, sent: list[Record], what: str) -> None:
    for partition in range(PARTITIONS):
        mine = [record for record in sent if record.partition == partition]
        received = reader.read(topic, partition, "earliest", len(mine))
        check_same(received, mine, f"{what}, partition {partition}")
        assert reader.watermarks(topic, partition) == (0, len(mine)), what


@pytest.mark.parametrize("name", PRODUCERS)
def test_every_record_is_there_once(name, broker, new_topic, reference):
    topic = new_topic(PARTITIONS)
    sent = records()
    PRODUCERS[name](broker.address, topic, sent)
    check_once(reference, topic, sent, name)


@pytest.fixture(scope="module")
def cut_off():
    """A broker whose clients come through a proxy that keeps answers back."""
    proxy = CuttingProxy(one_in=5)
    settings = {"kafka.advertised_host": "127.0.0.1", "kafka.advertised_port": str(proxy.port)}
    broker = Broker(os.environ["MILLRACE_BINARY"], settings).start()
    proxy.pass_on_to(("127.0.0.1", broker.port))
    yield broker, proxy
    proxy.close()
    broker.stop()


@pytest.mark.parametrize("name", PRODUCERS)
def test_lost_answers_double_nothing(name, millrace, cut_off):
    broker, proxy = cut_off
    topic = f"cut-{name.strip('@').replace('/', '-')}"
    broker.millrace("topic", "create", topic, "--partitions", str(PARTITIONS))
    before, sent = proxy.cuts, records()
    PRODUCERS[name](proxy.address, topic, sent)
    cuts = proxy.cuts - before
    print(f"{name}: {cuts} answers were lost")
    assert cuts > 0, "no answer was lost: the test shows nothing"
    reader = Confluent(proxy.address)
    check_once(reader, topic, sent, f"{name} after {cuts} lost answers")
