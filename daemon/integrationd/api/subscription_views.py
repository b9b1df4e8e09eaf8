"""Subscriptions and their deliveries as the API shows them; never a secret."""

from collections.abc import Mapping
from typing import Any

import msgspec

from integrationd.api.subscription_side import Shown
from integrationd.call import CallState
from integrationd.clock import to_rfc3339
from integrationd.journal import StoredDelivery
from integrationd.masking import Masker


class SubscriptionView(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription.

    Attributes:
        headers: The names of the headers that are sent along.
        schedule: Seconds before each attempt; empty for what the scheme says.
        state: ``active``; ``paused`` by a person; ``stopped`` by the daemon; ``unusable``.
        stopped: Why it was stopped: ``gone`` (the receiver answered 410) or ``failing``.
        problem: Why it is unusable.
        last_event: The number of the last event that it was told of or passed over.
        behind: How many events it has not looked at, at most.
        redelivering_upto: The number up to which events are being told again; null if none are.
        failing_since: When the first failure without a success since was.
        open: Deliveries that are not over.
    """

    id: str
    name: str
    description: str
    tenant: str | None
    url: str
    events: list[str]
    scheme: str
    headers: list[str]
    schedule: list[float]
    allow_private: bool
    active: bool
    state: str
    stopped: str | None
    stopped_at: str | None
    problem: str
    last_event: int
    behind: int
    redelivering_upto: int | None
    failing_since: str | None
    open: int
    delivered: int
    failed: int
    created_at: str
    changed_at: str


class MadeSubscriptionView(SubscriptionView, frozen=True, kw_only=True):
    """A subscription with its new secret.

    Attributes:
        secret: What receivers verify with; never shown again.
    """

    secret: str


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one receiver.

    Attributes:
        id: The id of the call that delivers it.
        webhook_id: The receiver's key against copies.
        type: What happened.
        status: ``pending``, ``success`` or ``failed``.
        state: The state of the call.
        attempts: Sends begun.
        status_code: What the receiver answered last.
        reason: What the last attempt came to.
        detail: The same as a sentence.
        response: What came back, masked and cut.
        duration_ms: How long the last attempt took.
    """

    id: str
    webhook_id: str
    type: str
    status: str
    state: str
    attempts: int
    status_code: int | None
    reason: str | None
    detail: str | None
    response: str | None
    duration_ms: int | None
    created_at: str
    attempted_at: str | None
    next_attempt_at: str | None
    finished_at: str | None


class TestView(msgspec.Struct, frozen=True):
    """A test event that is on its way: the id of its delivery."""

    delivery: str


class RedeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """What is delivered once more.

    Attributes:
        count: How many events.
        delivery: The id of the new delivery, where it is one.
        dry_run: They were only counted.
    """

    count: int
    delivery: str | None = None
    dry_run: bool = False


def subscription_fields(found: Shown) -> dict[str, Any]:
    """Return what a subscription's views show."""
    one, terms, cursor = found.stored, found.stored.terms, found.cursor
    return {
        "id": one.id,
        "name": terms.name,
        "description": terms.description,
        "tenant": one.tenant,
        "url": terms.url,
        "events": list(terms.events),
        "scheme": terms.scheme,
        "headers": list(terms.headers),
        "schedule": list(terms.schedule_s),
        "allow_private": terms.allow_private,
        "active": one.active,
        "state": _state(found),
        "stopped": one.stopped,
        "stopped_at": _time(one.stopped_at_ms),
        "problem": found.problem,
        "last_event": cursor.seq if cursor else 0,
        "behind": found.behind,
        "redelivering_upto": cursor.replay_upto if cursor else None,
        "failing_since": _time(cursor.failing_since_ms) if cursor else None,
        "open": found.counts.open,
        "delivered": found.counts.delivered,
        "failed": found.counts.failed,
        "created_at": to_rfc3339(one.created_at_ms),
        "changed_at": to_rfc3339(one.changed_at_ms),
    }


def delivery_view(found: StoredDelivery, masker: Masker) -> DeliveryView:
    """Return a delivery as it is shown."""
    call = found.call
    sent: Mapping[str, Any] = msgspec.json.decode(found.payload)
    return DeliveryView(
        id=call.id,
        webhook_id=sent.get("id") or call.id,
        type=sent.get("type", ""),
        status=_status(call.state),
        state=call.state.value,
        attempts=call.tries,
        status_code=found.status_code,
        reason=found.reason or call.reason,
        detail=masker.text(found.detail) if found.detail else call.detail,
        response=found.response,
        duration_ms=found.duration_ms,
        created_at=to_rfc3339(call.created_at_ms),
        attempted_at=_time(found.attempted_at_ms),
        next_attempt_at=_time(call.due_at_ms),
        finished_at=_time(call.finished_at_ms),
    )


def _state(found: Shown) -> str:
    if found.stored.stopped is not None:
        return "stopped"
    if not found.stored.active:
        return "paused"
    return "unusable" if found.problem else "active"


def _status(state: CallState) -> str:
    if state is CallState.COMPLETED:
        return "success"
    return "failed" if state.is_final else "pending"


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else to_rfc3339(at_ms)
