"""What goes over the wire: requests and views, as structs that encode to JSON directly."""

import datetime as dt
from typing import Annotated, Literal, TypeAlias

import msgspec

from integrationd.call import Call, Part, Priority
from integrationd.clock import to_rfc3339
from integrationd.journal import StoredAttempt, StoredWebhook

PriorityName = Literal["high", "normal", "low"]
PRIORITIES: dict[str, Priority] = {
    "high": Priority.HIGH,
    "normal": Priority.NORMAL,
    "low": Priority.LOW,
}
_PRIORITY_NAMES = {priority: name for name, priority in PRIORITIES.items()}


Moment: TypeAlias = Annotated[
    dt.datetime, msgspec.Meta(tz=True, description="A time of RFC 3339, with its zone.")
]
_NULL = msgspec.Raw(b"null")
_EMPTY = msgspec.Raw(b"{}")


def _raw(default: msgspec.Raw) -> msgspec.Raw:
    """Return a member that is given by a factory: as a plain default, Raw has no JSON Schema."""
    member: msgspec.Raw = msgspec.field(default_factory=lambda: default)
    return member


_PRINTABLE = r"^[^\x00-\x1f\x7f]*(?!\n)$"
_NO_CONTROLS = "text without control characters"


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The app's own reference for searching.

    Attributes:
        type: What kind of thing it is, for example ``invoice``.
        id: Which one.
    """

    type: Annotated[str, msgspec.Meta(max_length=255, pattern=_PRINTABLE, description=_NO_CONTROLS)]
    id: Annotated[
        str,
        msgspec.Meta(min_length=1, max_length=255, pattern=_PRINTABLE, description=_NO_CONTROLS),
    ]


class CallRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/calls``.

    Attributes:
        operation: What is to be done, for example ``sms.send``.
        payload: With what: an object as the operation takes it, see the operations.
        connection: Send it through this connection and no other.
        tenant: Whose call it is; the caller's own, or ``default``.
        priority: How urgent it is.
        ordering_key: Calls of one key go one after the other.
        not_before: Not before this.
        expires_at: Too late after this.
        expires_in: Too late after so many seconds; in place of ``expires_at``.
        reference: The app's own reference, to find it by.
        metadata: An object that is kept with the call and shown with it.
        on_uncertain: What to do if nobody can tell whether it arrived; as the operation says where
            absent.
        idempotency_key: Of an item of a batch; a single call has it in the header.
    """

    operation: str
    payload: msgspec.Raw = _raw(_EMPTY)
    connection: str | None = None
    tenant: str | None = None
    priority: PriorityName = "normal"
    ordering_key: str | None = None
    not_before: Moment | None = None
    expires_at: Moment | None = None
    expires_in: float | None = None
    reference: Reference | None = None
    metadata: msgspec.Raw = _raw(_NULL)
    on_uncertain: Literal["hold", "repeat"] | None = None
    idempotency_key: str | None = None


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/calls/batch``.

    Attributes:
        calls: 1 to 1,000 calls; all are accepted, or none.
    """

    calls: list[CallRequest]


class ResolveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/calls/{id}/resolve``.

    Attributes:
        resolution: What became of it; ``repeat`` sends it again.
        note: How you know; kept with the call, at most 1,000 characters.
    """

    resolution: Literal["done", "refused", "repeat"]
    note: str = ""


