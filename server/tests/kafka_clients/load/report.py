"""The table for people and the JSON for programs."""

import json
import statistics
import textwrap
from collections.abc import Callable
from dataclasses import asdict

from .generator import MOST_IN_FLIGHT
from .librdkafka import CONSUMER_SETTINGS, PARTITIONS, PRODUCER_SETTINGS, records_under_way
from .result import LOADS, PRODUCE, Figure, Run, bounded_by, grouped, summary
from .rounds import Measured

#: Rises whenever a reader of the old form would misread the new one.
FORMAT_VERSION = 1
#: A machine that is busier than this before a repetition is not ours alone.
BUSY = 0.1
LINE = 110
BOUNDS = {"client": "client CPU", "broker": "broker CPU", "neither": "neither CPU"}


def as_json(measured: Measured) -> str:
    """One line."""
    results = []
    for (size, what), loads in grouped(measured.runs).items():
        for load, runs in loads.items():
            figures = summary(runs)
            results.append(
                {
                    "load": load,
                    "what": what,
                    "record_bytes": size,
                    "bounded_by": bounded_by(figures),
                    **{name: asdict(figure) for name, figure in figures.items()},
                }
            )
    return json.dumps(
        {
            "format_version": FORMAT_VERSION,
            "environment": measured.environment,
            "partitions": PARTITIONS,
            "producer_settings": PRODUCER_SETTINGS,
            "consumer_settings": CONSUMER_SETTINGS,
            "start_seconds": measured.start_seconds,
            "busy_before": measured.busy_before,
            "results": results,
            "runs": [asdict(run) for run in measured.runs],
        }
    )


def as_text(measured: Measured) -> str:
    """Tables, and what has to be known to read them."""
    parts = [_head(measured)]
    for (size, what), loads in grouped(measured.runs).items():
        parts.append(_table(size, what, loads))
    notes = [textwrap.fill(note, LINE, subsequent_indent="  ") for note in _notes(measured)]
    return "\n\n".join([*parts, "\n".join(notes)])


def _head(measured: Measured) -> str:
    told = measured.environment
    settings = {"produces": PRODUCER_SETTINGS, "consumes": CONSUMER_SETTINGS}
    return "\n".join(
        [
            f"{told['broker_version']} with one shard on one CPU, load on another ({told['cpu']}), "
            f"data on {told['file_system']}",
            told["client"],
            *(_settings(does, told) for does, told in settings.items()),
        ]
    )


def _settings(does: str, settings: dict[str, str]) -> str:
    told = f"{does} with " + " ".join(f"{key}={value}" for key, value in settings.items())
    return textwrap.fill(told, LINE, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _table(size: int, what: str, loads: dict[str, list[Run]]) -> str:
    columns = {load: summary(loads[load]) for load in LOADS}
    title = f"{what}, {size} bytes" + (", acks=all" if what == PRODUCE else "")
    rows = [[title, *LOADS.values()]]
    for name, shown in _rows(what).items():
        rows.append([f"  {name}", *(shown(of) for of in columns.values())])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for first, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:])]
        lines.append("  ".join([first.ljust(widths[0]), *padded]))
    return "\n".join(lines)


def _rows(what: str) -> dict[str, Callable[[dict[str, Figure]], str]]:
    """The rows of a table by name: how each is shown."""
    if what == PRODUCE:
        piece = {"records in a batch": lambda of: f"{of['piece'].median:,.0f}"}
    else:
        piece = {"KB in an answer": lambda of: f"{of['piece'].median / 1e3:,.0f}"}
    return {
        "records/s": lambda of: _with_spread(of["records_per_second"]),
        "MB/s": lambda of: f"{of['megabytes_per_second'].median:,.1f}",
        "broker CPU, µs/record": lambda of: f"{of['broker_us_per_record'].median:.3f}",
        "client CPU, µs/record": lambda of: f"{of['client_us_per_record'].median:.3f}",
        "broker's share of its CPU": lambda of: _percent(of["broker_share"]),
        "client's share of its CPU": lambda of: _percent(of["client_share"]),
        "held back by the hypervisor": lambda of: _percent(of["stolen"]),
        **piece,
        "what was full": lambda of: BOUNDS[bounded_by(of)],
    }


def _with_spread(figure: Figure) -> str:
    if figure.least == figure.most:
        return f"{figure.median:,.0f}"
    below, above = (100 * (edge / figure.median - 1) for edge in (figure.least, figure.most))
    return f"{figure.median:,.0f} ({below:+.0f} to {above:+.0f} %)"


def _percent(figure: Figure) -> str:
    return f"{100 * figure.median:.0f} %"


def _notes(measured: Measured) -> list[str]:
    repetitions = max(run.repetition for run in measured.runs)
    sizes = sorted({run.record_bytes for run in measured.runs})
    under_way = " and ".join(f"{records_under_way(size):,} of {size} bytes" for size in sizes)
    notes = [
        f"Medians of {repetitions}, with how far repetitions were from them. Every broker had an empty folder on "
        f"the same disk; the topic has {PARTITIONS} partitions; one connection produces, one fetches.",
        f"Unacknowledged records, at most: {under_way}; millrace-bench has as many requests under way as hold "
        f"these, but no more than {MOST_IN_FLIGHT}, and runs for as long as kcat took.",
        "millrace-bench makes its batches beforehand and reads no more of what it fetches than the heads of "
        "batches; kcat makes each record from a line and prints each to nowhere.",
        f"kcat's time is that of its process: for one record, {statistics.median(measured.start_seconds):.2f} s.",
    ]
    full = [
        f"{what} of {size} bytes"
        for (size, what), loads in grouped(measured.runs).items()
        if bounded_by(summary(loads["librdkafka"])) == "client"
    ]
    if full:
        notes.append(
            f"librdkafka had no CPU left for {', '.join(full)}: there it is the client that was measured, and "
            "the broker could do more."
        )
    if (busiest := max(measured.busy_before)) > BUSY:
        notes.append(
            f"Something else was running: before a repetition a CPU was busy for {100 * busiest:.0f} % of the "
            "time. End it and measure again; these figures are not the broker's."
        )
    return notes
