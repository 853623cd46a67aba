"""The members of the groups, as processes that are killed, stopped, told to leave and started again."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from .commits import Commits
from .ledger import Ledger
from .member import Life

SESSION_TIMEOUT_MS = 4_000
#: A static member's has to outlast the broker's absence: librdkafka gives its member id up when a session
#: ends without the broker, goes on under none, and takes the answer to that for the word of a successor.
STATIC_SESSION_TIMEOUT_MS = 30_000
#: Also for how long a rebalance waits for a member that lives and does not ask.
MAX_POLL_INTERVAL_MS = 15_000
#: How long one that was told to leave may take: its client waits for a broker that is away.
LEAVE_SECONDS = 50
#: What a member may be told besides its records; everything else is a fault.
EXPECTED_ERRORS = {"_MAX_POLL_EXCEEDED"}


@dataclass(frozen=True)
class GroupKind:
    name: str
    members: int
    #: `partition.assignment.strategy` of its members.
    strategy: str


class State(Enum):
    RUNNING = "running"
    #: Stopped by a signal, as a machine may stop a process for a while. It does not know.
    PAUSED = "paused"
    LEAVING = "leaving"
    AWAY = "away"


class Seat:
    """A member's place in its group, taken by one process after another."""

    def __init__(
        self, kind: GroupKind, number: int, topic: str, address: str, seed: int,
        commits: Commits, ledger: Ledger, logs: Path,
    ):
        self.group = kind.name
        self.name = f"{kind.name}-{number}"
        self.failed: str | None = None
        self.state = State.AWAY
        self.lives = 0
        #: What the process that has it now was assigned; None: it has not asked to be in the group yet.
        self._held: set[int] | None = None
        self._kind = kind
        self._number = number
        # The first of each group keeps its name: a static member.
        self._instance = self.name if number == 0 else None
        self._topic = topic
        self._address = address
        self._seed = seed
        self._commits = commits
        self._ledger = ledger
        #: A folder for what its processes say, for whoever looks closer.
        self._logs = logs
        #: When it goes on, comes back, or has to have left; by `state`.
        self._due = 0.0
        self._back_after_s = 0.0
        self._process: subprocess.Popen | None = None
        self._listener: threading.Thread | None = None

    @property
    def waits(self) -> bool:
        """Whether it is in the group and has no partition: a rebalance is under way."""
        return self.state is State.RUNNING and self._held is not None and not self._held

    def start(self) -> None:
        self.lives += 1
        self._held = None
        name = f"{self.name}.{self.lives}"
        session_timeout_ms = STATIC_SESSION_TIMEOUT_MS if self._instance else SESSION_TIMEOUT_MS
        life = Life(
            address=self._address,
            group=self._kind.name,
            topic=self._topic,
            seed=self._seed,
            name=name,
            instance=self._instance,
            strategy=self._kind.strategy,
            # By turns, so that every group has both kinds at a time.
            automatic=(self._number + self.lives) % 2 == 0,
            session_timeout_ms=session_timeout_ms,
            # librdkafka wants it to be no shorter.
            max_poll_interval_ms=max(session_timeout_ms, MAX_POLL_INTERVAL_MS),
        )
        with (self._logs / f"{name}.errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kill.member", json.dumps(asdict(life))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._listener = threading.Thread(target=self._listen, args=(life, self._process), daemon=True)
        self._listener.start()
        self.state = State.RUNNING

    def kill(self, back_after_s: float) -> None:
        """SIGKILL: the group hears nothing of it until its session has ended."""
        self._process.kill()
        self._process.wait()
        self._is_away(back_after_s)

    def leave(self, back_after_s: float) -> None:
        """Asks it to end, of which it tells its group, unless it is a static member."""
        self._process.terminate()
        self.state = State.LEAVING
        self._due = time.monotonic() + LEAVE_SECONDS
        self._back_after_s = back_after_s

    def pause(self, for_s: float) -> None:
        """SIGSTOP: for longer than its session, and it goes on as a member that is none any more."""
        self._process.send_signal(signal.SIGSTOP)
        self.state = State.PAUSED
        self._due = time.monotonic() + for_s

    def tend(self) -> None:
        """Does what is due."""
        if self.state is State.AWAY:
            if time.monotonic() >= self._due:
                self.start()
        elif self._process.poll() is not None:
            self._ended()
        elif self.state is State.PAUSED and time.monotonic() >= self._due:
            self._process.send_signal(signal.SIGCONT)
            self.state = State.RUNNING
        elif self.state is State.LEAVING and time.monotonic() >= self._due:
            self.failed = f"did not leave within {LEAVE_SECONDS} s of being told to"

    def _ended(self) -> None:
        # One that had hardly begun ends by the signal itself.
        if self.state is State.LEAVING and self._process.returncode in (0, -signal.SIGTERM):
            self._is_away(self._back_after_s)
        else:
            self.failed = f"its process ended with {self._process.returncode}; {self._logs} may say why"

    def _is_away(self, for_s: float) -> None:
        self.state = State.AWAY
        self._due = time.monotonic() + for_s

    def end(self) -> None:
        """Whatever it does, it does no more, and all it said is known."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._listener.join()

    def heard_out(self) -> None:
        """Waits until all that its process said is known."""
        self._listener.join()

    def _listen(self, life: Life, process: subprocess.Popen) -> None:
        try:
            with (self._logs / f"{life.name}.said").open("wb") as said:
                for line in process.stdout:
                    said.write(line)
                    # Killed in the middle of a word: it had not done what it was about to tell.
                    if line.endswith(b"\n"):
                        what, at, more = json.loads(line)
                        self._hear(life, what, at, more)
                        if process is self._process:
                            self._hold(what, more)
        except Exception as error:
            self.failed = f"was not understood: {type(error).__name__}: {error}"

    def _hold(self, what: str, more: dict) -> None:
        if what == "subscribed":
            self._held = set()
        elif what == "assigned":
            self._held = self._held | set(more["partitions"])
        elif what == "deprived":
            self._held = self._held - set(more["partitions"])

    def _hear(self, life: Life, what: str, at: float, more: dict) -> None:
        commits, member = self._commits, life.name
        places = [(life.topic, partition) for partition in more.get("partitions", ())]
        offsets = {
            (life.topic, int(partition)): offset for partition, offset in more.get("offsets", {}).items()
        }
        match what:
            case "subscribed" | "closed":
                pass
            case "assigned":
                commits.counts["assignments"] += 1
                for place in places:
                    commits.assigned(member, place, at)
            case "deprived":
                commits.counts["lost"] += more["lost"]
                for place in places:
                    commits.deprived(member, place)
            case "given":
                for partition, records in more["records"].items():
                    place = (life.topic, int(partition))
                    for offset, key, whole in records:
                        self._ledger.hear(member, place, offset, key, whole)
                    commits.given(member, place, [offset for offset, _, _ in records], at)
            case "wants":
                for place, offset in offsets.items():
                    commits.wants(member, place, offset, at, life.automatic)
            case "committed":
                for place, offset in offsets.items():
                    commits.acknowledged(member, place, offset, at)
            case "refused":
                commits.was_refused(more["name"])
            case "error":
                if more["name"] not in EXPECTED_ERRORS:
                    self._ledger.tell(f"{member} was told {more['name']}: {more['text']}")
            case _:
                raise ValueError(f"{what!r} is nothing that a member says")
