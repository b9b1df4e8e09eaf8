"""Why a call stands where it stands, and until when: in words for a person."""

from integrationd.api.ports import Lines, LineStatus, Placement
from integrationd.call import Call, CallState
from integrationd.clock import to_rfc3339
from integrationd.errors import NotFoundError


def why(
    call: Call, placement: Placement, lines: Lines, now_ms: int
) -> tuple[str | None, int | None]:
    """Return why a call that is not final stands where it stands, and until when at most."""
    match call.state:
        case CallState.PENDING:
            return _why_pending(call, placement, lines, now_ms)
        case CallState.PROCESSING:
            return "An attempt is under way.", call.lease_until_ms
        case CallState.WAITING:
            return _why_open(call, "The provider took it on; its effect is still open."), (
                call.ask_until_ms
            )
        case CallState.UNKNOWN:
            lead = f"Nobody knows yet what became of it ({call.reason}: {call.detail})."
            return _why_open(call, lead), call.ask_until_ms
        case _:
            return None, None


def _why_open(call: Call, lead: str) -> str:
    if call.ask_at_ms is not None:
        return f"{lead} The provider is asked next at {to_rfc3339(call.ask_at_ms)}."
    if call.lease_id is not None:
        return f"{lead} The provider is being asked now."
    return (
        f"{lead} It is held for a person: find out at the provider, then settle it with"
        f" 'integrationd resolve {call.id}'."
    )


def _why_pending(
    call: Call, placement: Placement, lines: Lines, now_ms: int
) -> tuple[str, int | None]:
    nowhere = placement.why_none(call)
    if nowhere is not None:
        return nowhere, call.deadline_ms
    last = f"{call.detail or call.reason} " if call.reason else ""
    connection = placement.of_lane(call.lane)
    status = _status(lines, connection.name) if connection else None
    if status is not None and status.waits_for_link:
        return f"{_since(lines)} It goes as soon as that is back.", call.expires_at_ms
    if status is not None and status.breaker == "open":
        return (
            f"{last}Connection {connection.name if connection else ''} is left alone: its breaker"
            f" opened after repeated failures.".strip(),
            status.breaker_until_ms,
        )
    if call.due_at_ms is not None and call.due_at_ms > now_ms:
        lead = last or "It is not to go before its time. "
        return f"{lead}The next attempt is due.".strip(), call.due_at_ms
    return f"{last}{_turn(status)}".strip(), status.next_ms if status else None


def _since(lines: Lines) -> str:
    since_ms = lines.link_status().since_ms
    since = "" if since_ms is None else f" since {to_rfc3339(since_ms)}"
    return f"This machine's own link has been down{since}."


def _turn(status: LineStatus | None) -> str:
    if status is None:
        return "It waits for its turn."
    if status.breaker == "half_open":
        return "It waits while the connection is tried out, one call at a time."
    if status.running >= status.concurrency:
        return f"It waits for its turn: {status.running} attempts are under way."
    if status.rate_limit is not None:
        return f"It waits for its turn: the connection takes {status.rate_limit}."
    return "It waits for its turn."


def _status(lines: Lines, connection: str) -> LineStatus | None:
    try:
        return lines.line_status(connection)
    except NotFoundError:
        return None
