"""Daily quotas: exact, durable, and no worse for a damaged count."""

from pathlib import Path

import pytest
from tests.fake_clock import START_MS, FakeClock
from tests.journal.cases import new, opened, raw

from integrationd.errors import TooManyError, UnprocessableError
from integrationd.journal import Journal, Quota

DAY_MS = 86_400_000


async def accept(journal: Journal, count: int, now_ms: int = START_MS, limit: int = 5) -> None:
    batch = [new(now_ms=now_ms, tenant="acme") for _ in range(count)]
    await journal.calls.accept(batch, quotas={"acme": Quota("acme", limit, now_ms)})


def counted(path: Path) -> list[tuple[int, int]]:
    with raw(path) as db:
        return db.execute("SELECT day, accepted FROM tenant_day").fetchall()


async def test_calls_beyond_the_quota_are_not_kept(journal: Journal, path: Path) -> None:
    await accept(journal, 4)

    with pytest.raises(TooManyError) as refused:
        await accept(journal, 2)

    left_ms = DAY_MS - START_MS % DAY_MS
    assert refused.value.retry_after_s == -(-left_ms // 1000)
    assert (await journal.ledger.lines("acme"))[0].accepted == 4
    assert counted(path) == [(START_MS // DAY_MS, 4)]
    await accept(journal, 1)


async def test_more_than_a_day_ever_brings_is_told_so(journal: Journal) -> None:
    with pytest.raises(UnprocessableError, match="6 calls are more than"):
        await accept(journal, 6)


async def test_each_day_begins_anew_and_leaves_no_rows_behind(journal: Journal, path: Path) -> None:
    for day in range(3):
        await accept(journal, 5, START_MS + day * DAY_MS)

    assert counted(path) == [(START_MS // DAY_MS + 2, 5)]


async def test_tenant_without_a_quota_has_no_row(journal: Journal, path: Path) -> None:
    await journal.calls.accept([new(tenant="acme")])

    assert counted(path) == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE tenant_day SET accepted = 1",
        "UPDATE tenant_day SET sum = sum + 1",
        "UPDATE tenant_day SET accepted = 1000000",
        "DELETE FROM tenant_day",
    ],
)
async def test_count_that_is_damaged_or_lost_is_made_anew_from_the_calls(
    path: Path, damage: str
) -> None:
    clock = FakeClock()
    async with opened(path, clock) as journal:
        await accept(journal, 3)
        await journal.calls.accept([new(now_ms=START_MS, tenant="bolt")])
        await journal.calls.accept([new(now_ms=START_MS - DAY_MS, tenant="acme")])
    with raw(path) as db:
        db.execute(damage)

    async with opened(path, clock) as journal:
        await accept(journal, 2)
        with pytest.raises(TooManyError):
            await accept(journal, 1)
