"""A file through kcat and back, byte for byte, with each codec.

`KAFKA_CLIENTS_FILE_MIB` says how large it is: 32 unless told, 1024 in `scripts/test --long`.
"""

import hashlib
import os
import random
import subprocess

import pytest
from clients import CODECS, Kcat

MIB = int(os.environ.get("KAFKA_CLIENTS_FILE_MIB", "32"))
# A line of the file is a record. None is empty: kcat sends no record for an empty line.
LINES_IN_BLOCK = 1000
PATIENCE_SECONDS = 60 + MIB * 2


def blocks():
    """The file, in pieces: lines of random lengths, half of each compresses well."""
    draws = random.Random(5)
    written = 0
    while written < MIB << 20:
        lines = []
        for _ in range(LINES_IN_BLOCK):
            length = draws.choice((20, 100, 100, 100, 300, 1000, 4000))
            noise = draws.randbytes(length // 2).replace(b"\n", b"\r")
            lines.append(noise + b"a line of text, " * (length // 32) + b".\n")
        block = b"".join(lines)
        written += len(block)
        yield block


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "sent"
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as out:
        for block in blocks():
            out.write(block)
            digest.update(block)
            size += len(block)
    yield path, digest.hexdigest(), size
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
def test_a_file_through_kcat(codec, file, new_topic, reference, all_clients):
    path, digest, size = file
    kcat = all_clients(Kcat.name)
    topic = new_topic(1)
    with path.open("rb") as lines:
        subprocess.run(
            [kcat.program, "-b", kcat.address, "-P", "-t", topic, "-p", "0", "-z", codec]
            + ["-X", "acks=all", "-X", "queue.buffering.max.kbytes=65536"],
            stdin=lines,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
    back = hashlib.sha256()
    came = 0
    with subprocess.Popen(
        [kcat.program, "-b", kcat.address, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q"]
        + ["-X", "queued.max.messages.kbytes=65536"],
        stdout=subprocess.PIPE,
    ) as reader:
        while piece := reader.stdout.read(1 << 20):
            back.update(piece)
            came += len(piece)
        assert reader.wait(timeout=PATIENCE_SECONDS) == 0
    assert (came, back.hexdigest()) == (size, digest)
    # It may be a gigabyte on the disk.
    reference.delete_topic(topic)
