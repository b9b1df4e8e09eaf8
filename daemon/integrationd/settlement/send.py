"""What follows from a send: one function per outcome, and the rules for an uncertain one."""

import dataclasses
from collections.abc import Sequence
from typing import Any, assert_never

from integrationd.call import Call, CallState, Part, PartState
from integrationd.retry import Jitter, next_delay_s, next_query_delay_s
from integrationd.sdk import outcome as said
from integrationd.settlement import parts as of_parts
from integrationd.settlement.record import (
    LINK_DOWN,
    Policy,
    Settlement,
    call_event,
    move,
    pin,
    release,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One ended send: the call with its counters moved on, and everything the rules look at."""

    call: Call
    before: Sequence[Part]
    parts: Sequence[Part]
    policy: Policy
    now_ms: int
    jitter: Jitter

    def changed_parts(self, after: Sequence[Part]) -> tuple[Part, ...]:
        return of_parts.changed(self.before, after)


def settle_send(
    call: Call,
    parts: Sequence[Part],
    outcome: said.Outcome,
    policy: Policy,
    *,
    started_ms: int,
    now_ms: int,
    jitter: Jitter,
) -> Settlement:
    """Decide what becomes of a call in ``processing`` whose send came to ``outcome``."""
    after = of_parts.apply_outcome(parts, outcome) if parts else ()
    whole = _whole(after, outcome) if parts else outcome
    turn = _Turn(
        call=_counted(call, whole, started_ms),
        before=parts,
        parts=after,
        policy=policy,
        now_ms=now_ms,
        jitter=jitter,
    )
    match whole:
        case said.Delivered():
            return _completed(turn, whole)
        case said.Accepted():
            return _waiting(turn, whole)
        case said.Rejected():
            return _refused(turn, whole)
        case said.Throttled():
            return _postponed(turn, "throttled", whole.detail, whole.wait_s)
        case said.Retryable():
            return _retried(turn, whole)
        case said.Uncertain():
            return _uncertain(turn, whole)
        case _:
            assert_never(whole)


def settle_unrepeatable(
    call: Call, parts: Sequence[Part], policy: Policy, now_ms: int, jitter: Jitter
) -> Settlement:
    """Decide what becomes of a call whose repeat is no longer safe: the key's lifetime is over."""
    turn = _Turn(call=call, before=parts, parts=parts, policy=policy, now_ms=now_ms, jitter=jitter)
    return _unresolved(
        turn, "key_expired", "The provider no longer honours the key of the first send."
    )


def may_still_repeat(call: Call, policy: Policy, at_ms: int) -> bool:
    """Say whether a call with a send in doubt may be sent again at ``at_ms``."""
    if not call.doubt or policy.key_lifetime_s is None or not policy.repeat_safe:
        return True
    first_ms = call.first_sent_at_ms or at_ms
    return at_ms - first_ms < policy.key_lifetime_s * 1000


def _counted(call: Call, outcome: said.Outcome, started_ms: int) -> Call:
    """Spend an attempt unless nothing arrived."""
    if isinstance(outcome, said.Throttled) or (
        isinstance(outcome, said.Retryable) and not outcome.sent
    ):
        return call
    return call.replace(
        attempts=call.attempts + 1, first_sent_at_ms=call.first_sent_at_ms or started_ms
    )


def _whole(parts: Sequence[Part], outcome: said.Outcome) -> said.Outcome:
    """Reduce the parts to one outcome: the first of open, unknown, done, failed that occurs.

    Where the plugin's own outcome is of that kind it stands, since it knows more.
    """
    if isinstance(outcome, said.Throttled):
        return outcome
    worst, own_kinds = _worst(parts, outcome)
    return outcome if isinstance(outcome, own_kinds) else worst


def _worst(parts: Sequence[Part], outcome: said.Outcome) -> tuple[said.Outcome, tuple[type, ...]]:
    """Return what the parts amount to, and which outcomes say the same."""
    if of_parts.has(parts, PartState.OPEN):
        return of_parts.still_open(outcome), (said.Retryable,)
    if of_parts.has(parts, PartState.UNKNOWN):
        doubt = said.Uncertain(reason="parts_unknown", detail="Some recipients are in doubt.")
        return doubt, (said.Uncertain, said.Accepted)
    if of_parts.has(parts, PartState.DONE):
        return said.Delivered(), (said.Delivered,)
    reason = parts[0].reason or "all_failed"
    return said.Rejected(reason=reason, detail="Every recipient failed."), (said.Rejected,)


def _completed(turn: _Turn, outcome: said.Delivered) -> Settlement:
    reference = outcome.reference or turn.call.provider_reference
    call = move(
        turn.call,
        CallState.COMPLETED,
        turn.now_ms,
        "delivered",
        _failures(turn.parts),
        provider_reference=reference,
        **pin(turn.call),
    )
    return Settlement(
        call=call,
        rule="delivered",
        result=outcome.result,
        parts=turn.changed_parts(turn.parts),
        events=(call_event(call, "completed"),),
    )


def _failures(parts: Sequence[Part]) -> str:
    failed = sum(part.state is PartState.FAILED for part in parts)
    return f"{failed} of {len(parts)} recipients failed." if failed else ""


def _waiting(turn: _Turn, outcome: said.Accepted) -> Settlement:
    until = turn.now_ms + round(turn.policy.schedule.window_s * 1000)
    first_s = outcome.ask_after_s or next_query_delay_s(1, turn.policy.schedule)
    ask_at = turn.now_ms + round(first_s * 1000) if turn.policy.can_ask else until
    call = move(
        turn.call,
        CallState.WAITING,
        turn.now_ms,
        "accepted",
        "The provider took it on; its effect is still open.",
        provider_reference=outcome.reference or turn.call.provider_reference,
        ask_at_ms=min(ask_at, until),
        ask_until_ms=until,
        **pin(turn.call),
    )
    return Settlement(
        call=call,
        rule="accepted, effect open",
        result=outcome.result,
        parts=turn.changed_parts(turn.parts),
        events=(call_event(call, "waiting"),),
    )


def _refused(turn: _Turn, outcome: said.Rejected) -> Settlement:
    """End the call, unless an earlier send may have arrived: then the refusal is of this one."""
    if turn.call.doubt and turn.policy.can_ask and not turn.policy.reads_only:
        detail = f"An earlier send may have arrived; this one was refused. {outcome.detail}"
        return _unresolved(turn, outcome.reason, detail.strip())
    return _failed(turn, turn.parts, outcome.reason, outcome.detail, "refused for good")


def _failed(turn: _Turn, parts: Sequence[Part], reason: str, detail: str, rule: str) -> Settlement:
    call = move(turn.call, CallState.FAILED, turn.now_ms, reason, detail, **pin(turn.call))
    return Settlement(
        call=call,
        rule=rule,
        parts=turn.changed_parts(parts),
        events=(call_event(call, "failed"),),
    )


def _retried(turn: _Turn, outcome: said.Retryable) -> Settlement:
    if outcome.reason == LINK_DOWN:
        # It goes as soon as the link is back; how long that takes is not its fault.
        return _put_back(turn, outcome.reason, outcome.detail, turn.now_ms, "held for the link")
    if outcome.sent and turn.call.attempts >= turn.policy.retry.attempts:
        return _given_up(
            turn, "attempts_used_up", f"{turn.call.attempts} attempts: {outcome.detail}"
        )
    return _postponed(turn, outcome.reason, outcome.detail, outcome.wait_s)


def _postponed(
    turn: _Turn,
    reason: str,
    detail: str,
    wait_s: float | None,
    *,
    rule: str = "tried again later",
    parts: Sequence[Part] | None = None,
    **changes: Any,
) -> Settlement:
    """Put the call back to pending, unless the wait would outlast the time to give up."""
    delay_s = next_delay_s(turn.call.tries, turn.policy.retry, wait_s, turn.jitter)
    due_ms = turn.now_ms + round(delay_s * 1000)
    if due_ms >= max(turn.call.give_up_at_ms, turn.policy.keeps_trying_until_ms):
        return _given_up(turn, "gave_up", f"The time to keep trying is over. {detail}")
    return _put_back(turn, reason, detail, due_ms, rule, parts, **changes)


def _put_back(
    turn: _Turn,
    reason: str,
    detail: str,
    due_ms: int,
    rule: str,
    parts: Sequence[Part] | None = None,
    **changes: Any,
) -> Settlement:
    place = pin(turn.call) if turn.call.attempts else release(turn.call)
    call = move(
        turn.call,
        CallState.PENDING,
        turn.now_ms,
        reason,
        detail,
        due_at_ms=due_ms,
        **place,
        **changes,
    )
    after = turn.parts if parts is None else parts
    return Settlement(call=call, rule=rule, parts=turn.changed_parts(after))


def _given_up(turn: _Turn, reason: str, detail: str) -> Settlement:
    """End a call that may not be tried any more, honestly: in doubt it is not called failed."""
    closed = of_parts.close_open(turn.parts, reason, detail)
    in_doubt = turn.call.doubt or of_parts.has(closed, PartState.UNKNOWN)
    if in_doubt and not turn.policy.reads_only:
        return _unresolved(turn, reason, detail)
    if of_parts.has(closed, PartState.DONE):
        ended = dataclasses.replace(turn, parts=closed)
        return _completed(ended, said.Delivered())
    return _failed(turn, closed, reason, detail, "attempts or time used up")


def _uncertain(turn: _Turn, outcome: said.Uncertain) -> Settlement:
    """Apply the three rules for an uncertain send, in their order."""
    reference = outcome.reference or turn.call.provider_reference
    turn = dataclasses.replace(turn, call=turn.call.replace(provider_reference=reference))
    policy, call = turn.policy, turn.call
    attempts_left = call.attempts < policy.retry.attempts
    if (
        policy.repeat_safe
        and attempts_left
        and may_still_repeat(call.replace(doubt=1), policy, turn.now_ms)
    ):
        return _repeated(turn, outcome, "repeat-safe: sent again with the same key", 0)
    if policy.reads_only:
        return _failed(turn, turn.parts, outcome.reason, outcome.detail, "no effect, given up")
    if not policy.can_ask and _may_repeat_blindly(turn) and attempts_left:
        return _repeated(turn, outcome, "on_uncertain = repeat", 1)
    return _unresolved(turn, outcome.reason, outcome.detail)


def _may_repeat_blindly(turn: _Turn) -> bool:
    return turn.policy.on_uncertain == "repeat" and turn.call.repeats < turn.policy.max_repeats


def _repeated(turn: _Turn, outcome: said.Uncertain, rule: str, blind: int) -> Settlement:
    return _postponed(
        turn,
        outcome.reason,
        outcome.detail,
        None,
        rule=rule,
        parts=of_parts.reopen_unknown(turn.parts),
        doubt=1,
        repeats=turn.call.repeats + blind,
    )


def _unresolved(turn: _Turn, reason: str, detail: str) -> Settlement:
    """Leave it unknown: to be asked about where that is possible, else for a person."""
    asks = turn.policy.can_ask
    window_ms = round(turn.policy.schedule.window_s * 1000)
    first_ms = round(next_query_delay_s(1, turn.policy.schedule) * 1000)
    call = move(
        turn.call,
        CallState.UNKNOWN,
        turn.now_ms,
        reason,
        detail,
        doubt=1,
        ask_at_ms=turn.now_ms + first_ms if asks else None,
        ask_until_ms=turn.now_ms + window_ms if asks else None,
        **pin(turn.call),
    )
    events = [call_event(call, "unknown")]
    if not asks:
        events.append(call_event(call, "needs_attention"))
    return Settlement(
        call=call,
        rule="the provider is asked" if asks else "held for a person",
        parts=turn.changed_parts(turn.parts),
        events=tuple(events),
    )
