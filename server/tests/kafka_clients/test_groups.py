"""Consumer groups: members that come, go and die share a topic, and every record is given to one of them;
groups as they are seen and changed from outside."""

import os
import time

import pytest
from clients import AioKafka, Confluent, KafkaJs, KafkaPython, Platformatic
from conftest import Elsewhere, eventually, every, numbers
from harness import Broker, Failure, Record
from harness.failure import GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP, UNKNOWN_MEMBER_ID
from members import Member

PARTITIONS = 4
ALL = set(range(PARTITIONS))
#: Short, so that a death is noticed soon.
SESSION_MS = 3_000
#: Long enough for a member to be started anew within it, however busy the machine.
LONG_SESSION_MS = 30_000
SETTLE_SECONDS = 60

CONSUMERS = [client.name for client in (Confluent, KafkaPython, AioKafka, KafkaJs, Platformatic)]
#: kafkajs has no lasting names.
LASTING = [name for name in CONSUMERS if name != KafkaJs.name]
#: The others give up everything whenever their group shares out anew.
COOPERATIVE = [Confluent.name, KafkaPython.name]


@pytest.fixture(scope="module")
def quick(broker):
    """A broker whose new groups do not wait for more members, and which allows short sessions."""
    if isinstance(broker, Elsewhere):
        yield broker
        return
    settings = {
        "groups.initial_rebalance_delay_ms": "0",
        "groups.min_session_timeout_ms": "1000",
    }
    running = Broker(os.environ["MILLRACE_BINARY"], settings).start()
    yield running
    running.stop()


class Group:
    """A group, its topic, and what was sent there."""

    def __init__(self, broker, name: str):
        self.broker = broker
        self.name = name
        self.topic = f"{name}-topic"
        self.members: list[Member] = []
        self.sent: dict[tuple[int, int], str] = {}
        self._client = Confluent(broker.address)
        self._client.create_topic(self.topic, PARTITIONS)

    def join(self, client: str, session_ms: int = SESSION_MS, **options) -> Member:
        member = Member(
            client,
            address=self.broker.address,
            group=self.name,
            topic=self.topic,
            session_ms=session_ms,
            **options,
        )
        self.members.append(member)
        return member

    def send(self, count: int = 5) -> None:
        """Sends so many records to each partition."""
        places = [partition for partition in sorted(ALL) for _ in range(count)]
        values = [f"{self.name} {len(self.sent) + number}" for number in range(len(places))]
        records = [
            Record(value=value.encode(), partition=partition)
            for partition, value in zip(places, values, strict=True)
        ]
        offsets = self._client.produce(self.topic, records)
        for partition, offset, value in zip(places, offsets, values, strict=True):
            self.sent[partition, offset] = value

    def must_have_shared(self, *members: Member) -> None:
        """Waits until these have all partitions between them, none twice, and none without any."""

        def shared():
            had = [member.assigned for member in members]
            return all(had) and sum(map(len, had)) == PARTITIONS and set().union(*had) == ALL

        settled(shared, lambda: f"shared out as {[member.assignments for member in members]}")

    def must_have_received(self) -> None:
        """Waits until each record that was sent was committed by one member, and by one only."""

        def received():
            return len(self.sent) <= sum(len(member.committed) for member in self.members)

        settled(received, lambda: f"committed {[len(member.committed) for member in self.members]}")
        together: dict[tuple[int, int], str] = {}
        for member in self.members:
            assert not member.twice, f"{member.name} was given committed records: {member.twice}"
            again = together.keys() & member.committed.keys()
            assert not again, f"{member.name} was given what another had committed: {again}"
            together |= member.committed
        assert together == self.sent

    def end(self) -> None:
        for member in self.members:
            member.die()


def settled(holds, what) -> None:
    end = time.monotonic() + SETTLE_SECONDS
    while not holds():
        assert time.monotonic() < end, f"not within {SETTLE_SECONDS} s; {what()}"
        time.sleep(0.05)


@pytest.fixture
def group(quick):
    made = Group(quick, f"group-{os.getpid()}-{next(numbers)}")
    yield made
    made.end()


@pytest.mark.parametrize("name", CONSUMERS)
def test_two_share_and_one_leaves(name, group):
    first = group.join(name)
    first.wait_for(*ALL)
    group.send()
    group.must_have_received()
    second = group.join(name)
    group.must_have_shared(first, second)
    group.send()
    group.must_have_received()
    second.leave()
    # By its word, long before its session would be over.
    first.wait_for(*ALL)
    group.send()
    group.must_have_received()
    first.leave()


@pytest.mark.parametrize("name", CONSUMERS)
def test_one_dies(name, group):
    first = group.join(name)
    first.wait_for(*ALL)
    second = group.join(name)
    group.must_have_shared(first, second)
    group.send()
    group.must_have_received()
    second.die()
    group.send()
    first.wait_for(*ALL)
    group.must_have_received()


