"""Real Kafka clients behind one interface, so that one test speaks for all of them. Each file
here knows one client and turns what it raises into `Failure`; no file decides what is right."""

from .base import CODECS, Client
from .aio import AioKafka
from .confluent import Confluent
from .kcat import Kcat
from .kafka_python import KafkaPython
from .node import KafkaJs, Platformatic

ALL: tuple[type[Client], ...] = (Confluent, KafkaPython, AioKafka, Kcat, KafkaJs, Platformatic)

__all__ = ["ALL", "CODECS", "AioKafka", "Client", "Confluent", "Kcat", "KafkaJs", "KafkaPython", "Platformatic"]
