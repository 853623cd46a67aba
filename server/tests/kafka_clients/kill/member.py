"""One member of a group, in a process of its own so that it can be killed and stopped: `python -m kill.member`.

Its argument is a `Life` as JSON. It prints what happens to it, a line each: `[what, when, more]`, with the
time of the monotonic clock. What it is about to do it says before, so that nothing it did is unknown however
it ends. It ends by itself when it is sent SIGTERM.
"""

import json
import random
import signal
import sys
import time
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from .records import named, value_of

AUTOMATIC_COMMIT_MS = 500
HEARTBEAT_MS = 800
MOST_AT_A_TIME = 200
MOST_WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class Life:
    """What a member is told when it is started."""

    address: str
    group: str
    topic: str
    seed: int
    #: Tells it from all others, also from those that took its place before.
    name: str
    #: A static member's name, which stays the same.
    instance: str | None
    strategy: str
    #: Whether the client commits by itself what it is told to be done with.
    automatic: bool
    session_timeout_ms: int
    max_poll_interval_ms: int


def tell(what: str, **more) -> None:
    print(json.dumps([what, time.monotonic(), more]), flush=True)


class Member:
    def __init__(self, life: Life):
        self._life = life
        self._draws = random.Random(f"{life.seed} {life.name}")
        self._stopping = False
        #: What was given and not told yet, and the offset after what was told, by partition.
        self._taken: dict[int, list[tuple[int, str, bool]]] = {}
        self._done: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        settings = {
            "bootstrap.servers": life.address,
            "group.id": life.group,
            "client.id": life.name,
            "partition.assignment.strategy": life.strategy,
            "session.timeout.ms": life.session_timeout_ms,
            "heartbeat.interval.ms": HEARTBEAT_MS,
            "max.poll.interval.ms": life.max_poll_interval_ms,
            "enable.auto.commit": life.automatic,
            "auto.commit.interval.ms": AUTOMATIC_COMMIT_MS,
            # What is committed automatically is what it has told to have been given, and no more.
            "enable.auto.offset.store": False,
            # Every partition has a committed offset from the beginning, and its log loses nothing.
            "auto.offset.reset": "error",
            "log_level": 0,
        }
        if life.automatic:
            settings["on_commit"] = self._on_commit
        if life.instance is not None:
            settings["group.instance.id"] = life.instance
        self._consumer = Consumer(settings)

    def stop(self, *_) -> None:
        self._stopping = True

    def run(self) -> None:
        self._consumer.subscribe(
            [self._life.topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        tell("subscribed")
        while not self._stopping:
            some = self._take()
            # What comes last is not left uncommitted.
            if not some or self._draws.random() < 0.5:
                self._commit()
        self._commit()
        self._consumer.close()
        tell("closed")

    def _take(self) -> bool:
        """Takes what comes for a while; whether anything did."""
        most = self._draws.randint(1, MOST_AT_A_TIME)
        until = time.monotonic() + self._draws.uniform(0, MOST_WAIT_SECONDS)
        taken = 0
        while taken < most and not self._stopping:
            message = self._consumer.poll(max(0.0, until - time.monotonic()))
            if message is None:
                break
            if message.error():
                self._fail(message.error())
                continue
            key = (message.key() or b"").decode(errors="replace")
            name = named(message.key())
            whole = name is not None and message.value() == value_of(self._life.seed, *name)
            self._taken.setdefault(message.partition(), []).append((message.offset(), key, whole))
            taken += 1
        self._hand_over()
        return taken > 0

    def _fail(self, error: KafkaError) -> None:
        tell("error", name=error.name(), text=error.str())
        if error.fatal():
            sys.exit(f"the client says that it cannot go on: {error}")

    def _hand_over(self) -> None:
        """Tells what was given. From now on it may be committed."""
        if not self._taken:
            return
        tell("given", records=self._taken)
        ends = {partition: records[-1][0] + 1 for partition, records in self._taken.items()}
        self._taken = {}
        self._done |= ends
        if self._life.automatic:
            tell("wants", offsets=ends)
            try:
                self._consumer.store_offsets(offsets=self._partitions(ends))
            except KafkaException as error:
                tell("refused", name=error.args[0].name())

    def _partitions(self, offsets: dict[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._life.topic, partition, offset) for partition, offset in offsets.items()]

    def _commit(self) -> None:
        """Commits what was told, and waits for the answer. A later one makes up for one that is refused."""
        offsets = {
            partition: offset
            for partition, offset in self._done.items()
            if self._committed.get(partition) != offset
        }
        if self._life.automatic or not offsets:
            return
        tell("wants", offsets=offsets)
        try:
            answered = self._consumer.commit(offsets=self._partitions(offsets), asynchronous=False)
        except KafkaException as error:
            tell("refused", name=error.args[0].name())
            return
        self._answered(answered)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        # That there was nothing to commit is no news.
        if error is not None and error.code() != KafkaError._NO_OFFSET:
            tell("refused", name=error.name())
        if error is None:
            self._answered([partition for partition in partitions if partition.offset >= 0])

    def _answered(self, partitions: list[TopicPartition]) -> None:
        done = {}
        for partition in partitions:
            if partition.error is not None:
                tell("refused", name=partition.error.name())
            else:
                done[partition.partition] = partition.offset
        self._committed |= done
        if done:
            tell("committed", offsets=done)

    def _on_assign(self, _, partitions: list[TopicPartition]) -> None:
        self._hand_over()
        # The client asks where to begin once this has returned.
        tell("assigned", partitions=[partition.partition for partition in partitions])

    def _on_revoke(self, _, partitions: list[TopicPartition]) -> None:
        self._hand_over()
        # Sometimes not, and the next one is given it again.
        if self._draws.random() < 0.5:
            self._commit()
        self._forget(partitions)

    def _on_lost(self, _, partitions: list[TopicPartition]) -> None:
        self._hand_over()
        self._forget(partitions, lost=True)

    def _forget(self, partitions: list[TopicPartition], lost: bool = False) -> None:
        for partition in partitions:
            self._done.pop(partition.partition, None)
            self._committed.pop(partition.partition, None)
        tell("deprived", partitions=[partition.partition for partition in partitions], lost=lost)


def main() -> None:
    member = Member(Life(**json.loads(sys.argv[1])))
    signal.signal(signal.SIGTERM, member.stop)
    # A key typed at the terminal is for the one who started it, and who ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    member.run()


if __name__ == "__main__":
    main()
