"""What follows from a person's word or from the clock: cancel, retry, resolve, expire."""

from collections.abc import Sequence

from integrationd.call import Call, CallState, EventRecord, Part, PartState, pinned_lane, route_lane
from integrationd.errors import ConflictError
from integrationd.settlement import parts as of_parts
from integrationd.settlement.record import Resolution, Settlement, call_event, move, release

RETRYABLE = frozenset({CallState.FAILED, CallState.EXPIRED})


def cancel(call: Call, by: str, now_ms: int) -> Settlement:
    """Cancel a pending call.

    Raises:
        ConflictError: It is not pending, or an earlier send of it is still in doubt.
    """
    if call.state is not CallState.PENDING:
        raise ConflictError(
            f"call {call.id} is {call.state}; only a pending call can be cancelled",
            code="not_cancellable",
        )
    if call.doubt:
        raise ConflictError(
            f"an earlier send of call {call.id} may have arrived, so it cannot be called off",
            code="not_cancellable",
            hint="Wait until it is settled, or resolve it once it is unknown.",
        )
    settled = move(call, CallState.CANCELLED, now_ms, "cancelled", f"Cancelled by {by}.")
    return Settlement(
        call=settled, rule="cancelled", events=(call_event(settled, "cancelled", by=by),)
    )


def retry(
    call: Call,
    parts: Sequence[Part],
    by: str,
    now_ms: int,
    *,
    expires_at_ms: int | None,
    give_up_at_ms: int,
) -> Settlement:
    """Send a failed or expired call again, its counters and its time at the start.

    Raises:
        ConflictError: It is neither failed nor expired.
    """
    if call.state not in RETRYABLE:
        raise ConflictError(
            f"call {call.id} is {call.state}; only a failed or expired call can be retried",
            code="not_retryable",
            hint="An unknown call is settled with 'integrationd resolve'.",
        )
    settled = move(
        call,
        CallState.PENDING,
        now_ms,
        "retried",
        f"Retried by {by}.",
        **_from_the_start(call, now_ms, expires_at_ms, give_up_at_ms),
    )
    after = of_parts.reopen(parts, frozenset({PartState.FAILED}))
    return Settlement(
        call=settled,
        rule="retried by a person",
        parts=of_parts.changed(parts, after),
        events=(call_event(settled, "retried", by=by),),
    )


def resolve(
    call: Call,
    parts: Sequence[Part],
    resolution: Resolution,
    by: str,
    note: str,
    now_ms: int,
    *,
    give_up_at_ms: int,
) -> Settlement:
    """Settle an unknown call by an operator's word.

    Raises:
        ConflictError: It is not unknown.
    """
    if call.state is not CallState.UNKNOWN:
        raise ConflictError(
            f"call {call.id} is {call.state}; only an unknown call can be resolved",
            code="not_resolvable",
        )
    detail = f"Resolved as {resolution} by {by}. {note}".strip()
    match resolution:
        case Resolution.DONE:
            settled = move(call, CallState.COMPLETED, now_ms, "resolved", detail)
            after = of_parts.resolve_all(parts, PartState.DONE, None, None)
        case Resolution.REFUSED:
            settled = move(call, CallState.FAILED, now_ms, "resolved", detail)
            after = of_parts.resolve_all(parts, PartState.FAILED, "resolved", detail)
        case Resolution.REPEAT:
            start = _from_the_start(call, now_ms, None, give_up_at_ms)
            settled = move(call, CallState.PENDING, now_ms, "repeated", detail, **start)
            after = of_parts.reopen_unknown(parts)
    told = call_event(settled, "resolved", by=by, resolution=resolution.value, note=note)
    return Settlement(
        call=settled,
        rule=f"resolved by a person: {resolution}",
        parts=of_parts.changed(parts, after),
        events=(told, *_final_event(settled)),
    )


def expire(call: Call, now_ms: int) -> Settlement:
    """End a pending call that nobody could serve in time, and say why.

    The caller makes sure that no send of it is in doubt; such a call is leased and settled.
    """
    late = call.expires_at_ms is not None and call.expires_at_ms <= now_ms
    reason = "expired" if late else "gave_up"
    because = f" Last: {call.detail}" if call.detail else " It was never attempted."
    told = "Its time was over before it could be delivered." if late else "Gave up trying."
    settled = move(call, CallState.EXPIRED, now_ms, reason, told + because)
    return Settlement(call=settled, rule=reason, events=(call_event(settled, "expired"),))


def give_back(call: Call, due_at_ms: int, now_ms: int) -> Settlement:
    """Return a lease whose attempt never began, with everything as it was before.

    Args:
        call: The leased call.
        due_at_ms: When it may be claimed again.
        now_ms: The time.
    """
    reason, detail = call.reason or "not_started", call.detail or ""
    if call.state is CallState.PROCESSING:
        settled = move(
            call,
            CallState.PENDING,
            now_ms,
            reason,
            detail,
            due_at_ms=due_at_ms,
            tries=call.tries - 1,
            **release(call),
        )
    else:
        settled = move(
            call,
            call.state,
            now_ms,
            reason,
            detail,
            ask_at_ms=due_at_ms,
            ask_until_ms=call.ask_until_ms,
        )
    return Settlement(call=settled, rule="not attempted")


def _from_the_start(
    call: Call, now_ms: int, expires_at_ms: int | None, give_up_at_ms: int
) -> dict[str, object]:
    return {
        "due_at_ms": now_ms,
        "tries": 0,
        "attempts": 0,
        "repeats": 0,
        "queries": 0,
        "doubt": 0,
        "first_sent_at_ms": None,
        "expires_at_ms": expires_at_ms,
        "give_up_at_ms": give_up_at_ms,
        "lane": _first_lane(call),
        "connection": call.requested_connection,
    }


def _first_lane(call: Call) -> str:
    """A person's retry chooses the connection anew, unless the app had asked for one."""
    if call.requested_connection is not None:
        return pinned_lane(call.requested_connection, call.tenant)
    return route_lane(call.tenant, call.operation)


def _final_event(call: Call) -> tuple[EventRecord, ...]:
    return (call_event(call, call.state.value),) if call.state.is_final else ()
