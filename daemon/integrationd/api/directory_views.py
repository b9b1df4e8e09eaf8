"""The shapes of tenants and connections in the API's answers; never with a secret."""

from typing import Any

import msgspec

from integrationd.clock import to_rfc3339
from integrationd.journal import ConnectionState


class ConnectionTestView(msgspec.Struct, frozen=True, kw_only=True):
    """What a test of a connection has found.

    Attributes:
        ok: Whether the provider took the credentials.
        message: What was found.
        hint: What to do about it; empty where there is nothing to do.
    """

    ok: bool
    message: str
    hint: str
    duration_ms: int
    tested_at: str

    @classmethod
    def of(cls, state: ConnectionState) -> "ConnectionTestView | None":
        """Show the last test; None where there was none."""
        if state.tested_at_ms is None:
            return None
        return cls(
            ok=bool(state.test_ok),
            message=state.test_message or "",
            hint=state.test_hint or "",
            duration_ms=state.test_duration_ms or 0,
            tested_at=to_rfc3339(state.tested_at_ms),
        )


class ConnectionView(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as the API shows it; never with its secrets.

    Attributes:
        tenant: Whose it is; null for all.
        source: ``file``, or ``api`` for one that was made over the API.
        state: ``serving``, ``off``, ``paused``, ``leaving`` while it is deleted but calls wait on
            it, or ``unusable``.
        problem: Why it is not usable; empty where it is.
        primary: Whether it goes before others of its place.
        order: Its place for an operation.
        pending: How many calls wait on it.
        authorised: Whether a person has authorised it at its provider; null where nobody has to.
        last_test: What its last test has found; null if there was none.
    """

    id: str
    tenant: str | None
    source: str
    state: str
    problem: str
    provider: str
    environment: str
    enabled: bool
    primary: bool
    order: dict[str, int]
    operations: list[str]
    breaker: str
    breaker_until: str | None
    running: int
    concurrency: int
    rate_limit: str | None
    pending: int
    paused_at: str | None
    paused_by: str | None
    authorised: bool | None
    last_test: ConnectionTestView | None
    created_at: str | None
    changed_at: str | None


class ConnectionDetailView(ConnectionView, frozen=True, kw_only=True):
    """A connection by itself.

    Attributes:
        settings: What its maker wrote, as ``PUT`` takes it, with ``{"set": true, "set_at": ...}``
            in the place of each secret; null for one of the file, and for who may not change it.
    """

    settings: dict[str, Any] | None


class TenantView(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant as the API shows it.

    Attributes:
        source: ``file``, ``api``, or ``built-in`` for the one that is always there.
        rate_limit: Calls accepted per second; null for any.
        retention: Seconds for which its things are kept, where that differs.
    """

    id: str
    name: str
    status: str
    source: str
    metadata: dict[str, Any]
    defaults: dict[str, str]
    rate_limit: float | None
    burst: int
    daily_quota: int | None
    retention: dict[str, float | None]
    created_at: str | None
    changed_at: str | None
