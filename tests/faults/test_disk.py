"""A disk that really fills up: new calls are refused, nothing is lost, accepting resumes by itself.

Where it is to be truly full, the marks that would have kept some of its room are switched off.

The disk is a small tmpfs, which only root may mount; elsewhere these tests are skipped.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.faults import audit
from tests.faults.daemon import DaemonProcess
from tests.faults.load import Book, make_order

from integrationd.journal.room import read_room

DISK_MIB = 12
BALLAST_BYTES = 6 * 1024 * 1024
CHUNK_BYTES = 65536
BATCH = 20
RESUME_S = 5.0
DRAIN_S = 20.0
MIB = 1024 * 1024
HIGH_BYTES, CRITICAL_BYTES = 6 * MIB, 3 * MIB
NOTICE_S = 15.0
TABLES = '[connections.console]\nprovider = "console"\n[log]\nlevel = "error"\n'


class Disk:
    """A small disk and what else lies on it.

    Args:
        path: Where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, size_bytes: int | None = None) -> None:
        """Take this much of its room, or all that there is."""
        file = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while size_bytes is None or os.fstat(file).st_size < size_bytes:
                os.write(file, bytes(CHUNK_BYTES))
        except OSError:
            assert size_bytes is None, "the disk is too small for its ballast"
        finally:
            os.close(file)

    def leave(self, free_bytes: int) -> None:
        """Take its room until no more than this is left."""
        with self._ballast.open("ab", buffering=0) as file:
            while (room := read_room(self.path)) and room.free_bytes > free_bytes:
                file.write(bytes(CHUNK_BYTES))

    def free(self) -> None:
        """Give back what was taken."""
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "integrationd-test", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield Disk(place)
    subprocess.run(["umount", str(place)], check=True)


class Shop:
    """A client that keeps its own book.

    Args:
        client: Speaks to the daemon.
    """

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.book = Book()
        self._client = client
        self._count = 0

    async def order(self, size: int = 1) -> httpx2.Response:
        """Ask for some messages at once and return the answer."""
        self._count += 1
        orders = [make_order(f"{self._count}-{place}", "sms") for place in range(size)]
        self.book.ordered.update((order.id, order) for order in orders)
        calls = [order.request() for order in orders]
        answer = await self._client.post("/v1/calls/batch", json={"calls": calls})
        if answer.status_code == 202:
            self.book.acknowledge(orders, [one["id"] for one in answer.json()["items"]], False)
        return answer

    async def order_until(self, *statuses: int, within_s: float, size: int = 1) -> httpx2.Response:
        """Go on ordering until the answer has one of these statuses."""
        with anyio.fail_after(within_s):
            while (answer := await self.order(size)).status_code not in statuses:
                await anyio.sleep(0.01)
        return answer


