"""The vocabulary of calls: records and states, without any I/O.

:class:`Call` mirrors the ``call`` table column by column, in order. The journal turns rows into
records and back, and seals each with a checksum over the whole record.
"""

import dataclasses
import enum
import os
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

DEFAULT_TENANT = "default"
WEBHOOK_OPERATION = "webhook.send"
# No connection of the configuration or the API can be named so.
SUBSCRIPTION_PREFIX = "subscription:"


class CallState(enum.StrEnum):
    """Where a call stands. The last four are final."""

    PENDING = "pending"
    PROCESSING = "processing"
    WAITING = "waiting"
    UNKNOWN = "unknown"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing but a person's retry moves the call any more."""
        return self in FINAL_STATES


FINAL_STATES = frozenset(
    {CallState.COMPLETED, CallState.FAILED, CallState.EXPIRED, CallState.CANCELLED}
)

ARROWS: dict[CallState, frozenset[CallState]] = {
    CallState.PENDING: frozenset({CallState.PROCESSING, CallState.CANCELLED, CallState.EXPIRED}),
    CallState.PROCESSING: frozenset(
        {
            CallState.PENDING,
            CallState.COMPLETED,
            CallState.WAITING,
            CallState.FAILED,
            CallState.UNKNOWN,
        }
    ),
    CallState.WAITING: frozenset({CallState.COMPLETED, CallState.FAILED, CallState.UNKNOWN}),
    CallState.UNKNOWN: frozenset({CallState.COMPLETED, CallState.FAILED, CallState.PENDING}),
    CallState.COMPLETED: frozenset(),
    CallState.FAILED: frozenset({CallState.PENDING}),
    CallState.EXPIRED: frozenset({CallState.PENDING}),
    CallState.CANCELLED: frozenset(),
}
"""Every move that exists; the journal's schema refuses all others."""


class Priority(enum.IntEnum):
    """How urgent a call is; smaller is claimed first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class AttemptKind(enum.StrEnum):
    """What an exchange about a call was for."""

    SEND = "send"
    QUERY = "query"


class PartState(enum.StrEnum):
    """Where one recipient of a call to many stands."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Call(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One operation that an app asked for.

    Attributes:
        seq: Position in the order of acceptance.
        id: UUIDv7 in text form.
        tenant: Whose call it is.
        operation: ``category.verb``.
        lane: What it stands in: ``@connection`` when pinned, else ``tenant/operation``.
        connection: The connection of the current or last attempt; kept while pinned.
        requested_connection: The connection that the app asked for, if it did.
        priority: See :class:`Priority`.
        ordering_key: Calls of one key go one after the other.
        parts: How many recipients it has, where it has several; else 0.
        state: See :class:`CallState`.
        revision: Grows by one with every change.
        reason: Machine word for why it stands where it stands.
        detail: The same as a sentence for a person.
        tries: Sends begun.
        attempts: Sends that may have arrived.
        repeats: Sends repeated although nobody could tell what the one before came to.
        queries: Queries ended.
        doubt: Whether a send of unknown outcome is still unresolved.
        created_at_ms: When it was accepted, UTC milliseconds, as are all times.
        due_at_ms: While pending: when it may go.
        expires_at_ms: After this a late effect would be a wrong one.
        give_up_at_ms: After this nothing more is tried.
        ask_at_ms: While waiting or unknown: when to ask the provider next.
        ask_until_ms: When asking ends.
        first_sent_at_ms: When the first send that may have arrived began.
        finished_at_ms: When it became final.
        provider_reference: The provider's own id for the effect.
        own_reference: The reference that the app gave in the payload for the provider.
        reference_scope: The connection within which ``own_reference`` is unique.
        reference_type: The app's own reference for searching: a type, for example ``invoice``.
        reference_id: The app's own reference for searching: an id.
        on_uncertain: The app's wish for sends of unknown outcome, ``hold`` or ``repeat``.
        delivery: What a later receipt said about a delivered message.
        contradiction: Evidence against a final state, until somebody acknowledges it.
        lease_id: The right to attempt it, while someone has it.
        lease_until_ms: When that right ends.
        last_lease_id: The lease of the latest attempt.
    """

    seq: int = 0
    id: str
    tenant: str
    operation: str
    lane: str
    connection: str | None = None
    requested_connection: str | None = None
    priority: Priority = Priority.NORMAL
    ordering_key: str | None = None
    parts: int = 0
    state: CallState = CallState.PENDING
    revision: int = 1
    reason: str | None = None
    detail: str | None = None
    tries: int = 0
    attempts: int = 0
    repeats: int = 0
    queries: int = 0
    doubt: int = 0
    created_at_ms: int
    due_at_ms: int | None = None
    expires_at_ms: int | None = None
    give_up_at_ms: int
    ask_at_ms: int | None = None
    ask_until_ms: int | None = None
    first_sent_at_ms: int | None = None
    finished_at_ms: int | None = None
    provider_reference: str | None = None
    own_reference: str | None = None
    reference_scope: str | None = None
    reference_type: str | None = None
    reference_id: str | None = None
    on_uncertain: str | None = None
    delivery: str | None = None
    contradiction: str | None = None
    lease_id: int | None = None
    lease_until_ms: int | None = None
    last_lease_id: int | None = None

    @property
    def is_pinned(self) -> bool:
        """Whether only one connection may serve it."""
        return self.lane.startswith("@")

    @property
    def deadline_ms(self) -> int:
        """When a pending call ends unserved, whichever of expiry and giving up is first."""
        if self.expires_at_ms is None:
            return self.give_up_at_ms
        return min(self.expires_at_ms, self.give_up_at_ms)

    def replace(self, **changes: Any) -> "Call":
        """Return a copy with the given fields changed."""
        return msgspec.structs.replace(self, **changes)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient of a call to many, as the journal keeps it."""

    position: int
    recipient: str
    state: PartState = PartState.OPEN
    reason: str | None = None
    detail: str | None = None
    provider_reference: str | None = None
    delivery: str | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One ended exchange about a call, masked.

    Attributes:
        seq: Position in the order of ending; 0 before it is stored.
        kind: A send or a query.
        number: Its number among the call's exchanges of that kind, from 1.
        connection: The connection it went through.
        provider: The provider's code.
        plugin_digest: First hex digits of the plugin file's SHA-256.
        started_at_ms: When it began.
        duration_ms: How long it took.
        outcome: Name of the outcome or finding, in snake case.
        reason: Machine word.
        detail: Sentence for a person.
        sent: Whether the request may have arrived.
        status_code: The provider's HTTP status, where there was one.
        request: What was sent, masked.
        response: What came back, masked.
    """

    seq: int = 0
    kind: AttemptKind
    number: int
    connection: str
    provider: str
    plugin_digest: str
    started_at_ms: int
    duration_ms: int
    outcome: str
    reason: str | None
    detail: str | None
    sent: bool
    status_code: int | None = None
    request: str | None = None
    response: str | None = None


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The time-limited right to attempt a call.

    Attributes:
        call: The call as it stands while leased.
        payload: The payload exactly as it was accepted.
        kind: What the attempt is for.
        parts: The parts of a call to many; empty otherwise.
    """

    call: Call
    payload: bytes
    kind: AttemptKind
    parts: tuple[Part, ...] = ()


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """A connection's breaker as the journal keeps it across restarts."""

    connection: str
    record: bytes
    changed_at_ms: int


