"""Examine plugin files from a safe distance: each is run in a process of its own.

Whatever the file does there (block, exit, crash, fork, flood its output) ends up in words, and
nothing of it is left running.
"""

import contextlib
import dataclasses
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from integrationd.clock import Clock
from integrationd.registry import builtin_plugins, load_plugins, plugin_files
from integrationd.registry.plugin_reading import Remark

LIMIT_S = 10.0
OUTPUT_LIMIT_BYTES = 64 * 1024

_POLL_S = 0.05
# A bare interpreter with the SDK needs less than one; a busy machine may need some more.
_START_S = 30.0
# What a process has left to do once the place where it is stuck has been written.
_END_S = 0.5
_READ_BYTES = 1 << 16
# What a pipe can hold at the end, however small its pieces; a process that got away may write on.
_PIPE_READS = 64
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


@dataclasses.dataclass(slots=True, kw_only=True)
class Examination:
    """What was found out about a plugin file.

    Attributes:
        file: The file.
        code: The provider's code, if the file loads.
        digest: SHA-256 of the file, in hex, if it loads.
        operations: What the provider does.
        problems: What makes the daemon refuse it, or suffer from it.
        warnings: What may not be meant.
        output: The beginning of what it wrote to its standard streams.
        output_bytes: How much that was in all.
        config_schema: JSON Schema of the provider's config, if the file loads.
    """

    file: str
    code: str | None = None
    digest: str | None = None
    operations: list[str] = dataclasses.field(default_factory=list)
    problems: list[Remark] = dataclasses.field(default_factory=list)
    warnings: list[Remark] = dataclasses.field(default_factory=list)
    output: str = ""
    output_bytes: int = 0
    config_schema: Mapping[str, Any] | None = None

    @property
    def is_ok(self) -> bool:
        """Whether the daemon would take it and be well."""
        return not self.problems


def examine(
    path: Path,
    clock: Clock,
    *,
    limit_s: float = LIMIT_S,
    go_on: Callable[[], None] = lambda: None,
) -> Examination:
    """Run a plugin file in a process of its own and say what is wrong with it.

    Args:
        path: The file.
        clock: Measures how long it takes.
        limit_s: Seconds that the file may take to be imported.
        go_on: Called every moment; if it raises, the process is ended and the error goes on.
    """
    with tempfile.TemporaryDirectory(prefix="integrationd-check-") as directory:
        report, traces = Path(directory, "report"), Path(directory, "traces")
        report.touch(mode=0o600)
        traces.touch(mode=0o600)
        child = _Child(_command(path, report, traces, limit_s), clock)
        child.watch(limit_s, lambda: traces.stat().st_size > 0, go_on)
        found = Examination(file=str(path), output=child.output, output_bytes=child.output_bytes)
        has_begun, has_ended = _read(report, found)
        told = traces.read_text(errors="replace")
    if not has_begun:
        # The file has had no part in this; say what Python said.
        found.problems.append(Remark(None, f"cannot be examined: {_last_line(found.output)}"))
    elif not has_ended:
        found.problems.append(_death(path, child.code, told, limit_s))
    if child.left_something:
        left = "leaves a process running when it is imported; begin it in an operation"
        found.problems.append(Remark(None, left))
    if has_begun and found.output_bytes:
        wrote = f"writes {found.output_bytes} bytes to its standard output when it is imported"
        found.warnings.append(Remark(None, wrote))
    return found


def _command(path: Path, report: Path, traces: Path, limit_s: float) -> list[str]:
    # -P: a plugin named like a library must not take its place for lying in this directory.
    python = [sys.executable, "-P", "-m", "integrationd.registry.plugin_child"]
    return [*python, str(path), str(report), str(traces), str(limit_s)]


