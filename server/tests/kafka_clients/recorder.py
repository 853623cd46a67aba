"""Records what every client sends in a small session: `recorder.py FOLDER` writes a file for each.

`scripts/kafka-clients --record FOLDER` runs it; `recordings/README.md` says what is in a file. The
clients talk to a proxy that keeps their bytes; the broker behind it advertises the proxy, so that
they come back to it when they go where they are told.
"""

import os
import socket
import struct
import sys
import threading
from pathlib import Path

import clients
from clients import Client
from harness import Broker, Record

#: Made and deleted natively by whoever records or replays: records go there.
KEPT = "recorded-kept"
#: Made, described, changed and deleted by the client.
MADE = "recorded-made"
PARTITIONS = 2
# Replays wait as long as the client did, again and again.
MAX_WAIT_MS = 1
# The same headers in all: kcat starts anew for others.
HEADERS = (("trace", b"0123456789"), ("source", b"recorder"))
RECORDS = [
    Record(key=b"key", value=b"value", headers=HEADERS, partition=0),
    Record(key=None, value=b"a value that compresses well " * 4, headers=HEADERS, partition=0),
    Record(key=b"gone", value=None, headers=HEADERS, partition=0),
    Record(key=b"other", value=b"in another partition", headers=HEADERS, partition=1),
]
# What is sent three times, and where it is read.
IN_FIRST_PARTITION = 3 * sum(record.partition == 0 for record in RECORDS)


class Proxy:
    """Passes connections on to a broker and keeps what the clients sent, by connection."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.port
        self._broker: tuple[str, int] | None = None
        self._sent: list[bytearray] = []

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    def pass_on_to(self, broker: tuple[str, int]) -> None:
        self._broker = broker
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self) -> list[bytes]:
        """What was sent since the last time, in the order of the connections; requests that were not
        sent whole are left out, and so are connections without any."""
        taken, self._sent = self._sent, []
        return [whole for sent in taken if (whole := whole_requests(bytes(sent)))]

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            broker = socket.create_connection(self._broker)
            for end in (client, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sent = bytearray()
            self._sent.append(sent)
            for pump in ((client, broker, sent), (broker, client, None)):
                threading.Thread(target=self._pump, args=pump, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, kept: bytearray | None) -> None:
        try:
            while piece := source.recv(1 << 16):
                if kept is not None:
                    kept += piece
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One side has gone: the other is told.
            for end in (source, sink):
                end.close()


def whole_requests(sent: bytes) -> bytes:
    """As much of it as is whole requests, each four bytes of length and as many bytes."""
    at = 0
    while at + 4 <= len(sent):
        end = at + 4 + struct.unpack_from(">I", sent, at)[0]
        if end > len(sent):
            break
        at = end
    return sent[:at]


def run_session(client: Client) -> None:
    """The session: the same for all, as far as a client offers it."""
    offers = client.offers
    client.cluster()
    client.topics()
    if "create_topic" in offers:
        client.create_topic(MADE, PARTITIONS, {"retention.ms": "3600000"})
    client.partitions(KEPT)
    client.produce(KEPT, RECORDS, "none", "all")
    client.produce(KEPT, RECORDS, "gzip", "all")
    client.produce(KEPT, RECORDS, "lz4" if "lz4" in client.codecs else "gzip", "0")
    client.watermarks(KEPT, 0)
    client.offsets_for_time(KEPT, {0: 1})
    if "read" in offers:
        client.read(KEPT, 0, "earliest", IN_FIRST_PARTITION, max_wait_ms=MAX_WAIT_MS)
    if "topic_configs" in offers:
        client.topic_configs(MADE)
    if "alter_configs" in offers:
        client.alter_configs(MADE, {"retention.ms": "7200000"})
    if "incremental_alter_configs" in offers:
        client.incremental_alter_configs(MADE, {"retention.ms": "7200000"}, ["retention.bytes"])
    if "create_partitions" in offers:
        client.create_partitions(MADE, PARTITIONS + 1)
    if "delete_topic" in offers:
        client.delete_topic(MADE)


def check_discreet(recorded: bytes, what: str) -> None:
    """Asserts that nothing of this machine is in what goes into the repository."""
    for secret in (socket.gethostname(), str(Path.cwd()), str(Path.home())):
        if secret not in ("localhost", "/") and secret.encode() in recorded:
            raise RuntimeError(f"{what} sends '{secret}': nothing was written for it")


def file_name(client: type[Client]) -> str:
    return client.name.lstrip("@").replace("/", "-") + ".bin"


def record(folder: Path) -> None:
    proxy = Proxy()
    settings = {"kafka.advertised_host": "127.0.0.1", "kafka.advertised_port": str(proxy.port)}
    broker = Broker(os.environ["MILLRACE_BINARY"], settings).start()
    proxy.pass_on_to(("127.0.0.1", broker.port))
    try:
        for kind in clients.ALL:
            broker.millrace("topic", "create", KEPT, "--partitions", str(PARTITIONS))
            client = kind(proxy.address)
            try:
                run_session(client)
            finally:
                client.close()
            connections = proxy.take()
            recorded = b"".join(struct.pack(">I", len(sent)) + sent for sent in connections)
            check_discreet(recorded, kind.name)
            (folder / file_name(kind)).write_bytes(recorded)
            print(f"{file_name(kind)}: {len(connections)} connections, {len(recorded)} bytes", flush=True)
            broker.millrace("topic", "delete", KEPT)
    finally:
        broker.stop()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("recorder.py wants one folder; scripts/kafka-clients --record FOLDER runs it")
    record(Path(sys.argv[1]))
