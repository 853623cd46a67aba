"""Records to send, and the same as they come back."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Record:
    """What a test sends. The partition is always chosen by the test."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp_ms: int | None = None
    partition: int = 0


@dataclass(frozen=True)
class Received:
    """What a client read."""

    offset: int
    value: bytes | None
    key: bytes | None
    headers: Headers
    timestamp_ms: int
    partition: int = 0

    def shows(self, sent: Record) -> bool:
        """Whether this is what was sent, in every field that was given."""
        return (
            (self.partition, self.key, self.value, self.headers)
            == (sent.partition, sent.key, sent.value, sent.headers)
            and sent.timestamp_ms in (None, self.timestamp_ms)
        )


def payload(seed: int, size: int) -> bytes:
    """Bytes that follow from the seed, half of which compress well."""
    draws = random.Random(seed)
    noise = draws.randbytes((size + 1) // 2)
    return (noise + b"millrace " * (size // 9 + 1))[:size]


# Long ago and not in order of sending, so that a broker that put in its own clock would be seen.
BASE_TIME_MS = 1_600_000_000_000


def varied(abilities: Iterable[str], partitions: int = 3, count: int = 60) -> list[Record]:
    """Records that differ in all that a record has, as far as a client's interface can say it.

    Abilities that count: `timestamps`, `null header values`, `repeated headers`,
    `binary headers`, `empty values` (beside null ones), `empty records` (neither key nor value).
    """
    abilities = frozenset(abilities)
    headers: list[Headers] = [
        (),
        (("trace", b"0123456789"),),
        (("first", b"1"), ("second", b"\x00\xff\x80" if "binary headers" in abilities else b"2")),
    ]
    if "repeated headers" in abilities:
        headers.append((("again", b"one"), ("again", b"two"), ("last", b"three")))
    if "null header values" in abilities:
        headers.append((("null", None), ("not-null", b"here")))
    records = []
    for number in range(count):
        key = None if number % 4 == 3 else b"key-%d" % (number % 7)
        if number % 11 == 5 and (key is not None or "empty records" in abilities):
            value = None
        elif number % 11 == 7 and "empty values" in abilities:
            value = b""
        else:
            value = payload(number, 1 + number * 37)
        timestamp = BASE_TIME_MS + (number * 7919 % count) * 1000
        records.append(
            Record(
                value=value,
                key=key,
                headers=headers[number % len(headers)],
                timestamp_ms=timestamp if "timestamps" in abilities else None,
                partition=number % partitions,
            )
        )
    return records
