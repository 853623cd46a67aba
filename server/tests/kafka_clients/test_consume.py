"""Reading by assignment: from offsets, from times, at the ends and beyond, and waking up."""

import time

import pytest
from clients import CODECS
from conftest import InBackground, check_same, every
from harness import Failure, Record, payload
from harness.failure import OFFSET_OUT_OF_RANGE

COUNT = 100
FIRST_MS = 1_700_000_000_000


@pytest.fixture
def filled(new_topic, reference):
    """A topic of two partitions; the second has 100 records, a second apart, in several batches."""
    topic = new_topic(2)
    records = [
        Record(value=payload(n, 50 + n), key=b"%d" % n, timestamp_ms=FIRST_MS + n * 1000, partition=1)
        for n in range(COUNT)
    ]
    # Batches of ten, of all codecs in turn.
    for batch in range(0, COUNT, 10):
        reference.produce(topic, records[batch : batch + 10], CODECS[batch // 10 % 4])
    return topic, records


@every("read")
def test_from_every_place(client, filled):
    topic, records = filled
    check_same(client.read(topic, 1, "earliest", COUNT), records, "earliest")
    # Within a batch, at a batch's begin, and the last one.
    for start in (1, 37, 40, 99):
        received = client.read(topic, 1, start, COUNT - start)
        assert received[0].offset == start
        check_same(received, records[start:], f"from {start}")


@every("offsets_for_time")
def test_offsets_for_times(client, filled):
    topic, _ = filled

    def at(ms):
        return client.offsets_for_time(topic, {1: ms})[1]

    assert at(FIRST_MS - 1) == 0
    assert at(FIRST_MS) == 0
    assert at(FIRST_MS + 1) == 1
    # In the middle of a batch, and between two.
    assert at(FIRST_MS + 36_500) == 37
    assert at(FIRST_MS + 39_001) == 40
    assert at(FIRST_MS + 99_000) == 99
    assert at(FIRST_MS + 99_001) is None
    # A partition without records has none at any time.
    assert client.offsets_for_time(topic, {0: FIRST_MS})[0] is None


@every("read", "offsets_for_time")
def test_from_a_time(client, filled):
    topic, records = filled
    start = client.offsets_for_time(topic, {1: FIRST_MS + 62_345})[1]
    received = client.read(topic, 1, start, COUNT - 63)
    assert received[0].timestamp_ms == FIRST_MS + 63_000
    check_same(received, records[63:], "from a time")


@every("max_timestamp")
def test_the_latest_time(client, new_topic, reference):
    topic = new_topic(1)
    for ms in (5000, 9000, 7000):
        reference.produce(topic, [Record(value=b"x", timestamp_ms=FIRST_MS + ms)])
    assert client.max_timestamp(topic, 0) == (1, FIRST_MS + 9000)


@every("read")
def test_beyond_the_end(client, filled):
    topic, records = filled
    with pytest.raises(Failure) as refused:
        client.read(topic, 1, COUNT + 50, 1, reset="error", timeout_s=10)
    assert refused.value.code == OFFSET_OUT_OF_RANGE, refused.value
    received = client.read(topic, 1, COUNT + 50, COUNT, reset="earliest")
    check_same(received, records, "reset to the earliest")


@every("read")
def test_before_the_begin(client, filled, reference):
    topic, records = filled
    reference.delete_records(topic, 1, 25)
    with pytest.raises(Failure) as refused:
        client.read(topic, 1, 3, 1, reset="error", timeout_s=10)
    assert refused.value.code == OFFSET_OUT_OF_RANGE, refused.value
    received = client.read(topic, 1, 3, COUNT - 25, reset="earliest")
    assert received[0].offset == 25
    check_same(received, records[25:], "after deleting")


# What a fetch may wait at most, and what is a wake-up and not the end of that wait.
FETCH_WAIT_MS = 20_000
WAKES_WITHIN_SECONDS = 5


@pytest.mark.parametrize("start", ["latest", COUNT])
@every("read")
def test_wakes_at_a_new_record(client, start, filled, reference):
    topic, _ = filled
    new = Record(value=b"wake up", partition=1)
    reading = InBackground(
        lambda: client.read(topic, 1, start, 1, max_wait_ms=FETCH_WAIT_MS, timeout_s=30)
    )
    # Long enough for it to have connected, and to wait in the broker.
    time.sleep(2.5)
    assert not reading.ended(), f"it read {reading.result(0)} although nothing was sent"
    sent_at = time.monotonic()
    reference.produce(topic, [new])
    received, came_at = reading.result(60)
    check_same(received, [new], "the new record")
    assert received[0].offset == COUNT
    assert came_at - sent_at < WAKES_WITHIN_SECONDS


@every("read")
def test_a_batch_larger_than_the_fetch_comes_whole(client, new_topic, reference):
    """The first batch is sent whatever its size, or a small limit would stop a reader for good."""
    topic = new_topic(1, max_message_bytes="6000000")
    records = [Record(value=payload(number, 5_000_000)) for number in range(2)]
    for record in records:
        reference.produce(topic, [record])
    check_same(client.read(topic, 0, "earliest", 2), records, "larger than the fetch")
