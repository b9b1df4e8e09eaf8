"""One file becomes one validated plugin version, or an error that names the file and the line."""

import os
import sys
from pathlib import Path

import pytest

from integrationd.registry import PluginVersion, builtin_plugins, load_plugin, load_plugins
from integrationd.registry.paths import plugin_files, plugins_of
from integrationd.sdk.contracts.sms import SmsSend
from integrationd.sdk.plugin_file import PluginFileError
from integrationd.sdk.plugin_source import MAX_BYTES
from integrationd.sdk.testing import FakeClock, FakeConnection

HEAD = """\
import dataclasses
import pydantic
from integrationd.sdk import *
"""
GOOD = """\
from __future__ import annotations
import dataclasses
from integrationd.sdk import *


@dataclasses.dataclass
class Shown:
    line: str


class Paper(Provider):
    code = "paper"

    class Config(ProviderConfig):
        colour: str = "white"

    @operation("sms.send", repeat_safe=False)
    async def send(self, request, ctx):
        return Delivered(reference=Shown(request.message).line)

    @query("sms.send")
    async def ask(self, asked, ctx):
        return Done()
"""
SEND = """
    @operation("sms.send", repeat_safe=False)
    async def send(self, request, ctx): ...
"""
OPAQUE_CONFIG = """
    class Config(ProviderConfig):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        x: Exception
"""
ASK = """
    @query("sms.send_bulk")
    async def ask(self, asked, ctx): ...
"""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now_ms=1_000)


def write(directory: Path, text: str | bytes, name: str = "paper.py") -> Path:
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def modules_of(stem: str) -> list[str]:
    return [name for name in sys.modules if name.startswith(f"_integrationd_plugin_{stem}_")]


def test_load_plugin_describes_what_the_file_offers(tmp_path: Path, clock: FakeClock) -> None:
    path = write(tmp_path, GOOD)

    version = load_plugin(path, clock)

    assert (version.code, version.path, version.loaded_at_ms) == ("paper", path, 1_000)
    assert len(version.digest) == 64
    assert version.operations["sms.send"].contract.operation == "sms.send"
    assert list(version.queries) == ["sms.send"]
    assert version.config_schema["properties"]["colour"]["default"] == "white"


def test_load_plugin_decodes_payloads_into_the_contracts_request(
    tmp_path: Path, clock: FakeClock
) -> None:
    served = load_plugin(write(tmp_path, GOOD), clock).operations["sms.send"]

    request = served.decode(b'{"to": "+254711000111", "message": "Hi"}')

    assert request.message == "Hi"


def test_served_operation_asks_the_plugins_rules(tmp_path: Path, clock: FakeClock) -> None:
    rules = """repeat_safe=lambda self, request: request.message == "safe",
        reads_only=lambda self, request: request.message == "read", key_lifetime_s=60.0"""
    version = load_plugin(write(tmp_path, GOOD.replace("repeat_safe=False", rules)), clock)
    served = version.operations["sms.send"]
    provider = version.provider(version.provider.Config(), FakeConnection())

    told = [
        (served.is_repeat_safe(provider, request), served.only_reads(provider, request))
        for request in (SmsSend(to="+254711000111", message=text) for text in ("safe", "read"))
    ]

    assert told == [(True, False), (False, True)]
    assert served.key_lifetime_s(provider, None) == 60.0


def test_served_operation_takes_plain_rules(tmp_path: Path, clock: FakeClock) -> None:
    version = load_plugin(write(tmp_path, GOOD), clock)
    served = version.operations["sms.send"]
    provider = version.provider(version.provider.Config(), FakeConnection())

    assert not served.is_repeat_safe(provider, None)
    assert not served.only_reads(provider, None)
    assert served.key_lifetime_s(provider, None) is None


def test_load_plugin_keeps_versions_of_one_file_apart(tmp_path: Path, clock: FakeClock) -> None:
    path = write(tmp_path, GOOD)
    first = load_plugin(path, clock)
    write(tmp_path, GOOD.replace("white", "black"))

    second = load_plugin(path, clock)

    assert first.digest != second.digest
    assert first.provider is not second.provider
    assert colour_of(first) == "white"
    assert colour_of(second) == "black"


def colour_of(version: PluginVersion) -> object:
    return version.config_schema["properties"]["colour"]["default"]


def test_load_plugin_reads_the_bytes_and_leaves_no_bytecode(
    tmp_path: Path, clock: FakeClock
) -> None:
    load_plugin(write(tmp_path, GOOD), clock)

    assert [path.name for path in tmp_path.iterdir()] == ["paper.py"]


