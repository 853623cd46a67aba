"""What is written natively is read by Kafka's clients, and the other way round."""

import base64
import json

import pytest
from clients import CODECS
from conftest import check_same, every
from harness import Record, payload, varied

COUNT = 200



def decoded(found: dict, field: str) -> bytes | None:
    if f"{field}_base64" in found:
        return base64.b64decode(found[f"{field}_base64"])
    return None if found[field] is None else found[field].encode()


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
@every("read")
def test_written_natively(client, compression, millrace, name):
    if compression not in client.codecs:
        pytest.skip(f"{client.name} has no {compression} here")
    millrace.millrace("topic", "create", name, "--partitions", "1")
    lines = [b"key-%d\t" % n + payload(n, 300).hex().encode() for n in range(COUNT)]
    options = ["--key-separator", r"\t", "--header", "from=native", "--compression", compression]
    millrace.millrace("produce", name, *options, stdin=b"\n".join(lines) + b"\n")
    sent = [
        Record(key=key, value=value, headers=(("from", b"native"),))
        for key, value in (line.split(b"\t") for line in lines)
    ]
    check_same(client.read(name, 0, "earliest", COUNT), sent, f"native, {compression}")


@pytest.mark.parametrize("codec", CODECS)
@every()
def test_read_natively(client, codec, millrace, new_topic):
    if codec not in client.codecs:
        pytest.skip(f"{client.name} has no {codec} here")
    topic = new_topic(1)
    sent = varied(client.abilities, 1)
    client.produce(topic, sent, codec)
    out = millrace.millrace("consume", topic, "--partition", "0", "--output", "json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == len(sent)
    for number, (found, record) in enumerate(zip(lines, sent, strict=True)):
        headers = tuple((h["name"], decoded(h, "value")) for h in found["headers"])
        assert (found["offset"], decoded(found, "key"), decoded(found, "value"), headers) == (
            number,
            record.key,
            record.value,
            record.headers,
        )
        if record.timestamp_ms is not None:
            assert found["timestamp"] == record.timestamp_ms


def test_both_write_one_partition(millrace, new_topic, reference):
    """Records of both protocols stand in one log, each where it was acknowledged."""
    topic = new_topic(1)
    sent = []
    for turn in range(6):
        if turn % 2:
            record = Record(value=b"kafka %d" % turn)
            assert reference.produce(topic, [record]) == [turn]
        else:
            record = Record(value=b"native %d" % turn)
            out = millrace.millrace("produce", topic, "--output", "json", stdin=record.value)
            assert json.loads(out.splitlines()[0])["offset"] == turn
        sent.append(record)
    check_same(reference.read(topic, 0, "earliest", 6), sent, "both")
    out = millrace.millrace("consume", topic)
    assert out.splitlines() == [record.value for record in sent]


def test_topics_are_the_same(millrace, name, reference):
    """A topic made through one protocol, its settings and its end, show through the other."""
    millrace.millrace("topic", "create", name, "--partitions", "3", "--config", "retention.ms=3600000")
    assert sorted(reference.partitions(name)) == [0, 1, 2]
    assert reference.topic_configs(name)["retention.ms"] == "3600000"
    reference.incremental_alter_configs(name, {"retention.ms": "7200000"})
    assert b"7200000" in millrace.millrace("topic", "describe", name)
    reference.delete_topic(name)
    assert name.encode() not in millrace.millrace("topic", "list")
