"""Starting and stopping: what is under way is finished, what is wrong is said, nothing is lost."""

import asyncio
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.e2e.running import REHEARSAL, look, submit
from tests.faults.daemon import DaemonProcess
from tests.program import Process

UNSET_SECRET = """\
[connections.c]
provider = "http"
[connections.c.config]
base_url = "http://shop.example"
auth = { kind = "bearer", token = "env:NOT_SET_ANYWHERE" }
"""
CONSOLE = '[connections.console]\nprovider = "console"\n'
SLOW = {"script": ["slow:1"]}


def started(directory: Path, tables: str = REHEARSAL, **more: Any) -> DaemonProcess:
    daemon = DaemonProcess(directory, tables, **more)
    daemon.start()
    daemon.wait_ready()
    return daemon


def process_of(daemon: DaemonProcess) -> Process:
    assert daemon._process is not None
    return daemon._process


def ended(daemon: DaemonProcess, within_s: float = 15.0) -> int:
    """Wait until a daemon that was started has ended by itself; return the exit code."""
    return process_of(daemon).wait(within_s)


def refused(directory: Path, tables: str, **more: Any) -> tuple[int, str]:
    """Start a daemon that cannot start; return the exit code and what it said."""
    with DaemonProcess(directory, tables, **more) as daemon:
        daemon.start()
        return ended(daemon), daemon.output()


async def under_way(client: httpx2.AsyncClient, call_id: str) -> None:
    for _ in range(200):
        if (await look(client, call_id))["state"] == "processing":
            return
        await asyncio.sleep(0.02)
    raise AssertionError("no attempt has begun")


# Stopping


async def test_sigterm_lets_the_attempt_finish_and_the_next_start_goes_on(short_path: Path) -> None:
    tables = f"{REHEARSAL}concurrency = 1\n"
    with started(short_path, tables, anew=True) as daemon:
        async with daemon.client() as client:
            busy = await submit(client, "rehearsal.hold", SLOW, wait_s=0)
            waiting = [await submit(client, "rehearsal.hold", {}, wait_s=0) for _ in range(5)]
            await under_way(client, busy["id"])
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5

        daemon.start()
        daemon.wait_ready()
        async with daemon.client() as client:
            first = await look(client, busy["id"])
            rest = [await look(client, call["id"], wait_s=10) for call in waiting]
            ledger = (await client.get("/v1/ledger")).json()
        assert daemon.stop() == 0

    assert (first["state"], first["tries"]) == ("completed", 1)
    assert {call["state"] for call in rest} == {"completed"}
    assert {call["tries"] for call in rest} == {1}
    assert (ledger["balances"], ledger["total"]["completed"]) == (True, 6)


async def test_requests_that_wait_are_answered_at_once_when_it_stops(short_path: Path) -> None:
    with started(short_path) as daemon:
        async with daemon.client() as client:
            late = {"operation": "rehearsal.hold", "not_before": "2035-01-01T00:00:00Z"}
            waiting = asyncio.ensure_future(
                client.post("/v1/calls", json=late, headers={"Prefer": "wait=60"})
            )
            while (await client.get("/v1/ledger")).json()["total"]["accepted"] == 0:
                await asyncio.sleep(0.02)
            began = time.monotonic()
            process_of(daemon).send_signal(signal.SIGTERM)
            answer = await waiting
            took_s = time.monotonic() - began

        assert ended(daemon) == 0
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    assert took_s < 2


async def test_draining_daemon_accepts_nothing_more(short_path: Path) -> None:
    with started(short_path) as daemon:
        async with daemon.client() as client, daemon.client() as stranger:
            busy = await submit(client, "rehearsal.hold", SLOW, wait_s=0)
            await under_way(client, busy["id"])
            process_of(daemon).send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            with pytest.raises(httpx2.TransportError):
                await stranger.post("/v1/rehearsal/hold")

        assert ended(daemon) == 0


async def test_second_sigterm_does_no_harm(short_path: Path) -> None:
    with started(short_path) as daemon:
        async with daemon.client() as client:
            busy = await submit(client, "rehearsal.hold", SLOW, wait_s=0)
            await under_way(client, busy["id"])
        for _ in range(3):
            process_of(daemon).send_signal(signal.SIGTERM)
            await asyncio.sleep(0.1)
        assert ended(daemon) == 0

        daemon.start()
        daemon.wait_ready()
        async with daemon.client() as client:
            call = await look(client, busy["id"])
        assert daemon.stop() == 0
    assert (call["state"], call["tries"]) == ("completed", 1)


