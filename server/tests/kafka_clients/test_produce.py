"""What is produced is there as it was sent: for each client, with each codec and each `acks`."""

import pytest
from clients import ALL, CODECS
from conftest import check_same, eventually, every
from harness import Failure, Record, payload, varied
from harness.failure import MESSAGE_TOO_LARGE
from harness.raw import stored_codecs

PARTITIONS = 3


def by_partition(records):
    return {p: [r for r in records if r.partition == p] for p in range(PARTITIONS)}


def check_topic(reader, topic, records):
    for partition, sent in by_partition(records).items():
        received = reader.read(topic, partition, "earliest", len(sent))
        check_same(received, sent, f"{reader.name} reads {topic}/{partition}")


@pytest.mark.parametrize("codec", CODECS)
@every()
def test_every_codec_keeps_every_field(client, codec, new_topic, reference):
    """Keys, null keys, tombstones, headers and times, over several partitions, read back by the
    client itself and by another."""
    if codec not in client.codecs:
        pytest.skip(f"{client.name} has no {codec} here")
    topic = new_topic(PARTITIONS)
    records = varied(client.abilities, PARTITIONS)
    client.produce(topic, records, codec)
    check_topic(reference, topic, records)
    if "read" in client.offers and client is not reference:
        check_topic(client, topic, records)


@pytest.mark.parametrize("codec", CODECS)
@every()
def test_records_are_stored_as_their_producer_compressed_them(client, codec, broker, new_topic):
    """A client that does not find what it looks for at a broker compresses nothing, and tells nobody."""
    if codec not in client.codecs:
        pytest.skip(f"{client.name} has no {codec} here")
    topic = new_topic(1)
    client.produce(topic, [Record(value=b"again and " * 200)] * 50, codec)
    assert stored_codecs(broker.address, topic, 0) == {codec}


@every("offsets")
def test_offsets_are_told_as_stored(client, new_topic, reference):
    topic = new_topic(PARTITIONS)
    records = varied(client.abilities, PARTITIONS)
    # Twice, so that a base offset that is not zero is told too.
    for turn in (1, 2):
        offsets = client.produce(topic, records, "lz4")
        for partition, sent in by_partition(records).items():
            told = [o for o, r in zip(offsets, records, strict=True) if r.partition == partition]
            assert told == list(range((turn - 1) * len(sent), turn * len(sent)))
            received = reference.read(topic, partition, told[0], len(sent))
            assert [r.offset for r in received] == told
            check_same(received, sent, f"turn {turn}")


@pytest.mark.parametrize("acks", ["0", "1", "all"])
@every()
def test_every_acks(client, acks, new_topic, reference):
    topic = new_topic(1)
    records = [Record(value=payload(number, 100), key=b"%d" % number) for number in range(20)]
    client.produce(topic, records, "none", acks)
    # Nothing says when records without acknowledgement are there: reading waits for them.
    check_same(reference.read(topic, 0, "earliest", len(records)), records, f"acks={acks}")


@every()
def test_a_record_just_below_the_limit_is_taken(client, new_topic, reference):
    topic = new_topic(1)
    # Kafka's default for max.message.bytes is 1048588: the whole batch, with its header.
    record = Record(value=payload(1, 1_048_000), key=b"large")
    client.produce(topic, [record])
    check_same(reference.read(topic, 0, "earliest", 1), [record], "large")
    if "read" in client.offers:
        check_same(client.read(topic, 0, "earliest", 1), [record], "large")


@every()
def test_a_record_above_the_limit_is_refused(client, new_topic, reference):
    topic = new_topic(1, max_message_bytes="50000")
    with pytest.raises(Failure) as refused:
        client.produce(topic, [Record(value=payload(1, 60_000))])
    assert refused.value.code == MESSAGE_TOO_LARGE, refused.value
    fits = Record(value=payload(2, 40_000))
    client.produce(topic, [fits])
    check_same(reference.read(topic, 0, "earliest", 1), [fits], "after the refusal")


@every()
def test_many_records_in_many_batches(client, new_topic, reference):
    """More than one batch and one request: order within each partition is that of sending."""
    topic = new_topic(PARTITIONS)
    records = [
        Record(value=payload(n, 500) + b"%d" % n, key=b"%d" % n, partition=n * 7 % PARTITIONS)
        for n in range(6000)
    ]
    for begin in range(0, len(records), 2000):
        client.produce(topic, records[begin : begin + 2000], "lz4")
    check_topic(reference, topic, records)


@every("watermarks")
def test_watermarks_follow(client, new_topic, reference):
    topic = new_topic(2)
    assert client.watermarks(topic, 1) == (0, 0)
    reference.produce(topic, [Record(value=b"x", partition=1)] * 7)
    eventually(lambda: client.watermarks(topic, 1) == (0, 7))
    assert client.watermarks(topic, 0) == (0, 0)


def test_every_client_is_here():
    """So that a client that is forgotten in the list does not go unnoticed."""
    assert [client.name for client in ALL] == [
        "confluent-kafka",
        "kafka-python",
        "aiokafka",
        "kcat",
        "kafkajs",
        "@platformatic/kafka",
    ]
