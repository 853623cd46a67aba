"""A proxy that breaks connections, so that answers are lost whose requests were served."""

import socket
import struct
import threading

PRODUCE = 0


class CuttingProxy:
    """Passes connections on to a broker that tells clients to come here. Of the answers to produce
    requests it keeps back one in so many, and breaks its connection instead: the broker has stored what
    its client is not told of. `cuts` counts them."""

    def __init__(self, one_in: int):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.port
        self._one_in = one_in
        self._lock = threading.Lock()
        self._answered = 0
        self.cuts = 0

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    def pass_on_to(self, broker: tuple[str, int]) -> None:
        threading.Thread(target=self._accept, args=(broker,), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self, to: tuple[str, int]) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            broker = socket.create_connection(to)
            for end in (client, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Numbers of the produce requests that are to be answered.
            produced: set[int] = set()
            for pump in (self._requests, self._answers):
                threading.Thread(target=pump, args=(client, broker, produced), daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket, produced: set[int]) -> None:
        for frame in frames(client, broker):
            key, _, number = struct.unpack_from(">hhi", frame, 4)
            if key == PRODUCE:
                produced.add(number)
            send(broker, frame)

    def _answers(self, client: socket.socket, broker: socket.socket, produced: set[int]) -> None:
        for frame in frames(broker, client):
            (number,) = struct.unpack_from(">i", frame, 4)
            if number in produced:
                produced.discard(number)
                with self._lock:
                    self._answered += 1
                    cut = self._answered % self._one_in == 0
                    self.cuts += cut
                if cut:
                    break_off(client)
                    break_off(broker)
                    return
            send(client, frame)


def frames(source: socket.socket, sink: socket.socket):
    """Whole frames, each four bytes of length and as many bytes, until one side has gone; then the other
    is told."""
    reader = source.makefile("rb")
    try:
        while len(length := reader.read(4)) == 4:
            (size,) = struct.unpack(">i", length)
            yield length + reader.read(size)
    except (OSError, ValueError):
        pass
    break_off(sink)


def send(sink: socket.socket, frame: bytes) -> None:
    try:
        sink.sendall(frame)
    except OSError:
        # Whoever reads from it finds that out.
        pass


def break_off(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
