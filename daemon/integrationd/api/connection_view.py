"""Connections and tenants as the API shows them; never with a secret."""

from collections.abc import Sequence
from typing import Any

from integrationd.api.directory_side import KnownConnection, KnownTenant
from integrationd.api.directory_views import (
    ConnectionDetailView,
    ConnectionTestView,
    ConnectionView,
    TenantView,
)
from integrationd.api.parts import Parts
from integrationd.api.ports import LineStatus
from integrationd.clock import to_rfc3339
from integrationd.errors import NotFoundError
from integrationd.journal import LedgerLine


def connection_view(
    parts: Parts, known: KnownConnection, lines: Sequence[LedgerLine]
) -> ConnectionView:
    """Return a connection as the API shows it.

    Args:
        parts: What the routes work with.
        known: The connection.
        lines: The balance of the calls that the caller may see.
    """
    return ConnectionView(**_shown(parts, known, lines))


async def detail_view(
    parts: Parts, known: KnownConnection, lines: Sequence[LedgerLine], *, may_change: bool
) -> ConnectionDetailView:
    """Return a connection by itself, with what its maker wrote for who may change it."""
    if may_change:
        known = await parts.directory.told(known)
    settings = None if known.written is None else dict(known.written)
    return ConnectionDetailView(**_shown(parts, known, lines), settings=settings)


def tenant_view(known: KnownTenant) -> TenantView:
    """Return a tenant as the API shows it."""
    settings = known.settings
    return TenantView(
        id=known.id,
        name=settings.name,
        status=settings.status,
        source=known.source,
        metadata=dict(settings.metadata),
        defaults=dict(settings.defaults),
        rate_limit=settings.rate_limit,
        burst=settings.burst,
        daily_quota=settings.daily_quota,
        retention=settings.retention.model_dump(),
        created_at=_time(known.created_at_ms),
        changed_at=_time(known.changed_at_ms),
    )


def _shown(parts: Parts, known: KnownConnection, lines: Sequence[LedgerLine]) -> dict[str, Any]:
    settings, live, state = known.settings, known.live, known.state
    status = _status(parts, known.id)
    return {
        "id": known.id,
        "tenant": known.tenant,
        "source": known.source,
        "state": _state(known),
        "problem": parts.masker.text("; ".join([*known.problems, *_unauthorised(parts, known)])),
        "provider": settings.provider if settings is not None else "",
        "environment": settings.environment if settings is not None else "",
        "enabled": settings is not None and settings.enabled,
        "primary": settings is not None and settings.primary,
        "order": dict(settings.order) if settings is not None else {},
        "operations": sorted(live.plugin.operations) if live is not None else [],
        "breaker": status.breaker,
        "breaker_until": _time(status.breaker_until_ms),
        "running": status.running,
        "concurrency": status.concurrency,
        "rate_limit": status.rate_limit,
        "pending": sum(line.pending for line in lines if line.connection == known.id),
        "paused_at": _time(state.paused_at_ms),
        "paused_by": state.paused_by,
        "authorised": parts.authorisations.is_authorised(live) if live is not None else None,
        "last_test": ConnectionTestView.of(state),
        "created_at": _time(known.created_at_ms),
        "changed_at": _time(known.changed_at_ms),
    }


def _unauthorised(parts: Parts, known: KnownConnection) -> list[str]:
    """Return what only a person's consent can mend, and how that is given."""
    needs = parts.authorisations.needs(known.live) if known.live is not None else ""
    if not needs:
        return []
    how = f"run 'integrationd authorize {known.id}'"
    return [f"it has to be authorised by a person: {needs}; {how}"]


def _state(known: KnownConnection) -> str:
    if known.live is None:
        return "unusable"
    if not known.live.enabled:
        return "off"
    if known.state.is_draining:
        return "leaving"
    return "paused" if known.state.is_paused else "serving"


def _status(parts: Parts, name: str) -> LineStatus:
    try:
        return parts.lines.line_status(name)
    except NotFoundError:
        return LineStatus(
            breaker="closed",
            breaker_until_ms=None,
            running=0,
            concurrency=0,
            rate_limit=None,
            next_ms=None,
        )


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else to_rfc3339(at_ms)
