"""Facts: the records of the event log, and the in-process bus that wakes whoever listens.

An :class:`EventRecord` is appended to the journal in the same commit as the change it tells of.
A bus event is published after that commit. Nothing in the daemon calls upwards; it publishes.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from integrationd.call import Attempt, Call


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """A fact for the event log.

    Attributes:
        type: Dotted name, for example ``call.completed``.
        tenant: Whose fact it is; None where it concerns the whole daemon.
        data: What happened; a mapping that JSON can hold.
        call_id: The call that it is about, if any.
        connection: The connection that it is about, if any.
    """

    type: str
    data: Mapping[str, Any]
    tenant: str | None = None
    call_id: str | None = None
    connection: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CallAccepted:
    """A call is safe on disk."""

    call: Call


@dataclasses.dataclass(frozen=True, slots=True)
class CallChanged:
    """A call has moved to another state, or was settled in the one it had."""

    call: Call
    rule: str


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An exchange with a provider has ended and is journaled."""

    call: Call
    attempt: Attempt


@dataclasses.dataclass(frozen=True, slots=True)
class BreakerMoved:
    """A connection's breaker has changed its state.

    Attributes:
        by: Who reset it by hand; None where it moved by itself.
    """

    connection: str
    before: str
    after: str
    by: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseLost:
    """An attempt ended after its lease; the result was not applied."""

    call_id: str
    connection: str
    outcome: str


@dataclasses.dataclass(frozen=True, slots=True)
class CallDamaged:
    """A stored call fails its checksum and is set aside."""

    call_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class JournalMoved:
    """The journal can take new work again, or no longer.

    Attributes:
        condition: ``ready``, ``full``, ``recovering`` or ``damaged``.
        reason: What happened, for a person.
    """

    condition: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Committed:
    """One group of writes is durable.

    Attributes:
        writes: How many shared the commit.
        seconds: How long the commit took.
    """

    writes: int
    seconds: float


_Event = TypeVar("_Event")


class Bus:
    """Hands each published event to the functions that asked for its type, in order.

    Subscribers are plain functions that must be quick and must not raise.
    """

    def __init__(self) -> None:
        self._subscribers: dict[type, list[Callable[[Any], None]]] = defaultdict(list)

    def subscribe(self, kind: type[_Event], subscriber: Callable[[_Event], None]) -> None:
        """Have ``subscriber`` called with every event of exactly this type."""
        self._subscribers[kind].append(subscriber)

    def publish(self, event: object) -> None:
        """Call the subscribers of the event's type."""
        for subscriber in self._subscribers.get(type(event), ()):
            subscriber(event)