@pytest.fixture
def daemon(disk: Disk, tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon whose journal alone lies on the small disk, and may fill it."""
    with daemon_on(disk, tmp_path, 0, 0) as daemon:
        yield daemon


@pytest.fixture
def watchful(disk: Disk, tmp_path: Path) -> Iterator[DaemonProcess]:
    """The same, but with marks."""
    with daemon_on(disk, tmp_path, HIGH_BYTES, CRITICAL_BYTES) as daemon:
        yield daemon


def daemon_on(disk: Disk, directory: Path, high: int, critical: int) -> DaemonProcess:
    marks = {
        "INTEGRATIOND_JOURNAL__HIGH_WATER": str(high),
        "INTEGRATIOND_JOURNAL__CRITICAL": str(critical),
    }
    return DaemonProcess(directory, TABLES, journal=disk.path / "journal.db", environ=marks)


async def drain(client: httpx2.AsyncClient) -> None:
    with anyio.fail_after(DRAIN_S):
        while await audit.count_open(client):
            await anyio.sleep(0.05)


async def answers(client: httpx2.AsyncClient, *paths: str) -> dict[str, int]:
    return {path: (await client.get(path)).status_code for path in paths}


async def send(
    client: httpx2.AsyncClient, priority: str = "normal", key: str | None = None
) -> httpx2.Response:
    """Ask for one message."""
    order = make_order(uuid.uuid4().hex if key is None else key, "sms")
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {**order.request(), "priority": priority}
    return await client.post("/v1/calls", json=body, headers=headers)


async def until_level(client: httpx2.AsyncClient, level: str) -> dict[str, Any]:
    """Return the status once the journal's disk is said to stand so to its marks."""
    with anyio.fail_after(NOTICE_S):
        while (status := (await client.get("/v1/status")).json())["journal"]["level"] != level:
            await anyio.sleep(0.1)
    told: dict[str, Any] = status
    return told


async def until_taken(client: httpx2.AsyncClient, priority: str) -> None:
    with anyio.fail_after(RESUME_S):
        while (await send(client, priority)).status_code != 202:
            await anyio.sleep(0.05)


async def until_state(client: httpx2.AsyncClient, call_id: str, state: str) -> None:
    with anyio.fail_after(DRAIN_S):
        while (await client.get(f"/v1/calls/{call_id}")).json()["state"] != state:
            await anyio.sleep(0.05)


async def journal_events(client: httpx2.AsyncClient) -> list[str]:
    found = (await client.get("/v1/events", params={"limit": 100})).json()["items"]
    return [event["type"] for event in found if event["type"].startswith("journal.")]


def refusal(answer: httpx2.Response) -> tuple[int, str, bool]:
    return answer.status_code, answer.json()["code"], int(answer.headers["retry-after"]) > 0


def faults_of(daemon: DaemonProcess, book: Book) -> list[str]:
    """Stop the daemon and compare its journal with the book."""
    code = daemon.stop()
    faults = audit.check_calls(audit.read_books(daemon), book)
    return faults if code == 0 else [f"the daemon ended with {code}", *faults]


async def test_disk_full_refuses_new_calls_and_loses_none(
    disk: Disk, daemon: DaemonProcess, record_property: Callable[[str, object], None]
) -> None:
    disk.fill(BALLAST_BYTES)
    daemon.start()
    daemon.wait_ready()
    async with daemon.client() as client:
        shop = Shop(client)

        refused = await shop.order_until(507, within_s=30, size=BATCH)
        kept = list(shop.book.kept.values())
        status = (await client.get("/v1/status")).json()
        readable = await answers(
            client,
            "/readyz",
            "/healthz",
            "/metrics",
            "/v1/ledger",
            "/v1/calls",
            f"/v1/calls/{kept[-1]}",
        )
        cancelled = await client.delete(f"/v1/calls/{kept[-1]}")
        still = [(await shop.order()).status_code for _ in range(5)]
        disk.free()
        began = time.monotonic()
        await shop.order_until(202, within_s=RESUME_S)
        record_property("resumed_after_s", time.monotonic() - began)
        await drain(client)

    assert refused.json()["code"] == "journal_full"
    assert int(refused.headers["retry-after"]) > 0
    assert len(kept) > 10 * BATCH
    assert (status["status"], status["journal"]["condition"]) == ("degraded", "full")
    assert readable.pop("/readyz") == 503
    assert set(readable.values()) == {200}
    assert cancelled.status_code in {200, 409, 507}
    assert still == [507] * 5
    assert not faults_of(daemon, shop.book)


@pytest.mark.parametrize("ending", ["stopped", "killed"])
async def test_disk_full_at_start_is_told_and_waited_out(
    disk: Disk, daemon: DaemonProcess, ending: str
) -> None:
    daemon.start()
    daemon.wait_ready()
    async with daemon.client() as client:
        shop = Shop(client)
        await shop.order(BATCH)
        if ending == "killed":
            daemon.kill()
        else:
            daemon.stop()
        disk.fill()

        daemon.start()
        daemon.wait_ready()
        refused = await shop.order_until(507, within_s=10)
        status = (await client.get("/v1/status")).json()
        ready = await answers(client, "/readyz", "/healthz")
        disk.free()
        await shop.order_until(202, within_s=RESUME_S)
        await drain(client)

    assert refused.status_code == 507
    assert int(refused.headers["retry-after"]) > 0
    assert status["status"] == "degraded"
    assert ready == {"/readyz": 503, "/healthz": 200}
    assert len(shop.book.kept) > BATCH
    assert not faults_of(daemon, shop.book)


async def test_disk_low_on_room_refuses_what_can_wait_until_there_is_more(
    disk: Disk, watchful: DaemonProcess
) -> None:
    watchful.start()
    watchful.wait_ready()
    async with watchful.client() as client:
        known = (await send(client, "low", "known")).json()["id"]

        disk.leave(HIGH_BYTES - MIB)
        status = await until_level(client, "high")
        ready = await answers(client, "/readyz")
        refused = [refusal(await send(client, "low")) for _ in range(3)]
        taken = [(await send(client, priority)).status_code for priority in ("normal", "high")]
        replay = await send(client, "low", "known")
        disk.free()
        await until_taken(client, "low")
        await drain(client)
        events = await journal_events(client)

    assert (status["status"], status["journal"]["condition"]) == ("attention", "ready")
    assert any("low on room" in told for told in status["problems"])
    assert ready == {"/readyz": 200}
    assert refused == [(507, "journal_high_water", True)] * 3
    assert taken == [202, 202]
    assert (replay.status_code, replay.json()["id"]) == (202, known)
    assert events == ["journal.high_water", "journal.resumed"]
    assert watchful.stop() == 0


async def test_disk_nearly_full_refuses_all_but_delivers_and_cancels_what_is_there(
    disk: Disk, watchful: DaemonProcess
) -> None:
    watchful.start()
    watchful.wait_ready()
    async with watchful.client() as client:
        await client.post("/v1/connections/console/pause")
        kept, unwanted = [(await send(client, key=key)).json()["id"] for key in ("a", "b")]
        disk.leave(HIGH_BYTES - MIB)
        await until_level(client, "high")

        disk.leave(CRITICAL_BYTES - MIB)
        status = await until_level(client, "critical")
        refused = {refusal(await send(client, one)) for one in ("low", "normal", "high")}
        replay = await send(client, key="a")
        cancelled = await client.delete(f"/v1/calls/{unwanted}")
        await client.post("/v1/connections/console/resume")
        await until_state(client, kept, "completed")
        still = (await client.get("/v1/status")).json()["journal"]
        disk.free()
        await until_taken(client, "low")
        await drain(client)
        events = await journal_events(client)

    assert (status["status"], status["journal"]["condition"]) == ("degraded", "full")
    assert refused == {(507, "journal_full", True)}
    assert (replay.status_code, replay.headers["idempotency-replayed"]) == (202, "true")
    assert cancelled.json()["state"] == "cancelled"
    assert (still["condition"], still["level"]) == ("full", "critical")
    assert events == ["journal.high_water", "journal.full", "journal.resumed"]
    assert watchful.stop() == 0
    assert not audit.read_books(watchful).faults


async def test_disk_low_on_room_at_start_is_told_and_what_is_there_is_delivered(
    disk: Disk, watchful: DaemonProcess
) -> None:
    watchful.start()
    watchful.wait_ready()
    async with watchful.client() as client:
        await client.post("/v1/connections/console/pause")
        kept = (await send(client)).json()["id"]
        watchful.kill()
        disk.leave(CRITICAL_BYTES - MIB)

        watchful.start()
        watchful.wait_ready()
        refused = refusal(await send(client))
        await client.post("/v1/connections/console/resume")
        await until_state(client, kept, "completed")
        disk.free()
        await until_taken(client, "normal")
        await drain(client)
        events = await journal_events(client)

    assert refused == (507, "journal_full", True)
    assert events == ["journal.full", "journal.resumed"]
    assert watchful.stop() == 0
