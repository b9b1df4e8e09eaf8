"""Query plans: every statement of the hot paths seeks an index that leaves finished rows out."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    CONNECTION,
    KEY,
    LANE,
    LEASE_MS,
    Steered,
    accept,
    attempt_of,
    claim_one,
    complete,
    new,
    sent,
    steer,
)

from integrationd.call import DEFAULT_TENANT, CallState, pinned_lane
from integrationd.events import Bus
from integrationd.journal import AttemptFilter, CallFilter, Journal, database, sqlite
from integrationd.sdk import outcome as said
from integrationd.settlement import cancel


class Watched(Journal):
    """A journal that notes every statement, and explains them afterwards."""

    steered: Steered
    reads: list[tuple[str, sqlite.Parameters]]

    async def _read(
        self, reader: database.ReadConnection | None, sql: str, parameters: sqlite.Parameters
    ) -> list[sqlite.Row]:
        self.reads.append((sql, parameters))
        return await super()._read(reader, sql, parameters)

    def watch(self) -> None:
        """Forget what was noted before."""
        self.reads.clear()
        self.steered.statements.clear()

    def plans(self) -> dict[str, list[str]]:
        """Return the plan of every statement that looks for rows."""
        looking = ("SELECT", "WITH", "UPDATE call", "DELETE")
        noted = [*self.reads, *self.steered.statements]
        return {
            statement: [
                row[3]
                for row in self.steered.execute("EXPLAIN QUERY PLAN " + statement, parameters)
            ]
            for statement, parameters in noted
            if statement.startswith(looking)
        }


@pytest.fixture
async def lived(path: Path, bus: Bus, clock: FakeClock) -> AsyncIterator[Watched]:
    """Give a journal in which most calls are finished."""
    journal = Watched(path, KEY, bus, clock)
    journal.reads = []
    await journal.open()
    for _ in range(50):
        await accept(journal, new(reference_type="invoice", reference_id="INV-7"))
        await complete(journal, await claim_one(journal))
    for outcome in (said.Accepted(reference="r"), said.Uncertain(reason="timeout")):
        await accept(journal, new(connection=CONNECTION))
        lease = await claim_one(journal, pinned_lane(CONNECTION, DEFAULT_TENANT))
        await journal.leases.settle(lease, sent(lease, outcome, clock.now_ms()), attempt_of(lease))
    journal.steered = steer(journal)
    yield journal
    await journal.close()


Work = Callable[[Journal], Coroutine[Any, Any, Any]]


async def claim_some(journal: Journal) -> None:
    await accept(journal, new())
    await journal.leases.claim(LANE, CONNECTION, 3, LEASE_MS)


async def settle_one(journal: Journal) -> None:
    await accept(journal, new(recipients=("a", "b")))
    await complete(journal, await claim_one(journal))


async def cancel_one(journal: Journal) -> None:
    call = await accept(journal, new(key="k", own_reference="r", reference_scope="main"))
    await journal.calls.change(call.id, lambda one, _: cancel(one, "ana", 1))


async def list_by(journal: Journal, **wanted: Any) -> None:
    await journal.calls.list(CallFilter(**wanted), before=None, limit=5)


async def detail(journal: Journal) -> None:
    call = await accept(journal, new(recipients=("a",)))
    await journal.calls.detail(call.id)
    await journal.attempts.list(AttemptFilter(call_id=call.id), before=None, limit=5)


HOT: dict[str, tuple[Work, str]] = {
    "claim": (claim_some, "call_due (lane=? AND priority=? AND due_at_ms<?)"),
    "next due": (claim_some, "call_due (lane=? AND priority=?)"),
    "ask": (
        lambda journal: journal.leases.claim_to_ask(CONNECTION, DEFAULT_TENANT, 3, LEASE_MS),
        "call_ask (connection=? AND tenant=? AND ask_at_ms>? AND ask_at_ms<?)",
    ),
    "next ask": (
        lambda journal: journal.leases.claim_to_ask(CONNECTION, DEFAULT_TENANT, 3, LEASE_MS),
        "call_ask (connection=?",
    ),
    "to ask": (lambda journal: journal.leases.to_ask(), "INDEX call_ask"),
    "past deadline": (lambda journal: journal.leases.past_deadline(5), "call_deadline (<expr><?)"),
    "next deadline": (lambda journal: journal.leases.next_deadline_ms(), "INDEX call_deadline"),
    "leased": (lambda journal: journal.leases.leased(None, 5), "INDEX call_leased"),
    "lanes": (lambda journal: journal.leases.lanes(), "call_due (lane>?)"),
    "settle": (settle_one, "call USING INTEGER PRIMARY KEY (rowid=?)"),
    "change": (cancel_one, "call_id (id=?)"),
    "known key": (cancel_one, "idempotency USING PRIMARY KEY (tenant=? AND key=?)"),
    "taken reference": (
        cancel_one,
        "call_own_reference (reference_scope=? AND own_reference=?)",
    ),
    "detail": (detail, "call_id (id=?)"),
    "attempts": (detail, "attempt_call (call_seq=? AND rowid<?)"),
    "parts": (detail, "part USING PRIMARY KEY (call_seq=?)"),
    "attention": (lambda journal: journal.ledger.attention(), "INDEX call_damaged"),
    "contradicted": (lambda journal: journal.ledger.attention(), "INDEX call_contradicted"),
    "oldest pending": (lambda journal: journal.ledger.oldest_pending_ms(), "call_state (state=?)"),
    "by reference": (
        lambda journal: list_by(journal, reference_id="INV-7"),
        "call_reference (reference_id=?)",
    ),
    "of a tenant": (
        lambda journal: list_by(journal, tenant="school"),
        "call_tenant (tenant=? AND seq<?)",
    ),
    "attempts of a tenant": (
        lambda journal: journal.attempts.list(AttemptFilter(tenant="school"), before=None, limit=5),
        "attempt_tenant (tenant=? AND seq<?)",
    ),
    "processing": (lambda journal: list_by(journal, state="processing"), "INDEX call_leased"),
    **{
        f"by state {state}": (
            functools.partial(list_by, state=state),
            "call_state (state=? AND seq<?)",
        )
        for state in CallState
        if state not in (CallState.PROCESSING, CallState.COMPLETED)
    },
}
# Indexes that hold no finished call, or few; a look through one of them costs no more than that.
SMALL = ("call_ask", "call_deadline", "call_leased", "call_damaged", "call_contradicted")


@pytest.mark.parametrize("name", HOT)
async def test_hot_path_uses_its_index(lived: Watched, name: str) -> None:
    work, expected = HOT[name]
    lived.watch()

    await work(lived)

    plans = lived.plans()
    steps = [step for plan in plans.values() for step in plan]
    assert any(expected in step for step in steps), plans
    scans = {
        statement: plan
        for statement, plan in plans.items()
        if any(step.startswith("SCAN") and not cheap(step) for step in plan)
    }
    assert not scans


def cheap(step: str) -> bool:
    """Say whether a look through everything is one through few rows."""
    tables = ("SCAN lane", "SCAN CONSTANT ROW", "SCAN commit_mark", "SCAN ledger", "SCAN json_each")
    return step.startswith(tables) or any(f"INDEX {name}" in step for name in SMALL)


async def test_claiming_sorts_nothing(lived: Watched) -> None:
    lived.watch()

    await claim_some(lived)
    await lived.leases.claim_to_ask(CONNECTION, DEFAULT_TENANT, 3, LEASE_MS)
    await lived.leases.past_deadline(5)

    steps = [step for plan in lived.plans().values() for step in plan]
    assert not [step for step in steps if "TEMP B-TREE" in step]


async def test_listing_the_latest_walks_back_from_the_end(lived: Watched) -> None:
    lived.watch()

    await list_by(lived)
    await list_by(lived, state="completed")

    steps = [step for plan in lived.plans().values() for step in plan]
    assert set(steps) == {"SEARCH call USING INTEGER PRIMARY KEY (rowid<?)"}
