"""What scripts/profile measured, as two tables. Arguments: its data directory, seconds counted."""

import collections
import csv
import json
import pathlib
import sys

SHOWN = 60
# On every stack, and so of no interest.
FRAMES = ("start_thread", "thread_start", "call_once", "rust_begin_short", "catch_unwind", "ScopedKey")


def operations_per_second(report):
    """Operations each second while they were counted, by name: what comes after slows them down."""
    rates = {}
    for series in report["workloads"][0]["repetitions"][0]["series"]:
        points = [point["operation_rate"] for point in series["timeline"] if 1.5 < point["at_seconds"] < 3.5]
        rates[series["name"]] = sum(points) / max(1, len(points))
    return rates


def counts(path):
    """Name and number of each event that `perf stat -x,` counted."""
    if not path.exists():
        return
    with path.open() as lines:
        for row in csv.reader(line for line in lines if line.strip() and not line.startswith("#")):
            if row[0].isdigit():
                yield row[2].split(":")[-1].removeprefix("sys_enter_"), int(row[0])


def stacks(path):
    """Each sample's functions, the innermost first."""
    for block in path.read_text().split("\n\n"):
        lines = block.strip("\n").split("\n")[1:]
        if lines:
            yield [" ".join(line.split()[1:]) for line in lines]


def main(directory, seconds):
    data = pathlib.Path(directory)
    rates = operations_per_second(json.loads((data / "report.json").read_text()))
    for name, rate in rates.items():
        print(f"{name}: {rate:,.0f} operations/s")
    total = sum(rate for name, rate in rates.items() if name != "end to end")
    print("\nFOR EACH OPERATION")
    counted = dict(counts(data / "counts.csv"))
    each = {name: number / float(seconds) / total for name, number in counted.items()}
    # Counting allocations slows the broker down so much that only their ratio to its reads holds.
    slowed = dict(counts(data / "allocations.csv"))
    reads = slowed.get("recvfrom", 0)
    for name, number in slowed.items():
        if name not in counted and reads:
            each[name] = number / reads * each["recvfrom"]
    for name, number in each.items():
        print(f"{number:8.2f}  {name}")
    inclusive, own, samples = collections.Counter(), collections.Counter(), 0
    for stack in stacks(data / "stacks.txt"):
        samples += 1
        inclusive.update(set(stack))
        own[stack[0]] += 1
    print(f"\nOF {samples:,} SAMPLES\n  ON STACK   ITSELF  FUNCTION")
    shown = (item for item in inclusive.most_common() if not any(frame in item[0] for frame in FRAMES))
    for (function, number), _ in zip(shown, range(SHOWN)):
        print(f"{number / samples:9.1%}{own[function] / samples:9.1%}  {function[:100]}")


main(*sys.argv[1:])
