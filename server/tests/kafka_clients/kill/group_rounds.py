"""The rounds with groups: idempotent producers, and members that are killed, stopped and told to leave, so
that the broker dies in the middle of rebalances, too."""

import time
from enum import Enum
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from .commits import Commits
from .consumers import ConfluentReader
from .ledger import Place, shown
from .members import SESSION_TIMEOUT_MS, GroupKind, Seat, State
from .producers import IDEMPOTENT_PRODUCERS
from .rounds import CALL_SECONDS, PATIENCE_SECONDS, SETTINGS, Broken, Rounds

GROUPS = (
    GroupKind("kill-eager", 3, "range"),
    GroupKind("kill-cooperative", 2, "cooperative-sticky"),
)
SESSION_SECONDS = SESSION_TIMEOUT_MS / 1000
#: How long after what happened to a member the broker is killed at most: a rebalance begins meanwhile, or
#: a session ends.
MOST_STIR_SECONDS = 2.0
MOST_AWAY_SECONDS = 3.0
#: In so many rounds of a hundred the groups are waited for; in the others the next kill comes first.
CAUGHT_UP_PERCENT = 30
#: What a client may be told that learns only now that the broker was away.
COORDINATOR_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._WAIT_COORD,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}


class Stir(Enum):
    """What happens to a member in a round."""

    NOTHING = "nothing"
    KILLED = "killed"
    LEAVES = "leaves"
    PAUSED = "paused"


#: In how many rounds of a hundred.
STIR_PERCENT = {Stir.NOTHING: 15, Stir.KILLED: 25, Stir.LEAVES: 25, Stir.PAUSED: 35}


