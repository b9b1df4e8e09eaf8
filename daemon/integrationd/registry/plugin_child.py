"""The process that a plugin file is run in: ``python -m integrationd.registry.plugin_child``.

It tells what it finds line by line in a file, each line a JSON object with one member, so that
whatever the plugin does to the process, the parent knows how far it came. Where a plugin is stuck
or has crashed, Python itself writes the place into a second file.
"""

import contextlib
import faulthandler
import fcntl
import functools
import inspect
import json
import os
import resource
import sys
import threading
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pydantic
from msgspec.json import schema

from integrationd.clock import SystemClock
from integrationd.registry.loader import PluginVersion, load_plugin
from integrationd.registry.plugin_reading import (
    Remark,
    line_that_sets,
    lines_of_fields,
    remarks_on,
)
from integrationd.registry.process_state import ProcessState
from integrationd.sdk.plugin_file import PluginFileError
from integrationd.sdk.plugin_source import PluginSource, read_plugin
from integrationd.sdk.provider import request_schema

MEMORY_BYTES = 1 << 30
# Out of the reach of a plugin that closes every descriptor it can think of.
FIRST_DESCRIPTOR = 64

_SECRET_WORDS = frozenset({"key", "passphrase", "password", "pin", "secret", "token"})
_ABOUT_SECRETS = frozenset({"file", "header", "id", "lifetime", "name", "path", "type", "url"})


class Teller:
    """Writes what is found, for as long as this is the process that was started.

    Args:
        path: The file that the parent reads.
    """

    def __init__(self, path: Path) -> None:
        self._file = beyond_reach(path)
        self._process = os.getpid()

    def tell(self, **found: Any) -> None:
        """Write one line; a process that the plugin forked off ends here."""
        if os.getpid() != self._process:
            os._exit(0)
        os.write(self._file, json.dumps(found).encode() + b"\n")


def beyond_reach(path: Path) -> int:
    """Open a file for writing under a high descriptor."""
    low = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)
    finally:
        os.close(low)


def main() -> None:
    """Examine the plugin file of the command line: FILE, REPORT, TRACES, LIMIT."""
    file, report, traces, limit_s = sys.argv[1:]
    _set_limits()
    teller = Teller(Path(report))
    place = beyond_reach(Path(traces))
    faulthandler.enable(place)
    examine(Path(file), teller, float(limit_s), place)
    # Not by way of what the plugin may have left for the interpreter's end.
    os._exit(0)


def examine(path: Path, teller: Teller, limit_s: float, traces: int) -> None:
    """Read a plugin file, run it, and tell what is to be said of it.

    Args:
        path: The file.
        teller: Who is told.
        limit_s: Seconds after which the place where it is stuck is written to ``traces``.
        traces: A descriptor.
    """
    text = _Text(path)
    for remark in text.remarks():
        teller.tell(warning=remark)
    before, threads = ProcessState(), set(threading.enumerate())
    forks: list[int | None] = []
    os.register_at_fork(before=lambda: forks.append(_line_in(path, inspect.currentframe())))
    faulthandler.dump_traceback_later(limit_s, file=traces)
    teller.tell(began=True)
    with _problems_of(teller):
        version = load_plugin(path, SystemClock())
        describe(version)
        teller.tell(loaded=_summary(version))
        for remark in open_secrets(version, text):
            teller.tell(warning=remark)
    faulthandler.cancel_dump_traceback_later()
    _tell_of_changes(teller, before, text)
    for line in forks:
        teller.tell(problem=Remark(line, "forks the process, which would make a second daemon"))
    for thread in set(threading.enumerate()) - threads:
        told = f"starts the thread {thread.name!r} when it is imported; begin it in an operation"
        # One that is no daemon thread keeps the process from ending.
        teller.tell(**{"warning" if thread.daemon else "problem": Remark(None, told)})
    teller.tell(ended=True)


