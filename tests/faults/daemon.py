"""A real daemon: a process of its own, in a directory of its own, started, killed and stopped.

    with DaemonProcess(tmp_path, CONNECTIONS) as daemon:
        daemon.start()
        daemon.wait_ready()
        async with daemon.client() as client:
            answer = await client.post("/v1/sms/send", json={...})
        assert daemon.stop() == 0

Only processes that were started here are ever signalled.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

import httpx2
from tests import program as processes

PROGRAM = (*processes.PROGRAM, "run")
READY_S = 20.0
STOP_S = 45.0
POLL_S = 0.01
OUTPUT_SHOWN = 4000
PORTS = (10_000, 32_768)

_PLACES = """\
[api]
listen = "127.0.0.1:{port}"
socket = {socket}
{api}
[journal]
path = {journal}
"""


class DaemonError(AssertionError):
    """The daemon ended, or did not get ready; the message shows the end of what it wrote."""


class DaemonProcess:
    """One daemon and its files. Entering the context starts nothing; leaving it kills.

    Args:
        directory: Where its configuration, socket, journal and output are; of a short path.
        tables: The tables of its configuration besides ``[api]`` and ``[journal]``.
        api: More lines for ``[api]``.
        journal: Its journal, if not in ``directory``.
        program: The command that takes ``--config``; the daemon's own may be forked, see
            :mod:`tests.program`.
        environ: More environment variables.
        anew: Whether it starts as it does for a user, with an interpreter of its own.
    """

    def __init__(
        self,
        directory: Path,
        tables: str,
        *,
        api: str = "",
        journal: Path | None = None,
        program: Sequence[str] = PROGRAM,
        environ: Mapping[str, str] | None = None,
        anew: bool = False,
    ) -> None:
        self.socket = directory / "daemon.sock"
        self.port = free_port()
        self.journal = journal or directory / "journal.db"
        self.log_file = directory / "daemon.log"
        self._config = directory / "integrationd.toml"
        self._program = tuple(program)
        self._anew = anew
        self._environ = processes.environment(environ or {})
        self._process: processes.Process | None = None
        self._output: IO[bytes] | None = None
        places = _PLACES.format(
            port=self.port, socket=_quoted(self.socket), journal=_quoted(self.journal), api=api
        )
        self._config.write_text(f"{places}{tables}", "utf-8")

    def __enter__(self) -> "DaemonProcess":
        """Return this; nothing is started."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill the daemon if it still runs."""
        self.kill()

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        """Its address over TCP."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the process, and return before it is ready.

        Raises:
            DaemonError: It runs already.
        """
        if self.is_running:
            raise DaemonError("the daemon runs already")
        self._close()
        self._output = self.log_file.open("ab")
        with Path(os.devnull).open("rb") as nothing:
            self._process = processes.start(
                [*self._program, "--config", str(self._config)],
                directory=self._config.parent,
                environ=self._environ,
                streams=(nothing, self._output, self._output),
                anew=self._anew,
            )

    def wait_ready(self, within_s: float = READY_S) -> float:
        """Wait until the daemon takes connections and return the seconds that it took.

        Raises:
            DaemonError: It ended, or it took longer.
        """
        began = time.monotonic()
        while not self._takes_connections():
            if not self.is_running:
                raise DaemonError(f"the daemon has ended:\n{self.output()}")
            if time.monotonic() - began > within_s:
                raise DaemonError(f"not ready after {within_s} s:\n{self.output()}")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def _takes_connections(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return True

    def kill(self) -> None:
        """Send SIGKILL, if it runs, and wait for the end."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(STOP_S)
        self._close()

    def stop(self, within_s: float = STOP_S) -> int:
        """Send SIGTERM, wait for the end and return the exit code.

        Raises:
            DaemonError: It did not end in time, and was killed, or it was not running.
        """
        if self._process is None:
            raise DaemonError("the daemon was not started")
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DaemonError(f"no end after {within_s} s:\n{self.output()}") from None
        self._close()
        return code

    def _close(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None

    def output(self) -> str:
        """Return the end of what the daemon has written, over all its starts."""
        with contextlib.suppress(FileNotFoundError):
            return self.log_file.read_text("utf-8", "replace")[-OUTPUT_SHOWN:]
        return ""

    def client(
        self,
        over: Literal["unix", "tcp"] = "unix",
        *,
        keep_alive: bool = True,
        timeout_s: float = 20.0,
    ) -> httpx2.AsyncClient:
        """Return a client of the daemon's API; over TCP with the key, which the first start makes.

        Args:
            over: The Unix socket, or TCP.
            keep_alive: Whether connections are used more than once.
            timeout_s: Seconds after which an answer counts as missing.
        """
        limits = httpx2.Limits(max_keepalive_connections=None if keep_alive else 0)
        path = str(self.socket) if over == "unix" else None
        key_file = self.journal.with_name("api.key")
        headers = {"Authorization": f"Bearer {key_file.read_text().strip()}"} if not path else {}
        return httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=path, limits=limits),
            base_url=self.url,
            headers=headers,
            timeout=timeout_s,
        )


def free_port() -> int:
    """Return a TCP port of loopback on which nobody listens at this moment.

    It is none of those that the system gives to whoever connects, so that it stays free.
    """
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _quoted(path: Path) -> str:
    return json.dumps(str(path.absolute()))
