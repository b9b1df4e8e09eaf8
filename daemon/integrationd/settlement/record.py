"""The records that decisions are made of, and the one way to move a call."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from integrationd.call import ARROWS, FINAL_STATES, Call, CallState, EventRecord, Part, pinned_lane
from integrationd.retry import RetryPolicy
from integrationd.sdk.contract import OnUncertain
from integrationd.sdk.money import Money
from integrationd.sdk.provider import QuerySchedule

DETAIL_LIMIT = 1000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules for one call through one connection.

    Attributes:
        retry: How often, how long and with which backoff.
        repeat_safe: The same request may be sent twice with one effect.
        reads_only: The request has no effect.
        key_lifetime_s: Seconds for which the provider honours the key; None for always.
        can_ask: The provider can be asked what became of a send.
        schedule: When it is asked.
        on_uncertain: What to do where neither repeating nor asking is possible.
        max_repeats: How often at most ``repeat`` repeats.
        asked: What the request asks for, where it is about money.
        keeps_trying_until_ms: Nothing is given up before, whatever its own time.
    """

    retry: RetryPolicy
    repeat_safe: bool
    reads_only: bool
    key_lifetime_s: float | None
    can_ask: bool
    schedule: QuerySchedule
    on_uncertain: OnUncertain
    max_repeats: int
    asked: Money | None = None
    keeps_trying_until_ms: int = 0

    @classmethod
    def for_refusal(cls) -> "Policy":
        """Return rules under which nothing is repeated or asked."""
        return cls(
            retry=RetryPolicy(),
            repeat_safe=False,
            reads_only=False,
            key_lifetime_s=None,
            can_ask=False,
            schedule=QuerySchedule(),
            on_uncertain="hold",
            max_repeats=0,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What the daemon writes.

    Attributes:
        call: The call as it shall stand.
        rule: The rule that was applied, in a few words, shown by ``explain``.
        result: The result to keep, if there is one.
        parts: The parts that changed.
        events: The facts to append to the event log in the same commit.
    """

    call: Call
    rule: str
    result: Mapping[str, Any] | None = None
    parts: tuple[Part, ...] = ()
    events: tuple[EventRecord, ...] = ()


# Why nothing left the machine, where that was nobody's failure but its own.
LINK_DOWN = "link_down"


class Resolution(enum.StrEnum):
    """What an operator says became of a call of unknown outcome."""

    DONE = "done"
    REFUSED = "refused"
    REPEAT = "repeat"


def move(call: Call, state: CallState, now_ms: int, reason: str, detail: str, **more: Any) -> Call:
    """Return the call in another state (or the same), its lease ended, its revision one higher.

    Raises:
        ValueError: There is no such arrow.
    """
    if state is not call.state and state not in ARROWS[call.state]:
        raise ValueError(f"a call cannot go from {call.state} to {state}")
    changes: dict[str, Any] = {
        "state": state,
        "revision": call.revision + 1,
        "reason": reason,
        "detail": detail[:DETAIL_LIMIT] or None,
        "due_at_ms": None,
        "ask_at_ms": None,
        "ask_until_ms": None,
        "finished_at_ms": now_ms if state in FINAL_STATES else None,
        "lease_id": None,
        "lease_until_ms": None,
    }
    if state in FINAL_STATES:
        changes["doubt"] = 0
    changes.update(more)
    return call.replace(**changes)


def pin(call: Call) -> dict[str, Any]:
    """Return the changes that keep a call on the connection that it may have arrived through."""
    if call.connection is None:
        return {}
    return {"lane": pinned_lane(call.connection, call.tenant)}


def release(call: Call) -> dict[str, Any]:
    """Return the changes that let an unpinned call choose its connection anew."""
    return {} if call.is_pinned else {"connection": None}


def call_event(call: Call, kind: str, **data: Any) -> EventRecord:
    """Return the event that tells of a call."""
    return EventRecord(
        type=f"call.{kind}",
        tenant=call.tenant,
        call_id=call.id,
        connection=call.connection,
        data={
            "operation": call.operation,
            "state": call.state.value,
            "reason": call.reason,
            "detail": call.detail,
            "provider_reference": call.provider_reference,
            "reference_type": call.reference_type,
            "reference_id": call.reference_id,
            **data,
        },
    )
