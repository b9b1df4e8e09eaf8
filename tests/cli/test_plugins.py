"""``plugins list`` and ``plugins new``."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import CommandLine, Playback

import integrationd
from integrationd.cli import scaffold
from integrationd.cli.exits import Exit
from integrationd.cli.scaffold_recipes import RECIPES
from integrationd.clock import SystemClock
from integrationd.registry import builtin_plugins
from integrationd.registry.examination import examine
from integrationd.sdk import CATALOGUE

ROOT = Path(__file__).parents[2]
LONGEST = "paper_plane_of_a_very_long_name_indeed__"


def loaded(**changes: Any) -> dict[str, Any]:
    return {
        "code": "paper",
        "categories": ["sms"],
        "path": "paper.py",
        "digest": "0123456789abcdef" * 4,
        "loaded_at": "2026-01-31T11:57:00.000Z",
        "summary": "Paper.",
        "operations": [{"name": "sms.send"}, {"name": "sms.balance"}],
        "config_schema": {},
        **changes,
    }


def run(*arguments: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    source_root = Path(integrationd.__file__).parent.parent
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(source_root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# What is loaded


@pytest.mark.parametrize("words", [("plugins",), ("plugins", "list")])
def test_list_shows_code_file_version_and_operations(
    command: CommandLine, daemon: Playback, words: tuple[str, ...]
) -> None:
    daemon.play({"items": [loaded()], "faults": [], "next": None})

    result = command(*words)

    assert result.exit_code == Exit.OK
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "CODE   FILE      VERSION       OPERATIONS",
        "paper  paper.py  0123456789ab  sms.send, sms.balance",
    ]
    assert daemon.asked[0].path == "/v1/providers"


def test_list_shows_faults_with_line_and_reason_and_a_note(
    command: CommandLine, daemon: Playback
) -> None:
    faults = [
        {"path": "/p/bad.py", "line": 7, "reason": "SyntaxError: \x1b[31minvalid"},
        {"path": "/p/none.py", "line": None, "reason": "cannot be read"},
    ]
    daemon.play({"items": [], "faults": faults, "next": None})

    result = command("plugins")

    assert result.exit_code == Exit.OK
    assert "  ! /p/bad.py:7: SyntaxError: \\x1b[31minvalid" in result.stdout
    assert "  ! /p/none.py: cannot be read" in result.stdout
    assert result.stderr.startswith("2 plugin files cannot be used")


def test_list_prints_the_apis_json(command: CommandLine, daemon: Playback) -> None:
    daemon.play({"items": [], "faults": [], "next": None})

    assert command("plugins", "--json").stdout == '{"items": [], "faults": [], "next": null}\n'


# A new one


def test_recipes_are_those_of_the_catalogue() -> None:
    """What moves money is written from its sheet, and what tells subscribers is the daemon's."""
    others = {one for one in CATALOGUE if one.startswith(("billing.", "payment.", "webhook."))}

    assert set(RECIPES) == set(CATALOGUE) - others


