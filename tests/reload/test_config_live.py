"""The configuration changes under a running daemon: taken over whole, or refused and said so."""

import asyncio
import hashlib
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.reload.rig import Flow, Rig, echo, put, running

ECHO = '[connections.echo]\nprovider = "echo"\n'
OTHER = '[connections.other]\nprovider = "echo"\n'
REFUSED = '[connections.echo]\nprovider = "nobody"\n'
KEYED = f'{ECHO}config = {{ key = "file:key" }}\n'
SECRET = "first-secret-of-the-test"
RENEWED = "second-secret-of-the-test"
# What is replaced in the configuration, and by what.
NEEDS_A_RESTART = {
    "api.listen": ('listen = "', 'listen = "127.0.0.1:1"\n#'),
    "api.socket": ("daemon.sock", "other.sock"),
    "journal.path": ("journal.db", "other.db"),
    "api.socket_mode": ("[journal]", 'socket_mode = "0600"\n[journal]'),
    "journal.key_file": ("[journal]", '[journal]\nkey_file = "other.key"'),
}

SHOWS_KEY = echo("COLOUR_OF_KEY").replace(
    '"COLOUR_OF_KEY"',
    '__import__("hashlib").sha256(self.config.key.encode()).hexdigest()',
)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rigged(directory: Path, tables: str = ECHO, **more: Any) -> Rig:
    rig = Rig(directory, tables, **more)
    put(rig.plugins / "echo.py", echo("red"))
    return rig


async def names(rig: Rig) -> list[str]:
    return [one["id"] for one in (await rig.get("/v1/connections"))["items"]]


# One path


@pytest.mark.parametrize("cause", ["file", "signal", "request"])
async def test_every_way_of_asking_takes_the_configuration_over(
    short_path: Path, cause: str
) -> None:
    rig = rigged(short_path)
    async with running(rig), Flow(rig).flowing() as flow:
        # The daemon looks at its files once by itself, and is not to be the quicker one.
        await asyncio.sleep(0.5)
        rig.configure(ECHO + OTHER)
        if cause == "signal":
            rig.signal(signal.SIGHUP)
        elif cause == "request":
            report = await rig.reload()
            assert report["changes"] == ["connections.other = echo (new)"]
        await rig.until(lambda: names(rig), ["echo", "other"])
        applied = await rig.until(lambda: rig.events("config.applied"), bool)

        rig.configure(REFUSED)
        if cause == "signal":
            rig.signal(signal.SIGHUP)
        elif cause == "request":
            report = await rig.reload()
            assert (report["status"], report["code"]) == (409, "config_rejected")
            assert "no plugin has the code 'nobody'" in report["detail"]
        await rig.until(rig.config_state, "rejected")
        rejected = await rig.until(lambda: rig.events("config.rejected"), bool)
        assert await names(rig) == ["echo", "other"]

    words = {"file": "a file has changed", "signal": "SIGHUP", "request": "asked by "}
    assert words[cause] in applied[0]["cause"]
    assert words[cause] in rejected[0]["cause"]
    assert "no plugin has the code 'nobody'" in rejected[0]["told"][0]
    assert flow.wrong == []