class GroupRounds(Rounds):
    producer_kinds = IDEMPOTENT_PRODUCERS
    reader_kinds = (ConfluentReader,)
    streams = True
    # Sessions as short as a busy machine lets them be, so that a run sees many of them end.
    settings = SETTINGS | {
        "groups.min_session_timeout_ms": "1000",
        "groups.initial_rebalance_delay_ms": "500",
    }
    # Members read in Python, and each record is read by all groups.
    most_acknowledged = 600

    def __init__(self, seed: int, folder: Path | None):
        super().__init__(seed, folder)
        self._commits = {kind.name: Commits(kind.name, self._places, self.ledger) for kind in GROUPS}
        self._seats: list[Seat] = []
        self._askers: dict[str, Consumer] = {}
        self._killed_in_rebalance = 0

    def _start_clients(self) -> None:
        super()._start_clients()
        logs = self.broker.folder / "members"
        logs.mkdir()
        for kind in GROUPS:
            commits = self._commits[kind.name]
            self._askers[kind.name] = self._asker(kind.name)
            self._commit_beginnings(commits)
            self._seats += [
                Seat(
                    kind, number, IDEMPOTENT_PRODUCERS[0].topic, self.broker.address, self._seed,
                    commits, self.ledger, logs,
                )
                for number in range(kind.members)
            ]
        for seat in self._seats:
            seat.start()

    def _asker(self, group: str) -> Consumer:
        """Knows the group's offsets and is no member of it; lives for the whole run, as the others do."""
        return Consumer(
            {
                "bootstrap.servers": self.broker.address,
                "group.id": group,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def _commit_beginnings(self, commits: Commits) -> None:
        """So that a member that finds nothing committed has found a fault."""
        who = "the beginning"
        began = time.monotonic()
        for place in self._places:
            commits.wants(who, place, 0, began, automatic=False)
        offsets = [TopicPartition(*place, 0) for place in self._places]
        for partition in self._askers[commits.group].commit(offsets=offsets, asynchronous=False):
            if partition.error is not None:
                raise KafkaException(partition.error)
            place = (partition.topic, partition.partition)
            commits.acknowledged(who, place, partition.offset, time.monotonic())

    def _look(self, when: str) -> None:
        for seat in self._seats:
            seat.tend()
            if seat.failed is not None:
                raise Broken(f"{f'{when}: ' if when else ''}{seat.name} failed: {seat.failed}")
        super()._look(when)

    def _before_kill(self) -> None:
        # All is drawn whatever comes of it, so that the draws after it are the same in every run.
        draws = self._draws
        seat = draws.choice(self._seats)
        stir = draws.choices(list(STIR_PERCENT), list(STIR_PERCENT.values()))[0]
        away_s = draws.uniform(0, MOST_AWAY_SECONDS)
        paused_s = draws.uniform(0, 2.5 * SESSION_SECONDS)
        kill_after_s = draws.uniform(0, MOST_STIR_SECONDS)
        if seat.state is State.RUNNING:
            match stir:
                case Stir.KILLED:
                    seat.kill(away_s)
                case Stir.LEAVES:
                    seat.leave(away_s)
                case Stir.PAUSED:
                    seat.pause(paused_s)
                case Stir.NOTHING:
                    pass
        due = time.monotonic() + kill_after_s
        self._wait(lambda: time.monotonic() >= due, lambda: "time stood still")
        self._killed_in_rebalance += any(seat.waits for seat in self._seats)

    def _after_return(self, number: int, ends: dict[Place, int]) -> None:
        caught_up = self._draws.randrange(100) < CAUGHT_UP_PERCENT
        for commits in self._commits.values():
            self._committed(commits)
        self._look(f"round {number}")
        if caught_up:
            self._catch_up(f"round {number}", ends)
        for commits in self._commits.values():
            commits.judge()
        self._look(f"round {number}")

    def _catch_up(self, when: str, ends: dict[Place, int]) -> None:
        """Waits until every group has come to these ends in every partition."""
        for commits in self._commits.values():
            self._wait(
                lambda commits=commits: not commits.behind(ends),
                lambda commits=commits: f"{when}: {commits.group} did not read "
                f"{' and '.join(map(shown, commits.behind(ends)))} to the end; the members are "
                f"{self._members()}",
            )

    def _members(self) -> str:
        return ", ".join(f"{seat.name} {seat.state.value}" for seat in self._seats)

    def _committed(self, commits: Commits) -> dict[Place, int]:
        """What the broker says is committed."""
        asked = [TopicPartition(*place) for place in self._places]
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            since = time.monotonic()
            try:
                told = self._askers[commits.group].committed(asked, timeout=CALL_SECONDS)
                break
            except KafkaException as error:
                if error.args[0].code() not in COORDINATOR_AWAY or time.monotonic() > end:
                    raise
                time.sleep(0.05)
        for partition in told:
            if partition.error is not None:
                raise KafkaException(partition.error)
        offsets = {(partition.topic, partition.partition): partition.offset for partition in told}
        commits.asked(offsets, since, time.monotonic())
        return offsets

    def _after_all(self, ends: dict[Place, int]) -> None:
        self._catch_up("at the end", ends)
        for commits in self._commits.values():
            self._wait(
                lambda commits=commits: self._committed(commits) == ends,
                lambda commits=commits: f"at the end: {commits.group} does not commit all that it has read",
            )
        self._kill()
        self._restart("after the last commit")
        self._members_leave()
        for commits in self._commits.values():
            self._committed(commits)
            commits.finish(ends)
            self._askers[commits.group].close()
        self._look("at the end")
        self._tell()

    def _members_leave(self) -> None:
        self._wait(
            lambda: all(seat.state is State.RUNNING for seat in self._seats),
            lambda: f"not all members came back; they are {self._members()}",
        )
        for seat in self._seats:
            seat.leave(back_after_s=float("inf"))
        self._wait(
            lambda: all(seat.state is State.AWAY for seat in self._seats),
            lambda: f"the members did not leave; they are {self._members()}",
        )
        for seat in self._seats:
            seat.heard_out()

    def _tell(self) -> None:
        self.report.promise("none is there twice or out of order")
        self.report.promise(
            f"no committed offset was lost or went back ({self._killed_in_rebalance} kills while a group "
            "was rebalancing)"
        )
        for kind in GROUPS:
            lives = sum(seat.lives for seat in self._seats if seat.group == kind.name)
            self.report.take_group(self._commits[kind.name], kind.members, lives)

    def _give_up(self) -> None:
        super()._give_up()
        for seat in self._seats:
            seat.end()
