"""One shape for what six clients raise."""

# Kafka's error numbers that the tests name.
OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
LEADER_NOT_AVAILABLE = 5
NOT_LEADER_OR_FOLLOWER = 6
MESSAGE_TOO_LARGE = 10
INVALID_TOPIC_EXCEPTION = 17
UNKNOWN_MEMBER_ID = 25
UNSUPPORTED_VERSION = 35
TOPIC_ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
INVALID_REPLICATION_FACTOR = 38
INVALID_REPLICA_ASSIGNMENT = 39
INVALID_CONFIG = 40
INVALID_REQUEST = 42
NON_EMPTY_GROUP = 68
GROUP_ID_NOT_FOUND = 69
ELECTION_NOT_NEEDED = 84
NO_REASSIGNMENT_IN_PROGRESS = 85


class Failure(Exception):
    """A client said that something failed.

    `code` is Kafka's error number where the broker answered with one, and None where the client
    failed by itself: it gave up waiting, or saw that the broker does not offer what it needs.
    """

    def __init__(self, code: int | None, text: str):
        super().__init__(f"{text} (Kafka's error number: {code})")
        self.code = code
        self.text = text
