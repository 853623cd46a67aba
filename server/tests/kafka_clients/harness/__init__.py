"""What every test here stands on: a broker in a process of its own, the records that are sent
and compared, and one kind of failure for all clients. Nothing here speaks Kafka."""

from .broker import Broker
from .cutting import CuttingProxy
from .failure import Failure
from .records import Received, Record, payload, varied

__all__ = ["Broker", "CuttingProxy", "Failure", "Received", "Record", "payload", "varied"]
