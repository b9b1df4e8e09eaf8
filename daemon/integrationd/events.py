"""Facts on the in-process bus, by which whoever listens is woken.

They are published after the commit of the change they tell of; what an app or an auditor reads is
the event log (:class:`integrationd.call.EventRecord`), appended in that commit. Nothing in the
daemon calls upwards; it publishes.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from integrationd.call import Attempt, Call


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
        tenant: Whose connection it is; None where all share it.
    """

    connection: str
    before: str
    after: str
    by: str | None = None
    tenant: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class LinkMoved:
    """The machine's own link has gone down or come back.

    Attributes:
        is_up: Which of the two.
        why: What was found when it went down.
    """

    is_up: bool
    why: str


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
    """The journal can take new work again, no longer, or only what cannot wait.

    Attributes:
        condition: ``ready``, ``full``, ``recovering`` or ``damaged``.
        reason: What happened, for a person.
        is_low: It is ready, but its disk is low on room: calls of low priority are refused.
    """

    condition: str
    reason: str
    is_low: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigMoved:
    """A configuration has been taken over or refused.

    Attributes:
        state: ``applied`` or ``rejected``.
        cause: Why it was read.
        told: The changes, or what is wrong, in words.
        by: Who asked for it; None where a file or a signal did.
    """

    state: str
    cause: str
    told: tuple[str, ...]
    by: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class PluginMoved:
    """A plugin file has been taken over or refused.

    Attributes:
        state: ``loaded``, ``rejected`` or ``gone``.
        path: The file.
        code: The provider's code; empty for a file that was refused.
        told: Its digest, or what is wrong with it.
    """

    state: str
    path: str
    code: str
    told: str


@dataclasses.dataclass(frozen=True, slots=True)
class WebhookReceived:
    """A webhook is in the inbox.

    Attributes:
        connection: The connection that it came to.
        webhook_id: Its id in the inbox.
        types: What the provider calls what it tells.
    """

    connection: str
    webhook_id: str
    types: str


@dataclasses.dataclass(frozen=True, slots=True)
class WebhookRefused:
    """A webhook proved nothing, and changed nothing.

    Attributes:
        connection: The connection that it came to.
        source: The address that it came from.
        reason: A machine word.
        detail: What was wrong.
        tenant: Whose connection it is.
    """

    connection: str
    source: str
    reason: str
    detail: str
    tenant: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SubscriptionMoved:
    """A subscription was made, changed, switched off or deleted.

    Attributes:
        subscription: Its id.
        verb: What was done: ``created``, ``changed``, ``rotated``, ``disabled``, ``deleted`` ...
    """

    subscription: str
    verb: str


@dataclasses.dataclass(frozen=True, slots=True)
class LoopHeldUp:
    """Something kept the event loop from moving.

    Attributes:
        plugin: The code of the plugin that it was in; empty if it was none.
        path: The file that the loop stood in.
        line: The line.
        seconds: How long.
    """

    plugin: str
    path: str
    line: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Committed:
    """One group of writes is durable.

    Attributes:
        writes: How many shared the commit.
        seconds: How long the commit took.
        last_event: The number of the last event of the log, old or new.
    """

    writes: int
    seconds: float
    last_event: int = 0


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