class Actor(str):
    """Who does something, as text; the event log also tells from where.

    Attributes:
        where: ``socket``, the address of a TCP client, or ``command line``.
    """

    __slots__ = ("where",)

    where: str

    def __new__(cls, name: str, where: str) -> "Actor":
        """Name somebody, for example ``uid:1000`` or ``key:shop``."""
        actor = super().__new__(cls, name)
        actor.where = where
        return actor


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """A fact for the event log.

    What a person or an app did says so in ``data``: ``by`` is who, an :class:`Actor`, to which the
    log adds ``from``; ``before`` and ``after`` are what it changed, without secrets.

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


def pinned_lane(connection: str, tenant: str) -> str:
    """Return the lane of a tenant's calls that only one connection may serve.

    Each tenant has lanes of its own, so that one with a long backlog holds up no other.
    """
    return f"@{connection}/{tenant}"


def pinned_to(lane: str) -> str | None:
    """Return the connection that alone may serve a lane; None where it is chosen at the claim."""
    return lane[1:].partition("/")[0] if lane.startswith("@") else None


def subscription_connection(subscription: str) -> str:
    """Return the connection that is a subscription's own."""
    return f"{SUBSCRIPTION_PREFIX}{subscription}"


def is_subscription(connection: str | None) -> bool:
    """Say whether a connection is that of a subscription."""
    return connection is not None and connection.startswith(SUBSCRIPTION_PREFIX)


def tenant_of(lane: str) -> str:
    """Return whose calls stand in a lane."""
    first, _, second = lane.partition("/")
    return second if first.startswith("@") else first


def route_lane(tenant: str, operation: str) -> str:
    """Return the lane of calls whose connection is chosen when they are claimed."""
    return f"{tenant}/{operation}"


def new_call_id(now_ms: int) -> str:
    """Return a UUIDv7 (RFC 9562 section 5.7), so that ids grow with time."""
    value = (now_ms & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
