"""What `scripts/kafka-load` makes of what it has counted, and that it sees what a client hides."""

import json
import os
import sys

import pytest
from load.generator import MOST_IN_FLIGHT, Conditions
from load.librdkafka import records_under_way, write_records
from load.machine import Failed, cpu_ticks, run_client
from load.report import as_json, as_text
from load.result import FETCH, LOADS, PRODUCE, Run, bounded_by, summary
from load.rounds import Measured


def a_run(load="native", what=PRODUCE, repetition=1, **changed) -> Run:
    usual = {"records": 1_000_000, "seconds": 2.0, "client_cpu_seconds": 1.0, "broker_cpu_seconds": 0.5}
    usual |= {"stolen": 0.0, "piece": 100.0, "record_bytes": 100}
    return Run(load=load, what=what, repetition=repetition, **(usual | changed))


def test_figures_follow_from_what_was_counted():
    run = a_run()
    assert run.records_per_second == 500_000
    assert run.megabytes_per_second == 50
    assert (run.broker_us_per_record, run.client_us_per_record) == (0.5, 1)
    assert (run.broker_share, run.client_share) == (0.25, 0.5)


def test_medians_and_spreads_are_those_of_the_repetitions():
    figures = summary([a_run(records=count) for count in (300, 100, 900)])["records_per_second"]
    assert (figures.median, figures.least, figures.most) == (150, 50, 450)


@pytest.mark.parametrize(
    ("changed", "full"),
    [
        ({"client_cpu_seconds": 1.9}, "client"),
        ({"broker_cpu_seconds": 1.9}, "broker"),
        ({"client_cpu_seconds": 1.5}, "neither"),
        # The rest of its CPU was not to be had.
        ({"client_cpu_seconds": 1.5, "stolen": 0.2}, "client"),
        # A client that is full could not have asked for more, however busy the broker was.
        ({"client_cpu_seconds": 1.9, "broker_cpu_seconds": 1.9}, "client"),
    ],
)
def test_it_is_told_whose_cpu_was_full(changed, full):
    assert bounded_by(summary([a_run(**changed)])) == full


def measured(**librdkafka) -> Measured:
    found = Measured(start_seconds=[0.02], busy_before=[0.0])
    found.environment = dict.fromkeys(("broker_version", "cpu", "file_system", "client"), "x")
    for what in (PRODUCE, FETCH):
        for load in LOADS:
            found.runs.append(a_run(load, what, **(librdkafka if load == "librdkafka" else {})))
    return found


def test_a_client_that_was_measured_itself_is_named():
    assert "no CPU left" not in as_text(measured())
    assert "no CPU left for produce of 100 bytes, fetch of 100 bytes" in as_text(measured(client_cpu_seconds=2.0))


def test_a_machine_that_was_not_ours_is_told():
    found = measured()
    assert "Something else" not in as_text(found)
    found.busy_before = [0.0, 0.5]
    assert "Something else was running: before a repetition a CPU was busy for 50 %" in as_text(found)


def test_programs_are_told_every_run_and_the_medians():
    told = json.loads(as_json(measured()))
    assert len(told["runs"]) == len(told["results"]) == 2 * len(LOADS)
    assert told["results"][0]["records_per_second"] == {"median": 500_000, "least": 500_000, "most": 500_000}


def test_the_generator_has_as_much_under_way():
    def in_flight(size: int, batch: float) -> int:
        return Conditions(size, 0, batch, 0, 0, 0).in_flight

    # 16 MiB of 1 KiB each, or 100,000 records, whichever is less.
    assert records_under_way(1024) == 16_384
    assert records_under_way(100) == 100_000
    assert in_flight(1024, 1_000.4) == 16
    assert in_flight(100, 10) == MOST_IN_FLIGHT
    assert in_flight(500_000, 1_000) == 1


def test_records_are_lines_of_their_length(tmp_path):
    # More than are drawn at once.
    write_records(tmp_path / "records", 100_000, 50)
    lines = (tmp_path / "records").read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [len(line) for line in lines] == [100_000] * 50
    assert len(set(lines)) == 50


def test_a_client_that_fails_is_no_figure():
    cpu = min(os.sched_getaffinity(0))

    def run(program: str):
        return run_client([sys.executable, "-c", program], [cpu], cpu, os.getpid())

    # It sees only its own CPU, and what it uses is counted.
    use = run("import os; assert len(os.sched_getaffinity(0)) == 1; sum(range(1_000_000))")
    assert 0 < use.client_cpu_seconds
    with pytest.raises(Failed, match="ended with 3"):
        run("raise SystemExit(3)")
    # kcat tells some errors and ends as if nothing were.
    with pytest.raises(Failed, match="ERROR: lost"):
        run("import sys; print('% ERROR: lost', file=sys.stderr)")


def test_what_was_stolen_is_read_from_the_cpus_line():
    stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 3 40 5 6 7 80 9 10\n"
    assert cpu_ticks(1, stat) == {"stolen": 80, "idle": 45, "all": 144}
    with pytest.raises(Failed, match="CPU 2"):
        cpu_ticks(2, stat)
