"""The ledger balances after every step, against a model and against the rows themselves."""

import asyncio
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from tests.fake_clock import FakeClock
from tests.journal.cases import (
    DAY_MS,
    KEY,
    LEASE_MS,
    accept,
    asked,
    attempt_of,
    new,
    sent,
)

from integrationd.call import AttemptKind, Call, CallState, Lease, pinned_lane, pinned_to
from integrationd.errors import ConflictError
from integrationd.events import Bus
from integrationd.journal import Journal, Kept, Retention
from integrationd.sdk import outcome as said
from integrationd.settlement import (
    Resolution,
    Settlement,
    cancel,
    expire,
    give_back,
    resolve,
    retry,
)

TENANTS = ("acme", "school")
CONNECTIONS = ("main", "backup")
STATES = tuple(state.value for state in CallState)
KEPT = Kept(calls_ms=DAY_MS, attempts_ms=DAY_MS, events_ms=DAY_MS)

OUTCOMES = st.sampled_from(
    [
        said.Delivered(result={"id": 1}, reference="r"),
        said.Accepted(reference="r"),
        said.Rejected(reason="invalid_recipient"),
        said.Throttled(wait_s=2),
        said.Retryable(reason="refused", sent=False),
        said.Retryable(reason="busy"),
        said.Uncertain(reason="timeout"),
    ]
)
FINDINGS = st.sampled_from(
    [
        said.Done(result={}),
        said.Refused(reason="no_money"),
        said.Pending(),
        said.NeverHappened(proof="There is no such payment."),
        said.CannotTell(),
    ]
)

Line = tuple[str, str]


