"""API keys of a real daemon: durable when shown, refused within a second when revoked."""

import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.e2e.running import command
from tests.faults.daemon import DaemonProcess

CONSOLE = '[connections.console]\nprovider = "console"\n'
SMS = {"to": "+254711000111", "message": "Ready"}
WITHIN_S = 1.0
KILLS = 3


@pytest.fixture
def daemon(short_path: Path) -> Iterator[DaemonProcess]:
    with DaemonProcess(short_path, CONSOLE) as daemon:
        daemon.start()
        daemon.wait_ready()
        yield daemon


def holder(daemon: DaemonProcess, key: str) -> httpx2.AsyncClient:
    """Return a client over TCP that shows a key."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.AsyncClient(base_url=daemon.url, headers=headers, timeout=20)


async def made(daemon: DaemonProcess, name: str, role: str = "staff") -> dict[str, Any]:
    async with daemon.client() as client:
        answer = await client.post("/v1/keys", json={"name": name, "role": role})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def answered(daemon: DaemonProcess, key: dict[str, Any]) -> int:
    async with holder(daemon, key["key"]) as client:
        return (await client.get("/v1/ledger")).status_code


async def test_revoked_key_is_refused_within_a_second_and_after_a_restart(
    daemon: DaemonProcess,
) -> None:
    key, other = await made(daemon, "shop"), await made(daemon, "other")
    async with holder(daemon, key["key"]) as client, daemon.client() as admin:
        assert (await client.post("/v1/sms/send", json=SMS)).status_code == 202
        began = time.monotonic()
        revoked = await admin.delete(f"/v1/keys/{key['id']}")
        # Over the connection that the key has opened, too.
        refused = await client.post("/v1/sms/send", json=SMS)
        took = time.monotonic() - began

    assert revoked.json()["state"] == "revoked"
    assert refused.status_code == 401
    assert took < WITHIN_S
    daemon.kill()
    daemon.start()
    daemon.wait_ready()
    assert [await answered(daemon, one) for one in (key, other)] == [401, 200]


async def test_key_that_was_shown_works_after_kill_9_at_that_moment(
    daemon: DaemonProcess,
) -> None:
    keys = []
    for kill in range(KILLS):
        keys.append(await made(daemon, f"shop-{kill}"))
        daemon.kill()
        daemon.start()
        daemon.wait_ready()

    assert [await answered(daemon, key) for key in keys] == [200] * KILLS
    secrets = [key["key"].split("_", 2)[2].encode() for key in keys]
    files = [path for path in daemon.journal.parent.iterdir() if stat.S_ISREG(path.stat().st_mode)]
    assert not [path for path in files for one in secrets if one in path.read_bytes()]


async def test_key_from_the_command_line_opens_the_api(
    daemon: DaemonProcess, short_path: Path
) -> None:
    key_file = short_path / "shop.key"
    key_file.write_text(await command(daemon, "keys", "create", "shop", "--role", "read"))
    over_tcp = ("--url", daemon.url, "--key-file", str(key_file))

    shown = await command(daemon, "calls", *over_tcp)
    refused = await command(daemon, "keys", *over_tcp, code=1)
    listed = await command(daemon, "keys")

    assert "No calls" in shown
    assert refused == ""
    assert "shop" in listed
    assert key_file.read_text().strip() not in listed + daemon.output()
