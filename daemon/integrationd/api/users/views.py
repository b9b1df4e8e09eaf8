"""What the users' paths show, in the words of the users' documents."""

from collections.abc import Sequence

import msgspec

from integrationd.api.schemas import CallView, Reference
from integrationd.api.users.words import (
    Direction,
    LogStatus,
    QueueStatus,
    log_status,
    priority_number,
    queue_status,
    webhook_status,
)
from integrationd.clock import to_rfc3339
from integrationd.journal import LogEntry, StoredFault


def _absent() -> msgspec.Raw:
    return msgspec.Raw()


class CallShown(msgspec.Struct, frozen=True, kw_only=True):
    """What is taken over from a call as ``/v1`` shows it; Raw is empty where it shows nothing."""

    id: str
    operation: str
    state: str
    tenant: str
    connection: str | None
    priority: str
    created_at: str
    next_attempt_at: str | None
    expires_at: str | None
    finished_at: str | None
    attempts: int
    tries: int
    queries: int
    reason: str | None
    detail: str | None
    provider_reference: str | None
    reference: Reference | None
    delivery: str | None
    payload: msgspec.Raw = msgspec.field(default_factory=_absent)
    metadata: msgspec.Raw = msgspec.field(default_factory=_absent)
    result: msgspec.Raw = msgspec.field(default_factory=_absent)