@pytest.mark.parametrize("name", LASTING)
def test_a_member_with_a_lasting_name_comes_back_unnoticed(name, group):
    first = group.join(name, LONG_SESSION_MS, instance="one")
    first.wait_for(*ALL)
    second = group.join(name, LONG_SESSION_MS, instance="two")
    group.must_have_shared(first, second)
    group.send()
    group.must_have_received()
    before = list(first.assignments)
    had = second.assigned
    second.die()
    again = group.join(name, LONG_SESSION_MS, instance="two")
    again.wait_for(*had)
    group.send()
    group.must_have_received()
    assert first.assignments == before, "the other was disturbed"


@pytest.mark.parametrize("name", COOPERATIVE)
def test_cooperative_members_keep_what_stays_theirs(name, group):
    first = group.join(name, assignor="cooperative-sticky")
    first.wait_for(*ALL)
    alone = len(first.assignments)
    second = group.join(name, assignor="cooperative-sticky")
    group.must_have_shared(first, second)
    group.send()
    group.must_have_received()
    since = first.assignments[alone - 1 :]
    assert all(len(had) >= PARTITIONS // 2 for had in since), f"it gave up more than it had to: {since}"
    second.leave()
    first.wait_for(*ALL)
    kept = first.assignments[-1] & since[-1]
    assert kept == since[-1], "and kept it when it got the rest"


def test_clients_of_several_kinds_share(group):
    names = [Confluent.name, KafkaPython.name, AioKafka.name]
    members = [group.join(name, LONG_SESSION_MS) for name in names]
    group.must_have_shared(*members)
    group.send()
    group.must_have_received()
    members[0].leave()
    group.must_have_shared(*members[1:])
    group.send()
    group.must_have_received()


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_group_outlives_the_brokers_death(name, group, millrace):
    first = group.join(name, LONG_SESSION_MS)
    second = group.join(name, LONG_SESSION_MS)
    group.must_have_shared(first, second)
    group.send()
    group.must_have_received()
    group.broker.kill()
    group.broker.start()
    group.send()
    # Nothing that was committed is given again.
    group.must_have_received()
    group.must_have_shared(first, second)


@pytest.mark.parametrize("name", CONSUMERS)
def test_the_first_record_of_a_new_group(name, broker, new_topic, reference):
    """With what brokers and clients do unless told otherwise: how long it takes is told, and no matter."""
    topic = new_topic(1)
    reference.produce(topic, [Record(value=b"first", partition=0)])
    began = time.monotonic()
    member = Member(
        name, address=broker.address, group=topic, topic=topic, session_ms=LONG_SESSION_MS
    )
    try:
        member.wait_until(lambda: member.committed, "given the first record")
    finally:
        member.die()
    print(f"{name}: the first record {time.monotonic() - began:.2f} s after its process was started")


def refused(code: int, function, *arguments) -> None:
    with pytest.raises(Failure) as refusal:
        function(*arguments)
    assert refusal.value.code == code, refusal.value


@every("groups", "group_state", "group_offsets")
def test_groups_without_members_from_outside(client, name, new_topic, reference):
    topic = new_topic(2)
    reference.set_group_offset(name, topic, 1, 7)
    assert name in client.groups()
    assert client.group_state(name) == "Empty"
    assert client.group_offsets(name, topic) == {1: 7}
    if "set_group_offset" in client.offers:
        client.set_group_offset(name, topic, 0, 3)
        assert reference.group_offsets(name, topic) == {0: 3, 1: 7}
    if "delete_group" in client.offers:
        client.delete_group(name)
        eventually(lambda: name not in client.groups())
        assert reference.group_offsets(name, topic) == {}
        refused(GROUP_ID_NOT_FOUND, client.delete_group, name)


@every("groups", "delete_group", "set_group_offset")
def test_groups_with_members_from_outside(client, group):
    member = group.join(Confluent.name)
    member.wait_for(*ALL)
    group.send()
    group.must_have_received()
    asking = type(client)(group.broker.address)
    try:
        assert group.name in asking.groups()
        eventually(lambda: asking.group_state(group.name) == "Stable")
        assert asking.group_offsets(group.name, group.topic) == dict.fromkeys(ALL, 5)
        refused(NON_EMPTY_GROUP, asking.delete_group, group.name)
        refused(UNKNOWN_MEMBER_ID, asking.set_group_offset, group.name, group.topic, 0, 0)
        member.leave()
        eventually(lambda: asking.group_state(group.name) == "Empty")
        asking.set_group_offset(group.name, group.topic, 0, 2)
    finally:
        asking.close()
    # Its next member reads again from where it was put back to.
    next_member = group.join(Confluent.name)
    again = {(0, offset) for offset in range(2, 5)}
    next_member.wait_until(lambda: next_member.committed.keys() == again, f"given {again} again")