async def test_attempt_cut_off_by_a_kill_is_held_at_the_next_start(short_path: Path) -> None:
    with started(short_path) as daemon:
        async with daemon.client() as client:
            busy = await submit(client, "rehearsal.hold", {"script": ["slow:9"]}, wait_s=0)
            await under_way(client, busy["id"])
        daemon.kill()

        daemon.start()
        daemon.wait_ready()
        async with daemon.client() as client:
            call = await look(client, busy["id"], wait_s=10)
        assert daemon.stop() == 0

    assert (call["state"], call["reason"]) == ("unknown", "interrupted")
    assert "held for a person" in call["why"]


def test_interrupt_stops_it_like_sigterm(short_path: Path) -> None:
    with started(short_path, CONSOLE, anew=True) as daemon:
        process_of(daemon).send_signal(signal.SIGINT)
        assert ended(daemon) == 0
    assert not daemon.socket.exists()


# Starting


def test_second_daemon_on_one_journal_says_so(short_path: Path) -> None:
    (short_path / "2").mkdir()
    with started(short_path, CONSOLE) as daemon:
        code, said = refused(short_path / "2", CONSOLE, journal=daemon.journal)

        assert code == 1
        assert "Stop the other daemon" in said
        assert "Traceback" not in said
        assert daemon.stop() == 0


def test_second_daemon_on_one_port_says_so(short_path: Path) -> None:
    (short_path / "2").mkdir()
    with started(short_path, CONSOLE) as daemon:
        listen = {"INTEGRATIOND_API__LISTEN": f"127.0.0.1:{daemon.port}"}
        code, said = refused(short_path / "2", CONSOLE, environ=listen)

        assert code == 4
        assert f"127.0.0.1:{daemon.port}" in said
        assert "Traceback" not in said
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ("[connections.c]\nprovider = \n", "line "),
        ('[connections.c]\nprovider = "console"\ncolour = "red"\n', "connections.c.colour"),
        ('[connections.c]\nprovider = "nobody"\n', "no plugin has the code 'nobody'"),
        ('[connections.c]\nprovider = "http"\n', "base_url"),
        (UNSET_SECRET, "NOT_SET_ANYWHERE"),
        (f'{CONSOLE}tenant = "school"\n', "there is no tenant 'school'"),
        (f'{CONSOLE}[routes."sms.send"]\norder = ["console", "b"]\n', "'b' is unknown"),
        ("[delivery]\nattempts = 0\n", "delivery.attempts"),
        ("[vault]\nkey = 1\n", "vault.key"),
    ],
)
def test_wrong_config_is_refused_by_name(short_path: Path, tables: str, said: str) -> None:
    code, output = refused(short_path, tables)

    assert code == 4
    assert said in output
    assert "hint:" in output
    assert "Traceback" not in output
    assert not (short_path / "journal.db").exists()


@pytest.mark.parametrize("name", ["api.key", "instance.key"])
def test_key_file_that_others_can_read_is_refused(short_path: Path, name: str) -> None:
    with started(short_path, CONSOLE) as daemon:
        assert daemon.stop() == 0
    key = short_path / name
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o644)

    code, output = refused(short_path, CONSOLE)

    assert code == 4
    assert f"{name} is open to others (mode 0644)" in output
    assert "chmod 600" in output


def test_empty_key_file_is_refused(short_path: Path) -> None:
    (short_path / "api.key").touch(mode=0o600)

    code, output = refused(short_path, CONSOLE)

    assert code == 4
    assert "is empty" in output


async def test_key_stays_the_same_over_starts(short_path: Path) -> None:
    keys = set()
    with DaemonProcess(short_path, CONSOLE) as daemon:
        for _ in range(2):
            daemon.start()
            daemon.wait_ready()
            async with daemon.client("tcp") as client:
                assert (await client.get("/v1/status")).status_code == 200
            keys.add((short_path / "api.key").read_text())
            assert daemon.stop() == 0
    assert len(keys) == 1


async def test_journal_metric_is_ready_after_the_start(short_path: Path) -> None:
    with started(short_path, CONSOLE) as daemon:
        async with daemon.client() as client:
            metrics = (await client.get("/metrics")).text
        assert daemon.stop() == 0
    assert "integrationd_journal_ready 1.0" in metrics


@pytest.mark.parametrize(
    "streams",
    ["<&-", "<&- >&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "</dev/null >/dev/null 2>&1"],
)
async def test_state_of_the_standard_streams_does_not_matter(
    short_path: Path, streams: str
) -> None:
    shell = ["/bin/sh", "-c", f'exec "{sys.executable}" -m integrationd run "$@" {streams}', "run"]
    with started(short_path, program=shell) as daemon:
        async with daemon.client() as client:
            # An unknown call is told in the log, which must not end anything.
            unknown = await submit(client, "rehearsal.hold", {"script": ["uncertain"]})
            done = await submit(client, "rehearsal.hold", {})
        assert daemon.stop() == 0
    assert (unknown["state"], done["state"]) == ("unknown", "completed")
    assert daemon.journal.read_bytes().startswith(b"SQLite format 3")
