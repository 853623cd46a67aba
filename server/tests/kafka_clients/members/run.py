"""One member, for the clients in Python: `python -m members.run CLIENT OPTIONS`."""

import asyncio
import json
import logging
import sys
import threading

POLL_SECONDS = 0.1
#: How often a heartbeat is sent within a session.
HEARTBEATS = 6


class Said:
    """What the member says: its partitions, and records once they are committed."""

    def __init__(self):
        self.owned: set[int] = set()
        # Given and not committed.
        self.pending: dict[int, list] = {}

    @staticmethod
    def say(**what) -> None:
        print(json.dumps(what), flush=True)

    def gain(self, partitions) -> None:
        self.owned |= set(partitions)
        self.say(assigned=sorted(self.owned))

    def lose(self, partitions) -> None:
        self.owned -= set(partitions)
        for partition in partitions:
            self.pending.pop(partition, None)
        self.say(assigned=sorted(self.owned))

    def note(self, partition: int, offset: int, value: bytes) -> None:
        if partition in self.owned:
            self.pending.setdefault(partition, []).append([partition, offset, value.decode()])

    def ends(self) -> dict[int, int]:
        """What there is to commit."""
        return {partition: records[-1][1] + 1 for partition, records in self.pending.items()}

    def commit(self, ends: dict[int, int]) -> None:
        """So far it is committed."""
        done = []
        for partition, end in ends.items():
            records = self.pending.get(partition, [])
            done += [record for record in records if record[1] < end]
            self.pending[partition] = [record for record in records if record[1] >= end]
            if not self.pending[partition]:
                del self.pending[partition]
        self.say(committed=done)


def confluent_kafka(options: dict, said: Said, leaving: threading.Event) -> None:
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    topic = options["topic"]
    settings = {
        "bootstrap.servers": options["address"],
        "group.id": options["group"],
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": options["session_ms"],
        "heartbeat.interval.ms": options["session_ms"] // HEARTBEATS,
        "partition.assignment.strategy": options.get("assignor", "range"),
        "log_level": 0,
    }
    if options.get("instance"):
        settings["group.instance.id"] = options["instance"]
    consumer = Consumer(settings)
    numbers = lambda places: [place.partition for place in places]
    consumer.subscribe(
        [topic],
        on_assign=lambda _, places: said.gain(numbers(places)),
        on_revoke=lambda _, places: said.lose(numbers(places)),
        on_lost=lambda _, places: said.lose(numbers(places)),
    )
    while not leaving.is_set():
        for message in consumer.consume(100, POLL_SECONDS):
            if message.error() is None:
                said.note(message.partition(), message.offset(), message.value())
        if ends := said.ends():
            places = [TopicPartition(topic, partition, end) for partition, end in ends.items()]
            try:
                consumer.commit(offsets=places, asynchronous=False)
            except KafkaException as error:
                print("not committed:", error, file=sys.stderr)
                continue
            said.commit(ends)
    consumer.close()


def kafka_python(options: dict, said: Said, leaving: threading.Event) -> None:
    import kafka.coordinator.assignors.range
    from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
    from kafka.errors import KafkaError

    class Listener(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned):
            said.gain(place.partition for place in assigned)

        def on_partitions_revoked(self, revoked):
            said.lose([place.partition for place in revoked])

    assignors = {"range": kafka.coordinator.assignors.range.RangePartitionAssignor}
    if options.get("assignor") == "cooperative-sticky":
        from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

        assignors["cooperative-sticky"] = CooperativeStickyAssignor
    topic = options["topic"]
    consumer = KafkaConsumer(
        bootstrap_servers=options["address"],
        group_id=options["group"],
        group_instance_id=options.get("instance"),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=options["session_ms"],
        heartbeat_interval_ms=options["session_ms"] // HEARTBEATS,
        partition_assignment_strategy=[assignors[options.get("assignor", "range")]],
    )
    consumer.subscribe([topic], listener=Listener())
    while not leaving.is_set():
        for records in consumer.poll(timeout_ms=int(POLL_SECONDS * 1000)).values():
            for record in records:
                said.note(record.partition, record.offset, record.value)
        if ends := said.ends():
            places = {
                TopicPartition(topic, partition): OffsetAndMetadata(end, "", -1)
                for partition, end in ends.items()
            }
            try:
                consumer.commit(places)
            except KafkaError as error:
                print("not committed:", error, file=sys.stderr)
                continue
            said.commit(ends)
    consumer.close()


def aiokafka(options: dict, said: Said, leaving: threading.Event) -> None:
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor
    from aiokafka.errors import KafkaError

    class Listener(ConsumerRebalanceListener):
        async def on_partitions_assigned(self, assigned):
            said.gain(place.partition for place in assigned)

        async def on_partitions_revoked(self, revoked):
            said.lose([place.partition for place in revoked])

    async def run():
        topic = options["topic"]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=options["address"],
            group_id=options["group"],
            group_instance_id=options.get("instance"),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=options["session_ms"],
            heartbeat_interval_ms=options["session_ms"] // HEARTBEATS,
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        consumer.subscribe([topic], listener=Listener())
        await consumer.start()
        while not leaving.is_set():
            found = await consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000))
            for records in found.values():
                for record in records:
                    said.note(record.partition, record.offset, record.value)
            if ends := said.ends():
                places = {TopicPartition(topic, partition): end for partition, end in ends.items()}
                try:
                    await consumer.commit(places)
                except KafkaError as error:
                    print("not committed:", error, file=sys.stderr)
                    continue
                said.commit(ends)
        await consumer.stop()

    asyncio.run(run())


CLIENTS = {"confluent-kafka": confluent_kafka, "kafka-python": kafka_python, "aiokafka": aiokafka}


def main() -> None:
    client, options = sys.argv[1], json.loads(sys.argv[2])
    # What a client says of a broker that is away is no news here.
    for name in ("kafka", "aiokafka"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    leaving = threading.Event()

    def listen():
        sys.stdin.readline()
        leaving.set()

    threading.Thread(target=listen, daemon=True).start()
    CLIENTS[client](options, Said(), leaving)


main()
