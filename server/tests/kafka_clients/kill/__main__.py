"""`python -m kill`, as `scripts/kafka-kill` runs it."""

import argparse
import logging
import random
import shutil
import signal
import sys
from pathlib import Path


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/kafka-kill",
        description="Kills the broker again and again while real Kafka clients run on.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="kills with a restart (5)")
    parser.add_argument(
        "--seed", type=int, help="what records, counts and pauses follow from; drawn unless given"
    )
    parser.add_argument(
        "--groups",
        action="store_true",
        help="idempotent producers, and groups whose members are killed, stopped and started, too",
    )
    parser.add_argument(
        "--data", type=Path, help="a new folder for the broker's data and log, which then stays"
    )
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error("--rounds must be at least 1")
    if asked.data is not None and asked.data.exists() and (
        not asked.data.is_dir() or any(asked.data.iterdir())
    ):
        parser.error(f"--data names {asked.data}, where something is; name a folder that is new or empty")
    return asked


def main() -> int:
    asked = options()
    from .group_rounds import GroupRounds
    from .rounds import Broken, Rounds

    # What a client says of a broker that is away is no news here.
    logging.getLogger("kafka").addHandler(logging.NullHandler())
    logging.getLogger("kafka").propagate = False
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    groups = "--groups " if asked.groups else ""
    print(f"scripts/kafka-kill {groups}--rounds {asked.rounds} --seed {seed}", flush=True)
    if asked.data is not None:
        asked.data.mkdir(parents=True, exist_ok=True)
    # So that the broker and the clients are not left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = (GroupRounds if asked.groups else Rounds)(seed, asked.data and asked.data.resolve())
    try:
        run.run(asked.rounds)
    except Broken as broken:
        print(f"FAILED: {broken}\nThe data and the log are kept in {run.broker.folder}", file=sys.stderr)
        return 1
    print(run.report.text())
    if asked.data is None:
        shutil.rmtree(run.broker.folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
