"""Plugin files that would harm a daemon that ran them unseen, and what is to be said of each."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.reload.rig import echo, put

LOADS = "loads"
"""What is expected of a file that is odd but does no harm."""
_CODE = "hostile"
GOOD = echo("hostile", _CODE)


@dataclass(frozen=True)
class HostileFile:
    """One hostile file.

    Attributes:
        name: What it tries, for the test's report.
        reason: Words that must be in what is said of it; :data:`LOADS` where it does no harm.
        place: Puts it into a directory of its own and returns its path.
        line: The line that must be named, where one can be.
    """

    name: str
    reason: str
    place: Callable[[Path], Path]
    line: int | None = None

    @property
    def loads(self) -> bool:
        """Whether it does no harm."""
        return self.reason == LOADS


def text(
    name: str, reason: str, content: str | bytes, line: int | None = None, file: str = "hostile.py"
) -> HostileFile:
    return HostileFile(name, reason, lambda directory: put(directory / file, content), line)


def first(name: str, reason: str, code: str, line: int | None = 1) -> HostileFile:
    """Return a good plugin that does something more when it is imported."""
    return text(name, reason, f"{code}\n{GOOD}", line)


def method(name: str, reason: str, old: str, new: str) -> HostileFile:
    """Return a good plugin with something in it replaced."""
    assert old in GOOD, old
    return text(name, reason, GOOD.replace(old, new))


def special(name: str, reason: str, place: Callable[[Path], object]) -> HostileFile:
    def put_it(directory: Path) -> Path:
        path = directory / "hostile.py"
        place(path)
        return path

    return HostileFile(name, reason, put_it)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def folder(name: str, reason: str, init: str, **parts: str) -> HostileFile:
    """Return a plugin that is a folder, whose first module does something before it is good."""

    def place(directory: Path) -> Path:
        path = directory / _CODE
        path.mkdir()
        for part, content in parts.items():
            (path / f"{part}.py").write_text(content)
        put(path / "__init__.py", f"{init}\n{GOOD}")
        return path

    return HostileFile(name, reason, place)


def _with_fifo(directory: Path) -> Path:
    path = directory / _CODE
    path.mkdir()
    os.mkfifo(path / "part.py")
    put(path / "__init__.py", GOOD)
    return path


READING = [
    text("syntax error", "SyntaxError", f"x = (\n{GOOD}", 1),
    text("open string", "SyntaxError", f'{GOOD}\nx = "\n'),
    text("tabs and spaces", "TabError", "if 1:\n        x = 1\n\ty = 2\n", 3),
    text("empty", "exactly one class", ""),
    text("comments only", "exactly one class", "# nothing\n"),
    text("NUL", "null bytes", GOOD.replace("import anyio", "import anyio\0", 1).encode()),
    text("BOM", LOADS, b"\xef\xbb\xbf" + GOOD.encode()),
    text("UTF-16", "not UTF-8", GOOD.encode("utf-16"), 1),
    text("Latin-1", "not UTF-8", b"x = 1\ny = '\xe9'\n" + GOOD.encode(), 2),
    text(
        "declared Latin-1", "not UTF-8", b"# -*- coding: latin-1 -*-\n# \xe9\n" + GOOD.encode(), 2
    ),
    text("CR only", "exactly one class", b"# " + GOOD.replace("\n", "\\").encode()),
    text("half written", "SyntaxError", GOOD[: GOOD.index("return Delivered") + 20]),
    text("binary", "not UTF-8", bytes(range(256)) * 16),
    text("nested deep", "too many nested parentheses", "x = " + "(" * 5000 + ")" * 5000 + "\n"),
    text("huge number", "SyntaxError", f"x = {'9' * 10_000}\n", 1),
    text("huge file", "larger than", GOOD + "#" * (5 << 20)),
    special("FIFO", "not a regular file", os.mkfifo),
    special("socket", "not a regular file", _socket),
    special("device", "not a regular file", lambda path: path.symlink_to("/dev/zero")),
    special("dangling link", "No such file", lambda path: path.symlink_to("nowhere")),
    special("looping link", "symbolic links", lambda path: path.symlink_to(path.name)),
    text("name with a line end", LOADS, GOOD, file="a\nb\x1b[31m.py"),
    text("name of bytes", "its name is not UTF-8", GOOD, file=os.fsdecode(b"a\xff.py")),
    text("name in Unicode", LOADS, GOOD, file="mtoa\u202eyp.h\u00e9.py"),
]
IMPORTING = [
    first("raises", "ZeroDivisionError", "1 / 0"),
    first(
        "raises something mute",
        "E",
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
        3,
    ),
    first("imports nothing that exists", "ModuleNotFoundError", "import no_such_library"),
    first("SystemExit", "SystemExit(3)", "raise SystemExit(3)"),
    first("KeyboardInterrupt", "SIGINT", "raise KeyboardInterrupt", None),
    first("os._exit(0)", "ended the process with code 0", "import os; os._exit(0)", None),
    first("os._exit(9)", "ended the process with code 9", "import os; os._exit(9)", None),
    first("kills itself", "SIGKILL", "import os; os.kill(os.getpid(), 9)", None),
    first("aborts", "SIGABRT", "import os; os.abort()"),
    first("segfault", "SIGSEGV", "import ctypes; ctypes.string_at(0)"),
    first("recursion", "RecursionError", "def f(): f()\nf()"),
    first("memory", "MemoryError", "x = bytearray(10**12)"),
    first(
        "memory bit by bit", "MemoryError", "x = []\nwhile True: x.append(bytearray(1 << 24))", 2
    ),
    first("forks", "forks the process", "import os\nif not os.fork(): os._exit(0)", 2),
    first(
        "fork that lives",
        "forks the process",
        "import os, time\nif not os.fork(): time.sleep(60)",
        2,
    ),
    first(
        "leaves a process",
        "leaves a process",
        "import subprocess\nsubprocess.Popen(['sleep', '60'])",
        None,
    ),
    first(
        "leaves a thread",
        "starts the thread",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(9999,)).start()",
        None,
    ),
    first(
        "daemon thread",
        LOADS,
        "from threading import Thread\nimport time\n"
        "Thread(target=time.sleep, args=(9,), daemon=True).start()",
    ),
    first(
        "httpx2 patched",
        "replaces httpx2.AsyncClient.send",
        "import httpx2\nhttpx2.AsyncClient.send = None",
        2,
    ),
    first(
        "ssl patched",
        "replaces ssl.create_default_context",
        "import ssl\nssl.create_default_context = ssl._create_unverified_context",
        2,
    ),
    first(
        "sqlite3 patched", "replaces sqlite3.connect", "import sqlite3\nsqlite3.connect = None", 2
    ),
    first(
        "daemon patched",
        "replaces integrationd.",
        "import integrationd.clock\nintegrationd.clock.SystemClock.now_ms = lambda self: 0",
        2,
    ),
    first(
        "SDK patched",
        "replaces integrationd.sdk",
        "import integrationd.sdk.outcome as o\no.Delivered.__init__ = lambda *a, **k: None",
        None,
    ),
    first("json patched", "replaces json.loads", "import json\njson.loads = None", 2),
    first("builtins patched", "replaces builtins.open", "import builtins\nbuiltins.open = None", 2),
    first("asyncio patched", "replaces asyncio.sleep", "import asyncio\nasyncio.sleep = None", 2),
    first(
        "signal handler",
        "handlers of signals",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
        2,
    ),
    first("alarm", "timers that send signals", "import signal\nsignal.alarm(1)", 2),
    first(
        "socket timeout",
        "default timeout of sockets",
        "import socket\nsocket.setdefaulttimeout(1)",
        2,
    ),
    first("logging silenced", "what logging shows", "import logging\nlogging.disable()", 2),
    first("stdout replaced", "standard stream", "import sys, io\nsys.stdout = io.StringIO()", 2),
    first(
        "descriptors closed",
        "descriptors that it has not opened",
        "import os\nos.closerange(3, 51)",
        2,
    ),
    first("all descriptors closed", "ended the process", "import os\nos.closerange(0, 4096)", None),
    first(
        "stream turned away",
        "descriptors that it has not opened",
        "import os\nos.dup2(os.open('/dev/null', 1), 2)",
        2,
    ),
    first(
        "limits lowered",
        "limits of the process",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))",
        2,
    ),
    first("traced", "how the process is traced", "import sys\nsys.setprofile(lambda *a: None)", 2),
    first("moves", "working directory", "import os\nos.chdir('/')", 2),
    first("umask", "umask", "import os\nos.umask(0)", 2),
    first("recursion limit", "recursion limit", "import sys\nsys.setrecursionlimit(60)", None),
    first("collector off", "garbage collector", "import gc\ngc.disable()", 2),
    first("modules cleared", "Error", "import sys\nsys.modules.clear()", None),
    first("deletes itself", "No such file", "import os\nos.unlink(__file__)", None),
    first(
        "raises half a character",
        "Exception: half \\ud800 of one",
        "raise Exception('half \\ud800 of one')",
    ),
    first("writes a line", LOADS, "print('x' * 100_000)"),
]
DECLARING = [
    method("code in upper case", "code must be text", 'code = "hostile"', 'code = "Hostile"'),
    method("code with a path", "code must be text", 'code = "hostile"', 'code = "../../etc"'),
    method("code in Unicode", "code must be text", 'code = "hostile"', 'code = "h\u00f6stile"'),
    method("no code", "code must be text", 'code = "hostile"', "code = None"),
    method("endless code", "code must be text", 'code = "hostile"', f'code = "{"h" * 5000}"'),
    text("code of another plugin", "has the code 'echo'", echo("stolen")),
    text(
        "code of a built-in plugin",
        "has the code 'console'",
        GOOD.replace('"hostile"', '"console"'),
    ),
    method(
        "no operation", "declares no @operation", "@operation(", "(lambda *a, **k: lambda f: f)("
    ),
    method("sync operation", "SyntaxError", "async def send", "def send"),
    method("wrong signature", "must take", "(self, request, ctx)", "(self)"),
    text("two providers", "exactly one class", f"{GOOD}\nclass Other(Provider): ...\n"),
    method(
        "class that hides",
        "OSError: no",
        "class Echo(Provider):",
        "class M(type):\n    def __dir__(cls): raise OSError('no')\n\n"
        "class Echo(Provider, metaclass=M):",
    ),
    method(
        "config of anything",
        "PydanticSchemaGenerationError",
        'key: str = ""',
        "key: object = object()\n        other: type(print) = print",
    ),
    method(
        "docstring of half a character",
        "UnicodeEncodeError",
        "Says which version",
        "\\ud800 Says which version",
    ),
    method(
        "default of half a character",
        "cannot be described as JSON: UnicodeEncodeError",
        'key: str = ""',
        'key: str = "\\ud800"',
    ),
    method(
        "request that nobody can describe",
        "cannot be described as JSON: TypeError",
        "takes_s: float = 0.0",
        "takes_s: float = 0.0\n    other: type(print) = print",
    ),
    method("unknown category", LOADS, '"hostile.send"', '"sms.shout"'),
]
FOLDERS = [
    folder("broken module", "part.py:1: SyntaxError", "from . import part", part="x = (\n"),
    folder(
        "module that raises", "part.py:2: ZeroDivisionError", "from . import part", part="\n1/0"
    ),
    folder("module that is not there", "ImportError", "from . import nothing"),
    folder(
        "circle of modules",
        "circular import",
        "from .a import x",
        a="from .b import x\n",
        b="from .a import x\n",
    ),
    folder("climbing import", "beyond top-level package", "from ..other import x"),
    folder(
        "module that patches",
        "replaces json.loads",
        "from . import part",
        part="import json\njson.loads = None\n",
    ),
    folder(
        "module that exits",
        "ended the process with code 5",
        "from . import part",
        part="import os\nos._exit(5)\n",
    ),
    folder("many modules", "has more than", "", **{f"part{n}": "" for n in range(500)}),
    HostileFile("module that is a FIFO", "is not a regular file", _with_fifo),
]
ENDLESS = [
    first("sleeps", "did not finish importing", "import time\ntime.sleep(9999)", 2),
    first("spins", "did not finish importing", "while True: pass"),
    first("floods its output", "did not finish importing", "while True: print('x' * 9999)"),
    first(
        "regular expression",
        "did not finish importing",
        "import re\nre.match('(a+)+$', 'a' * 50 + 'b')",
        2,
    ),
    first(
        "waits for input",
        "did not finish importing",
        "import sys\nsys.stdin.read(); import time; time.sleep(9999)",
        2,
    ),
]
PROMPT = [*READING, *IMPORTING, *DECLARING, *FOLDERS]
