"""The commands about a configuration that changes, given to a running daemon."""

import asyncio
import json
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs
import pytest
from tests import program
from tests.reload.rig import Rig, echo, put, running

from integrationd.cli.exits import Exit

CHECKOUT = Path(__file__).parents[2]
ECHO = '[connections.echo]\nprovider = "echo"\n'
OTHER = '[connections.other]\nprovider = "echo"\nconfig = { key = "not-to-be-shown" }\n'
NOBODY = '[connections.echo]\nprovider = "nobody"\n'


class Said(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str


async def command(rig: Rig | None, *words: str) -> Said:
    """Run a command as a user does; the rig's daemon is found by its socket."""
    environ = {} if rig is None else {"INTEGRATIOND_SOCKET": str(rig.daemon.socket)}
    done = await asyncio.to_thread(
        program.run, *words, directory=CHECKOUT, environ=environ, within_s=30.0
    )
    return Said(done.returncode, done.stdout, done.stderr)


def rigged(directory: Path) -> Rig:
    rig = Rig(directory, ECHO)
    put(rig.plugins / "echo.py", echo("red"))
    return rig


async def names(rig: Rig) -> list[str]:
    return [one["id"] for one in (await rig.get("/v1/connections"))["items"]]


async def test_diff_says_what_reload_then_does_or_has_been_done(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        nothing = await command(rig, "config", "diff")
        assert nothing == Said(Exit.OK, "Nothing has changed.\n", "")
        assert (await command(rig, "reload")).out == "Nothing has changed.\n"

        rig.configure(ECHO + OTHER)
        reloaded = await command(rig, "reload")
        # The daemon may have seen the change before the command came.
        if "Nothing has changed" not in reloaded.out:
            assert reloaded.out.startswith("Taken over:\n")
            assert "connections.other" in reloaded.out
        assert (reloaded.code, reloaded.err) == (Exit.OK, "")
        assert await names(rig) == ["echo", "other"]
        assert "not-to-be-shown" not in reloaded.out


async def test_rejected_configuration_is_told_by_every_command(short_path: Path) -> None:
    rig = rigged(short_path)
    reason = "connections.echo.provider: no plugin has the code 'nobody'"
    async with running(rig):
        rig.configure(NOBODY)

        diff = await command(rig, "config", "diff")
        assert diff.code == Exit.CONFIG
        assert diff.out.startswith("The configuration would be refused:\n")
        assert reason in diff.out

        reload = await command(rig, "reload")
        assert (reload.code, reload.out) == (Exit.CONFIG, "")
        assert "the configuration is refused, and the one from before goes on:" in reload.err
        assert reason in reload.err
        assert "Mend it" in reload.err

        status = await command(rig, "status")
        assert status.code != Exit.OK
        assert f"{rig.config} was refused" in status.out
        assert reason in status.out
        assert await rig.colour() == "red"

        rig.configure(ECHO)
        assert (await command(rig, "reload")).code == Exit.OK
        assert "was refused" not in (await command(rig, "status")).out


async def test_syntax_error_is_told_with_its_line(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        rig.configure(f"{ECHO}[connections.open\n")
        line = rig.config.read_text().splitlines().index("[connections.open") + 1

        reload = await command(rig, "reload")

    assert reload.code == Exit.CONFIG
    assert f"line {line}, column" in reload.err


async def test_change_that_needs_a_restart_is_refused_as_such(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        put(rig.config, rig.text(ECHO).replace("journal.db", "another.db"))

        reload = await command(rig, "reload")

    assert reload.code == Exit.CONFIG
    assert "journal.path: needs a restart to change" in reload.err


async def test_broken_plugin_is_a_warning_of_reload_and_diff(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        path = put(rig.plugins / "echo.py", "x = (\n")

        for words in (("config", "diff"), ("reload",)):
            said = await command(rig, *words)
            assert said.code == Exit.OK
            assert f"warning: {path}:1: SyntaxError" in said.out
        assert await rig.colour() == "red"


@pytest.mark.parametrize("broken", [False, True])
async def test_commands_answer_in_json(short_path: Path, broken: bool) -> None:
    rig = rigged(short_path)
    async with running(rig):
        if broken:
            rig.configure(NOBODY)
        diff = json.loads((await command(rig, "config", "diff", "--json")).out)
        reload = json.loads((await command(rig, "reload", "--json")).out)

    assert diff["outcome"] == ("rejected" if broken else "unchanged")
    wanted = {"code": "config_rejected"} if broken else {"outcome": "unchanged"}
    assert reload | wanted == reload


@pytest.mark.parametrize("words", [("reload",), ("config", "diff")])
async def test_command_without_a_daemon_says_so(short_path: Path, words: tuple[str, ...]) -> None:
    rig = rigged(short_path)

    said = await command(rig, *words)

    assert said.code not in (Exit.OK, Exit.CONFIG)
    assert str(rig.daemon.socket) in said.err
    assert "Traceback" not in said.err


# The schema for editors


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    said = asyncio.run(command(None, "config", "schema", str(CHECKOUT / "integrationd.toml")))
    assert (said.code, said.err) == (Exit.OK, "")
    found: dict[str, Any] = json.loads(said.out)
    return found


def test_schema_is_one_and_takes_the_shipped_configuration(schema: dict[str, Any]) -> None:
    shipped = tomllib.loads((CHECKOUT / "integrationd.toml").read_text())

    jsonschema_rs.meta.validate(schema)
    jsonschema_rs.validator_for(schema).validate(shipped)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[nonsense]", []),
        ("[api]\nlisten = 3\n", ["api", "listen"]),
        ('[connections.a]\nprovider = "console"\ncolour = 1\n', ["connections", "a"]),
        ("[connections.a]\nconcurrency = 3\n", ["connections", "a"]),
        ('[connections.a]\nprovider = "console"\nrate_limit = "fast"\n', ["connections", "a"]),
        (
            '[connections.a]\nprovider = "africastalking"\nconfig = { usrname = "x" }\n',
            ["connections", "a"],
        ),
        ("[delivery]\nattempts = 0\n", ["delivery", "attempts"]),
        ('[delivery]\ntimeout = "soon"\n', ["delivery", "timeout"]),
    ],
)
def test_schema_finds_what_the_daemon_refuses(
    schema: dict[str, Any], text: str, where: list[str]
) -> None:
    errors = list(jsonschema_rs.validator_for(schema).iter_errors(tomllib.loads(text)))

    assert any(list(map(str, error.instance_path))[: len(where)] == where for error in errors)