class _Child:
    """A process in a group of its own, whose output is read but not kept beyond a limit.

    Attributes:
        code: How it ended; None if it had to be ended.
        output_bytes: How much it wrote.
        left_something: Whether other processes of its group outlived it.
    """

    def __init__(self, command: list[str], clock: Clock) -> None:
        self._clock = clock
        self._kept = bytearray()
        self.code: int | None = None
        self.output_bytes = 0
        self.left_something = False
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._stream = self._process.stdout

    @property
    def output(self) -> str:
        """The beginning of what it wrote."""
        return self._kept.decode(errors="replace")

    def watch(
        self, limit_s: float, is_stuck: Callable[[], bool], go_on: Callable[[], None]
    ) -> None:
        """Wait for its end, or end it when it is stuck or over its time."""
        deadline = self._clock.monotonic() + _START_S + limit_s
        try:
            while self._process.poll() is None and self._clock.monotonic() < deadline:
                self._take(_POLL_S)
                go_on()
                if is_stuck():
                    deadline = min(deadline, self._clock.monotonic() + _END_S)
            self.code = self._process.returncode
        finally:
            self._end()

    def _end(self) -> None:
        """Kill what is left of the group, then read what is left in the pipe."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
            self.left_something = self.code is not None
        self._process.wait()
        for _ in range(_PIPE_READS):
            if not self._take(0):
                break
        self._close()

    def _take(self, wait_s: float) -> bool:
        """Read once what it has written, waiting a moment for it; say whether there was any."""
        if self._stream is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(wait_s)
            return False
        if not select.select([self._stream], [], [], wait_s)[0]:
            return False
        taken = os.read(self._stream.fileno(), _READ_BYTES)
        self.output_bytes += len(taken)
        self._kept += taken[: OUTPUT_LIMIT_BYTES - len(self._kept)]
        if not taken:
            self._close()
        return bool(taken)

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _read(report: Path, found: Examination) -> tuple[bool, bool]:
    """Take over what the process has told, and say whether it ran the file, and to the end."""
    has_begun = has_ended = False
    for line in report.read_bytes().splitlines():
        match _decoded(line):
            case {"problem": [at, reason]}:
                found.problems.append(Remark(at, reason))
            case {"warning": [at, reason]}:
                found.warnings.append(Remark(at, reason))
            case {"loaded": summary}:
                found.code, found.digest = summary["code"], summary["digest"]
                found.operations = summary["operations"]
                found.config_schema = summary["config_schema"]
            case {"began": True}:
                has_begun = True
            case {"ended": True}:
                has_ended = True
            case _:
                continue
    return has_begun, has_ended


def _decoded(line: bytes) -> object:
    """Return what a line says; a process that is killed may leave half a line."""
    try:
        found: object = json.loads(line)
    except ValueError:
        return None
    return found


def _last_line(output: str) -> str:
    return (output.strip().splitlines() or ["its process told nothing"])[-1]


def _death(path: Path, code: int | None, traces: str, limit_s: float) -> Remark:
    """Say how a process ended that did not come to its end."""
    line, inside = _place(path, traces)
    where = f" ({inside})" if inside else ""
    if code is None or (code < 0 and traces.startswith("Timeout")):
        return Remark(line, f"did not finish importing within {limit_s:g} s{where}")
    if code < 0:
        return Remark(line, f"was killed by {_signal_name(-code)} while it was imported{where}")
    return Remark(line, f"ended the process with code {code} when it was imported")


def _place(path: Path, traces: str) -> tuple[int | None, str]:
    """Return the line of the file that was running, and what that line was waiting for."""
    frames = list(_FRAME.finditer(traces))
    own = next((one for one in frames if path in (Path(one[1]), *Path(one[1]).parents)), None)
    innermost = next(iter(frames), None)
    if own is None or innermost is None:
        return None, ""
    inside = "" if innermost is own else f"in {innermost[3]} of {Path(innermost[1]).name}"
    if own[1] != str(path):
        return None, f"{Path(own[1]).name}:{own[2]} {inside}".strip()
    return int(own[2]), inside


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def examined(paths: Sequence[Path], clock: Clock, limit_s: float) -> Iterator[Examination]:
    """Examine files one after the other, and find those with a code that another has.

    The daemon keeps the first of two files with one code, and reads the built-in ones first.
    """
    builtin = load_plugins(plugin_files([builtin_plugins()]), clock)
    taken = {code: version.path for code, version in builtin.versions.items()}
    for path in paths:
        found = examine(path, clock, limit_s=limit_s)
        if found.code is not None:
            first = taken.setdefault(found.code, path)
            if first.resolve() != path.resolve():
                told = f"has the code {found.code!r}, which {first} has already; choose another"
                found.problems.append(Remark(None, told))
        yield found
