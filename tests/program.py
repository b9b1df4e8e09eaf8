"""Start the program as a process, without the second that its imports take.

The suite starts the program some hundreds of times, and most of that time would go into the same
imports. So a process that has imported the program, and done nothing else, is kept, and what is
started is forked from it: a process of its own, with its own environment, directory and streams,
that runs ``python -m integrationd`` from the first line of its ``__main__`` on. Where starting is
what a test is about, it starts the interpreter itself.
"""

import atexit
import functools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

PROGRAM = (sys.executable, "-m", "integrationd")
FORKER = Path(__file__).with_name("forked_program.py")
# What the interpreter or the C library reads once, when a process starts.
AT_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_")
# Coverage follows a process that starts, and none that is forked.
COVERED = {"COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"}
COMMAND_S = 60.0

_one_at_a_time = threading.Lock()


class Process(Protocol):
    """A child process, as :class:`subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...


class Forked:
    """A process that was forked from the imported program.

    Args:
        ends: Where its id and then its end are told.
    """

    def __init__(self, ends: socket.socket) -> None:
        self._ends = ends
        self.returncode: int | None = None
        self.pid = int(ends.recv(32))

    def poll(self) -> int | None:
        """Return how it ended, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code, or the negative number of a signal.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        if self.returncode is None:
            self._ends.settimeout(timeout)
            try:
                self.returncode = int(self._ends.recv(32) or -signal.SIGKILL)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("integrationd", timeout or 0) from None
            self._ends.close()
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        """Send SIGKILL, if it still runs."""
        self.send_signal(signal.SIGKILL)


def start(
    command: Sequence[str],
    *,
    directory: Path,
    environ: Mapping[str, str],
    streams: tuple[IO[bytes], IO[bytes], IO[bytes]],
    anew: bool = False,
) -> Process:
    """Start a command and return its process, which is forked if the command is ``PROGRAM``.

    Args:
        command: The command line.
        directory: Its working directory.
        environ: All of its environment.
        streams: Its standard input, output and error.
        anew: Whether the interpreter is started in any case.
    """
    if anew or not _can_be_forked(command, environ):
        taken, out, err = streams
        return subprocess.Popen(
            command, cwd=directory, env=environ, stdin=taken, stdout=out, stderr=err
        )
    umask = os.umask(0)
    os.umask(umask)
    request = {
        "words": command[len(PROGRAM) :],
        "directory": str(directory.absolute()),
        "environ": dict(environ),
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE),
        "umask": umask,
    }
    ends, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    given = [*(stream.fileno() for stream in streams), told.fileno()]
    with told, _one_at_a_time:
        socket.send_fds(_requests(), [json.dumps(request).encode()], given)
    return Forked(ends)


def run(
    *words: str | Path,
    directory: Path,
    environ: Mapping[str, str] | None = None,
    given: str = "",
    within_s: float = COMMAND_S,
    anew: bool = False,
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end and return what it printed.

    Args:
        words: The command line.
        directory: Its working directory.
        environ: More environment variables.
        given: What it reads.
        within_s: When it is killed.
        anew: Whether the interpreter is started in any case.

    Raises:
        subprocess.TimeoutExpired: It has not come to its end.
    """
    command = [*PROGRAM, *map(str, words)]
    with (
        tempfile.TemporaryFile() as taken,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        taken.write(given.encode())
        taken.seek(0)
        process = start(
            command,
            directory=directory,
            environ=environment(environ or {}),
            streams=(taken, out, err),
            anew=anew,
        )
        try:
            code = process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        printed = [_text(stream) for stream in (out, err)]
    return subprocess.CompletedProcess(command, code, *printed)


def environment(more: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment of this process, without what the program would take up, and more."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("INTEGRATIOND_")}
    return {**inherited, **more}


def is_covered() -> bool:
    """Say whether what the tests run is written down, so that nothing is forked."""
    return bool(COVERED & os.environ.keys())


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "surrogateescape")


def _can_be_forked(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Say whether nothing is asked for that a process takes over only when it starts."""
    if not hasattr(os, "pidfd_open") or COVERED & environ.keys():
        return False
    if tuple(command[: len(PROGRAM)]) != PROGRAM:
        return False
    return _read_at_start(environ) == _read_at_start(os.environ)


def _read_at_start(environ: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(AT_START)}


@functools.cache
def _requests() -> socket.socket:
    """Start the process that others are forked from, and return where it is asked to."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        forker = subprocess.Popen(
            [sys.executable, str(FORKER), str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    atexit.register(forker.wait)
    atexit.register(ours.close)
    return ours
