"""The interface behind which the clients stand."""

from harness import Received, Record

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class Client:
    """A Kafka client. A method that a client does not offer is not in its `offers`.

    The methods' rules:

    `produce(topic, records, codec, acks)`: sends in order, to the partitions that the records name,
    and waits for what `acks` promises. Gives the records' offsets, in order, or None where the
    client does not tell.

    `read(topic, partition, start, count, …)`: by assignment, without a group. `start` is an offset,
    `"earliest"` or `"latest"`. `reset` is `auto.offset.reset` for offsets that are not there;
    with "error" that raises a Failure. Raises TimeoutError when too little comes in time.

    `offsets_for_time(topic, {partition: ms})`: the first offset at or after each time; None: none.

    `watermarks(topic, partition)`: first and next offset.

    `groups()`, `group_state(group)`, `delete_group(group)`: groups from outside, with states in Kafka's
    words. `group_offsets(group, topic)`: what is committed, by partition; `set_group_offset(group, topic,
    partition, offset)` commits for a group without members.

    Admin calls do one thing each and raise the `Failure` of the one topic they name.
    """

    name = ""
    #: What its records and headers can say; see `harness.varied`.
    abilities: frozenset[str] = frozenset()
    #: Which of the optional methods it has.
    offers: frozenset[str] = frozenset()
    #: Codecs it can produce (and read, where it reads).
    codecs: tuple[str, ...] = CODECS

    def __init__(self, address: str):
        self.address = address

    def close(self) -> None:
        """Ends what runs for this client."""

    def produce(
        self, topic: str, records: list[Record], codec: str = "none", acks: str = "all"
    ) -> list[int] | None:
        raise NotImplementedError

    def read(
        self,
        topic: str,
        partition: int,
        start: int | str,
        count: int,
        *,
        reset: str = "error",
        max_wait_ms: int = 500,
        timeout_s: float = 30,
    ) -> list[Received]:
        raise NotImplementedError
