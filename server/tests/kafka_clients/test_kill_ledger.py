"""The judge of `scripts/kafka-kill` sees each fault that it is there for, and no other."""

import pytest
from kill.ledger import MOST_TOLD, Ledger
from kill.records import key_of, stream_of, value_of

PRODUCER = "sender"
HERE, THERE = ("topic", 0), ("topic", 1)


class Told:
    """A ledger, and what clients say in a few words."""

    def __init__(self):
        self.ledger = Ledger({"topic": (PRODUCER,)}, 2, lambda producer, number: value_of(1, producer, number))

    def acknowledge(self, *numbers: int, at: int = 0, place=HERE):
        for offset, number in enumerate(numbers, at):
            self.ledger.acknowledge(PRODUCER, place, offset, number)

    def give(self, reader: str, *numbers: int, at: int = 0, place=HERE):
        for offset, number in enumerate(numbers, at):
            self.ledger.give(reader, place, offset, key_of(PRODUCER, number), value_of(1, PRODUCER, number))

    def finish(self, reader: str):
        self.ledger.finish(reader, self.ledger.known_ends())

    def finish_for_good(self, reader: str):
        self.ledger.finish_for_good(reader, self.ledger.known_ends())

    def says(self, *parts: str):
        """Asserts that one promise was broken, and that this is told of it."""
        assert len(self.ledger.broken) == 1, self.ledger.broken
        for part in parts:
            assert part in self.ledger.broken[0]


class Counted(Told):
    """The same with two producers that count in each partition, and may double nothing."""

    def __init__(self):
        super().__init__()
        self.ledger = Ledger(
            {"topic": (PRODUCER, "another")},
            2,
            lambda sender, number: value_of(1, sender, number),
            streams=True,
        )

    def give(self, reader: str, *numbers: int, at: int = 0, place=HERE, producer=PRODUCER):
        stream = stream_of(producer, place[1])
        for offset, number in enumerate(numbers, at):
            self.ledger.give(reader, place, offset, key_of(stream, number), value_of(1, stream, number))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_nothing_to_say(told):
    told.acknowledge(0, 1)
    told.give("running", 0, 1, 7)
    told.acknowledge(2, at=3)
    told.give("running", 2, at=3)
    told.acknowledge(5, place=THERE)
    told.give("running", 5, place=THERE)
    told.ledger.check_bounds(told.ledger.known_ends(), {HERE: (0, 4), THERE: (0, 1)})
    for offset_0, place in (((0, 1, 7, 2), HERE), ((5,), THERE)):
        told.give("fresh", *offset_0, place=place)
    told.finish("running")
    told.finish("fresh")
    assert told.ledger.broken == []
    assert told.ledger.acknowledged == {PRODUCER: 4}
    assert told.ledger.read == {"running": 5, "fresh": 5}
    assert told.ledger.unacknowledged(PRODUCER) == 1
    assert told.ledger.duplicates(PRODUCER) == 0


def test_duplicates_are_counted_and_allowed(told):
    told.give("fresh", 0, 1, 0, 1)
    told.acknowledge(0, 1, at=2)
    told.finish("fresh")
    assert told.ledger.broken == []
    assert told.ledger.duplicates(PRODUCER) == 2
    assert told.ledger.unacknowledged(PRODUCER) == 2


def test_lost_at_the_end(told):
    told.acknowledge(0, 1)
    told.give("fresh", 0)
    told.finish("fresh")
    told.says("topic/0 offset 1", f"the acknowledgement to {PRODUCER} says record 1", "no further than 1")


def test_lost_in_another_partition(told):
    told.acknowledge(0)
    told.acknowledge(1, place=THERE)
    told.give("fresh", 0)
    told.finish("fresh")
    told.says("topic/1 offset 0")


def test_moved(told):
    told.acknowledge(0, 1)
    told.give("fresh", 0, 2, 1)
    told.finish("fresh")
    told.says("topic/0 offset 1", "fresh says record 2", "said record 1")


def test_acknowledged_where_a_consumer_saw_another(told):
    told.give("running", 0, 1)
    told.acknowledge(9, at=1)
    told.says("topic/0 offset 1", "says record 9", "running said record 1")


def test_two_acknowledged_at_one_offset(told):
    told.acknowledge(4)
    told.acknowledge(4)
    told.says("topic/0 offset 0", "acknowledged twice")


@pytest.mark.parametrize("value", [b"", None, value_of(1, PRODUCER, 0)[:-1], value_of(2, PRODUCER, 0)])
def test_changed_bytes(told, value):
    told.acknowledge(0)
    told.ledger.give("fresh", HERE, 0, key_of(PRODUCER, 0), value)
    told.says("topic/0 offset 0", f"record 0 of {PRODUCER} with other bytes")


@pytest.mark.parametrize("key", [None, b"", b"sender", b"sender:x", b"other:0", b"\xff:0"])
def test_foreign_records(told, key):
    told.ledger.give("fresh", HERE, 0, key, value_of(1, PRODUCER, 0))
    told.says("topic/0 offset 0", "a foreign record")


def test_an_unacknowledged_record_vanishes_after_a_consumer_saw_it(told):
    told.give("running", 0, 1)
    told.give("fresh", 0)
    told.finish("fresh")
    told.says("topic/0 offset 1", "running says record 1")