class LedgerMachine(RuleBasedStateMachine):
    """Drives a real journal, with a model that knows only which call stands where."""

    calls = Bundle("calls")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.journal = Journal(self.directory / "journal.db", KEY, Bus(), self.clock)
        self.retention = Retention(self.journal, self.clock, KEPT, KEY)
        # The model: line and state of every call; pruned calls keep theirs.
        self.model: dict[str, tuple[Line, str]] = {}
        self.pruned: set[str] = set()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        self.do(self.journal.open())

    def teardown(self) -> None:
        self.do(self.journal.close())
        self.runner.close()
        shutil.rmtree(self.directory)

    def note(self, call: Call) -> None:
        self.model[call.id] = ((call.tenant, call.connection or ""), call.state.value)

    def current(self, call_id: str) -> Call | None:
        if call_id in self.pruned:
            return None
        found: Call = self.do(self.journal.calls.get(call_id))
        return found

    @rule(
        target=calls,
        tenant=st.sampled_from(TENANTS),
        connection=st.sampled_from([None, *CONNECTIONS]),
        expires_s=st.sampled_from([None, None, 30]),
        to_many=st.booleans(),
        count=st.integers(1, 4),
    )
    def accept(
        self, tenant: str, connection: str | None, expires_s: int | None, to_many: bool, count: int
    ) -> Any:
        now_ms = self.clock.now_ms()
        batch = [
            new(
                now_ms=now_ms,
                tenant=tenant,
                connection=connection,
                recipients=("a", "b") if to_many else (),
                expires_at_ms=now_ms + expires_s * 1000 if expires_s else None,
            )
            for _ in range(count)
        ]
        receipts = self.do(self.journal.calls.accept(batch))
        for receipt in receipts:
            self.note(receipt.call)
        return multiple(*(receipt.call_id for receipt in receipts))

    @rule(target=leases, connection=st.sampled_from(CONNECTIONS), limit=st.integers(1, 3))
    def claim(self, connection: str, limit: int) -> Any:
        return multiple(*self.claimed(connection, limit))

    def claimed(self, connection: str, limit: int) -> list[Lease]:
        found: list[Lease] = []
        for lane in self.do(self.journal.leases.lanes()):
            if pinned_to(lane) not in (None, connection):
                continue
            claimed, _ = self.do(self.journal.leases.claim(lane, connection, limit, LEASE_MS))
            found += claimed
        for lease in found:
            self.note(lease.call)
        return found

    @rule(target=leases, connection=st.sampled_from(CONNECTIONS), tenant=st.sampled_from(TENANTS))
    def claim_to_ask(self, connection: str, tenant: str) -> Any:
        found, _ = self.do(self.journal.leases.claim_to_ask(connection, tenant, 5, LEASE_MS))
        return multiple(*found)

    @rule(lease=consumes(leases), outcome=OUTCOMES, finding=FINDINGS)
    def settle(self, lease: Lease, outcome: said.Outcome, finding: said.Finding) -> None:
        now_ms = self.clock.now_ms()
        if lease.kind is AttemptKind.SEND:
            settlement = sent(lease, outcome, now_ms)
        else:
            settlement = asked(lease, finding, now_ms)
        self.settle_as(lease, settlement)

    @rule(connection=st.sampled_from(CONNECTIONS), outcome=OUTCOMES)
    def send(self, connection: str, outcome: said.Outcome) -> None:
        self.do(self.clock.advance(2))
        for lease in self.claimed(connection, 2):
            self.settle_as(lease, sent(lease, outcome, self.clock.now_ms()))

    @rule(
        connection=st.sampled_from(CONNECTIONS), tenant=st.sampled_from(TENANTS), finding=FINDINGS
    )
    def ask(self, connection: str, tenant: str, finding: said.Finding) -> None:
        self.do(self.clock.advance(120))
        leases, _ = self.do(self.journal.leases.claim_to_ask(connection, tenant, 2, LEASE_MS))
        for lease in leases:
            self.settle_as(lease, asked(lease, finding, self.clock.now_ms()))

    @rule(lease=consumes(leases))
    def give_back(self, lease: Lease) -> None:
        now_ms = self.clock.now_ms()
        self.settle_as(lease, give_back(lease.call, now_ms, now_ms))

    def settle_as(self, lease: Lease, settlement: Settlement) -> None:
        otherwise = self.do(self.journal.leases.settle(lease, settlement, attempt_of(lease)))
        if otherwise is None and lease.call.id not in self.pruned:
            self.note(settlement.call)

    @rule()
    def reclaim(self) -> None:
        for lease in self.do(self.journal.leases.leased(self.clock.now_ms(), 10)):
            lost = said.Uncertain(reason="interrupted")
            unknown = said.CannotTell(reason="interrupted")
            now_ms = self.clock.now_ms()
            is_send = lease.kind is AttemptKind.SEND
            self.settle_as(
                lease, sent(lease, lost, now_ms) if is_send else asked(lease, unknown, now_ms)
            )

    def change(self, call_id: str, decide: Callable[..., Settlement]) -> None:
        if call_id in self.pruned:
            return
        try:
            self.note(self.do(self.journal.calls.change(call_id, decide)))
        except ConflictError:
            return

    @rule(call_id=calls)
    def cancel(self, call_id: str) -> None:
        self.change(call_id, lambda call, _: cancel(call, "ana", self.clock.now_ms()))

    @rule(call_id=calls)
    def retry(self, call_id: str) -> None:
        now_ms = self.clock.now_ms()
        self.change(
            call_id,
            lambda call, parts: retry(
                call, parts, "ana", now_ms, expires_at_ms=None, give_up_at_ms=now_ms + DAY_MS
            ),
        )

    @rule(call_id=calls, resolution=st.sampled_from(Resolution))
    def resolve(self, call_id: str, resolution: Resolution) -> None:
        now_ms = self.clock.now_ms()
        self.change(
            call_id,
            lambda call, parts: resolve(
                call, parts, resolution, "ana", "", now_ms, give_up_at_ms=now_ms + DAY_MS
            ),
        )

    @rule()
    def expire(self) -> None:
        late = [one for one in self.do(self.journal.leases.past_deadline(10)) if not one.doubt]
        settled = [(call, expire(call, self.clock.now_ms())) for call in late]
        self.do(self.journal.leases.expire(settled))
        for _, settlement in settled:
            self.note(settlement.call)

    @rule(seconds=st.sampled_from([1, 20, 60, 3600]))
    def pass_time(self, seconds: float) -> None:
        self.do(self.clock.advance(seconds))

    @rule()
    def prune(self) -> None:
        self.do(self.clock.advance(1.5 * DAY_MS / 1000))
        self.do(self.retention.prune_once())
        left = {found for (found,) in self.do(self.journal.rows("SELECT id FROM call"))}
        self.pruned = set(self.model) - left

    @rule()
    def restart(self) -> None:
        self.do(self.journal.close())
        self.do(self.journal.open())

    @invariant()
    def every_line_balances_and_is_true(self) -> None:
        lines = self.do(self.journal.ledger.lines())
        assert all(line.balances for line in lines)
        told = {
            ((line.tenant, line.connection or ""), state): getattr(line, state)
            for line in lines
            for state in STATES
        }
        told = {place: count for place, count in told.items() if count}
        assert told == dict(Counter(self.model.values()))
        assert sum(line.accepted for line in lines) == len(self.model)

    @invariant()
    def rows_and_pruned_counts_say_the_same(self) -> None:
        by_rows = self.do(
            self.journal.rows(
                "SELECT tenant, coalesce(connection, ''), state, count(*) FROM call"
                " GROUP BY tenant, connection, state"
            )
        )
        found = Counter({((tenant, to), state): count for tenant, to, state, count in by_rows})
        finals = ("completed", "failed", "expired", "cancelled")
        for tenant, to, *counts in self.do(
            self.journal.rows(
                "SELECT tenant, connection, pruned_completed, pruned_failed, pruned_expired,"
                " pruned_cancelled FROM ledger"
            )
        ):
            for state, count in zip(finals, counts, strict=True):
                found[(tenant, to), state] += count
        assert +found == Counter(self.model.values())


LedgerMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
test_ledger_balances_after_every_step = LedgerMachine.TestCase


async def test_ledger_follows_a_call_from_connection_to_connection(
    journal: Journal, clock: FakeClock
) -> None:
    call = await accept(journal, new())
    seen = []
    for connection in ("main", "backup"):
        ((lease,), _) = await journal.leases.claim(call.lane, connection, 1, LEASE_MS)
        seen += await journal.ledger.lines()
        never_left = said.Retryable(reason="refused", sent=False)
        await journal.leases.settle(lease, sent(lease, never_left, clock.now_ms()))
        await clock.advance(5)
    (line,) = await journal.ledger.lines()

    assert [(one.connection, one.processing) for one in seen] == [("main", 1), ("backup", 1)]
    assert (line.connection, line.pending, line.accepted) == (None, 1, 1)


async def test_ledger_counts_what_a_person_should_look_at(journal: Journal) -> None:
    assert await journal.ledger.attention() == {"damaged": 0, "contradicted": 0}
    assert await journal.ledger.oldest_pending_ms() is None
    await accept(journal, new(now_ms=5_000))

    assert await journal.ledger.oldest_pending_ms() == 5_000


async def test_ledger_agrees_after_a_random_crowd(journal: Journal, clock: FakeClock) -> None:
    source = random.Random(3)
    for _ in range(20):
        batch = [
            new(tenant=source.choice(TENANTS), connection=source.choice(CONNECTIONS))
            for _ in range(10)
        ]
        await journal.calls.accept(batch)
    for connection in CONNECTIONS:
        claims = [
            await journal.leases.claim(pinned_lane(connection, tenant), connection, 10, LEASE_MS)
            for tenant in TENANTS
        ]
        leases = [lease for found, _ in claims for lease in found]
        await asyncio.gather(
            *(
                journal.leases.settle(lease, sent(lease, said.Delivered(), clock.now_ms()))
                for lease in leases
            )
        )

    lines = await journal.ledger.lines()

    claimed = 10 * len(CONNECTIONS) * len(TENANTS)
    assert sum(line.completed for line in lines) == claimed
    assert sum(line.pending for line in lines) == 200 - claimed
    assert all(line.balances for line in lines)
