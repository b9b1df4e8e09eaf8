"""What systemd hears while the daemon runs: that it lives, and how things stand."""

import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from tests.fake_clock import FakeClock

from integrationd.api.ports import ConfigProblem, ConfigStatus
from integrationd.errors import JournalFullError
from integrationd.journal import Condition, JournalStatus, LedgerLine
from integrationd.supervisor.report import Matters, Report, in_words
from integrationd.supervisor.systemd import Notifier

APPLIED = ConfigStatus(file="integrationd.toml", state="applied", applied_at_ms=0)
Ledger = Callable[[], Awaitable[list[LedgerLine]]]


def line(**counts: int) -> LedgerLine:
    states = ("pending", "processing", "waiting", "unknown", "completed", "failed", "expired")
    found = {state: counts.get(state, 0) for state in (*states, "cancelled")}
    return LedgerLine(tenant="default", connection=None, accepted=sum(found.values()), **found)


def rejected(*problems: ConfigProblem) -> ConfigStatus:
    return ConfigStatus(file="x.toml", state="rejected", applied_at_ms=0, problems=problems)


def journal(condition: Condition = Condition.READY, reason: str = "") -> JournalStatus:
    return JournalStatus(
        condition=condition,
        reason=reason,
        alarm="",
        sqlite_version="3",
        exclusive=False,
        wal_bytes=0,
    )


@pytest.mark.parametrize(
    ("condition", "lines", "config", "told"),
    [
        (journal(), [], APPLIED, "0 calls waiting"),
        (journal(), [line(pending=1, completed=7)], APPLIED, "1 call waiting"),
        (
            journal(),
            [line(pending=40, waiting=3), line(processing=2, unknown=1)],
            APPLIED,
            "42 calls waiting; 1 of unknown outcome",
        ),
        (
            journal(Condition.FULL, "no room"),
            [],
            rejected(ConfigProblem("api", "is wrong"), ConfigProblem("x", "y")),
            "journal full: no room; 0 calls waiting; config rejected: api: is wrong (and 1 more)",
        ),
        (journal(reason="The disk is low."), [], APPLIED, "The disk is low; 0 calls waiting"),
        (journal(), [], rejected(), "0 calls waiting; config rejected: x.toml"),
    ],
)
def test_status_says_what_a_person_would_ask(
    condition: JournalStatus, lines: list[LedgerLine], config: ConfigStatus, told: str
) -> None:
    assert in_words(condition, lines, config) == told


def test_status_says_that_the_link_is_down() -> None:
    told = in_words(journal(), [line(pending=2)], APPLIED, link_is_up=False)

    assert told == "link down; 2 calls waiting"


class Manager:
    """A service manager, and what it has heard."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(self.address)

    def heard(self) -> list[str]:
        """Return the messages that have come since the last time."""
        said = []
        while True:
            try:
                said.append(self._socket.recv(65_536).decode())
            except BlockingIOError:
                return said

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Return a service manager that listens."""
    listening = Manager(tmp_path)
    yield listening
    listening.close()


async def answering() -> list[LedgerLine]:
    return [line(pending=3)]


async def full() -> list[LedgerLine]:
    raise JournalFullError


async def silent() -> list[LedgerLine]:
    await anyio.sleep_forever()
    return []


async def report(manager: Manager, ledger: Ledger, watchdog_s: float | None, beats: int) -> None:
    """Report until it has paused so many times."""
    clock = FakeClock()
    matters = Matters(ledger, journal, lambda: APPLIED, lambda: True)
    async with anyio.create_task_group() as group:
        group.start_soon(Report(Notifier(manager.address), matters, clock, watchdog_s).run)
        with anyio.fail_after(20):
            for beat in range(beats):
                while not clock.sleeping:
                    await anyio.sleep(0.001)
                if beat < beats - 1:
                    await clock.advance((watchdog_s or 20.0) / 4)
        group.cancel_scope.cancel()


async def test_watchdog_is_put_off_four_times_within_its_time(manager: Manager) -> None:
    await report(manager, answering, 8.0, beats=4)

    status = "STATUS=3 calls waiting"
    assert manager.heard() == ["WATCHDOG=1", status, *["WATCHDOG=1"] * 3]


async def test_status_is_told_without_a_watchdog_too(manager: Manager) -> None:
    await report(manager, answering, None, beats=1)

    assert "STATUS=3 calls waiting" in manager.heard()


async def test_full_disk_is_no_reason_for_a_restart(manager: Manager) -> None:
    await report(manager, full, 8.0, beats=2)

    assert manager.heard().count("WATCHDOG=1") == 2


async def test_silent_journal_lets_the_watchdog_bite(manager: Manager) -> None:
    await report(manager, silent, 0.04, beats=2)

    assert manager.heard() == []
