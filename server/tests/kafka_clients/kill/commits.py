"""What a group's members read and committed, held against each other and against what the broker says.

A member begins where the group has committed to, and commits only behind what it read. So a partition's
committed offset only grows, whoever moves it: a member that was taken for dead, and goes on later, is
refused. Nobody sees the moment at which it moves. But whoever is told of it, by the answer to a commit, by
being started there or by asking, knows a moment before which it was not told and one at which it was: what
was told at one time holds for everybody who asks later. And what is committed somebody wanted to commit.

One exception is the client's own: librdkafka commits automatically without waiting for the answer to the
commit before, and when the connection is lost with both under way it sends them again in any order. The
older may then come last, and is what the broker has to keep. It is told from a newer one that was lost by
not having been acknowledged when the newer one was.

Times are seconds of the machine's monotonic clock, which all processes share.
"""

import itertools
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass

from .ledger import Ledger, Place, shown


@dataclass(frozen=True)
class Sighting:
    """The committed offset of a partition was this at some moment from `since` to `at`."""

    place: Place
    offset: int
    since: float
    at: float
    #: Who was told what, to be read before "offset 7".
    told: str
    #: Whose commit it is, where the answer to it was seen.
    committer: str | None = None


@dataclass
class Reading:
    """A partition that a member was assigned and has not been deprived of."""

    assigned_at: float
    next_offset: int | None = None


