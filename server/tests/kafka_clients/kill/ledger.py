"""What clients were told and given, held against each other.

Whoever names an offset says which record is there: an acknowledgement does, and every reader. The first
word on an offset stands, and everyone who names it later has to say the same. As every reader has to
read each offset in turn, a reader that has come to the end has confirmed every word.

Where producers are idempotent their records are numbered in each partition for itself (`streams`), and
a reader has to be given number after number: a record that is there twice, out of order or not at all
is seen by its number, acknowledged or not.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .records import named, stream_of

#: Under which name a record was sent, and its number there.
Name = tuple[str, int]
#: A topic and a partition of it.
Place = tuple[str, int]
#: No more broken promises than these are told: one lost file can make a million.
MOST_TOLD = 20


@dataclass
class Log:
    """What is known about one partition."""

    #: By offset: which record is there, and who said so first.
    words: dict[int, tuple[Name, str]] = field(default_factory=dict)
    #: The offsets that were acknowledged.
    acknowledged: set[int] = field(default_factory=set)
    #: One more than the highest offset that was acknowledged to each producer.
    acknowledged_ends: dict[str, int] = field(default_factory=dict)
    #: The highest number that was acknowledged of each stream, and what number each reader is due next.
    acknowledged_numbers: dict[str, int] = field(default_factory=dict)
    next_numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    #: The next offset of each reader.
    next_offsets: dict[str, int] = field(default_factory=dict)
    #: One more than the highest offset that anybody has named, or the end that the broker told.
    end: int = 0


class Ledger:
    """Safe to use from several threads. `broken` tells what went wrong, in words."""

    def __init__(
        self,
        producers: dict[str, tuple[str, ...]],
        partitions: int,
        value_of: Callable[[str, int], bytes],
        streams: bool = False,
    ):
        """`producers` names those of each topic. `value_of` gives the bytes that were sent under a name.
        `streams`: every producer counts its records of each partition from 0 on, and none may be missing
        or there twice."""
        self.broken: list[str] = []
        self.acknowledged: dict[str, int] = {name: 0 for names in producers.values() for name in names}
        self.read: dict[str, int] = {}
        self._producers = producers
        self._value_of = value_of
        self._streams = streams
        self._logs = {(topic, number): Log() for topic in producers for number in range(partitions)}
        self._lock = threading.Lock()

    def _break(self, text: str) -> None:
        if len(self.broken) < MOST_TOLD:
            self.broken.append(text)
        elif len(self.broken) == MOST_TOLD:
            self.broken.append("… and more")

    def tell(self, text: str) -> None:
        """Somebody else has found this wrong."""
        with self._lock:
            self._break(text)

    def _sent_as(self, producer: str, place: Place) -> str:
        return stream_of(producer, place[1]) if self._streams else producer

    def _senders(self, place: Place) -> set[str]:
        return {self._sent_as(producer, place) for producer in self._producers[place[0]]}

    def _say(self, who: str, place: Place, offset: int, name: Name) -> None:
        log = self._logs[place]
        log.end = max(log.end, offset + 1)
        before = log.words.setdefault(offset, (name, who))
        if before[0] != name:
            self._break(
                f"{shown(place)} offset {offset}: {who} says {record(name)}, "
                f"{before[1]} said {record(before[0])}"
            )

    def acknowledge(self, producer: str, place: Place, offset: int | None, number: int) -> None:
        """The producer was told that its record of this number is at this offset, or (None) that it is
        in the log, wherever."""
        with self._lock:
            self.acknowledged[producer] += 1
            log = self._logs[place]
            name = (self._sent_as(producer, place), number)
            log.acknowledged_numbers[name[0]] = max(number, log.acknowledged_numbers.get(name[0], -1))
            if offset is None:
                return
            if offset in log.acknowledged:
                self._break(f"{shown(place)} offset {offset}: acknowledged twice, now with {record(name)}")
            log.acknowledged.add(offset)
            log.acknowledged_ends[producer] = max(offset + 1, log.acknowledged_ends.get(producer, 0))
            self._say(f"the acknowledgement to {producer}", place, offset, name)

    def give(self, reader: str, place: Place, offset: int, key: bytes | None, value: bytes | None) -> None:
        """A reader was given this record. Every reader begins at offset 0."""
        name = named(key)
        ours = name is not None and name[0] in self._senders(place)
        whole = ours and value == self._value_of(*name)
        with self._lock:
            self.read[reader] = self.read.get(reader, 0) + 1
            log = self._logs[place]
            due = log.next_offsets.get(reader, 0)
            if offset != due:
                self._break(f"{shown(place)}: {reader} was given offset {offset} and not {due}")
            log.next_offsets[reader] = offset + 1
            if not whole:
                what = f"{record(name)} with other bytes" if ours else f"a foreign record, key {key!r}"
                self._break(f"{shown(place)} offset {offset}: {reader} was given {what}")
            if ours:
                self._say(reader, place, offset, name)
            if ours and self._streams:
                self._count(reader, place, offset, name)

    def _count(self, reader: str, place: Place, offset: int, name: Name) -> None:
        numbers = self._logs[place].next_numbers
        due = numbers.get((reader, name[0]), 0)
        if name[1] < due:
            self._break(f"{shown(place)} offset {offset}: {record(name)} once more, as {reader} was given it")
            return
        if name[1] > due:
            self._break(
                f"{shown(place)} offset {offset}: {record(name)} comes where number {due} is due, "
                f"as {reader} was given it"
            )
        numbers[reader, name[0]] = name[1] + 1

    def hear(self, who: str, place: Place, offset: int, key: str, whole: bool) -> None:
        """A member of a group was given the record with this key; `whole`: with the right bytes. Where it
        begins is its group's affair."""
        name = named(key.encode())
        with self._lock:
            if name is None or name[0] not in self._senders(place):
                self._break(f"{shown(place)} offset {offset}: {who} was given a foreign record, key {key!r}")
                return
            if not whole:
                self._break(f"{shown(place)} offset {offset}: {who} was given {record(name)} with other bytes")
            self._say(who, place, offset, name)

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
                self._logs[place].acknowledged_ends.get(producer, 0) > end for place, end in ends.items()
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
                    name, who = log.words.get(offset, (None, "the end of the log"))
                    self._break(
                        f"{shown(place)} offset {offset}: {who} says {record(name)}, "
                        f"but {reader} came no further than {at}"
                    )

    def finish_for_good(self, reader: str, ends: dict[Place, int]) -> None:
        """The same, and no producer sends any more: what was acknowledged without saying where has to have
        come, too."""
        self.finish(reader, ends)
        with self._lock:
            for place in ends if self._streams else ():
                log = self._logs[place]
                for stream, number in log.acknowledged_numbers.items():
                    due = log.next_numbers.get((reader, stream), 0)
                    if due <= number:
                        self._break(
                            f"{shown(place)}: {record((stream, number))} was acknowledged, "
                            f"but {reader} was given none after number {due - 1}"
                        )

    def _names(self, producer: str) -> list[Name]:
        return [
            name
            for place, log in self._logs.items()
            for name, _ in log.words.values()
            if name[0] == self._sent_as(producer, place)
        ]

    def duplicates(self, producer: str) -> int:
        """How many of the producer's records are there once more than once."""
        with self._lock:
            names = self._names(producer)
        return len(names) - len(set(names))

    def unacknowledged(self, producer: str) -> int:
        """How many records of the producer's are there beyond those that were acknowledged to it."""
        with self._lock:
            return len(self._names(producer)) - self.acknowledged[producer]


def shown(place: Place) -> str:
    return f"{place[0]}/{place[1]}"


def record(name: Name | None) -> str:
    return "a record" if name is None else f"record {name[1]} of {name[0]}"
