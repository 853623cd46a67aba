"""The admin calls, in each client that offers them."""

import pytest
from conftest import eventually, every
from harness import Failure, Record
from harness.failure import (
    ELECTION_NOT_NEEDED,
    INVALID_CONFIG,
    INVALID_PARTITIONS,
    INVALID_REPLICA_ASSIGNMENT,
    INVALID_REPLICATION_FACTOR,
    INVALID_TOPIC_EXCEPTION,
    NO_REASSIGNMENT_IN_PROGRESS,
    TOPIC_ALREADY_EXISTS,
    UNKNOWN_TOPIC_OR_PARTITION,
)


def refused(code: int, call, *arguments, **options) -> None:
    """Asserts that a call is refused with this of Kafka's errors."""
    with pytest.raises(Failure) as failed:
        call(*arguments, **options)
    assert failed.value.code == code, failed.value


@every("create_topic", "delete_topic", "topics", "partitions")
def test_a_topic_is_made_and_deleted(client, name, reference):
    client.create_topic(name, 4)
    eventually(lambda: name in client.topics())
    eventually(lambda: sorted(client.partitions(name)) == [0, 1, 2, 3])
    leaders = set(client.partitions(name).values())
    assert leaders <= {node for node, *_ in reference.cluster()["brokers"]}
    refused(TOPIC_ALREADY_EXISTS, client.create_topic, name, 4)
    client.delete_topic(name)
    eventually(lambda: name not in client.topics())
    refused(UNKNOWN_TOPIC_OR_PARTITION, client.delete_topic, name)
    # The name is free again, and nothing of the old topic is left.
    client.create_topic(name, 1)
    eventually(lambda: sorted(client.partitions(name)) == [0])
    assert reference.watermarks(name, 0) == (0, 0)


@every("topics", "partitions")
def test_topics_made_by_others_are_listed(client, new_topic):
    topics = {new_topic(1): 1, new_topic(5): 5}
    eventually(lambda: topics.keys() <= client.topics())
    for topic, partitions in topics.items():
        assert sorted(client.partitions(topic)) == list(range(partitions))


@pytest.mark.parametrize("bad", ["", ".", "no spaces", "x" * 250, "sla/sh"])
@every("create_topic")
def test_bad_names_are_refused(client, bad):
    if bad == "" and client.name == "kafkajs":
        with pytest.raises(Failure):  # It refuses that one by itself.
            client.create_topic(bad)
        return
    refused(INVALID_TOPIC_EXCEPTION, client.create_topic, bad)


@every("create_topic")
def test_bad_topics_are_refused(client, name, reference):
    refused(INVALID_CONFIG, client.create_topic, name, 1, {"no.such.key": "1"})
    refused(INVALID_CONFIG, client.create_topic, name, 1, {"retention.ms": "soon"})
    refused(INVALID_REPLICATION_FACTOR, client.create_topic, name, 1, replication=3)
    if client.name != "confluent-kafka":  # It refuses that one by itself.
        refused(INVALID_PARTITIONS, client.create_topic, name, 0)
    assert name not in reference.topics()


@every("create_topic", "validate_only")
def test_validate_only_makes_nothing(client, name, reference, new_topic):
    client.create_topic(name, 2, {"retention.ms": "3600000"}, validate_only=True)
    refused(INVALID_CONFIG, client.create_topic, name, 2, {"no.such.key": "1"}, validate_only=True)
    taken = new_topic(1)
    refused(TOPIC_ALREADY_EXISTS, client.create_topic, taken, validate_only=True)
    assert name not in reference.topics()


@every("create_topic", "topic_configs")
def test_configs_given_at_creation(client, name):
    client.create_topic(name, 1, {"retention.ms": "3600000", "compression.type": "zstd"})
    eventually(lambda: name in client.topics())
    found = client.topic_configs(name)
    assert found["retention.ms"] == "3600000"
    assert found["compression.type"] == "zstd"
    assert int(found["max.message.bytes"]) > 0


@every("create_partitions")
def test_partitions_are_added(client, new_topic, reference):
    topic = new_topic(1)
    reference.produce(topic, [Record(value=b"stays")])
    client.create_partitions(topic, 3, validate_only=True)
    refused(INVALID_PARTITIONS, client.create_partitions, topic, 1)
    assert sorted(reference.partitions(topic)) == [0]
    client.create_partitions(topic, 3)
    eventually(lambda: sorted(reference.partitions(topic)) == [0, 1, 2])
    refused(INVALID_PARTITIONS, client.create_partitions, topic, 2)
    reference.produce(topic, [Record(value=b"new", partition=2)])
    assert reference.read(topic, 2, "earliest", 1)[0].value == b"new"
    assert reference.read(topic, 0, "earliest", 1)[0].value == b"stays"


@every("create_partitions")
def test_partitions_of_no_topic(client, name):
    refused(UNKNOWN_TOPIC_OR_PARTITION, client.create_partitions, name, 3)


