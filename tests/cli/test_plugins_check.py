"""``plugins check``: whatever a file does when it is imported is told in words."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import CommandLine

from integrationd.cli.exits import Exit
from integrationd.clock import SystemClock
from integrationd.registry import builtin_plugins, plugin_files
from integrationd.registry.examination import OUTPUT_LIMIT_BYTES, Examination, examine
from integrationd.registry.plugin_reading import remarks_on

PLUGIN = '''\
from integrationd.sdk import *


class Paper(Provider):
    """Paper.

    Source: a made-up document.
    """

    code = "paper"

    class Config(ProviderConfig):
        api_key: SecretStr

    @operation("sms.send", repeat_safe=False)
    async def send(self, request, ctx):
        return Delivered()


'''
NEXT = PLUGIN.count("\n") + 1
LIMIT_S = 0.7


def written(directory: Path, text: str, name: str = "paper.py") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def examined_with(directory: Path, more: str) -> Examination:
    """Examine a good plugin that does something more when it is imported."""
    return examine(written(directory, PLUGIN + more), SystemClock(), limit_s=LIMIT_S)


def as_json(command: CommandLine, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command("plugins", "check", "--json", *args).stdout)
    return found


# What a file does when it is imported

HOSTILE = {
    "exits": ("raise SystemExit(3)", 0, "ends the process: SystemExit(3)"),
    "exits at once": ("import os; os._exit(3)", None, "ended the process with code 3"),
    "is killed": ("import os; os.kill(os.getpid(), 9)", None, "was killed by SIGKILL"),
    "crashes": ("import ctypes; ctypes.string_at(0)", 0, "was killed by SIGSEGV"),
    "raises": ("print(1 / 0)", 0, "ZeroDivisionError: division by zero"),
    "recurses": ("def f(): f()\nf()", 0, "RecursionError"),
    "blocks": ("import time\ntime.sleep(60)", 1, f"did not finish importing within {LIMIT_S} s"),
    "spins": ("while True: pass", 0, f"did not finish importing within {LIMIT_S} s"),
    "floods": ("while True: print('x' * 9999)", 0, "did not finish importing"),
    "takes memory": ("x = bytearray(10**12)", 0, "MemoryError"),
    "closes all": ("import os; os.closerange(0, 51)\nraise ValueError", 1, "ValueError"),
    "forks": ("import os\nos.fork()", 1, "forks the process"),
    "leaves a process": (
        "import subprocess\nsubprocess.Popen(['sleep', '60'])",
        None,
        "leaves a process running",
    ),
    "patches ssl": (
        "import ssl\nssl.SSLContext.wrap_socket = None",
        1,
        "replaces ssl.SSLContext.wrap_socket",
    ),
    "patches the client": (
        "import httpx2\nsetattr(httpx2.AsyncClient, 'send', None)",
        1,
        "replaces httpx2.AsyncClient.send",
    ),
    "patches the daemon": (
        "import integrationd.clock as c\nc.SystemClock.now_ms = lambda self: 0",
        1,
        "replaces integrationd.clock.SystemClock.now_ms",
    ),
    "patches print": ("import builtins\nbuiltins.print = None", 1, "replaces builtins.print"),
    "takes a signal": (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
        1,
        "changes the handlers of signals",
    ),
    "sets a time limit": (
        "from socket import setdefaulttimeout as s\ns(3)",
        1,
        "changes the default timeout of sockets",
    ),
    "silences logging": ("import logging\nlogging.disable()", 1, "changes what logging shows"),
    "moves": ("import os\nos.chdir('/')", 1, "changes the working directory"),
    "is cut off": ("def f(", 0, "SyntaxError"),
    "is a second class": ("class Other(Provider): ...", None, "exactly one class"),
}


@pytest.mark.parametrize(("more", "offset", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_file_is_told_with_its_line(
    tmp_path: Path, more: str, offset: int | None, reason: str
) -> None:
    found = examined_with(tmp_path, more)

    line = None if offset is None else NEXT + offset
    assert [one for one in found.problems if one.line == line and reason in one.reason]


def test_good_file_is_ok_and_told_in_full(tmp_path: Path) -> None:
    found = examined_with(tmp_path, "")

    assert found.is_ok
    assert not found.warnings
    assert (found.code, found.operations) == ("paper", ["sms.send"])
    assert found.config_schema is not None
    assert "api_key" in found.config_schema["properties"]


@pytest.mark.parametrize("path", plugin_files([builtin_plugins()]), ids=lambda path: path.stem)
def test_builtin_plugin_gives_no_cause_for_a_remark(path: Path) -> None:
    found = examine(path, SystemClock())

    assert (found.problems, found.warnings) == ([], [])


def test_place_in_a_library_is_told_beside_the_files_own_line(tmp_path: Path) -> None:
    found = examined_with(tmp_path, 'import re\nre.match("(a+)+$", "a" * 40 + "b")')

    (problem,) = found.problems
    assert problem.line == NEXT + 1
    assert "(in match of " in problem.reason


def test_output_is_kept_to_a_limit_and_counted(tmp_path: Path) -> None:
    found = examined_with(tmp_path, "print('x' * 1_000_000)")

    assert found.is_ok
    assert len(found.output) == OUTPUT_LIMIT_BYTES
    assert "writes 1000001 bytes to its standard output" in str(found.warnings[0])


def test_thread_that_keeps_the_process_from_ending_is_a_problem(tmp_path: Path) -> None:
    more = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()"

    (problem,) = examined_with(tmp_path, more).problems

    assert "starts the thread" in str(problem)


def test_daemon_thread_that_is_started_is_warned_of(tmp_path: Path) -> None:
    more = (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )

    found = examined_with(tmp_path, more)

    assert found.is_ok
    assert "starts the thread" in str(found.warnings[0])


def test_plugin_named_like_a_library_does_not_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, PLUGIN, "json.py")

    assert examine(Path(path.name), SystemClock()).is_ok


def test_missing_file_is_a_problem(tmp_path: Path) -> None:
    found = examine(tmp_path / "none.py", SystemClock())

    assert [str(one) for one in found.problems] == ["cannot be read: No such file or directory"]


# What is seen by reading


def remarks(text: str) -> list[str]:
    return [str(one) for one in remarks_on(text.encode())]


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("import time\nasync def f():\n    time.sleep(1)", "time.sleep"),
        ("from time import sleep as z\nasync def f():\n    z(1)", "time.sleep"),
        ("import requests as r\nasync def f():\n    r.get('x')", "requests.get"),
        ("import httpx2\nasync def f():\n    httpx2.post('x')", "httpx2.post"),
        ("import subprocess\nasync def f():\n    subprocess.run([])", "subprocess.run"),
        ("\nasync def f():\n    open('x')", "open"),
        ("import pathlib\nasync def f():\n    pathlib.Path('x').read_text()", "….read_text"),
    ],
)
def test_blocking_call_in_an_operation_is_warned_of(called: str, name: str) -> None:
    (remark,) = remarks(called)

    assert remark.startswith(f"line 3: {name} in the async function f holds up the whole daemon")


@pytest.mark.parametrize(
    "harmless",
    [
        "import time\ndef f():\n    time.sleep(1)",
        "import time\nasync def f():\n    def g():\n        time.sleep(1)",
        "async def f(ctx):\n    await ctx.http.get('x')",
        "async def f(self):\n    self.open('x')",
        "from integrationd.sdk.contracts.http import check_path",
        "def (",
    ],
)
def test_harmless_code_is_passed_over(harmless: str) -> None:
    assert remarks(harmless) == []


@pytest.mark.parametrize(
    "line", ["import integrationd.journal", "from integrationd import journal"]
)
def test_import_of_the_daemons_inside_is_warned_of(line: str) -> None:
    assert remarks(line)[0].startswith("line 1: imports integrationd.journal")


def test_missing_source_is_warned_of() -> None:
    assert "has no 'Source:' line" in remarks("class Paper(Provider):\n    '''Paper.'''")[0]


def test_secret_as_plain_text_is_warned_of_with_its_line(tmp_path: Path) -> None:
    fields = "webhook_secret: str | None = None\n        token_url: str = ''\n"
    text = PLUGIN.replace("api_key: SecretStr\n", f"api_key: SecretStr\n        {fields}")

    found = examine(written(tmp_path, text), SystemClock())

    assert found.is_ok
    (warned,) = found.warnings
    assert warned.line == text.splitlines().index("        webhook_secret: str | None = None") + 1
    assert "webhook_secret looks like a secret" in warned.reason


# The command


def test_command_tells_good_and_bad_files_one_after_the_other(
    alone: CommandLine, tmp_path: Path
) -> None:
    good = written(tmp_path, PLUGIN, "good.py")
    bad = written(tmp_path, PLUGIN.replace('"paper"', '"PAPER"'), "bad.py")

    result = alone("plugins", "check", str(good), str(bad))

    assert result.exit_code == Exit.PROBLEM
    lines = result.stdout.splitlines()
    assert lines[0] == f"{good}: ok: paper, sms.send"
    assert lines[1] == f"{bad}: cannot be used"
    assert "Paper.code must be text of a-z" in lines[2]


def test_command_with_warnings_alone_succeeds(alone: CommandLine, tmp_path: Path) -> None:
    path = written(tmp_path, PLUGIN.replace("Source:", "From:"))

    result = alone("plugins", "check", str(path))

    assert result.exit_code == Exit.OK
    assert "  warning: line 4: the docstring of Paper has no 'Source:' line" in result.stdout


def test_command_escapes_what_could_steer_a_terminal(alone: CommandLine, tmp_path: Path) -> None:
    path = written(tmp_path, f"{PLUGIN}print('\\x1b[31mred')\nraise ValueError('\\x1b[0m')")

    result = alone("plugins", "check", str(path))

    assert "\x1b" not in result.stdout
    assert "its output begins: \\x1b[31mred" in result.stdout


def test_command_shows_the_schema_when_asked(alone: CommandLine, tmp_path: Path) -> None:
    result = alone("plugins", "check", "--schema", str(written(tmp_path, PLUGIN)))

    schema = json.loads(result.stdout.partition("\n")[2])
    assert schema["required"] == ["api_key"]


def test_command_prints_json(alone: CommandLine, tmp_path: Path) -> None:
    path = written(tmp_path, f"{PLUGIN}1 / 0")

    found = as_json(alone, str(path))

    assert not found["ok"]
    (file,) = found["files"]
    assert file["problems"] == [{"line": NEXT, "reason": "ZeroDivisionError: division by zero"}]


def test_second_file_of_one_code_is_a_problem(alone: CommandLine, tmp_path: Path) -> None:
    first, second = (written(tmp_path, PLUGIN, name) for name in ("one.py", "two.py"))

    found = as_json(alone, str(first), str(second))

    assert [file["ok"] for file in found["files"]] == [True, False]
    assert f"which {first} has already" in found["files"][1]["problems"][0]["reason"]


def test_code_of_a_builtin_plugin_is_a_problem(alone: CommandLine, tmp_path: Path) -> None:
    path = written(tmp_path, PLUGIN.replace('"paper"', '"console"'))

    found = as_json(alone, str(path))

    assert "has the code 'console'" in found["files"][0]["problems"][0]["reason"]


def test_interpreter_that_cannot_begin_is_not_the_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise ImportError('made up')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    found = examine(written(tmp_path, PLUGIN), SystemClock())

    assert [str(one) for one in found.problems] == ["cannot be examined: ImportError: made up"]
