"""The daemon as a process: its streams, its signals, its event loop and its exit code."""

import contextlib
import faulthandler
import gc
import io
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import uvloop

from integrationd.clock import SystemClock
from integrationd.masking import Masker
from integrationd.supervisor.daemon import Daemon
from integrationd.supervisor.snapshot import Snapshot, Source
from integrationd.supervisor.systemd import Start, take_start

EXIT_OK = 0
SWITCH_INTERVAL_S = 0.0005


def run(config: Path, environ: Mapping[str, str]) -> int:
    """Run the daemon in the foreground until it is told to stop; return the exit code.

    Raises:
        IntegrationdError: It cannot start; the message says why and what to do.
        OSError: Its files or addresses cannot be used.
    """
    _open_standard_streams()
    start = take_start(os.environ, os.getpid())
    # A watchdog's SIGABRT, like a crash, leaves the place where every thread stood in the log.
    faulthandler.enable(2)
    source = Source(config, environ)
    snapshot = source.read()
    # The commit thread must get its turn soon after the disk has answered.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Long-lived objects are kept out of the collector's way: its pauses are the latency's tail.
    gc.set_threshold(50_000, 20, 100)
    with (
        contextlib.redirect_stdout(_Unfailing(1)),
        contextlib.redirect_stderr(_Unfailing(2)),
    ):
        return uvloop.run(_main(source, snapshot, start))


class _Unfailing(io.TextIOBase):
    """A standard stream whose disk may be full, and whose reader may leave, without harm."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._masker = Masker()

    def mask_by(self, masker: Masker) -> None:
        """Mask secrets by their values in what plugins and libraries write past the log."""
        self._masker = masker

    def write(self, text: str) -> int:
        shown = self._masker.without_values(text)
        with contextlib.suppress(OSError):
            os.write(self._descriptor, shown.encode(errors="backslashreplace"))
        return len(text)

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def _open_standard_streams() -> None:
    """Let no file of ours take the place of a standard stream that was closed for us."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(file, True)
    os.close(file)


async def _main(source: Source, snapshot: Snapshot, start: Start) -> int:
    daemon = Daemon(source, snapshot, SystemClock(), start)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Unfailing):
            stream.mask_by(daemon.masker)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with anyio.create_task_group() as group:

            async def obey() -> None:
                async for received in signals:
                    if received == signal.SIGHUP:
                        group.start_soon(daemon.reload, "SIGHUP", name="reload")
                    else:
                        daemon.stop()

            group.start_soon(obey, name="signals")
            await daemon.run()
            group.cancel_scope.cancel()
    return EXIT_OK
