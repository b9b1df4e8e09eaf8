"""Logs: structured lines on standard error, made from facts on the bus."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from integrationd.events import (
    AttemptEnded,
    BreakerMoved,
    Bus,
    CallChanged,
    CallDamaged,
    JournalMoved,
    LeaseLost,
)
from integrationd.masking import Masker

_LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_log = structlog.get_logger("integrationd")
_TROUBLE = frozenset({"failed", "expired", "unknown"})


def configure_logging(form: str, level: str, masker: Masker) -> None:
    """Send the daemon's log to standard error.

    Args:
        form: ``console`` or ``json``.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        masker: Masks every value before it is written.
    """

    def mask(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
        masked: Mapping[str, Any] = masker.value(dict(fields))
        return masked

    renderer: Any = structlog.processors.JSONRenderer()
    if form == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries speak only when something is wrong.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


def log_facts(bus: Bus) -> None:
    """Turn facts on the bus into log lines."""
    bus.subscribe(AttemptEnded, _on_attempt)
    bus.subscribe(CallChanged, _on_change)
    bus.subscribe(BreakerMoved, _on_breaker)
    bus.subscribe(JournalMoved, _on_journal)
    bus.subscribe(LeaseLost, _on_lease_lost)
    bus.subscribe(CallDamaged, _on_damage)


def _on_attempt(event: AttemptEnded) -> None:
    attempt = event.attempt
    _log.debug(
        "attempt_ended",
        call=event.call.id,
        connection=attempt.connection,
        kind=attempt.kind.value,
        number=attempt.number,
        outcome=attempt.outcome,
        reason=attempt.reason,
        duration_ms=attempt.duration_ms,
    )


def _on_change(event: CallChanged) -> None:
    call = event.call
    tell = _log.warning if call.state.value in _TROUBLE else _log.debug
    tell(
        "call_changed",
        call=call.id,
        operation=call.operation,
        state=call.state.value,
        reason=call.reason,
        detail=call.detail,
        rule=event.rule,
    )


def _on_breaker(event: BreakerMoved) -> None:
    tell = _log.warning if event.after == "open" else _log.info
    tell("breaker_moved", connection=event.connection, before=event.before, after=event.after)


def _on_journal(event: JournalMoved) -> None:
    tell = _log.info if event.condition in ("ready", "closed") else _log.error
    tell("journal_moved", condition=event.condition, reason=event.reason)


def _on_lease_lost(event: LeaseLost) -> None:
    _log.warning(
        "lease_lost",
        call=event.call_id,
        connection=event.connection,
        outcome=event.outcome,
        hint="Raise the connection's timeout above the provider's slowest reply.",
    )


def _on_damage(event: CallDamaged) -> None:
    _log.error("call_damaged", call=event.call_id)