class PartView(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient of a call to many.

    Attributes:
        reason: Why it stands so, for programs.
        detail: The same, for people.
        provider_reference: The provider's id of it.
        delivery: What became of it after the provider took it over.
    """

    recipient: str
    state: str
    reason: str | None
    detail: str | None
    provider_reference: str | None
    delivery: str | None

    @classmethod
    def of(cls, part: Part) -> "PartView":
        """Show a part."""
        return cls(
            recipient=part.recipient,
            state=part.state.value,
            reason=part.reason,
            detail=part.detail,
            provider_reference=part.provider_reference,
            delivery=part.delivery,
        )


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One ended exchange, masked.

    Attributes:
        kind: ``send``, or ``query``: the provider was asked what became of it.
        number: The how-manyth of its kind.
        plugin_digest: Which version of the plugin made it.
        outcome: What it came to.
        sent: Whether anything may have arrived.
        rule: What was decided after it, and why.
    """

    id: int
    call_id: str
    tenant: str
    operation: str
    kind: str
    number: int
    connection: str
    provider: str
    plugin_digest: str
    started_at: str
    duration_ms: int
    outcome: str
    reason: str | None
    detail: str | None
    sent: bool
    status_code: int | None
    request: msgspec.Raw | None
    response: msgspec.Raw | None
    rule: str

    @classmethod
    def of(cls, attempt: StoredAttempt) -> "AttemptView":
        """Show an attempt."""
        fields = msgspec.structs.asdict(attempt)
        started_ms, request, response = (
            fields.pop("started_at_ms"),
            fields.pop("request"),
            fields.pop("response"),
        )
        return cls(
            id=fields.pop("seq"),
            started_at=to_rfc3339(started_ms),
            request=msgspec.Raw(request.encode()) if request else None,
            response=msgspec.Raw(response.encode()) if response else None,
            **fields,
        )


class WordView(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook about a call, in short; ``GET /v1/webhooks/{id}`` shows it whole."""

    id: str
    received_at: str
    types: str
    state: str
    note: str | None

    @classmethod
    def of(cls, webhook: StoredWebhook) -> "WordView":
        """Show one."""
        return cls(
            id=webhook.id,
            received_at=to_rfc3339(webhook.received_at_ms),
            types=webhook.types,
            state=webhook.state,
            note=webhook.note,
        )


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """A call as the API shows it.

    Attributes:
        state: ``pending``, ``processing``, ``waiting`` (the provider took it on, its effect is
            open), ``unknown`` (nobody can tell yet), or the final ``completed``, ``failed``,
            ``expired`` and ``cancelled``.
        connection: Through which it goes or went; null before it is chosen.
        gives_up_at: When trying ends at the latest.
        attempts: Sends that may have arrived.
        tries: All sends.
        queries: How often the provider was asked what became of it.
        reason: Why it stands so, for programs.
        detail: The same, for people.
        provider_reference: The provider's id of it.
        delivery: What became of a message after the provider took it over.
        contradiction: Evidence against the state, until somebody acknowledges it.
        result: What the provider gave back, as far as it is known.
        payload: What was asked for, masked; like all that follows, only where one call is shown.
        next_attempt_at: While pending: when it may go.
        ask_at: While waiting or unknown: when the provider is asked next.
        why: While it is not final: why it stands where it stands.
        until: Until when that lasts at most.
    """

    id: str
    operation: str
    state: str
    tenant: str
    connection: str | None
    priority: str
    created_at: str
    next_attempt_at: str | None
    expires_at: str | None
    gives_up_at: str
    ask_at: str | None
    finished_at: str | None
    attempts: int
    tries: int
    queries: int
    reason: str | None
    detail: str | None
    provider_reference: str | None
    reference: Reference | None
    delivery: str | None
    contradiction: str | None
    result: msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET
    metadata: msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parts: list[PartView] | msgspec.UnsetType = msgspec.UNSET
    attempt_log: list[AttemptView] | msgspec.UnsetType = msgspec.UNSET
    webhooks: list[WordView] | msgspec.UnsetType = msgspec.UNSET
    why: str | msgspec.UnsetType | None = msgspec.UNSET
    until: str | msgspec.UnsetType | None = msgspec.UNSET


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else to_rfc3339(at_ms)


def call_view(call: Call) -> CallView:
    """Show a call by itself."""
    reference = None
    if call.reference_id is not None:
        reference = Reference(type=call.reference_type or "", id=call.reference_id)
    return CallView(
        id=call.id,
        operation=call.operation,
        state=call.state.value,
        tenant=call.tenant,
        connection=call.connection,
        priority=_PRIORITY_NAMES[call.priority],
        created_at=to_rfc3339(call.created_at_ms),
        next_attempt_at=_time(call.due_at_ms),
        expires_at=_time(call.expires_at_ms),
        gives_up_at=to_rfc3339(call.give_up_at_ms),
        ask_at=_time(call.ask_at_ms),
        finished_at=_time(call.finished_at_ms),
        attempts=call.attempts,
        tries=call.tries,
        queries=call.queries,
        reason=call.reason,
        detail=call.detail,
        provider_reference=call.provider_reference,
        reference=reference,
        delivery=call.delivery,
        contradiction=call.contradiction,
    )


class OperationView(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a provider can do."""

    name: str
    summary: str
    effect: bool
    can_be_asked: bool
    request_schema: dict[str, object]


class ProviderView(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded plugin."""

    code: str
    categories: list[str]
    path: str
    digest: str
    loaded_at: str
    summary: str
    operations: list[OperationView]
    config_schema: dict[str, object]


class PluginFaultView(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin file that cannot be used."""

    path: str
    line: int | None
    reason: str


class ProvidersView(msgspec.Struct, frozen=True, kw_only=True):
    """What is loaded, and what could not be."""

    items: list[ProviderView]
    faults: list[PluginFaultView]
    next: str | None = None
