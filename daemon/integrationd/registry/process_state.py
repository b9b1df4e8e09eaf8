"""What a plugin has no business to change in the process that imports it, before and after.

The libraries of the daemon are compared by identity, member by member and method by method; what
belongs to the whole process by value. Names that are merely added are no change.
"""

import asyncio
import gc
import importlib
import logging
import os
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

# Named, not imported: only the journal may speak SQL, and some may not be installed.
LIBRARIES = (
    "anyio",
    "asyncio",
    "builtins",
    "httpcore2",
    "httpx2",
    "json",
    "logging",
    "msgspec",
    "os",
    "pydantic",
    "pysqlite3",
    "random",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "threading",
    "time",
    "warnings",
)

_DAEMON = "integrationd"
# Filled in by Python and pydantic as classes are used.
_OWN_AFFAIRS = ("__pydantic", "__annot", "_abc_", "__signature__", "__weakref__", "__doc__")
_ABSENT = object()
# Libraries that a plugin may well need do this too.
_COMMON = frozenset({"the filters of warnings"})
_SETTERS = {
    "the default timeout of sockets": ("socket.setdefaulttimeout",),
    "the handlers of signals": ("signal.signal", "signal.siginterrupt"),
    "what logging shows": ("logging.disable", "logging.basicConfig"),
    "the event loop policy of asyncio": ("asyncio.set_event_loop_policy",),
    "the filters of warnings": ("warnings.simplefilter", "warnings.filterwarnings"),
    "the working directory": ("os.chdir", "os.fchdir"),
    "the umask": ("os.umask",),
    "the recursion limit": ("sys.setrecursionlimit",),
    "the garbage collector": ("gc.disable", "gc.set_threshold"),
    "a standard stream": ("sys.stdin", "sys.stdout", "sys.stderr"),
    "the hook for exceptions": ("sys.excepthook",),
    "the timers that send signals": ("signal.alarm", "signal.setitimer"),
    "the limits of the process": ("resource.setrlimit",),
    "how the process is traced": ("sys.settrace", "sys.setprofile"),
    "descriptors that it has not opened": ("os.close", "os.closerange", "os.dup2"),
}
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
_OWN_DESCRIPTORS = "/dev/fd"
# A daemon has many files open; what closes them all must find some here too.
_DECOYS = 48


class Change(NamedTuple):
    """Something that is not as it was.

    Attributes:
        told: What was done to it.
        setters: What is assigned to, or called, to make it so.
        is_harmful: Whether the daemon would suffer from it.
    """

    told: str
    setters: tuple[str, ...]
    is_harmful: bool


class ProcessState:
    """The process as it stands now; make one before, and ask for the changes after."""

    def __init__(self) -> None:
        self._files = _decoys() | _open_files()
        self._libraries = {name: _members(name, module) for name, module in _modules().items()}
        self._figures = _figures()

    def changes(self) -> list[Change]:
        """Return what is not as it was."""
        patched = [
            Change(f"replaces {name}", (name,), is_harmful=True)
            for library, before in self._libraries.items()
            for name in _replaced(before, _members(library, sys.modules[library]))
        ]
        figures = _figures()
        moved = [what for what in figures if figures[what] != self._figures[what]]
        if any(_identity(number) != file for number, file in self._files.items()):
            moved.append("descriptors that it has not opened")
        told = [
            Change(f"changes {what}", _SETTERS[what], is_harmful=what not in _COMMON)
            for what in moved
        ]
        return [*patched, *told]


def _modules() -> dict[str, ModuleType]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.import_module(name)
        except ImportError:
            continue
    own = {name for name in sys.modules if f"{name}.".startswith(f"{_DAEMON}.")}
    return found | {name: sys.modules[name] for name in sorted(own)}


def _members(name: str, module: ModuleType) -> dict[str, Any]:
    """Return what stands in a module and in the classes of its own, under dotted names."""
    members: dict[str, Any] = {}
    for key, value in tuple(vars(module).items()):
        members[f"{name}.{key}"] = value
        if isinstance(value, type) and _is_of(value, name):
            members.update({f"{name}.{key}.{of}": one for of, one in tuple(vars(value).items())})
    return members


def _is_of(kind: type, module: str) -> bool:
    """Say whether a class belongs to a module; those of libraries may be made deeper inside."""
    home = getattr(kind, "__module__", None)
    if not isinstance(home, str) or module.startswith(_DAEMON):
        return home == module
    return home.lstrip("_").partition(".")[0] == module.lstrip("_")


def _replaced(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that stand for something else, without what is inside of it."""
    found: set[str] = set()
    for name, value in before.items():
        owner, _, member = name.rpartition(".")
        if owner in found or member.startswith(_OWN_AFFAIRS):
            continue
        if after.get(name, _ABSENT) is not value:
            found.add(name)
            yield name


def _figures() -> dict[str, Any]:
    root = logging.getLogger()
    # Setting the umask is the only way to read it.
    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "the default timeout of sockets": socket.getdefaulttimeout(),
        "the handlers of signals": [signal.getsignal(number) for number in _signals()],
        "what logging shows": (root.manager.disable, root.level, list(root.handlers)),
        "the event loop policy of asyncio": _loop_policy(),
        "the filters of warnings": list(warnings.filters),
        "the working directory": _working_directory(),
        "the umask": umask,
        "the recursion limit": sys.getrecursionlimit(),
        "the garbage collector": (gc.isenabled(), gc.get_threshold()),
        "a standard stream": (sys.stdin, sys.stdout, sys.stderr),
        "the hook for exceptions": sys.excepthook,
        "the timers that send signals": [signal.getitimer(kind)[0] > 0 for kind in _TIMERS],
        "the limits of the process": [resource.getrlimit(kind) for kind in _LIMITS],
        "how the process is traced": (sys.gettrace(), sys.getprofile()),
    }


def _decoys() -> dict[int, tuple[int, int] | None]:
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(_DECOYS)]
    return {number: _identity(number) for number in opened}


def _open_files() -> dict[int, tuple[int, int] | None]:
    """Return the descriptors that are open, each with what it stands for."""
    numbers = [int(one.name) for one in Path(_OWN_DESCRIPTORS).iterdir()]
    # The one that listed them is closed by now.
    return {number: found for number in numbers if (found := _identity(number))}


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _signals() -> list[signal.Signals]:
    return sorted(signal.valid_signals() & set(signal.Signals))


def _loop_policy() -> object:
    # Asking through the module's function would make a policy where there is none yet.
    return getattr(asyncio.events, "_event_loop_policy", None)


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - Path.cwd would be no different, this is one call
    except OSError:
        return ""
