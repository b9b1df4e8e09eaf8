"""Hostile plugin files thrown into a running daemon: it goes on serving, and says where and why."""

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.reload.hostile_plugins import ENDLESS, LOADS, PROMPT, HostileFile
from tests.reload.rig import Flow, Rig, echo, put, running

ECHO = '[connections.echo]\nprovider = "echo"\n'
AT_ONCE = 16
HEARD_S = 40.0
PAUSE_S = 0.1

_numbers = itertools.count()


async def told(rig: Rig, paths: Sequence[Path]) -> dict[Path, str]:
    """Return what has been said of files, with its line, or that they have been loaded."""
    events = await rig.events("plugin.rejected")
    # A name that is not UTF-8 is told with its odd bytes written out.
    told = {one["path"]: one["told"] for one in events}
    found = {path: told[_plain(path)] for path in paths if _plain(path) in told}
    if not found and "hostile" in await rig.codes():
        return dict.fromkeys(paths, LOADS)
    return found


def _plain(path: Path) -> str:
    return str(path).encode(errors="backslashreplace").decode()


def faults_of(hostile: HostileFile, said: str) -> Iterator[str]:
    """Yield what is wrong with what was said of a file."""
    print(f"{hostile.name}: {said[:200]}")
    if hostile.reason not in said:
        yield f"{hostile.name}: {hostile.reason!r} expected, told {said!r}"
    if not hostile.loads and hostile.line and not said.startswith(f"line {hostile.line}: "):
        yield f"{hostile.name}: line {hostile.line} expected, told {said!r}"


async def throw(rig: Rig, files: Sequence[HostileFile]) -> list[str]:
    """Put files in place at once and return what is wrong with how they were met."""
    placed: dict[Path, HostileFile] = {}
    for hostile in files:
        # Of a name that no other has had, so that nobody mistakes what was said of one for another.
        place = rig.plugins / str(next(_numbers))
        place.mkdir()
        placed[hostile.place(place)] = hostile
    said = await rig.until(
        lambda: told(rig, list(placed)), lambda found: len(found) == len(placed), HEARD_S
    )
    wrong = [one for path, hostile in placed.items() for one in faults_of(hostile, said[path])]
    listed = {one["path"] for one in (await rig.get("/v1/providers"))["faults"]}
    wrong += [
        f"{hostile.name}: not listed among {listed}"
        for path, hostile in placed.items()
        if not hostile.loads and os.path.lexists(path) and _plain(path) not in listed
    ]
    call = await rig.send()
    if call["state"] != "completed" or call["result"]["colour"] != "red":
        wrong.append(f"{[one.name for one in files]}: the next call came to {call}")
    for place in rig.plugins.iterdir():
        if place.is_dir():
            shutil.rmtree(place)
    await rig.until(lambda: is_forgotten(rig), True)
    return wrong


async def is_forgotten(rig: Rig) -> bool:
    return await rig.faults() == {} and "hostile" not in await rig.codes()


def in_batches(files: Sequence[HostileFile]) -> Iterator[Sequence[HostileFile]]:
    """Yield what is refused in batches, and what loads, and shares a code, one by one."""
    refused = [one for one in files if not one.loads]
    for start in range(0, len(refused), AT_ONCE):
        yield refused[start : start + AT_ONCE]
    for one in files:
        if one.loads:
            yield [one]


async def throw_all(directory: Path, files: Sequence[HostileFile]) -> None:
    rig = Rig(directory, ECHO)
    put(rig.plugins / "echo.py", echo("red"))
    wrong: list[str] = []
    async with running(rig), Flow(rig).flowing(clients=1, pause_s=PAUSE_S) as flow:
        pid = rig.pid
        for batch in in_batches(files):
            wrong += await throw(rig, batch)
            assert rig.daemon.is_running, [one.name for one in batch]
        assert rig.pid == pid
        ledger = await rig.get("/v1/ledger")

    assert wrong == []
    assert flow.wrong == []
    assert flow.made > len(files)
    assert ledger["balances"]


async def test_some_hostile_plugin_files_are_told_and_the_daemon_goes_on(short_path: Path) -> None:
    await throw_all(short_path, PROMPT[::4])


@pytest.mark.slow
async def test_hostile_plugin_files_are_told_and_the_daemon_goes_on(short_path: Path) -> None:
    assert len({one.name for one in PROMPT}) == len(PROMPT) >= 60

    await throw_all(short_path, PROMPT)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_plugin_files_that_never_end_are_told_and_the_daemon_goes_on(
    short_path: Path,
) -> None:
    await throw_all(short_path, ENDLESS)
