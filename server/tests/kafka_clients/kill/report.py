"""What a run shows, in the end."""

import statistics
from collections import defaultdict

from .commits import Commits
from .ledger import Ledger

#: Who asks for the logs' ends after each restart. Nothing is counted as having come back before that.
NEW_CLIENT = "a new client"


class Report:
    def __init__(self):
        self.rounds = 0
        self.killed_early = 0
        self._waited: dict[str, list[float]] = defaultdict(list)
        self._lines: list[str] = []
        self._promises = [
            "every acknowledged record is where it was said to be",
            "all consumers were given the same",
        ]

    def came_back(self, waited: dict[str, float]) -> None:
        """Seconds from the broker's being ready to the first record after that, by client."""
        for who, seconds in waited.items():
            self._waited[who].append(seconds)

    def take(self, ledger: Ledger, producers, readers) -> None:
        for client in producers:
            name = client.name
            line = (
                f"{name}'s producer: {ledger.acknowledged[name]} acknowledged, "
                f"{ledger.unacknowledged(name)} more stored ({ledger.duplicates(name)} duplicates, by retries), "
                f"{client.unsent} given up"
            )
            if client.errors:
                line += f" ({'; '.join(sorted(client.errors))})"
            self._lines.append(line + self._back(f"{name}'s producer"))
        for client in readers:
            name = client.name
            self._lines.append(f"{name}'s consumer: {ledger.read[name]} read" + self._back(f"{name}'s consumer"))
        self._lines.append(f"{NEW_CLIENT} that asks for the logs' ends" + self._back(NEW_CLIENT))

    def _back(self, who: str) -> str:
        waited = self._waited[who]
        verb = "answered" if who == NEW_CLIENT else "back"
        return f"; {verb} after {statistics.median(waited):.2f} s (median), {max(waited):.2f} s (worst)"

    def take_group(self, commits: Commits, members: int, lives: int) -> None:
        counts = commits.counts
        refused = ", ".join(f"{count} {name}" for name, count in sorted(commits.refused.items()))
        self._lines += [
            f"{commits.group}: {members} members in {lives} lives, {counts['assignments']} assignments, "
            f"{counts['lost']} times taken for dead by mistake; "
            f"{counts['given']} read, {counts['given again']} of them again",
            f"  committed offsets checked: {counts['committed']} commits and "
            f"{counts['committed automatically']} automatic ones acknowledged, "
            f"{counts['resumed']} times begun there, {counts['asked']} times asked for, "
            f"{commits.overtaken()} times an older one that its client sent again after a newer; "
            f"refused: {refused or 'none'}",
        ]

    def promise(self, text: str) -> None:
        """What held besides."""
        self._promises.append(text)

    def text(self) -> str:
        head = (
            f"{self.rounds} kills and one at the end, {self.killed_early} more while it was starting: "
            + ", ".join(self._promises)
        )
        return "\n".join([head, *(f"  {line}" for line in self._lines)])
