"""The daemon as a process that is measured."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.load import CALL, send_calls
from tests.bench.sink import told_by
from tests.faults.daemon import DaemonError, DaemonProcess

_TABLES = """
[delivery]
concurrency = 64

[log]
level = "warning"

[connections.shop]
provider = "http"
concurrency = 64
config = {{ base_url = "http://127.0.0.1:{port}", allow_private = true }}
"""


class Subject:
    """A running daemon with one connection of the built-in provider ``http``.

    Args:
        daemon: Its process, which is ready.
    """

    def __init__(self, daemon: DaemonProcess) -> None:
        process = daemon._process
        assert process is not None
        self.pid = process.pid
        self.port = daemon.port
        self.key = daemon.journal.with_name("api.key").read_text().strip()

    def send_calls(self, count: int, concurrency: int, call: dict[str, Any] = CALL) -> Any:
        """Submit calls; see :func:`tests.bench.load.send_calls`."""
        return send_calls(self.port, self.key, count, concurrency, call)

    def told(self, path: str) -> Any:
        """Return what its API says."""
        return told_by(self.port, path, {"Authorization": f"Bearer {self.key}"})

    def ledger(self) -> dict[str, int]:
        """Return how many calls are in each state."""
        total: dict[str, int] = self.told("/v1/ledger")["total"]
        return total

    def resident_mb(self) -> float:
        """Return its resident memory in MB (millions of bytes)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise AssertionError("the daemon has ended")


@contextlib.contextmanager
def running(directory: Path, sink_port: int) -> Iterator[Subject]:
    """Run a daemon in a directory, with the journal that is there, until the block ends.

    Raises:
        DaemonError: It ended before.
    """
    directory.mkdir(exist_ok=True)
    with DaemonProcess(directory, _TABLES.format(port=sink_port), anew=True) as daemon:
        daemon.start()
        daemon.wait_ready(60.0)
        try:
            yield Subject(daemon)
        except Exception as error:
            if daemon.is_running:
                raise
            raise DaemonError(f"the daemon has ended:\n{daemon.output()}") from error
        assert daemon.stop() == 0, daemon.output()


def http_config(port: int) -> dict[str, Any]:
    """Return the config of that connection."""
    return {"base_url": f"http://127.0.0.1:{port}", "allow_private": True}
