"""What was answered 200 is in the inbox, however the daemon ended a moment later."""

import contextlib
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.faults.daemon import DaemonProcess, free_port
from tests.webhooks.world import PATH, SECRET, TILL, sign, told

from integrationd.journal import sqlite

KILLS = 2
SENDERS = 8
WITHIN_S = 20.0

_TABLES = """\
[plugins]
paths = [{plugins}]
[webhooks]
listen = "127.0.0.1:{port}"
public_url = "https://hooks.school.example"
[connections.till]
provider = "till"
config = {{ secret = "env:TILL_SECRET" }}
"""


class Receiving:
    """A real daemon whose webhook listener is known.

    Args:
        directory: Where its files are.
    """

    def __init__(self, directory: Path) -> None:
        plugins = directory / "plugins"
        plugins.mkdir()
        shutil.copy(TILL, plugins / "till.py")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = DaemonProcess(
            directory,
            _TABLES.format(plugins=json.dumps(str(plugins)), port=port),
            environ={"TILL_SECRET": SECRET},
        )

    def start(self) -> None:
        """Start it and wait until both listeners are there."""
        self.process.start()
        self.process.wait_ready()

    async def inbox(self) -> list[dict[str, Any]]:
        """Wait until all of the inbox has been worked on, and return it."""
        with anyio.fail_after(WITHIN_S):
            while any(one["state"] == "new" for one in await self._all()):
                await anyio.sleep(0.05)
        return await self._all()

    def receipts(self) -> Counter[str]:
        """Stop it, and return how often each receipt has been told as received money."""
        assert self.process.stop() == 0
        db = sqlite.connect(self.process.journal, read_only=True)
        with contextlib.closing(db):
            rows = db.execute("SELECT data FROM event WHERE type = 'payment.received'").fetchall()
        return Counter(json.loads(row[0])["receipt"] for row in rows)

    async def _all(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        params = {"limit": "500"}
        async with self.process.client() as client:
            while True:
                page = (await client.get("/v1/webhooks", params=params)).json()
                found += page["items"]
                if page["next"] is None:
                    return found
                params["cursor"] = page["next"]


@pytest.fixture
def daemon() -> Iterator[Receiving]:
    with tempfile.TemporaryDirectory(prefix="idhook") as directory:
        made = Receiving(Path(directory))
        with made.process:
            yield made


def body_of(name: str) -> bytes:
    return told({"event": "payment.received", "data": {"receipt": name}}, id=name)


async def send(client: httpx2.AsyncClient, name: str) -> httpx2.Response:
    body = body_of(name)
    return await client.post(PATH, content=body, headers={"x-till-signature": sign(body)})


async def send_until_it_dies(daemon: Receiving, prefix: str, after: int) -> tuple[set[str], str]:
    """Send webhooks until the daemon is killed, when ``after`` were answered.

    Returns:
        Those that were answered 200, and one answer.
    """
    answered: dict[str, str] = {}

    async def keep_sending(sender: int) -> None:
        async with httpx2.AsyncClient(base_url=daemon.url, timeout=WITHIN_S) as client:
            for number in range(10_000):
                name = f"{prefix}-{sender}-{number}"
                try:
                    answer = await send(client, name)
                except httpx2.TransportError:
                    return
                assert answer.status_code == 200
                answered[name] = answer.text
                if len(answered) >= after:
                    daemon.process.kill()

    with anyio.fail_after(WITHIN_S):
        async with anyio.create_task_group() as group:
            for sender in range(SENDERS):
                group.start_soon(keep_sending, sender)
    return set(answered), next(iter(answered.values()))


async def test_webhook_that_was_answered_is_in_the_inbox_after_kill_9(daemon: Receiving) -> None:
    answered: set[str] = set()
    chance, reply = random.Random(9), ""
    daemon.start()
    for kill in range(KILLS):
        more, reply = await send_until_it_dies(daemon, f"evt-{kill}", chance.randint(20, 80))
        answered |= more
        daemon.start()

    async with httpx2.AsyncClient(base_url=daemon.url, timeout=WITHIN_S) as client:
        copies = [(await send(client, name)).text for name in sorted(answered)]
    kept = await daemon.inbox()
    receipts = daemon.receipts()

    assert set(copies) == {reply}
    assert len(kept) <= len(answered) + KILLS * SENDERS
    assert sum(one["repeats"] > 0 for one in kept) == len(answered)
    assert answered <= receipts.keys()
    assert set(receipts.values()) == {1}


async def test_copies_at_once_before_and_after_a_kill_make_one_row(daemon: Receiving) -> None:
    for _ in range(2):
        daemon.start()
        async with httpx2.AsyncClient(base_url=daemon.url, timeout=WITHIN_S) as client:
            answers: list[str] = []

            async def one(client: httpx2.AsyncClient = client, to: list[str] = answers) -> None:
                to.append((await send(client, "evt-1")).text)

            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(one)
        daemon.process.kill()
        assert answers == ['{"ResultCode":0}'] * 100

    daemon.start()
    assert [one["repeats"] for one in await daemon.inbox()] == [199]
    assert daemon.receipts() == {"evt-1": 1}


async def test_daemon_hands_out_addresses_that_lead_back_to_it(daemon: Receiving) -> None:
    daemon.start()
    async with daemon.process.client() as client:
        (place,) = (await client.get("/v1/webhook-endpoints")).json()["items"]
    path = place["address"].removeprefix("https://hooks.school.example")
    body = body_of("evt-1")

    async with httpx2.AsyncClient(base_url=daemon.url, timeout=WITHIN_S) as client:
        headers = {"x-till-signature": sign(body)}
        good = await client.post(path, content=body, headers=headers)
        forged = await client.post(path[:-1] + "x", content=body, headers=headers)

    assert (good.status_code, forged.status_code) == (200, 404)
    key_file = daemon.process.journal.with_name("instance.key")
    assert key_file.stat().st_mode & 0o777 == 0o600
