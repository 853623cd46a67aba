"""A Fetch request by hand, for what no client tells: how the batches are stored."""

import socket
import struct

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# Version 4, the oldest that is served: the client has no name, there are one topic and one partition.
HEAD = struct.pack(">hhih", 1, 4, 7, -1)
WANTED = struct.pack(">iiiib", -1, 1_000, 1, 1 << 26, 0)


def stored_codecs(address: str, topic: str, partition: int) -> set[str]:
    """Codecs of the batches that one fetch from the beginning of a partition gives."""
    name = topic.encode()
    wanted = struct.pack(">ih", 1, len(name)) + name + struct.pack(">iiqi", 1, partition, 0, 1 << 26)
    request = HEAD + WANTED + wanted
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        reader = connection.makefile("rb")
        answer = reader.read(*struct.unpack(">i", reader.read(4)))
    # Correlation, throttling, a topic with its name, a partition, its number.
    at = 4 + 4 + 4 + 2 + len(name) + 4 + 4
    # Two offsets; aborted transactions, of which there are none.
    code, _, _, aborted, size = struct.unpack_from(">hqqii", answer, at)
    assert code == 0 and aborted <= 0, f"error {code}"
    return set(_codecs(answer[at + 26 : at + 26 + size]))


def _codecs(batches: bytes):
    at = 0
    while at + 61 <= len(batches):
        (length,) = struct.unpack_from(">i", batches, at + 8)
        (attributes,) = struct.unpack_from(">h", batches, at + 21)
        yield CODECS[attributes & 7]
        at += 12 + length
