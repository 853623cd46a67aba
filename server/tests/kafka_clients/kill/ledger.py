"""What clients were told and given, held against each other.

Whoever names an offset says which record is there: an acknowledgement does, and every reader. The first
word on an offset stands, and everyone who names it later has to say the same. As every reader has to
read each offset in turn, a reader that has come to the end has confirmed every word.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .records import named

#: A topic and a partition of it.
Place = tuple[str, int]
#: No more broken promises than these are told: one lost file can make a million.
MOST_TOLD = 20


@dataclass
class Log:
    """What is known about one partition."""

    #: By offset: the producer's number for the record, and who said so first.
    words: dict[int, tuple[int, str]] = field(default_factory=dict)
    #: The offsets that were acknowledged.
    acknowledged: set[int] = field(default_factory=set)
    acknowledged_end: int = 0
    #: The next offset of each reader.
    next_offsets: dict[str, int] = field(default_factory=dict)
    #: One more than the highest offset that anybody has named, or the end that the broker told.
    end: int = 0


class Ledger:
    """Safe to use from several threads. `broken` tells what went wrong, in words."""

    def __init__(self, producers: dict[str, str], partitions: int, value_of: Callable[[str, int], bytes]):
        """Each topic has one producer: `producers` names it. `value_of` gives the bytes it sent."""
        self.broken: list[str] = []
        self.acknowledged: dict[str, int] = dict.fromkeys(producers.values(), 0)
        self.read: dict[str, int] = {}
        self._producers = producers
        self._value_of = value_of
        self._logs = {(topic, number): Log() for topic in producers for number in range(partitions)}
        self._lock = threading.Lock()

    def _break(self, text: str) -> None:
        if len(self.broken) < MOST_TOLD:
            self.broken.append(text)
        elif len(self.broken) == MOST_TOLD:
            self.broken.append("… and more")

    def _say(self, who: str, place: Place, offset: int, number: int) -> None:
        log = self._logs[place]
        log.end = max(log.end, offset + 1)
        before = log.words.setdefault(offset, (number, who))
        if before[0] != number:
            self._break(
                f"{shown(place)} offset {offset}: {who} says record {number}, "
                f"{before[1]} said record {before[0]}"
            )

    def acknowledge(self, place: Place, offset: int, number: int) -> None:
        """The producer was told that its record of this number is at this offset."""
        producer = self._producers[place[0]]
        with self._lock:
            self.acknowledged[producer] += 1
            log = self._logs[place]
            if offset in log.acknowledged:
                self._break(f"{shown(place)} offset {offset}: acknowledged twice, now with record {number}")
            log.acknowledged.add(offset)
            log.acknowledged_end = max(log.acknowledged_end, offset + 1)
            self._say(f"the acknowledgement to {producer}", place, offset, number)

    def give(self, reader: str, place: Place, offset: int, key: bytes | None, value: bytes | None) -> None:
        """A reader was given this record. Every reader begins at offset 0."""
        producer = self._producers[place[0]]
        name = named(key)
        ours = name is not None and name[0] == producer
        whole = ours and value == self._value_of(producer, name[1])
        with self._lock:
            self.read[reader] = self.read.get(reader, 0) + 1
            log = self._logs[place]
            due = log.next_offsets.get(reader, 0)
            if offset != due:
                self._break(f"{shown(place)}: {reader} was given offset {offset} and not {due}")
            log.next_offsets[reader] = offset + 1
            if not whole:
                what = f"record {name[1]} with other bytes" if ours else f"a foreign record, key {key!r}"
                self._break(f"{shown(place)} offset {offset}: {reader} was given {what}")
            if ours:
                self._say(reader, place, offset, name[1])

    def known_ends(self) -> dict[Place, int]:
        with self._lock:
            return {place: log.end for place, log in self._logs.items()}

    def check_bounds(self, known: dict[Place, int], bounds: dict[Place, tuple[int, int]]) -> None:
        """The broker told these first and next offsets after `known_ends` gave `known`."""
        with self._lock:
            for place, (first, end) in bounds.items():
                if first != 0:
                    self._break(f"{shown(place)} begins at offset {first} and not 0")
                if end < known[place]:
                    self._break(f"{shown(place)} ends at {end}, and offset {known[place] - 1} was there")
                log = self._logs[place]
                log.end = max(log.end, end)

    def has_acknowledged_beyond(self, producer: str, ends: dict[Place, int]) -> bool:
        """Whether the producer had a record acknowledged at or after the end of any partition."""
        with self._lock:
            return any(
                self._logs[place].acknowledged_end > end
                for place, end in ends.items()
                if self._producers[place[0]] == producer
            )

    def has_read_beyond(self, reader: str, ends: dict[Place, int]) -> bool:
        """Whether the reader was given a record at or after the end of any partition."""
        with self._lock:
            return any(self._logs[place].next_offsets.get(reader, 0) > end for place, end in ends.items())

    def behind(self, reader: str, ends: dict[Place, int]) -> int:
        """How many offsets before these ends the reader has not come to."""
        with self._lock:
            return sum(
                max(0, end - self._logs[place].next_offsets.get(reader, 0)) for place, end in ends.items()
            )

    def finish(self, reader: str, ends: dict[Place, int]) -> None:
        """The reader was given all that there is: it has to have come to each of these ends."""
        with self._lock:
            for place, end in ends.items():
                log = self._logs[place]
                at = log.next_offsets.get(reader, 0)
                for offset in range(at, end):
                    number, who = log.words.get(offset, ("of any number", "the end of the log"))
                    self._break(
                        f"{shown(place)} offset {offset}: {who} says record {number}, "
                        f"but {reader} came no further than {at}"
                    )

    def duplicates(self, producer: str) -> int:
        """How many of the producer's records are there once more than once."""
        with self._lock:
            numbers = [
                number
                for (topic, _), log in self._logs.items()
                if self._producers[topic] == producer
                for number, _ in log.words.values()
            ]
        return len(numbers) - len(set(numbers))

    def unacknowledged(self, producer: str) -> int:
        """How many offsets hold a record of the producer that was not acknowledged there."""
        with self._lock:
            return sum(
                len(log.words) - len(log.acknowledged)
                for (topic, _), log in self._logs.items()
                if self._producers[topic] == producer
            )


def shown(place: Place) -> str:
    return f"{place[0]}/{place[1]}"
