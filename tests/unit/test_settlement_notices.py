"""What a notice, or a receipt, means for a call in each of its states."""

from typing import Any

import pytest

from integrationd.call import FINAL_STATES, Call, CallState, Part, PartState, new_call_id
from integrationd.retry import RetryPolicy
from integrationd.sdk import Money
from integrationd.sdk import outcome as said
from integrationd.sdk.provider import QuerySchedule
from integrationd.settlement import Policy, Settlement, settle_notice, settle_receipt

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
ASKED = Money.of("100", "KES")
UNSETTLED = (CallState.PENDING, CallState.PROCESSING)
OPEN = (CallState.WAITING, CallState.UNKNOWN)


class NoJitter:
    """Draws the longest wait."""

    def uniform(self, _a: float, b: float, /) -> float:
        return b


def a_call(state: CallState, **changes: Any) -> Call:
    call = Call(
        seq=1,
        id=new_call_id(NOW_MS),
        tenant="default",
        operation="payment.initiate",
        lane="@till",
        connection="till",
        created_at_ms=NOW_MS,
        give_up_at_ms=NOW_MS + 72 * HOUR_MS,
        state=state,
        tries=1,
        attempts=1,
        revision=4,
        doubt=int(state is CallState.UNKNOWN),
    )
    return call.replace(**changes)


def a_policy(*, can_ask: bool = True, asked: Money | None = ASKED) -> Policy:
    return Policy(
        retry=RetryPolicy(),
        repeat_safe=False,
        reads_only=False,
        key_lifetime_s=None,
        can_ask=can_ask,
        schedule=QuerySchedule(first_s=5, factor=2, cap_s=60, window_s=600),
        on_uncertain="hold",
        max_repeats=0,
        asked=asked,
    )


def settle(call: Call, finding: said.Finding, policy: Policy | None = None) -> Settlement | None:
    return settle_notice(call, (), finding, policy or a_policy(), now_ms=NOW_MS, jitter=NoJitter())


def settled(call: Call, finding: said.Finding, policy: Policy | None = None) -> Settlement:
    found = settle(call, finding, policy)
    assert found is not None
    return found


def kinds(settlement: Settlement) -> list[str]:
    return [event.type for event in settlement.events]


@pytest.mark.parametrize("state", UNSETTLED)
@pytest.mark.parametrize(
    "finding", [said.Done(), said.Refused(reason="no"), said.Pending(), said.CannotTell()]
)
def test_notice_waits_while_the_call_is_being_attempted(
    state: CallState, finding: said.Finding
) -> None:
    assert settle(a_call(state), finding) is None


@pytest.mark.parametrize("state", OPEN)
def test_payment_of_what_was_asked_completes_an_open_call(state: CallState) -> None:
    done = said.Done(result={"receipt": "R1"}, reference="theirs", paid=Money.of("100.00", "KES"))

    found = settled(a_call(state), done)

    assert found.call.state is CallState.COMPLETED
    assert (found.call.provider_reference, found.call.doubt) == ("theirs", 0)
    assert (found.result, kinds(found)) == ({"receipt": "R1"}, ["call.completed"])


@pytest.mark.parametrize("state", OPEN)
@pytest.mark.parametrize("kind", [said.Done, said.Pending])
@pytest.mark.parametrize(("amount", "currency"), [("99.99", "KES"), ("100", "UGX"), ("0", "KES")])
def test_another_sum_leaves_the_call_unknown_for_a_person(
    state: CallState, kind: type[said.Done | said.Pending], amount: str, currency: str
) -> None:
    found = settled(a_call(state, ask_at_ms=NOW_MS + 1), kind(paid=Money.of(amount, currency)))

    assert (found.call.state, found.call.reason) == (CallState.UNKNOWN, "amount_differs")
    assert found.call.ask_at_ms is None
    assert str(Money.of(amount, currency)) in (found.call.detail or "")
    assert kinds(found)[-1] == "call.needs_attention"


@pytest.mark.parametrize("state", OPEN)
def test_sum_counts_only_where_one_was_asked_for_and_one_is_told(state: CallState) -> None:
    paid = said.Done(paid=Money.of("7", "KES"))

    assert settled(a_call(state), paid, a_policy(asked=None)).call.state is CallState.COMPLETED
    assert settled(a_call(state), said.Done()).call.state is CallState.COMPLETED


@pytest.mark.parametrize("state", OPEN)
def test_refusal_fails_an_open_call_with_its_reason(state: CallState) -> None:
    found = settled(a_call(state), said.Refused(reason="cancelled", detail="By the payer."))

    assert (found.call.state, found.call.reason) == (CallState.FAILED, "cancelled")
    assert found.call.finished_at_ms == NOW_MS


@pytest.mark.parametrize("state", OPEN)
def test_word_that_it_is_open_has_the_provider_asked_at_once(state: CallState) -> None:
    pending = said.Pending(result={"receipt": "R1"}, paid=ASKED)

    found = settled(a_call(state, ask_at_ms=NOW_MS + HOUR_MS), pending)

    assert (found.call.state, found.call.ask_at_ms) == (state, NOW_MS)
    assert found.call.ask_until_ms == NOW_MS + 600_000
    assert (found.result, found.events) == ({"receipt": "R1"}, ())


def test_word_that_it_is_open_does_not_make_the_window_longer() -> None:
    call = a_call(CallState.WAITING, ask_until_ms=NOW_MS + 7)

    assert settled(call, said.Pending(ask_after_s=3)).call.ask_until_ms == NOW_MS + 7
    assert settled(call, said.Pending(ask_after_s=3)).call.ask_at_ms == NOW_MS + 3000


