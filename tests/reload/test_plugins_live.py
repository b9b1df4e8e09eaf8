"""Plugin files change under a running daemon while calls flow through them."""

import asyncio
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from tests.reload.rig import Flow, Rig, echo, put, running

ECHO = '[connections.echo]\nprovider = "echo"\n'
BROKEN = "from integrationd.sdk import *\nx = (\n"
BLOCKS = echo("slow").replace(
    "await anyio.sleep(request.takes_s)",
    "import time\n        time.sleep(request.takes_s)",
)
SLEEPS = "import time\ntime.sleep(3600)\n"
NEVER_CLOSES = """
    async def aclose(self):
        await anyio.sleep_forever()
"""
FAILS_ITS_CONNECTIONS = """
    def __init__(self, *told):
        raise Exception("half \\ud800 of a character")
"""
FAILS_TO_CLOSE = """
    async def aclose(self):
        raise SystemExit(7)
"""


async def test_plugin_is_added_edited_broken_mended_renamed_and_deleted_while_calls_flow(
    short_path: Path,
) -> None:
    rig = Rig(short_path, ECHO)
    path = put(rig.plugins / "echo.py", echo("red"))
    async with running(rig):
        async with Flow(rig).flowing() as flow:
            await _changes(rig, path)
            await rig.until(lambda: _colours(flow), lambda seen: "white" in seen)
        ledger = await rig.get("/v1/ledger")

    assert flow.wrong == []
    assert flow.made > 20
    assert {"red", "blue", "green", "white"} <= flow.colours
    assert ledger["balances"]
    assert ledger["total"]["accepted"] == ledger["total"]["completed"]


async def _colours(flow: Flow) -> set[str]:
    return flow.colours


async def _changes(rig: Rig, path: Path) -> None:
    await rig.until(rig.colour, "red")
    put(path, echo("blue"))
    await rig.until(rig.colour, "blue")

    put(path, BROKEN)
    faults = await rig.until(rig.faults, lambda found: "echo.py" in found)
    assert faults["echo.py"].startswith("2: SyntaxError")
    assert await rig.colour() == "blue"

    put(path, echo("green"))
    await rig.until(rig.colour, "green")
    assert await rig.faults() == {}

    path.rename(rig.plugins / "renamed.py")
    await rig.until(rig.loaded_from, "renamed.py")
    assert await rig.colour() == "green"

    (rig.plugins / "renamed.py").unlink()
    faults = await rig.until(rig.faults, lambda found: "renamed.py" in found)
    assert "connections need it: echo" in faults["renamed.py"]
    assert await rig.colour() == "green"

    put(rig.plugins / "again.py", echo("white"))
    await rig.until(rig.colour, "white")
    assert await rig.faults() == {}


async def test_what_becomes_of_plugin_files_is_in_the_event_log(short_path: Path) -> None:
    rig = Rig(short_path, ECHO)
    path = put(rig.plugins / "echo.py", echo("red"))
    async with running(rig):
        put(path, BROKEN)
        (rejected,) = await rig.until(lambda: rig.events("plugin.rejected"), bool)
        put(rig.plugins / "more.py", echo("more", "more"))
        (loaded,) = await rig.until(lambda: rig.events("plugin.loaded"), bool)
        (rig.plugins / "more.py").unlink()
        (gone,) = await rig.until(lambda: rig.events("plugin.gone"), bool)

    assert rejected["path"] == str(path)
    assert rejected["told"].startswith("line 2: SyntaxError")
    assert (loaded["plugin"], Path(loaded["path"]).name) == ("more", "more.py")
    assert (gone["plugin"], gone["told"]) == (loaded["plugin"], loaded["told"])


async def test_attempt_under_way_ends_on_its_version(short_path: Path) -> None:
    rig = Rig(short_path, ECHO)
    path = put(rig.plugins / "echo.py", echo("old"))
    async with running(rig):
        slow = asyncio.ensure_future(rig.send(takes_s=3))
        await asyncio.sleep(0.3)
        put(path, echo("new"))
        await rig.until(rig.colour, "new")

        assert not slow.done()
        assert (await slow)["result"]["colour"] == "old"


async def test_second_file_with_a_code_is_refused_until_the_first_is_gone(short_path: Path) -> None:
    rig = Rig(short_path, ECHO)
    first = put(rig.plugins / "m.py", echo("first"))
    async with running(rig):
        put(rig.plugins / "a.py", echo("second"))
        faults = await rig.until(rig.faults, lambda found: "a.py" in found)
        assert "has the code 'echo'" in faults["a.py"]
        assert await rig.colour() == "first"

        first.unlink()
        await rig.until(rig.colour, "second")
        assert await rig.faults() == {}


async def test_version_that_its_connections_cannot_be_made_with_does_not_take_over(
    short_path: Path,
) -> None:
    rig = Rig(short_path, ECHO)
    path = put(rig.plugins / "echo.py", echo("red"))
    async with running(rig):
        put(path, echo("blue") + FAILS_ITS_CONNECTIONS)
        faults = await rig.until(rig.faults, lambda found: "echo.py" in found)
        assert "connections cannot be made with it" in faults["echo.py"]
        assert "Exception: half \\ud800 of a character" in faults["echo.py"]
        assert await rig.colour() == "red"

        rig.configure(f"{ECHO}[connections.more]\nprovider = 'echo'\n")
        await rig.until(lambda: rig.events("config.applied"), bool)
        assert (await rig.get("/v1/config/diff"))["warnings"] != []
        rig.configure(ECHO)
        put(path, echo("green"))
        await rig.until(rig.colour, "green")


