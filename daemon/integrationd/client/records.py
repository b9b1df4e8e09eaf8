"""What goes to the daemon and comes from it, as typed records.

Members that a newer daemon adds are ignored; those that an answer leaves out have defaults.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, TypedDict

import msgspec

Priority: TypeAlias = Literal["high", "normal", "low"]
OnUncertain: TypeAlias = Literal["hold", "repeat"]
Resolution: TypeAlias = Literal["done", "refused", "repeat"]

_OPEN = frozenset({"pending", "processing"})
_FINAL = frozenset({"completed", "failed", "expired", "cancelled", "pruned"})


class Reference(msgspec.Struct, frozen=True):
    """The app's own reference, to find a call by.

    Attributes:
        type: What kind of thing it is, for example ``invoice``.
        id: Which one.
    """

    type: str
    id: str


class CallOptions(TypedDict, total=False):
    """What may be said about a call besides its operation and payload.

    Attributes:
        connection: Send it through this connection and no other.
        tenant: Whose call it is.
        priority: How urgent it is.
        ordering_key: Calls of one key go one after the other.
        not_before: Not before this; with a zone.
        expires_at: Too late after this; with a zone.
        expires_in: Too late after so many seconds.
        reference: The app's own reference.
        metadata: Kept with the call, and shown with it.
        on_uncertain: What to do if nobody can tell whether it arrived.
    """

    connection: str
    tenant: str
    priority: Priority
    ordering_key: str
    not_before: dt.datetime
    expires_at: dt.datetime
    expires_in: float
    reference: Reference
    metadata: Mapping[str, Any]
    on_uncertain: OnUncertain


class NewCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call to be handed over; the members are those of :class:`CallOptions`.

    Attributes:
        operation: What is to be done, for example ``sms.send``.
        payload: With what, as the operation's contract says.
        idempotency_key: Handing it over twice with one key makes one call; made by the client
            where it is not given.
    """

    operation: str
    payload: Mapping[str, Any] = {}
    connection: str | None = None
    tenant: str | None = None
    priority: Priority = "normal"
    ordering_key: str | None = None
    not_before: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    expires_in: float | None = None
    reference: Reference | None = None
    metadata: Mapping[str, Any] | None = None
    on_uncertain: OnUncertain | None = None
    idempotency_key: str | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient of a call to many."""

    recipient: str
    state: str
    reason: str | None = None
    detail: str | None = None
    provider_reference: str | None = None
    delivery: str | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange with a provider about a call.

    Attributes:
        kind: ``send``, or ``query``: the provider was asked what became of it.
        outcome: What it came to.
        sent: Whether anything may have arrived.
        rule: What was decided after it, and why.
    """

    id: int
    kind: str
    number: int
    connection: str
    provider: str
    started_at: dt.datetime
    duration_ms: int
    outcome: str
    sent: bool
    rule: str
    reason: str | None = None
    detail: str | None = None
    status_code: int | None = None


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it stood when the daemon answered.

    Attributes:
        state: ``pending``, ``processing``, ``waiting``, ``unknown``, or the final ``completed``,
            ``failed``, ``expired`` and ``cancelled``; ``pruned`` for one that ended long ago.
        attempts: Sends that may have arrived.
        reason: Why it stands so, for programs.
        detail: The same, for people.
        result: What the provider gave back, as far as it is known.
        delivery: What became of a message after the provider took it over.
        contradiction: Evidence against the state, until somebody acknowledges it.
        why: While it is not final: why it stands where it stands.
        until: Until when that lasts at most.
        payload: What was handed over, masked; like the members after it, only of a single call
            that was asked for.
    """

    id: str
    state: str
    operation: str = ""
    tenant: str = ""
    connection: str | None = None
    priority: str = "normal"
    created_at: dt.datetime | None = None
    next_attempt_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    gives_up_at: dt.datetime | None = None
    ask_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    attempts: int = 0
    reason: str | None = None
    detail: str | None = None
    provider_reference: str | None = None
    reference: Reference | None = None
    delivery: str | None = None
    contradiction: str | None = None
    result: Any = None
    metadata: Any = None
    payload: Any = None
    why: str | None = None
    until: str | None = None
    parts: tuple[Part, ...] = ()
    attempt_log: tuple[Attempt, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it has not been attempted, or is being attempted."""
        return self.state in _OPEN

    @property
    def is_final(self) -> bool:
        """Whether nothing more becomes of it by itself."""
        return self.state in _FINAL

    @property
    def is_completed(self) -> bool:
        """Whether it was done."""
        return self.state == "completed"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A committed fact.

    Attributes:
        seq: Its number in the log; what follows it is asked for by this.
        type: Dotted, for example ``call.completed``.
        at: When it was committed.
        tenant: Whose it is; None where it concerns the whole daemon.
        call_id: The call that it is about, if any.
        connection: The connection that it is about, if any.
        data: What happened.
    """

    seq: int
    type: str
    at: dt.datetime | None = None
    tenant: str | None = None
    call_id: str | None = None
    connection: str | None = None
    data: Any = None


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls of one tenant and connection were accepted, and where they are now."""

    tenant: str
    connection: str | None
    accepted: int
    pending: int
    processing: int
    waiting: int
    unknown: int
    completed: int
    failed: int
    expired: int
    cancelled: int


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The balance.

    Attributes:
        items: Per tenant and connection.
        total: In all.
        balances: Whether what was accepted is what is there.
    """

    items: tuple[LedgerLine, ...]
    total: LedgerLine
    balances: bool


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the daemon is.

    Attributes:
        status: ``ok``, or the worst of what needs a person: ``attention``, ``degraded``.
        problems: What needs a person, in words.
        ledger: The balance in all.
    """

    status: str
    version: str
    started_at: dt.datetime
    problems: tuple[str, ...]
    ledger: LedgerLine
    oldest_pending_at: dt.datetime | None = None