def test_an_unacknowledged_record_changes_after_a_consumer_saw_it(told):
    told.give("running", 0, 1)
    told.give("fresh", 0, 2)
    told.says("topic/0 offset 1", "fresh says record 2", "running said record 1")


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_consumer_goes_back_or_leaves_out(told, at):
    told.give("running", 0, 1)
    told.give("running", at, at=at)
    told.says(f"running was given offset {at} and not 2")


def test_a_consumer_does_not_begin_at_the_beginning(told):
    told.give("running", 1, at=1)
    told.says("running was given offset 1 and not 0")


def test_a_log_gets_shorter(told):
    told.acknowledge(0, 1)
    told.ledger.check_bounds(told.ledger.known_ends(), {HERE: (0, 1)})
    told.says("topic/0 ends at 1", "offset 1 was there")


def test_a_log_gets_shorter_than_the_broker_said(told):
    told.ledger.check_bounds(told.ledger.known_ends(), {HERE: (0, 3)})
    told.ledger.check_bounds(told.ledger.known_ends(), {HERE: (0, 2)})
    told.says("topic/0 ends at 2", "offset 2 was there")


def test_a_log_loses_its_beginning(told):
    told.ledger.check_bounds(told.ledger.known_ends(), {HERE: (1, 1)})
    told.says("topic/0 begins at offset 1")


def test_who_is_back(told):
    ends = {HERE: 2, THERE: 0}
    told.acknowledge(0, 1)
    told.give("running", 0, 1)
    assert not told.ledger.has_acknowledged_beyond(PRODUCER, ends)
    assert not told.ledger.has_read_beyond("running", ends)
    told.acknowledge(2, at=2)
    assert told.ledger.has_acknowledged_beyond(PRODUCER, ends)
    assert told.ledger.behind("running", told.ledger.known_ends()) == 1
    told.give("running", 2, at=2)
    assert told.ledger.has_read_beyond("running", ends)
    assert not told.ledger.has_read_beyond("another", ends)


def test_a_million_faults_are_not_all_told(told):
    told.acknowledge(*range(MOST_TOLD * 3))
    told.finish("fresh")
    assert len(told.ledger.broken) == MOST_TOLD + 1


def test_counted_nothing_to_say(counted):
    counted.acknowledge(0, 1)
    counted.give("fresh", 0, 1)
    counted.give("fresh", 0, 1, at=2, producer="another")
    counted.give("fresh", 2, at=4)
    # Each partition counts for itself, and what was not acknowledged may be there.
    counted.give("fresh", 0, 1, place=THERE)
    counted.ledger.acknowledge(PRODUCER, THERE, None, 1)
    counted.finish_for_good("fresh")
    assert counted.ledger.broken == []
    assert counted.ledger.acknowledged == {PRODUCER: 3, "another": 0}
    assert counted.ledger.unacknowledged(PRODUCER) == 2
    assert counted.ledger.unacknowledged("another") == 2


def test_counted_twice(counted):
    counted.acknowledge(0, 1)
    counted.give("fresh", 0, 1, 1)
    counted.finish("fresh")
    counted.says("topic/0 offset 2: record 1 of sender/0 once more")


def test_counted_twice_though_never_acknowledged(counted):
    counted.give("fresh", 0, 0)
    counted.finish("fresh")
    counted.says("topic/0 offset 1: record 0 of sender/0 once more")


def test_counted_twice_with_others_between(counted):
    counted.give("fresh", 0, 1)
    counted.give("fresh", 0, 1, at=2, producer="another")
    counted.give("fresh", 0, at=4)
    counted.says("topic/0 offset 4: record 0 of sender/0 once more")


def test_counted_one_left_out(counted):
    counted.give("fresh", 0, 2, 3)
    counted.says("topic/0 offset 1: record 2 of sender/0 comes where number 1 is due")


def test_counted_out_of_order(counted):
    counted.give("fresh", 0, 2, 1)
    assert len(counted.ledger.broken) == 2
    assert "record 2 of sender/0 comes where number 1 is due" in counted.ledger.broken[0]
    assert "record 1 of sender/0 once more" in counted.ledger.broken[1]


def test_counted_acknowledged_wherever_and_lost(counted):
    counted.ledger.acknowledge(PRODUCER, HERE, None, 2)
    counted.give("fresh", 0, 1)
    # While producers run on it may only be further on.
    counted.finish("fresh")
    assert counted.ledger.broken == []
    counted.finish_for_good("fresh")
    counted.says("topic/0: record 2 of sender/0 was acknowledged", "none after number 1")


def test_counted_in_the_partition_of_another(counted):
    stream = stream_of(PRODUCER, HERE[1])
    counted.ledger.give("fresh", THERE, 0, key_of(stream, 0), value_of(1, stream, 0))
    counted.says("topic/1 offset 0", "a foreign record")


def test_a_member_hears_the_same_as_everybody(counted):
    counted.give("fresh", 0, 1)
    counted.ledger.hear("member", HERE, 1, "sender/0:1", True)
    assert counted.ledger.broken == []


@pytest.mark.parametrize(
    ("key", "whole", "told_of_it"),
    [
        ("sender/0:2", True, "member says record 2 of sender/0, fresh said record 1 of sender/0"),
        ("sender/0:1", False, "member was given record 1 of sender/0 with other bytes"),
        ("sender/1:1", True, "member was given a foreign record"),
        ("", True, "member was given a foreign record"),
    ],
)
def test_a_member_hears_something_else(counted, key, whole, told_of_it):
    counted.give("fresh", 0, 1)
    counted.ledger.hear("member", HERE, 1, key, whole)
    counted.says("topic/0 offset 1", told_of_it)
