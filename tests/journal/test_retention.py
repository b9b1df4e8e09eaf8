"""Retention: each class as long as it says, by tenant, in steps, and with proof of what went."""

from pathlib import Path

from tests.fake_clock import FakeClock
from tests.journal.cases import DAY_MS, KEY, accept, claim_one, complete, new

from integrationd.call import route_lane
from integrationd.journal import Journal, Kept, KeptHere, Retention
from integrationd.journal.audit import audit

DAY_S = DAY_MS // 1000
KEPT = Kept(
    calls_ms=10 * DAY_MS,
    attempts_ms=10 * DAY_MS,
    events_ms=100 * DAY_MS,
    by_tenant={
        "short": KeptHere(calls_ms=DAY_MS, attempts_ms=DAY_MS),
        "long": KeptHere(attempts_ms=50 * DAY_MS, calls_ms=50 * DAY_MS),
    },
)


async def deliver(journal: Journal, clock: FakeClock, tenant: str, count: int = 3) -> None:
    for _ in range(count):
        await accept(journal, new(tenant=tenant, now_ms=clock.now_ms()))
        await complete(journal, await claim_one(journal, route_lane(tenant, "sms.send")))


async def prune(journal: Journal, clock: FakeClock, kept: Kept = KEPT) -> int:
    retention, gone = Retention(journal, clock, kept, KEY), 0
    while step := await retention.prune_once():
        gone += step
    return gone


async def tenants(journal: Journal, table: str) -> set[str]:
    statement = {"call": "SELECT tenant FROM call", "attempt": "SELECT tenant FROM attempt"}
    return {tenant for (tenant,) in await journal.rows(statement[table])}


async def test_retention_of_a_tenant_takes_the_place_of_the_usual_one(
    journal: Journal, clock: FakeClock, path: Path
) -> None:
    for tenant in ("long", "default", "short", "last"):
        await deliver(journal, clock, tenant)

    await clock.advance(2 * DAY_S)
    await prune(journal, clock)
    after_two_days = await tenants(journal, "call"), await tenants(journal, "attempt")
    await clock.advance(9 * DAY_S)
    await prune(journal, clock)
    after_eleven = await tenants(journal, "call")

    assert after_two_days == ({"long", "default", "last"},) * 2
    # The newest call and the newest attempt stay, so that numbers only grow.
    assert after_eleven == {"long", "last"}
    assert audit(path, KEY).findings == []


async def test_retention_tells_which_attempts_went(
    journal: Journal, clock: FakeClock, path: Path
) -> None:
    await deliver(journal, clock, "default", 5)
    await clock.advance(11 * DAY_S)
    await deliver(journal, clock, "default", 1)

    await prune(journal, clock)

    (told,) = [one for one in await journal.events.after(0, 99) if one.type == "journal.pruned"]
    assert told.data == '{"attempts_pruned":[[1,5]]}'
    assert audit(path, KEY).findings == []


async def test_retention_carries_on_what_pruned_events_told(
    journal: Journal, clock: FakeClock, path: Path
) -> None:
    """Attempts that were pruned before others stay explained after their event is gone."""
    for tenant in ("long", "short", "long", "short"):
        await deliver(journal, clock, tenant, 1)
    kept = Kept(
        calls_ms=200 * DAY_MS,
        attempts_ms=DAY_MS,
        events_ms=5 * DAY_MS,
        by_tenant={"long": KeptHere(attempts_ms=300 * DAY_MS)},
    )
    for _ in range(4):
        await clock.advance(6 * DAY_S)
        await prune(journal, clock, kept)
        await deliver(journal, clock, "short", 1)

    assert (await journal.rows("SELECT count(*) FROM attempt WHERE tenant = 'long'"))[0][0] == 2
    assert audit(path, KEY).findings == []


async def test_retention_leaves_events_that_do_not_verify(
    journal: Journal, clock: FakeClock
) -> None:
    """They are evidence."""
    await deliver(journal, clock, "default", 4)
    await journal.write(
        lambda writing: writing.db.execute("UPDATE event SET data = '{}' WHERE seq = 2")
    )
    await clock.advance(200 * DAY_S)
    await deliver(journal, clock, "default", 1)

    await prune(journal, clock)

    assert (await journal.rows("SELECT min(seq) FROM event"))[0][0] == 2
