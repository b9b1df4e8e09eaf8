"""Plugins that are folders: one version made of several modules, named and blamed as one."""

import sys
from pathlib import Path

import pytest
from tests.fake_clock import FakeClock

from integrationd.clock import SystemClock
from integrationd.registry import load_plugins, plugin_files
from integrationd.registry.examination import examine
from integrationd.registry.loader import load_plugin
from integrationd.sdk.plugin_file import PluginFileError, forget

INIT = '''
"""Echo. Source: a test."""
from integrationd.sdk import Delivered, Provider, operation
from .words import GREETING

class Echo(Provider):
    code = "echo"

    @operation("sms.send", repeat_safe=False)
    async def send(self, request, ctx):
        from . import later
        return Delivered(result={"said": GREETING + later.WORD})
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "echo"
    place.mkdir()
    put(place, __init__=INIT, words="GREETING = 'hello'", later="WORD = ' there'")
    return place


def put(place: Path, **modules: str) -> None:
    for name, text in modules.items():
        (place / f"{name}.py").write_text(text)


def fault_of(folder: Path) -> str:
    with pytest.raises(PluginFileError) as caught:
        load_plugin(folder, FakeClock())
    return str(caught.value)


def test_folder_is_one_plugin_and_its_modules_are_none(folder: Path) -> None:
    (folder.parent / "other.py").write_text("")
    (folder.parent / "plain").mkdir()
    (folder.parent / "plain" / "__init__.py").write_text("")
    (folder.parent / "plain" / "lone.py").write_text("")

    found = plugin_files([folder.parent])

    assert [path.name for path in found] == ["echo", "other.py", "lone.py"]
    assert plugin_files([folder]) == (folder,)


def test_folder_loads_with_its_siblings_and_is_forgotten_with_them(folder: Path) -> None:
    loaded = load_plugins([folder], FakeClock())

    provider = loaded.versions["echo"].provider
    package = provider.__module__
    assert f"{package}.words" in sys.modules
    forget(provider)
    assert not [name for name in sys.modules if name.startswith(package)]


def test_sibling_imported_late_is_the_one_that_was_read(folder: Path) -> None:
    version = load_plugin(folder, FakeClock())
    put(folder, later="raise SystemExit('this was never read')")

    late = __import__(f"{version.provider.__module__}.later", fromlist=["WORD"])

    assert late.WORD == " there"
    forget(version.provider)


def test_two_versions_of_a_folder_stand_beside_each_other(folder: Path) -> None:
    first = load_plugin(folder, FakeClock())
    put(folder, words="GREETING = 'good day'")
    second = load_plugin(folder, FakeClock())

    assert first.digest != second.digest
    said = [sys.modules[f"{one.provider.__module__}.words"].GREETING for one in (first, second)]
    assert said == ["hello", "good day"]
    forget(first.provider)
    forget(second.provider)


def test_no_bytecode_of_a_folder_is_written_or_read(folder: Path) -> None:
    forget(load_plugin(folder, FakeClock()).provider)

    assert not list(folder.rglob("*.pyc"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("GREETING = 1 / 0", "words.py:1: ZeroDivisionError"),
        ("\n\nGREETING = (", "words.py:3: SyntaxError"),
        (
            "from .nowhere import X",
            "words.py:1: ModuleNotFoundError: No module named 'echo.nowhere'",
        ),
        ("OTHER = 1", "cannot import name 'GREETING' from 'echo.words'"),
    ],
)
def test_fault_in_a_sibling_names_the_module_and_the_line(
    folder: Path, text: str, told: str
) -> None:
    put(folder, words=text)

    said = fault_of(folder)

    assert said.startswith(f"{folder}: ")
    assert told in said


def test_tests_and_private_names_are_no_part_of_a_folder(folder: Path) -> None:
    before = load_plugin(folder, FakeClock())
    put(folder, test_words="raise SystemExit", _notes="1 / 0", conftest="1 / 0")

    after = load_plugin(folder, FakeClock())

    assert before.digest == after.digest
    forget(before.provider)
    forget(after.provider)


def test_examination_of_a_folder_says_which_module_gives_cause_to_warn(folder: Path) -> None:
    put(folder, words="import time\nGREETING = ''\nasync def wait():\n    time.sleep(1)\n")

    found = examine(folder, SystemClock())

    assert found.is_ok
    assert [str(one) for one in found.warnings] == [
        (
            "words.py, line 4: time.sleep in the async function wait holds up the whole daemon;"
            " use ctx.http, ctx.clock, or anyio.to_thread.run_sync"
        )
    ]


def test_folder_that_never_ends_importing_is_told_with_module_and_line(folder: Path) -> None:
    put(folder, words="GREETING = ''\nwhile True:\n    pass\n")

    found = examine(folder, SystemClock(), limit_s=1.0)

    assert "did not finish importing" in str(found.problems[0])
    assert "words.py:" in str(found.problems[0])