class Commits:
    """One group. Safe to use from several threads; what is wrong is told to the ledger."""

    def __init__(self, group: str, places: list[Place], ledger: Ledger):
        self.group = group
        #: What happened how often, by words of the report.
        self.counts: Counter[str] = Counter()
        #: Commits that were refused, by the name of the error.
        self.refused: Counter[str] = Counter()
        self._ledger = ledger
        self._lock = threading.Lock()
        self._readings: dict[tuple[str, Place], Reading] = {}
        self._sightings: list[Sighting] = []
        #: When who first wanted to commit what.
        self._wanted: dict[Place, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
        #: Members that leave it to their clients when to commit.
        self._automatic: set[str] = set()
        self._first_acknowledged: dict[tuple[str, Place, int], float] = {}
        #: Commits that came after a newer one of the same client.
        self._overtaken: set[Sighting] = set()
        #: For each offset, whether a member was given it.
        self._given: dict[Place, bytearray] = {place: bytearray() for place in places}

    def _break(self, place: Place, text: str) -> None:
        self._ledger.tell(f"{self.group}, {shown(place)}: {text}")

    def assigned(self, member: str, place: Place, at: float) -> None:
        """The member is about to ask where it has to begin."""
        with self._lock:
            self._readings[member, place] = Reading(at)

    def deprived(self, member: str, place: Place) -> None:
        with self._lock:
            self._readings.pop((member, place), None)

    def given(self, member: str, place: Place, offsets: list[int], at: float) -> None:
        """The member was given these offsets, in this order."""
        with self._lock:
            reading = self._readings.get((member, place))
            if reading is None:
                self._break(place, f"{member} was given offset {offsets[0]} and does not have the partition")
                return
            for offset in offsets:
                if reading.next_offset is None:
                    self.counts["resumed"] += 1
                    told = f"{member} began at"
                    self._sightings.append(Sighting(place, offset, reading.assigned_at, at, told))
                elif offset != reading.next_offset:
                    self._break(place, f"{member} was given offset {offset} and not {reading.next_offset}")
                reading.next_offset = offset + 1
                self._mark(place, offset)

    def _mark(self, place: Place, offset: int) -> None:
        given = self._given[place]
        if len(given) <= offset:
            given.extend(bytes(offset + 1 - len(given)))
        self.counts["given"] += 1
        self.counts["given again"] += given[offset]
        given[offset] = 1

    def wants(self, member: str, place: Place, offset: int, at: float, automatic: bool) -> None:
        """The member is about to commit this, or (`automatic`) leaves it to its client when to do so."""
        with self._lock:
            self._wanted[place][offset].setdefault(member, at)
            if automatic:
                self._automatic.add(member)

    def acknowledged(self, member: str, place: Place, offset: int, at: float) -> None:
        """The member was told that this is committed."""
        with self._lock:
            automatic = member in self._automatic
            self._first_acknowledged.setdefault((member, place, offset), at)
            since = self._wanted[place][offset].get(member)
            if since is None:
                self._break(place, f"{member} was told of a commit of offset {offset}, and did not ask for it")
                return
            self.counts["committed automatically" if automatic else "committed"] += 1
            told = f"the acknowledgement to {member} said"
            self._sightings.append(Sighting(place, offset, since, at, told, member))

    def was_refused(self, error: str) -> None:
        with self._lock:
            self.refused[error] += 1

    def asked(self, offsets: dict[Place, int], since: float, at: float) -> None:
        """Somebody who is no member asked for the committed offsets, and was told these."""
        with self._lock:
            for place, offset in offsets.items():
                self.counts["asked"] += 1
                self._sightings.append(Sighting(place, offset, since, at, "who asked was told"))

    def behind(self, ends: dict[Place, int]) -> list[Place]:
        """The partitions of which no member has been given anything so far on as just before these ends."""
        with self._lock:
            return [place for place, end in ends.items() if len(self._given[place]) < end]

    def judge(self) -> None:
        """Breaks where a committed offset went back, by all that is known."""
        with self._lock:
            told_by = sorted(self._sightings, key=lambda sighting: sighting.at)
            before = 0
            # What nobody who asks from now on may be told less than.
            bounds: dict[Place, Sighting] = {}
            for sighting in sorted(self._sightings, key=lambda sighting: sighting.since):
                while before < len(told_by) and told_by[before].at < sighting.since:
                    earlier = told_by[before]
                    bound = bounds.get(earlier.place)
                    if bound is None or bound.offset < earlier.offset or earlier in self._overtaken:
                        bounds[earlier.place] = earlier
                    before += 1
                bound = bounds.get(sighting.place)
                if bound is not None and sighting.offset < bound.offset:
                    self._went_back(sighting, bound)

    def _went_back(self, sighting: Sighting, bound: Sighting) -> None:
        if self._was_overtaken(sighting, bound):
            self._overtaken.add(sighting)
            return
        self._break(
            sighting.place,
            f"{sighting.told} offset {sighting.offset}, and {sighting.since - bound.at:.3f} s before "
            f"it asked {bound.told} offset {bound.offset}",
        )

    def _was_overtaken(self, sighting: Sighting, bound: Sighting) -> bool:
        """Whether a client may have sent this commit again after the newer one that bounds it."""
        place, older, newer = sighting.place, sighting.offset, bound.offset
        for member, wanted_at in self._wanted[place].get(older, {}).items():
            acknowledged_at = self._first_acknowledged.get((member, place, older), float("inf"))
            if (
                member in self._automatic
                and bound.committer in (None, member)
                and member in self._wanted[place].get(newer, {})
                and wanted_at < bound.at < acknowledged_at
            ):
                return True
        return False

    def overtaken(self) -> int:
        """How often a committed offset was seen to be an older one that a client sent again after a newer."""
        with self._lock:
            return len(self._overtaken)

    def finish(self, ends: dict[Place, int]) -> None:
        """Everybody has told everything, and the logs end here."""
        self.judge()
        with self._lock:
            for sighting in self._sightings:
                wanted = self._wanted[sighting.place].get(sighting.offset, {})
                if min(wanted.values(), default=sighting.at) >= sighting.at:
                    self._break(
                        sighting.place,
                        f"{sighting.told} offset {sighting.offset}, which nobody had wanted to commit by then",
                    )
            for place, end in ends.items():
                given = self._given[place].ljust(end, b"\0")
                runs = itertools.groupby(range(end), lambda offset: given[offset])
                for was_given, offsets in runs:
                    if not was_given:
                        missed = list(offsets)
                        self._break(place, f"no member was ever given offsets {missed[0]} to {missed[-1]}")