async def test_half_written_file_is_taken_when_it_is_whole(short_path: Path) -> None:
    rig = Rig(short_path, ECHO)
    path = put(rig.plugins / "echo.py", echo("old"))
    async with running(rig):
        whole = echo("whole").encode()
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(whole), 40):
                file.write(whole[start : start + 40])
                await asyncio.sleep(0.02)
        await rig.until(rig.colour, "whole")
        assert await rig.faults() == {}


async def test_plugin_that_blocks_the_loop_is_named(short_path: Path) -> None:
    rig = Rig(short_path, ECHO)
    path = put(rig.plugins / "echo.py", BLOCKS)
    async with running(rig):
        call = await rig.send(takes_s=2.5)
        assert call["state"] == "completed"
        counted = await rig.until(
            lambda: rig.metric("integrationd_event_loop_held_up_seconds_total{"), lambda s: s > 1
        )
        text = (await rig.client.get("/metrics")).text

    line = next(n for n, one in enumerate(BLOCKS.splitlines(), 1) if "time.sleep" in one)
    said = next(one for one in rig.log().splitlines() if "event_loop_held_up" in one)
    assert f"{path}:{line}" in said
    assert "plugin=echo" in said
    assert 1.5 < counted < 6
    assert 'held_up_seconds_total{plugin="echo"}' in text


async def test_directory_of_plugins_may_come_later_and_be_replaced(short_path: Path) -> None:
    rig = Rig(short_path)
    rig.plugins.rmdir()
    async with running(rig):
        assert "plugins" in await rig.faults()

        rig.plugins.mkdir()
        put(rig.plugins / "echo.py", echo("first"))
        await rig.until(rig.codes, lambda found: "echo" in found)

        shutil.rmtree(rig.plugins)
        await rig.until(rig.codes, lambda found: "echo" not in found)
        rig.plugins.mkdir()
        put(rig.plugins / "other.py", echo("second", "other"))
        await rig.until(rig.codes, lambda found: "other" in found)

        # In one moment, so that the directory itself seems never to have gone.
        beside = rig.directory / "beside"
        beside.mkdir()
        put(beside / "third.py", echo("third", "third"))
        rig.plugins.rename(rig.directory / "gone")
        beside.rename(rig.plugins)
        await rig.until(rig.codes, lambda found: "third" in found and "other" not in found)
        put(rig.plugins / "fourth.py", echo("fourth", "fourth"))
        await rig.until(rig.codes, lambda found: "fourth" in found)


async def test_directory_of_plugins_may_be_a_link_and_have_directories(short_path: Path) -> None:
    rig = Rig(short_path)
    rig.plugins.rmdir()
    target = rig.directory / "v1"
    target.mkdir()
    rig.plugins.symlink_to(target)
    async with running(rig):
        below = target / "messages"
        below.mkdir()
        put(below / "echo.py", echo("deep"))
        await rig.until(rig.codes, lambda found: "echo" in found)
        put(below / "echo.py", echo("deep", "changed"))
        await rig.until(rig.codes, lambda found: "changed" in found)


async def test_many_edits_in_a_moment_are_few_reloads_and_the_last_one_wins(
    short_path: Path,
) -> None:
    rig = Rig(short_path, ECHO)
    path = put(rig.plugins / "echo.py", echo("start"))
    async with running(rig), Flow(rig).flowing() as flow:
        for number in range(300):
            put(path, BROKEN if number % 3 else echo(str(number)))
            await asyncio.sleep(0.003)
        put(path, echo("last"))
        await rig.until(rig.colour, "last")
        moves = await rig.metric("integrationd_plugin_changes_total")

    assert flow.wrong == []
    assert moves < 20


async def test_old_versions_leave_nothing_open(short_path: Path) -> None:
    rig = Rig(short_path, ECHO)
    path = put(rig.plugins / "echo.py", echo("start"))
    async with running(rig):
        await rig.until(rig.colour, "start")
        before = await _descriptors(rig.pid)
        for number in range(5):
            put(path, echo(str(number)))
            await rig.until(rig.colour, str(number))
        await rig.until(lambda: _descriptors(rig.pid), lambda count: count <= before + 1)


async def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_daemon_stops_at_once_although_a_plugin_file_never_ends(short_path: Path) -> None:
    rig = Rig(short_path, ECHO)
    put(rig.plugins / "echo.py", echo("red"))
    async with running(rig):
        path = put(rig.plugins / "sleeps.py", SLEEPS)
        await rig.until(lambda: _trials_of(path), bool)
        rig.signal(signal.SIGTERM)
        began = time.monotonic()
        while rig.daemon.is_running and time.monotonic() - began < 20:
            await asyncio.sleep(0.05)
        took_s = time.monotonic() - began

        assert took_s < 5
    assert not _processes("sleeps.py")


def _processes(word: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in command and "plugin_child" in command:
            found.append(command)
    return found


async def _trials_of(path: Path) -> list[str]:
    return _processes(str(path))


@pytest.mark.parametrize("more", [NEVER_CLOSES, FAILS_TO_CLOSE], ids=["never", "exits"])
async def test_plugin_that_does_not_close_keeps_nothing_from_ending(
    short_path: Path, more: str
) -> None:
    rig = Rig(short_path, ECHO)
    path = put(rig.plugins / "echo.py", echo("red") + more)
    with rig.daemon:
        rig.daemon.start()
        await asyncio.to_thread(rig.daemon.wait_ready)
        async with rig.daemon.client() as rig.client:
            assert await rig.colour() == "red"
            put(path, echo("blue") + more)
            await rig.until(rig.colour, "blue")
            put(path, BROKEN)
            await rig.until(rig.faults, lambda found: "echo.py" in found)
            assert (await rig.reload())["outcome"] == "unchanged"
        assert await asyncio.to_thread(rig.daemon.stop) == 0

    assert "plugin_failed_to_close" in rig.log()
    assert re.search(r"\bstopped\b", rig.log())
