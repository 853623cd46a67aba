"""A member's process, and what it said."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
#: What is started for each client; `members` says what they have in common.
NODE = {"kafkajs": "kafkajs", "@platformatic/kafka": "platformatic"}
PATIENCE_SECONDS = 60


class Member:
    """A running member of a group."""

    def __init__(self, client: str, **options):
        """`options`: address, group, topic, session_ms; and instance and assignor where wanted."""
        self.name = f"{client} {options.get('instance') or ''}".strip()
        #: Each set of partitions that it had, one after the other.
        self.assignments: list[set[int]] = []
        #: Records that it committed, by partition and offset.
        self.committed: dict[tuple[int, int], str] = {}
        #: Records that it was given although they were committed before.
        self.twice: list[tuple[int, int]] = []
        self._said = threading.Condition()
        if client in NODE:
            modules = os.environ["KAFKA_CLIENTS_NODE_MODULES"]
            command = ["node", str(HERE.parent / "node" / "member.mjs"), NODE[client], modules]
        else:
            command = [sys.executable, "-m", "members.run", client]
        self._process = subprocess.Popen(
            [*command, json.dumps(options)],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            said = json.loads(line)
            with self._said:
                if "assigned" in said:
                    self.assignments.append(set(said["assigned"]))
                for partition, offset, value in said.get("committed", ()):
                    if (partition, offset) in self.committed:
                        self.twice.append((partition, offset))
                    self.committed[partition, offset] = value
                self._said.notify_all()

    @property
    def assigned(self) -> set[int]:
        """What it has now."""
        return self.assignments[-1] if self.assignments else set()

    def wait_until(self, holds, what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Waits until something holds of what it said."""
        end = time.monotonic() + seconds
        with self._said:
            while not holds():
                left = end - time.monotonic()
                if left <= 0 or self._process.poll() is not None:
                    had = f"its assignments were {self.assignments}, it committed {len(self.committed)}"
                    raise AssertionError(f"{self.name}: not {what} within {seconds} s; {had}")
                # It may end without a word.
                self._said.wait(min(left, 0.5))

    def wait_for(self, *partitions: int) -> None:
        """Waits until it has exactly these."""
        self.wait_until(lambda: self.assigned == set(partitions), f"assigned {partitions}")

    def wait_for_some(self, count: int) -> None:
        """Waits until it has so many."""
        self.wait_until(lambda: len(self.assigned) == count, f"assigned {count} partitions")

    def leave(self) -> None:
        """Has it leave its group and end."""
        self._process.stdin.write("leave\n")
        self._process.stdin.flush()
        status = self._process.wait(timeout=PATIENCE_SECONDS)
        assert status == 0, f"{self.name} ended with {status}"

    def die(self) -> None:
        """SIGKILL: nobody is told."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process.stdin.close()
