"""The records of a run: all of them follow from the seed, the producer's name and a number.

`node/kill_producer.mjs` derives the same bytes.
"""

import hashlib

PARTITIONS = 6


def _drawn(seed: int, producer: str, number: int, size: int) -> bytes:
    return hashlib.shake_128(f"{seed}/{producer}/{number}".encode()).digest(size)


def stream_of(producer: str, partition: int) -> str:
    """What a producer's records of one partition are named after where they are counted for themselves,
    so that a record in another partition than its own is told from the one that belongs there."""
    return f"{producer}/{partition}"


def key_of(producer: str, number: int) -> bytes:
    return f"{producer}:{number}".encode()


def named(key: bytes | None) -> tuple[str, int] | None:
    """The producer and the number that a key names; None: it is none of ours."""
    producer, _, number = (key or b"").decode(errors="replace").rpartition(":")
    return (producer, int(number)) if producer and number.isdecimal() else None


def value_of(seed: int, producer: str, number: int) -> bytes:
    """Some hundred bytes as a rule, now and then up to 60,000, so that batches and files end anywhere."""
    head = _drawn(seed, producer, number, 4)
    size = int.from_bytes(head[:2], "big") % (60_000 if head[3] > 253 else 4_000 if head[3] > 230 else 300)
    return _drawn(seed, producer, number, 4 + size)[4:]


def partition_of(seed: int, producer: str, number: int) -> int:
    return _drawn(seed, producer, number, 4)[2] % PARTITIONS