async def test_reload_of_what_has_not_changed_changes_nothing(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        os.utime(rig.config)
        report = await rig.reload()
        rig.signal(signal.SIGHUP)
        await asyncio.sleep(0.5)

        assert (report["outcome"], report["changes"]) == ("unchanged", [])
        assert await rig.events("config.applied") == []


async def test_storm_of_edits_is_few_reloads_and_the_last_one_wins(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig), Flow(rig).flowing() as flow:
        for number in range(300):
            rig.configure(REFUSED if number % 3 else f"{ECHO}concurrency = {number + 1}\n")
            await asyncio.sleep(0.003)
        rig.configure(f"{ECHO}concurrency = 77\n")

        await rig.until(lambda: concurrency(rig), 77)
        await rig.until(rig.config_state, "applied")
        reloads = await rig.metric("integrationd_config_reloads_total")

    assert flow.wrong == []
    assert reloads < 20


async def concurrency(rig: Rig) -> int:
    (shown,) = (await rig.get("/v1/connections"))["items"]
    return int(shown["concurrency"])


async def test_storm_of_signals_does_no_harm(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig), Flow(rig).flowing() as flow:
        for _ in range(500):
            rig.signal(signal.SIGHUP)
        rig.configure(ECHO + OTHER)
        rig.signal(signal.SIGHUP)
        await rig.until(lambda: names(rig), ["echo", "other"])

    assert flow.wrong == []
    assert flow.made


# Refusals


async def test_refused_configuration_is_shown_until_it_is_mended(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        rig.configure("[connections.echo\n")
        await rig.until(rig.config_state, "rejected")
        shown = await rig.get("/v1/config")
        status = await rig.get("/v1/status")
        assert shown["problems"][0]["where"].startswith("line ")
        assert status["config"] == shown
        assert any("was refused" in one for one in status["problems"])
        assert await rig.metric("integrationd_config_rejected") == 1
        assert await rig.colour() == "red"

        rig.configure(ECHO)
        await rig.until(rig.config_state, "applied")
        assert (await rig.get("/v1/config"))["problems"] == []
        assert not [one for one in (await rig.get("/v1/status"))["problems"] if "refused" in one]
        assert await rig.metric("integrationd_config_rejected") == 0


async def test_same_refusal_is_told_once(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        rig.configure(REFUSED)
        await rig.until(rig.config_state, "rejected")
        first = (await rig.get("/v1/config"))["rejected_at"]
        for _ in range(3):
            assert (await rig.reload())["code"] == "config_rejected"

        assert (await rig.get("/v1/config"))["rejected_at"] == first
        told = await rig.until(lambda: rig.events("config.rejected"), bool)
        assert len(told) == 1


async def test_what_needs_a_restart_is_refused_whole(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        for where, (old, new) in NEEDS_A_RESTART.items():
            put(rig.config, rig.text(ECHO + OTHER).replace(old, new, 1))
            told = f"{where}: needs a restart to change (it is "
            await rig.until(rig.problems, lambda problems, told=told: problems.startswith(told))

            assert await rig.config_state() == "rejected"
            assert await names(rig) == ["echo"]
            assert await rig.colour() == "red"


async def test_plugins_change_while_the_configuration_is_refused(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        rig.configure(REFUSED)
        await rig.until(rig.config_state, "rejected")

        put(rig.plugins / "echo.py", echo("blue"))
        await rig.until(rig.colour, "blue")
        assert await rig.config_state() == "rejected"

        # What it lacked comes: nobody has to touch the configuration again.
        put(rig.plugins / "nobody.py", echo("new", "nobody"))
        await rig.until(rig.config_state, "applied")


async def test_configuration_that_vanishes_is_refused_and_taken_when_it_is_back(
    short_path: Path,
) -> None:
    rig = rigged(short_path)
    async with running(rig):
        rig.config.unlink()
        await rig.until(rig.config_state, "rejected")
        assert "does not exist" in await rig.problems()
        assert await rig.colour() == "red"

        rig.configure(ECHO + OTHER)
        await rig.until(lambda: names(rig), ["echo", "other"])


async def test_configuration_may_be_a_link_that_is_turned(short_path: Path) -> None:
    rig = rigged(short_path)
    release = {}
    for name, tables in (("a", ECHO), ("b", ECHO + OTHER), ("c", ECHO)):
        release[name] = rig.directory / name
        release[name].mkdir()
        text = rig.text(tables).replace('"plugins"', json.dumps(str(rig.plugins)))
        (release[name] / "integrationd.toml").write_text(text)
    turn(rig.directory / "current", release["a"])
    rig.config.unlink()
    rig.config.symlink_to(Path("current/integrationd.toml"))
    async with running(rig):
        turn(rig.directory / "current", release["b"])
        await rig.until(lambda: names(rig), ["echo", "other"])
        turn(rig.directory / "current", release["c"])
        await rig.until(lambda: names(rig), ["echo"])


def turn(link: Path, target: Path) -> None:
    beside = link.with_name("turning")
    beside.symlink_to(target.name)
    beside.replace(link)


# Secrets


async def test_rotated_secret_is_taken_over_when_its_file_changes(short_path: Path) -> None:
    rig = Rig(short_path, KEYED)
    put(rig.plugins / "echo.py", SHOWS_KEY)
    key = put(rig.directory / "key", SECRET)
    key.chmod(0o600)
    async with running(rig), Flow(rig).flowing() as flow:
        assert await rig.colour() == digest(SECRET)

        renewed = put(rig.directory / "new", RENEWED)
        renewed.chmod(0o600)
        renewed.replace(key)
        await rig.until(rig.colour, digest(RENEWED))
        applied = await rig.until(lambda: rig.events("config.applied"), bool)
        told = json.dumps([applied, await rig.get("/v1/config"), await rig.get("/v1/status")])

        key.unlink()
        warnings = await rig.until(lambda: stale(rig), bool)
        assert "goes on" in warnings
        assert await rig.colour() == digest(RENEWED)
        renewed = put(rig.directory / "new", SECRET)
        renewed.chmod(0o600)
        renewed.replace(key)
        await rig.until(rig.colour, digest(SECRET))
        assert await stale(rig) == ""

    assert applied[0]["told"] == ["connections.echo: a secret was read anew"]
    for secret in (SECRET, RENEWED):
        assert secret not in rig.log() + told
        assert not _journal_has(rig, secret)
    assert flow.wrong == []


async def stale(rig: Rig) -> str:
    return "; ".join(one["reason"] for one in (await rig.get("/v1/config"))["warnings"])


def _journal_has(rig: Rig, secret: str) -> bool:
    files = rig.directory.glob("journal.db*")
    return any(secret.encode() in file.read_bytes() for file in files if file.is_file())


async def test_secret_that_a_refused_configuration_lacked_is_seen_when_it_comes(
    short_path: Path,
) -> None:
    rig = rigged(short_path)
    async with running(rig):
        rig.configure(KEYED)
        await rig.until(rig.config_state, "rejected")
        assert "connections.echo.config.key" in await rig.problems()

        key = put(rig.directory / "unseen", SECRET)
        key.chmod(0o600)
        key.replace(rig.directory / "key")
        await rig.until(rig.config_state, "applied")


# What changes live


async def test_paths_of_plugins_are_added_and_removed(short_path: Path) -> None:
    rig = Rig(short_path, plugins=False)
    more = rig.directory / "more"
    more.mkdir()
    put(more / "echo.py", echo("red"))
    named = '[plugins]\npaths = ["more"]\n'
    async with running(rig):
        assert "echo" not in await rig.codes()
        rig.configure(named + ECHO)
        # At once, while the daemon is only about to watch the directory.
        put(more / "late.py", echo("late", "late"))
        await rig.until(rig.codes, lambda found: {"echo", "late"} <= found)
        put(more / "echo.py", echo("blue"))
        await rig.until(rig.colour, "blue")

        rig.configure("")
        await rig.until(rig.codes, lambda found: not {"echo", "late"} & found)
        put(more / "echo.py", echo("green"))
        rig.configure(named + ECHO)
        await rig.until(rig.codes, lambda found: "echo" in found)
        assert await rig.colour() == "green"


async def test_plugin_and_its_connection_come_and_go_in_one_step(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig), Flow(rig).flowing() as flow:
        put(rig.plugins / "new.py", echo("new", "new"))
        rig.configure(ECHO + '[connections.new]\nprovider = "new"\n')
        await rig.until(lambda: names(rig), ["echo", "new"])
        assert (await rig.send("new.send"))["state"] == "completed"

        (rig.plugins / "new.py").unlink()
        rig.configure(ECHO)
        await rig.until(rig.codes, lambda found: "new" not in found)
        await rig.until(rig.config_state, "applied")

    assert flow.wrong == []


async def test_calls_of_a_connection_that_goes_stay_pending_and_come_back(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        answer = await rig.client.post(
            "/v1/calls",
            json={"operation": "echo.send", "connection": "echo", "not_before": in_a_second()},
        )
        call = answer.json()["id"]
        rig.configure(OTHER)
        preview = await rig.get("/v1/config/diff")
        assert any("1 calls wait on it" in one["reason"] for one in preview["warnings"]) or (
            preview["outcome"] == "unchanged"
        )
        await rig.until(lambda: names(rig), ["other"])
        await asyncio.sleep(1.5)
        shown = await rig.get(f"/v1/calls/{call}")
        assert shown["state"] == "pending"
        assert "'echo' is not configured" in shown["why"]

        rig.configure(ECHO)
        await rig.until(lambda: state(rig, call), "completed")


def in_a_second() -> str:
    return (datetime.now(UTC) + timedelta(seconds=1)).isoformat()


async def state(rig: Rig, call: str) -> str:
    return str((await rig.get(f"/v1/calls/{call}"))["state"])


async def test_level_of_the_log_changes_live(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        await rig.send()
        assert "attempt_ended" not in rig.log()

        rig.configure(f'{ECHO}[log]\nlevel = "debug"\nformat = "json"\n')
        await rig.until(lambda: rig.events("config.applied"), bool)
        await rig.send()
        assert '"event": "attempt_ended"' in rig.log()


async def test_limits_of_the_api_change_live(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        body = {"operation": "echo.send", "metadata": {"long": "x" * 5000}}
        assert (await rig.client.post("/v1/calls", json=body)).status_code == 202

        put(rig.config, rig.text(ECHO).replace("[journal]", "max_body = 2048\n[journal]", 1))
        await rig.until(lambda: rig.events("config.applied"), bool)
        async with rig.daemon.client() as another:
            assert (await another.post("/v1/calls", json=body)).status_code == 413


async def test_preview_changes_nothing_and_says_what_a_reload_would_do(short_path: Path) -> None:
    rig = rigged(short_path)
    async with running(rig):
        rig.configure(REFUSED)
        await rig.until(rig.config_state, "rejected")
        preview = await rig.get("/v1/config/diff")
        assert preview["outcome"] == "rejected"
        assert "no plugin has the code 'nobody'" in preview["problems"][0]["reason"]
        assert await names(rig) == ["echo"]
