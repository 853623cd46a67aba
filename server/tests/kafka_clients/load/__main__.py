"""`python -m load`, as `scripts/kafka-load` runs it."""

import argparse
import os
import signal
import sys
from pathlib import Path


def sizes(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    # A record has to fit into the memory that librdkafka is given, more than a few times.
    if not found or not all(1 <= size <= 500_000 for size in found):
        raise argparse.ArgumentTypeError("it is bytes from 1 to 500000, such as 100,1024")
    return list(dict.fromkeys(found))


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("it is a number from 1 on")
    return int(text)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/kafka-load",
        description="What librdkafka gets from the broker, beside millrace-bench under the same conditions.",
        epilog="Example: scripts/kafka-load --size 1024 --repetitions 3 --directory /var/lib/millrace",
    )
    parser.add_argument("--repetitions", type=at_least_one, default=5, metavar="N", help="of each load (5)")
    parser.add_argument(
        "--records",
        type=at_least_one,
        metavar="N",
        help="records that kcat sends in a run, and a tenth more before it (as many as make 1 GB, at most 5,000,000)",
    )
    parser.add_argument(
        "--size", type=sizes, default=[100, 1024], metavar="BYTES,…", help="lengths of records (100,1024)"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        default=Path("target/bench-data"),
        help="where brokers keep their data, and so the disk that is measured (target/bench-data)",
    )
    parser.add_argument(
        "--output", choices=["text", "json"], default="text", help="a table for people, or for programs (text)"
    )
    return parser.parse_args()


def main() -> int:
    asked = options()
    if len(os.sched_getaffinity(0)) < 2:
        print("Missing: a second CPU, as the broker and the load need one each.", file=sys.stderr)
        return 77
    from .machine import Failed
    from .report import as_json, as_text
    from .rounds import Rounds

    # So that a broker and its folder are not left behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    rounds = Rounds(asked.directory.resolve(), asked.size, asked.records, asked.repetitions)
    try:
        asked.directory.mkdir(parents=True, exist_ok=True)
        measured = rounds.run()
    except (Failed, OSError) as failed:
        rounds.end()
        print(f"FAILED: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        rounds.end()
        return 130
    rounds.end()
    print(as_json(measured) if asked.output == "json" else as_text(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
