"""Connections made over the API, against the real daemon: restarts, reloads, kills and the file."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import httpx2
from tests.reload.rig import Rig, echo, put, running

CONSOLE = '[connections.console]\nprovider = "console"\n'
KEY = "canary-91c0ffee-1"
KILLS = 6
ECHO = {"id": "echo", "provider": "echo", "config": {"key": "blue"}}


def at_main(key: str, **more: Any) -> dict[str, Any]:
    config = {"username": "sandbox", "api_key": key}
    return {"provider": "africastalking", "config": config, **more}


async def make(rig: Rig, **body: Any) -> dict[str, Any]:
    answer = await rig.client.post("/v1/connections", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def state_of(rig: Rig, name: str) -> str:
    listed = (await rig.get("/v1/connections"))["items"]
    return next((one["state"] for one in listed if one["id"] == name), "gone")


async def send(rig: Rig, wait_s: int = 5, **more: Any) -> dict[str, Any]:
    body = {"operation": "echo.send", "payload": {}, **more}
    answer = await rig.client.post("/v1/calls", json=body, headers={"Prefer": f"wait={wait_s}"})
    assert answer.status_code in (200, 202), answer.text
    call: dict[str, Any] = answer.json()
    return call


async def restart(rig: Rig, *, kill: bool = False) -> None:
    await asyncio.to_thread(rig.daemon.kill if kill else rig.daemon.stop)
    rig.daemon.start()
    await asyncio.to_thread(rig.daemon.wait_ready)


async def test_stored_connection_serves_at_once_and_after_restarts_and_reloads(
    short_path: Path,
) -> None:
    rig = Rig(short_path)
    put(rig.plugins / "echo.py", echo("blue"))
    async with running(rig):
        await make(rig, **ECHO)
        first = await send(rig)
        await restart(rig)
        second = await send(rig)
        rig.configure('[log]\nlevel = "debug"\n')
        report = (await rig.client.post("/v1/config/reload")).json()
        third = await send(rig)

    assert [one["state"] for one in (first, second, third)] == ["completed"] * 3
    assert not [line for line in report["changes"] if "connections" in line]


async def test_pause_holds_over_a_restart_and_for_connections_of_the_file(
    short_path: Path,
) -> None:
    rig = Rig(short_path, '[connections.filed]\nprovider = "echo"\n')
    put(rig.plugins / "echo.py", echo("blue"))
    async with running(rig):
        await rig.client.post("/v1/connections/filed/pause")
        held = await send(rig, wait_s=1)
        await restart(rig)
        still = await rig.get(f"/v1/calls/{held['id']}")
        later = await send(rig, wait_s=1)
        await rig.client.post("/v1/connections/filed/resume")
        done = [await _completed(rig, one["id"]) for one in (held, later)]

    assert (held["state"], later["state"]) == ("pending", "pending")
    assert "is paused" in still["why"]
    assert done == ["completed"] * 2


async def _completed(rig: Rig, call_id: str) -> str:
    return await rig.until(lambda: _state(rig, call_id), "completed")


async def _state(rig: Rig, call_id: str) -> str:
    return str((await rig.get(f"/v1/calls/{call_id}"))["state"])


async def test_connection_that_cannot_be_made_never_stops_a_start(short_path: Path) -> None:
    rig = Rig(short_path, CONSOLE)
    put(rig.plugins / "echo.py", echo("blue"))
    async with running(rig):
        await make(rig, **ECHO)
        await make(rig, id="at-main", **at_main(KEY))
        await rig.client.post("/v1/connections/echo/pause")
        held = await send(rig, wait_s=0, connection="echo")
        await rig.client.post("/v1/connections/echo/resume")
        await asyncio.to_thread(rig.daemon.stop)
        (rig.plugins / "echo.py").unlink()
        (short_path / "master.key").rename(short_path / "away")
        rig.daemon.start()
        await asyncio.to_thread(rig.daemon.wait_ready)

        listed = {one["id"]: one for one in (await rig.get("/v1/connections"))["items"]}
        status = await rig.get("/v1/status")
        reloaded = await rig.client.post("/v1/config/reload")
        waiting = await rig.get(f"/v1/calls/{held['id']}")

        assert {name: listed[name]["state"] for name in listed} == {
            "console": "serving",
            "echo": "unusable",
            "at-main": "unusable",
        }
        assert "no plugin has the code 'echo'" in listed["echo"]["problem"]
        assert "master key" in listed["at-main"]["problem"]
        assert any("at-main" in one for one in status["problems"])
        assert reloaded.status_code == 200
        assert held["state"] == "pending" or waiting["state"] == "completed"

        (short_path / "away").rename(short_path / "master.key")
        put(rig.plugins / "echo.py", echo("green"))
        await rig.client.post("/v1/config/reload")
        await rig.until(lambda: state_of(rig, "echo"), "serving")
        assert await state_of(rig, "at-main") == "serving"
        await rig.until(lambda: _state(rig, held["id"]), "completed")


async def test_id_in_the_file_and_over_the_api_rejects_the_file(short_path: Path) -> None:
    rig = Rig(short_path, CONSOLE)
    async with running(rig):
        await make(rig, id="twice", provider="console")
        rig.configure(f'{CONSOLE}[connections.twice]\nprovider = "console"\n')
        refused = await rig.client.post("/v1/config/reload")

        assert refused.status_code == 409
        assert "connections.twice: was made over the API too" in refused.json()["detail"]
        assert await state_of(rig, "twice") == "serving"
        # While the file is refused, the API goes on under the one in force.
        await make(rig, id="more", provider="console")
        rig.configure(CONSOLE)
        assert (await rig.client.post("/v1/config/reload")).status_code == 200


async def test_route_of_the_file_may_name_a_stored_connection(short_path: Path) -> None:
    rig = Rig(short_path, '[connections.filed]\nprovider = "echo"\n')
    put(rig.plugins / "echo.py", echo("blue"))
    async with running(rig):
        await make(rig, **ECHO)
        rig.configure(
            '[connections.filed]\nprovider = "echo"\n'
            '[routes."echo.send"]\norder = ["echo", "filed"]\n'
        )
        assert (await rig.client.post("/v1/config/reload")).status_code == 200
        first = await send(rig)
        await rig.client.post("/v1/connections/echo/pause")
        second = await send(rig)
        refused = await rig.client.delete("/v1/connections/echo")
        await restart(rig)
        third = await send(rig)

    assert [one["connection"] for one in (first, second, third)] == ["echo", "filed", "filed"]
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")


async def test_drained_connection_goes_after_its_last_call_over_a_restart(
    short_path: Path,
) -> None:
    rig = Rig(short_path)
    put(rig.plugins / "echo.py", echo("blue"))
    async with running(rig):
        await make(rig, **ECHO)
        await rig.client.post("/v1/connections/echo/pause")
        held = await send(rig, wait_s=0)
        draining = await rig.client.delete("/v1/connections/echo?drain=true")
        await restart(rig)
        assert await state_of(rig, "echo") == "leaving"
        await rig.client.post("/v1/connections/echo/resume")
        await rig.until(lambda: _state(rig, held["id"]), "completed")
        await rig.until(lambda: state_of(rig, "echo"), "gone")

    assert draining.status_code == 202


async def test_daemon_killed_while_connections_are_made_and_rotated_has_them_whole_or_not(
    short_path: Path,
) -> None:
    rng, rig = random.Random(11), Rig(short_path, CONSOLE)
    async with running(rig):
        await make(rig, id="rotated", **at_main(KEY))
        for kill in range(KILLS):
            changing = asyncio.create_task(_change_without_end(rig.client, kill))
            await asyncio.sleep(rng.uniform(0.0, 0.08))
            await restart(rig, kill=True)
            await changing
            listed = (await rig.get("/v1/connections"))["items"]
            assert {one["state"] for one in listed} == {"serving"}, listed
        secrets = {one["name"] for one in (await rig.get("/v1/vault/secrets"))["items"]}
        made = {one["id"] for one in listed if one["source"] == "api"}
        whole = b"".join(path.read_bytes() for path in short_path.iterdir() if path.is_file())

    assert secrets == {f"connections.{name}.api_key" for name in made}
    assert b"canary-91c0ffee" not in whole


async def _change_without_end(client: httpx2.AsyncClient, kill: int) -> None:
    with contextlib.suppress(httpx2.HTTPError):
        for number in range(1000):
            key = f"{KEY}{kill}{number}"
            await client.put("/v1/connections/rotated", json=at_main(key))
            await client.post(
                "/v1/connections", json={"id": f"made-{kill}-{number}", **at_main(key)}
            )
