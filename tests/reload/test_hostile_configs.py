"""Hostile configurations under a running daemon: each is refused in words, the old one serves."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.reload.hostile_configs import FILE, REFUSED, SECRET, HostileConfig, remove
from tests.reload.rig import Flow, Rig, echo, put, running

FOUND_S = 5.0
MENDED_EVERY = 8
ECHO = '[connections.echo]\nprovider = "echo"\n'


async def refusal(rig: Rig, hostile: HostileConfig, *, asked: bool) -> list[str]:
    """Put one in place and return what is wrong with how that was met.

    Args:
        rig: The running daemon.
        hostile: The configuration.
        asked: Whether a reload is asked for; else the daemon is left to find out.
    """
    remove(rig.config)
    hostile.place(rig.config, rig.text(ECHO))
    where = str(rig.config) if hostile.where == FILE else hostile.where

    def is_told(problems: list[Any]) -> bool:
        reasons = [one["reason"] for one in problems if one["where"].startswith(where)]
        return any(hostile.reason in reason for reason in reasons)

    problems = await (reloaded(rig) if asked else found_out(rig, is_told))
    said = json.dumps(problems, ensure_ascii=False)
    print(f"{hostile.name}: {said[:200]}")
    wrong = []
    if not is_told(problems):
        wrong.append(f"{hostile.name}: {where} {hostile.reason!r} expected, told {said}")
    if SECRET in said or any("\n" in one["reason"] for one in problems):
        wrong.append(f"{hostile.name}: told {said}")
    call = await rig.send(connection="echo")
    if call["state"] != "completed" or call["result"]["colour"] != "red":
        wrong.append(f"{hostile.name}: the next call came to {call}")
    return wrong


async def reloaded(rig: Rig) -> list[Any]:
    """Ask for a reload and return why that was refused."""
    answer = await rig.client.post("/v1/config/reload")
    told = answer.json()
    assert (answer.status_code, told["code"]) == (409, "config_rejected")
    return list(told["problems"])


async def found_out(rig: Rig, is_told: Callable[[list[Any]], bool]) -> list[Any]:
    """Wait until the daemon itself has seen what is wrong, and return what it shows."""

    async def shown() -> list[Any]:
        return list((await rig.get("/v1/config"))["problems"])

    with contextlib.suppress(AssertionError):
        await rig.until(shown, is_told, FOUND_S)
    assert await rig.config_state() == "rejected"
    return await shown()


@pytest.mark.timeout(180)
async def test_hostile_configurations_are_refused_and_the_daemon_goes_on(short_path: Path) -> None:
    assert len({one.name for one in REFUSED}) == len(REFUSED) >= 60
    rig = Rig(short_path, ECHO)
    put(rig.plugins / "echo.py", echo("red"))
    wrong: list[str] = []
    async with running(rig), Flow(rig).flowing(clients=1, pause_s=0.05) as flow:
        for number, hostile in enumerate(REFUSED):
            wrong += await refusal(rig, hostile, asked=number % 2 == 1)
            if number % MENDED_EVERY == 0:
                remove(rig.config)
                rig.configure(ECHO)
                await rig.until(rig.config_state, "applied")
        ledger = await rig.get("/v1/ledger")
        rejected = await rig.events("config.rejected")

    assert wrong == []
    assert flow.wrong == []
    assert ledger["balances"]
    # What is refused in the same words as the one before is told once.
    assert len(rejected) >= 60
    assert SECRET not in rig.log()