@pytest.fixture(scope="module")
def new_ones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a new plugin for each operation, one of them with the longest code."""
    directory = tmp_path_factory.mktemp("new")
    for operation in RECIPES:
        scaffold.write(f"my_{operation.replace('.', '_')}", operation, directory, SystemClock())
    scaffold.write(LONGEST, "sms.send_bulk", directory, SystemClock())
    return directory


def test_new_tests_pass_under_plain_pytest(new_ones: Path) -> None:
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=new_ones)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"\b{12 * (len(RECIPES) + 1)} passed", done.stdout)


@pytest.mark.parametrize("operation", RECIPES)
def test_new_plugin_gives_no_cause_for_a_remark(new_ones: Path, operation: str) -> None:
    found = examine(new_ones / f"my_{operation.replace('.', '_')}.py", SystemClock())

    assert (found.problems, found.warnings) == ([], [])
    assert found.operations == [operation]


def test_new_files_are_clean_under_the_rules_of_this_repository(new_ones: Path) -> None:
    rules = ("--no-cache", "--config", builtin_plugins() / "ruff.toml", new_ones)

    checked = run("-m", "ruff", "check", *rules, cwd=ROOT)
    formatted = run("-m", "ruff", "format", "--check", *rules, cwd=ROOT)

    assert checked.returncode == 0, checked.stdout
    assert formatted.returncode == 0, formatted.stdout


def test_new_plugins_are_typed(new_ones: Path) -> None:
    plugins = sorted(new_ones.glob("my_*.py"))

    done = run("-m", "mypy", "--strict", "--cache-dir", os.devnull, *plugins, cwd=new_ones)

    assert done.returncode == 0, done.stdout


def test_new_says_what_was_written_and_what_to_do_next(alone: CommandLine, tmp_path: Path) -> None:
    result = alone("plugins", "new", "paper", "--into", str(tmp_path / "a" / "b"))

    assert result.exit_code == Exit.OK
    plugin = tmp_path / "a" / "b" / "paper.py"
    assert f"Wrote {plugin}, which serves sms.send" in result.stdout
    assert f"integrationd plugins check {plugin}" in result.stdout
    assert "read 2026-01-31." in plugin.read_text()
    assert plugin.with_name("test_paper.py").exists()


@pytest.mark.parametrize("existing", ["paper.py", "test_paper.py"])
def test_new_overwrites_nothing(alone: CommandLine, tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")

    result = alone("plugins", "new", "paper", "--into", str(tmp_path))

    assert result.exit_code == Exit.PROBLEM
    assert f"{tmp_path / existing} exists already" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("Paper", "is no provider code"),
        ("../paper", "is no provider code"),
        ("päper", "is no provider code"),
        ("p" * 41, "is no provider code"),
        ("class", "would be taken for something else"),
        ("test_paper", "would be taken for something else"),
        ("email", "is the name of a library"),
        ("pytest", "is the name of a library"),
    ],
)
def test_new_refuses_codes_that_cannot_be(
    alone: CommandLine, tmp_path: Path, code: str, reason: str
) -> None:
    result = alone("plugins", "new", code, "--into", str(tmp_path))

    assert result.exit_code == Exit.USAGE
    assert reason in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "operation"),
    [
        ([], "sms.send"),
        (["--category", "messaging"], "sms.send"),
        (["--category", "email"], "email.send"),
        (["--category", "messaging", "--operation", "push.send"], "push.send"),
        (["--operation", "http.request"], "http.request"),
    ],
)
def test_new_begins_with_the_operation_that_is_asked_for(
    alone: CommandLine, tmp_path: Path, options: list[str], operation: str
) -> None:
    result = alone("plugins", "new", "paper", "--into", str(tmp_path), *options)

    assert result.exit_code == Exit.OK
    assert f'@operation("{operation}"' in (tmp_path / "paper.py").read_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--operation", "fax.send"], "is not one of: sms.send"),
        (["--category", "email", "--operation", "sms.send"], "not an operation of the category"),
    ],
)
def test_new_refuses_operations_that_do_not_exist_or_fit(
    alone: CommandLine, tmp_path: Path, options: list[str], reason: str
) -> None:
    result = alone("plugins", "new", "paper", "--into", str(tmp_path), *options)

    assert result.exit_code == Exit.USAGE
    assert reason in result.stderr


@pytest.mark.parametrize(
    ("code", "name"),
    [("paper_plane", "PaperPlane"), ("context", "ContextProvider"), ("none", "NoneProvider")],
)
def test_class_takes_no_name_that_is_in_use(code: str, name: str) -> None:
    assert scaffold.class_name(code) == name


def test_new_says_where_it_cannot_write(alone: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = alone("plugins", "new", "paper", "--into", str(tmp_path / "file" / "below"))

    assert result.exit_code == Exit.PROBLEM
    assert "cannot be written: not a directory" in result.stderr
