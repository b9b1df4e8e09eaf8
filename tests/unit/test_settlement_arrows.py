"""Settlement and schema agree on every arrow of the state diagram, and on every one that is not."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from integrationd.call import ARROWS, FINAL_STATES, Call, CallState, new_call_id
from integrationd.errors import ConflictError
from integrationd.journal import database, rows, sqlite
from integrationd.retry import RetryPolicy
from integrationd.sdk import outcome as said
from integrationd.sdk.provider import QuerySchedule
from integrationd.settlement import (
    Policy,
    Resolution,
    Settlement,
    cancel,
    expire,
    resolve,
    retry,
    settle_finding,
    settle_send,
    settle_unrepeatable,
)

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
GIVE_UP_MS = NOW_MS + 72 * HOUR_MS
STATES = tuple(CallState)

SENDS: list[said.Outcome] = [
    said.Delivered(result={"ok": True}, reference="ref"),
    said.Accepted(reference="ref"),
    said.Rejected(reason="no"),
    said.Throttled(wait_s=5),
    said.Retryable(reason="busy"),
    said.Retryable(reason="refused", sent=False),
    said.Uncertain(reason="timeout"),
]
FINDINGS: list[said.Finding] = [
    said.Done(),
    said.Refused(reason="declined"),
    said.Pending(),
    said.NeverHappened(proof="no such reference"),
    said.CannotTell(),
]


class NoJitter:
    """Draws the longest wait."""

    def uniform(self, _a: float, b: float, /) -> float:
        return b


def policy(**changes: Any) -> Policy:
    terms: dict[str, Any] = {
        "retry": RetryPolicy(attempts=3),
        "repeat_safe": False,
        "reads_only": False,
        "key_lifetime_s": None,
        "can_ask": False,
        "schedule": QuerySchedule(first_s=5, cap_s=60, window_s=600),
        "on_uncertain": "hold",
        "max_repeats": 1,
    }
    return Policy(**{**terms, **changes})


def accepted(seq: int = 1) -> Call:
    return Call(
        seq=seq,
        id=new_call_id(NOW_MS),
        tenant="default",
        operation="sms.send",
        lane="default/sms.send",
        created_at_ms=NOW_MS,
        due_at_ms=NOW_MS,
        give_up_at_ms=GIVE_UP_MS,
    )


def leased(call: Call, now_ms: int) -> Call:
    return call.replace(
        state=CallState.PROCESSING,
        revision=call.revision + 1,
        connection="shop",
        tries=call.tries + 1,
        due_at_ms=None,
        lease_id=7,
        last_lease_id=7,
        lease_until_ms=now_ms + 60_000,
    )


def standing(state: CallState) -> dict[str, Any]:
    """Return the columns that the schema asks for in a state."""
    return {
        "state": state,
        "due_at_ms": NOW_MS if state is CallState.PENDING else None,
        "connection": "shop",
        "lease_id": 7 if state is CallState.PROCESSING else None,
        "lease_until_ms": NOW_MS if state is CallState.PROCESSING else None,
        "ask_at_ms": NOW_MS if state is CallState.WAITING else None,
        "finished_at_ms": NOW_MS if state in FINAL_STATES else None,
        "reason": "because",
    }


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite.Connection]:
    connection, _ = database.open_writer(tmp_path / "journal.db")
    yield connection
    connection.close()


def brought_to(db: sqlite.Connection, state: CallState) -> Call:
    """Insert a call and walk it to ``state`` by arrows that exist."""
    call = accepted()
    db.execute(rows.INSERT_CALL, rows.insert_values(call))
    for step in _walk(CallState.PENDING, state):
        after = call.replace(revision=call.revision + 1, **standing(step))
        db.execute(rows.STORE_CALL, rows.store_values(after, call.revision))
        call = after
    return call


def _walk(start: CallState, end: CallState) -> list[CallState]:
    found: dict[CallState, list[CallState]] = {start: []}
    queue = [start]
    while queue:
        here = queue.pop(0)
        for there in sorted(ARROWS[here]):
            if there not in found:
                found[there] = [*found[here], there]
                queue.append(there)
    return found[end]


@pytest.mark.parametrize(("start", "end"), list(itertools.permutations(STATES, 2)))
def test_schema_allows_exactly_the_arrows_of_the_diagram(
    db: sqlite.Connection, start: CallState, end: CallState
) -> None:
    call = brought_to(db, start)
    after = call.replace(revision=call.revision + 1, **standing(end))
    write = (rows.STORE_CALL, rows.store_values(after, call.revision))

    if end in ARROWS[start]:
        assert db.execute(*write).rowcount == 1
    else:
        with pytest.raises(sqlite.IntegrityError):
            db.execute(*write)


def test_every_state_can_be_reached_and_final_ones_are_left_by_a_person_only() -> None:
    reached = {end for start in STATES for end in ARROWS[start]} | {CallState.PENDING}

    assert reached == set(STATES)
    assert not ARROWS[CallState.COMPLETED]
    assert not ARROWS[CallState.CANCELLED]


def attempted(attempts: int, **more: Any) -> Call:
    first = {"attempts": attempts, "tries": attempts, **more}
    return leased(accepted().replace(**first), NOW_MS)


def sent(call: Call, outcome: said.Outcome, rules: Policy, now_ms: int = NOW_MS) -> Settlement:
    return settle_send(
        call, (), outcome, rules, started_ms=now_ms, now_ms=now_ms, jitter=NoJitter()
    )


@pytest.mark.parametrize(
    ("rules", "before", "state", "doubt"),
    [
        ({}, 0, CallState.UNKNOWN, 1),
        ({"can_ask": True}, 0, CallState.UNKNOWN, 1),
        ({"can_ask": True, "on_uncertain": "repeat"}, 0, CallState.UNKNOWN, 1),
        ({"on_uncertain": "repeat"}, 0, CallState.PENDING, 1),
        ({"on_uncertain": "repeat"}, 2, CallState.UNKNOWN, 1),
        ({"on_uncertain": "repeat", "max_repeats": 0}, 0, CallState.UNKNOWN, 1),
        ({"repeat_safe": True}, 0, CallState.PENDING, 1),
        ({"repeat_safe": True}, 2, CallState.UNKNOWN, 1),
        ({"repeat_safe": True, "reads_only": True}, 2, CallState.FAILED, 0),
        ({"repeat_safe": True, "key_lifetime_s": 60.0}, 0, CallState.PENDING, 1),
    ],
)
def test_uncertain_send_follows_the_three_rules_in_their_order(
    rules: dict[str, Any], before: int, state: CallState, doubt: int
) -> None:
    settlement = sent(attempted(before), said.Uncertain(reason="timeout"), policy(**rules))

    assert (settlement.call.state, settlement.call.doubt) == (state, doubt)


def test_uncertain_send_is_not_repeated_after_the_life_of_its_key() -> None:
    call = attempted(1, first_sent_at_ms=NOW_MS - 120_000)

    settlement = sent(
        call, said.Uncertain(reason="timeout"), policy(repeat_safe=True, key_lifetime_s=60.0)
    )

    assert settlement.call.state is CallState.UNKNOWN


def test_blind_repeats_end_after_as_many_as_the_contract_allows() -> None:
    call = attempted(0, repeats=1)

    settlement = sent(call, said.Uncertain(reason="timeout"), policy(on_uncertain="repeat"))

    assert settlement.call.state is CallState.UNKNOWN


@pytest.mark.parametrize(
    "last", [said.Retryable(reason="busy"), said.Retryable(reason="refused", sent=False)]
)
def test_call_with_a_send_in_doubt_is_never_called_failed(last: said.Outcome) -> None:
    call = attempted(2, doubt=1, repeats=1)
    late_ms = GIVE_UP_MS

    settlement = sent(call, last, policy(on_uncertain="repeat"), late_ms)

    assert settlement.call.state is CallState.UNKNOWN


def test_send_that_never_left_spends_no_attempt_and_is_not_pinned() -> None:
    settlement = sent(attempted(0), said.Retryable(reason="refused", sent=False), policy())

    assert settlement.call.attempts == 0
    assert settlement.call.connection is None
    assert settlement.call.lane == "default/sms.send"


def test_send_that_may_have_arrived_pins_the_connection() -> None:
    settlement = sent(attempted(0), said.Retryable(reason="busy"), policy())

    assert settlement.call.lane == "@shop/default"


@pytest.mark.parametrize("wait_s", [7.0, 3600.0])
def test_wait_that_the_provider_asked_for_is_obeyed(wait_s: float) -> None:
    settlement = sent(attempted(0), said.Throttled(wait_s=wait_s), policy())

    assert settlement.call.due_at_ms is not None
    assert settlement.call.due_at_ms - NOW_MS >= wait_s * 1000


class Life(RuleBasedStateMachine):
    """One call, driven by anything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = NOW_MS
        self.call = accepted()
        self.terms = policy()

    def settle(self, settlement: Settlement) -> None:
        before, after = self.call, settlement.call
        if after.state is not before.state:
            assert after.state in ARROWS[before.state]
        assert after.revision - before.revision in (0, 1)
        self.call = after

    @rule(
        can_ask=st.booleans(),
        safe=st.booleans(),
        wish=st.sampled_from(["hold", "repeat"]),
        lifetime=st.sampled_from([None, 60.0]),
    )
    def choose_rules(self, can_ask: bool, safe: bool, wish: str, lifetime: float | None) -> None:
        self.terms = policy(
            can_ask=can_ask, repeat_safe=safe, on_uncertain=wish, key_lifetime_s=lifetime
        )

    @rule(seconds=st.sampled_from([1, 60, 700, 40_000]))
    def wait(self, seconds: int) -> None:
        self.now_ms += seconds * 1000

    @precondition(lambda self: self.call.state is CallState.PENDING)
    @rule(outcome=st.sampled_from(SENDS))
    def send(self, outcome: said.Outcome) -> None:
        self.call = leased(self.call, self.now_ms)
        before = self.call
        self.settle(sent(before, outcome, self.terms, self.now_ms))
        again = self.call.state is CallState.PENDING
        if again and isinstance(outcome, said.Uncertain) and not self.terms.repeat_safe:
            assert self.call.repeats == before.repeats + 1
            assert self.terms.on_uncertain == "repeat"
            assert not self.terms.can_ask

    @precondition(lambda self: self.call.state is CallState.PENDING)
    @rule()
    def lose_the_key(self) -> None:
        self.call = leased(self.call, self.now_ms)
        self.settle(settle_unrepeatable(self.call, (), self.terms, self.now_ms, NoJitter()))

    @precondition(lambda self: self.call.state in (CallState.WAITING, CallState.UNKNOWN))
    @rule(finding=st.sampled_from(FINDINGS))
    def ask(self, finding: said.Finding) -> None:
        self.settle(
            settle_finding(
                self.call, (), finding, self.terms, now_ms=self.now_ms, jitter=NoJitter()
            )
        )

    @precondition(lambda self: self.call.state.is_final)
    @rule(finding=st.sampled_from(FINDINGS))
    def hear_late(self, finding: said.Finding) -> None:
        state = self.call.state
        self.settle(
            settle_finding(
                self.call, (), finding, self.terms, now_ms=self.now_ms, jitter=NoJitter()
            )
        )
        assert self.call.state is state

    @rule()
    def cancel(self) -> None:
        allowed = self.call.state is CallState.PENDING and not self.call.doubt
        self.by_a_person(allowed, lambda: cancel(self.call, "ann", self.now_ms))

    @rule()
    def retry(self) -> None:
        allowed = self.call.state in (CallState.FAILED, CallState.EXPIRED)
        give_up_ms = self.now_ms + 72 * HOUR_MS
        self.by_a_person(
            allowed,
            lambda: retry(
                self.call, (), "ann", self.now_ms, expires_at_ms=None, give_up_at_ms=give_up_ms
            ),
        )

    @rule(resolution=st.sampled_from(list(Resolution)))
    def resolve(self, resolution: Resolution) -> None:
        allowed = self.call.state is CallState.UNKNOWN
        give_up_ms = self.now_ms + 72 * HOUR_MS
        self.by_a_person(
            allowed,
            lambda: resolve(
                self.call, (), resolution, "ann", "", self.now_ms, give_up_at_ms=give_up_ms
            ),
        )

    @precondition(
        lambda self: (
            self.call.state is CallState.PENDING
            and not self.call.doubt
            and self.now_ms >= self.call.deadline_ms
        )
    )
    @rule()
    def expire(self) -> None:
        self.settle(expire(self.call, self.now_ms))

    def by_a_person(self, allowed: bool, decide: Any) -> None:
        if allowed:
            self.settle(decide())
            return
        with pytest.raises(ConflictError):
            decide()

    @invariant()
    def stands_as_the_schema_demands(self) -> None:
        call = self.call
        assert (call.state is CallState.PENDING) == (call.due_at_ms is not None)
        assert (call.state in FINAL_STATES) == (call.finished_at_ms is not None)
        assert call.lease_id is None
        assert call.ask_at_ms is None or call.state in (CallState.WAITING, CallState.UNKNOWN)
        assert call.state is not CallState.WAITING or call.ask_at_ms is not None
        assert call.attempts <= call.tries
        assert call.state is not CallState.PENDING or call.attempts < self.terms.retry.attempts + 1
        if call.state in (CallState.FAILED, CallState.EXPIRED, CallState.UNKNOWN):
            assert call.reason


TestLife = Life.TestCase


@given(outcomes=st.lists(st.sampled_from(SENDS), min_size=1, max_size=12))
def test_money_rule_an_uncertain_send_is_never_followed_by_another_without_a_person(
    outcomes: list[said.Outcome],
) -> None:
    call = accepted()
    for outcome in outcomes:
        if call.state is not CallState.PENDING:
            break
        call = sent(leased(call, NOW_MS), outcome, policy()).call
        if isinstance(outcome, said.Uncertain):
            assert call.state is CallState.UNKNOWN