def describe(version: PluginVersion) -> None:
    """Put a plugin in words as the API does, which must not fail for one among many.

    Raises:
        PluginFileError: It cannot be done.
    """
    contracts = [served.contract for served in version.operations.values()]
    try:
        shown = [(one.summary, request_schema(one), schema(one.result)) for one in contracts]
        msgspec.json.encode((version.provider.__doc__, dict(version.config_schema), shown))
    except Exception as error:
        reason = f"cannot be described as JSON: {type(error).__name__}: {error}"
        raise PluginFileError(version.path, reason) from error


def open_secrets(version: PluginVersion, text: "_Text") -> Iterator[Remark]:
    """Yield the fields of a config that look like secrets and are plain text."""
    for name in _plain_secrets(version.provider.Config, set()):
        yield text.remark(
            functools.partial(_line_of_field, name),
            f"the config's {name} looks like a secret; annotate it as SecretStr, so that it is"
            " shown nowhere",
        )


def _line_of_field(name: str, source: bytes) -> int | None:
    return lines_of_fields(source).get(name)


def _plain_secrets(model: type[pydantic.BaseModel], seen: set[type]) -> Iterator[str]:
    seen.add(model)
    for name, field in model.model_fields.items():
        for kind in _kinds(field.annotation):
            if kind is str and _names_a_secret(name):
                yield name
            elif issubclass(kind, pydantic.BaseModel) and kind not in seen:
                yield from _plain_secrets(kind, seen)


def _kinds(annotation: Any) -> Iterator[type]:
    """Yield the classes in an annotation, at any depth."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return
    if isinstance(annotation, type) and not arguments:
        yield annotation
    for argument in arguments:
        yield from _kinds(argument)


def _names_a_secret(name: str) -> bool:
    words = name.lower().split("_")
    is_public = words[0] == "public" or words[-1] in _ABOUT_SECRETS
    return not is_public and not _SECRET_WORDS.isdisjoint(words)


def _set_limits() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))


class _Text:
    """The text of a plugin, for finding the line that a remark is about."""

    def __init__(self, path: Path) -> None:
        self._source: PluginSource | None = None
        # Loading it says why it cannot be read.
        with contextlib.suppress(PluginFileError):
            self._source = read_plugin(path)

    def _modules(self) -> Mapping[str, bytes]:
        return self._source.modules if self._source else {}

    def remarks(self) -> Iterator[Remark]:
        """Yield what reading it gives cause to warn of."""
        for module, text in self._modules().items():
            for remark in remarks_on(text):
                yield self._placed(module, remark)

    def remark(self, line_in: Callable[[bytes], int | None], reason: str) -> Remark:
        """Return a remark about the first module in which a line is found."""
        for module, text in self._modules().items():
            with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                line = line_in(text)
                if line is not None:
                    return self._placed(module, Remark(line, reason))
        return Remark(None, reason)

    def _placed(self, module: str, remark: Remark) -> Remark:
        """Name the module of a folder too."""
        if self._source is None or not self._source.is_folder:
            return remark
        return Remark(None, f"{module}.py, {remark}")


@contextlib.contextmanager
def _problems_of(teller: Teller) -> Iterator[None]:
    try:
        yield
    except PluginFileError as error:
        teller.tell(problem=Remark(error.fault.line, _reason(error)))


def _reason(error: PluginFileError) -> str:
    if isinstance(error.__cause__, SystemExit):
        return f"ends the process: SystemExit({error.__cause__.code!r})"
    return error.fault.reason


def _summary(version: PluginVersion) -> dict[str, Any]:
    return {
        "code": version.code,
        "digest": version.digest,
        "operations": sorted(version.operations),
        "config_schema": dict(version.config_schema),
    }


def _tell_of_changes(teller: Teller, before: ProcessState, text: _Text) -> None:
    for change in before.changes():
        told = f"{change.told} for the whole daemon when it is imported"
        remark = text.remark(functools.partial(_line_that_sets, change.setters), told)
        teller.tell(**{"problem" if change.is_harmful else "warning": remark})


def _line_that_sets(names: Collection[str], source: bytes) -> int | None:
    return line_that_sets(source, names)


def _line_in(path: Path, frame: FrameType | None) -> int | None:
    while frame is not None:
        if frame.f_code.co_filename == str(path):
            return frame.f_lineno
        frame = frame.f_back
    return None


if __name__ == "__main__":
    main()