@pytest.mark.parametrize("state", OPEN)
def test_word_that_it_is_open_is_kept_where_nobody_can_be_asked(state: CallState) -> None:
    call = a_call(state)

    found = settled(call, said.Pending(result={"a": 1}), a_policy(can_ask=False))

    assert (found.call.state, found.result) == (state, {"a": 1})
    assert found.call.revision == call.revision + 1


def test_proof_that_it_never_happened_lets_an_unknown_call_go_again() -> None:
    found = settled(a_call(CallState.UNKNOWN), said.NeverHappened(proof="no such id"))

    assert (found.call.state, found.call.doubt) == (CallState.PENDING, 0)


def test_proof_that_it_never_happened_disagrees_with_an_accepted_call() -> None:
    found = settled(a_call(CallState.WAITING), said.NeverHappened(proof="no such id"))

    assert (found.call.state, found.call.reason) == (CallState.UNKNOWN, "evidence_disagrees")


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
@pytest.mark.parametrize(
    ("finding", "against"),
    [
        (said.Done(), FINAL_STATES - {CallState.COMPLETED}),
        (said.Refused(reason="declined"), frozenset({CallState.COMPLETED})),
        (said.Pending(), frozenset[CallState]()),
        (said.CannotTell(), frozenset[CallState]()),
        (said.NeverHappened(proof="x"), frozenset[CallState]()),
    ],
)
def test_evidence_never_moves_a_final_call(
    state: CallState, finding: said.Finding, against: frozenset[CallState]
) -> None:
    call = a_call(state, finished_at_ms=NOW_MS)

    found = settled(call, finding)

    assert found.call.state is state
    assert (found.call.contradiction is not None) == (state in against)
    assert kinds(found) == (["call.contradicted"] if state in against else [])


def test_same_contradiction_is_told_once_until_it_is_acknowledged() -> None:
    call = a_call(CallState.COMPLETED, finished_at_ms=NOW_MS)
    refused = said.Refused(reason="reversed", detail="x" * 2000)
    first = settled(call, refused)

    again = settled(first.call, refused)
    other = settled(first.call, said.Refused(reason="charged_back"))
    after = settled(first.call.replace(contradiction=None), refused)

    assert (again.call, again.events) == (first.call, ())
    assert kinds(other) == kinds(after) == ["call.contradicted"]


# Receipts.


def receipt(call: Call, word: str, *parts: Part, **about: Any) -> Settlement | None:
    given = {"recipient": None, "provider_reference": None, "told": {}, **about}
    return settle_receipt(call, parts, word, **given)


def a_part(number: int, **changes: Any) -> Part:
    given = {"recipient": f"+25471100011{number}", "provider_reference": f"m-{number}"}
    return Part(position=number, state=PartState.DONE, **{**given, **changes})


@pytest.mark.parametrize("state", list(CallState))
def test_receipt_changes_the_delivery_and_never_the_state(state: CallState) -> None:
    call = a_call(state, operation="sms.send", finished_at_ms=NOW_MS)

    found = receipt(call, "delivered")

    assert found is not None
    assert (found.call.state, found.call.delivery) == (state, "delivered")
    assert found.call.revision == call.revision + 1
    assert kinds(found) == ["sms.delivered"]


@pytest.mark.parametrize(
    ("before", "after", "is_news"),
    [
        (None, "delivered", True),
        ("sent", "delivered", True),
        ("failed", "delivered", True),
        ("delivered", "read", True),
        ("delivered", "bounced", True),
        ("delivered", "complained", True),
        ("delivered", "delivered", False),
        ("delivered", "sent", False),
        ("delivered", "failed", False),
        ("read", "delivered", False),
        ("complained", "read", False),
        ("delivered", "odd", True),
        ("odd", "odd", False),
    ],
)
def test_later_word_never_gives_way_to_an_earlier_one(
    before: str | None, after: str, is_news: bool
) -> None:
    call = a_call(CallState.COMPLETED, delivery=before)

    assert (receipt(call, after) is not None) is is_news


@pytest.mark.parametrize(
    "about",
    [
        {"recipient": "+254711000112"},
        {"provider_reference": "m-2"},
        {"recipient": "+254711000111", "provider_reference": "m-2"},
    ],
)
def test_receipt_finds_its_part_by_reference_and_else_by_recipient(about: dict[str, Any]) -> None:
    call = a_call(CallState.COMPLETED, operation="sms.send_bulk", parts=2)

    found = receipt(call, "failed", a_part(1), a_part(2), **about)

    assert found is not None
    assert [(part.position, part.delivery) for part in found.parts] == [(2, "failed")]
    assert found.call.delivery is None
    assert found.events[0].data["part"] == 2


def test_receipt_tells_what_the_provider_tells_beside_and_never_instead() -> None:
    call = a_call(CallState.COMPLETED, operation="sms.send")

    found = receipt(call, "failed", told={"reason": "absent", "operation": "forged"})

    assert found is not None
    assert (found.events[0].data["reason"], found.events[0].data["operation"]) == (
        "absent",
        "sms.send",
    )


def test_receipt_of_a_part_is_told_once() -> None:
    call = a_call(CallState.COMPLETED, parts=1)

    assert receipt(call, "read", a_part(1, delivery="read"), recipient="+254711000111") is None