@every("alter_configs", "topic_configs")
def test_altering_sets_all_that_is_named(client, new_topic):
    topic = new_topic(1)
    default = client.topic_configs(topic)["max.message.bytes"]
    client.alter_configs(topic, {"retention.ms": "7200000", "max.message.bytes": "70000"})
    eventually(lambda: client.topic_configs(topic)["retention.ms"] == "7200000")
    assert client.topic_configs(topic)["max.message.bytes"] == "70000"
    refused(INVALID_CONFIG, client.alter_configs, topic, {"retention.ms": "soon"})
    if client.name == "kafka-python":
        return  # It sends along what was set before, so that nothing goes back to its default.
    client.alter_configs(topic, {"retention.ms": "9000000"})
    eventually(lambda: client.topic_configs(topic)["retention.ms"] == "9000000")
    assert client.topic_configs(topic)["max.message.bytes"] == default


@every("incremental_alter_configs", "topic_configs")
def test_altering_incrementally_changes_what_is_named(client, new_topic):
    topic = new_topic(1)
    default = client.topic_configs(topic)["max.message.bytes"]
    alter = client.incremental_alter_configs
    alter(topic, {"retention.ms": "7200000", "max.message.bytes": "70000"})
    eventually(lambda: client.topic_configs(topic)["retention.ms"] == "7200000")
    alter(topic, back_to_default=["max.message.bytes"])
    eventually(lambda: client.topic_configs(topic)["max.message.bytes"] == default)
    assert client.topic_configs(topic)["retention.ms"] == "7200000"
    alter(topic, {"retention.ms": "1"}, validate_only=True)
    refused(INVALID_CONFIG, alter, topic, {"no.such.key": "1"})
    refused(INVALID_CONFIG, alter, topic, {"retention.ms": "soon"}, validate_only=True)
    assert client.topic_configs(topic)["retention.ms"] == "7200000"


@every("incremental_alter_configs")
def test_configs_of_no_topic(client, name):
    refused(
        UNKNOWN_TOPIC_OR_PARTITION, client.incremental_alter_configs, name, {"retention.ms": "1"}
    )


@every("topic_configs")
def test_describing_no_topic(client, name):
    if client.name == "kafka-python":
        assert client.topic_configs(name) == {}  # It does not look at the error.
        return
    refused(UNKNOWN_TOPIC_OR_PARTITION, client.topic_configs, name)


@every("broker_configs", "cluster")
def test_a_broker_describes_itself(client):
    node = client.cluster()["brokers"][0][0]
    assert client.broker_configs(node), "a broker has settings"


@every("delete_records")
def test_records_are_deleted(client, new_topic, reference):
    topic = new_topic(2)
    reference.produce(topic, [Record(value=b"%d" % n, partition=1) for n in range(20)])
    assert client.delete_records(topic, 1, 12) == 12
    assert reference.watermarks(topic, 1) == (12, 20)
    received = reference.read(topic, 1, "earliest", 8)
    assert [record.offset for record in received] == list(range(12, 20))
    # All that there is; that is asked with -1.
    assert client.delete_records(topic, 1, -1) == 20
    assert reference.watermarks(topic, 1) == (20, 20)


@every("delete_records")
def test_records_that_are_not_there_cannot_be_deleted(client, new_topic, reference):
    topic = new_topic(1)
    reference.produce(topic, [Record(value=b"x")] * 5)
    with pytest.raises(Failure):
        client.delete_records(topic, 0, 6)
    assert reference.watermarks(topic, 0) == (0, 5)


@every("cluster")
def test_the_cluster_is_described(client, broker):
    found = client.cluster()
    host, port = broker.address.rsplit(":", 1)
    assert [(h, int(p)) for _, h, p in found["brokers"]] == [(host, int(port))]
    if found["controller"] is not None:
        assert found["controller"] in [node for node, *_ in found["brokers"]]
    if client.name != "kcat":  # It does not tell.
        assert found["id"]


@every("log_dirs")
def test_sizes_in_the_log_directories(client, new_topic, reference):
    topic = new_topic(2)
    reference.produce(topic, [Record(value=b"x" * 50_000, partition=1)])
    sizes = client.log_dirs(topic)
    assert sizes.keys() == {0, 1}
    assert sizes[1] >= 50_000
    assert sizes[0] < sizes[1]


@every("elect_leaders")
def test_the_preferred_leader_leads_already(client, new_topic, name):
    topic = new_topic(1)
    refused(ELECTION_NOT_NEEDED, client.elect_leaders, topic, 0)
    refused(UNKNOWN_TOPIC_OR_PARTITION, client.elect_leaders, name, 0)


@every("reassign", "reassignments")
def test_reassignments_on_one_node(client, new_topic, reference):
    topic = new_topic(1)
    node = reference.cluster()["brokers"][0][0]
    client.reassign(topic, 0, [node])
    refused(INVALID_REPLICA_ASSIGNMENT, client.reassign, topic, 0, [node + 1000])
    if client.name != "kafkajs":  # It has no way to say null.
        refused(NO_REASSIGNMENT_IN_PROGRESS, client.reassign, topic, 0, None)
    assert not client.reassignments()
