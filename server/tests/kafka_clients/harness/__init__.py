"""What every test here stands on: a broker in a process of its own, the records that are sent
and compared, and one kind of failure for all clients. Nothing here speaks Kafka."""

from .broker import Broker
from .failure import Failure
from .records import Received, Record, payload, varied

__all__ = ["Broker", "Failure", "Received", "Record", "payload", "varied"]
