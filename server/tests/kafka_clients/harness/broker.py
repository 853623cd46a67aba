"""A Millrace in a process of its own, or another Kafka broker that runs already."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

START_SECONDS = 60


class Broker:
    """A running broker: `address` is what clients are given.

    Started and stopped by `start` and `stop`; `kill` is SIGKILL. The port stays the same for the
    broker's whole life, so that clients find it again. So does its folder, which `stop` deletes.
    """

    def __init__(
        self,
        binary: str,
        settings: dict[str, str] | None = None,
        bind: str = "127.0.0.1:0",
        folder: Path | None = None,
    ):
        self.binary = binary
        self.settings = settings or {}
        self.bind = bind
        # Beside the build: io_uring's direct writes do not work on every memory-backed /tmp.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="kafka-clients-", dir=os.environ.get("TMPDIR")))
        self.log = self.folder / "broker.log"
        self.process: subprocess.Popen | None = None
        self.address = ""
        self.cli_environment = {
            # Variables that choose how much is tested are no keys of the broker's.
            name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")
        }

    def start(self) -> "Broker":
        """Starts it and waits until it says that it is ready."""
        self._wait_until_ready(self.spawn())
        return self

    def spawn(self) -> int:
        """Starts it without waiting; where in the log this start begins."""
        command = [self.binary, "serve", "--bind", self.bind]
        command += ["--data-dir", str(self.folder / "data"), "--log-format", "text"]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        with self.log.open("ab") as log:
            begins_at = log.tell()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.cli_environment
            )
        return begins_at

    def _wait_until_ready(self, begins_at: int) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            text = self.log.read_bytes()[begins_at:].decode(errors="replace")
            text = re.sub(r"\x1b\[[0-9;]*m", "", text)
            if found := re.search(r"ready.*\baddress=([0-9.]+:[0-9]+)", text):
                self.address = self.bind = found.group(1)
                self.cli_environment["MILLRACE_BOOTSTRAP"] = self.address
                return
            if self.process.poll() is not None:
                raise RuntimeError(f"the broker ended instead of being ready:\n{text}")
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"the broker was not ready within {START_SECONDS} s:\n{text}")

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)

    def stop(self) -> None:
        """Asks it to stop; the test fails if it does not do so cleanly."""
        if self.process is None or self.process.poll() is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise RuntimeError("the broker had ended before the tests did")
        self.process.terminate()
        status = self.process.wait(timeout=30)
        tail = self.log.read_text(errors="replace")[-2000:]
        shutil.rmtree(self.folder, ignore_errors=True)
        if status != 0:
            raise RuntimeError(f"the broker ended with {status}:\n{tail}")

    def millrace(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """Runs `millrace …`, the native client, against this broker; what it printed."""
        done = subprocess.run(
            [self.binary, *arguments],
            input=stdin,
            capture_output=True,
            env=self.cli_environment,
            timeout=60,
        )
        if done.returncode != 0:
            raise RuntimeError(f"millrace {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
        return done.stdout
