"""What follows from a query, or from evidence that comes after the call has moved on."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from integrationd.call import Call, CallState, Part, PartState
from integrationd.retry import Jitter, next_delay_s, next_query_delay_s
from integrationd.sdk import outcome as said
from integrationd.settlement import parts as of_parts
from integrationd.settlement.record import LINK_DOWN, Policy, Settlement, call_event, move

CONTRADICTION_LIMIT = 500


def settle_finding(
    call: Call,
    parts: Sequence[Part],
    finding: said.Finding,
    policy: Policy,
    *,
    now_ms: int,
    jitter: Jitter,
) -> Settlement:
    """Decide what a finding means for a call in ``waiting`` or ``unknown``.

    For a final call, evidence against its state is recorded and changes nothing else.
    """
    if call.state.is_final:
        return _weigh_against_final(call, finding)
    asked = call.replace(queries=call.queries + 1)
    return _decide(asked, parts, finding, policy, now_ms=now_ms, jitter=jitter)


def settle_notice(
    call: Call,
    parts: Sequence[Part],
    finding: said.Finding,
    policy: Policy,
    *,
    reference: str | None = None,
    now_ms: int,
    jitter: Jitter,
) -> Settlement | None:
    """Decide what a provider's notice means for a call; None while it must wait for an attempt.

    A notice that it is still open asks the provider at once: what is signed by nobody is confirmed
    so before it counts. Where the answer to our own request was lost, the provider's reference in
    the notice is what it can be asked by.
    """
    if call.state in (CallState.PENDING, CallState.PROCESSING):
        return None
    if call.state.is_final:
        return _weigh_against_final(call, finding)
    call = call.replace(provider_reference=call.provider_reference or reference)
    if isinstance(finding, said.Pending) and not _is_another_sum(finding, policy):
        return _ask_soon(call, finding, policy, now_ms)
    return _decide(call, parts, finding, policy, now_ms=now_ms, jitter=jitter)


def _ask_soon(call: Call, finding: said.Pending, policy: Policy, now_ms: int) -> Settlement:
    if not policy.can_ask:
        noted = call.replace(revision=call.revision + 1)
        return Settlement(
            call=noted, rule="noticed, cannot be asked about", result=finding.result or None
        )
    until_ms = call.ask_until_ms or now_ms + round(policy.schedule.window_s * 1000)
    settled = move(
        call,
        call.state,
        now_ms,
        call.reason or "noticed",
        call.detail or "The provider sent word of it.",
        ask_at_ms=now_ms + round((finding.ask_after_s or 0) * 1000),
        ask_until_ms=until_ms,
    )
    return Settlement(call=settled, rule="noticed, asked at once", result=finding.result or None)


def _decide(
    call: Call,
    parts: Sequence[Part],
    finding: said.Finding,
    policy: Policy,
    *,
    now_ms: int,
    jitter: Jitter,
) -> Settlement:
    match finding:
        case said.Done() | said.Pending() if _is_another_sum(finding, policy):
            detail = f"{policy.asked} was asked for, but {finding.paid} was paid."
            return _attention(call, "amount_differs", detail, now_ms)
        case said.Done():
            return _done(call, parts, finding.result, finding.reference, now_ms)
        case said.Refused():
            return _refused(call, parts, finding, now_ms)
        case said.NeverHappened():
            return _never_happened(call, parts, finding, policy, now_ms, jitter)
        case said.Pending():
            return dataclasses.replace(
                _still_open(call, "open", "Still open.", finding.ask_after_s, policy, now_ms),
                result=finding.result or None,
            )
        case said.CannotTell():
            return _learnt_nothing(call, finding, policy, now_ms)
        case _:
            assert_never(finding)


def settle_late_outcome(
    call: Call, parts: Sequence[Part], outcome: said.Outcome, policy: Policy, now_ms: int
) -> Settlement | None:
    """Use the late result of the last attempt as evidence, or return None if it proves nothing.

    The lease of that attempt is over, so the call has become ``unknown`` or moved on since.
    """
    match outcome:
        case said.Delivered():
            evidence: said.Done | said.Refused = said.Done(
                result=outcome.result, reference=outcome.reference
            )
        case said.Rejected():
            evidence = said.Refused(reason=outcome.reason, detail=outcome.detail)
        case _:
            return None
    if call.state.is_final:
        return _weigh_against_final(call, evidence)
    if call.state not in (CallState.UNKNOWN, CallState.WAITING):
        return None
    if isinstance(evidence, said.Done):
        return _done(call, parts, evidence.result, evidence.reference, now_ms)
    return _refused(call, parts, evidence, now_ms)


def _is_another_sum(finding: said.Done | said.Pending, policy: Policy) -> bool:
    return None not in (finding.paid, policy.asked) and finding.paid != policy.asked


def _done(
    call: Call,
    parts: Sequence[Part],
    result: Mapping[str, Any],
    reference: str | None,
    now_ms: int,
) -> Settlement:
    after = of_parts.resolve_all(parts, PartState.DONE, None, None)
    settled = move(
        call,
        CallState.COMPLETED,
        now_ms,
        "confirmed",
        "The provider says that it happened.",
        provider_reference=reference or call.provider_reference,
    )
    return Settlement(
        call=settled,
        rule="confirmed by the provider",
        result=result,
        parts=of_parts.changed(parts, after),
        events=(call_event(settled, "completed"),),
    )


def _refused(call: Call, parts: Sequence[Part], finding: said.Refused, now_ms: int) -> Settlement:
    after = of_parts.resolve_all(parts, PartState.FAILED, finding.reason, finding.detail)
    settled = move(call, CallState.FAILED, now_ms, finding.reason, finding.detail)
    return Settlement(
        call=settled,
        rule="refused according to the provider",
        parts=of_parts.changed(parts, after),
        events=(call_event(settled, "failed"),),
    )


def _never_happened(
    call: Call,
    parts: Sequence[Part],
    finding: said.NeverHappened,
    policy: Policy,
    now_ms: int,
    jitter: Jitter,
) -> Settlement:
    """Send again what provably never arrived, while attempts and time allow it."""
    due_ms = now_ms + round(next_delay_s(1, policy.retry, None, jitter) * 1000)
    if call.state is CallState.WAITING:
        # It was accepted before and is not known now: the evidence disagrees.
        return _attention(call, "evidence_disagrees", finding.proof, now_ms)
    if call.attempts >= policy.retry.attempts or due_ms >= call.deadline_ms:
        gone = said.Refused(reason="never_happened", detail=finding.proof)
        return _refused(call, parts, gone, now_ms)
    after = of_parts.reopen_unknown(parts)
    settled = move(
        call,
        CallState.PENDING,
        now_ms,
        "never_happened",
        finding.proof,
        due_at_ms=due_ms,
        doubt=0,
        first_sent_at_ms=None,
    )
    return Settlement(
        call=settled,
        rule="never happened, sent again",
        parts=of_parts.changed(parts, after),
    )


def _still_open(
    call: Call, reason: str, detail: str, ask_after_s: float | None, policy: Policy, now_ms: int
) -> Settlement:
    delay_s = ask_after_s or next_query_delay_s(call.queries + 1, policy.schedule)
    ask_ms = now_ms + round(delay_s * 1000)
    until_ms = max(call.ask_until_ms or now_ms, policy.keeps_trying_until_ms)
    if now_ms >= until_ms or not policy.can_ask:
        return _attention(
            call, "window_over", f"No answer within the time for asking. {detail}".strip(), now_ms
        )
    settled = move(
        call,
        call.state,
        now_ms,
        call.reason or reason,
        call.detail or detail,
        ask_at_ms=min(ask_ms, until_ms),
        ask_until_ms=until_ms,
    )
    return Settlement(call=settled, rule="asked, still open")


def _learnt_nothing(
    call: Call, finding: said.CannotTell, policy: Policy, now_ms: int
) -> Settlement:
    if finding.reason != LINK_DOWN:
        return _still_open(call, finding.reason, finding.detail, None, policy, now_ms)
    # It is asked about as soon as the link is back, however long that takes.
    settled = move(
        call,
        call.state,
        now_ms,
        call.reason or finding.reason,
        call.detail or finding.detail,
        ask_at_ms=now_ms,
        ask_until_ms=max(call.ask_until_ms or now_ms, now_ms),
    )
    return Settlement(call=settled, rule="held for the link")


def _attention(call: Call, reason: str, detail: str, now_ms: int) -> Settlement:
    """Leave the call unknown for a person; nobody guesses."""
    settled = move(call, CallState.UNKNOWN, now_ms, reason, detail, doubt=1)
    events = [call_event(settled, "needs_attention")]
    if call.state is not CallState.UNKNOWN:
        events.insert(0, call_event(settled, "unknown"))
    return Settlement(call=settled, rule="held for a person", events=tuple(events))


def _weigh_against_final(call: Call, finding: said.Finding) -> Settlement:
    """Note evidence that contradicts a final state; confirm or ignore anything else."""
    against = _contradiction(call.state, finding)
    if against is None:
        return Settlement(call=call, rule="evidence agrees")
    if call.contradiction == against[:CONTRADICTION_LIMIT]:
        return Settlement(call=call, rule="evidence contradicts, as before")
    noted = call.replace(contradiction=against[:CONTRADICTION_LIMIT], revision=call.revision + 1)
    return Settlement(
        call=noted,
        rule="evidence contradicts",
        events=(call_event(noted, "contradicted", evidence=against),),
    )


def _contradiction(state: CallState, finding: said.Finding) -> str | None:
    if isinstance(finding, said.Done) and state is not CallState.COMPLETED:
        return f"The provider says that it happened, but the call is {state}."
    if isinstance(finding, said.Refused) and state is CallState.COMPLETED:
        return f"The provider says that it was refused: {finding.reason} {finding.detail}".strip()
    return None
