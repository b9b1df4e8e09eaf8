"""The event log of a real daemon: read, followed and published to, across restarts."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tests.e2e.running import command
from tests.faults.daemon import DaemonProcess
from tests.faults.readers import Loader, Reader
from tests.sse import streaming

CONSOLE = '[connections.console]\nprovider = "console"\n'
SMS = {"to": "+254711000111", "message": "Ready"}
RESTARTS = 10
SOON_S = 30.0


@pytest.fixture
def daemon(short_path: Path) -> Iterator[DaemonProcess]:
    with DaemonProcess(short_path, CONSOLE) as daemon:
        daemon.start()
        daemon.wait_ready()
        yield daemon


async def test_app_publishes_and_reads_and_the_number_outlives_kill_9(
    daemon: DaemonProcess,
) -> None:
    body = {"type": "reward.issued", "data": {"reward_id": "r-1"}}
    headers = {"Idempotency-Key": "r-1"}
    async with daemon.client() as client:
        first = (await client.post("/v1/events", json=body, headers=headers)).json()
    daemon.kill()
    daemon.start()
    daemon.wait_ready()

    async with daemon.client() as client:
        again = await client.post("/v1/events", json=body, headers=headers)
        page = (await client.get("/v1/events", params={"type": "reward.*"})).json()

    assert again.json() == first
    assert page["items"] == [first]


async def test_reader_that_is_killed_under_load_sees_every_number_once(
    daemon: DaemonProcess,
) -> None:
    reader = Reader(daemon, "0")
    with anyio.fail_after(120):
        async with Loader(daemon).running() as loader:
            for turn in range(RESTARTS):
                await reader.take(5 + 7 * turn)
        await reader.take_to(await loader.end())

    assert reader.seen == list(range(1, reader.seen[-1] + 1))
    assert reader.connections > RESTARTS


async def test_stream_ends_with_the_daemon_and_goes_on_with_the_next(
    daemon: DaemonProcess,
) -> None:
    async with daemon.client() as client, streaming(client, "?type=sms.*,call.*") as stream:
        await client.post("/v1/sms/send", json=SMS, headers={"Prefer": "wait=10"})
        (told,) = await stream.next(1)
        daemon.stop()
        with anyio.fail_after(SOON_S):
            assert [event async for event in stream.events()] == []
    assert told["type"] == "call.completed"
    daemon.start()
    daemon.wait_ready()

    async with (
        daemon.client() as client,
        streaming(client, "", {"Last-Event-ID": str(told["seq"])}) as stream,
    ):
        answer = await client.post("/v1/events", json={"type": "app.began"})
        following = await stream.next(answer.json()["seq"] - told["seq"])

    assert [one["seq"] for one in following] == list(
        range(told["seq"] + 1, answer.json()["seq"] + 1)
    )
    assert following[-1]["type"] == "app.began"


async def test_command_follows_the_log_across_a_restart(daemon: DaemonProcess) -> None:
    words = ("events", "--follow", "--json", "--after", "0", "--type", "app.*")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "integrationd", *words),
        env={**os.environ, "INTEGRATIOND_SOCKET": str(daemon.socket)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    kinds = []
    with anyio.fail_after(60):
        for kind in ("app.a", "app.b"):
            async with daemon.client() as client:
                assert (await client.post("/v1/events", json={"type": kind})).status_code == 201
            kinds.append(json.loads(await process.stdout.readline())["type"])
            if kind == "app.a":
                daemon.kill()
                daemon.start()
                daemon.wait_ready()
        process.kill()
        await process.wait()

    assert kinds == ["app.a", "app.b"]
    table = await command(daemon, "events", "--type", "app.*")
    assert [kind for kind in ("app.a", "app.b") if kind in table] == kinds
