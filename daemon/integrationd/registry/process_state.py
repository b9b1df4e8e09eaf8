"""What a plugin has no business to change in the process that imports it, before and after.

The libraries of the daemon are compared by identity, member by member and method by method; what
belongs to the whole process by value. Names that are merely added are no change.
"""

import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
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
}


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
        moved = [
            Change(f"changes {what}", _SETTERS[what], is_harmful=what not in _COMMON)
            for what in figures
            if figures[what] != self._figures[what]
        ]
        return [*patched, *moved]


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
    }


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
