"""Whatever somebody without the instance key does to the log, the audit finds it.

A few hundred random edits, deletions and truncations in the suite, 10,000 in ``make faults``;
``INTEGRATIOND_TAMPERINGS`` says how many.
"""

import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fake_clock import FakeClock
from tests.faults.tampering import ATTACKS, Files, tampered
from tests.journal.cases import (
    DAY_MS,
    KEY,
    accept,
    attempt_of,
    claim_one,
    new,
    opened,
    sent,
)

from integrationd.call import pinned_lane
from integrationd.journal import Journal, Kept, Retention
from integrationd.journal.audit import AuditReport, judge
from integrationd.sdk import outcome as said

KEPT = Kept(calls_ms=DAY_MS, attempts_ms=DAY_MS, events_ms=DAY_MS)
TAMPERINGS = int(os.environ.get("INTEGRATIOND_TAMPERINGS", "400"))
MANY = 10_000

Judge = Callable[[Files], AuditReport]


async def live(journal: Journal, clock: FakeClock, calls: int) -> None:
    """Deliver calls, some at the second attempt, and tell of a late result for one."""
    for number in range(calls):
        await accept(journal, new(now_ms=clock.now_ms()))
        lease, started_ms = await claim_one(journal), clock.now_ms()
        if number % 3 == 0:
            later = sent(lease, said.Retryable(reason="busy"), clock.now_ms())
            one = attempt_of(lease, "retryable", started_ms=started_ms)
            await journal.leases.settle(lease, later, one)
            await clock.advance(10)
            lease = await claim_one(journal, pinned_lane("main", "default"))
        settlement = sent(lease, said.Delivered(result={"id": "m"}), clock.now_ms())
        one = attempt_of(lease, started_ms=started_ms)
        await journal.leases.settle(lease, settlement, one)
        if number % 5 == 0:
            # It comes again, under a lease that is over.
            await journal.leases.settle(lease, settlement, attempt_of(lease, "late"))


async def a_journal(path: Path) -> None:
    """Make a journal with anchors, attempts pruned in several ways, and a young end."""
    clock = FakeClock()
    async with opened(path, clock) as journal:
        retention = Retention(journal, clock, KEPT, KEY)
        for _ in range(3):
            await live(journal, clock, 6)
            await clock.advance(24 * 3600 + 60)
            while await retention.prune_once():
                pass
        await live(journal, clock, 10)
        # Named in the request of every attempt and in the event of one call.
        await accept(journal, new(b'{"to":"+254711111111"}', reference_id="+254711111111"))
        lease = await claim_one(journal)
        settlement = sent(lease, said.Delivered(result={}), clock.now_ms())
        await journal.leases.settle(lease, settlement, attempt_of(lease))
        erased = await journal.erasures.erase("default", "+254711111111", "ana", dry_run=False)
        assert (erased.attempts, erased.events) == (1, 1)
        await live(journal, clock, 2)


@pytest.fixture
async def files(tmp_path: Path) -> tuple[bytes, bytes]:
    path = tmp_path / "journal.db"
    await a_journal(path)
    with sqlite3.connect(path) as db:
        # No log that a copy in memory could not have.
        db.execute("PRAGMA journal_mode = DELETE")
        original = db.serialize()
    db.close()
    return original, path.with_name("journal.db.mark").read_bytes()


def audited(files: Files) -> AuditReport:
    report = AuditReport()
    judge(files.db, KEY, files.mark, report, is_backup=False)
    return report


def audited_without_mark(files: Files) -> AuditReport:
    """Audit as if the mark did not matter: a planted weakness."""
    report = AuditReport()
    judge(files.db, KEY, b"", report, is_backup=True)
    return report


def missed(files: tuple[bytes, bytes], count: int, judged: Judge) -> tuple[Counter[str], set[str]]:
    """Tamper so often, and return what was not found, and all that was tried."""
    lost: Counter[str] = Counter()
    tried: set[str] = set()
    for number in range(count):
        name, after = tampered(*files, random.Random(number))
        tried.add(name)
        try:
            if judged(after).is_sound:
                lost[f"{name} (seed {number})"] += 1
        finally:
            after.db.close()
    return lost, tried


async def test_audit_finds_nothing_where_nothing_was_done(files: tuple[bytes, bytes]) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.deserialize(files[0])

    report = audited(Files(db, files[1]))

    assert report.findings == []
    assert report.first > 1
    assert report.attempts > 10
    db.close()


async def test_audit_finds_every_tampering(files: tuple[bytes, bytes]) -> None:
    lost, tried = missed(files, TAMPERINGS, audited)

    assert not lost
    assert tried == {attack.__name__ for attack in ATTACKS}


async def test_tampering_is_missed_by_an_audit_without_the_mark(
    files: tuple[bytes, bytes],
) -> None:
    """The attacker is good enough to find a weakness where there is one."""
    lost, _ = missed(files, 200, audited_without_mark)

    assert any("cut_the_end_off" in name for name in lost)


@pytest.mark.slow
async def test_audit_finds_ten_thousand_tamperings(files: tuple[bytes, bytes]) -> None:
    lost, _ = missed(files, max(MANY, TAMPERINGS), audited)

    assert not lost
