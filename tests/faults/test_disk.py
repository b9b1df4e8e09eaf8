"""A disk that really fills up: new calls are refused, nothing is lost, accepting resumes by itself.

The disk is a small tmpfs, which only root may mount; elsewhere these tests are skipped.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import httpx2
import pytest
from tests.faults import audit
from tests.faults.daemon import DaemonProcess
from tests.faults.load import Book, make_order

DISK_MIB = 12
BALLAST_BYTES = 6 * 1024 * 1024
CHUNK_BYTES = 65536
BATCH = 20
RESUME_S = 5.0
DRAIN_S = 20.0
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
    """A daemon whose journal alone lies on the small disk."""
    with DaemonProcess(tmp_path, TABLES, journal=disk.path / "journal.db") as daemon:
        yield daemon


async def drain(client: httpx2.AsyncClient) -> None:
    with anyio.fail_after(DRAIN_S):
        while await audit.count_open(client):
            await anyio.sleep(0.05)


async def answers(client: httpx2.AsyncClient, *paths: str) -> dict[str, int]:
    return {path: (await client.get(path)).status_code for path in paths}


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