class FaultItem(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an error log.

    Attributes:
        attempt: The number of the attempt among those of its kind.
        kind: ``send``, or ``query`` where the provider was asked.
        status: ``failed`` or ``timeout``.
        code: A machine word.
        message: A sentence for a person.
        status_code: The provider's HTTP status.
        created_at: When it began.
    """

    attempt: int
    kind: str
    status: LogStatus
    code: str
    message: str | None
    status_code: int | None
    created_at: str

    @classmethod
    def of(cls, fault: StoredFault) -> "FaultItem":
        """Show one."""
        return cls(
            attempt=fault.number,
            kind=fault.kind,
            status=log_status(fault.outcome, fault.reason),
            code=fault.reason or fault.outcome,
            message=fault.detail,
            status_code=fault.status_code,
            created_at=to_rfc3339(fault.started_at_ms),
        )


class QueueItem(msgspec.Struct, frozen=True, kw_only=True):
    """A call as the users' documents have it in their queue.

    Attributes:
        provider: The code of the provider; null until a connection is chosen.
        priority: Above 0 for high, 0 for normal, below 0 for low.
        attempts: Sends that may have arrived.
        max_attempts: How many of them at most.
        status: The documents' word; ``state`` says more.
        state: The word of ``/v1``: ``waiting`` and ``unknown`` read ``processing`` in status, and
            ``expired`` reads ``failed``.
        next_attempt_at: While pending: when it may go.
        last_attempt_at: When its latest ended attempt began.
        error_log: The latest attempts that failed, the earliest of them first.
        completed_at: When it was completed.
        external_reference: The provider's id of it.
        payload: Masked; in the item by itself only.
    """

    id: str
    tenant: str
    provider: str | None
    connection: str | None
    operation: str
    priority: int
    attempts: int
    max_attempts: int
    status: QueueStatus
    state: str
    reason: str | None
    detail: str | None
    next_attempt_at: str | None
    last_attempt_at: str | None
    error_log: list[FaultItem]
    completed_at: str | None
    created_at: str
    expires_at: str | None
    reference_type: str | None
    reference_id: str | None
    external_reference: str | None
    delivery: str | None
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class KeptItem(msgspec.Struct, frozen=True):
    """A call that was kept, and has been pruned since."""

    id: str
    status: str


def queue_item(
    call: CallShown | CallView,
    *,
    provider: str | None,
    max_attempts: int,
    last_send_ms: int | None,
    faults: Sequence[StoredFault],
) -> QueueItem:
    """Show a call in the users' words."""
    status = queue_status(call.state)
    return QueueItem(
        id=call.id,
        tenant=call.tenant,
        provider=provider,
        connection=call.connection,
        operation=call.operation,
        priority=priority_number(call.priority),
        attempts=call.attempts,
        max_attempts=max_attempts,
        status=status,
        state=call.state,
        reason=call.reason,
        detail=call.detail,
        next_attempt_at=call.next_attempt_at,
        last_attempt_at=None if last_send_ms is None else to_rfc3339(last_send_ms),
        error_log=[FaultItem.of(fault) for fault in faults],
        completed_at=call.finished_at if status == "completed" else None,
        created_at=call.created_at,
        expires_at=call.expires_at,
        reference_type=call.reference.type if call.reference else None,
        reference_id=call.reference.id if call.reference else None,
        external_reference=call.provider_reference,
        delivery=call.delivery,
        payload=_shown(call.payload),
        metadata=_shown(call.metadata),
        result=_shown(call.result),
    )


def _shown(value: msgspec.Raw | msgspec.UnsetType | None) -> msgspec.Raw | msgspec.UnsetType:
    return value if isinstance(value, msgspec.Raw) and bytes(value) else msgspec.UNSET


class LogItem(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange as the users' documents have it in their log.

    Attributes:
        id: The number of an attempt, or the id of a webhook.
        direction: ``outbound`` for attempts, ``inbound`` for what providers sent to us.
        operation: The call's operation, or what the provider calls what it tells.
        reference_type: The app's own reference of the call.
        reference_id: The same: its id.
        external_reference: The provider's id of the call.
        status: What became of it; an attempt has ended, so only ``pending`` answers of providers
            and webhooks that wait for their call are pending.
        outcome: The word of ``/v1``: the attempt's outcome, or the webhook's state.
        status_code: The HTTP status that was answered, by them or by us.
        error_message: What went wrong.
        duration_ms: How long an attempt took.
        ip_address: Where a webhook came from.
        queue_id: The call that it is about.
        request_data: Masked; in the entry by itself only.
        response_data: The same.
    """

    id: str
    tenant: str
    provider: str
    connection: str
    direction: Direction
    operation: str
    reference_type: str | None
    reference_id: str | None
    external_reference: str | None
    status: LogStatus
    outcome: str
    status_code: int | None
    error_message: str | None
    duration_ms: int | None
    ip_address: str | None
    queue_id: str | None
    created_at: str
    request_data: msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET
    response_data: msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET


def log_item(entry: LogEntry) -> LogItem:
    """Show an exchange in the users' words, without what was said in it."""
    if entry.is_inbound:
        status = webhook_status(entry.outcome)
    else:
        status = log_status(entry.outcome, entry.reason)
    is_fault = status in ("failed", "timeout")
    return LogItem(
        id=entry.id,
        tenant=entry.tenant,
        provider=entry.provider,
        connection=entry.connection,
        direction="inbound" if entry.is_inbound else "outbound",
        operation=entry.operation,
        reference_type=entry.reference_type,
        reference_id=entry.reference_id,
        external_reference=entry.provider_reference,
        status=status,
        outcome=entry.outcome,
        status_code=entry.status_code,
        error_message=(entry.detail or entry.reason or entry.outcome) if is_fault else None,
        duration_ms=entry.duration_ms,
        ip_address=entry.source,
        queue_id=entry.call_id,
        created_at=to_rfc3339(entry.at_ms),
    )


class ProviderItem(msgspec.Struct, frozen=True, kw_only=True):
    """A provider as the users' documents have it.

    Attributes:
        category: The category that was asked for, or its first.
        categories: All of them.
        config_schema: The JSON Schema of a connection's settings and credentials.
        is_global: Whether a connection of it serves all tenants.
        is_active: Whether its plugin is in use.
        operations: What it can do.
    """

    id: str
    code: str
    name: str
    category: str
    categories: list[str]
    config_schema: dict[str, object]
    is_global: bool
    is_active: bool
    operations: list[str]
    created_at: str


class WebhookItem(msgspec.Struct, frozen=True, kw_only=True):
    """Where a provider sends its webhooks, as the users' documents have it.

    Attributes:
        endpoint_path: The plain path, for providers that sign what they send.
        endpoint_url: The unguessable address, for the provider's dashboard; null without
            ``public_url``.
        events: What has been told there so far, in the provider's words.
        is_active: Whether its connection is switched on.
        receive_count: How many requests were taken in, copies too.
    """

    id: str
    tenant: str | None
    provider: str
    connection: str
    endpoint_path: str
    endpoint_url: str | None
    events: list[str]
    is_active: bool
    last_received_at: str | None
    receive_count: int
