"""CPUs: who runs where, who used how much of them, and what the hypervisor held back."""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen
from tempfile import TemporaryFile

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
#: A load that takes longer than this hangs.
PATIENCE_SECONDS = 1_800


class Failed(Exception):
    """There is no figure; says why, and what to do where something can be done."""


@contextmanager
def children_on(cpu: int):
    """Whatever is started meanwhile runs on this CPU alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def process_cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, in user mode and in the kernel."""
    # The name, in brackets, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def cpu_ticks(cpu: int, stat: str | None = None) -> dict[str, int]:
    """What /proc/stat counts for one CPU: `stolen`, `idle`, and `all`."""
    for line in (stat or Path("/proc/stat").read_text()).splitlines():
        name, *counts = line.split()
        if name == f"cpu{cpu}":
            # user, nice, system, idle, iowait, irq, softirq, steal; what follows is in user and nice.
            ticks = [int(count) for count in counts[:8]]
            return {"stolen": ticks[7], "idle": ticks[3] + ticks[4], "all": sum(ticks)}
    raise Failed(f"/proc/stat does not tell of CPU {cpu}; run this on Linux, outside of what hides it")


def busy_share(cpus: Sequence[int], seconds: float) -> float:
    """How busy these CPUs are while nothing of ours runs, 0 to 1; the busier one."""
    before = [cpu_ticks(cpu) for cpu in cpus]
    time.sleep(seconds)
    shares = []
    for cpu, was in zip(cpus, before):
        now = cpu_ticks(cpu)
        passed = now["all"] - was["all"]
        shares.append(1 - (now["idle"] - was["idle"]) / passed if passed else 0.0)
    return max(shares)


@dataclass(frozen=True)
class Use:
    """What a client did, and what was used meanwhile."""

    seconds: float
    client_cpu_seconds: float
    broker_cpu_seconds: float
    #: Share of the time in which the hypervisor held back one of the two CPUs, the worse one.
    stolen: float


def run_client(command: list[str], cpus: Sequence[int], client_cpu: int, broker_pid: int) -> Use:
    """Runs a client to its end on its CPU, its output thrown away."""
    with TemporaryFile() as errors:
        stolen = [cpu_ticks(cpu)["stolen"] for cpu in cpus]
        broker = process_cpu_seconds(broker_pid)
        begun = time.monotonic()
        with children_on(client_cpu):
            process = Popen(command, stdin=DEVNULL, stdout=DEVNULL, stderr=errors)
        guard = threading.Timer(PATIENCE_SECONDS, process.kill)
        guard.start()
        try:
            # Not `wait`: this one tells what the process used, to the microsecond.
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            guard.cancel()
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        broker = process_cpu_seconds(broker_pid) - broker
        stolen = [cpu_ticks(cpu)["stolen"] - was for cpu, was in zip(cpus, stolen)]
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if process.returncode != 0 or "ERROR" in said:
        raise Failed(f"{' '.join(command)}\nended with {process.returncode}: {said or 'it said nothing'}")
    return Use(
        seconds=seconds,
        client_cpu_seconds=used.ru_utime + used.ru_stime,
        broker_cpu_seconds=broker,
        stolen=max(stolen) / TICKS_PER_SECOND / seconds,
    )