BROKEN: list[tuple[str, str | bytes, int | None, str]] = [
    ("syntax", "x = 1\nif x\n", 2, "SyntaxError"),
    ("indent", "def f():\nx = 1\n", 2, "IndentationError"),
    ("nul", b"x = 1\n\0", None, "null bytes"),
    ("latin", "x = 1\n# é\n".encode("latin-1"), 2, "is not UTF-8 text"),
    ("deep", f"x = {'-' * 5000}1\n", None, "cannot be compiled: maximum recursion depth"),
    ("import", "\nimport no_such_module\n", 2, "ModuleNotFoundError"),
    ("frame", "import json\n\ndef f():\n    json.loads('{')\n\nf()\n", 4, "JSONDecodeError"),
    ("exits", "import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
    ("recurses", "def f():\n    f()\nf()\n", 2, "RecursionError"),
    (
        "unprintable",
        "class E(Exception):\n    def __str__(self):\n        raise ValueError\nraise E\n",
        4,
        "exception str() failed",
    ),
    (
        "config",
        f"{HEAD}class P(Provider):\n    class Config(ProviderConfig):\n        x: 1\n",
        5,
        "",
    ),
    ("empty", "", None, "found none"),
    ("two", f"{HEAD}class A(Provider): ...\nclass B(Provider): ...\n", None, "found A, B"),
    ("imported", "from integrationd.sdk import Provider\n", None, "found none"),
    ("no_code", f"{HEAD}class A(Provider):{SEND}", None, "A.code must be text"),
    ("bad_code", f"{HEAD}class A(Provider):\n    code = 'A-b'{SEND}", None, "A.code must be"),
    (
        "plain_config",
        f"{HEAD}class A(Provider):\n    code = 'a'\n    class Config: ...\n{SEND}",
        None,
        "A.Config must derive from ProviderConfig",
    ),
    (
        "no_schema",
        f"{HEAD}class A(Provider):\n    code = 'a'\n{OPAQUE_CONFIG}{SEND}",
        None,
        "PydanticInvalidForJsonSchema",
    ),
    ("nothing", f"{HEAD}class A(Provider):\n    code = 'a'\n", None, "declares no @operation"),
    (
        "unknown",
        f"{HEAD}class A(Provider):\n    code = 'a'\n{SEND.replace('sms.send', 'sms.shout')}",
        7,
        "sms.shout is not in the catalogue",
    ),
    (
        "signature",
        f"{HEAD}class A(Provider):\n    code = 'a'\n{SEND.replace('request, ctx', 'request')}",
        7,
        "send must take (self, request, ctx)",
    ),
    (
        "twice",
        f"{HEAD}class A(Provider):\n    code = 'a'\n{SEND}{SEND.replace('send(', 'text(')}",
        10,
        "send and text both declare sms.send",
    ),
    (
        "sync",
        f"{HEAD}class A(Provider):\n    code = 'a'\n{SEND.replace('async def', 'def')}",
        7,
        "must be an 'async def'",
    ),
    (
        "sync_close",
        f"{HEAD}class A(Provider):\n    code = 'a'\n{SEND}\n    def aclose(self): ...\n",
        10,
        "aclose must be an 'async def'",
    ),
    (
        "query",
        f"{HEAD}class A(Provider):\n    code = 'a'\n{SEND}{ASK}",
        10,
        "has no @operation('sms.send_bulk')",
    ),
]


@pytest.mark.parametrize(
    ("source", "line", "told"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_load_plugin_names_file_line_and_reason(
    tmp_path: Path, clock: FakeClock, source: str | bytes, line: int | None, told: str
) -> None:
    path = write(tmp_path, source, "broken.py")

    with pytest.raises(PluginFileError) as caught:
        load_plugin(path, clock)

    fault = caught.value.fault
    assert (fault.path, fault.line) == (path, line)
    assert told in fault.reason
    assert str(caught.value).startswith(f"{path}:")
    assert modules_of("broken") == []


def test_load_plugin_lets_a_person_interrupt(tmp_path: Path, clock: FakeClock) -> None:
    path = write(tmp_path, "raise KeyboardInterrupt\n", "interrupted.py")

    with pytest.raises(KeyboardInterrupt):
        load_plugin(path, clock)

    assert modules_of("interrupted") == []


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_load_plugin_reads_regular_files_only(tmp_path: Path, clock: FakeClock, kind: str) -> None:
    path = tmp_path / "plugin.py"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)

    with pytest.raises(PluginFileError, match=r"is not a regular file|cannot be read: No such"):
        load_plugin(path, clock)


def test_load_plugin_refuses_huge_files(tmp_path: Path, clock: FakeClock) -> None:
    path = write(tmp_path, b"#" * (MAX_BYTES + 1))

    with pytest.raises(PluginFileError, match="is larger than"):
        load_plugin(path, clock)


def test_load_plugins_keeps_the_others_when_one_is_broken(tmp_path: Path, clock: FakeClock) -> None:
    broken = write(tmp_path, "raise SystemExit\n", "broken.py")
    good = write(tmp_path, GOOD, "paper.py")

    loaded = load_plugins([broken, good], clock)

    assert list(loaded.versions) == ["paper"]
    assert [(fault.path, fault.line) for fault in loaded.faults] == [(broken, 1)]


def test_load_plugins_keeps_the_first_of_two_files_with_one_code(
    tmp_path: Path, clock: FakeClock
) -> None:
    first = write(tmp_path, GOOD, "first.py")
    second = write(tmp_path, GOOD, "second.py")

    loaded = load_plugins([first, second], clock)

    assert loaded.versions["paper"].path == first
    assert [fault.path for fault in loaded.faults] == [second]
    assert str(first) in loaded.faults[0].reason
    assert modules_of("second") == []


def test_load_plugins_takes_every_builtin(clock: FakeClock) -> None:
    loaded = load_plugins(plugin_files([builtin_plugins()]), clock)

    assert loaded.faults == ()
    assert "console" in loaded.versions


def test_builtin_plugins_are_the_checkouts_where_there_is_one(tmp_path: Path) -> None:
    package = tmp_path / "daemon" / "integrationd"
    (package / "builtin_plugins").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()

    assert plugins_of(package) == tmp_path / "plugins"


def test_builtin_plugins_are_the_wheels_where_it_is_installed(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "integrationd"

    assert plugins_of(package) == package / "builtin_plugins"


def test_plugin_files_come_in_order_once_and_without_private_ones(tmp_path: Path) -> None:
    for name in ("b/two.py", "b/one.py", "a/_x.py", "a/.y.py", ".git/z.py", "ruff.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    single = tmp_path / "b" / "two.py"

    found = plugin_files([tmp_path, single, tmp_path / "gone"])

    assert found == (tmp_path / "b" / "one.py", single, tmp_path / "gone")
